"""Values of images: every data type, scaling, missing values, broken files."""

from __future__ import annotations

import gzip

import nibabel as nib
import numpy as np
import pytest

from blmm_bids.errors import DataError
from blmm_bids.images import reader as reader_module
from blmm_bids.images.reader import MissingRule, VoxelReader, mark_missing, read_values, read_volume

SHAPE = (4, 5, 6)
AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])


def save(path, data, slope=None, inter=0.0, endianness="<"):
    header = nib.Nifti1Header(endianness=endianness)
    header.set_data_dtype(data.dtype)
    image = nib.Nifti1Image(data, AFFINE, header=header)
    if slope is not None:
        image.header.set_slope_inter(slope, inter)
    nib.save(image, path)
    return path


@pytest.fixture(params=["isal", "zlib"])
def inflater(request, monkeypatch):
    if request.param == "zlib":
        import zlib

        monkeypatch.setattr(reader_module, "_inflater", zlib)
    return request.param


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("endianness", ["<", ">"])
@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "u2", "i4", "f4", "f8"])
def test_read_values__agrees_with_nibabel(tmp_path, name, endianness, dtype, inflater):
    data = np.random.default_rng(1).uniform(0, 100, SHAPE).astype(dtype)
    path = save(tmp_path / name, data, endianness=endianness)
    values = read_values(path)
    assert values.dtype == (np.float64 if dtype == "f8" else np.float32)
    assert values.dtype.isnative
    np.testing.assert_array_equal(values, data.ravel())
    voxels = np.array([0, 7, 8, 50, 119])
    np.testing.assert_array_equal(read_values(path, voxels), data.ravel()[voxels])
    volume = read_volume(path)
    assert (volume.dtype, volume.flags.c_contiguous) == (np.float64, True)
    np.testing.assert_array_equal(volume, nib.load(path).get_fdata())
    for row in (np.empty(5, dtype="f4"), np.empty(5)):
        VoxelReader(SHAPE, voxels).read_into(row, path)
        np.testing.assert_array_equal(row, data.ravel()[voxels].astype(row.dtype))


def test_read_values__applies_scaling_in_double(tmp_path):
    data = np.arange(120, dtype=np.int16).reshape(SHAPE)
    path = tmp_path / "scaled.nii.gz"
    image = nib.Nifti1Image(data, AFFINE)
    image.header.set_slope_inter(0.1, -3.0)
    image.header.set_data_dtype(np.int16)
    # nibabel rescales on saving what it believes to be final values; write the stored ones as they are.
    header = image.header.copy()
    header["vox_offset"] = 352
    header["scl_slope"], header["scl_inter"] = 0.1, -3.0
    path.write_bytes(gzip.compress(header.binaryblock + b"\x00" * 4 + data.tobytes(order="F")))
    expected = nib.load(path).get_fdata()
    assert expected.max() < 10
    np.testing.assert_array_equal(read_values(path), expected.astype(np.float32).ravel())
    np.testing.assert_array_equal(read_volume(path), expected)


def test_read_values__drops_trailing_axis(tmp_path):
    data = np.random.default_rng(2).normal(size=(*SHAPE, 1)).astype(np.float32)
    np.testing.assert_array_equal(read_values(save(tmp_path / "a.nii", data)), data.ravel())
    with pytest.raises(DataError, match="4 dimensions"):
        read_values(save(tmp_path / "b.nii", np.zeros((*SHAPE, 2), np.float32)))


def test_voxel_reader__refuses_another_shape(tmp_path):
    path = save(tmp_path / "a.nii", np.zeros(SHAPE, np.float32))
    with pytest.raises(DataError, match="changed during the run"):
        VoxelReader((4, 5, 7)).read(path)


def _members(content):
    return b"".join(gzip.compress(content[k : k + 100]) for k in range(0, len(content), 100))


@pytest.mark.parametrize("pack", [_members, lambda content: gzip.compress(content) + b"\x00" * 512])
def test_read_values__reads_members_and_padding(tmp_path, inflater, pack):
    data = np.random.default_rng(3).normal(size=SHAPE).astype(np.float32)
    plain = save(tmp_path / "a.nii", data)
    path = tmp_path / "b.nii.gz"
    first = gzip.compress(plain.read_bytes()[:400]) + _members(plain.read_bytes()[400:])
    path.write_bytes(first if pack is _members else pack(plain.read_bytes()))
    np.testing.assert_array_equal(read_values(path), data.ravel())


def _bad_sum(packed):
    return packed[:-6] + bytes([packed[-6] ^ 1]) + packed[-5:]


BROKEN = {
    "cut in the data": lambda plain: gzip.compress(plain)[:-200],
    "cut in the checksum": lambda plain: gzip.compress(plain)[:-3],
    "wrong checksum": lambda plain: _bad_sum(gzip.compress(plain)),
    "trailing garbage": lambda plain: gzip.compress(plain) + b"garbage",
    "fewer data": lambda plain: gzip.compress(plain[:-8]),
    "more data": lambda plain: gzip.compress(plain + b"12345678"),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_read_values__names_broken_gzip(tmp_path, inflater, fault):
    plain = save(tmp_path / "a.nii", np.random.default_rng(4).normal(size=SHAPE).astype(np.float32))
    path = tmp_path / f"{fault}.nii.gz"
    path.write_bytes(BROKEN[fault](plain.read_bytes()))
    with pytest.raises(DataError) as caught:
        read_values(path)
    assert str(path) in str(caught.value)


def test_read_values__refuses_longer_plain_file(tmp_path):
    path = save(tmp_path / "a.nii", np.zeros(SHAPE, np.float32))
    path.write_bytes(path.read_bytes() + b"more")
    with pytest.raises(DataError, match="more data"):
        read_values(path)


NAN, INF = np.nan, np.inf


@pytest.mark.parametrize(
    ("rule", "inside", "expected", "n_inf"),
    [
        (MissingRule(), None, [NAN, 1, NAN, -2, NAN, NAN, 5], 2),
        (MissingRule(zeros="data"), None, [0, 1, NAN, -2, NAN, NAN, 5], 2),
        (MissingRule(threshold=1.0), None, [NAN, 1, NAN, NAN, NAN, NAN, 5], 2),
        (MissingRule(threshold=0.0, zeros="data"), None, [0, 1, NAN, NAN, NAN, NAN, 5], 2),
        (MissingRule(), [1, 1, 1, 1, 0, 1, 0], [NAN, 1, NAN, -2, NAN, NAN, NAN], 1),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_mark_missing__rules(rule, inside, expected, n_inf, dtype):
    values = np.array([0, 1, NAN, -2, INF, -INF, 5], dtype)
    mask = None if inside is None else np.array(inside, bool)
    assert mark_missing(values, rule, mask) == n_inf
    np.testing.assert_array_equal(values, expected)


def test_mark_missing__threshold_in_precision_of_the_image():
    values = np.array([0.7], np.float32)
    mark_missing(values, MissingRule(threshold=0.7))
    assert not np.isnan(values[0])
