"""The items of one map that are on a dask cluster, and what becomes of each."""

from __future__ import annotations

from concurrent.futures import CancelledError
from contextlib import suppress
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from uuid import uuid4

from distributed import KilledWorker
from distributed.comm.core import CommClosedError

from blmm_bids.cluster.dask_config import MAX_LOST_WORKERS
from blmm_bids.errors import BlmmError, ExhaustedError, TemporaryError

if TYPE_CHECKING:
    from collections.abc import Callable

    from distributed import Client, Future

Result = TypeVar("Result")

_LOST = "{label} {index}: the cluster was lost while it ran; run the same command again and it resumes"
_KILLED = (
    f"{{label}} {{index}}: {MAX_LOST_WORKERS} workers died while they had it and nothing else, most often "
    "for want of memory. Give them more (--mem, or fewer with --nprocs) and run the same command again: it "
    "resumes"
)
# Seconds that a worker may take to hand a result over, which is a few numbers.
_FETCH_TIMEOUT = 10.0


class _PendingError(Exception):
    """The worker that held a result died before it could be fetched."""


class SuspectError(Exception):
    """An item was on too many workers when they died; it may have killed them, or been beside one that did.

    dask counts the death of a worker against all that it had: what ran, what waited for its turn, and what
    was done but not yet reported.

    Attributes
    ----------
    index, item
    verdict : BlmmError
        If nothing was beside it.
    """

    def __init__(self, index: int, item: object, verdict: BlmmError) -> None:
        super().__init__(index)
        self.index = index
        self.item = item
        self.verdict = verdict


class Flight(Generic[Result]):
    """The items of one map that are on the cluster.

    Attributes
    ----------
    running : dict
        Future to index and item.
    finished : SimpleQueue
        Futures as they finish.
    """

    def __init__(
        self, client: Client, function: Callable[..., Result], label: str, shared: tuple[Any, ...]
    ) -> None:
        self.running: dict[Future[Result], tuple[int, Any]] = {}
        self.finished: SimpleQueue[Future[Result]] = SimpleQueue()
        self._client = client
        self._function = function
        self._label = label
        self._shared = shared
        self._sent = self._send()
        self._times_lost: dict[int, int] = {}

    def submit(self, index: int, item: object) -> None:
        """Put an item on the cluster."""
        if any(each.status not in ("pending", "finished") for each in self._sent):
            self._sent = self._send()
        key = f"{self._label}-{index}-{uuid4().hex}"
        self._watch(self._client.submit(self._function, item, *self._sent, key=key, pure=False), index, item)

    def take(self, future: Future[Result]) -> tuple[int, Result] | None:
        """Take what a future brought off the cluster; None if the item has to be waited for again.

        Raises
        ------
        SuspectError
            Workers died, and it was on all of them.
        BlmmError
            As raised by the function, or the cluster is lost.
        """
        index, item = self.running.pop(future)
        try:
            return index, _result(future, self._label, index)
        except _PendingError:
            # dask makes it again once there is a worker, which may be never: it goes back to those that
            # are watched.
            self._watch(future, index, item)
        except KilledWorker as error:
            raise SuspectError(index, item, ExhaustedError(self._say(_KILLED, index))) from error
        except CancelledError as error:
            # dask may give a task up, not only retry it, when the worker dies that holds a result just
            # asked for. Items can be done again: what they write appears by renaming.
            lost = TemporaryError(self._say(_LOST, index))
            if self._client.status != "running":
                raise lost from error
            self._times_lost[index] = self._times_lost.get(index, 0) + 1
            if self._times_lost[index] >= MAX_LOST_WORKERS:
                del self._times_lost[index]
                raise SuspectError(index, item, lost) from error
            self.submit(index, item)
        return None

    def cancel(self) -> None:
        """Take back what is not finished."""
        if self.running and self._client.status == "running":
            # A cluster that is lost meanwhile has nothing to take back, and its loss is said already.
            with suppress(Exception):
                self._client.cancel(list(self.running))

    def _watch(self, future: Future[Result], index: int, item: object) -> None:
        self.running[future] = (index, item)
        future.add_done_callback(self.finished.put)

    def _send(self) -> list[Future[Any]]:
        """Put the shared arguments on the cluster.

        As results of tasks rather than scattered data: dask makes them again when their worker dies.
        """
        return [
            self._client.submit(_itself, value, key=f"{self._label}-shared-{uuid4().hex}", pure=False)
            for value in self._shared
        ]

    def _say(self, text: str, index: int) -> str:
        return text.format(label=self._label, index=index)


def _result(future: Future[Result], label: str, index: int) -> Result:
    """Take a finished future's result, or raise its exception; CancelledError where it is lost."""
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
    except CommClosedError as error:
        raise TemporaryError(_LOST.format(label=label, index=index)) from error
    except (BlmmError, CancelledError, KilledWorker):
        raise
    except Exception as error:
        error.add_note(f"in {label} {index}")
        raise


def _itself(value: Result) -> Result:
    return value
