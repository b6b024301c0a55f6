"""Worker processes on this machine."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING

from blmm_bids.cluster.options import ClusterOptions, LocalResources, local_resources
from blmm_bids.cluster.runner import Runner, SynchronousRunner
from blmm_bids.errors import TemporaryError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from distributed import LocalCluster

LOGGER = logging.getLogger(__name__)
_LOOPBACK = "127.0.0.1"
# One worker is one processor: threads of numerical libraries would only compete.
WORKER_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "BLIS_NUM_THREADS": "1",
    "VECLIB_MAXIMUM_THREADS": "1",
    "NUMBA_NUM_THREADS": "1",
    # dask's own setting hands every few MB back to the system at once, only to fault them in again for
    # the next image: twice the processor time. These are glibc's limits, without their slow start.
    "MALLOC_MMAP_THRESHOLD_": str(32 * 2**20),
    "MALLOC_TRIM_THRESHOLD_": str(64 * 2**20),
}


@contextmanager
def open_local(options: ClusterOptions, work_dir: Path) -> Iterator[Runner]:
    """Start local workers, none for a single one: then this process does the work.

    Parameters
    ----------
    options : ClusterOptions
        Processes and memory.
    work_dir : Path
        Existing; dask's own files go there.

    Raises
    ------
    UsageError
        Processes or memory that cannot be.
    TemporaryError
        Workers that die before they are ready.
    """
    resources = local_resources(options)
    if resources.n_workers == 1:
        yield SynchronousRunner(1, resources.bytes_per_worker)
        return
    import dask
    from distributed import Client

    from blmm_bids.cluster.dask_runner import DASK_CONFIG, DaskRunner

    own_config = {
        **DASK_CONFIG,
        "temporary-directory": str(work_dir),
        # Before the process starts: its allocator and its libraries look only then.
        "distributed.nanny.pre-spawn-environ": WORKER_ENVIRONMENT,
    }
    has_dashboard = find_spec("bokeh") is not None
    with (
        dask.config.set(own_config),
        _started_cluster(resources, work_dir) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        dashboard = cluster.dashboard_link if has_dashboard else None
        yield DaskRunner(client, resources.n_workers, resources.bytes_per_worker, dashboard)


def _started_cluster(resources: LocalResources, work_dir: Path) -> LocalCluster:
    """Start workers; once more where one dies before it is ready, which dask itself gives up on."""
    from distributed import LocalCluster

    for is_last in (False, True):
        try:
            return LocalCluster(
                n_workers=resources.n_workers,
                threads_per_worker=1,
                processes=True,
                memory_limit=resources.bytes_per_worker,
                host=_LOOPBACK,
                dashboard_address=f"{_LOOPBACK}:0",
                worker_dashboard_address=None,
                local_directory=str(work_dir),
                silence_logs=logging.CRITICAL,
                # On a shared machine other users reach the loopback ports, and a scheduler obeys anyone.
                security=True if find_spec("cryptography") else None,
            )
        except RuntimeError as error:
            if is_last:
                break
            LOGGER.warning("a worker died while it was starting (%s); starting all of them again", error)
    msg = (
        f"{resources.n_workers} workers could not be started: one of them died before it was ready, most "
        "often for want of memory. Give more (--mem), or fewer workers (--nprocs), and run the same command "
        "again"
    )
    raise TemporaryError(msg)
