"""Likelihood ratio tests that lie in a node's directory."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from blmm_bids.images.grid import read_grid
from blmm_bids.outputs.finished import read_map
from blmm_bids.regular_files import LARGEST_JSON, read_regular

if TYPE_CHECKING:
    from pathlib import Path

_SMALL_LOG_P = 3.0


def comparisons_view(directory: Path) -> list[dict[str, Any]]:
    """Make a row for each comparison of two models in a node's directory.

    Raises
    ------
    DataError, MissingInputError
        A map is damaged or missing.
    """
    rows = []
    for path in sorted(directory.glob("*_stat-chi2_statmap.json")):
        sidecar = json.loads(read_regular(path, LARGEST_JSON))
        log_p_path = path.with_name(path.name.replace("_stat-chi2_statmap.json", "_stat-logp_statmap.nii.gz"))
        log_p = read_map(log_p_path, read_grid(log_p_path))
        tested = log_p[np.isfinite(log_p) & (log_p > 0)]
        rows.append(
            {
                "larger": sidecar["LargerModel"]["Name"],
                "smaller": sidecar["SmallerModel"]["Name"],
                "formulas": (sidecar["SmallerModel"]["ModelFormula"], sidecar["LargerModel"]["ModelFormula"]),
                "distribution": sidecar["ReferenceDistribution"],
                "notice": sidecar.get("Notice", ""),
                "n_small_p": int((tested > _SMALL_LOG_P).sum()),
                "largest": f"{float(tested.max()):.1f}" if tested.size else "",
                "href": f"{directory.name}/{log_p_path.name}",
            }
        )
    return rows
