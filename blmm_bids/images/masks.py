"""Masks of the analysis and of single images, as flat boolean arrays on the images' grid."""

from __future__ import annotations

import logging
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from blmm_bids.errors import DataError, MissingInputError
from blmm_bids.images.grid import AFFINE_TOLERANCE, Grid, read_grid, turn_text
from blmm_bids.images.reader import VoxelReader, read_values

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

LOGGER = logging.getLogger(__name__)
# Masks of 0/1, of 0/255 and partial-volume masks alike.
INSIDE = 0.5
# Slabs keep the coordinates of a resampled volume small.
_SLAB_VOXELS = 1 << 20


def read_mask(
    path: Path, grid: Grid, *, resample: bool = False, affine_tolerance: float = AFFINE_TOLERANCE
) -> NDArray[np.bool_]:
    """Mask of the analysis, true where the image is above 0.5.

    Parameters
    ----------
    path : Path
        A 3-D NIfTI image.
    grid : Grid
        Of the images.
    resample : bool
        Bring a mask on another grid to ``grid`` by nearest neighbour instead of refusing it.
    affine_tolerance : float
        How far a corner may be off before the grid counts as another, mm.

    Returns
    -------
    (voxel,) bool
        Flat, C order of the grid's shape.

    Raises
    ------
    DataError
        Another grid, or no voxel inside.
    MissingInputError
        No such file.
    """
    own = read_grid(path)
    orientation = grid.orientation_of(own.shape, own.affine, affine_tolerance)
    if orientation is None and not resample:
        msg = (
            f"{path}: the mask lies on another grid (shape {own.shape}, zooms {_zooms(own)}) than the images "
            f"(shape {grid.shape}, zooms {_zooms(grid)}). Give --resample-mask to bring it to theirs, "
            "or another mask"
        )
        raise DataError(msg)
    if orientation is None:
        mask = _resample_nearest(read_values(path) > INSIDE, own, grid)
    else:
        mask = VoxelReader(grid.shape, affine=grid.affine).read(path) > INSIDE
        if not orientation.is_same:
            LOGGER.info("%s: the mask is %s", path, turn_text([orientation], grid))
    if not mask.any():
        kind = "" if orientation else ", once on the images' grid,"
        msg = f"{path}: the mask{kind} is empty (no voxel above {INSIDE}); wanted at least one voxel inside"
        raise DataError(msg)
    return mask


def template_mask(space: str, grid: Grid) -> NDArray[np.bool_]:
    """Brain mask of a TemplateFlow template, by nearest neighbour on the images' grid.

    Parameters
    ----------
    space : str
        The images' BIDS ``space``, which names the template (``MNI152NLin2009cAsym``; a cohort
        follows a plus sign: ``MNIPediatricAsym+2``).
    grid : Grid
        Of the images.

    Returns
    -------
    (voxel,) bool
        Flat, C order of the grid's shape.

    Raises
    ------
    MissingInputError
        TemplateFlow is not installed, does not know the space, or cannot fetch the mask.
    DataError
        The mask and the images do not overlap.
    """
    return read_mask(_template_path(space, grid), grid, resample=True)


def mask_union(
    masks: Iterable[Sequence[Path]],
    shape: tuple[int, int, int],
    affine: NDArray[np.float64] | None = None,
) -> NDArray[np.bool_]:
    """Unite the masks of several images; runs on a worker.

    Parameters
    ----------
    masks : iterable of sequences of Path
        The masks of each image, whose intersection is that image's mask.
    shape : tuple of int
        Of the images' grid.
    affine : (4, 4) float64, optional
        Of the images' grid; masks are flipped to it.

    Returns
    -------
    (voxel,) bool
        Inside at least one image's mask; flat, C order of ``shape``.
    """
    reader = VoxelReader(shape, affine=affine)
    union: NDArray[np.bool_] | None = None
    for paths in dict.fromkeys(tuple(each) for each in masks):
        inside = image_mask(reader, paths)
        union = inside if union is None else union | inside
    if union is None:
        msg = "there is no mask to unite; give at least one image with masks"
        raise DataError(msg)
    return union


def image_mask(reader: VoxelReader, paths: Sequence[Path]) -> NDArray[np.bool_]:
    """Intersection of one image's masks at the reader's voxels, (voxel,) bool."""
    inside = reader.read(paths[0]) > INSIDE
    for path in paths[1:]:
        inside &= reader.read(path) > INSIDE
    return inside


def _resample_nearest(mask: NDArray[np.bool_], own: Grid, grid: Grid) -> NDArray[np.bool_]:
    """Value of the nearest voxel of ``own`` at each voxel of ``grid``; false outside ``own``."""
    to_own = np.linalg.inv(own.affine) @ grid.affine
    source = mask.reshape(own.shape)
    result = np.zeros(grid.n_voxels, dtype=np.bool_)
    for start in range(0, grid.n_voxels, _SLAB_VOXELS):
        stop = min(start + _SLAB_VOXELS, grid.n_voxels)
        here = np.stack(np.unravel_index(np.arange(start, stop), grid.shape)).astype(np.float64)
        # Rounded first: where a point midway between two voxels goes must not hang on the last bit.
        there = np.floor(np.round(to_own[:3, :3] @ here + to_own[:3, 3:], 6) + 0.5).astype(np.int64)
        limits = np.array(own.shape)[:, None]
        within = ((there >= 0) & (there < limits)).all(axis=0)
        x, y, z = there[:, within]
        result[start:stop][within] = source[x, y, z]
    return result


def _template_path(space: str, grid: Grid) -> Path:
    """Path of the template's brain mask at the resolution nearest to the images'."""
    advice = (
        "give a mask file (--mask FILE) or --mask none. Where there is no network, put the template's files "
        "under TEMPLATEFLOW_HOME beforehand"
    )
    try:
        api: Any = import_module("templateflow.api")
    except ImportError as error:
        msg = f"--mask template: the package templateflow is not installed: install it, or {advice}"
        raise MissingInputError(msg) from error
    except OSError as error:
        msg = f"--mask template: TemplateFlow's directory cannot be used ({error}); {advice}"
        raise MissingInputError(msg) from error
    template, _, cohort = space.partition("+")
    query: dict[str, Any] = {"desc": "brain", "suffix": "mask", "extension": ".nii.gz"}
    if cohort:
        query["cohort"] = cohort
    try:
        found = api.get(template, raise_empty=True, **query)
    except Exception as error:
        # Whatever TemplateFlow or its network layer raises, the user's way out is the same.
        msg = f"--mask template: no brain mask of template '{template}' from TemplateFlow ({error}); {advice}"
        raise MissingInputError(msg) from error
    paths = [Path(path) for path in (found if isinstance(found, list) else [found])]
    usable = [path for path in paths if path.is_file() and path.stat().st_size > 0]
    if not usable:
        msg = f"--mask template: TemplateFlow could not fetch the brain mask of '{template}'; {advice}"
        raise MissingInputError(msg)
    return min(usable, key=lambda path: _coarseness(path, grid))


def _coarseness(path: Path, grid: Grid) -> tuple[float, str]:
    """How far a mask's voxel size is from the images', and its name to break ties."""
    zooms = read_grid(path).zooms
    return max(abs(own - wanted) for own, wanted in zip(zooms, grid.zooms, strict=True)), path.name


def _zooms(grid: Grid) -> str:
    return " x ".join(f"{zoom:.3g}" for zoom in grid.zooms) + " mm"
