"""What a mixed model is, before and after it meets data.

Dimension words used in all docstrings: ``obs`` (an image), ``voxel``, ``fixef`` (a column of X),
``term`` (one random-effects bar), ``level`` (a level of a term's grouping factor), ``effect`` (a
column of a term), ``vech`` (a lower-triangle element of a term's covariance, column-major),
``contrast`` (a row of L).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from blmm_bids.errors import DataError

if TYPE_CHECKING:
    from blmm_bids.stats.plan import DesignPlan

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

Satterthwaite = Literal["expected", "ml-expected", "observed"]
Method = Literal["default", "FS", "pFS", "SFS", "pSFS"]


class Status(IntEnum):
    """How a voxel ended. The integer is what the status map holds."""

    CONVERGED = 0
    SINGULAR = 1
    MAX_ITER = 2
    TOO_FEW_IMAGES = 3
    RANK_DEFICIENT = 4
    ONE_LEVEL = 5
    SAFE_MODE = 6
    CONSTANT = 7
    ZERO_RESIDUAL = 8
    RANDOM_IN_FIXED = 9

    @property
    def sentence(self) -> str:
        """What the code means and what to make of it."""
        return _STATUS_SENTENCES[self]

    @property
    def is_fitted(self) -> bool:
        """Whether the voxel has estimates."""
        return self in (Status.CONVERGED, Status.SINGULAR, Status.MAX_ITER)


_STATUS_SENTENCES = {
    Status.CONVERGED: "Converged inside the parameter space.",
    Status.SINGULAR: (
        "Converged on the boundary: some random-effects variance is zero or some correlation is "
        "one (lme4's isSingular). The estimates are the maximum and may be used."
    ),
    Status.MAX_ITER: (
        "Stopped before the tolerance was met: at the iteration limit, or where rounding hides any "
        "gain; the best estimate so far is kept. Raise MaxIter or Tol, or simplify the random effects."
    ),
    Status.TOO_FEW_IMAGES: "Not fitted: no more images here than the model has fixed effects plus one.",
    Status.RANK_DEFICIENT: (
        "Not fitted: with the images present here the columns of X are linearly dependent."
    ),
    Status.ONE_LEVEL: ("Not fitted: the images present here leave a grouping factor with a single level."),
    Status.SAFE_MODE: (
        "Not fitted: some random term has at least as many effects here as there are images, so "
        "its variance cannot be told from the residual's (SafeMode)."
    ),
    Status.CONSTANT: "Not fitted: all images have the same value here.",
    Status.ZERO_RESIDUAL: "Not fitted: the fixed effects explain the data here without residual.",
    Status.RANDOM_IN_FIXED: (
        "Not fitted: with the images present here the fixed effects take up all that a random term has, so "
        "its variance cannot be told."
    ),
}


@dataclass(frozen=True, eq=False)
class RandomTerm:
    """One bar of a formula, ``(effects | group)``.

    A ``||`` bar is several terms of the same group.

    Attributes
    ----------
    group : str
        Name of the grouping factor, as written (``"subject"``, ``"site:family"``).
    levels : tuple of str
        The factor's levels.
    refs : (obs,) int64
        Index into ``levels`` for each observation.
    effects : (obs, effect) float64
        The columns of the bar's left side.
    effect_names : tuple of str
        One name a column, ``"Intercept"`` for the constant.
    """

    group: str
    levels: tuple[str, ...]
    refs: IntArray
    effects: FloatArray
    effect_names: tuple[str, ...]

    def __post_init__(self) -> None:
        """Check the shapes at the door."""
        n_obs, n_effects = self.effects.shape
        if self.refs.shape != (n_obs,):
            msg = f"refs of term '{self.group}' has shape {self.refs.shape}; effects has {n_obs} along 'obs'"
            raise DataError(msg)
        if len(self.effect_names) != n_effects:
            msg = f"term '{self.group}' has {n_effects} effects and {len(self.effect_names)} effect names"
            raise DataError(msg)

    @property
    def n_levels(self) -> int:
        """Number of levels of the grouping factor."""
        return len(self.levels)

    @property
    def n_effects(self) -> int:
        """Number of columns of the bar's left side."""
        return int(self.effects.shape[1])

    @property
    def vech_names(self) -> tuple[tuple[str, str], ...]:
        """Effect names of each vech element of D, column-major lower triangle."""
        names = self.effect_names
        return tuple((names[col], names[row]) for col in range(len(names)) for row in range(col, len(names)))


@dataclass(frozen=True, eq=False)
class Design:
    """Fixed and random parts of a model, a row per observation.

    Attributes
    ----------
    X : (obs, fixef) float64
        Fixed-effects model matrix.
    fixef_names : tuple of str
        One name a column of X.
    terms : tuple of RandomTerm
        Random terms in the order of the formula; empty for a linear model.
    """

    X: FloatArray
    fixef_names: tuple[str, ...]
    terms: tuple[RandomTerm, ...] = ()

    def __post_init__(self) -> None:
        """Check the shapes at the door."""
        n_obs, n_fixef = self.X.shape
        if len(self.fixef_names) != n_fixef:
            msg = f"X has {n_fixef} along 'fixef'; fixef_names has {len(self.fixef_names)}"
            raise DataError(msg)
        for term in self.terms:
            if term.effects.shape[0] != n_obs:
                msg = f"X has {n_obs} along 'obs'; term '{term.group}' has {term.effects.shape[0]}"
                raise DataError(msg)

    @property
    def n_obs(self) -> int:
        """Number of observations."""
        return int(self.X.shape[0])

    @property
    def n_fixef(self) -> int:
        """Number of fixed effects, p."""
        return int(self.X.shape[1])

    @property
    def n_ranef(self) -> int:
        """Number of random effects over all levels, q."""
        return sum(term.n_levels * term.n_effects for term in self.terms)


@dataclass(frozen=True, eq=False)
class Contrast:
    """A linear hypothesis ``L beta = 0``.

    Attributes
    ----------
    name : str
        As the user wrote it.
    L : (contrast, fixef) float64
        One row for T; one or more for F.
    test : {"t", "F"}
        Which statistic.
    """

    name: str
    L: FloatArray
    test: Literal["t", "F"]

    def __post_init__(self) -> None:
        """Check the shapes at the door."""
        if self.L.ndim != 2 or (self.test == "t" and self.L.shape[0] != 1):
            msg = (
                f"contrast '{self.name}' has weights of shape {self.L.shape}; a T contrast has one row, an F "
                "contrast is 2-D"
            )
            raise DataError(msg)


@dataclass(frozen=True)
class FitOptions:
    """How to fit.

    Attributes
    ----------
    reml : bool
        Restricted (default) or full maximum likelihood.
    method : str
        ``default`` or one of the Fisher scoring variants.
    tol : float
        Bound on the change of the log-likelihood at convergence.
    max_iter : int
        Bound on the number of evaluations of the criterion per voxel.
    satterthwaite : str
        Which asymptotic covariance of the variance parameters the dfs use.
    safe_mode : bool
        Drop voxels where a term has at least as many effects as there are observations.
    """

    reml: bool = True
    method: Method = "default"
    tol: float = 1e-6
    max_iter: int = 10_000
    satterthwaite: Satterthwaite = "expected"
    safe_mode: bool = True


@dataclass(frozen=True, eq=False)
class Fit:
    """Estimates of one block of voxels; NaN where ``status`` is not a fitted one.

    Attributes
    ----------
    n_obs : (voxel,) int64
        Observations present.
    status : (voxel,) int64
        `Status` codes.
    n_iter : (voxel,) int64
        Evaluations of the criterion.
    beta : (voxel, fixef)
        Fixed effects, in units of the data.
    vcov : (voxel, fixef, fixef)
        Covariance of beta, ``sigma2 (X'V^-1X)^-1``.
    sigma2 : (voxel,)
        Residual variance, squared units of the data.
    D : (voxel, vech)
        Random-effects covariances relative to sigma2, terms one after the other.
    loglik : (voxel,)
        Maximised (restricted) log-likelihood, natural log.
    resms : (voxel,)
        Residual mean square ``|y - X beta|^2 / (n - p)``.
    eta_cov : (voxel, eta, eta)
        Asymptotic covariance of the variance parameters, in the coordinates of ``vcov_grad``.
    vcov_grad : (voxel, eta, fixef, fixef)
        Derivative of ``coef_cov`` in those coordinates.
    coef, coef_cov : (voxel, fixef), (voxel, fixef, fixef)
        Coefficients that contrasts are taken in, and their covariance: ``beta`` and ``vcov``, or where X is
        badly conditioned those of its orthonormal basis Q.
    strata_df : (voxel, stratum + 1)
        Lower bounds of the dfs of the design's strata; see `blmm_bids.stats.strata`.
    plan : DesignPlan
        What was fitted.
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
    coef: FloatArray
    coef_cov: FloatArray
    strata_df: FloatArray
    plan: DesignPlan
