"""Pictures of brains as PNG files: glass brains drawn by nilearn, and slices."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np

from blmm_bids.outputs.files import opened_aside
from blmm_bids.report.slices import Palette, colours, paint_slices

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from blmm_bids.images.grid import Grid

_DPI = 110
_N_COLOURS = 200


@dataclass(frozen=True, eq=False)
class Canvas:
    """What brains are drawn on.

    Attributes
    ----------
    background : nibabel image
        Template or mean image.
    is_template : bool
        Whether the space is MNI's, so that a glass brain fits.
    caption : str
        What the background is.
    """

    background: Any
    is_template: bool
    caption: str


@dataclass(frozen=True)
class Figure:
    """A picture: its file and the same as a data URI."""

    path: Path
    source: str


def open_canvas(space: str, grid: Grid, mean: NDArray[np.floating] | None) -> Canvas:
    """Background for a space: MNI's template where it fits, else the mean of the images, else nothing.

    Parameters
    ----------
    space : str
        The images' ``space``.
    grid : Grid
        Of `mean`.
    mean : (x, y, z) or None
        Mean of the images.
    """
    if space.startswith("MNI152"):
        return Canvas(_template(), True, "the ICBM 2009a template of nilearn")  # noqa: FBT003
    values = np.zeros(grid.shape) if mean is None else np.nan_to_num(mean)
    no_map = "no anatomy: the space is not MNI's, and there is no mean map"
    caption = no_map if mean is None else "the mean of the images"
    return Canvas(image_of(values, grid), False, caption)  # noqa: FBT003


@lru_cache(maxsize=1)
def _template() -> Any:  # noqa: ANN401
    from nilearn.datasets import load_mni152_template

    return load_mni152_template(resolution=2)


def image_of(values: NDArray[np.floating], grid: Grid) -> nib.Nifti1Image:
    """Image in memory, 0 where a value is not finite."""
    clean = np.where(np.isfinite(values), values, 0).astype(np.float32)
    return nib.Nifti1Image(clean, grid.affine)


def glass_brain(path: Path, image: nib.Nifti1Image, palette: Palette, threshold: float) -> Figure:
    """Draw what passes the threshold, seen through the brain from three sides."""
    from PIL import Image

    plotting = _plotting()
    drawn = plotting.plot_glass_brain(
        image, threshold=threshold, display_mode="lyrz", plot_abs=False, colorbar=True, black_bg=True,
        symmetric_cbar=palette.symmetric, cmap=colours(palette.cmap), vmax=_vmax(image),
        vmin=None if palette.symmetric else 0,
    )  # fmt: skip
    buffer = io.BytesIO()
    drawn.frame_axes.figure.savefig(buffer, dpi=_DPI, facecolor="black", edgecolor="black")
    drawn.close()
    return _save(Image.open(buffer).convert("RGB"), path)


def slices(
    path: Path, image: nib.Nifti1Image, canvas: Canvas, palette: Palette, threshold: float = 0.0
) -> Figure:
    """Draw axial slices over the background."""
    from PIL import Image

    return _save(Image.fromarray(paint_slices(image, canvas.background, palette, threshold)), path)


def _plotting() -> Any:  # noqa: ANN401
    """Import nilearn's plotting, which takes seconds and is needed by runs with a report only."""
    import matplotlib

    matplotlib.use("Agg")
    from nilearn import plotting

    return plotting


def _vmax(image: nib.Nifti1Image) -> float:
    return float(np.abs(np.asarray(image.dataobj)).max()) or 1.0


def _save(picture: Any, path: Path) -> Figure:  # noqa: ANN401
    """Write a picture as a PNG of few colours, a third of the size of one of all."""
    from PIL import Image

    small = io.BytesIO()
    few = picture.quantize(_N_COLOURS, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    few.save(small, format="PNG", optimize=True)
    with opened_aside(path) as file:
        file.write(small.getvalue())
    return Figure(path, "data:image/png;base64," + base64.b64encode(small.getvalue()).decode("ascii"))
