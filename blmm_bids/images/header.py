"""What a NIfTI file says about itself, read from its first bytes."""

from __future__ import annotations

import math
import os
import re
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import nibabel as nib
import numpy as np

from blmm_bids.errors import DataError, MissingInputError
from blmm_bids.regular_files import open_regular

if TYPE_CHECKING:
    from pathlib import Path
    from typing import IO

    from numpy.typing import NDArray

_Order = Literal["<", ">"]
# Enough compressed bytes for a NIfTI-2 header behind a gzip header with a long file name.
_HEAD_BYTES = 4096
# Pieces of a file that its identity looks at behind the first; between an identity's content and file.
_N_SAMPLES, _FILE = 4, ":"
_OWN = re.compile(rf"{_FILE}\d+-\d+")
GZIP_MAGIC = b"\x1f\x8b"
_MAX_OFFSET = 2**31
# Of a grid whose voxels are looked through one by one: values, places, masks.
_BYTES_A_VOXEL = 16
# No deflate stream expands by more than this, so a larger claim cannot be true.
_MAX_GZIP_RATIO = 1040
_MAGIC = {348: (b"n+1\x00", b"ni1\x00"), 540: (b"n+2\x00", b"ni2\x00")}
_REAL_TYPES = {
    2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8",
    256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8",
}  # fmt: skip
_OTHER_TYPES = {
    0: "unknown", 1: "binary", 32: "complex64", 128: "RGB", 1536: "float128",
    1792: "complex128", 2048: "complex256", 2304: "RGBA",
}  # fmt: skip
_CIFTI_INTENTS = range(3000, 3100)
_CIFTI_NAME = re.compile(r"\.[dp][a-z]+\.nii(\.gz)?$")
_VOLUMES_ONLY = "this version reads NIfTI volumes. Select images with extension .nii or .nii.gz"
_SINGLE_NAMES = (".nii", ".nii.gz")
_NIFTI_NAMES = (".nii", ".nii.gz", ".img", ".img.gz", ".hdr", ".hdr.gz")


@dataclass(frozen=True, eq=False)
class ImageHeader:
    """What is needed to place and read one image.

    Attributes
    ----------
    path : Path
        The file that holds the voxels (``.img`` of a pair).
    shape : tuple of int
        Without trailing axes of length one beyond the third.
    affine : (4, 4) float64
        Voxel indices to mm.
    dtype : numpy.dtype
        On disk, with its byte order.
    offset : int
        Bytes before the first voxel.
    slope, inter : float
        Value = stored * slope + inter; 1 and 0 where the file declares no scaling.
    is_gzip : bool
        By content; names may lie.
    sform_code, qform_code : int
        NIfTI's codes of the space.
    identity : str
        Changes when the file does: size, time of the content's change, checksum of its first bytes and of
        some spread over it; then, as these can be put back, the time of the file's own change and its number.
    """

    path: Path
    shape: tuple[int, ...]
    affine: NDArray[np.float64]
    dtype: np.dtype[np.generic]
    offset: int
    slope: float
    inter: float
    is_gzip: bool
    sform_code: int
    qform_code: int
    identity: str

    @property
    def n_values(self) -> int:
        """Number of voxels."""
        product = 1
        for length in self.shape:
            product *= length
        return product

    @property
    def is_scaled(self) -> bool:
        """Whether stored numbers differ from values."""
        return self.slope != 1.0 or self.inter != 0.0

    @property
    def value_dtype(self) -> np.dtype[np.generic]:
        """float64 for images stored as float64, else float32."""
        return np.dtype(np.float64 if self.dtype.kind == "f" and self.dtype.itemsize == 8 else np.float32)


def read_header(path: Path) -> ImageHeader:
    """Read the header of a NIfTI-1 or NIfTI-2 file, single or pair, compressed or not.

    Raises
    ------
    DataError
        Not a NIfTI image of real numbers, or a header that contradicts itself.
    MissingInputError
        No such file, or it cannot be opened.
    """
    _refuse_by_name(path)
    head, size, identity, is_gzip = _read_head(_header_path(path))
    data_path = _data_path(path)
    if data_path != _header_path(path):
        _, size, data_identity, is_gzip = _read_head(data_path)
        identity = f"{identity}+{data_identity}"
    header = _parse(data_path, head, is_gzip=is_gzip, identity=identity)
    needed = header.offset + header.n_values * header.dtype.itemsize
    if (not is_gzip and size < needed) or (is_gzip and size * _MAX_GZIP_RATIO < needed):
        msg = (
            f"{path}: the header promises {needed} bytes (shape {header.shape}, {header.dtype.name}), "
            f"the file has only {size}{' compressed' if is_gzip else ''}. It is truncated or its header is "
            "wrong; copy or make it again"
        )
        raise DataError(msg)
    _check_memory(header)
    return header


def _check_memory(header: ImageHeader) -> None:
    """Refuse a volume that this machine cannot hold, whatever share of it the run may use."""
    n_bytes = _BYTES_A_VOXEL * math.prod(header.shape[:3])
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if n_bytes > memory:
        msg = (
            f"{header.path}: a volume of {' x '.join(map(str, header.shape[:3]))} voxels, as its header "
            f"says, takes {n_bytes / 2**30:,.0f} GB, and this machine has {memory / 2**30:,.0f} GB. Is it "
            "the right file, or is its header damaged?"
        )
        raise DataError(msg)


def _refuse_by_name(path: Path) -> None:
    """Name the formats that this version does not read."""
    name = path.name.lower()
    if name.endswith((".gii", ".gii.gz")):
        msg = f"{path}: GIFTI surfaces come later; {_VOLUMES_ONLY}"
        raise DataError(msg)
    if _CIFTI_NAME.search(name):
        msg = f"{path}: CIFTI files come later; {_VOLUMES_ONLY}"
        raise DataError(msg)
    if not name.endswith(_NIFTI_NAMES):
        msg = f"{path}: not the name of a NIfTI image; wanted .nii or .nii.gz (or a .hdr/.img pair)"
        raise DataError(msg)


def _header_path(path: Path) -> Path:
    if path.name.endswith(_SINGLE_NAMES):
        return path
    return path.with_name(re.sub(r"\.img(\.gz)?$", r".hdr\1", path.name))


def _data_path(path: Path) -> Path:
    if path.name.endswith(_SINGLE_NAMES):
        return path
    return path.with_name(re.sub(r"\.hdr(\.gz)?$", r".img\1", path.name))


def _read_head(path: Path) -> tuple[bytes, int, str, bool]:
    """First bytes inflated, size in bytes, identity, whether gzip."""
    try:
        with open_regular(path) as file:
            stat = os.fstat(file.fileno())
            stored = file.read(_HEAD_BYTES)
            checksum = _sample(file, stat.st_size, zlib.crc32(stored))
    except FileNotFoundError as error:
        hint = (
            "it is a link to nothing; fetch the content (`datalad get`, `git annex get`)"
            if path.is_symlink()
            else "check the path"
        )
        msg = f"{path}: no such image: {hint}"
        raise MissingInputError(msg) from error
    except OSError as error:
        msg = f"{path}: cannot be read ({error.strerror}); check that it is a file and its permissions"
        raise MissingInputError(msg) from error
    if not stored:
        msg = f"{path}: the file is empty (zero bytes); copy or make it again"
        raise DataError(msg)
    identity = f"{stat.st_size}-{stat.st_mtime_ns}-{checksum:08x}{_FILE}{stat.st_ctime_ns}-{stat.st_ino}"
    is_gzip = stored.startswith(GZIP_MAGIC)
    if is_gzip:
        try:
            stored = zlib.decompressobj(wbits=31).decompress(stored, _HEAD_BYTES)
        except zlib.error as error:
            msg = f"{path}: broken gzip data at the start of the file ({error}); copy or make it again"
            raise DataError(msg) from error
    return stored, stat.st_size, identity, is_gzip


def _sample(file: IO[bytes], size: int, checksum: int) -> int:
    """Go on with a checksum over pieces of a file, the last bytes among them: gzip's own checksum."""
    step = max((size - _HEAD_BYTES) // _N_SAMPLES, 0)
    for sample in range(1, _N_SAMPLES + 1 if step else 1):
        file.seek(size - _HEAD_BYTES if sample == _N_SAMPLES else sample * step)
        checksum = zlib.crc32(file.read(_HEAD_BYTES), checksum)
    return checksum


def same_content(first: str, second: str) -> bool:
    """Whether two identities differ in the file's own time and number at most, as after a change of mode."""
    return _OWN.sub("", first) == _OWN.sub("", second)


def _parse(path: Path, head: bytes, *, is_gzip: bool, identity: str) -> ImageHeader:
    """Check and unpack header bytes."""
    raw, order = _unpack(path, head)
    shape = _shape(path, raw)
    code = int(raw["datatype"])
    if code not in _REAL_TYPES:
        kind = _OTHER_TYPES.get(code, code)
        msg = f"{path}: data type {kind} is not supported; wanted an image of real numbers"
        raise DataError(msg)
    if int(raw["intent_code"]) in _CIFTI_INTENTS:
        msg = f"{path}: holds CIFTI data, which come later; {_VOLUMES_ONLY}"
        raise DataError(msg)
    is_pair = raw["magic"].tobytes().startswith(b"ni")
    offset = float(raw["vox_offset"])
    if not ((0 if is_pair else raw.dtype.itemsize) <= offset < _MAX_OFFSET and offset.is_integer()):
        msg = f"{path}: the header puts the data at byte {offset}, which cannot be; the file is damaged"
        raise DataError(msg)
    slope, inter = float(raw["scl_slope"]), float(raw["scl_inter"])
    # The standard: a slope of 0 (and, as nibabel has it, one that is not finite) means "not scaled".
    if slope == 0 or not np.isfinite(slope) or not np.isfinite(inter):
        slope, inter = 1.0, 0.0
    return ImageHeader(
        path=path,
        shape=shape,
        affine=_affine(path, raw, order),
        dtype=np.dtype(order + _REAL_TYPES[code]),
        offset=int(offset),
        slope=slope,
        inter=inter,
        is_gzip=is_gzip,
        sform_code=int(raw["sform_code"]),
        qform_code=int(raw["qform_code"]),
        identity=identity,
    )


def _unpack(path: Path, head: bytes) -> tuple[NDArray[np.void], _Order]:
    """Bytes to the 0-d structured array of NIfTI-1 or -2, and the file's byte order."""
    orders: tuple[_Order, _Order] = ("<", ">")
    for order in orders:
        length = int(np.frombuffer(head[:4], dtype=f"{order}i4")[0]) if len(head) >= 4 else 0
        if length not in _MAGIC or len(head) < length:
            continue
        template = nib.Nifti1Header.template_dtype if length == 348 else nib.Nifti2Header.template_dtype
        raw = np.ndarray((), dtype=template.newbyteorder(order), buffer=head[:length])
        if raw["magic"].tobytes()[:4].ljust(4, b"\x00") in _MAGIC[length]:
            return raw, order
    if _is_analyze(path, head):
        msg = (
            f"{path}: its header is Analyze 7.5, which does not say how the image lies in space (left and "
            "right may be exchanged). Convert it to NIfTI with the program that wrote it (SPM reads the .mat "
            "file beside it; FSL has fslchfiletype NIFTI_GZ), and check left and right"
        )
        raise DataError(msg)
    msg = f"{path}: not a NIfTI image (no NIfTI header at its start); wanted .nii or .nii.gz"
    raise DataError(msg)


def _is_analyze(path: Path, head: bytes) -> bool:
    """Whether the header of a pair is one from before NIfTI: as long, without its magic."""
    is_pair = not path.name.endswith(_SINGLE_NAMES)
    lengths = {int(np.frombuffer(head[:4], dtype=f"{order}i4")[0]) for order in "<>" if len(head) >= 348}
    return is_pair and 348 in lengths


def _shape(path: Path, raw: NDArray[np.void]) -> tuple[int, ...]:
    """Three axes or, where longer ones follow, all of them."""
    dim = [int(length) for length in raw["dim"]]
    if not 1 <= dim[0] <= 7 or any(length < 1 for length in dim[1 : dim[0] + 1]):
        msg = f"{path}: impossible dimensions {dim} in the header; the file is damaged"
        raise DataError(msg)
    shape = dim[1 : dim[0] + 1]
    while len(shape) > 3 and shape[-1] == 1:
        shape.pop()
    return tuple(shape + [1] * (3 - len(shape)))


def _affine(path: Path, raw: NDArray[np.void], order: _Order) -> NDArray[np.float64]:
    """Take the sform, else the qform, else the zooms: nibabel's rule."""
    if int(raw["sform_code"]) > 0:
        affine = np.eye(4)
        for row, name in enumerate(("srow_x", "srow_y", "srow_z")):
            affine[row] = raw[name]
    else:
        kind: Any = nib.Nifti1Header if int(raw["sizeof_hdr"]) == 348 else nib.Nifti2Header
        try:
            header = kind(binaryblock=raw.tobytes(), endianness=order, check=False)
            affine = np.asarray(header.get_best_affine(), dtype=np.float64)
        except (ValueError, nib.spatialimages.HeaderDataError) as error:
            msg = f"{path}: unusable qform in the header ({error}); the file is damaged"
            raise DataError(msg) from error
    with np.errstate(over="ignore", invalid="ignore"):
        volume = abs(np.linalg.det(affine[:3, :3]))
    if not (np.isfinite(affine).all() and np.isfinite(volume)) or volume < 1e-12:
        msg = f"{path}: the affine in the header is singular or not finite:\n{affine[:3]}"
        raise DataError(msg)
    return affine
