"""OUTPUT_DIR and the working directory: made, locked, and left tidy."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from blmm_bids.config.settings import Settings
from blmm_bids.errors import BlmmError, OutputError, TerminatedError
from blmm_bids.outputs.lock import locked
from blmm_bids.outputs.privacy import Places
from blmm_bids.outputs.workdir import WorkDir


@contextmanager
def opened_directories(settings: Settings) -> Iterator[WorkDir]:
    """Make and lock OUTPUT_DIR with its log and the working directory; no other run gets in meanwhile.

    A working directory in which nothing was computed goes at the end.

    Raises
    ------
    OutputError
        One of them cannot be written, or is something else.
    BusyError
        Another run is at work in one of them.
    """
    logs = settings.output_dir / "logs"
    with ExitStack() as stack:
        try:
            logs.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _closed(settings.output_dir, error) from error
        stack.enter_context(locked(logs))
        stack.enter_context(_log_file(logs / "blmm_bids.log", places_of(settings)))
        work_dir = WorkDir.open(settings.work.work_dir, resume=settings.work.resume)
        stack.enter_context(work_dir.locked())
        # What the jobs of an earlier run said stays until a run succeeds.
        work_dir.sweep(keep_jobs=True)
        has_failed = True
        try:
            yield work_dir
            has_failed = False
        finally:
            if work_dir.path.is_dir():
                work_dir.sweep(keep_jobs=has_failed)
                if not work_dir.has_stages and not work_dir.has_jobs:
                    work_dir.remove()


class _Discreet(logging.Formatter):
    """Lines without the paths of this machine: the log is part of a dataset that may be shared."""

    def __init__(self, places: Places) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")
        self.places = places

    def format(self, record: logging.LogRecord) -> str:
        """Format a record, and hide paths in it."""
        return self.places.hide(super().format(record))


def places_of(settings: Settings) -> Places:
    """Names of the run's directories."""
    derivatives = {
        f"DERIVATIVES{n}": path for n, (_, path) in enumerate(settings.dataset.derivatives, start=1)
    }
    table = settings.dataset.images_tsv
    return Places(
        {
            "BIDS_DIR": settings.dataset.bids_dir,
            **derivatives,
            **({"IMAGES_DIR": table.parent} if table else {}),
            "OUTPUT_DIR": settings.output_dir,
            "WORK_DIR": settings.work.work_dir,
            "~": Path(os.path.expanduser("~")),  # noqa: PTH111
        }
    )


@contextmanager
def _log_file(path: Path, places: Places) -> Iterator[None]:
    try:
        # The logs of other models stay.
        handler = logging.FileHandler(path, mode="a", encoding="utf-8")
    except OSError as error:
        raise _closed(path.parent.parent, error) from error
    handler.setFormatter(_Discreet(places))
    logger = logging.getLogger("blmm_bids")
    logger.addHandler(handler)
    try:
        yield
    except BaseException as error:
        handler.handle(_last_record(error))
        raise
    finally:
        logger.removeHandler(handler)
        handler.close()


def _last_record(error: BaseException) -> logging.LogRecord:
    """Why a run ends, for the log alone: the terminal is told by the command line."""
    code = getattr(error, "exit_code", None)
    is_known = isinstance(error, BlmmError | KeyboardInterrupt | OSError)
    text = str(error) or ("terminated" if isinstance(error, TerminatedError) else type(error).__name__)
    text = f"the run ends{'' if code is None else f' with exit code {code}'}: {text}"
    trace = None if is_known else (type(error), error, error.__traceback__)
    return logging.LogRecord("blmm_bids", logging.CRITICAL, __file__, 0, text, None, trace)


def _closed(output_dir: Path, error: OSError) -> OutputError:
    return OutputError(
        f"OUTPUT_DIR {output_dir} cannot be written: {error.strerror or error}; name another one"
    )
