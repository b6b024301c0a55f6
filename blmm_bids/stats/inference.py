"""T and F statistics with Satterthwaite degrees of freedom, from a fit."""

from __future__ import annotations

import numpy as np

from blmm_bids.stats.model import Contrast, Fit, FloatArray
from blmm_bids.stats.tails import log_sf_f, log_sf_t_both, z_from_log_sf, z_from_t

LOG_10 = float(np.log(10.0))
# Fai & Cornelius: one-row dfs that agree this closely are one number.
SAME_DF = 1e-8
# Rows over columns without a unit are taken as they are written, unless they are as dependent as this in Q.
NEARLY_DEPENDENT = 1e3


def contrast_maps(fit: Fit, contrast: Contrast) -> dict[str, FloatArray]:
    """All maps of one contrast.

    Parameters
    ----------
    fit : Fit
    contrast : Contrast

    Returns
    -------
    dict of (voxel,) float64
        T: ``effect variance se t dof z logp p logp2``; F: ``F dof z logp p partialR2``. ``logp`` is
        ``-log10`` of the upper tail, ``logp2`` of the two-sided p; ``dof`` of F is the
        denominator's. NaN where the voxel has no fit.
    """
    return t_maps(fit, contrast.L[0]) if contrast.test == "t" else f_maps(fit, contrast.L)


def t_maps(fit: Fit, weights: FloatArray) -> dict[str, FloatArray]:
    """Make the maps of a T contrast with weights (fixef,); see `contrast_maps`."""
    in_q = weights @ fit.plan.R_inv
    weights = weights if fit.plan.is_well_conditioned else in_q
    effect = _apply(fit.coef, weights)
    variance = _square(fit.coef_cov, weights)
    se = np.sqrt(variance)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = effect / se
    dof = satterthwaite(fit, weights, variance, _dof_floor(fit, in_q[None]))
    log_p, log_p_size = log_sf_t_both(t, dof)
    log_p2 = np.minimum(log_p_size + np.log(2.0), 0.0)
    return {
        "effect": effect,
        "variance": variance,
        "se": se,
        "t": t,
        "dof": dof,
        "z": z_from_t(t, dof, log_p_size),
        "logp": -log_p / LOG_10,
        "p": np.exp(log_p),
        "logp2": -log_p2 / LOG_10,
    }


def _dof_floor(fit: Fit, rows: FloatArray) -> FloatArray:
    """Fewest df of a contrast with these rows in Q; see `blmm_bids.stats.strata`."""
    return fit.plan.strata.floor_of(rows, fit.strata_df, fit.n_obs)


def satterthwaite(fit: Fit, weights: FloatArray, variance: FloatArray, floor: FloatArray) -> FloatArray:
    """``2 S^4 / (g' C g)`` with g the gradient of S^2 = w' vcov w (Kuznetsova et al. 2017, eq. 4).

    Parameters
    ----------
    fit : Fit
    weights : (fixef,) or (voxel, fixef)
        Of `Fit.coef`.
    variance : (voxel,)
        S^2.
    floor : (voxel,)
        Fewest degrees of freedom.

    Returns
    -------
    (voxel,)
    """
    n_eta = fit.eta_cov.shape[1]
    gradient = [_square(fit.vcov_grad[:, i], weights) for i in range(n_eta)]
    spread = np.zeros_like(variance)
    for i in range(n_eta):
        for j in range(n_eta):
            spread = spread + gradient[i] * fit.eta_cov[:, i, j] * gradient[j]
    with np.errstate(divide="ignore", invalid="ignore"):
        dof = 2.0 * variance * variance / spread
    # Below this the information was singular along g: there is no df.
    return np.where(dof > 1e-6, np.maximum(dof, floor), np.nan)


def f_maps(fit: Fit, rows: FloatArray) -> dict[str, FloatArray]:
    """Make the maps of an F contrast with L of shape (contrast, fixef); see `contrast_maps`."""
    rows, in_q = _contrast_basis(fit, rows)
    rank = len(rows)
    floor = _dof_floor(fit, in_q)
    effects = [_apply(fit.coef, row) for row in rows]
    n_voxels = fit.beta.shape[0]
    covariance = np.zeros((n_voxels, rank, rank))
    for i in range(rank):
        for j in range(i + 1):
            covariance[:, i, j] = covariance[:, j, i] = _quadratic(fit.coef_cov, rows[i], rows[j])
    fitted = np.isfinite(covariance).all(axis=(1, 2))
    # LAPACK works on one voxel's matrix at a time here, whatever the block's width.
    values = np.full((n_voxels, rank), np.nan)
    vectors = np.zeros((n_voxels, rank, rank))
    values[fitted], vectors[fitted] = np.linalg.eigh(covariance[fitted])
    statistic = np.zeros(n_voxels)
    one_row_dofs = np.zeros((n_voxels, rank))
    for m in range(rank):
        weights = sum(vectors[:, i, m, None] * rows[i] for i in range(rank))
        projected = sum(vectors[:, i, m] * effects[i] for i in range(rank))
        with np.errstate(divide="ignore", invalid="ignore"):
            statistic = statistic + projected * projected / values[:, m]
        one_row_dofs[:, m] = satterthwaite(fit, np.asarray(weights), values[:, m], floor)
    statistic = statistic / rank
    dof = denominator_df(one_row_dofs)
    log_p = log_sf_f(statistic, float(rank), dof)
    return {
        "F": statistic,
        "dof": dof,
        "z": z_from_log_sf(log_p),
        "logp": -log_p / LOG_10,
        "p": np.exp(log_p),
        "partialR2": rank * statistic / (rank * statistic + dof),
    }


def _contrast_basis(fit: Fit, rows: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Rows of an F contrast in the coefficients of `Fit.coef`, and in those of Q.

    F does not mind how they are written, but the eigenvectors of ``L cov L'`` and thus the df do. Rows over
    columns of 0 and 1 are kept as they are written, as lmerTest does; with others the df would depend on the
    covariates' units, so rows of the same span stand for them that no unit, no offset and no combination of
    rows changes: orthonormal in `Strata.metric`.
    """
    plan = fit.plan
    in_q = rows @ plan.R_inv
    sizes = np.linalg.norm(in_q, axis=1, keepdims=True)
    left, values, basis = np.linalg.svd(in_q / sizes, full_matrices=False)
    rank = int((values > values[0] * max(in_q.shape) * np.finfo(np.float64).eps).sum())
    has_no_unit = plan.is_coded[rows.any(axis=0)].all()
    if not (has_no_unit and rank == len(rows) and np.linalg.cond(in_q) < NEARLY_DEPENDENT):
        basis = basis[:rank]
        whiten = np.linalg.inv(np.linalg.cholesky(basis @ plan.strata.metric @ basis.T))
        rows, in_q = whiten @ (left[:, :rank] / values[:rank]).T @ (rows / sizes), whiten @ basis
    return (rows if plan.is_well_conditioned else in_q), in_q


def denominator_df(one_row_dofs: FloatArray) -> FloatArray:
    """Fai & Cornelius (1996) denominator df, as lmerTest combines the one-row dfs.

    Parameters
    ----------
    one_row_dofs : (voxel, rank)

    Returns
    -------
    (voxel,)
    """
    rank = one_row_dofs.shape[1]
    mean = one_row_dofs[:, 0] * 0.0
    expectation = np.zeros(one_row_dofs.shape[0])
    for m in range(rank):
        mean = mean + one_row_dofs[:, m] / rank
        with np.errstate(divide="ignore", invalid="ignore"):
            expectation = expectation + one_row_dofs[:, m] / (one_row_dofs[:, m] - 2.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        combined = 2.0 * expectation / (expectation - rank)
    same = np.ones(one_row_dofs.shape[0], dtype=bool)
    low = np.zeros(one_row_dofs.shape[0], dtype=bool)
    for m in range(rank):
        same &= np.abs(one_row_dofs[:, m] - one_row_dofs[:, 0]) < SAME_DF
        low |= one_row_dofs[:, m] <= 2.0
    return np.where(same, mean, np.where(low, 2.0, combined))


def _apply(beta: FloatArray, weights: FloatArray) -> FloatArray:
    """``w' beta`` at each voxel, summed in the order of the fixed effects."""
    total = np.zeros(beta.shape[0])
    for i in _weighted(weights):
        total += beta[:, i] * weights[..., i]
    return total


def _quadratic(matrix: FloatArray, left: FloatArray, right: FloatArray) -> FloatArray:
    """``left' matrix right`` at each voxel, summed in the order of the fixed effects."""
    total = np.zeros(matrix.shape[0])
    for i in _weighted(left):
        for j in _weighted(right):
            total += left[..., i] * matrix[:, i, j] * right[..., j]
    return total


def _square(matrix: FloatArray, weights: FloatArray) -> FloatArray:
    """``w' matrix w`` of a symmetric matrix at each voxel."""
    total = np.zeros(matrix.shape[0])
    columns = _weighted(weights)
    for place, i in enumerate(columns):
        total += weights[..., i] * matrix[:, i, i] * weights[..., i]
        for j in columns[:place]:
            total += 2.0 * (weights[..., i] * matrix[:, i, j] * weights[..., j])
    return total


def _weighted(weights: FloatArray) -> list[int]:
    """List the fixed effects that have any weight: most contrasts are of a few."""
    return [int(i) for i in np.flatnonzero(weights if weights.ndim == 1 else weights.any(axis=0))]
