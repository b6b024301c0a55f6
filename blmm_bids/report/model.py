"""The design of a fit: the fixed part, how its columns hang together, the random part, the contrasts."""

from __future__ import annotations

from collections import Counter
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from blmm_bids.report import wording
from blmm_bids.report.charts import count_chart
from blmm_bids.report.heatmap import heatmap

if TYPE_CHECKING:
    from blmm_bids.report.fit import ReportFit
    from blmm_bids.stats.model import FloatArray, RandomTerm

# Cells of the picture of Z along each side.
_MAX_CELLS = 110
_HIGH_VIF = 5.0


def design_view(fit: ReportFit) -> dict[str, Any]:
    """Pictures and tables of the design."""
    design = fit.design
    return {
        "variables": [
            {
                "name": each.name,
                "kind": each.kind,
                "reason": each.reason,
                "table": each.table,
                "summary": wording.values_text(each),
                "reference": each.reference or "",
                "n_missing": each.n_missing,
            }
            for each in fit.stored.variables
        ],
        "heatmap": heatmap(design.X, design.fixef_names),
        "correlations": correlation_rows(design.X, design.fixef_names),
        "factors": [factor_view(term) for term in design.terms],
        "relations": relations(design.terms),
        "contrasts": [
            {"name": each.name, "test": each.test, "rank": each.rank, "weights": wording.contrast_texts(each)}
            for each in fit.stored.contrasts
        ],
    }


def correlation_rows(matrix: FloatArray, names: tuple[str, ...]) -> list[dict[str, Any]]:
    """Correlations of the columns that vary, with variance inflation factors; empty below two columns.

    The factor is that of a model with an intercept: the diagonal of the inverse of the correlations.
    """
    varying = np.flatnonzero(np.ptp(matrix, axis=0) > 0)
    if len(varying) < 2:
        return []
    correlations = np.atleast_2d(np.corrcoef(matrix[:, varying], rowvar=False))
    # Columns may depend on each other once their means are taken off: then there is no factor.
    full = np.linalg.matrix_rank(correlations) == len(varying)
    inflation = np.diag(np.linalg.inv(correlations)) if full else np.full(len(varying), np.inf)
    return [
        {
            "name": names[column],
            "correlations": np.round(correlations[row], 2).tolist(),
            "vif": float(inflation[row]),
            "is_high": bool(inflation[row] > _HIGH_VIF),
        }
        for row, column in enumerate(varying.tolist())
    ]


def images_per_level(term: RandomTerm) -> str:
    """Say how many images the levels of a factor have."""
    per_level = np.bincount(term.refs, minlength=term.n_levels)
    least, most = int(per_level.min()), int(per_level.max())
    return str(least) if least == most else f"{least} to {most}, median {np.median(per_level):g}"


def factor_view(term: RandomTerm) -> dict[str, Any]:
    """Describe a random term: images per level, and the pattern of its Z."""
    per_level = np.bincount(term.refs, minlength=term.n_levels)
    return {
        "name": term.group,
        "effects": ", ".join(term.effect_names),
        "n_levels": term.n_levels,
        "range": images_per_level(term),
        "chart": count_chart(
            per_level.astype(np.float64),
            f"Levels of {term.group} by number of images",
            "images per level",
            "levels",
        ),
        "pattern": pattern(term),
    }


def pattern(term: RandomTerm) -> dict[str, Any]:
    """Where Z has entries: (column, row, share) of cells in a picture of levels by images."""
    n_obs = len(term.refs)
    width, height = min(term.n_levels, _MAX_CELLS), min(n_obs, _MAX_CELLS)
    columns = term.refs * width // term.n_levels
    rows = np.arange(n_obs) * height // n_obs
    counts = Counter(zip(columns.tolist(), rows.tolist(), strict=True))
    most = max(counts.values())
    cells = [(column, row, round(count / most, 2)) for (column, row), count in sorted(counts.items())]
    return {"width": width, "height": height, "cells": cells}


def relations(terms: tuple[RandomTerm, ...]) -> list[str]:
    """How the factors lie to each other: nested, or crossed."""
    factors = {term.group: term.refs for term in terms}
    found = []
    for first, second in combinations(factors, 2):
        n_pairs = np.unique(np.stack([factors[first], factors[second]]), axis=1).shape[1]
        for inner, outer in ((first, second), (second, first)):
            if n_pairs == len(np.unique(factors[inner])):
                found.append(f"Each level of {inner} belongs to one level of {outer}: nested.")
                break
        else:
            found.append(f"{first} and {second} are crossed.")
    return found
