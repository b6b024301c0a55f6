"""How far a stage is, as log records: a line every so often, and a tick for whoever draws a bar."""

from __future__ import annotations

import logging
import math
import time
from dataclasses import dataclass

from blmm_bids.cluster import format_memory
from blmm_bids.cluster.machine import used_memory

LOGGER = logging.getLogger(__name__)
# Between two lines of progress, and between two ticks, seconds.
PROGRESS_INTERVAL = 10.0
TICK_INTERVAL = 0.2
# Below DEBUG: a terminal draws ticks, a log file has none of them.
TICK = logging.DEBUG // 2


@dataclass(frozen=True)
class Standing:
    """How far a stage is.

    Attributes
    ----------
    what : str
        What is counted (``"images read"``).
    done, total : int
        How many, of how many.
    rate : float
        A second.
    left : float
        Seconds; infinite while nothing is done.
    """

    what: str
    done: int
    total: int
    rate: float
    left: float

    @property
    def is_done(self) -> bool:
        """Whether nothing is left."""
        return self.done >= self.total


class Progress:
    """Count of what a stage has done, told to the log.

    Parameters
    ----------
    what : str
        What is counted.
    total, done : int
        How many there are, and how many an earlier run has left.
    n_workers : int
        Workers that do them.
    """

    def __init__(self, what: str, total: int, done: int, n_workers: int) -> None:
        self.what = what
        self.total = total
        self.done = done
        self.n_workers = n_workers
        self.start = self.last_line = self.last_tick = time.monotonic()
        self.start_done = done
        if done:
            LOGGER.info("%s: %d of %d kept from an earlier run", what, done, total)

    def add(self, count: int) -> None:
        """Count some more."""
        self.done += count
        now = time.monotonic()
        is_line = self.done >= self.total or now - self.last_line >= PROGRESS_INTERVAL
        if not is_line and now - self.last_tick < TICK_INTERVAL:
            return
        self.last_tick = now
        rate = (self.done - self.start_done) / max(now - self.start, 1e-3)
        left = (self.total - self.done) / rate if rate else math.inf
        extra = {"standing": Standing(self.what, self.done, self.total, rate, left)}
        if not is_line:
            LOGGER.log(TICK, "%s: %d of %d", self.what, self.done, self.total, extra=extra)
            return
        self.last_line = now
        LOGGER.info(
            "%s: %d of %d, %.4g a second, %.0f s left, %d workers, %s in use here",
            self.what, self.done, self.total, rate, left, self.n_workers, format_memory(used_memory()),
            extra=extra,
        )  # fmt: skip
