"""A runner on any dask cluster."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import uuid4

from distributed import Client, Future, KilledWorker, as_completed

from blmm_bids.errors import BlmmError, TemporaryError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

Result = TypeVar("Result")

# A worker finds its next item at hand when it finishes one.
_IN_FLIGHT_PER_WORKER = 2
# An item that was on this many workers when they died is given up.
MAX_LOST_WORKERS = 3

# What every cluster of ours needs from dask's configuration.
DASK_CONFIG = {
    "distributed.scheduler.allowed-failures": MAX_LOST_WORKERS - 1,
    # Our arrays are inside running tasks: there is nothing to spill, and a paused worker would wait for ever.
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    # Shared arguments of some tens of MB are meant to be sent.
    "distributed.admin.large-graph-warning-threshold": "2GB",
}


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
    """

    client: Client
    n_workers: int
    bytes_per_worker: int
    dashboard: str | None = None

    def map(
        self,
        function: Callable[..., Result],
        items: Iterable[Any],
        *,
        label: str,
        shared: tuple[Any, ...] = (),
    ) -> Iterator[tuple[int, Result]]:
        """Yield ``(index, function(item, *shared))`` in order of completion; see `Runner.map`."""
        token = uuid4().hex
        # Results of tasks rather than scattered data: dask makes them again when their worker dies.
        sent = [
            self.client.submit(_itself, value, key=f"{label}-shared-{token}-{place}", pure=False)
            for place, value in enumerate(shared)
        ]
        waiting = enumerate(items)
        running: dict[Future[Result], int] = {}
        finished = as_completed(loop=self.client.loop)

        def submit(count: int) -> None:
            for index, item in islice(waiting, count):
                future = self.client.submit(function, item, *sent, key=f"{label}-{token}-{index}", pure=False)
                running[future] = index
                finished.add(future)

        try:
            submit(_IN_FLIGHT_PER_WORKER * self.n_workers)
            while running:
                future = next(finished)
                result = _result(future, label, running[future])
                index = running.pop(future)
                submit(1)
                yield index, result
        finally:
            if running:
                self.client.cancel(list(running))


def _itself(value: Result) -> Result:
    return value


def _result(future: Future[Result], label: str, index: int) -> Result:
    """Take the result of a finished future, or raise its exception as ours."""
    if future.status not in ("finished", "error"):
        msg = f"{label} {index}: the cluster was lost while it ran; run the same command again and it resumes"
        raise TemporaryError(msg)
    try:
        return future.result()
    except KilledWorker as error:
        msg = (
            f"{label} {index}: {MAX_LOST_WORKERS} workers died while they had it, most often for want "
            "of memory. Give them more (--mem, or fewer with --nprocs) and run the same command again: "
            "it resumes"
        )
        raise TemporaryError(msg) from error
    except BlmmError:
        raise
    except Exception as error:
        error.add_note(f"in {label} {index}")
        raise
