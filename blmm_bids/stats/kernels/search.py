"""Fit a block of voxels: every lane searches on its own and takes the next voxel when it is done."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from blmm_bids.stats.kernels.compiling import kernel
from blmm_bids.stats.kernels.criterion import Lanes, evaluate
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
from blmm_bids.stats.kernels.products import (
    CONVERGED,
    ZERO_RESIDUAL,
    Pattern,
    compute_pattern,
    load_voxel,
    reorder_effects,
)
from blmm_bids.stats.model import FloatArray, IntArray, Status
from blmm_bids.stats.plan import Structure

MAX_ITER = int(Status.MAX_ITER)
# What a lane's next evaluation is for.
IDLE, FIRST, SEARCH, CHECK, LEAVING, FINAL = -1, 0, 1, 2, 3, 4
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
    """State of each lane's search; the first axis is the lane.

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
    _, n_fixef, _, n_theta, _ = (int(size) for size in s.sizes)
    ints = [np.zeros(lanes, dtype=np.int64) for _ in range(5)]
    ints[1][:] = IDLE
    return Search(
        *ints,
        value=np.zeros(lanes),
        radius=np.zeros(lanes),
        predicted=np.zeros(lanes),
        theta=np.zeros((lanes, n_theta)),
        grad=np.zeros((lanes, n_theta)),
        hess=np.zeros((lanes, n_theta, n_theta)),
        border=np.zeros((lanes, (n_fixef + 1) * (n_fixef + 2) // 2)),
        rss=np.zeros(lanes),
        gamma=np.zeros((lanes, n_fixef)),
        scale=np.zeros((lanes, 2)),
        order=np.zeros((lanes, int(s.effect_start[-1])), dtype=np.int64),
    )


@kernel
def search_block(
    s: Structure,
    q_basis: FloatArray,
    r_inv: FloatArray,
    effects: FloatArray,
    y: FloatArray,
    order: IntArray,
    pattern_ids: IntArray,
    rules: Rules,
    k: Lanes,
    search: Search,
    small: Small,
    pattern: Pattern,
    out: Estimates,
) -> None:
    """Fit all voxels of a block.

    Parameters
    ----------
    q_basis, r_inv, effects
        See `DesignPlan`.
    y : (voxel, obs) float32 or float64
        Values, NaN where missing.
    order : (voxel,)
        Voxels sorted by pattern.
    pattern_ids : (voxel,)
        Which pattern each voxel has.
    k, search, small, pattern
        Working arrays.
    out : Estimates
        Output.
    """
    n_voxels = order.size
    values = np.empty(y.shape[1])
    current = -1
    code = CONVERGED
    position = 0
    while True:
        n_active = 0
        for w in range(search.phase.size):
            # 1. Idle lanes take the next voxel that can be fitted.
            while search.phase[w] == IDLE and position < n_voxels:
                voxel = order[position]
                position += 1
                n_present = 0
                for obs in range(values.size):
                    values[obs] = y[voxel, obs]
                    n_present += 0 if math.isnan(values[obs]) else 1
                if pattern_ids[voxel] != current:
                    current = pattern_ids[voxel]
                    code = compute_pattern(s, q_basis, effects, values, rules.safe_mode, pattern)
                status = code
                if status == CONVERGED:
                    status = load_voxel(
                        s, q_basis, effects, values, rules.resolution, pattern, w, k, search.gamma[w], search.scale[w]
                    )
                out.n_obs[voxel] = n_present
                out.status[voxel] = status
                if status == CONVERGED:
                    _start(search, k, w, voxel, n_present, s.sizes[1], s, rules)
            if search.phase[w] != IDLE:
                n_active += 1
        if n_active == 0:
            return
        # 2. All lanes evaluate the criterion at their theta.
        evaluate(s, k)
        # 3. Each lane moves on by itself.
        for w in range(search.phase.size):
            if search.phase[w] == FINAL:
                write_estimates(s, k, w, search, small, r_inv, rules, out)
                search.phase[w] = IDLE
            elif search.phase[w] != IDLE:
                _advance(s, k, w, search, small, rules)
                if search.outcome[w] == ZERO_RESIDUAL:
                    out.status[search.voxel[w]] = ZERO_RESIDUAL
                    search.phase[w] = IDLE


@kernel
def _start(
    search: Search, k: Lanes, w: int, voxel: int, n_present: int, n_fixef: int, s: Structure, rules: Rules
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
    k.weights[2, w] = float(n_present - n_fixef) if rules.reml else float(n_present)
    for term in range(s.term_size.size):
        t = s.theta_start[term]
        for f in range(s.term_size[term]):
            search.order[w, s.effect_start[term] + f] = f
            for e in range(f, s.term_size[term]):
                k.theta[t, w] = START if e == f else 0.0
                t += 1


@kernel
def _advance(s: Structure, k: Lanes, w: int, search: Search, small: Small, rules: Rules) -> None:
    """Digest one evaluation of a lane and set its next theta."""
    n_theta = s.sizes[3]
    search.n_iter[w] += 1
    phase = search.phase[w]
    if phase == CHECK:
        theta = k.theta[:, w].copy()
        if leave_boundary(s, theta, k.grad[:, w].copy(), SPARE * rules.tol, small):
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


@kernel
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
    for i in range(search.border.shape[1]):
        search.border[w, i] = k.border[i, w]


@kernel
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
    if not done and not stuck and _pivot(s, k, w, search, small):
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


@kernel
def _pivot(s: Structure, k: Lanes, w: int, search: Search, small: Small) -> bool:
    """Take a term's effects in a better order, if there is one; whether that asks for an evaluation."""
    moved = False
    for term in range(s.term_size.size):
        size = s.term_size[term]
        if size == 1 or not needs_pivoting(s, search.theta[w], term, small, small.order):
            continue
        reorder_theta(s, search.theta[w], term, small, small.order)
        reorder_effects(s, k, w, term, small.order, small.score.reshape(small.score.size))
        place = search.order[w, s.effect_start[term] : s.effect_start[term + 1]]
        for e in range(size):
            small.order[e] = place[small.order[e]]
        for e in range(size):
            place[e] = small.order[e]
        moved = True
    if moved:
        for t in range(s.sizes[3]):
            k.theta[t, w] = search.theta[w, t]
        # The same point seen from other coordinates: taken whatever rounding did to its value.
        search.phase[w] = FIRST
        search.value[w] = math.inf
    return moved


@kernel
def _check_boundary(s: Structure, k: Lanes, w: int, search: Search, small: Small) -> None:
    """Ask for the score in D just inside the boundary."""
    theta = search.theta[w].copy()
    raise_floor(s, theta, small)
    for t in range(theta.size):
        k.theta[t, w] = theta[t]
    search.phase[w] = CHECK


@kernel
def _finalise(s: Structure, k: Lanes, w: int, search: Search, small: Small, rules: Rules) -> None:
    """Ask for the evaluation that inference needs, at the estimate."""
    theta = search.theta[w].copy()
    if not rules.observed:
        if near_boundary(s, theta):
            raise_floor(s, theta, small)
        k.weights[1, w] = 1.0 if rules.information_reml else 0.0
        k.weights[2, w] = 0.0
    for t in range(theta.size):
        k.theta[t, w] = theta[t]
    search.phase[w] = FINAL
