"""What the user may say about where the work runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from blmm_bids.cluster.machine import usable_cpus, usable_memory
from blmm_bids.cluster.memory import format_memory
from blmm_bids.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

# The main process of a local run: pandas, pybids, nibabel, the scheduler and the maps being written.
DRIVER_BYTES = 300 * 2**20
# The same without a scheduler, beyond what any worker needs.
_ALONE_BYTES = 120 * 2**20
# Below this a worker holds its libraries and hardly any data; fewer workers are better then.
MIN_WORKER_BYTES = 320 * 2**20


@dataclass(frozen=True)
class ClusterOptions:
    """Where to run, and on how much.

    Attributes
    ----------
    backend : str
        One of `blmm_bids.cluster.BACKENDS`.
    n_procs : int, optional
        Worker processes on this machine, as many as processors by default; on a cluster those of one job.
    mem_bytes : int, optional
        Total for this machine, scheduler included, 90 % of what is available by default; on a cluster that
        of one job.
    config : Mapping
        Content of dask-jobqueue's own YAML.
    n_workers : int, optional
        Workers to ask a scheduler for.
    adapt : (int, int), optional
        Fewest and most workers to ask a scheduler for.
    scheduler_file : Path, optional
        Of an external dask scheduler: connected to where it exists, else written.
    write_worker_script : bool
        Write a job script that starts workers of an external scheduler.
    submit_via : str, optional
        ``ssh:HOST``, where the scheduler's commands are run.
    worker_timeout : float, optional
        Seconds without a worker after which the run is given up.
    paths : tuple of Path
        What workers read and write, for jobs that enter a container.
    preload : tuple of str
        Modules that workers on this machine are copied with; see `started_forkserver`.
    dashboard : bool
        Serve dask's pages, which have no password, on the loopback of this machine.
    """

    backend: str = "local"
    n_procs: int | None = None
    mem_bytes: int | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    n_workers: int | None = None
    adapt: tuple[int, int] | None = None
    scheduler_file: Path | None = None
    write_worker_script: bool = False
    submit_via: str | None = None
    worker_timeout: float | None = None
    paths: tuple[Path, ...] = ()
    preload: tuple[str, ...] = ()
    dashboard: bool = False


@dataclass(frozen=True)
class LocalResources:
    """Share of this machine.

    Attributes
    ----------
    n_workers : int
        Worker processes; one means that the main process does the work.
    mem_bytes : int
        Total.
    bytes_per_worker : int
        What a worker process may use, its libraries included.
    """

    n_workers: int
    mem_bytes: int
    bytes_per_worker: int


def local_resources(options: ClusterOptions) -> LocalResources:
    """Divide the machine, or the part that the user names, among local workers.

    Without ``n_procs``, memory too small for all processors means fewer workers.

    Raises
    ------
    UsageError
        ``n_procs`` below one, or memory that does not even hold the main process.
    """
    mem_bytes = usable_memory() if options.mem_bytes is None else options.mem_bytes
    if options.n_procs is not None and options.n_procs < 1:
        msg = f"--nprocs {options.n_procs}: wanted at least 1"
        raise UsageError(msg)
    if options.n_procs is None:
        affordable = (mem_bytes - DRIVER_BYTES) // MIN_WORKER_BYTES
        n_workers = max(min(usable_cpus(), affordable), 1)
    else:
        n_workers = options.n_procs
    own_bytes = DRIVER_BYTES if n_workers > 1 else _ALONE_BYTES
    bytes_per_worker = (mem_bytes - own_bytes) // n_workers
    if bytes_per_worker <= 0:
        msg = f"{format_memory(mem_bytes)} do not hold {n_workers} workers; raise --mem or lower --nprocs"
        raise UsageError(msg)
    return LocalResources(n_workers, mem_bytes, bytes_per_worker)


def total_memory(options: ClusterOptions, bytes_per_worker: int) -> int:
    """Total for this machine that leaves each local worker ``bytes_per_worker``."""
    n_workers = options.n_procs or usable_cpus()
    own = _ALONE_BYTES if n_workers == 1 else DRIVER_BYTES
    return n_workers * bytes_per_worker + own
