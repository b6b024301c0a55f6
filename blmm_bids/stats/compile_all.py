"""Compile all kernels into numba's cache: ``python -m blmm_bids.stats.compile_all``.

What an image does when it is built; elsewhere the first run of a fit does it.
"""

from __future__ import annotations

from blmm_bids.stats.compilation import STEPS, compile_steps
from blmm_bids.stats.methods import UPDATES

DTYPES = ("float32", "float64")


def compile_all() -> None:
    """Compile what fits of all methods call, for values of either precision."""
    for dtype in DTYPES:
        for method in UPDATES:
            compile_steps(STEPS, dtype, method)


if __name__ == "__main__":
    compile_all()
