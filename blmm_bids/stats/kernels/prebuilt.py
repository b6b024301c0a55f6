"""Kernels that were compiled beforehand, as in a container image, and for which processors.

``BLMM_KERNEL_CACHE`` names the folder, as ``NUMBA_CACHE_DIR`` does where it is another user's. numba refuses
a cache that it cannot write to, so the folder in use gets links to the files of this one: what is there is
loaded, what is not is compiled beside it.
"""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from pathlib import Path

from blmm_bids.stats.kernels.cache_folder import cache_name

# What LLVM calls processors since Intel's Haswell (2013) and AMD's Excavator (2015), and what they have.
PORTABLE_CPU = "x86-64-v3"
_PORTABLE_FLAGS = {"avx2", "bmi2", "f16c", "fma", "movbe"}


def choose_processor(cpu_info: Path = Path("/proc/cpuinfo")) -> None:
    """Let numba compile for `PORTABLE_CPU` where kernels come from elsewhere; to be called before its import.

    By itself numba compiles for the very processor at hand, and takes no kernel compiled for another. A
    choice of the user's is left alone, and so is a processor that has less.

    Parameters
    ----------
    cpu_info : Path
        Where Linux tells what the processor has.
    """
    if not os.environ.get("BLMM_KERNEL_CACHE") or os.environ.get("NUMBA_CPU_NAME"):
        return
    if platform.machine() == "x86_64" and _cpu_flags(cpu_info) >= _PORTABLE_FLAGS:
        os.environ["NUMBA_CPU_NAME"] = PORTABLE_CPU
        os.environ.setdefault("NUMBA_CPU_FEATURES", "")


def _cpu_flags(cpu_info: Path) -> set[str]:
    with suppress(OSError), cpu_info.open(encoding="ascii", errors="replace") as lines:
        for line in lines:
            name, _, flags = line.partition(":")
            if name.strip() == "flags":
                return set(flags.split())
    return set()


def link_prebuilt(folder: Path) -> None:
    """Put links to the compiled kernels of the same sources into a folder of numba's.

    Parameters
    ----------
    folder : Path
        Existing and writable.
    """
    # What another user has compiled into a cache of several users is as good, where it may be read.
    for root in filter(None, (os.environ.get("BLMM_KERNEL_CACHE"), os.environ.get("NUMBA_CACHE_DIR"))):
        there = Path(root).absolute() / cache_name()
        if there.resolve() == folder.resolve():
            continue
        # A disk that is full, or a folder that is closed: what is not there is compiled.
        with suppress(OSError):
            for source in there.glob("*/*"):
                link = folder / source.parent.name / source.name
                link.parent.mkdir(exist_ok=True, mode=0o700)
                # There since an earlier run, or since a moment ago from another worker.
                with suppress(FileExistsError):
                    link.symlink_to(source)
