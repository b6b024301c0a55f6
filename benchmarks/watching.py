"""Run a command and measure it: seconds, processor seconds, and the memory of all its processes together."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

# Between two looks at the memory, seconds. Adding up a process's pages takes the kernel about a millisecond.
INTERVAL = 0.2


@dataclass(frozen=True)
class Usage:
    """What a command took.

    Attributes
    ----------
    started : float
        Seconds since the epoch.
    wall, cpu : float
        Seconds; ``cpu`` is user and system time of all processes.
    peak_bytes : int
        Largest sum of the proportional set sizes (shared pages divided among their users).
    output : str
        Of the command.
    """

    started: float
    wall: float
    cpu: float
    peak_bytes: int
    output: str


def run_watched(command: Sequence[str], environment: dict[str, str] | None = None) -> Usage:
    """Run a command to its end.

    Raises
    ------
    subprocess.CalledProcessError
        It failed; its output is in the exception.
    """
    before = os.times()
    started, clock = time.time(), time.perf_counter()
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    )
    peak, stop = [0], threading.Event()
    watcher = threading.Thread(target=_watch, args=(process.pid, peak, stop))
    watcher.start()
    output, _ = process.communicate()
    wall = time.perf_counter() - clock
    stop.set()
    watcher.join()
    after = os.times()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command, output)
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return Usage(started, wall, cpu, peak[0], output)


def tree_bytes(root: int) -> int:
    """Sum of the proportional set sizes of a process and its descendants, from ``/proc``."""
    children: dict[int, list[int]] = defaultdict(list)
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            status = _read(entry / "stat").rpartition(")")[2].split()
            if len(status) > 1:
                children[int(status[1])].append(int(entry.name))
    total, waiting = 0, [root]
    while waiting:
        process = waiting.pop()
        waiting += children[process]
        for line in _read(Path("/proc", str(process), "smaps_rollup")).splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1]) * 1024
    return total


def _watch(root: int, peak: list[int], stop: threading.Event) -> None:
    while not stop.wait(INTERVAL):
        peak[0] = max(peak[0], tree_bytes(root))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""  # the process has ended
