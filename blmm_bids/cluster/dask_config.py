"""dask's configuration for a run: a user's YAML and ours, and nothing left behind."""

from __future__ import annotations

import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import dask.config

from blmm_bids.cluster.worker_environment import WORKER_ENVIRONMENT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path
    from types import ModuleType

# An item that was on this many workers when they died is given up.
MAX_LOST_WORKERS = 3
# What every cluster of ours needs from dask's configuration, in the main process and in workers.
DASK_CONFIG = {
    "distributed.scheduler.allowed-failures": MAX_LOST_WORKERS - 1,
    # Our arrays are inside running tasks: there is nothing to spill, and a paused worker would wait for ever.
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    # Pages of a worker have no password; what they say is in the dashboard, if there is one.
    "distributed.worker.http.routes": [],
    # Shared arguments of some tens of MB are meant to be sent.
    "distributed.admin.large-graph-warning-threshold": "2GB",
    # Before the process starts: its allocator and its libraries look only then.
    "distributed.nanny.pre-spawn-environ": WORKER_ENVIRONMENT,
}


@contextmanager
def dask_settings(user: Mapping[str, Any], scratch: Path) -> Iterator[None]:
    """Lay a user's YAML, then our settings, over dask's configuration until the context ends.

    Parameters
    ----------
    user : Mapping
        Content of a file in dask's own schema.
    scratch : Path
        Where dask may write.
    """
    merged = dask.config.merge(dask.config.config, dict(user))
    with dask.config.set(merged), dask.config.set({**DASK_CONFIG, "temporary-directory": str(scratch)}):
        yield


def import_jobqueue() -> ModuleType:
    """Import dask-jobqueue without its two side effects.

    It replaces the handler of SIGINT, and it writes ``jobqueue.yaml`` below the user's home.
    """
    handler = signal.getsignal(signal.SIGINT)
    write_defaults = dask.config.ensure_file
    dask.config.ensure_file = _write_nothing
    try:
        import dask_jobqueue
    finally:
        dask.config.ensure_file = write_defaults
        signal.signal(signal.SIGINT, handler)
    return dask_jobqueue


def _write_nothing(source: str, destination: str | None = None, comment: bool = True) -> None:  # noqa: FBT001, FBT002
    """Stand in for `dask.config.ensure_file`."""
