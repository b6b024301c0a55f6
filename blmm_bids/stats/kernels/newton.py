"""Safeguarded Newton steps on the deviance in theta, one voxel at a time.

theta is the lower triangle of each term's relative covariance factor, free in sign, so the
semi-definite cone of D has no edge here: a variance of zero is a smooth point that Newton reaches
quadratically. What the parametrisation adds are saddles (theta_jj = 0 is stationary whatever the
data); steps follow the absolute eigenvalues of the Hessian and are pushed along directions of
negative curvature, so they leave them, and a singular optimum is confirmed by the score in D.

Where an early effect has hardly any variance and a later one has much, the later row of the factor
can turn at no cost, and Newton would creep along that circle. The order of a term's effects is
therefore the pivoted one, voxel by voxel.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from blmm_bids.stats.kernels.compiling import inner
from blmm_bids.stats.kernels.small import cholesky, cholesky_solve, jacobi_eigh, semidefinite_cholesky
from blmm_bids.stats.model import FloatArray, IntArray
from blmm_bids.stats.plan_structure import Structure

# Conditioned effects have unit mean square, so theta = 1 means as much variance between levels as
# within; a first step of this length reaches zero from the start.
FIRST_RADIUS = 0.8
# A push out of a saddle: well outside rounding, well inside the radius.
PUSH = 0.3
# Eigenvalues of the Hessian below minus this share of the largest are negative, not rounding.
NEGATIVE_CURVATURE = 1e-6
# Pivots above this share of the diagonal leave no doubt that there is none.
CONVEX = 1e-5
# How far D is moved along a direction in which the score leads off the boundary.
LEAVE = 1e-3
# theta_jj below this is near enough to the boundary for D's score to be looked at.
NEAR_BOUNDARY = 1e-3
# The Cholesky factor takes the effects in another order when one left over has this many times the
# variance of the one whose turn it is.
PIVOT_RATIO = 4.0
# Added to D (conditioned, so relative to the within-level variance) where a formula needs D
# non-singular; moves dfs by about the same relative amount.
D_FLOOR = 1e-6


class Small(NamedTuple):
    """One voxel's scratch: matrices of the size of theta, of a term and of the fixed effects."""

    hess: FloatArray
    vectors: FloatArray
    step: FloatArray
    score: FloatArray
    fixef_a: FloatArray
    fixef_b: FloatArray
    fixef_v: FloatArray
    order: IntArray
    theta: FloatArray
    grad: FloatArray


def allocate_small(n_theta: int, n_fixef: int) -> Small:
    """Zeroed scratch; one more than theta for the residual variance."""
    n_eta = n_theta + 1
    return Small(
        hess=np.zeros((n_eta, n_eta)),
        vectors=np.zeros((n_eta, n_eta)),
        step=np.zeros(n_eta),
        score=np.zeros((n_eta, n_eta)),
        fixef_a=np.zeros((n_fixef, n_fixef)),
        fixef_b=np.zeros((n_fixef, n_fixef)),
        fixef_v=np.zeros(n_fixef),
        order=np.zeros(n_eta, dtype=np.int64),
        theta=np.zeros(n_eta),
        grad=np.zeros(n_eta),
    )


@inner
def newton_step(
    grad: FloatArray, hess: FloatArray, n: int, radius: float, small: Small
) -> tuple[float, float, bool]:
    """Step into ``small.step``; predicted decrease, decrease left to a free step, and convexity.

    Parameters
    ----------
    grad : (theta,)
    hess : (theta, theta)
        Lower triangle.
    radius : float
        Bound on the step's length.
    """
    a, factor = small.hess, small.vectors
    for i in range(n):
        for j in range(i + 1):
            factor[i, j] = hess[i, j]
    if cholesky(factor, n, CONVEX):
        # Every eigenvalue is positive: the step is Newton's own, and needs none of them.
        for j in range(n):
            small.step[j] = -grad[j]
        cholesky_solve(factor, n, small.step)
        left = 0.0
        for j in range(n):
            left -= 0.5 * grad[j] * small.step[j]
        return _shorten(grad, hess, n, radius, small), left, True
    for i in range(n):
        for j in range(i + 1):
            a[i, j] = hess[i, j]
            a[j, i] = hess[i, j]
    jacobi_eigh(a, n, small.vectors)
    largest = 0.0
    for i in range(n):
        largest = max(largest, abs(a[i, i]))
    for j in range(n):
        small.step[j] = 0.0
    left = 0.0
    convex = True
    for i in range(n):
        slope = 0.0
        for j in range(n):
            slope += small.vectors[j, i] * grad[j]
        curvature = max(abs(a[i, i]), 1e-10 * largest, 1e-300)
        length = -slope / curvature
        left += 0.5 * slope * slope / curvature
        if a[i, i] < -NEGATIVE_CURVATURE * largest:
            convex = False
            if abs(length) < PUSH:
                length = math.copysign(PUSH, length)
        for j in range(n):
            small.step[j] += length * small.vectors[j, i]
    return _shorten(grad, hess, n, radius, small), left, convex


@inner
def _shorten(grad: FloatArray, hess: FloatArray, n: int, radius: float, small: Small) -> float:
    """Bring the step within the radius; the decrease that it promises."""
    norm = 0.0
    for j in range(n):
        norm += small.step[j] * small.step[j]
    norm = math.sqrt(norm)
    if norm > radius:
        for j in range(n):
            small.step[j] *= radius / norm
    predicted = 0.0
    for i in range(n):
        predicted -= grad[i] * small.step[i]
        for j in range(n):
            value = hess[i, j] if i >= j else hess[j, i]
            predicted -= 0.5 * small.step[i] * value * small.step[j]
    return predicted


@inner
def near_boundary(s: Structure, theta: FloatArray) -> bool:
    """Whether some diagonal element of a term's factor is close to zero."""
    for term in range(s.term_size.size):
        size = s.term_size[term]
        t = s.theta_start[term]
        for f in range(size):
            if abs(theta[t]) < NEAR_BOUNDARY:
                return True
            t += size - f
    return False


@inner
def needs_pivoting(s: Structure, theta: FloatArray, term: int, small: Small, order: IntArray) -> bool:
    """Whether a term's effects should be taken in another order; which one, into ``order``."""
    size = s.term_size[term]
    unpack_square(s, theta, term, small.hess)
    wanted = False
    for j in range(size):
        order[j] = j
    # Pivoted Cholesky of D; a row's diagonal is what the earlier pivots leave of its variance.
    for j in range(size):
        best = j
        for i in range(j + 1, size):
            if small.hess[order[i], order[i]] > small.hess[order[best], order[best]]:
                best = i
        here, there = small.hess[order[j], order[j]], small.hess[order[best], order[best]]
        if there > NEAR_BOUNDARY * NEAR_BOUNDARY and there > PIVOT_RATIO * here:
            wanted = True
        order[j], order[best] = order[best], order[j]
        pivot = small.hess[order[j], order[j]]
        if pivot <= NEAR_BOUNDARY * NEAR_BOUNDARY:
            break
        for i in range(j + 1, size):
            for c in range(j + 1, size):
                small.vectors[i, c] = (
                    small.hess[order[i], order[c]]
                    - small.hess[order[i], order[j]] * small.hess[order[j], order[c]] / pivot
                )
        for i in range(j + 1, size):
            for c in range(j + 1, size):
                small.hess[order[i], order[c]] = small.vectors[i, c]
    return wanted


@inner
def reorder_theta(s: Structure, theta: FloatArray, term: int, small: Small, order: IntArray) -> None:
    """Factor of the same D with its effects in another order."""
    size = s.term_size[term]
    unpack_square(s, theta, term, small.vectors)
    for i in range(size):
        for j in range(size):
            small.hess[i, j] = small.vectors[order[i], order[j]]
    semidefinite_cholesky(small.hess, size)
    _pack_factor(s, small.hess, term, theta)


@inner
def raise_floor(s: Structure, theta: FloatArray, small: Small) -> None:
    """Replace theta by the factor of ``D + D_FLOOR I``."""
    for term in range(s.term_size.size):
        size = s.term_size[term]
        unpack_square(s, theta, term, small.hess)
        for i in range(size):
            small.hess[i, i] += D_FLOOR
        cholesky(small.hess, size, 0.0)
        _pack_factor(s, small.hess, term, theta)


@inner
def unpack_square(s: Structure, theta: FloatArray, term: int, out: FloatArray) -> None:
    """D = L L' of one term."""
    size = s.term_size[term]
    start = s.theta_start[term]
    for i in range(size):
        for j in range(i + 1):
            total = 0.0
            for f in range(j + 1):
                base = start + f * size - f * (f - 1) // 2 - f
                total += theta[base + i] * theta[base + j]
            out[i, j] = total
            out[j, i] = total


@inner
def score_in_d(s: Structure, theta: FloatArray, grad: FloatArray, term: int, out: FloatArray) -> None:
    """Symmetric df/dD of one term from df/dtheta, by back-substitution in ``grad = 2 (df/dD) L``.

    ``theta`` has no zero on its diagonal (see `raise_floor`).
    """
    size = s.term_size[term]
    start = s.theta_start[term]
    for f in range(size - 1, -1, -1):
        base = start + f * size - f * (f - 1) // 2 - f
        for e in range(size - 1, f - 1, -1):
            value = 0.5 * grad[base + e]
            for r in range(f + 1, size):
                value -= out[e, r] * theta[base + r]
            out[e, f] = value / theta[base + f]
            out[f, e] = out[e, f]


@inner
def leave_boundary(s: Structure, theta: FloatArray, grad: FloatArray, tol: float, small: Small) -> bool:
    """Move theta into the cone where the score in D points there; whether it moved.

    ``theta`` and ``grad`` are those of the raised floor. At the constrained optimum df/dD is
    positive semi-definite; along a v with v'(df/dD)v < 0, ``D + t vv'`` has a lower f for small t.
    """
    for term in range(s.term_size.size):
        size = s.term_size[term]
        score_in_d(s, theta, grad, term, small.score)
        jacobi_eigh(small.score, size, small.vectors)
        for i in range(size):
            if small.score[i, i] * LEAVE < -tol:
                unpack_square(s, theta, term, small.hess)
                for a in range(size):
                    for b in range(size):
                        small.hess[a, b] += LEAVE * small.vectors[a, i] * small.vectors[b, i]
                cholesky(small.hess, size, 0.0)
                _pack_factor(s, small.hess, term, theta)
                return True
    return False


@inner
def _pack_factor(s: Structure, factor: FloatArray, term: int, theta: FloatArray) -> None:
    """Lower triangle of one term's factor into theta."""
    t = s.theta_start[term]
    for f in range(s.term_size[term]):
        for e in range(f, s.term_size[term]):
            theta[t] = factor[e, f]
            t += 1
