"""Part files: the values of one batch of images, voxel by voxel.

Layout, little-endian::

    header          _HEADER: magic, format version, sizes, digest, checksum of header and table
    table           _ENTRY a block: offset, number of voxels present, checksum
    block 0         bitmap of its voxels with any value (padded to 8 bytes),
                    then a row (obs of the batch) for each of these; NaN = missing
    block 1 …

Fitting a block reads one contiguous range of each part; a voxel without any value costs one bit.
"""

from __future__ import annotations

import os
import zlib
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from blmm_bids.errors import StorageError
from blmm_bids.outputs.atomic import WRITE_ADVICE, aside_of, discard, patiently
from blmm_bids.outputs.kept import KeptMatrix

_zlib: Any = zlib
with suppress(ImportError):  # the same sums, several times as fast
    from isal import isal_zlib as _zlib

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from blmm_bids.images.blocks import Span

PART_FORMAT = 1
_MAGIC = b"BLMMPART"
_HEADER = np.dtype(
    [
        ("magic", "S8"),
        ("format", "<u4"),
        ("itemsize", "<u4"),
        ("first_obs", "<i8"),
        ("n_obs", "<i8"),
        ("n_voxels", "<i8"),
        ("n_blocks", "<i8"),
        ("digest", "S64"),
        ("crc", "<u4"),
        ("unused", "<u4"),
    ]
)
_ENTRY = np.dtype(
    [("start", "<i8"), ("stop", "<i8"), ("offset", "<i8"), ("n_present", "<i8"), ("crc", "<u8")]
)
_ALIGN = 8


@dataclass(frozen=True, eq=False)
class Part:
    """An opened part's header and table.

    Attributes
    ----------
    path : Path
        The file.
    first_obs, n_obs : int
        Which images of the design it holds.
    dtype : numpy.dtype
        Of the values.
    table : (block,) structured
        Range of voxels, offset, voxels present, checksum.
    """

    path: Path
    first_obs: int
    n_obs: int
    dtype: np.dtype[np.generic]
    table: NDArray[np.void]

    def block_bytes(self, index: int) -> int:
        """Length of a block in the file."""
        entry = self.table[index]
        rows = int(entry["n_present"]) * self.n_obs * self.dtype.itemsize
        return _bitmap_bytes(int(entry["stop"] - entry["start"])) + rows


def write_part(
    path: Path, values: NDArray[np.floating[Any]], blocks: Sequence[Span], first_obs: int, digest: str
) -> None:
    """Write one batch, aside first, then under its name.

    Parameters
    ----------
    path : Path
        The part; replaced where it exists.
    values : (obs, voxel) float32 or float64
        NaN where missing.
    blocks : sequence of Span
        Blocks of voxels, which together hold all of them in order.
    first_obs : int
        Place of the batch's first image in the design.
    digest : str
        Hash of what the content depends on, at most 64 ASCII characters.

    Raises
    ------
    StorageError
        Disk full or not writable.
    """
    header = np.zeros((), dtype=_HEADER)
    header["magic"], header["format"], header["itemsize"] = _MAGIC, PART_FORMAT, values.dtype.itemsize
    header["first_obs"], header["n_obs"], header["n_voxels"] = first_obs, *values.shape
    header["n_blocks"], header["digest"] = len(blocks), digest.encode("ascii")
    table = np.zeros(len(blocks), dtype=_ENTRY)
    aside = aside_of(path)
    try:
        with aside.open("wb") as file:
            offset = file.write(header.tobytes()) + file.write(table.tobytes())
            for entry, block in zip(table, blocks, strict=True):
                entry["start"], entry["stop"], entry["offset"] = block.start, block.stop, offset
                n_present, crc, n_bytes = _write_block(file, values[:, block.start : block.stop])
                entry["n_present"], entry["crc"] = n_present, crc
                offset += n_bytes
            header["crc"] = _head_crc(header, table)
            file.seek(0)
            file.write(header.tobytes())
            file.write(table.tobytes())
        aside.replace(path)
    except OSError as error:
        msg = f"{path}: writing failed ({error.strerror or error}). {WRITE_ADVICE}"
        raise StorageError(msg) from error
    finally:
        aside.unlink(missing_ok=True)


def open_part(path: Path, digest: str | None = None) -> Part:
    """Read and check a part's header, its table and the file's length.

    Raises
    ------
    StorageError
        Absent, truncated, damaged, or of another format or digest.
    """
    try:
        return patiently(lambda: _open_now(path, digest), path)
    except OSError as error:
        msg = f"{path}: cannot read this part ({error.strerror or error}); run again, it will be made anew"
        raise StorageError(msg) from error


def _open_now(path: Path, digest: str | None) -> Part:
    with path.open("rb") as file:
        return _parse_head(path, file, digest)


def is_part_done(path: Path, digest: str | None = None) -> bool:
    """Whether a part is there, whole and of this digest."""
    try:
        _open_now(path, digest)
    except (OSError, StorageError):
        return False
    return True


def read_block(
    parts: Sequence[Part | Path],
    index: int,
    keep: NDArray[np.bool_] | None = None,
    kept: KeptMatrix | None = None,
) -> NDArray[np.floating[Any]]:
    """Values of one block over all parts.

    Parameters
    ----------
    parts : sequence of Part or Path
        All parts, in any order; opened ones save reading their heads again.
    index : int
        Which block.
    keep : (voxel,) bool, optional
        Only these voxels of the block.
    kept : KeptMatrix, optional
        Memory for the values; their own by default.

    Returns
    -------
    (voxel, obs) float32 or float64
        C-contiguous, observations in the order of the design, NaN = missing.

    Raises
    ------
    StorageError
        A part is truncated, damaged or missing, or the parts do not fit together.
    """
    opened = sorted(
        (part if isinstance(part, Part) else open_part(part) for part in parts),
        key=lambda part: part.first_obs,
    )
    _check_order(opened, index)
    entry = opened[0].table[index]
    n_voxels = int(entry["stop"] - entry["start"])
    wanted = np.ones(n_voxels, dtype=np.bool_) if keep is None else keep
    if wanted.shape != (n_voxels,):
        msg = f"keep has shape {wanted.shape}; block {index} has {n_voxels} along 'voxel'"
        raise ValueError(msg)
    n_obs = opened[-1].first_obs + opened[-1].n_obs
    dtype = np.result_type(*(part.dtype for part in opened))
    result: NDArray[np.floating[Any]] = (kept or KeptMatrix()).rows(int(wanted.sum()), n_obs, dtype)
    place = np.cumsum(wanted) - 1
    for part in opened:
        present, rows = _read_part_block(part, index)
        columns = result[:, part.first_obs : part.first_obs + part.n_obs]
        chosen = wanted[present]
        rows = rows if chosen.all() else rows[chosen]
        if len(rows) == len(columns):
            columns[:] = rows
        else:
            columns[:] = np.nan
            columns[place[present[chosen]]] = rows
    return result


def _write_block(file: BinaryIO, values: NDArray[np.floating[Any]]) -> tuple[int, int, int]:
    """Write (obs, voxel) values as bitmap and rows; voxels present, checksum, bytes."""
    present = ~np.isnan(values).all(axis=0)
    bitmap = np.zeros(_bitmap_bytes(present.size), dtype=np.uint8)
    packed = np.packbits(present, bitorder="little")
    bitmap[: packed.size] = packed
    rows = np.ascontiguousarray((values if present.all() else values[:, present]).T)
    rows = rows.astype(rows.dtype.newbyteorder("<"), copy=False)
    file.write(bitmap.data)
    file.write(rows.data)
    return rows.shape[0], _zlib.crc32(rows.data, _zlib.crc32(bitmap.data)), bitmap.nbytes + rows.nbytes


def _read_part_block(part: Part, index: int) -> tuple[NDArray[np.int64], NDArray[np.floating[Any]]]:
    """Voxels present, as indices into the block, and their rows (voxel, obs of the part)."""
    entry, n_bytes = part.table[index], part.block_bytes(index)
    try:
        with part.path.open("rb", buffering=0) as file:
            file.seek(int(entry["offset"]))
            content = file.read(n_bytes)
    except OSError as error:
        msg = f"{part.path}: reading failed ({error.strerror or error}); run again"
        raise StorageError(msg) from error
    if len(content) != n_bytes or _zlib.crc32(content) != int(entry["crc"]):
        discard(part.path)
        msg = f"{part.path}: block {index} is truncated or damaged; run again, the part will be made anew"
        raise StorageError(msg)
    n_voxels = int(entry["stop"] - entry["start"])
    skip = _bitmap_bytes(n_voxels)
    bitmap = np.frombuffer(content, dtype=np.uint8, count=skip)
    present = np.flatnonzero(np.unpackbits(bitmap, count=n_voxels, bitorder="little"))
    rows: NDArray[np.floating[Any]] = np.frombuffer(content, dtype=part.dtype, offset=skip)
    return present, rows.reshape(int(entry["n_present"]), part.n_obs)


def _parse_head(path: Path, file: BinaryIO, digest: str | None) -> Part:
    advice = "delete it and run again"
    head = file.read(_HEADER.itemsize)
    if len(head) < _HEADER.itemsize or not head.startswith(_MAGIC):
        msg = f"{path}: not a part file, or truncated; {advice}"
        raise StorageError(msg)
    header = np.frombuffer(head, dtype=_HEADER)[0]
    if int(header["format"]) != PART_FORMAT:
        msg = f"{path}: part format {int(header['format'])}, this version reads {PART_FORMAT}; {advice}"
        raise StorageError(msg)
    n_blocks = int(header["n_blocks"])
    size = os.fstat(file.fileno()).st_size
    stored = file.read(n_blocks * _ENTRY.itemsize) if 0 <= n_blocks * _ENTRY.itemsize <= size else b""
    table = np.frombuffer(stored[: len(stored) // _ENTRY.itemsize * _ENTRY.itemsize], dtype=_ENTRY)
    if len(table) != n_blocks or _head_crc(header, table) != int(header["crc"]):
        msg = f"{path}: the head of this part is damaged or unfinished; {advice}"
        raise StorageError(msg)
    if digest is not None and header["digest"].decode("ascii") != digest:
        msg = f"{path}: made from other inputs or options; {advice}"
        raise StorageError(msg)
    dtype = np.dtype(f"<f{int(header['itemsize'])}")
    part = Part(path, int(header["first_obs"]), int(header["n_obs"]), dtype, table)
    end = int(table[-1]["offset"]) + part.block_bytes(n_blocks - 1) if n_blocks else file.tell()
    if size != end:
        msg = f"{path}: {size} bytes long, its table says {end}: truncated or damaged; {advice}"
        raise StorageError(msg)
    return part


def _check_order(parts: Sequence[Part], index: int) -> None:
    """Each part must begin where the one before ends, and all must have the same blocks."""
    if not parts:
        msg = f"no part to read block {index} from"
        raise StorageError(msg)
    next_obs = 0
    first = parts[0].table
    for part in parts:
        same = all(np.array_equal(part.table[bound], first[bound]) for bound in ("start", "stop"))
        if part.first_obs != next_obs or not same:
            msg = (
                f"{part.path}: does not follow the part before it (image {part.first_obs}, wanted "
                f"{next_obs}, or other blocks); delete it and run again"
            )
            raise StorageError(msg)
        next_obs += part.n_obs


def _head_crc(header: NDArray[np.void] | np.void, table: NDArray[np.void]) -> int:
    blank = np.array(header, dtype=_HEADER)
    blank["crc"] = 0
    return int(_zlib.crc32(table.tobytes(), _zlib.crc32(blank.tobytes())))


def _bitmap_bytes(n_voxels: int) -> int:
    n_bytes = (n_voxels + 7) // 8
    return (n_bytes + _ALIGN - 1) // _ALIGN * _ALIGN
