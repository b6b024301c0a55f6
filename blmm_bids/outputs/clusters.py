"""Tables of clusters and peaks of each contrast, from its maps."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage, special

from blmm_bids.bids.names import build_name
from blmm_bids.images.grid import read_grid
from blmm_bids.outputs.discovery import q_values
from blmm_bids.outputs.files import write_json
from blmm_bids.outputs.finished import read_map
from blmm_bids.outputs.tables import write_tsv

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from blmm_bids.images.grid import Grid
    from blmm_bids.outputs.registry import Adjustment
    from blmm_bids.outputs.stored import StoredContrast, StoredFit, StoredMap
    from blmm_bids.stats.model import FloatArray
    from blmm_bids.stats.thresholds import Threshold

# Peaks of a cluster lie at least so far apart, and only so many are listed (mm).
PEAK_DISTANCE = 8.0
PEAKS_PER_CLUSTER = 3
# Voxels that share a face or an edge (SPM's choice): what makes a cluster, and what a peak is the highest of.
_CONNECTIVITY = ndimage.generate_binary_structure(3, 2)

_COLUMNS = {
    "cluster": "Number of the cluster, by the size of its highest peak.",
    "peak": f"Number of the peak in its cluster; peaks are at least {PEAK_DISTANCE:g} mm apart.",
    "x": "Position of the peak, mm.",
    "y": "Position of the peak, mm.",
    "z_mm": "Position of the peak, mm.",
    "i": "Voxel of the peak, counted from 0.",
    "j": "Voxel of the peak, counted from 0.",
    "k": "Voxel of the peak, counted from 0.",
    "statistic": "t or F at the peak.",
    "dof": "Degrees of freedom at the peak, F's denominator.",
    "z": "Standard normal equivalent of the statistic.",
    "effect": "Estimate of a T contrast at the peak.",
    "se": "Standard error of the effect.",
    "p": "p value at the peak, two-sided for T, not corrected.",
    "q_bh": "False discovery rate at the peak, Benjamini and Hochberg.",
    "q_by": "False discovery rate at the peak, Benjamini and Yekutieli.",
    "n_images": "Images with a value at the peak.",
    "cluster_voxels": "Voxels of the cluster; descriptive, no test of its size is made.",
    "cluster_mm3": "Volume of the cluster, cubic mm.",
}


@dataclass(frozen=True, eq=False)
class ContrastMaps:
    """The maps of one contrast, read one at a time.

    Attributes
    ----------
    contrast : StoredContrast
    grid : Grid
    paths : Mapping
        By quantity (``z``, ``t`` or ``F``, ``dof``, ``fdr`` …), those that were written; ``n`` of the fit.
    """

    contrast: StoredContrast
    grid: Grid
    paths: Mapping[str, Path]

    def volume(self, quantity: str) -> FloatArray:
        """(voxel of the grid,) in C order; 0 outside the analysis mask, NaN without an answer.

        All NaN where the map was not written.
        """
        if quantity not in self.paths:
            return np.full(self.grid.n_voxels, np.nan)
        return read_map(self.paths[quantity], self.grid)


@dataclass(frozen=True, eq=False)
class ContrastClusters:
    """What passes the threshold in one contrast.

    Attributes
    ----------
    contrast : StoredContrast
    lowest_z : float
        Absolute z above which voxels pass; infinite where none does.
    n_voxels : int
        Voxels that pass, in clusters of whatever size.
    table : DataFrame
        A row a peak.
    filename : str
        Where the table is.
    summit : int or None
        Flat index of the voxel with the largest absolute z, whether it passes or not; None where all are 0.
    """

    contrast: StoredContrast
    lowest_z: float
    n_voxels: int
    table: pd.DataFrame
    filename: str
    summit: int | None


def maps_of(fit: StoredFit, contrast: StoredContrast) -> dict[str, StoredMap]:
    """List a contrast's maps by quantity."""
    return {
        each.quantity: each
        for each in fit.maps
        if each.names.get("ContrastName") == contrast.name and each.names.get("Test") == contrast.test
    }


def open_contrast(root: Path, fit: StoredFit, contrast: StoredContrast) -> ContrastMaps:
    """Find the maps of one contrast.

    Raises
    ------
    MissingInputError, DataError
        Its z map is missing or cannot be read.
    """
    directory = root / fit.directory
    paths = {quantity: directory / each.file for quantity, each in maps_of(fit, contrast).items()}
    return ContrastMaps(contrast, read_grid(paths["z"]), paths | {"n": fit_map(root, fit, "n")})


def write_clusters(root: Path, fit: StoredFit, threshold: Threshold) -> list[ContrastClusters]:
    """Find what passes the threshold in each contrast, and write ``…_clusters.tsv`` with its sidecar.

    Raises
    ------
    MissingInputError, DataError
        A map is missing or cannot be read.
    OutputError, StorageError
        A table cannot be written.
    """
    return [_write_contrast(root, fit, contrast, threshold) for contrast in fit.contrasts]


def _write_contrast(
    root: Path, fit: StoredFit, contrast: StoredContrast, threshold: Threshold
) -> ContrastClusters:
    maps = open_contrast(root, fit, contrast)
    found = find_clusters(maps, threshold)
    filename = maps.paths["z"].name.removesuffix("_stat-z_statmap.nii.gz") + "_clusters.tsv"
    write_tsv(root / fit.directory / filename, found.table)
    sidecar: dict[str, Any] = {
        "Description": f"Clusters and peaks of contrast '{contrast.name}' at {threshold.text}, "
        f"of at least {threshold.min_voxels} voxels that touch by a face or an edge.",
        "ContrastName": contrast.name,
        "Test": contrast.test,
        "ModelFormula": fit.formula,
    }
    columns = {name: {"Description": text} for name, text in _COLUMNS.items()}
    write_json(root / fit.directory / filename.replace(".tsv", ".json"), sidecar | columns)
    return replace(found, filename=filename)


def find_clusters(maps: ContrastMaps, threshold: Threshold) -> ContrastClusters:
    """Find clusters of positive and of negative z, and the peaks in each.

    Parameters
    ----------
    maps : ContrastMaps
        Of the contrast.
    threshold : Threshold
        What passes.
    """
    contrast, grid = maps.contrast, maps.grid
    z = maps.volume("z")
    tested = np.isfinite(z) & (z != 0)
    q = _discovery_rates(maps, z, "bh")[tested] if threshold.measure == "q" else np.empty(0)
    lowest = threshold.lowest_z(z[tested], q, contrast.test)
    volume = np.nan_to_num(z, nan=0.0).reshape(grid.shape)
    clusters: list[_Cluster] = []
    n_voxels = 0
    for sign in (1.0, -1.0) if contrast.test == "t" else (1.0,):
        height = sign * volume
        # Below a threshold of negative z, 0 outside of the mask would pass.
        least = max(lowest, 0.0) if contrast.test == "t" else lowest
        inside = (height > least) & tested.reshape(grid.shape)
        n_voxels += int(inside.sum())
        clusters += _clusters(height, inside, grid, threshold.min_voxels)
    # Equal heights (z has a ceiling) are put in order by size, so that runs agree.
    clusters.sort(key=lambda each: (-each.heights[0], -each.n_voxels))
    size = np.abs(volume)
    summit = int(size.argmax()) if size.any() else None
    return ContrastClusters(contrast, lowest, n_voxels, _table(maps, z, clusters), "", summit)


@dataclass(frozen=True, eq=False)
class _Cluster:
    """Peaks (peak, axis) of a cluster from the highest down, their absolute z, and its size."""

    voxels: NDArray[np.int64]
    heights: FloatArray
    n_voxels: int


def _clusters(height: FloatArray, inside: NDArray[np.bool_], grid: Grid, min_voxels: int) -> list[_Cluster]:
    labels, n_found = ndimage.label(inside, structure=_CONNECTIVITY)
    sizes = np.bincount(labels.reshape(-1), minlength=n_found + 1)
    # A voxel that no neighbour of its cluster exceeds: the highest one is always among them.
    level = np.where(inside, height, -np.inf)
    highest = ndimage.maximum_filter(level, footprint=_CONNECTIVITY, mode="constant", cval=-np.inf)
    summits = inside & (level == highest)
    found = []
    for label, place in enumerate(ndimage.find_objects(labels), start=1):
        if place is None or sizes[label] < min_voxels:
            continue
        corner = np.array([each.start for each in place])
        voxels = np.argwhere(summits[place] & (labels[place] == label)) + corner
        heights = height[tuple(voxels.T)]
        order = np.argsort(-heights, kind="stable")
        kept = _apart(voxels[order], grid)
        found.append(_Cluster(voxels[order][kept], heights[order][kept], int(sizes[label])))
    return found


def _apart(voxels: NDArray[np.int64], grid: Grid) -> list[int]:
    """Places of the first peaks that are far enough from all that were taken before."""
    taken: list[int] = []
    millimetres = _millimetres(voxels, grid)
    for place, position in enumerate(millimetres):
        if len(taken) == PEAKS_PER_CLUSTER:
            break
        distances = np.linalg.norm(millimetres[taken] - position, axis=1)
        if np.all(distances >= PEAK_DISTANCE):
            taken.append(place)
    return taken


def _table(maps: ContrastMaps, z_map: FloatArray, clusters: Sequence[_Cluster]) -> pd.DataFrame:
    """Make a row a peak, with the columns of `_COLUMNS`."""
    numbers = [number for number, each in enumerate(clusters, start=1) for _ in each.voxels]
    ijk = np.concatenate([np.empty((0, 3), dtype=np.int64), *(each.voxels for each in clusters)])
    flat = np.ravel_multi_index(tuple(ijk.T), maps.grid.shape)
    millimetres = np.round(_millimetres(ijk, maps.grid), 2)
    sizes = np.array([clusters[number - 1].n_voxels for number in numbers], dtype=np.int64)
    z = z_map[flat]
    values = {
        "cluster": numbers,
        "peak": [peak + 1 for each in clusters for peak in range(len(each.voxels))],
        **dict(zip(("x", "y", "z_mm"), millimetres.T, strict=True)),
        **dict(zip("ijk", ijk.T, strict=True)),
        "statistic": maps.volume(maps.contrast.test)[flat],
        "dof": maps.volume("dof")[flat],
        "z": z,
        "effect": maps.volume("effect")[flat],
        "se": maps.volume("se")[flat],
        "p": 10.0 ** -log_p(z, maps.contrast.test),
        "q_bh": _discovery_rates(maps, z_map, "bh")[flat],
        "q_by": _discovery_rates(maps, z_map, "by")[flat],
        "n_images": maps.volume("n")[flat].astype(np.int64),
        "cluster_voxels": sizes,
        "cluster_mm3": np.round(sizes * float(np.prod(maps.grid.zooms)), 3),
    }
    return pd.DataFrame(values, columns=list(_COLUMNS))


def log_p(z: FloatArray, test: str) -> FloatArray:
    """-log10 of the p that z stands for: two-sided for T, the upper tail for F; NaN where z is."""
    upper: FloatArray = special.log_ndtr(-(np.abs(z) if test == "t" else z))
    tail = np.minimum(upper + np.log(2.0), 0.0) if test == "t" else upper
    decimal: FloatArray = -tail / np.log(10.0)
    return decimal


def _discovery_rates(maps: ContrastMaps, z: FloatArray, adjustment: Adjustment) -> FloatArray:
    """(voxel of the grid,) q values: the map where it was written, else from z."""
    quantity = {"bh": "fdr", "by": "fdrBY"}[adjustment]
    if quantity in maps.paths:
        return maps.volume(quantity)
    inside = read_map(maps.paths["n"], maps.grid) > 0
    return q_values(np.where(inside, log_p(z, maps.contrast.test), np.nan), adjustment)


def fit_map(root: Path, fit: StoredFit, quantity: str) -> Path:
    """Path of a map that there is one of in each fit (``n``, ``status``, ``mean``)."""
    return root / fit.directory / build_name({**fit.stem, "stat": quantity}, "statmap", ".nii.gz")


def _millimetres(voxels: NDArray[np.int64], grid: Grid) -> FloatArray:
    affine: FloatArray = grid.affine
    return voxels @ affine[:3, :3].T + affine[:3, 3]


def peak_voxels(grid: Grid, clusters: Sequence[ContrastClusters], limit: int) -> list[int]:
    """Flat indices of the peaks of all contrasts, each once, the highest of every contrast first.

    The voxel with the largest absolute z is among them also where nothing passes the threshold.
    """
    ranked: list[tuple[int, int]] = []
    for found in clusters:
        if found.summit is not None:
            ranked.append((0, found.summit))
        ijk = tuple(found.table[name].to_numpy(dtype=np.int64) for name in "ijk")
        flat = np.ravel_multi_index(ijk, grid.shape)
        ranked += [(rank, int(voxel)) for rank, voxel in enumerate(flat)]
    ranked.sort(key=lambda item: item[0])
    return list(dict.fromkeys(voxel for _, voxel in ranked))[:limit]
