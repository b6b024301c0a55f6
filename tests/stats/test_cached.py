"""Kernels are loaded where they are in the cache, and left alone where they are not."""

from __future__ import annotations

import os
import subprocess
import sys

from blmm_bids.stats.fit import STEPS, compile_step

CODE = """
from blmm_bids.stats.cached import load_compiled
from blmm_bids.stats.kernels.folding import evaluate

print(load_compiled("float32", "default"), sum(evaluate.stats.cache_misses.values()))
"""


def run(cache=None):
    environment = os.environ | ({} if cache is None else {"NUMBA_CACHE_DIR": str(cache)})
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_load_compiled__compiles_nothing(tmp_path):
    assert run(tmp_path)[0] == "False"
    assert list(tmp_path.rglob("*.nbc")) == []


def test_load_compiled__finds_what_a_process_compiled():
    for step in STEPS:
        compile_step(step, "float32", "default")
    assert run() == ["True", "0"]
