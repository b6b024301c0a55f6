"""Conditional modes of the random effects and conditional residuals, lme4's ``ranef`` and ``residuals``."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from blmm_bids.errors import DataError
from blmm_bids.stats.fit import sort_patterns
from blmm_bids.stats.model import FloatArray, IntArray, Status
from blmm_bids.stats.plan import DesignPlan

# Voxels worked on side by side.
LANES = 8


@dataclass(frozen=True, eq=False)
class Modes:
    """What a fit says of each level and each image, in units of the data.

    Attributes
    ----------
    ranef : (voxel, ranef)
        Conditional modes ``b = D Z'V^-1 (y - X beta)``: terms in the design's order, then levels, then
        effects. 0 for a level without images at the voxel.
    residuals : (voxel, obs)
        ``y - X beta - Z b``; NaN where the image is missing.
    """

    ranef: FloatArray
    residuals: FloatArray


def conditional_modes(plan: DesignPlan, y: NDArray[np.floating], D: FloatArray, status: IntArray) -> Modes:
    """Conditional modes and residuals at the estimates of a fit.

    Parameters
    ----------
    plan : DesignPlan
        The plan that was fitted.
    y : (voxel, obs) float32 or float64
        Values; NaN where an image is missing.
    D : (voxel, vech)
        `Fit.D`.
    status : (voxel,)
        `Fit.status`; voxels that were not fitted are NaN.

    Returns
    -------
    Modes
        A row's bits depend on the row alone, not on the block it came in.

    Raises
    ------
    DataError
        When ``y``, ``D`` and the design differ in their sizes.

    Notes
    -----
    beta is the generalised least-squares estimate at ``D``: ML and REML fits differ through ``D`` only.
    """
    # numba is loaded by the first call, not by whoever imports this.
    from blmm_bids.stats.kernels.criterion import allocate_factors
    from blmm_bids.stats.kernels.modes import Scales, allocate_work, write_modes
    from blmm_bids.stats.kernels.products import allocate_pattern, allocate_responses
    from blmm_bids.stats.kernels.records import by_reference

    if y.ndim != 2 or y.shape[1] != plan.n_obs:
        msg = f"y has shape {y.shape}; the design has {plan.n_obs} along 'obs'"
        raise DataError(msg)
    if D.shape != (y.shape[0], plan.n_theta):
        msg = f"D has shape {D.shape}; y and the design want {(y.shape[0], plan.n_theta)}"
        raise DataError(msg)
    y = np.ascontiguousarray(y)
    order, pattern_ids = sort_patterns(y)
    fitted = np.isin(status, [int(code) for code in Status if code.is_fitted])
    structure = plan.structure
    columns, first_mode = _places(plan)
    ranef = np.full((y.shape[0], int(structure.sizes[0])), np.nan)
    residuals = np.full(y.shape, np.nan)
    write_modes(
        by_reference(structure),
        plan.Q,
        plan.effects,
        y,
        order[fitted[order]],
        pattern_ids,
        np.ascontiguousarray(D[:, columns]),
        Scales(_padded(plan.rotations), first_mode, float(np.finfo(y.dtype).eps)),
        by_reference(allocate_factors(structure, LANES)),
        by_reference(allocate_pattern(structure, plan.n_obs)),
        by_reference(allocate_responses(plan.n_obs, plan.n_fixef, 1)),
        by_reference(allocate_work(structure, LANES, plan.n_obs)),
        ranef,
        residuals,
    )
    return Modes(ranef, residuals)


def _places(plan: DesignPlan) -> tuple[IntArray, IntArray]:
    """Columns of `Fit.D` in elimination order, and where each eliminated term's modes start."""
    s = plan.structure
    n_vech, n_modes = np.diff(s.theta_start), np.diff(s.term_start)
    by_design = np.argsort(plan.term_order)
    first_vech, first_mode = np.zeros(n_vech.size, np.int64), np.zeros(n_vech.size, np.int64)
    first_vech[by_design] = np.cumsum(n_vech[by_design]) - n_vech[by_design]
    first_mode[by_design] = np.cumsum(n_modes[by_design]) - n_modes[by_design]
    columns = [np.arange(first, first + n) for first, n in zip(first_vech, n_vech, strict=True)]
    return np.concatenate([*columns, np.zeros(0, np.int64)]), first_mode


def _padded(rotations: tuple[FloatArray, ...]) -> FloatArray:
    widest = max((rotation.shape[0] for rotation in rotations), default=1)
    stacked = np.zeros((len(rotations), widest, widest))
    for place, rotation in zip(stacked, rotations, strict=True):
        place[: rotation.shape[0], : rotation.shape[0]] = rotation
    return stacked
