"""The rounds of a fit, from the first voxel loaded to the last one written."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from blmm_bids.stats.kernels.criterion import Lanes, allocate_lanes, evaluate
from blmm_bids.stats.kernels.finish import Estimates, allocate_estimates
from blmm_bids.stats.kernels.fold_classes import allocate_fold
from blmm_bids.stats.kernels.fold_products import TOO_MANY_CLASSES, allocate_fold_pattern
from blmm_bids.stats.kernels.folding import evaluate_folded
from blmm_bids.stats.kernels.loading import Queue, load_lanes, load_lanes_folded
from blmm_bids.stats.kernels.newton import allocate_small
from blmm_bids.stats.kernels.pivoting import pivot_lanes, pivot_lanes_folded
from blmm_bids.stats.kernels.products import allocate_pattern
from blmm_bids.stats.kernels.search import Rules, advance_lanes, allocate_search

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from blmm_bids.stats.model import IntArray
    from blmm_bids.stats.plan import DesignPlan


class Rounds(NamedTuple):
    """The four steps of a round, bound to their working arrays.

    Attributes
    ----------
    load : callable
        Give idle lanes voxels; the number of lanes at work.
    evaluate : callable
        The criterion in every lane.
    advance : callable
        Let each lane digest it; the number that want their effects reordered.
    pivot : callable
        Reorder them.
    out : Estimates
    """

    load: Callable[[], int]
    evaluate: Callable[[], None]
    advance: Callable[[], int]
    pivot: Callable[[], None]
    out: Estimates


def run_rounds(rounds: Rounds) -> Estimates:
    """Fit all voxels that wait; their estimates."""
    while rounds.load():
        rounds.evaluate()
        if rounds.advance():
            rounds.pivot()
    return rounds.out


def fit_levelwise(
    plan: DesignPlan,
    y: NDArray[np.floating],
    order: IntArray,
    pattern_ids: IntArray,
    rules: Rules,
    out: Estimates | None,
) -> Estimates:
    """Fit voxels with every level of every term eliminated on its own.

    Parameters
    ----------
    plan : DesignPlan
    y : (voxel, obs)
    order : (voxel,)
        Voxels to fit, sorted by pattern.
    pattern_ids : (voxel,)
    rules : Rules
    out : Estimates or None
        What other voxels have already; made where None.
    """
    if out is None:
        out = allocate_estimates(y.shape[0], plan.n_fixef, plan.n_theta)
    if order.size == 0:
        return out
    return run_rounds(levelwise_rounds(plan, y, order, pattern_ids, rules, out))


def levelwise_rounds(
    plan: DesignPlan,
    y: NDArray[np.floating],
    order: IntArray,
    pattern_ids: IntArray,
    rules: Rules,
    out: Estimates,
) -> Rounds:
    """Bind the steps of `fit_levelwise`; see there."""
    s = plan.structure
    k = allocate_lanes(s, plan.lanes)
    search = allocate_search(s, plan.lanes)
    small = allocate_small(plan.n_theta, plan.n_fixef)
    pattern = allocate_pattern(s)
    queue = _queue(order, pattern_ids, y.shape[1])
    return Rounds(
        load=lambda: load_lanes(s, plan.Q, plan.effects, y, queue, rules, k, search, pattern, out),
        evaluate=lambda: evaluate(s, k),
        advance=lambda: advance_lanes(s, plan.R_inv, rules, k, s, k.stats, search, small, out),
        pivot=lambda: pivot_lanes(s, k, search, small),
        out=out,
    )


def fit_folded(
    plan: DesignPlan, y: NDArray[np.floating], order: IntArray, pattern_ids: IntArray, rules: Rules
) -> tuple[Estimates, IntArray]:
    """Fit voxels with the first term folded; estimates, and the voxels left to `fit_levelwise`."""
    out = run_rounds(folded_rounds(plan, y, order, pattern_ids, rules))
    return out, order[out.status[order] == TOO_MANY_CLASSES]


def folded_rounds(
    plan: DesignPlan, y: NDArray[np.floating], order: IntArray, pattern_ids: IntArray, rules: Rules
) -> Rounds:
    """Bind the steps of `fit_folded`; see there."""
    if plan.folded is None:
        msg = "the plan has no folded term"
        raise ValueError(msg)
    s, rest, fold, effects, lanes = (
        plan.structure,
        plan.folded.rest,
        plan.folded.fold,
        plan.folded.effects,
        plan.folded.lanes,
    )
    out = allocate_estimates(y.shape[0], plan.n_fixef, plan.n_theta)
    k, kr = allocate_outputs(plan, lanes), allocate_lanes(rest, lanes)
    fl = allocate_fold(rest, fold, lanes)
    search = allocate_search(s, lanes)
    small = allocate_small(plan.n_theta, plan.n_fixef)
    pattern, fold_pattern = allocate_pattern(rest), allocate_fold_pattern(rest, fold)
    level_y = np.zeros((int(fold.sizes[1]), int(fold.sizes[0])))
    queue = _queue(order, pattern_ids, y.shape[1])
    return Rounds(
        load=lambda: load_lanes_folded(
            s, rest, fold, plan.Q, plan.effects, effects, y, queue, rules, k, fl, search, pattern,
            fold_pattern, level_y, out,
        ),
        evaluate=lambda: evaluate_folded(rest, fold, k, kr, fl),
        advance=lambda: advance_lanes(s, plan.R_inv, rules, k, rest, fl.base, search, small, out),
        pivot=lambda: pivot_lanes_folded(s, rest, fold, k, fl, search, small),
        out=out,
    )  # fmt: skip


def allocate_outputs(plan: DesignPlan, lanes: int) -> Lanes:
    """Lanes of the whole model with room for input and output only."""
    s = plan.structure
    empty = s._replace(row_idx=s.row_idx[:0], sizes=np.array([0, *s.sizes[1:8], 0]))
    return allocate_lanes(empty, lanes)


def _queue(order: IntArray, pattern_ids: IntArray, n_obs: int) -> Queue:
    return Queue(order, pattern_ids, np.array([0, -1, 0]), np.zeros(n_obs))
