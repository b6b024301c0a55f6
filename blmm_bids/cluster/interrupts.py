"""Ctrl-C and SIGTERM while workers run: both end the run in order, and neither goes unheeded."""

from __future__ import annotations

import signal
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from blmm_bids.errors import TerminatedError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

# Seconds after which an exception that was lost is raised again.
_AGAIN = 0.05
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """What was asked for by signal.

    The exception that a handler raises is lost when Python happens to run a ``__del__``, a callback of
    the garbage collector or one of LLVM's at that moment, and dask's futures have a ``__del__`` of some
    length. So it is remembered as well, `check` raises it again, and a lost one is raised again by itself
    a little later.

    Attributes
    ----------
    received : signal.Signals, optional
        The last one.
    closing : bool
        The workers are being stopped: a further signal must not keep jobs from being cancelled.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self.closing = False

    def check(self) -> None:
        """Raise what a signal asked for.

        Raises
        ------
        KeyboardInterrupt
            Ctrl-C.
        TerminatedError
            SIGTERM.
        """
        if self.received is signal.SIGTERM:
            raise TerminatedError
        if self.received is not None:
            raise KeyboardInterrupt

    def handle(self, signum: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """Signal handler."""
        if not self.closing:
            self.received = signal.Signals(signum)
            self.check()

    def again(self, lost: sys.UnraisableHookArgs) -> bool:
        """Take note of an exception that Python lost; whether it was raised here, and will be once more."""
        if self.received is None or not issubclass(lost.exc_type, KeyboardInterrupt):
            return False
        timer = threading.Timer(_AGAIN, signal.pthread_kill, (threading.main_thread().ident, self.received))
        timer.daemon = True
        timer.start()
        return True


@contextmanager
def catch_interrupts() -> Iterator[Interrupts]:
    """Handle both signals until the context ends; one that the process ignores stays ignored."""
    interrupts = Interrupts()
    if threading.current_thread() is not threading.main_thread():
        yield interrupts
        return
    before = {signum: signal.getsignal(signum) for signum in _SIGNALS}
    ours = [signum for signum, handler in before.items() if handler is not signal.SIG_IGN]
    for signum in ours:
        signal.signal(signum, interrupts.handle)
    hook = sys.unraisablehook

    def report(lost: sys.UnraisableHookArgs) -> None:
        if not interrupts.again(lost):
            hook(lost)

    sys.unraisablehook = report
    try:
        yield interrupts
    finally:
        sys.unraisablehook = hook
        for signum in ours:
            signal.signal(signum, before[signum])
