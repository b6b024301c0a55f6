"""Numbers and models in words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from blmm_bids.outputs.sidecars import df_method_text

if TYPE_CHECKING:
    from blmm_bids.outputs.stored import StoredContrast, StoredFit, StoredTerm, StoredVariable

_MANY_LEVELS = 12
_ROUNDING = 1e-12


def weights_text(names: Sequence[str], weights: Sequence[float]) -> str:
    """Write a row of weights as a sum, ``age - 2 * time``."""
    text = ""
    for name, weight in zip(names, weights, strict=True):
        if weight == 0:
            continue
        sign = "-" if weight < 0 else "+" if text else ""
        size = "" if abs(weight) == 1 else f"{abs(weight):g} * "
        text += f" {sign} {size}{name}" if text else f"{sign}{size}{name}"
    return text or "0"


def contrast_texts(contrast: StoredContrast) -> list[str]:
    """Rows of a contrast's weights as sums."""
    return [weights_text(contrast.columns, row) for row in contrast.weights]


def duration_text(seconds: float | None) -> str:
    """Write a duration as hours, minutes and seconds; empty when it is not known."""
    if seconds is None:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def estimator_text(fit: StoredFit) -> str:
    """Say how the model was fitted."""
    if not fit.terms:
        return "ordinary least squares (a linear model: no random effects)"
    criterion = "restricted maximum likelihood (REML)" if fit.reml else "maximum likelihood (ML)"
    return criterion if fit.method == "default" else f"{criterion} by {fit.method}"


def df_text(fit: StoredFit) -> str:
    """Say how degrees of freedom came about."""
    test = "F" if any(contrast.test == "F" for contrast in fit.contrasts) else "t"
    return df_method_text(fit.satterthwaite, test, is_mixed=bool(fit.terms))


def model_text(fit: StoredFit) -> str:
    """Put the model into a sentence for readers who do not know lme4's formulas."""
    fixed = [each.name for each in fit.variables if each.kind != "grouping"]
    has_intercept = any(each.names.get("RegressorName") == "Intercept" for each in fit.maps)
    parts = _listed([*(["an intercept"] if has_intercept else []), *fixed]) if fixed else "its mean"
    text = f"At each voxel the value of an image is modelled as a fixed part ({parts})"
    for term in fit.terms:
        text += f", plus {_term_text(term)}"
    return f"{text}, plus noise."


def _term_text(term: StoredTerm) -> str:
    slopes = [name for name in term.effect_names if name != "Intercept"]
    parts = [f"a slope of {_listed(slopes)}"] if slopes else []
    if "Intercept" in term.effect_names:
        parts.insert(0, "a level")
    together = " (which may be correlated)" if len(term.effect_names) > 1 else ""
    return f"{' and '.join(parts)} of its own for each {term.group}{together}"


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def values_text(variable: StoredVariable) -> str:
    """Say which values a variable has: the range of numbers, or the levels where they are few."""
    if variable.kind == "date":
        return " to ".join(variable.levels)
    if variable.minimum is not None and variable.maximum is not None and variable.mean is not None:
        # A centred variable's mean is zero but for rounding.
        scale = max(abs(variable.minimum), abs(variable.maximum))
        mean = 0.0 if abs(variable.mean) < _ROUNDING * scale else variable.mean
        return f"{variable.minimum:g} to {variable.maximum:g}, mean {mean:.4g}"
    if len(variable.levels) > _MANY_LEVELS:
        return f"{len(variable.levels)} levels"
    counts = [*variable.counts, *[None] * (len(variable.levels) - len(variable.counts))]
    pairs = zip(variable.levels, counts, strict=False)
    return ", ".join(str(level) if count is None else f"{level} ({count})" for level, count in pairs)


def p_text(p: float) -> str:
    """Write a p or q value as papers print it."""
    if math.isnan(p):
        return "n/a"
    if p < 1e-4:
        return f"{p:.1e}" if p > 0 else "< 1e-300"
    return f"{p:.4f}"
