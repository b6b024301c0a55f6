"""Ctrl-C and SIGTERM, delivered to this process by the system."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
import time

import pytest

from blmm_bids.cluster import ClusterOptions, open_cluster
from blmm_bids.cluster.interrupts import catch_interrupts
from blmm_bids.errors import TerminatedError


class Swallowing:
    """Python prints and drops what is raised while this is deleted, as while dask's futures are."""

    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(10_000):
            pass


@pytest.mark.parametrize(
    ("signum", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, TerminatedError)]
)
def test_catch_interrupts__raises(signum, error):
    before = signal.getsignal(signum)
    with pytest.raises(error) as caught, catch_interrupts():
        signal.raise_signal(signum)
    assert type(caught.value) is error
    assert signal.getsignal(signum) is before


def interrupted_while_deleting():
    with catch_interrupts() as interrupts:
        interrupts.check()
        mark = Swallowing()
        del mark
        gc.collect()
        assert interrupts.received is signal.SIGINT
        time.sleep(5)


def test_catch_interrupts__raises_again_what_python_dropped(capfd):
    hook = sys.unraisablehook
    with pytest.raises(KeyboardInterrupt):
        interrupted_while_deleting()
    assert sys.unraisablehook is hook
    assert capfd.readouterr().err == ""


def terminated_in_a_callback(work_dir):
    with open_cluster(ClusterOptions(n_procs=1), work_dir):
        with contextlib.suppress(TerminatedError):
            signal.raise_signal(signal.SIGTERM)
        msg = "symbol not found"
        raise RuntimeError(msg)


def test_open_cluster__is_terminated_whatever_fails_of_it(tmp_path):
    """LLVM makes other exceptions of ours."""
    with pytest.raises(TerminatedError):
        terminated_in_a_callback(tmp_path)


def test_catch_interrupts__leaves_ignored_signals_alone():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with catch_interrupts() as interrupts:
            os.kill(os.getpid(), signal.SIGINT)
            interrupts.check()
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_handle__does_not_disturb_the_end():
    with catch_interrupts() as interrupts:
        interrupts.closing = True
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        interrupts.check()
