"""Rounds of a fit: idle lanes take voxels, all lanes evaluate, each lane digests its result by itself.

`blmm_bids.stats.fit` calls these in turn. The functions come in pairs: as they are where all terms are
eliminated level by level, and ``_folded`` where the first term's levels are folded.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from blmm_bids.stats.kernels.compiling import inner, kernel
from blmm_bids.stats.folding import Folding
from blmm_bids.stats.kernels.criterion import Lanes
from blmm_bids.stats.kernels.finish import Estimates, write_estimates
from blmm_bids.stats.kernels.newton import (
    FIRST_RADIUS,
    Small,
    leave_boundary,
    near_boundary,
    needs_pivoting,
    newton_step,
    raise_floor,
    reorder_theta,
)
from blmm_bids.stats.kernels.fold_products import (
    TOO_MANY_CLASSES,
    FoldPattern,
    compute_fold_pattern,
    reorder_fold,
    store_fold,
)
from blmm_bids.stats.kernels.folding import FoldLanes
from blmm_bids.stats.kernels.products import (
    CONVERGED,
    ZERO_RESIDUAL,
    Pattern,
    compute_pattern,
    reduce_response,
    reorder_effects,
    store_products,
)
from blmm_bids.stats.model import FloatArray, IntArray, Status
from blmm_bids.stats.plan_structure import Structure

MAX_ITER = int(Status.MAX_ITER)
# What a lane's next evaluation is for.
IDLE, FIRST, SEARCH, CHECK, LEAVING, FINAL, PIVOT = -1, 0, 1, 2, 3, 4, 5
# A step that promises less than this share of the tolerance is not taken: Newton's error squares
# at each step, so what is left beyond it is far below.
SPARE = 1e-3
# Relative rounding of the criterion: decreases below it are not decreases.
ROUNDING = 4e-15
SMALLEST_RADIUS = 1e-9
START = 0.7


class Rules(NamedTuple):
    """Options of a fit as numbers.

    Attributes
    ----------
    reml : bool
    tol : float
        On the log-likelihood.
    max_iter : int
        Evaluations per voxel.
    safe_mode : bool
    observed : bool
        Inference from the observed rather than the expected information.
    information_reml : bool
        Whether the information is the restricted one.
    resolution : float
        Machine epsilon of the values.
    log_det_r : float
        ``log |det R|`` of the orthonormalisation.
    """

    reml: bool
    tol: float
    max_iter: int
    safe_mode: bool
    observed: bool
    information_reml: bool
    resolution: float
    log_det_r: float


class Search(NamedTuple):
    """State of each lane's search; the first axis is the lane, but for ``border``, where it is the last.

    ``voxel phase n_iter n_present outcome`` are counters and codes; ``value radius predicted
    theta grad hess border rss`` describe the best point so far; ``order`` is the place that each
    term's effects had before pivoting; ``gamma scale`` undo the response's reduction.
    """

    voxel: IntArray
    phase: IntArray
    n_iter: IntArray
    n_present: IntArray
    outcome: IntArray
    value: FloatArray
    radius: FloatArray
    predicted: FloatArray
    theta: FloatArray
    grad: FloatArray
    hess: FloatArray
    border: FloatArray
    rss: FloatArray
    gamma: FloatArray
    scale: FloatArray
    order: IntArray


def allocate_search(s: Structure, lanes: int) -> Search:
    """Zeroed state for ``lanes`` voxels."""
    n_fixef, n_theta = int(s.sizes[1]), int(s.sizes[3])


    def counters() -> IntArray:
        return np.zeros(lanes, dtype=np.int64)

    return Search(
        voxel=counters(),
        phase=np.full(lanes, IDLE, dtype=np.int64),
        n_iter=counters(),
        n_present=counters(),
        outcome=counters(),
        value=np.zeros(lanes),
        radius=np.zeros(lanes),
        predicted=np.zeros(lanes),
        theta=np.zeros((lanes, n_theta)),
        grad=np.zeros((lanes, n_theta)),
        hess=np.zeros((lanes, n_theta, n_theta)),
        border=np.zeros(((n_fixef + 1) * (n_fixef + 2) // 2, lanes)),
        rss=np.zeros(lanes),
        gamma=np.zeros((lanes, n_fixef)),
        scale=np.zeros((lanes, 2)),
        order=np.zeros((lanes, int(s.effect_start[-1])), dtype=np.int64),
    )


class Queue(NamedTuple):
    """Voxels waiting for a lane.

    Attributes
    ----------
    order : (voxel,)
        Voxels sorted by pattern.
    pattern_ids : (block voxel,)
        Which pattern each voxel of the block has.
    state : (3,)
        Next position in ``order``; pattern whose products are at hand, and its status code.
    values : (obs,)
        Scratch: one voxel's response.
    """

    order: IntArray
    pattern_ids: IntArray
    state: IntArray
    values: FloatArray


@kernel
def load_lanes(
    s: Structure,
    q_basis: FloatArray,
    effects: FloatArray,
    y: FloatArray,
    queue: Queue,
    rules: Rules,
    k: Lanes,
    search: Search,
    pattern: Pattern,
    out: Estimates,
) -> int:
    """Give every idle lane the next voxel that can be fitted; the number of lanes at work.

    Parameters
    ----------
    q_basis, effects
        See `DesignPlan`.
    y : (voxel, obs) float32 or float64
        Values, NaN where missing.
    """
    n_active = 0
    for w in range(search.phase.size):
        while search.phase[w] == IDLE and queue.state[0] < queue.order.size:
            voxel, n_present, is_new = _take(y, queue, out)
            if is_new:
                queue.state[2] = compute_pattern(s, q_basis, effects, queue.values, rules.safe_mode, pattern)
            if _reduce(queue, q_basis, pattern, voxel, w, rules, search, out):
                store_products(s, q_basis, effects, queue.values, pattern, w, k.stats)
                _start(search, k, w, voxel, n_present, s, rules)
        n_active += 0 if search.phase[w] == IDLE else 1
    return n_active


@kernel
def load_lanes_folded(
    s: Structure,
    rest: Structure,
    fold: Folding,
    q_basis: FloatArray,
    effects: FloatArray,
    rest_effects: FloatArray,
    y: FloatArray,
    queue: Queue,
    rules: Rules,
    k: Lanes,
    fl: FoldLanes,
    search: Search,
    pattern: Pattern,
    fold_pattern: FoldPattern,
    level_y: FloatArray,
    out: Estimates,
) -> int:
    """As `load_lanes`; voxels with too many classes keep `TOO_MANY_CLASSES` as their status."""
    n_active = 0
    for w in range(search.phase.size):
        while search.phase[w] == IDLE and queue.state[0] < queue.order.size:
            voxel, n_present, is_new = _take(y, queue, out)
            if is_new:
                code = compute_pattern(rest, q_basis, rest_effects, queue.values, rules.safe_mode, pattern)
                if code == CONVERGED:
                    code = compute_fold_pattern(
                        rest, fold, q_basis, effects, queue.values, n_present, rules.safe_mode, fold_pattern
                    )
                queue.state[2] = code
            if _reduce(queue, q_basis, pattern, voxel, w, rules, search, out):
                store_products(rest, q_basis, rest_effects, queue.values, pattern, w, fl.base)
                store_fold(rest, fold, effects, queue.values, fold_pattern, w, level_y, fl)
                _start(search, k, w, voxel, n_present, s, rules)
        n_active += 0 if search.phase[w] == IDLE else 1
    return n_active


@inner
def _take(y: FloatArray, queue: Queue, out: Estimates) -> tuple[int, int, bool]:
    """Next voxel, its images, and whether its pattern differs from the last one's."""
    voxel = queue.order[queue.state[0]]
    queue.state[0] += 1
    n_present = 0
    for obs in range(queue.values.size):
        queue.values[obs] = y[voxel, obs]
        if not math.isnan(queue.values[obs]):
            n_present += 1
    out.n_obs[voxel] = n_present
    is_new = queue.pattern_ids[voxel] != queue.state[1]
    queue.state[1] = queue.pattern_ids[voxel]
    return voxel, n_present, is_new


@inner
def _reduce(
    queue: Queue,
    q_basis: FloatArray,
    pattern: Pattern,
    voxel: int,
    w: int,
    rules: Rules,
    search: Search,
    out: Estimates,
) -> bool:
    """Reduce the response of a voxel that its pattern allows to be fitted; whether it can be."""
    status = queue.state[2]
    if status == CONVERGED:
        status = reduce_response(
            q_basis, pattern.factor, rules.resolution, queue.values, search.gamma[w], search.scale[w]
        )
    out.status[voxel] = status
    return status == CONVERGED  # type: ignore[no-any-return]


@kernel
def advance_lanes(
    s: Structure,
    r_inv: FloatArray,
    rules: Rules,
    k: Lanes,
    products: Structure,
    stats: FloatArray,
    search: Search,
    small: Small,
    out: Estimates,
) -> int:
    """Let every lane digest its evaluation; the number of lanes that want their effects reordered.

    Parameters
    ----------
    products, stats
        Where `write_estimates` finds [X y]'[X y].
    """
    n_pivots = 0
    for w in range(search.phase.size):
        if search.phase[w] == FINAL:
            write_estimates(s, k, w, products, stats, search, small, r_inv, rules, out)
            search.phase[w] = IDLE
        elif search.phase[w] != IDLE:
            _advance(s, k, w, search, small, rules)
            if search.outcome[w] == ZERO_RESIDUAL:
                out.status[search.voxel[w]] = ZERO_RESIDUAL
                search.phase[w] = IDLE
            elif search.phase[w] == PIVOT:
                n_pivots += 1
    return n_pivots


@kernel
def pivot_lanes(s: Structure, k: Lanes, search: Search, small: Small) -> None:
    """Take the effects of terms in a better order, in the lanes that asked for it."""
    scratch = np.empty(s.term_size.max() ** 2)
    for w in range(search.phase.size):
        if search.phase[w] == PIVOT:
            for term in range(s.term_size.size):
                if _pivot(s, w, term, search, small):
                    reorder_effects(s, k.stats, w, term, small.order, scratch)
                    _compose_order(s, w, term, search, small)
            _resume(k, w, search)


@kernel
def pivot_lanes_folded(
    s: Structure, rest: Structure, fold: Folding, k: Lanes, fl: FoldLanes, search: Search, small: Small
) -> None:
    """As `pivot_lanes`."""
    scratch = np.empty(s.term_size.max() ** 2)
    for w in range(search.phase.size):
        if search.phase[w] == PIVOT:
            for term in range(s.term_size.size):
                if not _pivot(s, w, term, search, small):
                    continue
                if term == 0:
                    reorder_fold(fold, w, small.order, scratch, fl)
                else:
                    reorder_effects(rest, fl.base, w, term - 1, small.order, scratch)
                    for c in range(fl.n_classes[w]):
                        for pair in range(fl.totals.shape[1]):
                            reorder_effects(rest, fl.totals[c, pair], w, term - 1, small.order, scratch)
                _compose_order(s, w, term, search, small)
            _resume(k, w, search)


@inner
def _pivot(s: Structure, w: int, term: int, search: Search, small: Small) -> bool:
    """Whether a term wants another order; its theta and ``small.order`` are that order's then."""
    if s.term_size[term] == 1 or not needs_pivoting(s, search.theta[w], term, small, small.order):
        return False
    reorder_theta(s, search.theta[w], term, small, small.order)
    return True


@inner
def _compose_order(s: Structure, w: int, term: int, search: Search, small: Small) -> None:
    """Remember where a term's effects were before any pivoting."""
    start = s.effect_start[term]
    for e in range(s.term_size[term]):
        small.order[e] = search.order[w, start + small.order[e]]
    for e in range(s.term_size[term]):
        search.order[w, start + e] = small.order[e]


@inner
def _resume(k: Lanes, w: int, search: Search) -> None:
    """Evaluate the same point in its new coordinates; taken whatever rounding does to its value."""
    for t in range(search.theta.shape[1]):
        k.theta[t, w] = search.theta[w, t]
    search.phase[w] = FIRST
    search.value[w] = math.inf


@inner
def _start(
    search: Search, k: Lanes, w: int, voxel: int, n_present: int, s: Structure, rules: Rules
) -> None:
    """First point of a lane's search."""
    search.voxel[w] = voxel
    search.phase[w] = FIRST
    search.n_iter[w] = 0
    search.n_present[w] = n_present
    search.outcome[w] = CONVERGED
    search.radius[w] = FIRST_RADIUS
    search.value[w] = math.inf
    k.weights[0, w] = 1.0
    k.weights[1, w] = 1.0 if rules.reml else 0.0
    k.weights[2, w] = float(n_present - s.sizes[1]) if rules.reml else float(n_present)
    for term in range(s.term_size.size):
        t = s.theta_start[term]
        for f in range(s.term_size[term]):
            search.order[w, s.effect_start[term] + f] = f
            for e in range(f, s.term_size[term]):
                k.theta[t, w] = START if e == f else 0.0
                t += 1


@inner
def _advance(s: Structure, k: Lanes, w: int, search: Search, small: Small, rules: Rules) -> None:
    """Digest one evaluation of a lane and set its next theta."""
    n_theta = s.sizes[3]
    search.n_iter[w] += 1
    phase = search.phase[w]
    if phase == CHECK:
        # The lane's columns as contiguous vectors; the best point's gradient is not needed any more.
        theta = small.theta
        for t in range(n_theta):
            theta[t] = k.theta[t, w]
            search.grad[w, t] = k.grad[t, w]
        if leave_boundary(s, theta, search.grad[w], SPARE * rules.tol, small):
            for t in range(n_theta):
                k.theta[t, w] = theta[t]
            search.phase[w] = LEAVING
        else:
            _finalise(s, k, w, search, small, rules)
        return
    value = k.value[w]
    noise = ROUNDING * abs(value)
    better = value <= search.value[w] + (0.0 if phase == LEAVING else noise)
    if phase == LEAVING and not better:
        _finalise(s, k, w, search, small, rules)
        return
    if better:
        _accept(k, w, search, small, n_theta)
        if not search.rss[w] > search.scale[w, 1]:
            search.outcome[w] = ZERO_RESIDUAL
            return
    else:
        search.radius[w] *= 0.25
    _next_step(s, k, w, search, small, rules, noise)


@inner
def _accept(k: Lanes, w: int, search: Search, small: Small, n_theta: int) -> None:
    """Make the lane's trial point its best one; adapt the radius to how well it was predicted."""
    if search.phase[w] == SEARCH and search.predicted[w] > 0.0:
        ratio = (search.value[w] - k.value[w]) / search.predicted[w]
        if ratio < 0.25:
            search.radius[w] *= 0.25
        elif ratio > 0.75:
            search.radius[w] *= 2.0
    elif search.phase[w] == LEAVING:
        search.radius[w] = FIRST_RADIUS
    search.phase[w] = SEARCH
    search.value[w] = k.value[w]
    search.rss[w] = k.rss[w]
    for t in range(n_theta):
        search.theta[w, t] = k.theta[t, w]
        search.grad[w, t] = k.grad[t, w]
        for r in range(t + 1):
            search.hess[w, t, r] = k.hess[t, r, w]
    for i in range(search.border.shape[0]):
        search.border[i, w] = k.border[i, w]


@inner
def _next_step(
    s: Structure, k: Lanes, w: int, search: Search, small: Small, rules: Rules, noise: float
) -> None:
    """Take a Newton step from the best point, or end the search there."""
    n_theta = s.sizes[3]
    if n_theta == 0:
        _finalise(s, k, w, search, small, rules)
        return
    predicted, left, convex = newton_step(search.grad[w], search.hess[w], n_theta, search.radius[w], small)
    done = convex and left < max(2.0 * SPARE * rules.tol, noise)
    stuck = search.radius[w] < SMALLEST_RADIUS
    if not done and not stuck and _wants_pivoting(s, w, search, small):
        search.phase[w] = PIVOT
        return
    if done or stuck or search.n_iter[w] >= rules.max_iter:
        if not done and not (stuck and left < rules.tol):
            search.outcome[w] = MAX_ITER
        elif near_boundary(s, search.theta[w]) and s.term_size.max() > 1 and search.n_iter[w] < rules.max_iter:
            _check_boundary(s, k, w, search, small)
            return
        _finalise(s, k, w, search, small, rules)
        return
    search.predicted[w] = predicted
    for t in range(n_theta):
        k.theta[t, w] = search.theta[w, t] + small.step[t]


@inner
def _wants_pivoting(s: Structure, w: int, search: Search, small: Small) -> bool:
    """Whether some term's effects should be taken in another order."""
    for term in range(s.term_size.size):
        if s.term_size[term] > 1 and needs_pivoting(s, search.theta[w], term, small, small.order):
            return True
    return False


@inner
def _check_boundary(s: Structure, k: Lanes, w: int, search: Search, small: Small) -> None:
    """Ask for the score in D just inside the boundary."""
    theta = small.theta
    for t in range(s.sizes[3]):
        theta[t] = search.theta[w, t]
    raise_floor(s, theta, small)
    for t in range(s.sizes[3]):
        k.theta[t, w] = theta[t]
    search.phase[w] = CHECK


@inner
def _finalise(s: Structure, k: Lanes, w: int, search: Search, small: Small, rules: Rules) -> None:
    """Ask for the evaluation that inference needs, at the estimate."""
    theta = small.theta
    for t in range(s.sizes[3]):
        theta[t] = search.theta[w, t]
    if not rules.observed:
        if near_boundary(s, theta):
            raise_floor(s, theta, small)
        k.weights[1, w] = 1.0 if rules.information_reml else 0.0
        k.weights[2, w] = 0.0
    for t in range(s.sizes[3]):
        k.theta[t, w] = theta[t]
    search.phase[w] = FINAL
