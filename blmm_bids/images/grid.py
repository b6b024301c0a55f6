"""The grid that all images share, checked from their headers alone."""

from __future__ import annotations

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np

from blmm_bids.errors import DataError
from blmm_bids.images.header import ImageHeader, read_header
from blmm_bids.images.orientation import SAME, Orientation, find_orientation

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

# Rounding in a float32 sform moves corners by about 1e-5 mm; a real shift is far more than this.
AFFINE_TOLERANCE = 1e-3
# Threads hide the latency of network file systems. Where there is none they are slower than one: parsing
# holds the interpreter lock.
_N_THREADS = 8
_LATENCY = 1e-3
_MANY = 64


@dataclass(frozen=True, eq=False)
class Grid:
    """Where the voxels are.

    Attributes
    ----------
    shape : tuple of int
        Voxels along each axis.
    affine : (4, 4) float64
        Voxel indices to mm.
    zooms : tuple of float
        Voxel size along each axis, mm.
    sform_code, qform_code : int
        NIfTI's codes of the space, for the headers of outputs.
    """

    shape: tuple[int, int, int]
    affine: NDArray[np.float64]
    zooms: tuple[float, float, float]
    sform_code: int = 0
    qform_code: int = 0

    @property
    def n_voxels(self) -> int:
        """Number of voxels of the volume."""
        return self.shape[0] * self.shape[1] * self.shape[2]

    def distance(self, affine: NDArray[np.float64]) -> float:
        """Largest distance, over the volume's corners, between this affine and another (mm)."""
        ends = [(0, length - 1) for length in self.shape]
        corners = np.array([(x, y, z, 1.0) for x in ends[0] for y in ends[1] for z in ends[2]])
        shifts = corners @ (self.affine - affine)[:3].T
        return float(np.sqrt((shifts**2).sum(axis=1)).max())

    def orientation_of(
        self, shape: tuple[int, ...], affine: NDArray[np.float64], tolerance: float = AFFINE_TOLERANCE
    ) -> Orientation | None:
        """How a file's axes run beside this grid's; None where its voxels are not the grid's.

        Parameters
        ----------
        shape, affine
            The file's.
        tolerance : float
            How far a corner of the volume may be off, mm.
        """
        found = find_orientation(shape, affine, self.shape, self.affine)
        if found is None or self.distance(found.affine_on_grid(affine, self.shape)) > tolerance:
            return None
        return found


@dataclass(frozen=True, eq=False)
class CheckedImages:
    """What the headers of a set of images say together.

    Attributes
    ----------
    grid : Grid
        Of the first image.
    dtype : numpy.dtype
        float64 where any image is stored so, else float32.
    max_stored_bytes : int
        Size of the largest image once inflated.
    identities : tuple of str
        One an image; differs when the file has changed.
    n_orientations : int
        In how many ways the images are stored.
    notes : tuple of str
        What is done to images that are stored in another way than the grid.
    """

    grid: Grid
    dtype: np.dtype[np.generic]
    max_stored_bytes: int
    identities: tuple[str, ...]
    n_orientations: int = 1
    notes: tuple[str, ...] = ()


def read_grid(path: Path) -> Grid:
    """Grid of one image.

    Raises
    ------
    DataError
        Not a readable 3-D NIfTI image.
    MissingInputError
        No such file.
    """
    return _grid_of(_volume_header(path))


def check_grids(
    paths: Sequence[Path],
    affine_tolerance: float = AFFINE_TOLERANCE,
    reference: Grid | None = None,
    what: str = "images",
) -> CheckedImages:
    """Compare the headers of all images with the first one's, or with a given grid.

    Images that hold the same voxels with axes flipped or exchanged (LAS beside RAS) are on the same grid.

    Parameters
    ----------
    paths : sequence of Path
        Images; only their first bytes are read.
    affine_tolerance : float
        How far a corner of the volume may be off, mm.
    reference : Grid, optional
        What to compare with instead of the first image.
    what : str
        What the images are, for the notes.

    Raises
    ------
    DataError
        Names the image that differs and both values.
    MissingInputError
        Names the image that is absent.
    """
    if not paths:
        msg = "there is no image to check; select at least one"
        raise DataError(msg)
    grid = reference or read_grid(paths[0])
    origin = "the images" if reference else str(paths[0])
    identities: list[str] = []
    dtype, max_bytes = np.dtype(np.float32), 0
    orientations: Counter[Orientation] = Counter()
    for header in _headers(paths):
        orientations[_compare(header, grid, origin, affine_tolerance)] += 1
        identities.append(header.identity)
        dtype = np.promote_types(dtype, header.value_dtype)
        max_bytes = max(max_bytes, header.offset + header.n_values * header.dtype.itemsize)
    return CheckedImages(
        grid, dtype, max_bytes, tuple(identities), len(orientations), _notes(orientations, grid, what)
    )


def turn_text(orientations: Collection[Orientation], grid: Grid) -> str:
    """Say how files are stored beside the grid, and what is done to them; for the end of a sentence."""
    others = sorted({_axis_codes(grid, each) for each in orientations})
    done = "turned" if any(each.axes != SAME.axes for each in orientations) else "flipped"
    return (
        f"stored with another orientation ({', '.join(others)} beside {_axis_codes(grid, SAME)}); "
        f"{done}, not resampled"
    )


def _axis_codes(grid: Grid, orientation: Orientation) -> str:
    to_file = orientation.affine_on_grid(np.eye(4), grid.shape)
    return "".join(nib.aff2axcodes(grid.affine @ np.linalg.inv(to_file)))


def _notes(orientations: Mapping[Orientation, int], grid: Grid, what: str) -> tuple[str, ...]:
    others = {each: count for each, count in orientations.items() if not each.is_same}
    if not others:
        return ()
    n_all = sum(orientations.values())
    return (f"{sum(others.values())} of {n_all} {what} are {turn_text(others, grid)}",)


def _headers(paths: Sequence[Path]) -> Iterator[ImageHeader]:
    # In runs: handing over each header by itself costs more than parsing it.
    runs = [paths[start : start + _MANY] for start in range(0, len(paths), _MANY)]
    for index, run in enumerate(runs):
        started = time.perf_counter()
        yield from _headers_of(run)
        if time.perf_counter() - started > _LATENCY * len(run):
            yield from _headers_by_threads(runs[index + 1 :])
            return


def _headers_of(run: Sequence[Path]) -> list[ImageHeader]:
    return [_volume_header(path) for path in run]


def _headers_by_threads(runs: Sequence[Sequence[Path]]) -> Iterator[ImageHeader]:
    with ThreadPoolExecutor(_N_THREADS) as pool:
        try:
            for headers in pool.map(_headers_of, runs):
                yield from headers
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _volume_header(path: Path) -> ImageHeader:
    """Header of a 3-D image."""
    header = read_header(path)
    if len(header.shape) > 3:
        msg = (
            f"{path}: has {len(header.shape)} dimensions {header.shape}; wanted one 3-D volume an image. "
            "Split it (fslsplit, 3dTsplit4D, or SPM's 4D to 3D File Conversion), or select a 3-D map"
        )
        raise DataError(msg)
    return header


def _grid_of(header: ImageHeader) -> Grid:
    x, y, z = header.shape
    zoom_x, zoom_y, zoom_z = np.sqrt((header.affine[:3, :3] ** 2).sum(axis=0)).tolist()
    return Grid((x, y, z), header.affine, (zoom_x, zoom_y, zoom_z), header.sform_code, header.qform_code)


def _compare(header: ImageHeader, grid: Grid, origin: str, tolerance: float) -> Orientation:
    """How an image is stored beside the grid; raise where it lies on another."""
    if header.shape == grid.shape and np.array_equal(header.affine, grid.affine):
        return SAME
    found = grid.orientation_of(header.shape, header.affine, tolerance)
    if found is not None:
        return found
    advice = "images are never resampled here; bring them to one grid, or leave this one out"
    if header.shape != grid.shape:
        msg = f"{header.path}: shape {header.shape} differs from {grid.shape} of {origin}; {advice}"
        raise DataError(msg)
    distance = grid.distance(header.affine)
    msg = (
        f"{header.path}: its affine differs from that of {origin} by {distance:.4g} mm at a corner "
        f"of the volume (at most {tolerance:g} mm are allowed, --affine-tolerance):\n"
        f"{_rows(header.affine)}\ninstead of\n{_rows(grid.affine)}\n{advice}"
    )
    raise DataError(msg)


def _rows(affine: NDArray[np.float64]) -> str:
    return "\n".join("  " + " ".join(f"{number:12.6g}" for number in row) for row in affine[:3].tolist())
