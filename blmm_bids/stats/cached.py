"""Kernels that an earlier process compiled, loaded ahead of the first fit."""

from __future__ import annotations

from typing import NoReturn

from blmm_bids.stats.fit import STEPS, compile_step
from blmm_bids.stats.model import Method


def load_compiled(dtype: str, method: Method) -> bool:
    """Load the steps of `fit_voxels` from numba's cache, as far as they are there; nothing is compiled.

    Parameters
    ----------
    dtype : {"float32", "float64"}
        Of the values.
    method : str
        See `FitOptions`.

    Returns
    -------
    bool
        Whether all are loaded.
    """
    # First of all: they choose the processor that numba compiles for, which it asks for once.
    import blmm_bids.stats.kernels  # noqa: F401
    from numba.core import event  # isort: skip

    class Refusing(event.Listener):
        """Stops numba where it sets out to compile."""

        def on_start(self, event: object) -> NoReturn:  # noqa: ARG002
            raise _NotCompiledError

        def on_end(self, event: object) -> None:
            """Nothing ends that was not begun."""

    with event.install_listener("numba:compile", Refusing()):
        try:
            for step in STEPS:
                compile_step(step, dtype, method)
        except _NotCompiledError:
            return False
    return True


class _NotCompiledError(Exception):
    """A kernel is not in the cache."""
