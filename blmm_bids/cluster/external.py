"""Workers that somebody else starts: a dask scheduler that is there already, or one of ours."""

from __future__ import annotations

import json
import logging
import os
import shlex
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import dask.config
from distributed import Client, Scheduler, SpecCluster

from blmm_bids.cluster.certificates import write_certificates
from blmm_bids.cluster.container import current_container
from blmm_bids.cluster.dashboard import dashboard_address, dashboard_settings, pages
from blmm_bids.cluster.dask_config import dask_settings
from blmm_bids.cluster.dask_runner import DaskRunner
from blmm_bids.cluster.job_queue import run_directory
from blmm_bids.cluster.job_request import JobRequest, job_request
from blmm_bids.cluster.schedulers import EXTERNAL
from blmm_bids.cluster.sections import job_setting, scheduler_settings
from blmm_bids.cluster.site import WORKER_MODULE, Site, worker_arguments
from blmm_bids.cluster.watchdog import PENDING_TIMEOUT, Watchdog
from blmm_bids.errors import OutputError, TemporaryError, UsageError
from blmm_bids.regular_files import LARGEST_JSON, read_regular

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from blmm_bids.cluster.interrupts import Interrupts
    from blmm_bids.cluster.options import ClusterOptions
    from blmm_bids.cluster.runner import Runner

LOGGER = logging.getLogger(__name__)
_OWNER_ONLY = 0o600
_OWNER_RUNS = 0o700
# Seconds that a worker looks for the scheduler, and this process for one that was there before.
_DEATH_TIMEOUT = 300
_CONNECT_TIMEOUT = 30
_SCRIPT = """\
#!/usr/bin/env bash
# Workers of one run of blmm_bids: {n_processes} in a job of {cores} processors and {memory}. Submit it while
# that run waits, as often as there should be workers, for instance
#   sbatch --array=1-{n_jobs} --cpus-per-task={cores} --mem={megabytes}M --time=04:00:00 {path}
#   qsub -t 1-{n_jobs} -S /bin/bash {path}
#   bsub -J "blmm[1-{n_jobs}]" -n {cores} < {path}
# Lines that your site needs first (module load …) go here.

exec {command}
"""


@contextmanager
def open_external(options: ClusterOptions, work_dir: Path, interrupts: Interrupts) -> Iterator[Runner]:
    """Use the dask scheduler of ``--scheduler-file``, or start one and write the file.

    Parameters
    ----------
    options : ClusterOptions
        The file, and how many workers of which size there will be.
    work_dir : Path
        Existing, on a file system that workers see.
    interrupts : Interrupts
        Signals to look out for.

    Raises
    ------
    UsageError
        No file is named, or what it holds is not one of dask's.
    TemporaryError
        The scheduler that it names does not answer, or has no worker.
    """
    file = _scheduler_file(options)
    with dask_settings(options.config, work_dir):
        there = file.exists()
        opened = _connect(options, file, interrupts) if there else _start(options, file, work_dir, interrupts)
        with opened as runner:
            yield runner


def plan_workers(options: ClusterOptions, work_dir: Path) -> tuple[int, int]:
    """Count the workers that there would be, and the bytes that each may use."""
    _scheduler_file(options)
    with dask_settings(options.config, work_dir):
        request = job_request(options)
    return request.most, request.bytes_per_worker


def _scheduler_file(options: ClusterOptions) -> Path:
    if options.scheduler_file is None:
        msg = "--cluster external: wanted --scheduler-file FILE, of a dask scheduler or for a new one"
        raise UsageError(msg)
    path = str(options.scheduler_file)
    if options.write_worker_script and shlex.quote(path) != path:
        msg = (
            "--scheduler-file: the worker script beside it cannot hold a path with blanks or signs, as "
            f"{path!r} has; give another one"
        )
        raise UsageError(msg)
    return options.scheduler_file


@contextmanager
def _connect(options: ClusterOptions, file: Path, interrupts: Interrupts) -> Iterator[Runner]:
    """Use a scheduler that is there, with dask's configured TLS."""
    address = _read_address(file)
    try:
        client = Client(address, timeout=_CONNECT_TIMEOUT, set_as_default=False)
    except OSError as error:
        msg = (
            f"{file}: no scheduler answers at {address} ({error}); start it, or delete the file if it is of "
            "one that has ended"
        )
        raise TemporaryError(msg) from error
    with client:
        n_workers, bytes_per_worker = _workers_there(client, options)
        LOGGER.info("external: %d workers at %s", n_workers, address)
        yield DaskRunner(
            client,
            n_workers,
            bytes_per_worker,
            client.dashboard_link,
            interrupts,
            Watchdog(options.worker_timeout, had_workers=True),
        )


def _read_address(file: Path) -> str:
    try:
        return str(json.loads(read_regular(file, LARGEST_JSON))["address"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        msg = f"--scheduler-file {file}: not one that `dask scheduler --scheduler-file` writes ({error!r})"
        raise UsageError(msg) from error


def _workers_there(client: Client, options: ClusterOptions) -> tuple[int, int]:
    """How many tasks the workers run at one time, and the bytes for each; waits for the first."""
    timeout = PENDING_TIMEOUT if options.worker_timeout is None else options.worker_timeout
    try:
        client.wait_for_workers(1, timeout=timeout)
    except TimeoutError as error:
        msg = f"no worker has come for {timeout:.0f} s; run the same command again when there are some"
        raise TemporaryError(msg) from error
    workers: list[dict[str, Any]] = list(client.scheduler_info()["workers"].values())
    request = job_request(options)
    n_threads = sum(worker["nthreads"] for worker in workers)
    limits = [worker["memory_limit"] // worker["nthreads"] for worker in workers if worker["memory_limit"]]
    most = n_threads if options.n_workers is None and options.adapt is None else request.most
    given = options.mem_bytes is not None or not limits
    return most, request.bytes_per_worker if given else min(limits)


@contextmanager
def _start(options: ClusterOptions, file: Path, work_dir: Path, interrupts: Interrupts) -> Iterator[Runner]:
    """Start a scheduler in this process."""
    with run_directory(work_dir) as run_dir:
        request = job_request(options)
        files = write_certificates(run_dir)
        own = scheduler_settings(options.backend)
        shown = dashboard_settings(own, asked=options.dashboard)
        scheduler_options = {
            "security": files.security,
            "protocol": "tls://",
            "interface": None if "host" in own else job_setting(options.backend, "interface"),
            **own,
            **shown,
        }
        with (
            dask.config.set(pages(shown=shown["dashboard"])),
            SpecCluster(
                scheduler={"cls": Scheduler, "options": scheduler_options},
                security=files.security,
                silence_logs=logging.CRITICAL,
                name=f"blmm-{run_dir.name}",
            ) as cluster,
            Client(cluster, security=files.security, set_as_default=False) as client,
        ):
            site = Site(EXTERNAL, run_dir, current_container())
            arguments = worker_arguments(request, site, own_directory=False)
            contact = [cluster.scheduler_address, "--death-timeout", str(_DEATH_TIMEOUT), *files.options]
            command = f"{site.python(options.paths)} -m {WORKER_MODULE} {shlex.join([*contact, *arguments])}"
            _write(file, json.dumps(cluster.scheduler.identity(), indent=2), _OWNER_ONLY)
            try:
                _tell(options, request, file, command)
                yield DaskRunner(
                    client,
                    request.most,
                    request.bytes_per_worker,
                    dashboard_address(cluster) if shown["dashboard"] else None,
                    interrupts,
                    Watchdog(options.worker_timeout),
                )
            finally:
                file.unlink(missing_ok=True)


def _tell(options: ClusterOptions, request: JobRequest, file: Path, command: str) -> None:
    """Say how workers are started."""
    if not options.write_worker_script:
        LOGGER.info("external: wrote %s; start workers with\n%s", file, command)
        return
    path = file.with_name(f"{file.stem}_worker.sh")
    script = _SCRIPT.format(
        n_processes=request.n_processes,
        cores=request.cores,
        memory=f"{request.mem_bytes / 2**30:.3g} GB",
        megabytes=request.mem_bytes // 2**20,
        n_jobs=request.most // request.n_processes,
        path=path,
        command=command,
    )
    _write(path, script, _OWNER_RUNS)
    LOGGER.info("external: wrote %s and %s; submit the latter, it says how", file, path)


def _write(path: Path, text: str, mode: int) -> None:
    """Write a file aside that only its owner may read, then rename it."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(text)
        aside.replace(path)
    except OSError as error:
        msg = f"{path} cannot be written: {error.strerror or error}; name another --scheduler-file"
        raise OutputError(msg) from error
