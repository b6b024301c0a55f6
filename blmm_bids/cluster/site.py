"""Where jobs are submitted from, and the command that starts workers in them."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from blmm_bids.cluster.schedulers import SCHEDULERS, Scheduler
from blmm_bids.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from blmm_bids.cluster.container import Container
    from blmm_bids.cluster.job_request import JobRequest

WORKER_MODULE = "blmm_bids.cluster.worker"
LOOPBACK = "127.0.0.1"
# Of the main process's variables, those that a worker elsewhere needs as well.
_PASSED_ON = (
    "BLMM_KERNEL_CACHE",
    "NUMBA_CACHE_DIR",
    "NUMBA_CPU_NAME",
    "NUMBA_CPU_FEATURES",
)
_SSH = "ssh:"


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

    def for_commands(self, script: Path) -> Path:
        """Path of a job's script where the scheduler's commands see it."""
        is_read_here = self.host is None or self.scheduler.script_is_inline
        return script if is_read_here else self.outside(script)

    def python(self, paths: Sequence[Path], environ: Mapping[str, str] = os.environ) -> str:
        """Shell words that run this Python, in this container, in a job."""
        passed = {name: environ[name] for name in _PASSED_ON if name in environ}
        if self.container is not None:
            return self.container.command([sys.executable], passed, [*paths, self.run_dir])
        if environ.get("PYTHONPATH"):
            places = environ["PYTHONPATH"].split(os.pathsep)
            passed["PYTHONPATH"] = os.pathsep.join(str(Path(place).absolute()) for place in places)
        words = [f"{name}={value}" for name, value in passed.items()]
        return shlex.join([*(["env", *words] if words else []), sys.executable])


def check_run_directory(run_dir: Path) -> None:
    """Make sure that job scripts can name it.

    Raises
    ------
    UsageError
        Its path has blanks or signs.
    """
    if shlex.quote(str(run_dir)) != str(run_dir):
        msg = (
            f"--work-dir: job scripts cannot hold a path with blanks or signs, as {run_dir} has; give "
            "another one"
        )
        raise UsageError(msg)


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
    check_run_directory(run_dir)
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
    arguments += ["--no-dashboard", "--dashboard-address", f"{LOOPBACK}:0"]
    if request.lifetime is not None:
        lifetime, stagger = request.lifetime
        arguments += ["--lifetime", f"{lifetime}s", "--lifetime-stagger", f"{stagger}s"]
    if not own_directory:
        arguments += ["--local-directory", str(site.run_dir)]
    return arguments
