"""How far a stage is, in the log."""

from __future__ import annotations

import logging
import math
import time

LOGGER = logging.getLogger(__name__)
# Between two lines of progress, seconds.
PROGRESS_INTERVAL = 10.0


class Progress:
    """One line in the log every so often, with the rate and the time left."""

    def __init__(self, what: str, total: int, done: int) -> None:
        self.what = what
        self.total = total
        self.done = done
        self.start = self.last = time.monotonic()
        self.start_done = done
        if done:
            LOGGER.info("%s: %d of %d kept from an earlier run", what, done, total)

    def add(self, count: int) -> None:
        """Count some more."""
        self.done += count
        now = time.monotonic()
        if self.done < self.total and now - self.last < PROGRESS_INTERVAL:
            return
        self.last = now
        elapsed = max(now - self.start, 1e-3)
        rate = (self.done - self.start_done) / elapsed
        left = (self.total - self.done) / rate if rate else math.inf
        LOGGER.info("%s: %d of %d, %.4g a second, %.0f s left", self.what, self.done, self.total, rate, left)
