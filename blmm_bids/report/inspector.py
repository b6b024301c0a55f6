"""Data for the voxel inspector: what the page's script draws."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from blmm_bids.bids.names import LONG_NAME
from blmm_bids.outputs.inspection import read_inspection
from blmm_bids.outputs.tables import INPUT_COLUMNS
from blmm_bids.report.images import short_names
from blmm_bids.stats.model import Status

if TYPE_CHECKING:
    import pandas as pd

    from blmm_bids.report.fit import ReportFit
    from blmm_bids.stats.model import FloatArray

_OWN_COLUMNS = frozenset(INPUT_COLUMNS)
# Levels of a column that can still be told apart by colour.
MAX_COLOURS = 12
_DIGITS = 5
# mm around a kept voxel within which a click in the viewer chooses it.
REACH = 10


def inspector_view(fit: ReportFit) -> dict[str, Any] | None:
    """Collect what the script needs to draw any kept voxel of a fit; None where none was kept."""
    voxels = read_inspection(fit.root, fit.stored)
    if not voxels:
        return None
    design, used = fit.design, fit.used
    names = design.fixef_names
    columns = {f"{name} (table)": values for name, values in _numeric(used).items() if name not in names}
    pairs = [
        f"{term.group}: SD of {pair[0]}" if pair[0] == pair[1] else f"{term.group}: r of {pair[0]}, {pair[1]}"
        for term in design.terms
        for pair in term.vech_names
    ]
    return {
        "title": fit.stored.title,
        "formula": fit.stored.formula,
        "names": list(names),
        "X": [_rounded(design.X[:, column]) for column in range(len(names))],
        "plain": [is_plain(name, names) for name in names],
        "columns": columns,
        "factors": _factors(fit),
        "images": short_names(used["image"].tolist()),
        "varcorr": pairs,
        "statuses": {str(int(status)): status.sentence for status in Status},
        "voxels": voxels,
    }


def is_plain(name: str, names: tuple[str, ...]) -> bool:
    """Whether a column is in no other one (interaction, power), so that its line is straight."""
    return not any(other != name and name in _pieces(other) for other in names)


def _pieces(name: str) -> list[str]:
    for mark in ":()*^,[] ":
        name = name.replace(mark, " ")
    return name.split()


def _factors(fit: ReportFit) -> dict[str, Any]:
    """Levels and their index for each image: the random factors, and columns with few levels."""
    found = {
        term.group: {"levels": list(term.levels), "refs": term.refs.tolist(), "isRandom": True}
        for term in fit.design.terms
    }
    for name in fit.used.columns:
        if name in _OWN_COLUMNS or name in found:
            continue
        levels, refs = np.unique(fit.used[name].to_numpy(dtype=str), return_inverse=True)
        if 2 <= len(levels) <= MAX_COLOURS:
            found[name] = {"levels": levels.tolist(), "refs": refs.tolist(), "isRandom": False}
    return found


def _numeric(used: pd.DataFrame) -> dict[str, list[float | None]]:
    """Columns of the table of inputs that are numbers and vary, entities left out."""
    entities = set(LONG_NAME.values())
    found = {}
    for name in used.columns:
        if name in _OWN_COLUMNS or name in entities:
            continue
        try:
            values = used[name].replace("n/a", "nan").to_numpy(dtype=np.float64)
        except ValueError:
            continue
        finite = values[np.isfinite(values)]
        if finite.size and np.ptp(finite) > 0:
            found[str(name)] = _rounded(values)
    return found


def _rounded(values: FloatArray) -> list[float | None]:
    return [float(f"{value:.{_DIGITS}g}") if np.isfinite(value) else None for value in values.tolist()]
