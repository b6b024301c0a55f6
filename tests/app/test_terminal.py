"""Lines and bars on a terminal."""

from __future__ import annotations

import io
import logging

from rich.console import Console

from blmm_bids.app.terminal import TerminalHandler
from blmm_bids.stages.progress import TICK, Standing


def record(level, text, standing=None):
    made = logging.LogRecord("blmm_bids", level, __file__, 1, text, None, None)
    if standing:
        made.standing = standing
    return made


def test_terminal_handler__prints_lines_in_order_and_a_bar_between():
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=100, color_system=None)
    handler = TerminalHandler(logging.INFO, console)
    handler.emit(record(logging.DEBUG, "hidden"))
    handler.emit(record(logging.WARNING, "mind [bold]this[/bold]"))
    handler.emit(record(TICK, "images read: 3 of 9", Standing("images read", 3, 9, 2.5, 2.4)))
    handler.emit(record(logging.INFO, "images read: 9 of 9", Standing("images read", 9, 9, 2.5, 0.0)))
    handler.close()
    text = stream.getvalue()
    assert "hidden" not in text
    # Markup is the user's text here, not ours.
    assert "mind [bold]this[/bold]" in text
    assert "images read ━" in text
    assert text.rstrip().endswith("images read: 9 of 9")
