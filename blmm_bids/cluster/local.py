"""Worker processes on this machine."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING

from blmm_bids.cluster.forkserver import started_forkserver
from blmm_bids.cluster.options import ClusterOptions, LocalResources, local_resources
from blmm_bids.cluster.runner import Runner, SynchronousRunner
from blmm_bids.errors import TemporaryError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from distributed import LocalCluster

    from blmm_bids.cluster.interrupts import Interrupts

LOGGER = logging.getLogger(__name__)
_LOOPBACK = "127.0.0.1"
_START_METHOD = "distributed.worker.multiprocessing-method"


@contextmanager
def open_local(options: ClusterOptions, work_dir: Path, interrupts: Interrupts) -> Iterator[Runner]:
    """Start local workers, none for a single one: then this process does the work.

    Parameters
    ----------
    options : ClusterOptions
        Processes and memory.
    work_dir : Path
        Existing; dask's own files go there.
    interrupts : Interrupts
        Signals to look out for.

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
    import dask.config
    from distributed import Client

    from blmm_bids.cluster.dashboard import await_dashboard, pages
    from blmm_bids.cluster.dask_config import dask_settings
    from blmm_bids.cluster.dask_runner import DaskRunner
    from blmm_bids.cluster.watchdog import Watchdog

    with (
        started_forkserver(options) as is_forked,
        dask.config.set({_START_METHOD: "forkserver" if is_forked else "spawn"}),
        dask.config.set(pages(shown=options.dashboard)),
        dask_settings(options.config, work_dir),
        _started_cluster(resources, work_dir) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield DaskRunner(
            client,
            resources.n_workers,
            resources.bytes_per_worker,
            await_dashboard(cluster) if options.dashboard else None,
            interrupts,
            Watchdog(options.worker_timeout, had_workers=True),
        )


def plan_workers(options: ClusterOptions, work_dir: Path) -> tuple[int, int]:  # noqa: ARG001
    """Count the workers that there would be, and the bytes that each may use."""
    resources = local_resources(options)
    return resources.n_workers, resources.bytes_per_worker


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
                scheduler_kwargs={"dashboard": False},
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
