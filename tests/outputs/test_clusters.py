"""Clusters and peaks of maps whose clusters are known."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from blmm_bids.images.grid import read_grid
from blmm_bids.outputs.clusters import PEAK_DISTANCE, ContrastMaps, find_clusters
from blmm_bids.outputs.stored import StoredContrast
from blmm_bids.stats.thresholds import Threshold

AFFINE = np.array([[-3.0, 0, 0, 30], [0, 3, 0, -30], [0, 0, 3, -30], [0, 0, 0, 1]])
SHAPE = (20, 20, 20)


def contrast_maps(folder, z, test="t", **others):
    """Maps on disk; what is not given is left out."""
    paths = {}
    for name, values in {"z": z, "n": np.full(SHAPE, 12), **others}.items():
        paths[name] = folder / f"{name}.nii.gz"
        nib.Nifti1Image(np.asarray(values, dtype=np.float32), AFFINE).to_filename(paths[name])
    contrast = StoredContrast("age", test, 1, ["age"], [[1.0]], None, z.size, 0)
    return ContrastMaps(contrast, read_grid(paths["z"]), paths)


@pytest.fixture
def z():
    values = np.zeros(SHAPE)
    values[2:5, 2:5, 2:5] = 4.0
    values[3, 3, 3] = 6.0
    values[10:13, 10:12, 10] = -5.0
    values[10, 10, 10] = -7.0
    values[17, 17, 17] = 8.0
    values[0, 0, 0] = np.nan
    return values


def test_find_clusters__finds_both_signs_and_drops_small_ones(tmp_path, z):
    found = find_clusters(contrast_maps(tmp_path, z, t=z / 2, effect=z * 3), Threshold("z", 3.0, 5))
    assert found.n_voxels == 27 + 6 + 1
    first, second = found.table.to_dict("records")
    assert (first["z"], first["cluster_voxels"], first["statistic"]) == (-7.0, 6, -3.5)
    assert (second["z"], second["cluster_voxels"], second["effect"]) == (6.0, 27, 18.0)
    assert [second[axis] for axis in "ijk"] == [3, 3, 3]
    assert [second[axis] for axis in ("x", "y", "z_mm")] == [21.0, -21.0, -21.0]
    assert second["cluster_mm3"] == 27 * 27
    assert second["n_images"] == 12
    assert second["p"] == pytest.approx(2 * norm.sf(6.0))
    # Without a map of them, false discovery rates follow from z.
    assert second["q_bh"] == pytest.approx(second["p"] * (SHAPE[0] ** 3 - 1) / 3, rel=1e-6)


def test_find_clusters__of_f_are_of_one_sign(tmp_path, z):
    found = find_clusters(contrast_maps(tmp_path, z, "F"), Threshold("z", 3.0, 1))
    assert (found.table["z"] > 0).all()
    assert found.table["p"].iloc[0] == pytest.approx(norm.sf(8.0))


def test_find_clusters__keeps_peaks_apart(tmp_path):
    values = np.zeros(SHAPE)
    values[2:18, 5, 5] = 4.0
    for place, height in ((3, 6.0), (5, 5.9), (9, 5.5), (15, 5.0)):
        values[place, 5, 5] = height
    table = find_clusters(contrast_maps(tmp_path, values), Threshold("z", 3.0, 1)).table
    assert table["z"].round(4).tolist() == [6.0, 5.5, 5.0]
    positions = table[["x", "y", "z_mm"]].to_numpy()
    gaps = np.linalg.norm(positions[:, None] - positions[None], axis=-1)[np.triu_indices(3, 1)]
    assert gaps.min() >= PEAK_DISTANCE
    assert table["peak"].tolist() == [1, 2, 3]


def test_find_clusters__by_false_discovery_rate(tmp_path, z):
    q = np.where(np.abs(z) > 5, 0.01, 0.5)
    found = find_clusters(contrast_maps(tmp_path, z, fdr=q), Threshold("q", 0.05, 1))
    assert found.n_voxels == 3
    assert (found.table["q_bh"] < 0.05).all()


def test_find_clusters__with_nothing_to_find_has_an_empty_table(tmp_path):
    found = find_clusters(contrast_maps(tmp_path, np.zeros(SHAPE), fdr=np.ones(SHAPE)), Threshold("q", 0.05))
    assert found.table.empty
    assert found.lowest_z == np.inf
    assert isinstance(found.table, pd.DataFrame)


def test_find_clusters__that_meet_at_a_corner_have_a_peak_each(tmp_path):
    """A corner is not a neighbour, neither of a cluster nor of a peak."""
    values = np.zeros(SHAPE)
    values[5, 5, 5], values[6, 6, 6] = 4.0, 5.0
    found = find_clusters(contrast_maps(tmp_path, values), Threshold("z", 3.0, 1))
    assert found.table[["i", "z", "cluster_voxels"]].to_numpy().tolist() == [[6, 5.0, 1], [5, 4.0, 1]]


@pytest.mark.parametrize("test", ["t", "F"])
@pytest.mark.parametrize("lowest", [-2.0, 0.0, 0.5])
@pytest.mark.parametrize("levels", [3, 1000])
def test_find_clusters__each_has_a_peak_that_is_its_highest_voxel(tmp_path, test, lowest, levels):
    """Noise at every threshold, with and without ties; outside of the mask nothing passes."""
    rng = np.random.default_rng(levels)
    values = np.round(rng.normal(size=SHAPE) * levels) / levels
    values[rng.random(SHAPE) < 0.4] = 0.0
    found = find_clusters(contrast_maps(tmp_path, values, test), Threshold("z", lowest, 1))
    assert found.n_voxels <= np.count_nonzero(values)
    first = found.table[found.table["peak"] == 1]
    assert first["cluster"].tolist() == list(range(1, len(first) + 1))
    assert first["cluster_voxels"].sum() == found.n_voxels
    highest = found.table.groupby("cluster")["z"].apply(lambda z: z.abs().max() if test == "t" else z.max())
    assert (first["z"].abs() if test == "t" else first["z"]).to_numpy() == pytest.approx(highest.to_numpy())
