"""Read the values of one image at the voxels asked for, and say which are missing."""

from __future__ import annotations

import zlib
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from blmm_bids.errors import DataError, StorageError
from blmm_bids.images.header import GZIP_MAGIC, ImageHeader, read_header, same_content
from blmm_bids.images.orientation import SAME, Orientation, find_orientation
from blmm_bids.regular_files import read_at_most

_inflater: Any = zlib
with suppress(ImportError):  # several times as fast, where it is built for this machine
    from isal import isal_zlib as _inflater

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

_GZIP_BITS = 31
_CHUNK = 1 << 16
# No compressor makes data longer than that; many small members, and zeros at the end, do.
_COMPRESSED, _COMPRESSED_MORE = 2, 1 << 26


@dataclass(frozen=True)
class MissingRule:
    """When a value that is a number counts as missing all the same.

    Attributes
    ----------
    threshold : float, optional
        Values below it are missing; compared in the precision of the image.
    zeros : {"missing", "data"}
        What 0 means.
    """

    threshold: float | None = None
    zeros: Literal["missing", "data"] = "missing"

    @property
    def only_zeros(self) -> bool:
        """Whether a 0 is missing for being 0 alone, and would be a value otherwise."""
        return self.zeros == "missing" and (self.threshold is None or self.threshold <= 0)


@dataclass(frozen=True, eq=False)
class VoxelReader:
    """Reads the same voxels of many images of one grid.

    Attributes
    ----------
    shape : tuple of int
        Of the grid.
    voxels : (voxel,) int64, optional
        Flat indices in C order of ``shape``; all voxels where None.
    affine : (4, 4) float64, optional
        Of the grid: images whose axes run in other directions are flipped to it. Where None, all
        images are taken as stored.
    """

    shape: tuple[int, int, int]
    voxels: NDArray[np.int64] | None = None
    affine: NDArray[np.float64] | None = None
    _positions: dict[Orientation, NDArray[np.int64]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Find each voxel's place on disk in files that are stored as the grid is."""
        object.__setattr__(self, "_positions", {SAME: self._find_positions(SAME)})

    def _find_positions(self, orientation: Orientation) -> NDArray[np.int64]:
        size = self.shape[0] * self.shape[1] * self.shape[2]
        voxels = np.arange(size, dtype=np.int64) if self.voxels is None else self.voxels
        return orientation.positions(voxels, self.shape)

    def read_into(self, row: NDArray[np.floating[Any]], path: Path, identity: str | None = None) -> None:
        """Read an image into a row (voxel,), float32 or float64; see `read`."""
        header, positions = self._header(path, identity)
        stored = _stored_values(header)
        if header.dtype == row.dtype and not header.is_scaled:
            # Within range by the header's shape; numpy would use a copy in order to check.
            stored.take(positions, out=row, mode="clip")
        else:
            row[:] = _scaled_values(header, stored.take(positions))

    def read(self, path: Path, identity: str | None = None) -> NDArray[np.floating[Any]]:
        """Values of an image, (voxel,) float64 where stored as float64, else float32.

        Scaling (``scl_slope``, ``scl_inter``) is applied in float64.

        Parameters
        ----------
        path : Path
        identity : str, optional
            As its header was when the run was planned.

        Raises
        ------
        DataError
            Unreadable, truncated, of another shape, or changed since.
        MissingInputError
            No such file.
        """
        header, positions = self._header(path, identity)
        return _scaled_values(header, _stored_values(header).take(positions))

    def _header(self, path: Path, identity: str | None) -> tuple[ImageHeader, NDArray[np.int64]]:
        """Header of an image, and the places of the voxels in its data."""
        header = read_header(path)
        orientation = self._orientation(header)
        if orientation is None:
            msg = f"{path}: shape {header.shape}, wanted {self.shape}; was the file changed during the run?"
            raise DataError(msg)
        if identity is not None and not same_content(header.identity, identity):
            msg = f"{path}: the file was changed during the run; run again when nothing writes to it"
            raise DataError(msg)
        if orientation not in self._positions:
            self._positions[orientation] = self._find_positions(orientation)
        return header, self._positions[orientation]

    def _orientation(self, header: ImageHeader) -> Orientation | None:
        """How an image is stored beside the grid; None where it cannot be on it."""
        if self.affine is None:
            return SAME if header.shape == self.shape else None
        return find_orientation(header.shape, header.affine, self.shape, self.affine)


def _scaled_values(header: ImageHeader, stored: NDArray[Any]) -> NDArray[np.floating[Any]]:
    if header.is_scaled:
        stored = stored.astype(np.float64) * header.slope + header.inter
    with np.errstate(over="ignore"):
        return stored.astype(header.value_dtype, copy=False)


def read_values(path: Path, voxels: NDArray[np.int64] | None = None) -> NDArray[np.floating[Any]]:
    """Values of a 3-D image at flat C-order indices, or at all voxels.

    Raises
    ------
    DataError
        Unreadable or not 3-D.
    MissingInputError
        No such file.
    """
    shape = read_header(path).shape
    if len(shape) != 3:
        msg = f"{path}: has {len(shape)} dimensions {shape}; wanted one 3-D volume"
        raise DataError(msg)
    return VoxelReader((shape[0], shape[1], shape[2]), voxels).read(path)


def read_volume(path: Path) -> NDArray[np.float64]:
    """All values of a 3-D image, (x, y, z) float64 in C order; raises as `read_values`."""
    header = read_header(path)
    if len(header.shape) != 3:
        msg = f"{path}: has {len(header.shape)} dimensions {header.shape}; wanted one 3-D volume"
        raise DataError(msg)
    stored = _stored_values(header).reshape(header.shape, order="F")
    values: NDArray[np.float64] = stored.astype(np.float64, order="C")
    return values * header.slope + header.inter if header.is_scaled else values


def mark_missing(
    values: NDArray[np.floating[Any]], rule: MissingRule, inside: NDArray[np.bool_] | None = None
) -> int:
    """Set missing values to NaN, in place.

    Parameters
    ----------
    values : (voxel,) float
        Of one image.
    rule : MissingRule
        Threshold and the meaning of zero.
    inside : (voxel,) bool, optional
        The image's own mask.

    Returns
    -------
    int
        How many values were infinite (inside the mask).
    """
    if inside is not None:
        np.copyto(values, np.nan, where=~inside)
    infinite = np.isinf(values)
    n_inf = int(np.count_nonzero(infinite))
    if n_inf:
        np.copyto(values, np.nan, where=infinite)
    if rule.zeros == "missing":
        np.copyto(values, np.nan, where=values == 0)
    if rule.threshold is not None:
        np.copyto(values, np.nan, where=values < rule.threshold)
    return n_inf


def _stored_values(header: ImageHeader) -> NDArray[Any]:
    """Flat array of the numbers on disk, in disk order."""
    n_bytes = header.n_values * header.dtype.itemsize
    try:
        if header.is_gzip:
            content = _inflate(header.path, header.offset + n_bytes)
        else:
            content = read_at_most(header.path, header.offset + n_bytes + 1)
    except MemoryError as error:
        msg = (
            f"{header.path}: no memory for its {n_bytes / 2**20:,.0f} MB (shape {header.shape}, "
            f"{header.dtype.name}, as its header says). Is it the right file? Else use a machine with more, "
            "or fewer processes"
        )
        raise DataError(msg) from error
    except OSError as error:
        msg = f"{header.path}: reading failed ({error.strerror or error}); check the disk and run again"
        raise StorageError(msg) from error
    if len(content) != header.offset + n_bytes:
        few = "fewer" if len(content) < header.offset + n_bytes else "more"
        msg = (
            f"{header.path}: holds {few} data than its header says ({header.offset + n_bytes} bytes for "
            f"shape {header.shape}, {header.dtype.name}): truncated, or a wrong header. Copy or make it again"
        )
        raise DataError(msg)
    return np.frombuffer(content, dtype=header.dtype, offset=header.offset)


def _inflate(path: Path, n_bytes: int) -> bytes:
    """Inflate all members of a gzip file, up to one byte more than wanted."""
    largest = _COMPRESSED * n_bytes + _COMPRESSED_MORE
    content = read_at_most(path, largest + 1)
    if len(content) > largest:
        msg = f"{path}: holds more data than its header says ({n_bytes} bytes); copy or make it again"
        raise DataError(msg)
    stored = memoryview(content)
    pieces: list[bytes] = []
    position, room = 0, n_bytes + 1
    try:
        while room > 0 and position < len(stored):
            if pieces and stored[position : position + 2] != GZIP_MAGIC:
                msg = f"{path}: foreign bytes after the gzip data; copy or make it again"
                raise DataError(msg)
            stream = _inflater.decompressobj(wbits=_GZIP_BITS)
            while room > 0 and position < len(stored) and not stream.eof:
                # The first member is nearly always the whole file; of further ones, which may be
                # many and tiny, only as much is handed over as is cheap to hand back.
                chunk = stored[position : position + _CHUNK] if pieces else stored[position:]
                pieces.append(stream.decompress(chunk, room))
                position += len(chunk) - len(stream.unused_data)
                room -= len(pieces[-1])
            if room > 0 and not stream.eof:
                msg = f"{path}: the gzip data end too early (truncated file); copy or make it again"
                raise DataError(msg)
            if stored[position:] == bytes(len(stored) - position):
                break  # zeros after the last member are padding, as gzip itself has it
    except (_inflater.error, zlib.error) as error:
        msg = f"{path}: broken or foreign bytes in the gzip data ({error}); copy or make it again"
        raise DataError(msg) from error
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)
