"""What workers need, imported by the process that they are copies of; see `cluster.forkserver`.

To import this module is to do it.
"""

from __future__ import annotations

import gc
import signal
from contextlib import suppress
from importlib import import_module

from blmm_bids.stats.compilation import load_compiled
from blmm_bids.stats.model import FitOptions

# That of nearly all images; workers load what another one needs by themselves.
DTYPE = "float32"


def _preload() -> None:
    # Ctrl-C is for the process that reports it.
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        import_module("blmm_bids.cluster.local_worker")
        import_module("blmm_bids.stages")
        # What goes wrong here goes wrong again in a worker, where it can be reported.
        with suppress(Exception):
            load_compiled(DTYPE, FitOptions().method)
        # Pages with nothing but these objects stay shared by all copies.
        gc.freeze()
    finally:
        signal.signal(signal.SIGINT, handler)


_preload()
