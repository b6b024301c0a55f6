"""Jobs that hold workers: submitted, cancelled, and what becomes of them."""

from __future__ import annotations

import asyncio
import logging
import os
import shlex
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distributed.core import Status

from blmm_bids.cluster.container import BIND_VARIABLE
from blmm_bids.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from dask_jobqueue.core import Job

    from blmm_bids.cluster.site import Site

LOGGER = logging.getLogger(__name__)
# Seconds for one submission or cancellation.
_COMMAND_TIMEOUT = 120
# Submissions are refused for this many seconds from the start on before the run is given up.
_REFUSAL_PATIENCE = 15.0
# So many jobs end by themselves, before any worker has come, and the run is given up.
MAX_VAIN_JOBS = 3
_AT_ONE_TIME = 4
_N_LAST_WORDS = 5
_OWNER_ONLY = 0o600
_NOTHING = Path(os.devnull)


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
                + (f"; if a bind of the container is wrong, {BIND_VARIABLE}" if self.site.container else "")
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

    async def call(self, words: Sequence[str], stdin: Path = _NOTHING) -> str:
        """Run a command of the scheduler, here or by ssh; what it printed.

        Parameters
        ----------
        words : sequence of str
            The command and its arguments.
        stdin : Path
            What it reads, a file that is here.

        Raises
        ------
        RuntimeError
            It failed, or gave no answer in time.
        """
        site = self.site
        command = list(words)
        if site.host is not None:
            # A login shell, for a scheduler that the site's profile puts on PATH.
            line = shlex.quote(shlex.join(words))
            remote = f"cd {shlex.quote(str(site.outside(site.run_dir)))} && exec bash -lc {line}"
            command = ["ssh", "-o", "BatchMode=yes", "--", site.host, remote]
        async with self._slots:
            with stdin.open("rb") as stream:
                process = await asyncio.create_subprocess_exec(
                    *command,
                    cwd=site.run_dir,
                    stdin=stream,
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
            self._script = site.run_dir / f"{self.name}.sh"
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
            self._script.write_text(self.job_script(), encoding="utf-8")
            self._script.chmod(_OWNER_ONLY)
            yield str(site.for_commands(self._script))

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

        async def _submit_job(self, script_filename: str) -> str:
            if getattr(self, "use_stdin", False):
                # dask-jobqueue has a shell do this, and throws away what bsub has to say about a refusal.
                return await submissions.call(shlex.split(self.submit_command), self._script)
            return str(await super()._submit_job(script_filename))

        async def close(self) -> None:
            """Cancel."""
            await super().close()
            self.status = Status.closed
            self._event_finished.set()

        @classmethod
        async def _call(cls, cmd: Sequence[str], **_: Any) -> str:  # noqa: ANN401
            return await submissions.call(cmd)

    return WorkerJob
