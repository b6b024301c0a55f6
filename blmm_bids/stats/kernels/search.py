"""The search of each lane: digest an evaluation of the criterion, and say where the next one is wanted."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from blmm_bids.stats.kernels.compiling import inner, kernel
from blmm_bids.stats.kernels.criterion import Lanes
from blmm_bids.stats.kernels.finish import Estimates, write_estimates
from blmm_bids.stats.kernels.fold_lanes import FoldLanes
from blmm_bids.stats.kernels.newton import (
    FIRST_RADIUS,
    Small,
    leave_boundary,
    near_boundary,
    needs_pivoting,
    newton_step,
    raise_floor,
)
from blmm_bids.stats.kernels.products import ZERO_RESIDUAL
from blmm_bids.stats.model import FloatArray, IntArray, Status
from blmm_bids.stats.plan_structure import Structure

MAX_ITER = int(Status.MAX_ITER)
# What a lane's next evaluation is for.
IDLE, FIRST, SEARCH, CHECK, LEAVING, FINAL, PIVOT, EXACT, ARRIVING = -1, 0, 1, 2, 3, 4, 5, 6, 7
# A step that promises less than this share of the tolerance is not taken: Newton's error squares
# at each step, so what is left beyond it is far below.
SPARE = 1e-3
# Near the boundary a step more, so that whether an estimate is singular does not depend on where the search
# came from: where a variance is zero, what is usually near enough is about as far off as lme4's rule looks.
AT_BOUNDARY = 1e-6
# A step that promises this share of what is left to gain is Newton's own, which the radius did not shorten.
FREE = 0.99
# Where the last point was foretold, and is judged by the Hessian of the point before: this share of what is
# near enough, and only so much of theta as would be near the boundary.
FORETOLD = 0.25
AFAR = 0.1
# Relative rounding of the criterion: decreases below it are not decreases.
ROUNDING = 4e-15
SMALLEST_RADIUS = 1e-9


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
    scoring : bool
        Fisher scoring rather than Newton's method.
    joint : bool
        Scoring steps in all factors at once rather than one at a time.
    pseudo : bool
        Scoring with the pseudo-inverse of the information.
    """

    reml: bool
    tol: float
    max_iter: int
    safe_mode: bool
    observed: bool
    information_reml: bool
    resolution: float
    log_det_r: float
    scoring: bool = False
    joint: bool = False
    pseudo: bool = False


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


@kernel
def advance_lanes(
    s: Structure,
    r_inv: FloatArray,
    rules: Rules,
    k: Lanes,
    fl: FoldLanes,
    search: Search,
    small: Small,
    out: Estimates,
) -> int:
    """Let every lane digest its evaluation; the number of lanes that want their effects reordered."""
    n_pivots = 0
    for w in range(search.phase.size):
        is_final = search.phase[w] == FINAL
        if not is_final and search.phase[w] != IDLE:
            is_final = _advance(s, k, w, search, small, rules)
            if search.outcome[w] == ZERO_RESIDUAL:
                out.status[search.voxel[w]] = ZERO_RESIDUAL
                search.phase[w] = IDLE
            elif search.phase[w] == PIVOT:
                n_pivots += 1
        if is_final:
            write_estimates(s, k, w, fl.plain, search, small, r_inv, rules, out)
            search.phase[w] = IDLE
    return n_pivots


@inner
def _advance(s: Structure, k: Lanes, w: int, search: Search, small: Small, rules: Rules) -> bool:
    """Digest one evaluation of a lane and set its next theta; whether it serves inference as it is."""
    n_theta = s.sizes[3]
    search.n_iter[w] += 1
    phase = search.phase[w]
    if phase == CHECK:
        return _leave_or_stay(s, k, w, search, small, rules)  # type: ignore[no-any-return]
    if phase == ARRIVING:
        return _has_arrived(s, k, w, search, small, rules)  # type: ignore[no-any-return]
    value = k.value[w]
    noise = ROUNDING * abs(value)
    better = value <= search.value[w] + (0.0 if phase == LEAVING else noise)
    if phase == LEAVING and not better:
        finalise(s, k, w, search, small, rules)
        return False
    if better:
        _accept(k, w, search, n_theta)
        if not search.rss[w] > search.scale[w, 1]:
            search.outcome[w] = ZERO_RESIDUAL
            return False
    else:
        search.radius[w] *= 0.25
    _next_step(s, k, w, search, small, rules, noise)
    return False


@inner
def _leave_or_stay(s: Structure, k: Lanes, w: int, search: Search, small: Small, rules: Rules) -> bool:
    """Leave the boundary where the score points inside, or end there; whether its inference is known."""
    # The lane's columns as contiguous vectors.
    theta, degrees = small.theta, residual_df(s, search, w, rules)
    for t in range(s.sizes[3]):
        theta[t] = k.theta[t, w]
    _take_slopes(k, w, rules, degrees, small)
    if leave_boundary(s, theta, small.grad, SPARE * rules.tol, small):
        for t in range(s.sizes[3]):
            k.theta[t, w] = theta[t]
        k.weights[2, w] = degrees
        search.phase[w] = LEAVING
        return False
    if serves_inference(rules):
        return True
    finalise(s, k, w, search, small, rules)
    return False


@inner
def _has_arrived(s: Structure, k: Lanes, w: int, search: Search, small: Small, rules: Rules) -> bool:
    """Whether the step that was to be the last one was; otherwise the same point is evaluated in full."""
    degrees = residual_df(s, search, w, rules)
    value = k.value[w] + degrees * math.log(k.rss[w])
    noise = ROUNDING * abs(value)
    _take_slopes(k, w, rules, degrees, small)
    left = newton_step(small.grad, search.hess[w], s.sizes[3], search.radius[w], small)[1]
    is_near = left < FORETOLD * max(2.0 * SPARE * rules.tol, noise)
    if is_near and value <= search.value[w] + noise and k.rss[w] > search.scale[w, 1]:
        keep_best(k, w, search, value)
        return True
    k.weights[2, w] = degrees
    search.phase[w] = SEARCH
    search.n_iter[w] -= 1
    return False


@inner
def _take_slopes(k: Lanes, w: int, rules: Rules, degrees: float, small: Small) -> None:
    """Take the criterion's gradient, which an evaluation for inference leaves the residual's part out of."""
    for t in range(k.grad.shape[0]):
        small.grad[t] = k.grad[t, w]
        if serves_inference(rules):
            small.grad[t] += degrees * k.d_rss[t, w] / k.rss[w]


@inner
def residual_df(s: Structure, search: Search, w: int, rules: Rules) -> float:
    """Count the images that the residual's logarithm stands for."""
    return float(search.n_present[w] - (s.sizes[1] if rules.reml else 0))


@inner
def serves_inference(rules: Rules) -> bool:
    """Whether an evaluation without the residual's part is what inference needs."""
    return not rules.observed and rules.information_reml == rules.reml


@inner
def _accept(k: Lanes, w: int, search: Search, n_theta: int) -> None:
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
    keep_best(k, w, search, k.value[w])
    for t in range(n_theta):
        search.grad[w, t] = k.grad[t, w]
        for r in range(t + 1):
            search.hess[w, t, r] = k.hess[t, r, w]


@inner
def keep_best(k: Lanes, w: int, search: Search, value: float) -> None:
    """Make the point just evaluated the lane's best one."""
    search.value[w] = value
    search.rss[w] = k.rss[w]
    for t in range(search.theta.shape[1]):
        search.theta[w, t] = k.theta[t, w]
    for i in range(search.border.shape[0]):
        search.border[i, w] = k.border[i, w]


@inner
def _next_step(
    s: Structure, k: Lanes, w: int, search: Search, small: Small, rules: Rules, noise: float
) -> None:
    """Take a Newton step from the best point, or end the search there."""
    n_theta = s.sizes[3]
    if n_theta == 0:
        finalise(s, k, w, search, small, rules)
        return
    predicted, left, convex = newton_step(search.grad[w], search.hess[w], n_theta, search.radius[w], small)
    enough = max(2.0 * SPARE * rules.tol, noise)
    if near_boundary(s, search.theta[w]):
        enough *= AT_BOUNDARY
    done = convex and left < enough
    stuck = search.radius[w] < SMALLEST_RADIUS
    if not done and not stuck and _wants_pivoting(s, w, search, small):
        search.phase[w] = PIVOT
        return
    if done or stuck or search.n_iter[w] >= rules.max_iter:
        if not done and not (stuck and left < rules.tol):
            search.outcome[w] = MAX_ITER
        elif (
            near_boundary(s, search.theta[w]) and s.term_size.max() > 1 and search.n_iter[w] < rules.max_iter
        ):
            _check_boundary(s, k, w, search, small, rules)
            return
        finalise(s, k, w, search, small, rules)
        return
    before = search.predicted[w]
    search.predicted[w] = predicted
    for t in range(n_theta):
        k.theta[t, w] = search.theta[w, t] + small.step[t]
    if convex and search.phase[w] == SEARCH and predicted > FREE * left and serves_inference(rules):
        # Newton's error squares; the step before tells at what rate.
        will_be_left = left * (left / before) ** 2 if before > 0.0 else math.inf
        if will_be_left < FORETOLD * enough:
            _arrive(s, k, w, search, small)


@inner
def _arrive(s: Structure, k: Lanes, w: int, search: Search, small: Small) -> None:
    """Ask for inference at the next point too, but not near the boundary, where it has a point of its own."""
    for t in range(s.sizes[3]):
        small.theta[t] = AFAR * k.theta[t, w]
    if not near_boundary(s, small.theta):
        k.weights[2, w] = 0.0
        search.phase[w] = ARRIVING


@inner
def _wants_pivoting(s: Structure, w: int, search: Search, small: Small) -> bool:
    """Whether some term's effects should be taken in another order."""
    for term in range(s.term_size.size):
        if s.term_size[term] > 1 and needs_pivoting(s, search.theta[w], term, small, small.order):
            return True
    return False


@inner
def _check_boundary(s: Structure, k: Lanes, w: int, search: Search, small: Small, rules: Rules) -> None:
    """Ask for the score in D just inside the boundary, and for inference there."""
    theta = small.theta
    for t in range(s.sizes[3]):
        theta[t] = search.theta[w, t]
    raise_floor(s, theta, small)
    for t in range(s.sizes[3]):
        k.theta[t, w] = theta[t]
    if serves_inference(rules):
        k.weights[2, w] = 0.0
    search.phase[w] = CHECK


@inner
def finalise(s: Structure, k: Lanes, w: int, search: Search, small: Small, rules: Rules) -> None:
    """Ask for the evaluation that inference needs, at the estimate."""
    theta = small.theta
    for t in range(s.sizes[3]):
        theta[t] = search.theta[w, t]
    if rules.observed:
        k.weights[2, w] = residual_df(s, search, w, rules)
    else:
        if near_boundary(s, theta):
            raise_floor(s, theta, small)
        k.weights[1, w] = 1.0 if rules.information_reml else 0.0
        k.weights[2, w] = 0.0
    for t in range(s.sizes[3]):
        k.theta[t, w] = theta[t]
    search.phase[w] = FINAL
