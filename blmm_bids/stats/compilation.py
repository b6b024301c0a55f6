"""Kernels are compiled, or loaded from numba's cache, ahead of the first fit."""

from __future__ import annotations

from typing import NoReturn

import numpy as np

from blmm_bids.stats.fit import make_rules
from blmm_bids.stats.model import Design, FitOptions, Method, RandomTerm
from blmm_bids.stats.modes import conditional_modes
from blmm_bids.stats.plan import make_plan

# What there is to compile, the slowest first: the steps of a round of `fit_voxels`, and `conditional_modes`.
MODES = "modes"
STEPS = ("evaluate", "load", "advance", MODES, "pivot")


def deal_steps(n: int) -> list[tuple[str, ...]]:
    """Deal `STEPS` out to ``n`` processes, to and fro so that all take about as long; none gets nothing."""
    there = range(n)
    turns = [*there, *reversed(there)]
    dealt: list[list[str]] = [[] for _ in there]
    for i, step in enumerate(STEPS):
        dealt[turns[i % len(turns)]].append(step)
    return [tuple(steps) for steps in dealt if steps]


def compile_steps(steps: tuple[str, ...], dtype: str, method: Method) -> None:
    """Compile some of what a fit calls, or load it from numba's cache.

    Several processes that take some steps each are ready sooner than one that compiles them all, and than
    many that all compile the same.

    Parameters
    ----------
    steps : tuple of str
        Of `STEPS`.
    dtype : {"float32", "float64"}
        Of the values.
    method : str
        See `FitOptions`.
    """
    from blmm_bids.stats.kernels.finish import allocate_estimates
    from blmm_bids.stats.kernels.rounds import bind_rounds

    refs = np.repeat(np.arange(4), 4)
    ones = np.ones((16, 1))
    plan = make_plan(Design(ones, ("1",), (RandomTerm("a", ("1", "2", "3", "4"), refs, ones, ("1",)),)))
    # No voxels, and all lanes idle: there is nothing to do but to be compiled.
    y, none = np.zeros((0, 16), dtype=dtype), np.zeros(0, dtype=np.int64)
    rules = make_rules(plan, y, FitOptions(method=method))
    out = allocate_estimates(0, plan.n_fixef, plan.n_theta)
    rounds = bind_rounds(plan, plan.passes[0], y, none, none, rules, out)
    for step in steps:
        if step == MODES:
            conditional_modes(plan, y, np.zeros((0, plan.n_theta)), none)
        else:
            getattr(rounds, step)()


def load_compiled(dtype: str, method: Method) -> bool:
    """Load what an earlier process compiled from numba's cache, as far as it is there; nothing is compiled.

    Parameters
    ----------
    dtype, method
        See `compile_steps`.

    Returns
    -------
    bool
        Whether all is loaded.
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
            compile_steps(STEPS, dtype, method)
        except _NotCompiledError:
            return False
    return True


class _NotCompiledError(Exception):
    """A kernel is not in the cache."""
