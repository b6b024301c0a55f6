"""Hangs are failures."""

from __future__ import annotations

import signal
from contextlib import contextmanager

import pytest


@contextmanager
def in_seconds(seconds, what="it"):
    """Fail what takes longer, in the main thread."""

    def ring(*_):
        pytest.fail(f"{what} took more than {seconds} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
