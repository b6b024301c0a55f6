"""How a file's axes run beside those of a grid: flips and exchanges of axes of one and the same lattice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Orientation:
    """For each axis of the grid, the file's axis that runs along it, and whether it runs backwards.

    Attributes
    ----------
    axes : tuple of int
    is_flipped : tuple of bool
    """

    axes: tuple[int, int, int] = (0, 1, 2)
    is_flipped: tuple[bool, bool, bool] = (False, False, False)

    @property
    def is_same(self) -> bool:
        """Whether the file is stored as the grid is."""
        return self == SAME

    def affine_on_grid(self, affine: NDArray[np.float64], shape: tuple[int, int, int]) -> NDArray[np.float64]:
        """Affine of the file's voxels by their indices on a grid of this shape."""
        to_file = np.zeros((4, 4))
        to_file[3, 3] = 1
        for axis, (own, is_flipped) in enumerate(zip(self.axes, self.is_flipped, strict=True)):
            to_file[own, axis] = -1 if is_flipped else 1
            to_file[own, 3] = shape[axis] - 1 if is_flipped else 0
        return affine @ to_file

    def positions(self, voxels: NDArray[np.int64], shape: tuple[int, int, int]) -> NDArray[np.int64]:
        """Place on disk, where the file's first axis is the fastest, of voxels of a grid.

        Parameters
        ----------
        voxels : (voxel,) int64
            Flat indices in C order of ``shape``.
        shape : tuple of int
            Of the grid.
        """
        strides = [0, 0, 0]
        step = 1
        for own in range(3):
            axis = self.axes.index(own)
            strides[axis], step = step, step * shape[axis]
        positions = np.zeros(voxels.shape, dtype=np.int64)
        for axis, indices in enumerate(np.unravel_index(voxels, shape)):
            along = shape[axis] - 1 - indices if self.is_flipped[axis] else indices
            positions += along * strides[axis]
        return positions


SAME = Orientation()


def find_orientation(
    shape: tuple[int, ...],
    affine: NDArray[np.float64],
    grid_shape: tuple[int, int, int],
    grid_affine: NDArray[np.float64],
) -> Orientation | None:
    """Find how a file's axes run beside a grid's, to the nearest right angle.

    Parameters
    ----------
    shape, affine
        The file's.
    grid_shape, grid_affine
        The grid's.

    Returns
    -------
    Orientation or None
        None where the axes cannot be paired or differ in length. Whether the voxels then lie in the same
        places is for `Orientation.affine_on_grid` to say.
    """
    if shape == grid_shape and np.array_equal(affine, grid_affine):
        return SAME
    turn = np.linalg.solve(affine[:3, :3], grid_affine[:3, :3])
    x, y, z = np.abs(turn).argmax(axis=0).tolist()
    if {x, y, z} != {0, 1, 2} or grid_shape != (shape[x], shape[y], shape[z]):
        return None
    flips = turn[(x, y, z), (0, 1, 2)] < 0
    return Orientation((x, y, z), (bool(flips[0]), bool(flips[1]), bool(flips[2])))
