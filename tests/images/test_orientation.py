"""One lattice stored in all 48 ways: flips and exchanges of axes, read as one."""

from __future__ import annotations

import itertools

import nibabel as nib
import numpy as np
import pytest

from blmm_bids.errors import DataError
from blmm_bids.images.grid import check_grids, read_grid
from blmm_bids.images.masks import image_mask, mask_union, read_mask
from blmm_bids.images.orientation import SAME, find_orientation
from blmm_bids.images.reader import VoxelReader

SHAPE = (3, 4, 5)
ORIENTATIONS = [
    np.column_stack([axes, flips])
    for axes in itertools.permutations(range(3))
    for flips in itertools.product((1, -1), repeat=3)
]
OBLIQUE = nib.affines.from_matvec(
    nib.eulerangles.euler2mat(0.1, 0.2, 0.3) @ np.diag([2.0, 2.5, 3.0]), [-30, 12, 5]
)
AFFINES = {"straight": np.diag([-2.0, 2.0, 3.0, 1.0]), "cubic": np.diag([2.0, 2, 2, 1]), "oblique": OBLIQUE}


def save(path, image):
    image.to_filename(path)
    return path


def volume(affine=AFFINES["straight"], seed=0, dtype=np.float32):
    return nib.Nifti1Image(np.random.default_rng(seed).normal(size=SHAPE).astype(dtype), affine)


@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
@pytest.mark.parametrize("ornt", ORIENTATIONS, ids=str)
def test_voxel_reader__flips_to_the_grid(tmp_path, ornt, affine):
    first = volume(affine)
    other = first.as_reoriented(ornt)
    paths = [save(tmp_path / "a.nii", first), save(tmp_path / "b.nii.gz", other)]
    checked = check_grids(paths)
    is_same = np.array_equal(ornt, ORIENTATIONS[0])
    assert bool(checked.notes) is not is_same
    assert checked.n_orientations == (1 if is_same else 2)
    voxels = np.array([0, 7, 8, 31, 59])
    for chosen in (None, voxels):
        reader = VoxelReader(SHAPE, chosen, checked.grid.affine)
        expected = np.asarray(first.dataobj).ravel()[slice(None) if chosen is None else chosen]
        row = np.empty(expected.size, np.float64)
        for path in paths:
            np.testing.assert_array_equal(reader.read(path), expected)
            reader.read_into(row, path)
            np.testing.assert_array_equal(row, expected)


@pytest.mark.parametrize(
    ("ornts", "n_turned", "codes", "done"),
    [
        ([0, 0, 4], 1, "RAS beside LAS", "flipped"),
        ([0, 4, 1], 2, "LAI, RAS beside LAS", "flipped"),
        ([0, 0, 8], 1, "LSA beside LAS", "turned"),
        ([4, 0, 4], 1, "LAS beside RAS", "flipped"),
        ([5, 5, 5], None, "", ""),
    ],
)
def test_check_grids__says_once_what_is_flipped(tmp_path, ornts, n_turned, codes, done):
    images = [volume(seed=number).as_reoriented(ORIENTATIONS[which]) for number, which in enumerate(ornts)]
    paths = [save(tmp_path / f"{number}.nii", image) for number, image in enumerate(images)]
    note = f"{n_turned} of 3 images are stored with another orientation ({codes}); {done}, not resampled"
    assert check_grids(paths).notes == (() if n_turned is None else (note,))


def moved(image, shift=(0, 0, 0), turn=0.0):
    """The image with its affine changed: somewhere else in space."""
    affine = nib.affines.from_matvec(nib.eulerangles.euler2mat(turn), shift) @ image.affine
    return nib.Nifti1Image(np.asarray(image.dataobj), affine)


@pytest.mark.parametrize("which", [0, 4, 8, 21])
@pytest.mark.parametrize(
    ("shift", "turn"),
    [((2.0, 0, 0), 0.0), ((0, 1.0, 0), 0.0), ((0, 0, 0.01), 0.0), ((0, 0, 0), 0.01)],
    ids=str,
)
def test_check_grids__refuses_shifted_and_oblique_images_flipped_or_not(tmp_path, which, shift, turn):
    other = moved(volume().as_reoriented(ORIENTATIONS[which]), shift, turn)
    paths = [save(tmp_path / "a.nii", volume()), save(tmp_path / "b.nii", other)]
    with pytest.raises(DataError, match=r"b\.nii: (its affine|shape).*differs(.|\n)*never resampled"):
        check_grids(paths)
    mask = save(tmp_path / "mask.nii", nib.Nifti1Image(np.ones(other.shape, np.uint8), other.affine))
    with pytest.raises(DataError, match="another grid"):
        read_mask(mask, read_grid(paths[0]))


def test_check_grids__allows_rounding_in_a_flipped_affine(tmp_path):
    other = moved(volume().as_reoriented(ORIENTATIONS[4]), (1e-5, 0, 0))
    paths = [save(tmp_path / "a.nii", volume()), save(tmp_path / "b.nii", other)]
    assert check_grids(paths).n_orientations == 2
    reader = VoxelReader(SHAPE, affine=read_grid(paths[0]).affine)
    np.testing.assert_array_equal(reader.read(paths[1]), reader.read(paths[0]))


@pytest.mark.parametrize("which", range(0, 48, 5))
def test_masks__are_flipped_to_the_grid(tmp_path, which):
    grid = read_grid(save(tmp_path / "a.nii", volume()))
    rng = np.random.default_rng(5)
    inside = [nib.Nifti1Image((rng.random(SHAPE) > 0.4).astype(np.uint8), grid.affine) for _ in range(2)]
    expected = [np.asarray(image.dataobj).ravel() > 0 for image in inside]
    paths = [save(tmp_path / "own.nii.gz", inside[0]), tmp_path / "flipped.nii.gz"]
    save(paths[1], inside[1].as_reoriented(ORIENTATIONS[which]))
    for resample in (False, True):
        np.testing.assert_array_equal(read_mask(paths[1], grid, resample=resample), expected[1])
    reader = VoxelReader(SHAPE, affine=grid.affine)
    np.testing.assert_array_equal(image_mask(reader, paths), expected[0] & expected[1])
    union = mask_union([paths[:1], paths[1:]], SHAPE, grid.affine)
    np.testing.assert_array_equal(union, expected[0] | expected[1])


def test_find_orientation__other_lengths_are_another_grid():
    affine = AFFINES["cubic"]
    assert find_orientation(SHAPE, affine, SHAPE, affine) == SAME
    assert find_orientation((4, 3, 5), affine, SHAPE, affine) is None
