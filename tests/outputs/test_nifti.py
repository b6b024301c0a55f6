"""NIfTI files hold the grid, and nothing of the day."""

from __future__ import annotations

import gzip

import nibabel as nib
import numpy as np
import pytest

from blmm_bids.images.grid import Grid
from blmm_bids.outputs.nifti import gzipped, write_volume
from tests.outputs.synthetic import AFFINE, SHAPE

SHEARED = AFFINE @ np.array([[1, 0.3, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])


@pytest.mark.parametrize("content", [b"", b"abc", bytes(range(256)) * 1000])
def test_gzipped__is_read_by_gzip_and_names_neither_file_nor_time(content):
    packed = gzipped(content)
    assert gzip.decompress(packed) == content
    assert packed[3:8] == bytes(5)
    assert gzipped(content) == packed


@pytest.mark.parametrize(
    ("affine", "codes", "wanted"),
    [(AFFINE, (4, 1), (4, 1)), (AFFINE, (0, 0), (2, 0)), (SHEARED, (3, 1), (3, 0))],
)
def test_write_volume__keeps_the_space_of_the_inputs(tmp_path, affine, codes, wanted):
    grid = Grid(SHAPE, affine, (3.0, 3.0, 4.0), *codes)
    image = nib.load(write_volume(tmp_path / "a.nii.gz", np.ones(SHAPE, dtype=np.float32), grid))
    np.testing.assert_allclose(image.affine, affine, atol=1e-5)
    assert (int(image.header["sform_code"]), int(image.header["qform_code"])) == wanted
    assert image.header.get_xyzt_units()[0] == "mm"
    assert image.header["magic"] == b"n+1"


def test_write_volume__replaces_what_was_there_and_leaves_no_scraps(tmp_path):
    path = tmp_path / "new" / "a.nii.gz"
    grid = Grid(SHAPE, AFFINE, (3.0, 3.0, 4.0))
    for value in (1, 2):
        write_volume(path, np.full(SHAPE, value, dtype=np.int16), grid, intent_name="a name of many letters")
    assert nib.load(path).get_fdata().min() == 2
    assert [entry.name for entry in path.parent.iterdir()] == ["a.nii.gz"]
