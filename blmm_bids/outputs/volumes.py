"""Uncompressed NIfTI-1 files filled voxel block by voxel block, whole or absent."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from blmm_bids.errors import OutputError, StorageError
from blmm_bids.stats.model import IntArray

if TYPE_CHECKING:
    from blmm_bids.images.grid import Grid

_OUT_OF_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EIO)
# NIfTI's code for a space that is some other image's; 0 would make readers ignore the affine.
_ALIGNED = 2
# Quaternions are stored as float32: this is far above their rounding (mm).
_QFORM_TOLERANCE = 1e-3
# Header and the four bytes that say that no extension follows.
_DATA_OFFSET = 352


class Volumes:
    """A file under construction.

    Attributes
    ----------
    path : Path
        Where the file shall be.
    values : (volume, voxel of the grid) array
        Its values, voxels in the file's own order (`file_order`).
    """

    def __init__(self, path: Path, grid: Grid, values: NDArray[Any]) -> None:
        self.path, self.grid, self.values = path, grid, values

    @property
    def aside(self) -> Path:
        """Where the file is until `publish`."""
        return _aside(self.path)

    def widen(self) -> None:
        """Make the file float64, with the values that it has; raises as `opened_volumes`."""
        narrow = self.values
        try:
            # Its mapping keeps the file that has no name any more.
            self.aside.unlink()
            self.values = _allocate(self.aside, self.grid, len(narrow), "float64")
        except OSError as error:
            raise _write_error(self.path, error) from error
        for target, values in zip(self.values, narrow, strict=True):
            target[:] = values

    def publish(self) -> Path:
        """Rename the file to its place; raises as `opened_volumes`."""
        try:
            if isinstance(self.values, np.memmap):
                self.values.flush()
            self.aside.replace(self.path)
        except OSError as error:
            raise _write_error(self.path, error) from error
        return self.path


def file_order(voxels: IntArray, shape: tuple[int, int, int]) -> IntArray:
    """Places in a NIfTI file (first axis fastest) of flat indices in C order."""
    return np.ravel_multi_index(np.unravel_index(voxels, shape), shape, order="F").astype(np.int64)


@contextmanager
def opened_volumes(path: Path, grid: Grid, n_volumes: int, dtype: str) -> Iterator[Volumes]:
    """Make a file of zeros beside `path`; it vanishes at the end unless it was published.

    Parameters
    ----------
    path : Path
        ``.nii`` file to be.
    grid : Grid
        Shape and affine.
    n_volumes : int
        One makes a 3-D file, more a 4-D one.
    dtype : str
        numpy's name of the type on disk.

    Raises
    ------
    OutputError
        The directory or file cannot be made.
    StorageError
        There is no room for it.
    """
    aside = _aside(path)
    try:
        try:
            values = _allocate(aside, grid, n_volumes, dtype)
        except OSError as error:
            raise _write_error(path, error) from error
        yield Volumes(path, grid, values)
    finally:
        aside.unlink(missing_ok=True)


def _allocate(path: Path, grid: Grid, n_volumes: int, dtype: str) -> NDArray[Any]:
    """Write the header, reserve room for the values, and map them."""
    size = _DATA_OFFSET + grid.n_voxels * n_volumes * np.dtype(dtype).itemsize
    with path.open("wb") as file:
        file.write(_header(grid, n_volumes, dtype))
        # A memory map over a hole kills the process when the disk fills up; reserved space cannot.
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        file.truncate(size)
    stored = np.dtype(dtype).newbyteorder("<")
    return np.memmap(path, dtype=stored, mode="r+", offset=_DATA_OFFSET, shape=(n_volumes, grid.n_voxels))


def _write_error(path: Path, error: OSError) -> OutputError | StorageError:
    kind = StorageError if error.errno in _OUT_OF_SPACE else OutputError
    return kind(f"cannot write '{path}': {error.strerror}; free space or choose another output directory")


def _aside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.part")


def _header(grid: Grid, n_volumes: int, dtype: str) -> bytes:
    """First bytes of the file, in little-endian order whatever the machine."""
    header = nib.Nifti1Header(endianness="<")
    header.set_data_dtype(np.dtype(dtype).newbyteorder("<"))
    header.set_data_shape(grid.shape if n_volumes == 1 else (*grid.shape, n_volumes))
    header.set_xyzt_units("mm")
    header["magic"] = header.single_magic
    header["vox_offset"] = _DATA_OFFSET
    header.set_sform(grid.affine, code=grid.sform_code or _ALIGNED)
    header.set_qform(grid.affine, code=grid.qform_code, strip_shears=True)
    # A quaternion cannot hold shears; readers that prefer the qform would then see another space.
    if not np.allclose(header.get_qform(), grid.affine, atol=_QFORM_TOLERANCE):
        header.set_qform(None, code=0)
    return bytes(header.binaryblock) + bytes(_DATA_OFFSET - len(header.binaryblock))
