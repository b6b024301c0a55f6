"""The part of the command lines that says where workers run."""

from __future__ import annotations

import argparse
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blmm_bids.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from blmm_bids.cluster import ClusterOptions

# What workers on this machine run.
_PRELOAD = ("blmm_bids.stages.preload",)


def add_cluster(group: argparse._ArgumentGroup) -> None:
    """Add the options that say where workers run."""
    group.add_argument(
        "--cluster",
        default="local",
        metavar="BACKEND",
        help="where workers run: local, slurm, sge, pbs, lsf, htcondor, oar, moab or external "
        "(default: local)",
    )
    add_cluster_size(group)


def add_cluster_size(group: argparse._ArgumentGroup) -> None:
    """Add the options of a cluster, whichever it is."""
    group.add_argument(
        "--cluster-config",
        type=Path,
        metavar="YAML",
        help="dask-jobqueue's own file; --nprocs and --mem, if given, are cores and memory of a job",
    )
    size = group.add_mutually_exclusive_group()
    size.add_argument("--n-workers", type=int, metavar="N", help="workers on the cluster (default: 4)")
    size.add_argument("--adapt", metavar="MIN:MAX", help="as many workers as there is work for")
    group.add_argument(
        "--scheduler-file",
        type=Path,
        metavar="FILE",
        help="of an external dask scheduler: used where it exists, else one is started and the file written",
    )
    group.add_argument(
        "--write-worker-script",
        action="store_true",
        help="write a job script beside --scheduler-file that starts workers, for any scheduler",
    )
    group.add_argument(
        "--submit-via", metavar="ssh:HOST", help="machine where the scheduler's commands are run"
    )
    group.add_argument(
        "--dashboard",
        action="store_true",
        help="serve dask's pages, which have no password, to all users of this machine",
    )
    group.add_argument(
        "--worker-timeout",
        type=float,
        metavar="SECONDS",
        help="without any worker for so long the run ends with code 75 (default: 1800, 120 after a loss)",
    )


def cluster_options(args: argparse.Namespace, backend: str) -> ClusterOptions:
    """Turn parsed arguments into what the cluster takes."""
    from blmm_bids.cluster import ClusterOptions, parse_memory

    return ClusterOptions(
        backend=backend,
        n_procs=args.nprocs,
        mem_bytes=parse_memory(args.mem) if args.mem else None,
        config=_content(args.cluster_config) if args.cluster_config else {},
        n_workers=args.n_workers,
        adapt=_adapt(args.adapt) if args.adapt else None,
        scheduler_file=args.scheduler_file.absolute() if args.scheduler_file else None,
        write_worker_script=args.write_worker_script,
        submit_via=args.submit_via,
        worker_timeout=args.worker_timeout,
        preload=_PRELOAD,
        dashboard=args.dashboard,
    )


@contextmanager
def early_workers(args: argparse.Namespace, backend: str) -> Iterator[None]:
    """Have workers get ready while this process imports what it needs itself."""
    from blmm_bids.cluster import started_forkserver
    from blmm_bids.stats.kernels.cache_folder import settled_cache

    options = cluster_options(args, backend)
    with settled_cache(args.work_dir or getattr(args, "output_dir", None)), started_forkserver(options):
        yield


def _content(path: Path) -> Mapping[str, Any]:
    from blmm_bids.config.files import read_mapping

    return read_mapping(path, "cluster config")


def _adapt(text: str) -> tuple[int, int]:
    fewest, _, most = text.partition(":")
    if not (fewest.isdecimal() and most.isdecimal()):
        msg = f"--adapt {text}: wanted MIN:MAX, as in 2:20"
        raise UsageError(msg)
    return int(fewest), int(most)
