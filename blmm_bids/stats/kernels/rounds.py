"""The rounds of a fit, from the first voxel loaded to the last one written."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from blmm_bids.stats.kernels.batches import allocate_batch, make_queue
from blmm_bids.stats.kernels.criterion import allocate_factors, allocate_lanes
from blmm_bids.stats.kernels.finish import Estimates, allocate_estimates
from blmm_bids.stats.kernels.fold_lanes import allocate_fold
from blmm_bids.stats.kernels.fold_products import TOO_MANY_CLASSES
from blmm_bids.stats.kernels.folding import evaluate
from blmm_bids.stats.kernels.loading import load_lanes
from blmm_bids.stats.kernels.newton import allocate_small
from blmm_bids.stats.kernels.pivoting import pivot_lanes
from blmm_bids.stats.kernels.records import by_reference
from blmm_bids.stats.kernels.scoring import allocate_scoring, score_lanes
from blmm_bids.stats.kernels.search import Rules, advance_lanes, allocate_search

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from blmm_bids.stats.model import IntArray
    from blmm_bids.stats.plan import DesignPlan, Pass


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


def fit_waiting(
    plan: DesignPlan, y: NDArray[np.floating], order: IntArray, pattern_ids: IntArray, rules: Rules
) -> Estimates:
    """Fit the voxels in ``order``; those with more classes than one pass has room for go to the next one.

    Parameters
    ----------
    plan : DesignPlan
    y : (voxel, obs)
    order : (voxel,)
        Voxels to fit, sorted by pattern.
    pattern_ids : (voxel,)
    rules : Rules
    """
    out = allocate_estimates(y.shape[0], plan.n_fixef, plan.n_theta)
    for one_pass in plan.passes:
        if order.size:
            run_rounds(bind_rounds(plan, one_pass, y, order, pattern_ids, rules, out))
            order = order[out.status[order] == TOO_MANY_CLASSES]
    return out


def bind_rounds(
    plan: DesignPlan,
    one_pass: Pass,
    y: NDArray[np.floating],
    order: IntArray,
    pattern_ids: IntArray,
    rules: Rules,
    out: Estimates,
) -> Rounds:
    """Bind the steps of one pass to working arrays; see `fit_waiting`."""
    fold, lanes = one_pass.fold, one_pass.lanes
    s, rest = by_reference(plan.structure), by_reference(one_pass.rest)
    fold_record, estimates = by_reference(fold), by_reference(out)
    k = by_reference(allocate_lanes(plan.structure, lanes))
    kr = by_reference(allocate_factors(one_pass.rest, lanes))
    fl = by_reference(allocate_fold(one_pass.rest, fold, lanes))
    search = by_reference(allocate_search(plan.structure, lanes))
    small = by_reference(allocate_small(plan.n_theta, plan.n_fixef))
    r_inv = plan.coef_from_q
    queue = by_reference(make_queue(order, pattern_ids, plan.n_obs))
    batch = by_reference(allocate_batch(one_pass.rest, fold))
    if rules.scoring:
        scoring = by_reference(allocate_scoring(plan.n_theta, lanes))

    def advance() -> int:
        # Each is compiled by those alone who use it.
        if rules.scoring:
            return score_lanes(s, r_inv, rules, k, fl, search, small, scoring, estimates)  # type: ignore[no-any-return]
        return advance_lanes(s, r_inv, rules, k, fl, search, small, estimates)  # type: ignore[no-any-return]

    return Rounds(
        load=lambda: load_lanes(
            s, rest, fold_record, plan.Q, one_pass.effects, y, queue, rules, k, fl, search, batch, estimates,
        ),
        evaluate=lambda: evaluate(rest, fold_record, k, kr, fl),
        advance=advance,
        pivot=lambda: pivot_lanes(s, rest, fold_record, k, fl, search, small),
        out=out,
    )  # fmt: skip
