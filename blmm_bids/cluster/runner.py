"""Map a function over items, wherever the workers are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from blmm_bids.cluster.usage import Usage
from blmm_bids.errors import BlmmError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

Result = TypeVar("Result")


class Runner(Protocol):
    """Something that runs picklable functions.

    Attributes
    ----------
    n_workers : int
        How many items run at one time.
    bytes_per_worker : int
        Memory that a worker process may use, its libraries included.
    dashboard : str, optional
        Address of dask's dashboard.
    """

    @property
    def n_workers(self) -> int:
        """How many items run at one time."""

    @property
    def bytes_per_worker(self) -> int:
        """Memory that a worker process may use, its libraries included."""

    @property
    def dashboard(self) -> str | None:
        """Address of dask's dashboard."""

    def usage(self) -> Usage:
        """Say what the workers that there are have taken so far, this process not counted."""

    def map(
        self,
        function: Callable[..., Result],
        items: Iterable[Any],
        *,
        label: str,
        shared: tuple[Any, ...] = (),
    ) -> Iterator[tuple[int, Result]]:
        """Yield ``(index, function(item, *shared))`` in order of completion.

        Parameters
        ----------
        function : callable
            Importable by name on the workers.
        items : iterable
            Drawn as workers become free; small and picklable.
        label : str
            What an item is, for messages: ``batch``, ``block``.
        shared : tuple
            Further arguments, sent to each worker once.

        Raises
        ------
        BlmmError
            As raised by the function; the items left are given up.
        TemporaryError
            Workers were lost over and over; names the item.
        """


@dataclass(frozen=True)
class SynchronousRunner:
    """Runs everything in this process, one item after the other."""

    n_workers: int = 1
    bytes_per_worker: int = 2**31
    dashboard: str | None = None

    def usage(self) -> Usage:
        """Nothing beside this process."""
        return Usage()

    def map(
        self,
        function: Callable[..., Result],
        items: Iterable[Any],
        *,
        label: str,
        shared: tuple[Any, ...] = (),
    ) -> Iterator[tuple[int, Result]]:
        """Yield ``(index, function(item, *shared))`` in order; see `Runner.map`."""
        for index, item in enumerate(items):
            try:
                result = function(item, *shared)
            except BlmmError:
                raise
            except Exception as error:
                error.add_note(f"in {label} {index}")
                raise
            yield index, result
