"""The data of a few voxels for the report's inspector: a small file, never the whole data set."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from blmm_bids.bids.names import build_name
from blmm_bids.errors import DataError
from blmm_bids.outputs.derived import varcorr
from blmm_bids.outputs.files import write_text
from blmm_bids.regular_files import LARGEST_JSON, read_regular

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from blmm_bids.images.grid import Grid
    from blmm_bids.outputs.stored import StoredFit
    from blmm_bids.stats.model import FloatArray, IntArray, RandomTerm

# Voxels, and values in all, that are kept of a fit.
MAX_VOXELS = 40
MAX_VALUES = 60_000
MIN_VOXELS = 4
_DIGITS = 5
_FORMAT = 1


@dataclass(frozen=True, eq=False)
class InspectedVoxels:
    """Data and fit of a few voxels.

    Attributes
    ----------
    voxels : (voxel,) int64
        Flat indices in C order, ascending.
    y : (voxel, obs)
        Values of the images; NaN where missing.
    fitted : (voxel, obs)
        Fixed effects and conditional modes; NaN where the image is missing.
    beta : (voxel, fixef)
        Fixed effects.
    D : (voxel, vech)
        Random-effects covariances relative to sigma2.
    sigma2 : (voxel,)
        Residual variance.
    status : (voxel,) int64
        How the fit ended.
    """

    voxels: IntArray
    y: FloatArray
    fitted: FloatArray
    beta: FloatArray
    D: FloatArray
    sigma2: FloatArray
    status: IntArray


def n_inspected(n_images: int) -> int:
    """Count the voxels to keep of a fit with so many images, so that the file stays small."""
    return max(MIN_VOXELS, min(MAX_VOXELS, MAX_VALUES // max(n_images, 1)))


def inspection_path(root: Path, fit: StoredFit) -> Path:
    """Where the file of a fit is."""
    return root / fit.directory / "figures" / build_name({**fit.stem, "desc": _desc(fit)}, "voxels", ".json")


def write_inspection(
    root: Path, fit: StoredFit, grid: Grid, terms: Sequence[RandomTerm], found: InspectedVoxels
) -> Path:
    """Write the values of the voxels as compact JSON, to five digits.

    Parameters
    ----------
    root : Path
        The output dataset.
    fit : StoredFit
        The fit.
    grid : Grid
        Of its maps.
    terms : sequence of RandomTerm
        Its random terms.
    found : InspectedVoxels
        What was read back.
    """
    ijk = np.stack(np.unravel_index(found.voxels, grid.shape), axis=1)
    millimetres = ijk @ grid.affine[:3, :3].T + grid.affine[:3, 3]
    spread = varcorr(found.D, found.sigma2, terms) if terms else np.empty((len(found.voxels), 0))
    voxels = [
        {
            "ijk": ijk[row].tolist(),
            "mm": _rounded(millimetres[row]),
            "y": _rounded(found.y[row]),
            "fitted": _rounded(found.fitted[row]),
            "beta": _rounded(found.beta[row]),
            "varcorr": _rounded(spread[row]),
            "sigma": _rounded(np.sqrt(found.sigma2[row : row + 1]))[0],
            "status": int(found.status[row]),
        }
        for row in range(len(found.voxels))
    ]
    text = json.dumps({"Format": _FORMAT, "Voxels": voxels}, allow_nan=False, separators=(",", ":"))
    return write_text(inspection_path(root, fit), text + "\n")


def read_inspection(root: Path, fit: StoredFit) -> list[dict[str, Any]]:
    """Read the voxels of a fit; none where no file was written.

    Raises
    ------
    DataError
        The file is damaged.
    """
    path = inspection_path(root, fit)
    try:
        content = json.loads(read_regular(path, LARGEST_JSON))
        voxels: list[dict[str, Any]] = content["Voxels"]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError) as error:
        msg = f"{path}: cannot be read ({error!r}); delete it, and the report goes without"
        raise DataError(msg) from error
    return voxels


def _rounded(values: FloatArray) -> list[float | None]:
    """Numbers to a few digits; None for those that JSON has not."""
    return [float(f"{value:.{_DIGITS}g}") if np.isfinite(value) else None for value in values.tolist()]


def _desc(fit: StoredFit) -> str:
    desc = fit.stem.get("desc", "")
    return f"{desc}Peaks" if desc else "peaks"
