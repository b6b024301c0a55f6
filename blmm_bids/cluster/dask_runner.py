"""A runner on any dask cluster."""

from __future__ import annotations

from concurrent.futures import CancelledError
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import uuid4

from distributed import Client, Future, KilledWorker, as_completed
from distributed.comm.core import CommClosedError

from blmm_bids.errors import BlmmError, ExhaustedError, TemporaryError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

Result = TypeVar("Result")

# A worker finds its next item at hand when it finishes one.
_IN_FLIGHT_PER_WORKER = 2
# An item that was on this many workers when they died is given up.
MAX_LOST_WORKERS = 3
_GONE = "the cluster was lost while it ran {label} by {label}; run the same command again and it resumes"
_LOST = "{label} {index}: the cluster was lost while it ran; run the same command again and it resumes"

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
        sent = self._send(shared, label)
        waiting = enumerate(items)
        running: dict[Future[Result], tuple[int, Any]] = {}
        times_lost: dict[int, int] = {}
        finished = as_completed(loop=self.client.loop)

        def submit(index: int, item: object) -> None:
            key = f"{label}-{index}-{uuid4().hex}"
            future = self.client.submit(function, item, *sent, key=key, pure=False)
            running[future] = (index, item)
            finished.add(future)

        try:
            for index, item in islice(waiting, _IN_FLIGHT_PER_WORKER * self.n_workers):
                submit(index, item)
            while running:
                future = next(finished)
                index, item = running.pop(future)
                try:
                    result = _result(future, label, index)
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

    def _send(self, shared: tuple[Any, ...], label: str) -> list[Future[Any]]:
        """Put the shared arguments on the cluster.

        As results of tasks rather than scattered data: dask makes them again when their worker dies.
        """
        return [
            self.client.submit(_itself, value, key=f"{label}-shared-{uuid4().hex}", pure=False)
            for value in shared
        ]


def _itself(value: Result) -> Result:
    return value


def _result(future: Future[Result], label: str, index: int) -> Result:
    """Take a finished future's result, or raise its exception as ours; CancelledError where it is lost."""
    if future.status not in ("finished", "error"):
        raise CancelledError(future.key)
    try:
        return future.result()
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
