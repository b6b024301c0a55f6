"""Jobs that hold workers: their scripts, and the commands that submit and cancel them."""

from __future__ import annotations

import asyncio
import logging
import os
import shlex
import shutil
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from distributed.core import Status

from blmm_bids.cluster.container import Container
from blmm_bids.cluster.schedulers import SCHEDULERS, Scheduler
from blmm_bids.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from dask_jobqueue.core import Job

    from blmm_bids.cluster.job_request import JobRequest

LOGGER = logging.getLogger(__name__)
WORKER_MODULE = "blmm_bids.cluster.worker"
# Of the main process's variables, those that a worker elsewhere needs as well.
_PASSED_ON = ("NUMBA_CACHE_DIR", "NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES")
_SSH = "ssh:"
# Seconds for one submission or cancellation.
_COMMAND_TIMEOUT = 120
# Submissions are refused for this many seconds from the start on before the run is given up.
_REFUSAL_PATIENCE = 15.0
# So many jobs end by themselves, before any worker has come, and the run is given up.
MAX_VAIN_JOBS = 3
_AT_ONE_TIME = 4
_N_LAST_WORDS = 5
_OWNER_ONLY = 0o600


@dataclass(frozen=True)
class Site:
    """Where jobs are submitted, and what they run in.

    Attributes
    ----------
    scheduler : Scheduler
    run_dir : Path
        Directory of the run, on a file system that workers see.
    container : Container, optional
        That this process runs in, and workers too.
    host : str, optional
        Where ssh runs the scheduler's commands.
    """

    scheduler: Scheduler
    run_dir: Path
    container: Container | None = None
    host: str | None = None

    @property
    def log_dir(self) -> Path:
        """Where jobs write what they say."""
        return self.run_dir / "logs"

    def outside(self, path: Path) -> Path:
        """Path on the host."""
        return path if self.container is None else self.container.host_path(path)

    def python(self, paths: Sequence[Path], environ: Mapping[str, str] = os.environ) -> str:
        """Shell words that run this Python, in this container, in a job."""
        passed = {name: environ[name] for name in _PASSED_ON if name in environ}
        if self.container is not None:
            return self.container.command([sys.executable], passed, [*paths, self.run_dir])
        if environ.get("PYTHONPATH"):
            passed["PYTHONPATH"] = environ["PYTHONPATH"]
        words = [f"{name}={value}" for name, value in passed.items()]
        return shlex.join([*(["env", *words] if words else []), sys.executable])


def find_site(
    backend: str,
    run_dir: Path,
    submit_via: str | None,
    container: Container | None,
) -> Site:
    """Make sure that jobs can be submitted from here.

    Raises
    ------
    UsageError
        The scheduler's commands are not there; says how to have them.
    """
    scheduler = SCHEDULERS[backend]
    if shlex.quote(str(run_dir)) != str(run_dir):
        msg = (
            f"--work-dir: job scripts cannot hold a path with blanks or signs, as {run_dir} has; give "
            "another one"
        )
        raise UsageError(msg)
    host = None
    if submit_via is not None:
        host = submit_via.removeprefix(_SSH)
        if not submit_via.startswith(_SSH) or not host or host.startswith("-"):
            msg = f"--submit-via {submit_via}: wanted ssh:HOST, a machine where {scheduler.submit} works"
            raise UsageError(msg)
    missing = [
        name
        for name in ((scheduler.submit, scheduler.cancel) if host is None else ("ssh",))
        if shutil.which(name) is None
    ]
    if missing:
        raise UsageError(_missing_message(scheduler, missing[0], container))
    return Site(scheduler, run_dir, container, host)


def _missing_message(scheduler: Scheduler, program: str, container: Container | None) -> str:
    if program == "ssh":
        return "--submit-via: there is no ssh on PATH; install it, or submit from where the scheduler is"
    if container is None:
        return (
            f"--cluster {scheduler.name}: {program} is not on PATH; run this on a machine where it is (a "
            "login node, after loading its module), or add --submit-via ssh:HOST"
        )
    return (
        f"--cluster {scheduler.name}: {program} is not in the container. Lend it the scheduler's client: "
        "add\n"
        f"  --bind {','.join(scheduler.client_paths)}\n"
        f"to {container.program} run, with the paths that these files have on this machine; or add "
        "--submit-via ssh:HOST. docs/clusters.md has more ways"
    )


class Submissions:
    """What becomes of the jobs.

    Attributes
    ----------
    site : Site
    has_workers : bool
        Some job has brought a worker.
    n_vain : int
        Jobs that ended by themselves before that.
    """

    def __init__(self, site: Site) -> None:
        self.site = site
        self.has_workers = False
        self.n_vain = 0
        self._refusal: str | None = None
        self._first_refusal: float | None = None
        self._was_accepted = False
        self._slots = asyncio.Semaphore(_AT_ONE_TIME)

    def accepted(self) -> None:
        """Note a job that was taken."""
        self._was_accepted = True

    def refused(self, error: Exception) -> None:
        """Note a job that was not taken."""
        if self._first_refusal is None:
            self._first_refusal = time.monotonic()
            LOGGER.warning("%s refused a job: %s", self.site.scheduler.submit, _essence(error))
        self._refusal = _essence(error)

    def check(self) -> None:
        """Give up when not a single job is ever taken, or none brings a worker.

        Raises
        ------
        UsageError
            Gives the scheduler's own words, or the jobs'.
        """
        if self.n_vain >= MAX_VAIN_JOBS and not self.has_workers:
            msg = (
                f"{self.n_vain} jobs have ended without a worker having come. What the last one said:\n"
                f"{_last_words(self.site.log_dir)}\nThe logs and job scripts are in {self.site.run_dir}. If "
                "workers did not reach the scheduler, set interface in --cluster-config"
            )
            raise UsageError(msg)
        if self._was_accepted or self._first_refusal is None:
            return
        if time.monotonic() - self._first_refusal > _REFUSAL_PATIENCE:
            msg = (
                f"{self.site.scheduler.submit} takes no job: {self._refusal}\nThe job script is in "
                f"{self.site.run_dir}; correct --cluster-config (queue, account, memory, walltime)"
            )
            raise UsageError(msg)

    async def call(self, words: Sequence[str], *, shell: bool) -> str:
        """Run a command of the scheduler, here or by ssh; what it printed.

        Raises
        ------
        RuntimeError
            It failed, or gave no answer in time.
        """
        site = self.site
        line = words[0] if shell else shlex.join(words)
        if site.host is not None:
            # A login shell, for a scheduler that the site's profile puts on PATH.
            remote = f"cd {shlex.quote(str(site.outside(site.run_dir)))} && exec bash -lc {shlex.quote(line)}"
            command = ["ssh", "-o", "BatchMode=yes", "--", site.host, remote]
        else:
            command = ["bash", "-c", line] if shell else list(words)
        async with self._slots:
            process = await asyncio.create_subprocess_exec(
                *command,
                cwd=site.run_dir,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                # Ctrl-C is for this process, which cancels the jobs; not for the command that does so.
                start_new_session=True,
            )
            try:
                out, err = await asyncio.wait_for(process.communicate(), _COMMAND_TIMEOUT)
            except TimeoutError as error:
                process.kill()
                msg = f"{command[0]}: no answer in {_COMMAND_TIMEOUT} s"
                raise RuntimeError(msg) from error
        if process.returncode != 0:
            msg = f"{shlex.join(command)}: exit code {process.returncode}: {(err or out).decode().strip()}"
            raise RuntimeError(msg)
        return out.decode()


def _last_words(log_dir: Path) -> str:
    """Last lines of the newest log that has any."""
    logs = sorted(log_dir.glob("*"), key=lambda path: path.stat().st_mtime, reverse=True)
    texts = (path.read_text(encoding="utf-8", errors="replace").strip() for path in logs)
    lines = next(filter(None, texts), "(nothing)").splitlines()
    return "\n".join(f"  {line}" for line in lines[-_N_LAST_WORDS:])


def _essence(error: Exception) -> str:
    return " ".join(str(error).split())


def job_class(base: type[Job], submissions: Submissions) -> type[Job]:
    """Make a scheduler's job of dask-jobqueue submit as the site needs, and outlive a refusal."""
    site = submissions.site

    class WorkerJob(base):  # type: ignore[misc, valid-type]
        """A job with worker processes."""

        is_refused = False

        def __init__(self, *args: Any, **settings: Any) -> None:  # noqa: ANN401
            super().__init__(*args, **settings)
            # Only a job that ends by itself gets that far; the scheduler's commands to ask differ too much.
            self._end_mark = site.run_dir / f"{self.name}.ended"
            self._command_template += f" ; touch {shlex.quote(str(site.outside(self._end_mark)))}"

        @property
        def has_ended(self) -> bool:
            """Whether the worker's command has returned."""
            return self._end_mark.exists()

        def job_script(self) -> str:
            """Give the script, with the host's paths where the scheduler reads it."""
            script: str = super().job_script()
            return script.replace(str(site.log_dir), str(site.outside(site.log_dir)))

        @contextmanager
        def job_file(self) -> Iterator[str]:
            """Write the script where the scheduler's commands see it."""
            path = site.run_dir / f"{self.name}.sh"
            path.write_text(self.job_script(), encoding="utf-8")
            path.chmod(_OWNER_ONLY)
            elsewhere = site.host is not None and not site.scheduler.script_is_inline
            yield str(site.outside(path) if elsewhere else path)

        async def start(self) -> None:
            """Submit; a refusal is noted, and another job is tried later."""
            self._end_mark.unlink(missing_ok=True)
            try:
                await super().start()
                submissions.accepted()
            except (RuntimeError, ValueError, OSError) as error:
                submissions.refused(error)
                self.is_refused = True
                self.status = Status.running

        async def close(self) -> None:
            """Cancel."""
            await super().close()
            self.status = Status.closed
            self._event_finished.set()

        @classmethod
        async def _call(cls, cmd: Sequence[str], *, shell: bool = False, **_: Any) -> str:  # noqa: ANN401
            return await submissions.call(cmd, shell=shell)

    return WorkerJob


def worker_arguments(request: JobRequest, site: Site, *, own_directory: bool) -> list[str]:
    """Arguments of the worker command that do not depend on the job.

    Parameters
    ----------
    request : JobRequest
    site : Site
    own_directory : bool
        The user names a directory for dask's own files.
    """
    arguments = ["--nthreads", "1", "--memory-limit", f"{request.bytes_per_worker}B", "--nanny"]
    arguments += ["--nworkers", str(request.n_processes)]
    arguments += ["--no-dashboard", "--dashboard-address", "127.0.0.1:0"]
    if request.lifetime is not None:
        lifetime, stagger = request.lifetime
        arguments += ["--lifetime", f"{lifetime}s", "--lifetime-stagger", f"{stagger}s"]
    if not own_directory:
        arguments += ["--local-directory", str(site.run_dir)]
    return arguments
