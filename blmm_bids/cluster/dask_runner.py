"""A runner on any dask cluster."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from itertools import islice
from queue import Empty
from typing import TYPE_CHECKING, Any, TypeVar

from blmm_bids.cluster.flight import Flight, SuspectError
from blmm_bids.cluster.interrupts import Interrupts
from blmm_bids.cluster.usage import Usage, process_usage, total_usage
from blmm_bids.cluster.watchdog import Load, Watchdog
from blmm_bids.errors import BlmmError, TemporaryError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from distributed import Client, Future, Scheduler

Result = TypeVar("Result")

# A worker finds its next item at hand when it finishes one.
_IN_FLIGHT_PER_WORKER = 2
_GONE = "the cluster was lost while it ran {label} by {label}; run the same command again and it resumes"
# Seconds between two looks at signals and workers while nothing finishes.
_LOOK_INTERVAL = 1.0


@dataclass(frozen=True)
class DaskRunner:
    """Runs items on the workers of a dask client.

    Attributes
    ----------
    client : distributed.Client
        Connected.
    n_workers : int
        How many items run at one time.
    bytes_per_worker : int
        Memory that a worker process may use, its libraries included.
    dashboard : str, optional
        Address of dask's dashboard.
    interrupts : Interrupts
        Signals that arrived.
    watchdog : Watchdog
        Says when the run is given up.
    check_jobs : callable
        Raises when the jobs that workers run in cannot be had.
    """

    client: Client
    n_workers: int
    bytes_per_worker: int
    dashboard: str | None = None
    interrupts: Interrupts = field(default_factory=Interrupts)
    watchdog: Watchdog = field(default_factory=Watchdog)
    check_jobs: Callable[[], None] = lambda: None

    def usage(self) -> Usage:
        """Say what the workers that there are have taken so far; those that were lost are not counted."""
        try:
            found: dict[str, Usage] = self.client.run(process_usage, on_error="ignore")
        except OSError:
            found = {}
        return total_usage(found.values())

    def map(
        self,
        function: Callable[..., Result],
        items: Iterable[Any],
        *,
        label: str,
        shared: tuple[Any, ...] = (),
    ) -> Iterator[tuple[int, Result]]:
        """Yield ``(index, function(item, *shared))`` in order of completion; see `Runner.map`."""
        flight = Flight(self.client, function, label, shared)
        self.watchdog.begin()
        waiting = enumerate(items)
        suspects: list[tuple[int, Any]] = []
        try:
            while True:
                # 1. As many as keep all workers busy; or one that may kill its worker, and nothing beside it.
                many = islice(waiting, _IN_FLIGHT_PER_WORKER * self.n_workers)
                for index, item in [suspects.pop()] if suspects else many:
                    flight.submit(index, item)
                if not flight.running:
                    return
                is_alone = len(flight.running) == 1
                # 2. One more for each that finishes, until there is a suspect.
                for future in self._each_finished(flight):
                    try:
                        found = flight.take(future)
                    except SuspectError as suspect:
                        if is_alone:
                            raise suspect.verdict from suspect
                        suspects.append((suspect.index, suspect.item))
                        continue
                    if found is None:
                        continue
                    if not (is_alone or suspects):
                        for next_index, next_item in islice(waiting, 1):
                            flight.submit(next_index, next_item)
                    yield found
        except Exception as error:
            if isinstance(error, BlmmError) or self.client.status == "running":
                raise
            # Whatever dask says when the scheduler is gone, and it says many things.
            raise TemporaryError(_GONE.format(label=label)) from error
        finally:
            flight.cancel()

    def _each_finished(self, flight: Flight[Result]) -> Iterator[Future[Result]]:
        """Yield futures as they finish while any is running, with an eye on signals and workers."""
        while flight.running:
            self.interrupts.check()
            try:
                future = flight.finished.get(timeout=_LOOK_INTERVAL)
            except Empty:
                self.check_jobs()
                verdict = self.watchdog.judge(self._load(), time.monotonic())
                if verdict:
                    msg = f"{verdict}; run the same command again and it resumes"
                    raise TemporaryError(msg) from None
                continue
            self.watchdog.progress(time.monotonic())
            yield future

    def _load(self) -> Load:
        """Ask the scheduler; nothing is there when it does not answer."""
        try:
            n_workers, n_assigned = self.client.run_on_scheduler(_count_load)
        except OSError:
            return Load(0, 0)
        return Load(n_workers, n_assigned)


def _count_load(dask_scheduler: Scheduler) -> tuple[int, int]:
    workers = dask_scheduler.workers.values()
    return len(workers), sum(len(worker.processing) for worker in workers)
