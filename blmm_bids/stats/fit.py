"""Fit every voxel of a block: sort by missingness pattern, search, map back to the user's scales."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from blmm_bids.errors import DataError
from blmm_bids.stats.flatness import flat_voxels
from blmm_bids.stats.methods import UPDATES
from blmm_bids.stats.model import Fit, FitOptions, FloatArray, IntArray, Status
from blmm_bids.stats.plan import DesignPlan

if TYPE_CHECKING:
    from blmm_bids.stats.kernels.search import Rules

# lme4's isSingular: a diagonal element of the relative covariance factor below this, of effects of one size.
SINGULAR_TOLERANCE = 1e-4
# Conditioned covariances below this are zero: what a search has left of them would say nothing, and is beyond
# the range of float32.
NO_COVARIANCE = 1e-30


def fit_voxels(plan: DesignPlan, y: NDArray[np.floating], options: FitOptions) -> Fit:
    """Fit the model at each voxel by (restricted) maximum likelihood.

    Parameters
    ----------
    plan : DesignPlan
        From `make_plan`.
    y : (voxel, obs) float32 or float64
        Values; NaN where an image is missing.
    options : FitOptions

    Returns
    -------
    Fit
        A row's bits depend on the row alone, not on the block it came in.

    Raises
    ------
    DataError
        When ``y`` and the design differ in their number of observations.
    """
    # numba is loaded by the first fit, not by whoever plans one.
    from blmm_bids.stats.kernels.rounds import fit_waiting

    if y.ndim != 2 or y.shape[1] != plan.n_obs:
        msg = f"y has shape {y.shape}; the design has {plan.n_obs} along 'obs'"
        raise DataError(msg)
    y = np.ascontiguousarray(y)
    order, pattern_ids = sort_patterns(y)
    out = fit_waiting(plan, y, order, pattern_ids, make_rules(plan, y, options))
    d, singular = relative_covariance(plan, out.D)
    status = np.where((out.status == Status.CONVERGED) & singular, int(Status.SINGULAR), out.status)
    beta, vcov = _in_units(plan, out.beta, out.vcov)
    strata_df = plan.strata.bounds(y, out.n_obs)
    if options.satterthwaite == "observed":
        # lmerTest's own inside; on the boundary its information says too little.
        strata_df[status != Status.SINGULAR] = 0.0
    fit = Fit(
        n_obs=out.n_obs,
        status=status,
        n_iter=out.n_iter,
        beta=beta,
        vcov=vcov,
        sigma2=out.sigma2,
        D=d,
        loglik=out.loglik,
        resms=out.resms,
        eta_cov=out.eta_cov,
        vcov_grad=out.vcov_grad,
        coef=out.beta,
        coef_cov=out.vcov,
        strata_df=strata_df,
        plan=plan,
    )
    partly = np.isfinite(out.sigma2) & (out.n_obs < plan.n_obs)
    _forget(fit, flat_voxels(plan.Q, plan.terms, plan.strata, y, partly))
    return fit


def _in_units(plan: DesignPlan, coef: FloatArray, coef_cov: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Coefficients of X and their covariance, elementwise over voxels."""
    if plan.is_well_conditioned:
        return coef, coef_cov
    beta = np.zeros_like(coef)
    for i in range(plan.n_fixef):
        for j in range(i, plan.n_fixef):
            beta[:, i] += plan.R_inv[i, j] * coef[:, j]
    vcov = _congruence(plan.R_inv, np.moveaxis(coef_cov, 0, 2))
    return beta, np.ascontiguousarray(np.moveaxis(vcov, 2, 0))


def _forget(fit: Fit, flat: NDArray[np.bool_]) -> None:
    """Take the estimates of voxels where a random term lies inside the fixed effects away."""
    if not flat.any():
        return
    fit.status[flat] = Status.RANDOM_IN_FIXED
    for name in (
        "beta",
        "vcov",
        "sigma2",
        "D",
        "loglik",
        "resms",
        "eta_cov",
        "vcov_grad",
        "coef",
        "coef_cov",
    ):
        getattr(fit, name)[flat] = np.nan


def make_rules(plan: DesignPlan, y: NDArray[np.floating], options: FitOptions) -> Rules:
    """Options as the kernels take them."""
    from blmm_bids.stats.kernels.search import Rules

    return Rules(
        reml=options.reml,
        tol=options.tol,
        max_iter=options.max_iter,
        safe_mode=options.safe_mode,
        observed=options.satterthwaite == "observed",
        information_reml=options.reml and options.satterthwaite == "expected",
        resolution=float(np.finfo(y.dtype).eps),
        log_det_r=plan.log_det_R,
        **UPDATES[options.method]._asdict(),
    )


def sort_patterns(y: NDArray[np.floating]) -> tuple[IntArray, IntArray]:
    """Order in which voxels with the same images present are neighbours, and each voxel's pattern.

    Parameters
    ----------
    y : (voxel, obs)

    Returns
    -------
    order : (voxel,)
    pattern_ids : (voxel,)
    """
    missing = np.isnan(y)
    pattern_ids = np.zeros(y.shape[0], dtype=np.int64)
    incomplete = np.flatnonzero(missing.any(axis=1))
    if incomplete.size:
        packed = np.packbits(missing[incomplete], axis=1)
        ids: dict[bytes, int] = {}
        # By their hashes: to sort the rows takes three times as long.
        for voxel, row in zip(incomplete, packed.view(f"V{packed.shape[1]}").ravel().tolist(), strict=True):
            pattern_ids[voxel] = ids.setdefault(row, len(ids) + 1)
    return np.argsort(pattern_ids, kind="stable"), pattern_ids


def relative_covariance(plan: DesignPlan, conditioned: FloatArray) -> tuple[FloatArray, NDArray[np.bool_]]:
    """D on the scale of the user's effects, and whether it is singular.

    Parameters
    ----------
    plan : DesignPlan
    conditioned : (voxel, vech)
        Covariances of the conditioned effects, terms in elimination order.

    Returns
    -------
    D : (voxel, vech)
        Column-major lower triangle of each term's D, terms in the design's order.
    singular : (voxel,)
        lme4's rule over the conditioned effects, of unit root mean square; lme4's own depends on the unit.
    """
    n_voxels = conditioned.shape[0]
    conditioned = np.where(np.abs(conditioned) < NO_COVARIANCE, 0.0, conditioned)
    blocks: dict[int, FloatArray] = {}
    singular = np.zeros(n_voxels, dtype=bool)
    for k, rotation in enumerate(plan.rotations):
        size = rotation.shape[0]
        start = int(plan.structure.theta_start[k])
        columns, rows = np.triu_indices(size)
        inner = np.zeros((size, size, n_voxels))
        inner[rows, columns] = inner[columns, rows] = conditioned[:, start : start + rows.size].T
        outer = _congruence(rotation, inner)
        blocks[plan.term_order[k]] = np.ascontiguousarray(outer[rows, columns].T)
        # Of the conditioned effects: what is singular must not depend on a covariate's unit or origin.
        singular |= _smallest_pivot(inner) < SINGULAR_TOLERANCE**2
    d = [blocks[k] for k in range(len(blocks))]
    return (np.hstack(d) if d else np.zeros((n_voxels, 0))), singular


def _congruence(rotation: FloatArray, inner: FloatArray) -> FloatArray:
    """``T D T'`` at each voxel, elementwise over voxels: a matrix product would go to BLAS."""
    size = rotation.shape[0]
    half = np.zeros_like(inner)
    outer = np.zeros_like(inner)
    for i in range(size):
        for j in range(size):
            for r in range(size):
                half[i, j] += rotation[i, r] * inner[r, j]
    for i in range(size):
        for j in range(size):
            for r in range(size):
                outer[i, j] += half[i, r] * rotation[j, r]
    return outer


def _smallest_pivot(matrix: FloatArray) -> FloatArray:
    """Smallest squared diagonal element of the Cholesky factor of (size, size, voxel) matrices."""
    rest = matrix.copy()
    smallest = np.full(matrix.shape[2], np.inf)
    for j in range(matrix.shape[0]):
        pivot = rest[j, j].copy()
        smallest = np.minimum(smallest, pivot)
        safe = np.where(pivot > 0, pivot, 1.0)
        for i in range(j + 1, matrix.shape[0]):
            for c in range(j + 1, matrix.shape[0]):
                rest[i, c] -= np.where(pivot > 0, rest[i, j] * rest[j, c] / safe, 0.0)
    return smallest
