"""Workers in jobs of a batch scheduler, through dask-jobqueue."""

from __future__ import annotations

import logging
import shutil
import uuid
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import dask.config
from distributed import Client
from tornado.ioloop import PeriodicCallback

from blmm_bids.cluster.certificates import CERTIFICATE_FILES, Certificates, write_certificates
from blmm_bids.cluster.container import current_container
from blmm_bids.cluster.dashboard import dashboard_address, dashboard_settings, pages
from blmm_bids.cluster.dask_config import dask_settings, import_jobqueue
from blmm_bids.cluster.dask_runner import DaskRunner
from blmm_bids.cluster.job_request import JobRequest, job_request
from blmm_bids.cluster.jobs import Submissions, job_class
from blmm_bids.cluster.schedulers import SCHEDULERS
from blmm_bids.cluster.sections import job_setting, scheduler_settings
from blmm_bids.cluster.site import (
    WORKER_MODULE,
    Site,
    check_run_directory,
    find_site,
    worker_arguments,
)
from blmm_bids.cluster.watchdog import Watchdog

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dask_jobqueue.core import JobQueueCluster

    from blmm_bids.cluster.interrupts import Interrupts
    from blmm_bids.cluster.options import ClusterOptions
    from blmm_bids.cluster.runner import Runner

LOGGER = logging.getLogger(__name__)
_JOB_NAME = "blmm-worker"
_THEIR_JOB_NAME = "dask-worker"
_PRIVATE = 0o700
# HTCondor wants to know; dask's own files in a job are small.
_DISK = "1GB"
# Seconds between two looks for jobs to submit again, and for all jobs to be cancelled.
_RETRY_INTERVAL = 5.0
_CLOSE_TIMEOUT = 180.0


@contextmanager
def open_job_queue(options: ClusterOptions, work_dir: Path, interrupts: Interrupts) -> Iterator[Runner]:
    """Submit jobs with workers; they are cancelled when the context ends.

    Parameters
    ----------
    options : ClusterOptions
        Scheduler and sizes.
    work_dir : Path
        Existing, on a file system that workers see.
    interrupts : Interrupts
        Signals to look out for.

    Raises
    ------
    UsageError
        Jobs cannot be submitted from here, or a size that cannot be.
    """
    import_jobqueue()
    with dask_settings(options.config, work_dir), run_directory(work_dir) as run_dir:
        request = job_request(options)
        site = find_site(options.backend, run_dir, options.submit_via, current_container())
        files = write_certificates(run_dir)
        submissions = Submissions(site)
        shown = dashboard_settings(scheduler_settings(options.backend), asked=options.dashboard)
        with (
            dask.config.set(pages(shown=shown["dashboard"])),
            _start(options, request, site, files, submissions) as cluster,
            Client(cluster, security=files.security, set_as_default=False) as client,
        ):
            cluster.adapt(minimum=request.fewest, maximum=request.most)
            LOGGER.info(
                "%s: %s workers, %d in a job of %d cores; logs of jobs in %s",
                options.backend,
                request.most if request.fewest == request.most else f"{request.fewest} to {request.most}",
                request.n_processes,
                request.cores,
                site.log_dir,
            )
            yield DaskRunner(
                client,
                request.most,
                request.bytes_per_worker,
                dashboard_address(cluster) if shown["dashboard"] else None,
                interrupts,
                Watchdog(options.worker_timeout),
                submissions.check,
            )


def plan_workers(options: ClusterOptions, work_dir: Path) -> tuple[int, int]:
    """Count the workers that there would be, and the bytes that each may use; log what a job asks for."""
    import_jobqueue()
    with dask_settings(options.config, work_dir):
        request = job_request(options)
        LOGGER.info("a job of %s:\n%s", options.backend, render_job(options, request, work_dir))
    return request.most, request.bytes_per_worker


@contextmanager
def run_directory(work_dir: Path) -> Iterator[Path]:
    """Make a private directory for one run's certificates and job scripts, and for what jobs say.

    It is deleted in the end; after an error the certificates are, and the rest is kept.
    """
    run_dir = work_dir / f"run-{uuid.uuid4().hex[:8]}"
    run_dir.mkdir(mode=_PRIVATE)
    try:
        yield run_dir
    except BaseException:
        for path in run_dir.glob("*.pem"):
            path.unlink(missing_ok=True)
        raise
    shutil.rmtree(run_dir, ignore_errors=True)


@contextmanager
def _start(
    options: ClusterOptions,
    request: JobRequest,
    site: Site,
    files: Certificates,
    submissions: Submissions,
) -> Iterator[JobQueueCluster]:
    cluster = make_cluster(options, request, site, files, submissions)
    retry = PeriodicCallback(lambda: _drop_dead(cluster, submissions), 1000 * _RETRY_INTERVAL)
    cluster.periodic_callbacks["dead jobs"] = retry
    if cluster.loop is not None:
        # On the loop's own thread, where it has to run.
        cluster.loop.add_callback(retry.start)
    try:
        yield cluster
    finally:
        cluster.close(timeout=_CLOSE_TIMEOUT)


def _drop_dead(cluster: JobQueueCluster, submissions: Submissions) -> None:
    """Let dask see that a refused or ended job is not there; `adapt` then submits it again.

    By itself dask notices only the end of jobs whose workers it has seen.
    """
    connected = [str(name) for name in cluster.observed]
    submissions.has_workers = submissions.has_workers or bool(connected)
    for name, job in list(cluster.workers.items()):
        has_workers = any(worker == name or worker.startswith(f"{name}-") for worker in connected)
        if job.has_ended and not has_workers:
            submissions.n_vain += 1
        elif not job.is_refused:
            continue
        del cluster.workers[name]


def make_cluster(
    options: ClusterOptions, request: JobRequest, site: Site, files: Certificates, submissions: Submissions
) -> JobQueueCluster:
    """Make dask-jobqueue's cluster with our jobs; nothing is submitted yet."""
    base = getattr(import_jobqueue(), site.scheduler.cluster_class)
    own = scheduler_settings(options.backend)
    cluster: JobQueueCluster = base(
        job_cls=job_class(base.job_cls, submissions),
        security=files.security,
        scheduler_options={**own, **dashboard_settings(own, asked=options.dashboard)},
        silence_logs=logging.CRITICAL,
        name=_cluster_name(site),
        **job_settings(options, request, site),
    )
    return cluster


def _cluster_name(site: Site) -> str:
    """Name of a run's cluster; dask numbers the jobs after it."""
    return f"blmm-{site.run_dir.name}"


def render_job(options: ClusterOptions, request: JobRequest, work_dir: Path) -> str:
    """Give the script of a job as it would be submitted from a run with this working directory.

    Raises
    ------
    UsageError
        A working directory that no job script can name, or that no job would see.
    """
    site = Site(SCHEDULERS[options.backend], work_dir / "run-ID", current_container())
    check_run_directory(site.run_dir)
    files = Certificates(*(site.run_dir / name for name in CERTIFICATE_FILES))
    base = getattr(import_jobqueue(), site.scheduler.cluster_class).job_cls
    settings = job_settings(options, request, site)
    with TemporaryDirectory() as scratch:
        # dask-jobqueue makes the log directory as soon as there is a job, and a dry run makes none.
        job = job_class(base, Submissions(site))(
            "tls://SCHEDULER:PORT",
            name=f"{_cluster_name(site)}-0",
            protocol="tls://",
            security=files.security,
            **{**settings, "log_directory": scratch},
        )
        script: str = job.job_script()  # type: ignore[no-untyped-call]
    logs = settings["log_directory"]
    return script.replace(scratch, str(site.outside(site.log_dir)) if logs == str(site.log_dir) else logs)


def job_settings(options: ClusterOptions, request: JobRequest, site: Site) -> dict[str, Any]:
    """Arguments of dask-jobqueue's job that differ from its configuration."""

    def own(name: str) -> Any:  # noqa: ANN401
        return job_setting(options.backend, name)

    directory = own("local-directory")
    settings: dict[str, Any] = {
        "cores": request.cores,
        "memory": f"{request.mem_bytes}B",
        "processes": request.n_processes,
        "python": own("python") or site.python(options.paths),
        "worker_command": WORKER_MODULE,
        "worker_extra_args": [
            *(own("worker-extra-args") or []),
            *worker_arguments(request, site, own_directory=directory is not None),
        ],
        "job_name": _JOB_NAME if own("name") in (None, _THEIR_JOB_NAME) else own("name"),
        "log_directory": own("log-directory") or str(site.log_dir),
    }
    if options.backend == "htcondor":
        settings["disk"] = own("disk") or _DISK
    return settings | _directives(site, own("job-extra-directives"), own("job-directives-skip"))


def _directives(site: Site, own: Any, skipped: Any) -> dict[str, Any]:  # noqa: ANN401
    """Add what the scheduler needs to the user's directives."""
    scheduler = site.scheduler
    if isinstance(own, dict):
        # HTCondor's are a mapping.
        return {"job_extra_directives": own}
    given = [str(directive) for directive in own or ()]
    added = [text for start, text in scheduler.directives if not any(g.startswith(start) for g in given)]
    skip = list(skipped or ())
    if site.container is not None:
        # What is in this process's environment, and where it is, is the container's own.
        if scheduler.clean_directive:
            added.append(scheduler.clean_directive)
        if scheduler.directory_directive:
            added.append(scheduler.directory_directive.format(site.outside(site.run_dir)))
        if scheduler is SCHEDULERS["sge"]:
            skip.append("-cwd")
    return {"job_extra_directives": [*given, *added], "job_directives_skip": skip}
