"""What a person at a terminal sees: bars that move, warnings in colour."""

from __future__ import annotations

import logging
import sys

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from blmm_bids.errors import bounded

_STYLES = {logging.WARNING: "yellow", logging.ERROR: "bold red", logging.CRITICAL: "bold red"}


class _ScreenFormatter(logging.Formatter):
    """Keeps warnings to a screen; what is told on request may be longer."""

    def format(self, record: logging.LogRecord) -> str:
        """Format a record."""
        text = super().format(record)
        return bounded(text, "the log has all") if record.levelno >= logging.WARNING else text


class TerminalHandler(logging.Handler):
    """Log records as lines, and those of progress as a bar.

    Parameters
    ----------
    level : int
        Least level of a line; bars are drawn at any.
    console : Console, optional
        Where to write; the terminal behind standard error by default.
    """

    def __init__(self, level: int, console: Console | None = None) -> None:
        super().__init__()
        self.least = level
        self.console = console or Console(stderr=True, highlight=False)
        self._bars: Progress | None = None
        self._task: TaskID | None = None
        self._what = ""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, or move the bar."""
        try:
            standing = getattr(record, "standing", None)
            if standing is not None:
                self._move(standing.what, standing.done, standing.total, standing.rate)
                if not standing.is_done:
                    return
                self._stop()
            if record.levelno < self.least:
                return
            style = _STYLES.get(record.levelno, "")
            self.console.print(Text(self.format(record), style=style), soft_wrap=True)
        except (OSError, ValueError):
            self.handleError(record)

    def close(self) -> None:
        """Take the bar away."""
        self._stop()
        super().close()

    def _move(self, what: str, done: int, total: int, rate: float) -> None:
        if self._bars is None or self._task is None or what != self._what:
            self._stop()
            self._bars = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[speed]}"),
                TimeRemainingColumn(),
                console=self.console,
                transient=True,
            )
            self._bars.start()
            self._task, self._what = self._bars.add_task(what, total=total, speed=""), what
        self._bars.update(self._task, completed=done, speed=f"{rate:.4g}/s")

    def _stop(self) -> None:
        if self._bars is not None:
            self._bars.stop()
        self._bars = self._task = None


def set_up_logging(verbose: int, *, quiet: bool) -> None:
    """Send this package's messages to standard error: with bars on a terminal, plain lines elsewhere."""
    level = logging.WARNING if quiet else logging.DEBUG if verbose else logging.INFO
    logger = logging.getLogger("blmm_bids")
    handler: logging.Handler
    if sys.stderr.isatty() and not quiet:
        handler = TerminalHandler(level)
        # Ticks of progress are below DEBUG.
        logger.setLevel(1)
    else:
        handler = logging.StreamHandler(sys.stderr)
        handler.setLevel(level)
        logger.setLevel(logging.DEBUG)
    handler.setFormatter(_ScreenFormatter("%(message)s"))
    for other in logger.handlers:
        other.close()
    logger.handlers = [handler]
    logger.propagate = False
