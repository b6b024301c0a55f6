"""The functions that a formula may call.

Each computes over the rows that are fitted, since it is only called after all rows are dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from formulaic.transforms import basis_spline, cyclic_cubic_spline, natural_cubic_spline, poly
from formulaic.transforms import contrasts as codings
from numpy.typing import NDArray

from blmm_bids.design.columns import REFERENCE, categorical_values, group_codes, is_categorical, label
from blmm_bids.design.dates import DAYS_OF_A_YEAR, day_numbers
from blmm_bids.errors import ModelSpecError

FloatArray = NDArray[np.float64]

MAX_COLUMNS = 50
"""Most columns that one spline or polynomial may have."""


@dataclass(frozen=True)
class Coding:
    """A coding of a categorical variable, the second argument of ``C``.

    Attributes
    ----------
    scheme : formulaic Contrasts
        The coding itself.
    base : str or None
        Reference level to be checked against the levels there are.
    name : str
        R's name of a coding whose columns do not compare the levels with the first one, where that is so
        whatever the order of the levels; empty otherwise.
    """

    scheme: Any
    base: str | None = None
    name: str = ""


@dataclass(frozen=True)
class Function:
    """An allow-listed function and the keyword arguments it takes."""

    call: Callable[..., Any]
    keywords: tuple[str, ...] = ()


def _numbers(x: object, function: str) -> FloatArray:
    if isinstance(x, pd.Series) and is_categorical(x):
        msg = f"'{x.name}' holds labels; {function}() takes numbers"
        raise ModelSpecError(msg)
    if not isinstance(x, (pd.Series, np.ndarray)) or x.ndim != 1:
        msg = f"the first argument of {function}() must be a numeric variable"
        raise ModelSpecError(msg)
    return np.asarray(x, dtype=np.float64)


def _grouped(by: object) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Group of each row, and the groups' labels."""
    given: list[object] = by if isinstance(by, list) else [by]
    groups = [group for group in given if isinstance(group, pd.Series)]
    if len(groups) < len(given) or not groups:
        msg = "by= takes a grouping variable, as in by=subject"
        raise ModelSpecError(msg)
    return group_codes(groups)


def _spread(values: FloatArray, by: object) -> FloatArray:
    """Mean of each row's group, or of all rows."""
    if by is None:
        return np.full(len(values), values.mean())
    refs, levels = _grouped(by)
    count = np.bincount(refs, minlength=len(levels))
    total = np.bincount(refs, weights=values, minlength=len(levels))
    return np.asarray(total[refs] / count[refs], dtype=np.float64)


def _mean(x: object, by: object = None) -> FloatArray:
    return _spread(_numbers(x, "mean"), by)


def _center(x: object, by: object = None) -> FloatArray:
    values = _numbers(x, "center")
    centered = values - _spread(values, by)
    # Rounding leaves about 1e-16 of the values where a group's values are all equal.
    return np.where(np.abs(centered) <= 1e-14 * np.abs(values).max(initial=0.0), 0.0, centered)


def _scale(x: object, center: bool = True, scale: bool = True, ddof: float = 1) -> FloatArray:  # noqa: FBT001, FBT002
    values = _numbers(x, "scale")
    centered = values - values.mean()
    spread = np.sqrt((centered**2).sum() / max(len(values) - ddof, 1))
    if scale and not spread > 1e-14 * np.abs(values).max(initial=0.0):
        msg = "a variable that has one value cannot be scaled"
        raise ModelSpecError(msg)
    return (centered if center else values) / (spread if scale else 1.0)


def _standardize(x: object, center: bool = True, rescale: bool = True, ddof: float = 0) -> FloatArray:  # noqa: FBT001, FBT002
    return _scale(x, center=center, scale=rescale, ddof=ddof)


def _since_first(name: str, unit: float) -> Callable[..., FloatArray]:
    """Time since the first date of all rows, or of each row's group, in units of some days."""

    def call(x: object, by: object = None) -> FloatArray:
        if not isinstance(x, pd.Series):
            msg = f"the first argument of {name}() must be a column of dates"
            raise ModelSpecError(msg)
        days = day_numbers(x, name)
        if by is None:
            return np.asarray((days - days.min()) / unit)
        refs, levels = _grouped(by)
        first = np.full(len(levels), np.inf)
        np.minimum.at(first, refs, days)
        return np.asarray((days - first[refs]) / unit)

    return call


def _identity(x: object) -> object:
    return x


def _elementwise(function: np.ufunc) -> Callable[[Any], Any]:
    def call(x: object) -> object:
        if isinstance(x, (int, float, np.floating)):
            return function(np.float64(x))
        return function(_numbers(x, function.__name__))

    return call


def _spline(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    """Wrap one of formulaic's bases so that a typo cannot ask for gigabytes."""

    def call(x: object, df: object = None, **keywords: object) -> object:
        for bound, value in (("df", df), ("degree", keywords.get("degree"))):
            if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
                msg = f"{bound} of {name}() is a whole number"
                raise ModelSpecError(msg)
            if value is not None and not 0 < value <= MAX_COLUMNS:
                msg = f"{bound} of {name}() is from 1 to {MAX_COLUMNS}"
                raise ModelSpecError(msg)
        return function(_numbers(x, name), df=df, **keywords)

    return call


def _poly(x: object, degree: int = 1, raw: bool = False) -> object:  # noqa: FBT001, FBT002
    values = _numbers(x, "poly")
    if isinstance(degree, bool) or not isinstance(degree, int) or not 1 <= degree <= MAX_COLUMNS:
        msg = f"poly() takes a whole degree from 1 to {MAX_COLUMNS}"
        raise ModelSpecError(msg)
    if degree >= len(np.unique(values)):
        msg = f"poly() of degree {degree} needs more than {degree} different values"
        raise ModelSpecError(msg)
    return poly(values, degree=degree, raw=bool(raw))


def _categorical(x: object, contrasts: object = None, levels: Sequence[object] | None = None) -> object:
    """Mark a variable as categorical, with an optional coding and order of levels."""
    if not isinstance(x, pd.Series):
        msg = "C() takes a variable"
        raise ModelSpecError(msg)
    values = categorical_values(x)
    found = [str(name) for name in values.cat.categories]
    if levels is not None:
        if not isinstance(levels, list):
            msg = "levels= takes a list, as in levels=['low', 'high']"
            raise ModelSpecError(msg)
        wanted = [label(level) for level in levels]
        if absent := [name for name in found if name not in wanted]:
            msg = f"levels= lacks {', '.join(absent)}, which the data have"
            raise ModelSpecError(msg)
        found = [name for name in dict.fromkeys(wanted) if name in found]
        if x.attrs.get(REFERENCE) in found:
            found.insert(0, found.pop(found.index(x.attrs[REFERENCE])))
        values = values.cat.set_categories(found)
    if contrasts is not None and not isinstance(contrasts, Coding):
        msg = f"the coding of C() is one of {', '.join(CODINGS)}"
        raise ModelSpecError(msg)
    if contrasts is not None and contrasts.base is not None and contrasts.base not in found:
        msg = f"the reference level '{contrasts.base}' is not among {', '.join(found)}"
        raise ModelSpecError(msg)
    _check_reference(x.attrs.get(REFERENCE), contrasts)
    return codings.C(values, contrasts.scheme if contrasts else None, levels=found)


def _check_reference(reference: str | None, coding: Coding | None) -> None:
    """Refuse a reference level that the coding written in the formula does not take."""
    if reference is None or coding is None:
        return
    if coding.base not in (None, reference):
        msg = f"it says '{coding.base}', and Reference (--reference) says '{reference}'; keep one of them"
        raise ModelSpecError(msg)
    if coding.base is None and coding.name:
        msg = (
            f"{coding.name} has no place for the level that Reference (--reference) names, '{reference}'; "
            "take another coding or leave it out"
        )
        raise ModelSpecError(msg)


def _based(scheme: Callable[..., Any], name: str = "") -> Callable[..., Coding]:
    def coding(base: object = None) -> Coding:
        if base is None:
            return Coding(scheme(), name=name)
        return Coding(scheme(base=label(base)), label(base))

    return coding


def _treatment(reference: object = None) -> Coding:
    return _based(codings.TreatmentContrasts)(reference)


CODINGS: dict[str, Callable[..., Coding]] = {
    "contr.treatment": _based(codings.TreatmentContrasts),
    "contr.SAS": _based(codings.SASContrasts, "contr.SAS"),
    "contr.sum": lambda: Coding(codings.SumContrasts()),
    "contr.helmert": lambda reverse=True, scale=False: Coding(
        codings.HelmertContrasts(reverse=reverse, scale=scale)
    ),
    "contr.diff": lambda backward=True: Coding(codings.DiffContrasts(backward=backward), name="contr.diff"),
    "contr.poly": lambda scores=None: Coding(codings.PolyContrasts(scores=scores), name="contr.poly"),
}
"""Codings by R's names; taken with or without parentheses."""

_CODING_KEYWORDS = {
    "contr.treatment": ("base",),
    "contr.SAS": ("base",),
    "contr.helmert": ("reverse", "scale"),
    "contr.diff": ("backward",),
    "contr.poly": ("scores",),
}
_SPLINE = ("df", "knots", "lower_bound", "upper_bound", "extrapolation")

DATE_FUNCTIONS = frozenset({"days", "years"})
"""Those whose first argument is a column of dates."""

FUNCTIONS: dict[str, Function] = {
    "C": Function(_categorical, ("contrasts", "levels")),
    "center": Function(_center, ("by",)),
    "mean": Function(_mean, ("by",)),
    "scale": Function(_scale, ("center", "scale", "ddof")),
    "standardize": Function(_standardize, ("center", "rescale", "ddof")),
    "days": Function(_since_first("days", 1.0), ("by",)),
    "years": Function(_since_first("years", DAYS_OF_A_YEAR), ("by",)),
    "poly": Function(_poly, ("degree", "raw")),
    "bs": Function(_spline(basis_spline, "bs"), (*_SPLINE, "degree", "include_intercept")),
    "cr": Function(_spline(natural_cubic_spline, "cr"), _SPLINE),
    "cs": Function(_spline(natural_cubic_spline, "cs"), _SPLINE),
    "cc": Function(_spline(cyclic_cubic_spline, "cc"), _SPLINE),
    "log": Function(_elementwise(np.log)),
    "log2": Function(_elementwise(np.log2)),
    "log10": Function(_elementwise(np.log10)),
    "exp": Function(_elementwise(np.exp)),
    "sqrt": Function(_elementwise(np.sqrt)),
    "abs": Function(_elementwise(np.absolute)),
    "I": Function(_identity),
    "Treatment": Function(_treatment, ("reference",)),
    **{name: Function(coding, _CODING_KEYWORDS.get(name, ())) for name, coding in CODINGS.items()},
}
"""Everything that a formula may call."""
