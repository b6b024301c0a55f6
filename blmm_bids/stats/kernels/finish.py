"""From a lane's optimum to the estimates of its voxel, in the units of the data."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from blmm_bids.stats.kernels.compiling import inner
from blmm_bids.stats.kernels.criterion import Lanes
from blmm_bids.stats.kernels.newton import Small, score_in_d, unpack_square
from blmm_bids.stats.kernels.small import cholesky, cholesky_solve, jacobi_eigh
from blmm_bids.stats.model import FloatArray, IntArray
from blmm_bids.stats.plan_structure import Structure

if TYPE_CHECKING:
    from blmm_bids.stats.kernels.search import Rules, Search

# Eigenvalues of the information below this share of the largest are zero. In the expected
# information they keep this value, so that a df whose gradient lies outside the range tends to 0;
# in the observed one they are dropped, as lmerTest does.
ZERO_EXPECTED = 1e-12
ZERO_OBSERVED = 1e-8


class Estimates(NamedTuple):
    """What a fit writes for each voxel; see `blmm_bids.stats.model.Fit`.

    ``D`` holds the vech elements of the conditioned terms in elimination order.
    """

    n_obs: IntArray
    status: IntArray
    n_iter: IntArray
    beta: FloatArray
    vcov: FloatArray
    sigma2: FloatArray
    D: FloatArray
    loglik: FloatArray
    resms: FloatArray
    eta_cov: FloatArray
    vcov_grad: FloatArray


def allocate_estimates(n_voxels: int, n_fixef: int, n_theta: int) -> Estimates:
    """NaN everywhere, zero counts."""
    n_eta = n_theta + 1

    def missing(*shape: int) -> FloatArray:
        return np.full((n_voxels, *shape), np.nan)

    return Estimates(
        n_obs=np.zeros(n_voxels, dtype=np.int64),
        status=np.zeros(n_voxels, dtype=np.int64),
        n_iter=np.zeros(n_voxels, dtype=np.int64),
        beta=missing(n_fixef),
        vcov=missing(n_fixef, n_fixef),
        sigma2=missing(),
        D=missing(n_theta),
        loglik=missing(),
        resms=missing(),
        eta_cov=missing(n_eta, n_eta),
        vcov_grad=missing(n_eta, n_fixef, n_fixef),
    )


@inner
def write_estimates(
    s: Structure,
    k: Lanes,
    w: int,
    plain: FloatArray,
    search: Search,
    small: Small,
    r_inv: FloatArray,
    rules: Rules,
    out: Estimates,
) -> None:
    """Write one voxel's estimates.

    ``k`` holds the evaluation for inference, ``search`` the optimum, ``plain`` [X y]'[X y] packed as the
    border is.
    """
    n_fixef = s.sizes[1]
    n_theta = s.sizes[3]
    voxel = search.voxel[w]
    n_free = search.n_present[w] - n_fixef
    nu = n_free if rules.reml else search.n_present[w]
    scale = search.scale[w, 0]
    # 1. Residual variance and log-likelihood at the profiled optimum.
    sigma2 = search.rss[w] / nu * scale * scale
    deviance = search.value[w] + nu * (1.0 + math.log(2.0 * math.pi / nu)) + 2.0 * nu * math.log(scale)
    if rules.reml:
        deviance += 2.0 * rules.log_det_r
    out.loglik[voxel] = -0.5 * deviance
    out.sigma2[voxel] = sigma2
    out.n_iter[voxel] = search.n_iter[w]
    if search.outcome[w] != 0:
        out.status[voxel] = search.outcome[w]
    for term in range(s.term_size.size):
        _write_covariance(s, w, term, search, small, out.D[voxel])
    # 2. Fixed effects and their covariance, from the border at the optimum.
    _unpack_border(search.border, w, n_fixef, small.fixef_a, small.fixef_v)
    cholesky(small.fixef_a, n_fixef, 0.0)
    cholesky_solve(small.fixef_a, n_fixef, small.fixef_v)
    out.resms[voxel] = _residual_square(plain, w, n_fixef, small.fixef_v) * scale * scale / n_free
    for i in range(n_fixef):
        total = 0.0
        for j in range(n_fixef):
            total += r_inv[i, j] * (search.gamma[w, j] + scale * small.fixef_v[j])
        out.beta[voxel, i] = total
    _inverse_rotated(small, n_fixef, r_inv, sigma2, out.vcov[voxel])
    # 3. Their derivatives, from the border of the evaluation for inference.
    for i in range(n_fixef):
        for j in range(n_fixef):
            out.vcov_grad[voxel, 0, i, j] = out.vcov[voxel, i, j]
    _border_gradients(k, w, n_theta, n_fixef, r_inv, sigma2, small, out.vcov_grad[voxel])
    # 4. Asymptotic covariance of (log sigma2, theta).
    if rules.observed:
        _observed_information(k, w, n_theta, float(nu), small)
        zero, keep = ZERO_OBSERVED, False
    else:
        nu_information = n_free if rules.information_reml else search.n_present[w]
        expected_information(s, k, w, float(nu_information), small)
        zero, keep = ZERO_EXPECTED, True
    _invert_information(n_theta + 1, zero, keep, small, out.eta_cov[voxel])


@inner
def _write_covariance(s: Structure, w: int, term: int, search: Search, small: Small, out: FloatArray) -> None:
    """Vech of one term's D, its effects back in their own order."""
    size = s.term_size[term]
    order = search.order[w, s.effect_start[term] :]
    unpack_square(s, search.theta[w], term, small.hess)
    for i in range(size):
        for j in range(size):
            small.vectors[order[i], order[j]] = small.hess[i, j]
    t = s.theta_start[term]
    for j in range(size):
        for i in range(j, size):
            out[t] = small.vectors[i, j]
            t += 1


@inner
def _unpack_border(border: FloatArray, w: int, n_fixef: int, matrix: FloatArray, vector: FloatArray) -> None:
    """X'V^-1X (symmetric) and X'V^-1y from one lane's packed border."""
    n_lower = n_fixef * (n_fixef + 1) // 2
    entry = 0
    for c in range(n_fixef):
        matrix[c, c] = border[n_lower + c, w]
        for r in range(c + 1, n_fixef):
            matrix[r, c] = border[entry, w]
            matrix[c, r] = border[entry, w]
            entry += 1
        vector[c] = border[entry, w]
        entry += 1


@inner
def _residual_square(plain: FloatArray, w: int, n_fixef: int, gamma: FloatArray) -> float:
    """``|y - Q gamma|^2`` of the reduced, scaled response, from its products."""
    diagonal = plain.shape[0] - n_fixef - 1
    total = plain[diagonal + n_fixef, w]
    entry = 0
    for c in range(n_fixef):
        total += gamma[c] * gamma[c] * plain[diagonal + c, w]
        for r in range(c + 1, n_fixef):
            total += 2.0 * gamma[r] * gamma[c] * plain[entry, w]
            entry += 1
        # Q'y, of which the reduction left nothing.
        entry += 1
    return total  # type: ignore[no-any-return]


@inner
def _inverse_rotated(small: Small, n_fixef: int, r_inv: FloatArray, sigma2: float, out: FloatArray) -> None:
    """``sigma2 R^-1 (L L')^-1 R^-T`` where ``fixef_a`` holds L."""
    for j in range(n_fixef):
        # Row j of R^-1, solved against the factor: (L L')^-1 (R^-T e_j).
        for i in range(n_fixef):
            small.fixef_v[i] = r_inv[j, i]
        cholesky_solve(small.fixef_a, n_fixef, small.fixef_v)
        for i in range(n_fixef):
            total = 0.0
            for c in range(n_fixef):
                total += r_inv[i, c] * small.fixef_v[c]
            out[i, j] = sigma2 * total
    for j in range(n_fixef):
        for i in range(j):
            out[i, j] = out[j, i]


@inner
def _border_gradients(
    k: Lanes,
    w: int,
    n_theta: int,
    n_fixef: int,
    r_inv: FloatArray,
    sigma2: float,
    small: Small,
    out: FloatArray,
) -> None:
    """``-sigma2 R^-1 M^-1 (dM/dtheta) M^-1 R^-T`` for every theta, from row 1 of ``out`` on."""
    if n_theta == 0:
        return
    _unpack_border(k.border, w, n_fixef, small.fixef_a, small.fixef_v)
    cholesky(small.fixef_a, n_fixef, 0.0)
    # B = M^-1 R^-T, column j for fixed effect j.
    for j in range(n_fixef):
        for i in range(n_fixef):
            small.fixef_v[i] = r_inv[j, i]
        cholesky_solve(small.fixef_a, n_fixef, small.fixef_v)
        for i in range(n_fixef):
            small.fixef_b[i, j] = small.fixef_v[i]
    for t in range(n_theta):
        _unpack_border(k.d_border[t], w, n_fixef, small.fixef_a, small.fixef_v)
        for j in range(n_fixef):
            for i in range(n_fixef):
                total = 0.0
                for c in range(n_fixef):
                    total += small.fixef_a[i, c] * small.fixef_b[c, j]
                small.fixef_v[i] = total
            for i in range(n_fixef):
                total = 0.0
                for c in range(n_fixef):
                    total += small.fixef_b[c, i] * small.fixef_v[c]
                out[t + 1, i, j] = -sigma2 * total


@inner
def expected_information(s: Structure, k: Lanes, w: int, nu: float, small: Small) -> None:
    """``½ tr(P V_i P V_j)`` in (log sigma2, theta).

    V is linear in D, so the Hessian of ``log|V| + log|X'V^-1X|`` in D is ``-tr(P V_i P V_j)``;
    the Hessian in theta has the map's own curvature besides, which is taken off.
    """
    info = small.hess
    theta, grad = small.theta, small.grad
    info[0, 0] = 0.5 * nu
    for t in range(s.sizes[3]):
        theta[t] = k.theta[t, w]
        grad[t] = k.grad[t, w]
        info[t + 1, 0] = 0.5 * grad[t]
        for u in range(t + 1):
            info[t + 1, u + 1] = -0.5 * k.hess[t, u, w]
    for term in range(s.term_size.size):
        size = s.term_size[term]
        score_in_d(s, theta, grad, term, small.score)
        for f in range(size):
            base = s.theta_start[term] + f * size - f * (f - 1) // 2 - f + 1
            for e in range(f, size):
                for g in range(f, e + 1):
                    info[base + e, base + g] += small.score[e, g]


@inner
def _observed_information(k: Lanes, w: int, n_theta: int, nu: float, small: Small) -> None:
    """Half the Hessian of the unprofiled deviance in (log sigma2, theta) at its optimum."""
    info = small.hess
    rss = k.rss[w]
    info[0, 0] = 0.5 * nu
    for t in range(n_theta):
        info[t + 1, 0] = -0.5 * nu * k.d_rss[t, w] / rss
        for u in range(t + 1):
            slope = k.d_rss[t, w] * k.d_rss[u, w] / (rss * rss)
            info[t + 1, u + 1] = 0.5 * (k.hess[t, u, w] + nu * slope)


@inner
def _invert_information(n: int, zero: float, keep: bool, small: Small, out: FloatArray) -> None:
    """Inverse of ``small.hess`` (lower triangle), through its eigenvalues where one may be near zero."""
    a, factor, column = small.hess, small.vectors, small.step
    size, inverse_size = 0.0, 0.0
    for i in range(n):
        size += a[i, i]
        for j in range(i + 1):
            factor[i, j] = a[i, j]
    if cholesky(factor, n, 0.0):
        for j in range(n):
            for i in range(n):
                column[i] = 1.0 if i == j else 0.0
            cholesky_solve(factor, n, column)
            inverse_size += column[j]
            for i in range(n):
                out[i, j] = column[i]
        # The smallest eigenvalue is at least 1 / tr A^-1, the largest at most tr A.
        if zero * size * inverse_size < 1.0:
            return
    for i in range(n):
        for j in range(i):
            a[j, i] = a[i, j]
    jacobi_eigh(a, n, small.vectors)
    largest = 0.0
    for i in range(n):
        largest = max(largest, a[i, i])
    for i in range(n):
        for j in range(n):
            out[i, j] = 0.0
    for m in range(n):
        value = a[m, m]
        if value <= zero * largest:
            if not keep:
                continue
            value = zero * largest
        for i in range(n):
            for j in range(n):
                out[i, j] += small.vectors[i, m] * small.vectors[j, m] / value
