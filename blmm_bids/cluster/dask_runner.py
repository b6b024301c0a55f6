"""A runner on any dask cluster."""

from __future__ import annotations

import time
from concurrent.futures import CancelledError
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import uuid4

from distributed import Client, Future, KilledWorker
from distributed.comm.core import CommClosedError

from blmm_bids.cluster.dask_config import MAX_LOST_WORKERS
from blmm_bids.cluster.interrupts import Interrupts
from blmm_bids.cluster.watchdog import Load, Watchdog
from blmm_bids.errors import BlmmError, ExhaustedError, TemporaryError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sized

    from distributed import Scheduler
    from distributed.deploy.cluster import Cluster

Result = TypeVar("Result")

# A worker finds its next item at hand when it finishes one.
_IN_FLIGHT_PER_WORKER = 2
_GONE = "the cluster was lost while it ran {label} by {label}; run the same command again and it resumes"
_LOST = "{label} {index}: the cluster was lost while it ran; run the same command again and it resumes"

# Seconds between two looks at signals and workers while nothing finishes.
_LOOK_INTERVAL = 1.0
# Seconds that a worker may take to hand a result over, which is a few numbers.
_FETCH_TIMEOUT = 10.0


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
    worker_timeout : float, optional
        Seconds without a worker after which the run is given up; see `Watchdog`.
    check_jobs : callable
        Raises when the jobs that workers run in cannot be had.
    """

    client: Client
    n_workers: int
    bytes_per_worker: int
    dashboard: str | None = None
    interrupts: Interrupts = field(default_factory=Interrupts)
    worker_timeout: float | None = None
    check_jobs: Callable[[], None] = lambda: None

    def map(
        self,
        function: Callable[..., Result],
        items: Iterable[Any],
        *,
        label: str,
        shared: tuple[Any, ...] = (),
    ) -> Iterator[tuple[int, Result]]:
        """Yield ``(index, function(item, *shared))`` in order of completion; see `Runner.map`."""
        sent = self._send(shared, label)
        waiting = enumerate(items)
        running: dict[Future[Result], tuple[int, Any]] = {}
        times_lost: dict[int, int] = {}
        finished: SimpleQueue[Future[Result]] = SimpleQueue()

        def submit(index: int, item: object) -> None:
            key = f"{label}-{index}-{uuid4().hex}"
            future = self.client.submit(function, item, *sent, key=key, pure=False)
            running[future] = (index, item)
            future.add_done_callback(finished.put)

        try:
            for index, item in islice(waiting, _IN_FLIGHT_PER_WORKER * self.n_workers):
                submit(index, item)
            for future in self._each_finished(finished, running):
                index, item = running.pop(future)
                try:
                    result = _result(future, label, index)
                except _PendingError:
                    # dask makes it again once there is a worker, which may be never: it goes back to
                    # those that are watched.
                    running[future] = (index, item)
                    future.add_done_callback(finished.put)
                    continue
                except CancelledError as error:
                    # dask may give a task up, not only retry it, when the worker dies that holds a result
                    # just asked for. Items can be done again: what they write appears by renaming.
                    times_lost[index] = times_lost.get(index, 0) + 1
                    if times_lost[index] >= MAX_LOST_WORKERS or self.client.status != "running":
                        raise TemporaryError(_LOST.format(label=label, index=index)) from error
                    if any(each.cancelled() for each in sent):
                        sent = self._send(shared, label)
                    submit(index, item)
                    continue
                for next_index, next_item in islice(waiting, 1):
                    submit(next_index, next_item)
                yield index, result
        except Exception as error:
            if isinstance(error, BlmmError) or self.client.status == "running":
                raise
            # Whatever dask says when the scheduler is gone, and it says many things.
            raise TemporaryError(_GONE.format(label=label)) from error
        finally:
            if running and self.client.status == "running":
                # A cluster that is lost meanwhile has nothing to take back, and its loss is said already.
                with suppress(Exception):
                    self.client.cancel(list(running))

    def _each_finished(
        self, finished: SimpleQueue[Future[Result]], running: Sized
    ) -> Iterator[Future[Result]]:
        """Yield futures as they finish while any is running, with an eye on signals and workers."""
        watchdog = Watchdog(self.worker_timeout)
        while running:
            self.interrupts.check()
            try:
                future = finished.get(timeout=_LOOK_INTERVAL)
            except Empty:
                self.check_jobs()
                verdict = watchdog.judge(self._load(), time.monotonic())
                if verdict:
                    msg = f"{verdict}; run the same command again and it resumes"
                    raise TemporaryError(msg) from None
                continue
            watchdog.progress(time.monotonic())
            yield future

    def _load(self) -> Load:
        """Ask the scheduler; nothing is there when it does not answer."""
        try:
            n_workers, n_assigned = self.client.run_on_scheduler(_count_load)
        except OSError:
            return Load(0, 0)
        return Load(n_workers, n_assigned)

    def _send(self, shared: tuple[Any, ...], label: str) -> list[Future[Any]]:
        """Put the shared arguments on the cluster.

        As results of tasks rather than scattered data: dask makes them again when their worker dies.
        """
        return [
            self.client.submit(_itself, value, key=f"{label}-shared-{uuid4().hex}", pure=False)
            for value in shared
        ]


def dashboard_address(cluster: Cluster) -> str | None:
    """Where the dashboard of a scheduler in this process is, which listens on the loopback.

    None where there is none.
    """
    port = cluster.scheduler_info["services"].get("dashboard")
    return f"http://127.0.0.1:{port}/status" if port else None


def _count_load(dask_scheduler: Scheduler) -> tuple[int, int]:
    workers = dask_scheduler.workers.values()
    return len(workers), sum(len(worker.processing) for worker in workers)


def _itself(value: Result) -> Result:
    return value


class _PendingError(Exception):
    """The worker that held a result died before it could be fetched."""


def _result(future: Future[Result], label: str, index: int) -> Result:
    """Take a finished future's result, or raise its exception as ours; CancelledError where it is lost."""
    if future.status == "pending":
        raise _PendingError
    if future.status not in ("finished", "error"):
        raise CancelledError(future.key)
    try:
        return future.result(timeout=_FETCH_TIMEOUT)
    except TimeoutError as error:
        if future.status != "error":
            raise _PendingError from error
        error.add_note(f"in {label} {index}")
        raise
    except KilledWorker as error:
        msg = (
            f"{label} {index}: {MAX_LOST_WORKERS} workers died while they had it, most often for want "
            "of memory. Give them more (--mem, or fewer with --nprocs) and run the same command again: "
            "it resumes"
        )
        raise ExhaustedError(msg) from error
    except CommClosedError as error:
        raise TemporaryError(_LOST.format(label=label, index=index)) from error
    except (BlmmError, CancelledError):
        raise
    except Exception as error:
        error.add_note(f"in {label} {index}")
        raise
