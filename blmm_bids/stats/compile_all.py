"""Compile all kernels into numba's cache: ``python -m blmm_bids.stats.compile_all``.

What an image does when it is built; elsewhere the first run of a fit does it.
"""

from __future__ import annotations

import numpy as np

from blmm_bids.stats.fit import STEPS, compile_step
from blmm_bids.stats.methods import UPDATES
from blmm_bids.stats.model import Design, RandomTerm
from blmm_bids.stats.modes import conditional_modes
from blmm_bids.stats.plan import make_plan

DTYPES = ("float32", "float64")


def compile_all() -> None:
    """Compile what `fit_voxels` and `conditional_modes` call, for values of either precision."""
    for dtype in DTYPES:
        for method in UPDATES:
            for step in STEPS:
                compile_step(step, dtype, method)
        _compile_modes(dtype)


def _compile_modes(dtype: str) -> None:
    refs, ones = np.repeat(np.arange(4), 4), np.ones((16, 1))
    plan = make_plan(Design(ones, ("1",), (RandomTerm("a", ("1", "2", "3", "4"), refs, ones, ("1",)),)))
    # No voxels: there is nothing to do but to be compiled.
    y, status = np.zeros((0, 16), dtype=dtype), np.zeros(0, dtype=np.int64)
    conditional_modes(plan, y, np.zeros((0, plan.n_theta)), status)


if __name__ == "__main__":
    compile_all()
