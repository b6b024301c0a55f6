"""The backends by name; each is imported only when it is asked for."""

from __future__ import annotations

from contextlib import contextmanager
from difflib import get_close_matches
from importlib import import_module
from typing import TYPE_CHECKING

from blmm_bids.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from blmm_bids.cluster.options import ClusterOptions
    from blmm_bids.cluster.runner import Runner

    _Opener = Callable[[ClusterOptions, Path], AbstractContextManager[Runner]]

# Name -> module and function (options, work_dir) -> context manager of a Runner; None: not there yet.
_OPENERS: dict[str, tuple[str, str] | None] = {
    "local": ("blmm_bids.cluster.local", "open_local"),
    "slurm": None,
    "sge": None,
    "pbs": None,
    "lsf": None,
    "htcondor": None,
    "oar": None,
    "moab": None,
    "external": None,
}
BACKENDS = tuple(_OPENERS)


@contextmanager
def open_cluster(options: ClusterOptions, work_dir: Path) -> Iterator[Runner]:
    """Start the workers that the options ask for; they are gone when the context ends.

    Parameters
    ----------
    options : ClusterOptions
        Backend and its size.
    work_dir : Path
        Existing directory, the only one written to.

    Raises
    ------
    UsageError
        Unknown backend, one that is not there yet, or a size that cannot be.
    """
    with _opener(options.backend)(options, work_dir) as runner:
        yield runner


def _opener(backend: str) -> _Opener:
    if backend not in _OPENERS:
        close = get_close_matches(backend, BACKENDS, n=1)
        guess = f"; did you mean {close[0]}?" if close else ""
        msg = f"--cluster {backend}: unknown; wanted one of {', '.join(BACKENDS)}{guess}"
        raise UsageError(msg)
    place = _OPENERS[backend]
    if place is None:
        msg = f"--cluster {backend}: comes with the cluster backends, not yet here; use --cluster local"
        raise UsageError(msg)
    module, name = place
    opener: _Opener = getattr(import_module(module), name)
    return opener
