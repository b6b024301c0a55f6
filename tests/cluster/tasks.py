"""Functions that run on workers; importable by name there."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from blmm_bids.errors import DataError


def add(item, *shared):
    return item + sum(shared)


def parent_and_imports(module):
    """What this process was copied from, and whether it had imported a module (its first task is later)."""
    return os.getppid(), module in sys.modules


def process_id(item):
    time.sleep(0.01)
    return os.getpid()


def first_environment(item):
    """The variable as it was when the process started, which is when libraries and allocator look."""
    found = [
        line for line in Path("/proc/self/environ").read_text().split("\0") if line.startswith(f"{item}=")
    ]
    return found[-1].partition("=")[2] if found else None


def refuse(item):
    if item == 3:
        msg = "img_3.nii.gz: truncated"
        raise DataError(msg)
    return item


def stumble(item):
    return 1 // (item - 3)


def die_once(item, directory):
    mark = Path(directory) / f"died-{item}"
    if item % 4 == 1 and not mark.exists():
        mark.write_text("x")
        os._exit(1)
    return item * 10


def die_always(item):
    if item == 2:
        os._exit(1)
    time.sleep(0.05)
    return item


def slow(item):
    time.sleep(0.2 if item == 0 else 0.001)
    return item


def count_bytes(item, blob):
    return len(blob) + item


def nap(item):
    time.sleep(0.4)
    return item
