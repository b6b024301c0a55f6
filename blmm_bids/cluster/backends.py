"""The backends by name; each is imported only when it is asked for."""

from __future__ import annotations

import logging
from contextlib import ExitStack, contextmanager
from difflib import get_close_matches
from importlib import import_module
from typing import TYPE_CHECKING

from blmm_bids.cluster.interrupts import catch_interrupts
from blmm_bids.cluster.runner import SynchronousRunner
from blmm_bids.errors import BlmmError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from blmm_bids.cluster.interrupts import Interrupts
    from blmm_bids.cluster.options import ClusterOptions
    from blmm_bids.cluster.runner import Runner

    _Opener = Callable[[ClusterOptions, Path, Interrupts], AbstractContextManager[Runner]]
    _Planner = Callable[[ClusterOptions, Path], tuple[int, int]]

LOGGER = logging.getLogger(__name__)

# Name -> module and function (options, work_dir, interrupts) -> context manager of a Runner.
_JOB_QUEUE = ("blmm_bids.cluster.job_queue", "open_job_queue")
_OPENERS: dict[str, tuple[str, str]] = {
    "local": ("blmm_bids.cluster.local", "open_local"),
    "slurm": _JOB_QUEUE,
    "sge": _JOB_QUEUE,
    "pbs": _JOB_QUEUE,
    "lsf": _JOB_QUEUE,
    "htcondor": _JOB_QUEUE,
    "oar": _JOB_QUEUE,
    "moab": _JOB_QUEUE,
    "external": ("blmm_bids.cluster.external", "open_external"),
}
BACKENDS = tuple(_OPENERS)


@contextmanager
def open_cluster(options: ClusterOptions, work_dir: Path) -> Iterator[Runner]:
    """Start the workers that the options ask for; they are gone when the context ends.

    Ctrl-C and SIGTERM end it in order: jobs are cancelled, and finished work stays.

    Parameters
    ----------
    options : ClusterOptions
        Backend and its size.
    work_dir : Path
        Existing directory, the only one written to.

    Raises
    ------
    UsageError
        Unknown backend, one that cannot be used from here, or a size that cannot be.
    """
    with catch_interrupts() as interrupts, ExitStack() as stack:
        with _one_message(options):
            runner = stack.enter_context(_opener(options.backend)(options, work_dir, interrupts))
        if runner.dashboard:
            LOGGER.info("dashboard: %s", runner.dashboard)
        try:
            yield runner
        except Exception:
            # A signal may arrive in a callback, of LLVM for instance, that makes another exception of ours.
            interrupts.check()
            raise
        finally:
            interrupts.closing = True


def plan_cluster(options: ClusterOptions, work_dir: Path) -> SynchronousRunner:
    """Say how many workers there would be, and of which size, without starting any.

    Parameters
    ----------
    options : ClusterOptions
        Backend and its size.
    work_dir : Path
        It need not exist.

    Raises
    ------
    UsageError
        Unknown backend, or a size that cannot be.
    """
    with _one_message(options):
        planner: _Planner = import_module(_place(options.backend)[0]).plan_workers
        n_workers, bytes_per_worker = planner(options, work_dir)
    return SynchronousRunner(n_workers, bytes_per_worker)


@contextmanager
def _one_message(options: ClusterOptions) -> Iterator[None]:
    """Turn whatever dask or dask-jobqueue refuses at the start, in many words, into one message."""
    try:
        yield
    except BlmmError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.filename is not None:
            raise  # of a file, not of theirs
        said = " ".join(str(error).split()) or type(error).__name__
        msg = (
            f"--cluster {options.backend}: dask does not start: {said}\nCorrect its configuration: "
            "--cluster-config, files in ~/.config/dask, variables DASK_…; --debug shows where it stopped"
        )
        raise UsageError(msg) from error


def _opener(backend: str) -> _Opener:
    module, name = _place(backend)
    opener: _Opener = getattr(import_module(module), name)
    return opener


def _place(backend: str) -> tuple[str, str]:
    if backend not in _OPENERS:
        close = get_close_matches(backend, BACKENDS, n=1)
        guess = f"; did you mean {close[0]}?" if close else ""
        msg = f"--cluster {backend}: unknown; wanted one of {', '.join(BACKENDS)}{guess}"
        raise UsageError(msg)
    return _OPENERS[backend]
