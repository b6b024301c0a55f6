"""The grid shared by all images."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from blmm_bids.errors import DataError, MissingInputError
from blmm_bids.images import grid as grid_module
from blmm_bids.images.grid import check_grids, read_grid

AFFINE = np.diag([-2.0, 2.0, 3.0, 1.0])


def save(path, shape=(3, 4, 5), affine=AFFINE, dtype=np.float32):
    nib.save(nib.Nifti1Image(np.ones(shape, dtype), affine), path)
    return path


def shifted(distance):
    moved = AFFINE.copy()
    moved[0, 3] += distance
    return moved


@pytest.fixture(params=[np.inf, -1.0], ids=["one after the other", "by threads"])
def latency(request, monkeypatch):
    """What a header may take before threads read them."""
    monkeypatch.setattr(grid_module, "_LATENCY", request.param)


def test_read_grid__has_shape_affine_zooms(tmp_path):
    grid = read_grid(save(tmp_path / "a.nii.gz"))
    assert grid.shape == (3, 4, 5)
    assert grid.zooms == (2.0, 2.0, 3.0)
    assert grid.n_voxels == 60
    assert grid.sform_code == 2
    np.testing.assert_array_equal(grid.affine, AFFINE)


@pytest.mark.parametrize("n_images", [3, 100])
@pytest.mark.usefixtures("latency")
def test_check_grids__accepts_rounding(tmp_path, n_images):
    paths = [save(tmp_path / f"{k}.nii", affine=shifted(1e-6 * (k % 2))) for k in range(n_images)]
    checked = check_grids(paths)
    assert checked.grid.shape == (3, 4, 5)
    assert checked.dtype == np.float32
    assert checked.max_stored_bytes == 352 + 240
    assert len(set(checked.identities)) >= 1
    assert len(checked.identities) == n_images


@pytest.mark.parametrize("n_images", [3, 100])
@pytest.mark.usefixtures("latency")
def test_check_grids__names_the_image_off(tmp_path, n_images):
    paths = [save(tmp_path / f"{k}.nii") for k in range(n_images)]
    save(paths[-1], affine=shifted(0.1))
    with pytest.raises(DataError, match=r"by 0\.1 mm") as caught:
        check_grids(paths)
    message = str(caught.value)
    assert str(paths[-1]) in message
    assert str(paths[0]) in message
    assert "0.1" in message
    assert check_grids(paths, affine_tolerance=0.2).grid.shape == (3, 4, 5)


def test_check_grids__measures_rotation_at_the_corners(tmp_path):
    angle = 1e-3
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    paths = [save(tmp_path / "a.nii", (50, 50, 2)), save(tmp_path / "b.nii", (50, 50, 2), turn @ AFFINE)]
    with pytest.raises(DataError, match="at a corner"):
        check_grids(paths)


def test_check_grids__names_both_shapes(tmp_path):
    paths = [save(tmp_path / "a.nii"), save(tmp_path / "b.nii", (3, 4, 6))]
    with pytest.raises(DataError, match=r"b\.nii: shape \(3, 4, 6\) differs from \(3, 4, 5\)"):
        check_grids(paths)


def test_check_grids__refuses_4d_and_empty_lists(tmp_path):
    with pytest.raises(DataError, match="3-D volume"):
        check_grids([save(tmp_path / "a.nii", (3, 4, 5, 2))])
    assert check_grids([save(tmp_path / "b.nii", (3, 4, 5, 1))]).grid.shape == (3, 4, 5)
    with pytest.raises(DataError, match="no image"):
        check_grids([])


def test_check_grids__missing_image_among_many(tmp_path):
    paths = [save(tmp_path / f"{k}.nii") for k in range(80)]
    paths[40].unlink()
    with pytest.raises(MissingInputError, match=r"40\.nii"):
        check_grids(paths)


def test_check_grids__one_double_image_makes_all_double(tmp_path):
    paths = [save(tmp_path / "a.nii"), save(tmp_path / "b.nii", dtype=np.float64), save(tmp_path / "c.nii")]
    assert check_grids(paths).dtype == np.float64
    assert check_grids([save(tmp_path / "d.nii", dtype=np.int16)]).dtype == np.float32


def test_check_grids__compares_with_a_given_grid(tmp_path):
    grid = read_grid(save(tmp_path / "a.nii"))
    other = save(tmp_path / "mask.nii", (5, 5, 5))
    with pytest.raises(DataError, match="of the images"):
        check_grids([other], reference=grid)
