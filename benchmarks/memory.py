"""Memory of this process, as Linux counts it."""

from __future__ import annotations

from pathlib import Path

STATUS = Path("/proc/self/status")
CLEAR_REFS = Path("/proc/self/clear_refs")
RESET_PEAK = "5"


def resident_memory() -> float:
    """Bytes resident now; NaN where the system does not tell."""
    return _status("VmRSS")


def peak_memory() -> float:
    """Most bytes resident since the start or `reset_peak`; NaN where the system does not tell."""
    return _status("VmHWM")


def reset_peak() -> None:
    """Count the peak from here on."""
    if CLEAR_REFS.exists():
        CLEAR_REFS.write_text(RESET_PEAK, encoding="ascii")


def _status(field: str) -> float:
    if not STATUS.exists():
        return float("nan")
    for line in STATUS.read_text(encoding="ascii").splitlines():
        if line.startswith(f"{field}:"):
            return 1024.0 * int(line.split()[1])
    return float("nan")
