"""What a table was measured on."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from blmm_bids import __version__


def describe_machine(*packages: str) -> str:
    """One line: processor, system, and the versions of what took part."""
    cpu_info = Path("/proc/cpuinfo")
    lines = cpu_info.read_text(encoding="utf-8").splitlines() if cpu_info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    processor = names[0] if names else platform.processor() or platform.machine()
    versions = [f"{package} {_version(package)}" for package in ("numpy", "numba", *packages)]
    parts = [
        f"{processor}, {os.cpu_count()} cores",
        f"{platform.system()}, Python {platform.python_version()}",
        f"blmm-bids {__version__}",
        *versions,
    ]
    return "; ".join(parts)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"
