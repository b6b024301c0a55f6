"""Headers: what is accepted, what is refused, and with which words."""

from __future__ import annotations

import gzip
import os
import shutil

import nibabel as nib
import numpy as np
import pytest

from blmm_bids.errors import DataError, MissingInputError
from blmm_bids.images.header import read_header, same_content

AFFINE = np.array([[-2.0, 0.1, 0, 90], [0, 2, 0, -126], [0, 0, 2.5, -72], [0, 0, 0, 1]])


def save(path, data=None, kind=nib.Nifti1Image, **header):
    image = kind(np.ones((3, 4, 5), np.float32) if data is None else data, AFFINE)
    for name, value in header.items():
        image.header[name] = value
    nib.save(image, path)
    return path


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("dtype", ["u1", "i2", ">i2", "i4", "<f4", ">f4", "f8", ">f8", "u2", "i1"])
def test_read_header__agrees_with_nibabel(tmp_path, kind, name, dtype):
    data = np.arange(60).reshape(3, 4, 5).astype(dtype)
    header = nib.Nifti1Header(endianness=dtype[0]) if dtype[0] == ">" and kind is nib.Nifti1Image else None
    path = tmp_path / name
    nib.save(kind(data, AFFINE, header=header), path)
    ours, theirs = read_header(path), nib.load(path)
    assert ours.shape == theirs.shape
    assert ours.dtype == theirs.header.get_data_dtype()
    assert ours.offset == theirs.dataobj.offset
    assert ours.is_gzip == name.endswith(".gz")
    np.testing.assert_array_equal(ours.affine, theirs.affine)


def test_read_header__uses_qform_without_sform(tmp_path):
    image = nib.Nifti1Image(np.ones((3, 4, 5), np.float32), None)
    image.set_qform(np.diag([-2.0, 2, 2, 1]), code=1)
    image.set_sform(None, code=0)
    nib.save(image, tmp_path / "q.nii")
    header = read_header(tmp_path / "q.nii")
    np.testing.assert_allclose(header.affine, nib.load(tmp_path / "q.nii").affine)
    assert (header.sform_code, header.qform_code) == (0, 1)


def test_read_header__sniffs_compression(tmp_path):
    plain = save(tmp_path / "plain.nii")
    (tmp_path / "named.nii.gz").write_bytes(plain.read_bytes())
    (tmp_path / "packed.nii").write_bytes(gzip.compress(plain.read_bytes()))
    assert not read_header(tmp_path / "named.nii.gz").is_gzip
    assert read_header(tmp_path / "packed.nii").is_gzip


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((3, 4, 5, 1), (3, 4, 5)),
        ((3, 4, 5, 1, 1), (3, 4, 5)),
        ((3, 4, 5, 2), (3, 4, 5, 2)),
        ((3, 4), (3, 4, 1)),
    ],
)
def test_read_header__drops_trailing_ones(tmp_path, shape, expected):
    assert read_header(save(tmp_path / "a.nii", np.zeros(shape, np.float32))).shape == expected


def test_read_header__reads_pairs(tmp_path):
    image = nib.Nifti1Pair(np.ones((3, 4, 5), np.float32), AFFINE)
    nib.save(image, tmp_path / "p.img")
    for name in ("p.img", "p.hdr"):
        header = read_header(tmp_path / name)
        assert header.path == tmp_path / "p.img"
        assert header.offset == 0


def test_read_header__identity_follows_the_file(tmp_path):
    path = save(tmp_path / "a.nii.gz")
    before = read_header(path).identity
    assert read_header(path).identity == before
    save(path, np.zeros((3, 4, 5), np.float32))
    assert read_header(path).identity != before


@pytest.mark.parametrize("n_values", [100, 100_000])
@pytest.mark.parametrize("place", [0.3, 0.5, 0.999])
def test_read_header__identity_follows_a_change_whose_time_was_put_back(tmp_path, n_values, place):
    path = save(tmp_path / "a.nii", np.zeros((100, n_values // 100, 1), np.float32))
    before, stat = read_header(path).identity, path.stat()
    with path.open("r+b") as file:
        file.seek(352 + 4 * int(place * n_values))
        file.write(np.float32(5).tobytes())
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert path.stat().st_mtime_ns == stat.st_mtime_ns
    assert read_header(path).identity != before


def test_read_header__identity_of_a_copy_differs_in_the_file_alone(tmp_path):
    path = save(tmp_path / "a.nii", np.arange(100_000, dtype=np.float32).reshape(100, -1, 1))
    copy = tmp_path / "b.nii"
    shutil.copy2(path, copy)
    one, other = read_header(path).identity, read_header(copy).identity
    assert one != other
    assert same_content(one, other)
    # The last bytes, and only they: a change of which the file's own time says nothing.
    content = copy.read_bytes()
    copy.write_bytes(content[:-4] + np.float32(-1).tobytes())
    os.utime(copy, ns=(0, path.stat().st_mtime_ns))
    assert not same_content(one, read_header(copy).identity)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("a.surf.gii", "GIFTI"),
        ("a.func.gii.gz", "GIFTI"),
        ("a.dscalar.nii", "CIFTI"),
        ("a.ptseries.nii", "CIFTI"),
        ("a.mgz", "wanted .nii"),
    ],
)
def test_read_header__refuses_by_name(tmp_path, name, words):
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(DataError, match=words) as caught:
        read_header(tmp_path / name)
    assert name in str(caught.value)


def test_read_header__refuses_cifti_by_intent(tmp_path):
    path = save(tmp_path / "hidden.nii", kind=nib.Nifti2Image, intent_code=3006)
    with pytest.raises(DataError, match="CIFTI"):
        read_header(path)


RGB = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])


@pytest.mark.parametrize(
    ("dtype", "words"), [(np.complex64, "complex64"), (np.complex128, "complex128"), (RGB, "RGB")]
)
def test_read_header__refuses_other_numbers(tmp_path, dtype, words):
    path = save(tmp_path / "a.nii", np.zeros((3, 4, 5), dtype))
    with pytest.raises(DataError, match=words):
        read_header(path)


def _patched(path, offset, content):
    stored = bytearray(path.read_bytes())
    stored[offset : offset + len(content)] = content
    path.write_bytes(stored)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: path.write_bytes(b""), "zero bytes"),
        (lambda path: path.write_bytes(b"hello, I am no image" * 40), "not a NIfTI"),
        (lambda path: path.write_bytes(b"\x1f\x8b nonsense"), "broken gzip"),
        (lambda path: path.write_bytes(gzip.compress(b"short")), "not a NIfTI"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "truncated"),
        (lambda path: _patched(path, 42, np.int16(30000).tobytes() * 3), "truncated"),
        (lambda path: _patched(path, 42, np.int16(-3).tobytes()), "impossible dimensions"),
        (lambda path: _patched(path, 40, np.int16(0).tobytes()), "impossible dimensions"),
        (lambda path: _patched(path, 108, np.float32(np.nan).tobytes()), "cannot be"),
        (lambda path: _patched(path, 108, np.float32(1e30).tobytes()), "cannot be"),
        (lambda path: _patched(path, 280, np.zeros(12, np.float32).tobytes()), "singular"),
        (lambda path: _patched(path, 280, np.full(12, np.nan, np.float32).tobytes()), "not finite"),
        (lambda path: _patched(path, 344, b"xxxx"), "not a NIfTI"),
    ],
)
def test_read_header__names_broken_file(tmp_path, make, words):
    path = save(tmp_path / "broken image.nii")
    make(path)
    with pytest.raises(DataError, match=words) as caught:
        read_header(path)
    assert str(path) in str(caught.value)


def test_read_header__refuses_gz_whose_header_lies(tmp_path):
    plain = save(tmp_path / "a.nii")
    _patched(plain, 42, np.int16(30000).tobytes() * 3)
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(plain.read_bytes()))
    with pytest.raises(DataError, match="promises"):
        read_header(tmp_path / "a.nii.gz")


def test_read_header__missing_files(tmp_path):
    with pytest.raises(MissingInputError, match="no such image"):
        read_header(tmp_path / "absent.nii")
    (tmp_path / "annexed.nii").symlink_to(tmp_path / "nowhere")
    with pytest.raises(MissingInputError, match="datalad get"):
        read_header(tmp_path / "annexed.nii")
    (tmp_path / "directory.nii").mkdir()
    with pytest.raises(MissingInputError, match="cannot be read"):
        read_header(tmp_path / "directory.nii")


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("ending", [".img", ".hdr"])
def test_read_header__analyze_pairs_do_not_say_how_they_lie(tmp_path, order, ending):
    data = np.ones((3, 4, 5), np.float32)
    header = nib.AnalyzeHeader(endianness=order)
    nib.AnalyzeImage(data, np.eye(4), header).to_filename(tmp_path / "old.img")
    with pytest.raises(DataError, match=r"old\.img: its header is Analyze 7\.5(.|\n)*left and right"):
        read_header(tmp_path / f"old{ending}")
