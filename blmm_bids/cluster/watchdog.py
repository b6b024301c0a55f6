"""When to give up on workers that do not come, do not come back, or do nothing."""

from __future__ import annotations

from dataclasses import dataclass

# Seconds without any worker: jobs wait in a scheduler's queue first; later they are only replaced.
PENDING_TIMEOUT = 30 * 60.0
LOSS_TIMEOUT = 2 * 60.0


@dataclass(frozen=True)
class Load:
    """What a dask scheduler has.

    Attributes
    ----------
    n_workers : int
        Connected worker processes.
    n_assigned : int
        Tasks that they run or hold.
    """

    n_workers: int
    n_assigned: int


class Watchdog:
    """Judges loads over time, those of one map after the other; knows no clock and no cluster.

    Parameters
    ----------
    timeout : float, optional
        Seconds without a worker, at the start and after a loss; `PENDING_TIMEOUT` and `LOSS_TIMEOUT` by
        default.
    had_workers : bool
        Whether workers were there when it was made: what is missing now is a loss.
    """

    def __init__(self, timeout: float | None = None, *, had_workers: bool = False) -> None:
        self.pending_timeout = PENDING_TIMEOUT if timeout is None else timeout
        self.loss_timeout = LOSS_TIMEOUT if timeout is None else timeout
        self._had_workers = had_workers
        self._last_worker: float | None = None
        self._last_work: float | None = None

    def begin(self) -> None:
        """Begin with another map: time that passed since the last one counts for nothing."""
        self._last_worker = self._last_work = None

    def judge(self, load: Load, now: float) -> str | None:
        """Say why the run should be given up, if it should.

        Parameters
        ----------
        load : Load
            While items are unfinished and none has finished just now.
        now : float
            Seconds on any clock.
        """
        if load.n_workers or self._last_worker is None:
            self._last_worker = now
        if load.n_assigned or not load.n_workers or self._last_work is None:
            self._last_work = now
        self._had_workers = self._had_workers or load.n_workers > 0
        gone, idle = now - self._last_worker, now - self._last_work
        if self._had_workers and gone > self.loss_timeout:
            return f"all workers were lost, and none has come back for {gone:.0f} s"
        if gone > self.pending_timeout:
            return f"no worker has come for {gone:.0f} s"
        if idle > self.loss_timeout:
            return f"workers are there, but nothing has run or finished for {idle:.0f} s"
        return None

    def progress(self, now: float) -> None:
        """Take note that an item has finished."""
        self._had_workers = True
        self._last_worker = self._last_work = now
