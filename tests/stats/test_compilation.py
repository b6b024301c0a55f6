"""Kernels are loaded where they are in the cache, and left alone where they are not."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from blmm_bids.stats.compilation import STEPS, compile_steps, deal_steps

CODE = """
from blmm_bids.stats.compilation import load_compiled
from blmm_bids.stats.kernels.folding import evaluate

print(load_compiled("float32", "default"), sum(evaluate.stats.cache_misses.values()))
"""


PROCESSOR = """
from blmm_bids.stats.compilation import load_compiled
load_compiled("float32", "default")
from numba.core.registry import cpu_target
print(cpu_target.target_context.codegen().magic_tuple()[1])
"""


def run(cache=None, code=CODE, **variables):
    environment = os.environ | variables | ({} if cache is None else {"NUMBA_CACHE_DIR": str(cache)})
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize(
    ("n", "dealt"),
    [
        (1, [STEPS]),
        (2, [(STEPS[0], STEPS[3], STEPS[4]), (STEPS[1], STEPS[2])]),
        (3, [(STEPS[0],), (STEPS[1], STEPS[4]), (STEPS[2], STEPS[3])]),
        (50, [(step,) for step in STEPS]),
    ],
)
def test_deal_steps__goes_to_and_fro(n, dealt):
    assert deal_steps(n) == dealt


def test_load_compiled__compiles_nothing(tmp_path):
    assert run(tmp_path)[0] == "False"
    assert list(tmp_path.rglob("*.nbc")) == []


def test_load_compiled__finds_what_a_process_compiled():
    compile_steps(STEPS, "float32", "default")
    assert run() == ["True", "0"]


def test_load_compiled__lets_the_kernels_choose_the_processor_first(tmp_path, monkeypatch):
    monkeypatch.delenv("NUMBA_CPU_NAME", raising=False)
    code = f"from blmm_bids.stats import kernels\n{PROCESSOR}"
    chosen = run(tmp_path, code, BLMM_KERNEL_CACHE=str(tmp_path))
    assert run(tmp_path, PROCESSOR, BLMM_KERNEL_CACHE=str(tmp_path)) == chosen
