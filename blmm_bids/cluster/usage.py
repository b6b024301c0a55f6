"""What processes have taken: CPU time, and the most memory that one held."""

from __future__ import annotations

import resource
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_UNIT = 1 if sys.platform == "darwin" else 1024


@dataclass(frozen=True)
class Usage:
    """CPU seconds of some processes together, and the largest memory of one of them in bytes."""

    cpu_seconds: float = 0.0
    peak_bytes: int = 0


def process_usage() -> Usage:
    """Ask the system about this process."""
    taken = resource.getrusage(resource.RUSAGE_SELF)
    return Usage(taken.ru_utime + taken.ru_stime, taken.ru_maxrss * _UNIT)


def total_usage(usages: Iterable[Usage]) -> Usage:
    """Put several processes together."""
    listed = list(usages)
    return Usage(
        sum(each.cpu_seconds for each in listed), max((each.peak_bytes for each in listed), default=0)
    )
