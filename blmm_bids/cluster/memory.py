"""Amounts of memory as people write them."""

from __future__ import annotations

import re

from blmm_bids.errors import UsageError

_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_AMOUNT = re.compile(r"(\d{1,12}(?:\.\d{0,6})?|\.\d{1,6})\s*([KMGT]?)(?:I?B)?", re.ASCII)


def parse_memory(text: str | float) -> int:
    """Bytes of an amount such as ``4G``, ``1.5 GiB`` or ``4000``, which is MB.

    Units are powers of 1024, as Slurm and Docker count.

    Raises
    ------
    UsageError
        Not an amount of memory, or less than one MB.
    """
    match = _AMOUNT.fullmatch(str(text).strip().upper())
    n_bytes = int(float(match[1]) * _UNITS[match[2] or "M"]) if match else 0
    if n_bytes < _UNITS["M"]:
        msg = f"--mem {text}: not an amount of memory; wanted MB, or a number with K, M, G or T (4000, 4G)"
        raise UsageError(msg)
    return n_bytes


def format_memory(n_bytes: int) -> str:
    """Amount in MB below 10 GB, in GB above."""
    return f"{n_bytes / 2**20:.0f} MB" if n_bytes < 10 * 2**30 else f"{n_bytes / 2**30:.1f} GB"
