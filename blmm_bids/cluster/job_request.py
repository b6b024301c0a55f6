"""What one job of a scheduler asks for, and what a worker in it may use."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dask.utils import parse_bytes

from blmm_bids.cluster.memory import format_memory
from blmm_bids.cluster.options import MIN_WORKER_BYTES
from blmm_bids.cluster.sections import check_section, job_setting
from blmm_bids.cluster.walltime import walltime_seconds, worker_lifetime
from blmm_bids.errors import UsageError

if TYPE_CHECKING:
    from blmm_bids.cluster.options import ClusterOptions

# The process in a job that starts workers, and starts them again when they die.
NANNY_BYTES = 150 * 2**20
DEFAULT_CORE_BYTES = 4 * 2**30
DEFAULT_N_WORKERS = 4


@dataclass(frozen=True)
class JobRequest:
    """Size of a job.

    Attributes
    ----------
    cores : int
        Processors of a job.
    mem_bytes : int
        Memory of a job.
    n_processes : int
        Worker processes in a job, each of one thread.
    bytes_per_worker : int
        What a worker process may use, its libraries included.
    fewest, most : int
        Workers of the whole run, in whole jobs.
    lifetime : (int, int), optional
        Seconds after which a worker ends in order, and by how much that may vary.
    """

    cores: int
    mem_bytes: int
    n_processes: int
    bytes_per_worker: int
    fewest: int
    most: int
    lifetime: tuple[int, int] | None = None


def job_request(options: ClusterOptions) -> JobRequest:
    """Size of the jobs, from the command line, then dask-jobqueue's configuration, then defaults.

    Raises
    ------
    UsageError
        A size that cannot be.
    """
    check_section(options)
    cores = _cores(options)
    mem_bytes = _memory(options, cores)
    available = mem_bytes - NANNY_BYTES
    # A worker is a processor; but too many of them would hold their libraries and hardly any data.
    n_processes = max(min(cores, available // MIN_WORKER_BYTES), 1)
    bytes_per_worker = available // n_processes
    if bytes_per_worker < MIN_WORKER_BYTES // 2:
        msg = (
            f"--cluster {options.backend}: {format_memory(mem_bytes)} a job do not hold a worker; raise "
            f"jobqueue.{options.backend}.memory in --cluster-config, or --mem"
        )
        raise UsageError(msg)
    fewest, most = _bounds(options)
    return JobRequest(
        cores=cores,
        mem_bytes=mem_bytes,
        n_processes=n_processes,
        bytes_per_worker=bytes_per_worker,
        # In whole jobs: half a job cannot be given back.
        fewest=math.ceil(fewest / n_processes) * n_processes,
        most=math.ceil(most / n_processes) * n_processes,
        lifetime=_lifetime(options.backend),
    )


def _cores(options: ClusterOptions) -> int:
    cores = options.n_procs if options.n_procs is not None else job_setting(options.backend, "cores")
    if cores is None:
        return 1
    if not isinstance(cores, int) or cores < 1:
        msg = f"--cluster {options.backend}: {cores} cores a job; wanted at least 1"
        raise UsageError(msg)
    return cores


def _memory(options: ClusterOptions, cores: int) -> int:
    if options.mem_bytes is not None:
        return options.mem_bytes
    memory = job_setting(options.backend, "memory")
    if memory is None:
        return cores * DEFAULT_CORE_BYTES
    try:
        return int(parse_bytes(memory))
    except (ValueError, TypeError) as error:
        msg = f"jobqueue.{options.backend}.memory: {memory!r} is not an amount of memory; wanted '16GB'"
        raise UsageError(msg) from error


def _bounds(options: ClusterOptions) -> tuple[int, int]:
    """Fewest and most workers."""
    if options.adapt is not None and options.n_workers is not None:
        msg = "--n-workers and --adapt: give one of them"
        raise UsageError(msg)
    n_workers = DEFAULT_N_WORKERS if options.n_workers is None else options.n_workers
    fewest, most = (n_workers, n_workers) if options.adapt is None else options.adapt
    if fewest < 0 or most < max(fewest, 1):
        given = f"--adapt {fewest}:{most}" if options.adapt else f"--n-workers {n_workers}"
        msg = f"{given}: wanted at least one worker" + (", MIN up to MAX" if options.adapt else "")
        raise UsageError(msg)
    return fewest, most


def _lifetime(backend: str) -> tuple[int, int] | None:
    own = job_setting(backend, "worker-extra-args") or []
    walltime = job_setting(backend, "walltime")
    if walltime is None or "--lifetime" in own:
        return None
    return worker_lifetime(walltime_seconds(walltime, backend))
