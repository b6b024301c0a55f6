"""Masks: files, templates, unions, resampling."""

from __future__ import annotations

import sys
from types import ModuleType

import nibabel as nib
import numpy as np
import pytest
from scipy.ndimage import affine_transform

from blmm_bids.errors import DataError, MissingInputError
from blmm_bids.images.grid import read_grid
from blmm_bids.images.masks import image_mask, mask_union, read_mask, template_mask
from blmm_bids.images.reader import VoxelReader

SHAPE = (5, 6, 7)
AFFINE = np.array([[-2.0, 0, 0, 4], [0, 2, 0, -5], [0, 0, 2, -6], [0, 0, 0, 1]])


def save(path, data, affine=AFFINE):
    nib.save(nib.Nifti1Image(data, affine), path)
    return path


@pytest.fixture
def grid(tmp_path):
    return read_grid(save(tmp_path / "image.nii", np.ones(SHAPE, np.float32)))


@pytest.mark.parametrize(
    ("scale", "dtype"), [(1, np.uint8), (255, np.uint8), (0.51, np.float32), (1, np.int16)]
)
def test_read_mask__inside_is_above_a_half(tmp_path, grid, scale, dtype):
    inside = np.random.default_rng(0).random(SHAPE) > 0.5
    path = save(tmp_path / "mask.nii.gz", (inside * scale).astype(dtype))
    np.testing.assert_array_equal(read_mask(path, grid), inside.ravel())


def test_read_mask__fractions_below_a_half_are_outside(tmp_path, grid):
    data = np.full(SHAPE, 0.5, np.float32)
    data[1, 2, 3] = 0.7
    mask = read_mask(save(tmp_path / "mask.nii", data), grid)
    assert np.flatnonzero(mask).tolist() == [np.ravel_multi_index((1, 2, 3), SHAPE)]


def test_read_mask__nan_is_outside(tmp_path, grid):
    data = np.full(SHAPE, np.nan, np.float32)
    data[0, 0, 0] = 1
    assert read_mask(save(tmp_path / "mask.nii", data), grid).sum() == 1


def test_read_mask__refuses_empty(tmp_path, grid):
    with pytest.raises(DataError, match="empty"):
        read_mask(save(tmp_path / "mask.nii", np.zeros(SHAPE, np.uint8)), grid)


def test_read_mask__refuses_another_grid_unless_told(tmp_path, grid):
    path = save(tmp_path / "mask.nii", np.ones((10, 12, 14), np.uint8), AFFINE @ np.diag([0.5, 0.5, 0.5, 1]))
    with pytest.raises(DataError, match="--resample-mask"):
        read_mask(path, grid)
    assert read_mask(path, grid, resample=True).all()


@pytest.mark.parametrize("flip", [False, True])
def test_read_mask__resamples_to_the_nearest_voxel(tmp_path, grid, flip):
    rng = np.random.default_rng(5)
    source = rng.random((9, 8, 11)) > 0.4
    affine = np.array([[1.3, 0.1, 0, -3.3], [0, 1.4, 0.2, -5.1], [0.05, 0, 1.2, -5.7], [0, 0, 0, 1]])
    if flip:
        affine = affine @ np.array([[-1.0, 0, 0, 8], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    path = save(tmp_path / "mask.nii.gz", source.astype(np.uint8), affine)
    stored = nib.load(path).affine
    to_source = np.linalg.inv(stored) @ grid.affine
    expected = affine_transform(
        source.astype(np.uint8), to_source[:3, :3], to_source[:3, 3], SHAPE, order=0, mode="grid-constant"
    )
    np.testing.assert_array_equal(read_mask(path, grid, resample=True), expected.ravel() > 0)


def test_read_mask__refuses_no_overlap(tmp_path, grid):
    affine = AFFINE.copy()
    affine[:3, 3] += 500
    path = save(tmp_path / "mask.nii", np.ones(SHAPE, np.uint8), affine)
    with pytest.raises(DataError, match="on the images' grid"):
        read_mask(path, grid, resample=True)


def test_mask_union__unites_images_and_intersects_within_one(tmp_path):
    rng = np.random.default_rng(6)
    data = [rng.random(SHAPE) > 0.5 for _ in range(3)]
    paths = [save(tmp_path / f"m{k}.nii.gz", mask.astype(np.uint8)) for k, mask in enumerate(data)]
    reader = VoxelReader(SHAPE)
    np.testing.assert_array_equal(image_mask(reader, paths[:2]), (data[0] & data[1]).ravel())
    union = mask_union([paths[:2], paths[2:], paths[:2]], SHAPE)
    np.testing.assert_array_equal(union, ((data[0] & data[1]) | data[2]).ravel())
    with pytest.raises(DataError, match="no mask"):
        mask_union([], SHAPE)


def _templateflow(monkeypatch, get):
    """A stand-in for the package, which would use the network."""
    package, api = ModuleType("templateflow"), ModuleType("templateflow.api")
    api.get = get
    monkeypatch.setitem(sys.modules, "templateflow", package)
    monkeypatch.setitem(sys.modules, "templateflow.api", api)


def test_template_mask__takes_the_nearest_resolution(tmp_path, grid, monkeypatch):
    fine = save(tmp_path / "res-01.nii.gz", np.ones((12, 14, 16), np.uint8), np.diag([-1.0, 1, 1, 1]))
    same = np.zeros(SHAPE, np.uint8)
    same[2:4, 2:4, 2:4] = 1
    near = save(tmp_path / "res-02.nii.gz", same)
    queries = []

    def get(template, **query):
        queries.append((template, query))
        return [fine, near]

    _templateflow(monkeypatch, get)
    np.testing.assert_array_equal(template_mask("MNIPediatricAsym+2", grid), same.ravel() > 0)
    template, query = queries[0]
    assert template == "MNIPediatricAsym"
    assert query["cohort"] == "2"
    assert query["desc"] == "brain"


@pytest.mark.parametrize("failure", ["network", "empty file"])
def test_template_mask__says_what_to_do(tmp_path, grid, monkeypatch, failure):
    (tmp_path / "stub.nii.gz").write_bytes(b"")

    def get(template, **query):
        if failure == "network":
            msg = "connection refused"
            raise ConnectionError(msg)
        return tmp_path / "stub.nii.gz"

    _templateflow(monkeypatch, get)
    with pytest.raises(MissingInputError, match="TEMPLATEFLOW_HOME"):
        template_mask("MNI152NLin2009cAsym", grid)


def test_template_mask__without_the_package(grid, monkeypatch):
    monkeypatch.setitem(sys.modules, "templateflow", None)
    monkeypatch.setitem(sys.modules, "templateflow.api", None)
    with pytest.raises(MissingInputError, match="not installed"):
        template_mask("MNI152NLin2009cAsym", grid)
