"""The one registry of outputs: every quantity that the app can write, declared once.

The writer, the sidecars, the report and the docs all read `QUANTITIES`; a new output starts here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

OutputLevel = Literal["minimal", "default", "full"]
Adjustment = Literal["bh", "by"]
_LEVELS: tuple[OutputLevel, ...] = ("minimal", "default", "full")

DATA_UNITS = "units of the input images"
SQUARED_UNITS = "squared units of the input images"
SLOPE_UNITS = "units of the input images per unit of the regressor"
CONTRAST_UNITS = "units of the input images, times the weights' per unit of the regressors"
NO_UNITS = "dimensionless"


class Scope(StrEnum):
    """What a quantity is one of: one map a fit, or one for each of something."""

    MASK = "mask"
    FIT = "fit"
    FIXEF = "fixed effect"
    FIXEF_PAIR = "pair of fixed effects"
    VECH = "pair of random effects"
    FACTOR = "random factor"
    MODE = "random effect of a level"
    IMAGE = "image"
    T = "T contrast"
    F = "F contrast"
    COMPARISON = "comparison"


@dataclass(frozen=True)
class OutputOptions:
    """Which outputs a node writes.

    Attributes
    ----------
    level : {"minimal", "default", "full"}
        Each level has all maps of those before it.
    cov_beta : bool
        Whether the covariances of the fixed effects are written (``OutputCovB``).
    resms : bool
        Whether the residual mean square is written (``Resms``).
    ranef, residuals : bool
        Whether the maps of each level's random effects, and of each image's residuals, are written.
    """

    level: OutputLevel = "default"
    cov_beta: bool = True
    resms: bool = True
    ranef: bool = False
    residuals: bool = False


@dataclass(frozen=True)
class Quantity:
    """One quantity that is written as maps.

    Attributes
    ----------
    name : str
        Label of the ``stat`` entity (of ``desc`` for a mask).
    scope : Scope
        What there is one map of.
    key : str
        Key of the block results; after ``c<index>_`` for contrasts.
    description : str
        One sentence for sidecars and docs; what the map is of is added to it.
    units : str
        Units of the values.
    dtype : str
        numpy's name of the type on disk.
    level : {"minimal", "default", "full"}
        The least ``--outputs`` level that writes it.
    switch : str or None
        Field of `OutputOptions` that must also be true.
    map_type : str
        NeuroVault's word for this kind of map.
    intent : str
        NIfTI intent; the parameters of t and F are added where they are constant.
    suffix : str
        BIDS suffix.
    adjustment : {"bh", "by"} or None
        The block results are -log10 p, and the map their false discovery rate over all voxels: by Benjamini
        and Hochberg, or by Benjamini and Yekutieli.
    """

    name: str
    scope: Scope
    key: str
    description: str
    units: str = NO_UNITS
    dtype: str = "float32"
    level: OutputLevel = "default"
    switch: str | None = None
    map_type: str = "Other"
    intent: str = "none"
    suffix: str = "statmap"
    adjustment: Adjustment | None = None

    def is_written(self, options: OutputOptions) -> bool:
        """Whether these options ask for the quantity."""
        wanted = _LEVELS.index(self.level) <= _LEVELS.index(options.level)
        return wanted and (self.switch is None or bool(getattr(options, self.switch)))

    @property
    def is_integer(self) -> bool:
        """Whether the map holds integers, so that no voxel of it can be NaN."""
        return not self.dtype.startswith("float")


_FIT_QUANTITIES = (
    Quantity(
        "analysis", Scope.MASK, "", "Voxels in which the model was tried.",
        dtype="uint8", level="minimal", suffix="mask",
    ),
    Quantity(
        "n", Scope.FIT, "n", "Number of images with a value here.",
        units="images", dtype="int32", level="minimal",
    ),
    Quantity(
        "status", Scope.FIT, "status", "How the fit ended here; see Levels.",
        dtype="int16", level="minimal", intent="label",
    ),
    Quantity(
        "edf", Scope.FIT, "edf", "Naive error degrees of freedom: images less fixed effects. For reference.",
    ),
    Quantity(
        "sigma2", Scope.FIT, "sigma2", "Residual variance.",
        units=SQUARED_UNITS, map_type="variance", intent="estimate",
    ),
    Quantity(
        "resms", Scope.FIT, "resms",
        "Residual mean square: squared distance of the data from the fixed effects alone, over edf.",
        units=SQUARED_UNITS, switch="resms", map_type="variance", intent="estimate",
    ),
    Quantity(
        "mean", Scope.FIT, "mean", "Mean of the images with a value here.",
        units=DATA_UNITS, intent="estimate",
    ),
    Quantity(
        "logLikelihood", Scope.FIT, "logLikelihood", "Maximised log-likelihood, natural logarithm.",
        dtype="float64",
    ),
    Quantity(
        "iterations", Scope.FIT, "iterations", "Evaluations of the criterion until the fit ended.",
        dtype="int32",
    ),
    Quantity(
        "beta", Scope.FIXEF, "beta", "Fixed effect.",
        units=SLOPE_UNITS, map_type="univariate-beta map", intent="estimate",
    ),
    Quantity(
        "D", Scope.VECH, "D",
        "Element of the random effects' covariance matrix relative to the residual variance "
        "(multiply by sigma2 for the covariance itself).",
        intent="estimate",
    ),
    Quantity(
        "covbeta", Scope.FIXEF_PAIR, "vcov", "Covariance of two fixed effects' estimates.",
        units=SQUARED_UNITS + " per unit of each regressor", switch="cov_beta",
        map_type="variance", intent="estimate",
    ),
    Quantity(
        "varcorr", Scope.VECH, "varcorr",
        "Random effects as standard deviations (an effect with itself) and correlations (two effects).",
        units=SLOPE_UNITS + "; correlations dimensionless", level="full", intent="estimate",
    ),
    Quantity(
        "icc", Scope.FACTOR, "icc",
        "Intraclass correlation: the factor's share of the variance of an image.",
        level="full", intent="estimate",
    ),
)  # fmt: skip

# Their keys are the names that `--outputs` has for them and that the fit keeps them under.
_SERIES_QUANTITIES = (
    Quantity(
        "ranef", Scope.MODE, "ranef",
        "Conditional mode of a random effect (lme4's ranef), the level's departure from the fixed effects.",
        units=SLOPE_UNITS, level="minimal", switch="ranef", intent="estimate",
    ),
    Quantity(
        "residual", Scope.IMAGE, "residuals",
        "Conditional residual, the image less its fixed effects and conditional modes (NaN where missing).",
        units=DATA_UNITS, level="minimal", switch="residuals", intent="estimate",
    ),
)  # fmt: skip

_T_QUANTITIES = (
    Quantity(
        "effect", Scope.T, "effect", "Estimate of the contrast.",
        units=CONTRAST_UNITS, level="minimal", map_type="univariate-beta map", intent="estimate",
    ),
    Quantity(
        "variance", Scope.T, "variance", "Squared standard error of the contrast.",
        units="square of the effect's units", map_type="variance", intent="estimate",
    ),
    Quantity(
        "se", Scope.T, "se", "Standard error of the contrast.",
        units=CONTRAST_UNITS, level="minimal", intent="estimate",
    ),
    Quantity(
        "t", Scope.T, "t", "T statistic of the contrast.",
        level="minimal", map_type="T map", intent="t test",
    ),
    Quantity("dof", Scope.T, "dof", "Degrees of freedom of t.", level="minimal"),
    Quantity(
        "z", Scope.T, "z", "Standard normal equivalent of t, with its sign.",
        level="minimal", map_type="Z map", intent="z score",
    ),
    Quantity(
        "logp", Scope.T, "logp", "-log10 of the one-sided p value of t (alternative: greater than zero).",
        level="minimal", map_type="P map (given null hypothesis)", intent="log10 p value",
    ),
    Quantity(
        "p", Scope.T, "p", "One-sided p value of t (alternative: greater than zero).",
        level="full", map_type="P map (given null hypothesis)", intent="p value",
    ),
    Quantity(
        "logp2", Scope.T, "logp2", "-log10 of the two-sided p value of t.",
        level="full", map_type="P map (given null hypothesis)", intent="log10 p value",
    ),
    Quantity(
        "fdr", Scope.T, "logp2",
        "q value of the two-sided p: false discovery rate by Benjamini and Hochberg.",
        adjustment="bh",
    ),
    Quantity(
        "fdrBY", Scope.T, "logp2",
        "q value of the two-sided p: false discovery rate by Benjamini and Yekutieli, under any dependence.",
        adjustment="by",
    ),
)  # fmt: skip

_F_QUANTITIES = (
    Quantity(
        "F", Scope.F, "F", "F statistic of the contrast.",
        level="minimal", map_type="F map", intent="f test",
    ),
    Quantity("dof", Scope.F, "dof", "Denominator degrees of freedom of F.", level="minimal"),
    Quantity(
        "z", Scope.F, "z", "Standard normal with the same upper-tail p value as F.",
        level="minimal", map_type="Z map", intent="z score",
    ),
    Quantity(
        "logp", Scope.F, "logp", "-log10 of the p value of F (upper tail).",
        level="minimal", map_type="P map (given null hypothesis)", intent="log10 p value",
    ),
    Quantity(
        "p", Scope.F, "p", "p value of F (upper tail).",
        level="full", map_type="P map (given null hypothesis)", intent="p value",
    ),
    Quantity(
        "partialR2", Scope.F, "partialR2", "Partial R squared: rF / (rF + dof), r the contrast's rank.",
        level="default",
    ),
    Quantity(
        "fdr", Scope.F, "logp", "q value of the p of F: false discovery rate by Benjamini and Hochberg.",
        adjustment="bh",
    ),
    Quantity(
        "fdrBY", Scope.F, "logp",
        "q value of the p of F: false discovery rate by Benjamini and Yekutieli, under any dependence.",
        adjustment="by",
    ),
)  # fmt: skip

_COMPARISON_QUANTITIES = (
    Quantity(
        "chi2", Scope.COMPARISON, "chi2", "Likelihood ratio: twice the difference of the log-likelihoods.",
        dtype="float64", level="minimal", map_type="X2 map",
    ),
    Quantity(
        "logp", Scope.COMPARISON, "logp", "-log10 of the p value of the likelihood ratio test (upper tail).",
        level="minimal", map_type="P map (given null hypothesis)", intent="log10 p value",
    ),
)  # fmt: skip

QUANTITIES: tuple[Quantity, ...] = (
    *_FIT_QUANTITIES, *_SERIES_QUANTITIES, *_T_QUANTITIES, *_F_QUANTITIES, *_COMPARISON_QUANTITIES,
)  # fmt: skip


def quantities_of(options: OutputOptions, scopes: Iterable[Scope]) -> tuple[Quantity, ...]:
    """Quantities of these scopes that the options ask for, in the registry's order."""
    wanted = frozenset(scopes)
    return tuple(entry for entry in QUANTITIES if entry.scope in wanted and entry.is_written(options))
