"""Fisher scoring: one loop, and the four updates of Maullin-Sapey & Nichols (2021).

beta and sigma2 are at their closed form in every evaluation, so a point is its D and its value the profiled
criterion. FS and pFS step in all elements of D (and in sigma2, whose score is zero there, through its
row of the information); SFS and pSFS in one factor's D at a time. pFS and pSFS have the information
of vec D, which is singular, and its pseudo-inverse: on symmetric matrices, packed to keep lengths, that is
the pseudo-inverse of the information of vech D, and differs from the inverse only where that is singular.

A step is the minimiser of the scoring model over the semi-definite cone, which is the free step where that
stays inside: the projection to the cone in the metric of the information. Setting negative eigenvalues of the
free step to zero instead is no descent where effects or factors are correlated, and has other fixed points
than the optimum. The step is halved until the criterion gets better.

All this is done on ``E`` with ``D = C E C'`` and ``C C' = D + I (random effects / images)`` at the current
point: there the information is near a multiple of the identity, whatever D is. E stays above ``FLOOR``, so
that D has a score and an information along its null space too; what ends at the floor is set to zero.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from blmm_bids.stats.kernels.compiling import inner, kernel
from blmm_bids.stats.kernels.criterion import Lanes
from blmm_bids.stats.kernels.finish import Estimates, expected_information, write_estimates
from blmm_bids.stats.kernels.fold_lanes import FoldLanes
from blmm_bids.stats.kernels.newton import Small, near_boundary
from blmm_bids.stats.kernels.products import ZERO_RESIDUAL
from blmm_bids.stats.kernels.search import (
    EXACT,
    FINAL,
    IDLE,
    MAX_ITER,
    ROUNDING,
    SEARCH,
    SMALLEST_RADIUS,
    SPARE,
    Rules,
    Search,
    finalise,
    keep_best,
    residual_df,
    serves_inference,
)
from blmm_bids.stats.kernels.semidefinite import (
    SQRT_2,
    Program,
    allocate_program,
    minimise,
    pack_symmetric,
    unpack_symmetric,
)
from blmm_bids.stats.kernels.small import cholesky, jacobi_eigh, semidefinite_cholesky
from blmm_bids.stats.model import FloatArray, IntArray
from blmm_bids.stats.plan_structure import Structure

# Smallest eigenvalue of E on the way. What it costs in the log-likelihood is its square times the
# number of levels, and the end drops it; it is the square root of rounding, which the information
# loses digits by.
FLOOR = 1e-7


class Point(NamedTuple):
    """One lane's best point, and what is differentiated there.

    ``scale`` is C of a term, ``root`` the factor of its E, ``inverse`` that of ``root``, ``square`` scratch;
    ``start`` is E less the floor, all terms; ``jacobian info slope`` are d theta/dE, information and score in
    (log sigma2, E).
    """

    scale: FloatArray
    root: FloatArray
    inverse: FloatArray
    square: FloatArray
    start: FloatArray
    jacobian: FloatArray
    info: FloatArray
    slope: FloatArray


class Scoring(NamedTuple):
    """State of each lane's scoring, and room for one lane's step.

    ``target`` is where the full step leads, in E of the lane's best point; ``left`` the decrease of the
    criterion that the first-order conditions leave room for; ``turn`` the term that steps next.
    """

    target: FloatArray
    left: FloatArray
    turn: IntArray
    point: Point
    program: Program


def allocate_scoring(n_theta: int, lanes: int) -> Scoring:
    """Zeroed state for ``lanes`` voxels."""
    n_eta = n_theta + 1

    def square() -> FloatArray:
        return np.zeros((n_eta, n_eta))

    return Scoring(
        target=np.zeros((lanes, n_theta)),
        left=np.zeros(lanes),
        turn=np.zeros(lanes, dtype=np.int64),
        point=Point(
            scale=square(),
            root=square(),
            inverse=square(),
            square=square(),
            start=np.zeros(n_theta),
            jacobian=square(),
            info=square(),
            slope=np.zeros(n_eta),
        ),
        program=allocate_program(n_theta),
    )


@kernel
def score_lanes(
    s: Structure,
    r_inv: FloatArray,
    rules: Rules,
    k: Lanes,
    fl: FoldLanes,
    search: Search,
    small: Small,
    scoring: Scoring,
    out: Estimates,
) -> int:
    """As `advance_lanes`, for the Fisher scoring methods; none of them reorders effects."""
    for w in range(search.phase.size):
        is_final = search.phase[w] == FINAL
        if not is_final and search.phase[w] != IDLE:
            is_final = _advance(s, k, w, search, small, rules, scoring)
            if search.outcome[w] == ZERO_RESIDUAL:
                out.status[search.voxel[w]] = ZERO_RESIDUAL
                search.phase[w] = IDLE
        if is_final:
            write_estimates(s, k, w, fl.plain, search, small, r_inv, rules, out)
            search.phase[w] = IDLE
    return 0


@inner
def _advance(
    s: Structure, k: Lanes, w: int, search: Search, small: Small, rules: Rules, scoring: Scoring
) -> bool:
    """Digest one evaluation of a lane and set its next theta; whether it serves inference as it is."""
    search.n_iter[w] += 1
    # 1. The profiled criterion: the evaluation leaves the residual's part out.
    nu = residual_df(s, search, w, rules)
    value = k.value[w] + nu * math.log(k.rss[w])
    noise = ROUNDING * abs(value)
    better = value <= search.value[w] + noise
    if not better and search.value[w] == math.inf:
        # Not a number at the first point.
        better, noise = True, math.inf
    if search.phase[w] == EXACT:
        if better:
            keep_best(k, w, search, value)
        finalise(s, k, w, search, small, rules)
        return False
    # 2. A step from here, or half the step from the best point.
    if better:
        keep_best(k, w, search, value)
        if not search.rss[w] > search.scale[w, 1]:
            search.outcome[w] = ZERO_RESIDUAL
            return False
        search.phase[w] = SEARCH
        search.radius[w] = 1.0
        _step(s, k, w, nu, search, small, rules, scoring)
    else:
        search.radius[w] *= 0.5
    # 3. Converged where the first-order conditions in D hold.
    left = scoring.left[w]
    done = left < max(2.0 * SPARE * rules.tol, noise)
    stuck = search.radius[w] < SMALLEST_RADIUS
    if not done and not stuck and search.n_iter[w] < rules.max_iter:
        _try_step(s, k, w, search, scoring)
        return False
    if not done and not (stuck and left < rules.tol):
        search.outcome[w] = MAX_ITER
    elif search.n_iter[w] < rules.max_iter and _drop_floor(s, k, w, search, scoring):
        search.phase[w] = EXACT
        return False
    if better and serves_inference(rules) and not near_boundary(s, search.theta[w]):
        return True
    finalise(s, k, w, search, small, rules)
    return False


@inner
def _step(
    s: Structure, k: Lanes, w: int, nu: float, search: Search, small: Small, rules: Rules, scoring: Scoring
) -> None:
    """Where the method's step from the point just evaluated leads, and what is left to gain from it."""
    p, point = scoring.program, scoring.point
    n_terms = s.term_size.size
    if n_terms == 0:
        scoring.left[w] = 0.0
        return
    # 1. Score (of half the criterion) and information, in theta and then in E.
    expected_information(s, k, w, nu, small)
    for t in range(s.sizes[3]):
        small.grad[t] = 0.5 * (k.grad[t, w] + nu * k.d_rss[t, w] / k.rss[w])
    for term in range(n_terms):
        first, size = s.theta_start[term], s.term_size[term]
        ridge = (s.term_start[term + 1] - s.term_start[term]) / search.n_present[w]
        _scale(small.theta, first, size, ridge, point)
        _differentiate(small.theta, first, size, point)
    _change_coordinates(s.sizes[3], small.hess, small.grad, small.vectors, point)
    for t in range(s.sizes[3]):
        scoring.target[w, t] = point.start[t]
    # 2. All factors and sigma2 together, which also measures what is left.
    _pose(0, s.sizes[3], point, p, joint=True)
    gain, left = minimise(s.term_size, 0, n_terms, rules.pseudo, p)
    scoring.left[w] = 2.0 * left
    if rules.joint:
        for t in range(s.sizes[3]):
            scoring.target[w, t] = p.best[t]
        return
    # 3. The next factor that has something to gain.
    for _ in range(n_terms):
        term = scoring.turn[w]
        scoring.turn[w] = (term + 1) % n_terms
        first, last = s.theta_start[term], s.theta_start[term + 1]
        _pose(first, last, point, p, joint=False)
        gain, _ = minimise(s.term_size, term, term + 1, rules.pseudo, p)
        if 2.0 * n_terms * gain > SPARE * rules.tol:
            for t in range(last - first):
                scoring.target[w, first + t] = p.best[t]
            return
    search.radius[w] = 0.0


@inner
def _scale(theta: FloatArray, first: int, size: int, ridge: float, point: Point) -> None:
    """C and the factor of E of one term whose theta starts at ``first``; E less the floor into ``start``."""
    c, root = point.scale, point.root
    for i in range(size):
        for j in range(i + 1):
            total = ridge if i == j else 0.0
            for f in range(j + 1):
                base = first + f * size - f * (f - 1) // 2 - f
                total += theta[base + i] * theta[base + j]
            c[i, j] = total
    cholesky(c, size, 0.0)
    t = first
    for f in range(size):
        for e in range(f, size):
            value = theta[t]
            for m in range(f, e):
                value -= c[e, m] * root[m, f]
            root[e, f] = value / c[e, e]
            t += 1
    for i in range(size):
        for j in range(i + 1):
            total = -FLOOR if i == j else 0.0
            for m in range(j + 1):
                total += root[i, m] * root[j, m]
            point.square[i, j] = total
    pack_symmetric(point.square, first, size, point.start)


@inner
def _differentiate(theta: FloatArray, first: int, size: int, point: Point) -> None:
    """Jacobian of one term's theta in its E: ``dL = L low(B dE B')``, B the inverse of E's factor.

    ``low`` takes the lower triangle and half the diagonal (the derivative of a Cholesky factor).
    """
    b, root, low = point.inverse, point.root, point.square
    for f in range(size):
        for e in range(size):
            value = 1.0 if e == f else 0.0
            for m in range(f, e):
                value -= root[e, m] * b[m, f]
            b[e, f] = value / root[e, e] if e >= f else 0.0
    column = first + 1
    for c in range(size):
        for a in range(c, size):
            for j in range(size):
                for i in range(j, size):
                    both = b[i, a] * b[j, c] + b[i, c] * b[j, a]
                    low[i, j] = both * (0.5 if a == c else 1.0 / SQRT_2) * (0.5 if i == j else 1.0)
            row = first + 1
            for j in range(size):
                for i in range(j, size):
                    total = 0.0
                    for m in range(j, i + 1):
                        total += theta[first + m * size - m * (m - 1) // 2 - m + i] * low[m, j]
                    point.jacobian[row, column] = total
                    row += 1
            column += 1


@inner
def _change_coordinates(
    n_theta: int, info: FloatArray, grad: FloatArray, half: FloatArray, point: Point
) -> None:
    """Score and information (lower triangle, log sigma2 first) from theta to E; ``half`` is scratch."""
    jacobian = point.jacobian
    jacobian[0, 0] = 1.0
    for i in range(n_theta + 1):
        for j in range(i):
            info[j, i] = info[i, j]
    for j in range(n_theta + 1):
        for i in range(n_theta + 1):
            total = 0.0
            for m in range(n_theta + 1):
                total += info[i, m] * jacobian[m, j]
            half[i, j] = total
        total = 0.0
        for m in range(n_theta):
            total += grad[m] * jacobian[m + 1, j]
        point.slope[j] = total
    for i in range(n_theta + 1):
        for j in range(n_theta + 1):
            total = 0.0
            for m in range(n_theta + 1):
                total += jacobian[m, i] * half[m, j]
            point.info[i, j] = total


@inner
def _pose(first: int, last: int, point: Point, p: Program, joint: bool) -> None:
    """Scoring model of some thetas as a program; jointly with sigma2, which is eliminated, or without."""
    info = point.info
    for i in range(last - first):
        a = first + i
        p.slope[i] = point.slope[a + 1]
        p.start[i] = point.start[a]
        for j in range(last - first):
            b = first + j
            p.matrix[i, j] = info[a + 1, b + 1]
            if joint:
                p.matrix[i, j] -= info[a + 1, 0] * info[b + 1, 0] / info[0, 0]


@inner
def _try_step(s: Structure, k: Lanes, w: int, search: Search, scoring: Scoring) -> None:
    """Set theta at a share ``radius`` of the way from the best point to the target."""
    point = scoring.point
    share = search.radius[w]
    for term in range(s.term_size.size):
        first, size = s.theta_start[term], s.term_size[term]
        ridge = (s.term_start[term + 1] - s.term_start[term]) / search.n_present[w]
        _scale(search.theta[w], first, size, ridge, point)
        for t in range(first, s.theta_start[term + 1]):
            point.start[t] += share * (scoring.target[w, t] - point.start[t])
        unpack_symmetric(point.start, first, size, point.square)
        for i in range(size):
            point.square[i, i] += FLOOR
        cholesky(point.square, size, 0.0)
        _set_theta(k.theta, w, first, size, point)


@inner
def _drop_floor(s: Structure, k: Lanes, w: int, search: Search, scoring: Scoring) -> bool:
    """Set theta at the best point with the eigenvalues at the floor made zero; whether there are any."""
    dropped = False
    point = scoring.point
    values, vectors = point.root, point.inverse
    for term in range(s.term_size.size):
        first, size = s.theta_start[term], s.term_size[term]
        ridge = (s.term_start[term + 1] - s.term_start[term]) / search.n_present[w]
        _scale(search.theta[w], first, size, ridge, point)
        unpack_symmetric(point.start, first, size, values)
        jacobi_eigh(values, size, vectors)
        for i in range(size):
            for j in range(size):
                point.square[i, j] = 0.0
        for m in range(size):
            if values[m, m] < FLOOR:
                dropped = True
                continue
            for i in range(size):
                for j in range(size):
                    point.square[i, j] += (values[m, m] + FLOOR) * vectors[i, m] * vectors[j, m]
        semidefinite_cholesky(point.square, size)
        _set_theta(k.theta, w, first, size, point)
    return dropped


@inner
def _set_theta(theta: FloatArray, w: int, first: int, size: int, point: Point) -> None:
    """One term's theta from C and the factor of E in ``square``."""
    t = first
    for f in range(size):
        for e in range(f, size):
            total = 0.0
            for m in range(f, e + 1):
                total += point.scale[e, m] * point.square[m, f]
            theta[t, w] = total
            t += 1
