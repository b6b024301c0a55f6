"""OUTPUT_DIR and the working directory: made, locked, and left tidy."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from blmm_bids.config.settings import Settings
from blmm_bids.errors import OutputError
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
    TemporaryError
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
        work_dir = WorkDir.open(settings.work.work_dir)
        stack.enter_context(work_dir.locked())
        if settings.work.resume:
            work_dir.sweep()
        else:
            work_dir.prune()
        try:
            yield work_dir
        finally:
            if work_dir.path.is_dir():
                work_dir.sweep()
                if not work_dir.has_stages:
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
    return Places(
        {
            "BIDS_DIR": settings.dataset.bids_dir,
            **derivatives,
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
    finally:
        logger.removeHandler(handler)
        handler.close()


def _closed(output_dir: Path, error: OSError) -> OutputError:
    return OutputError(
        f"OUTPUT_DIR {output_dir} cannot be written: {error.strerror or error}; name another one"
    )
