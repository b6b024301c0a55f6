"""A row of axial slices with a scale, painted pixel by pixel.

A plotting library takes twenty times as long for such a row, and a report has many of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

if TYPE_CHECKING:
    import nibabel as nib
    from matplotlib.colors import Colormap

N_SLICES = 7
# mm a pixel, and pixels: of the gap between slices, of the scale with its numbers, of the text.
_PIXEL = 1.0
_MIN_ROWS = 120
_GAP, _SCALE_WIDTH, _TEXT = 6, 74, 13
# Share of the largest grey that the brightest tissue has: colours stand out from it.
_GREY = 0.85
_BRIGHT = 99.5
_FAINT = 0.1
_STATISTIC = ("#d2f8ff", "#1e9bff", "#0b3fa0", "#101010", "#a01800", "#ff8c1a", "#fff6b0")


@dataclass(frozen=True)
class Palette:
    """How values become colours.

    Attributes
    ----------
    cmap : str
        matplotlib's name, ``statistic`` or ``positive``.
    symmetric : bool
        Whether zero is the middle.
    """

    cmap: str
    symmetric: bool


STATISTIC = Palette("statistic", symmetric=True)
# Of statistics that are never negative: the upper half of the same colours.
POSITIVE = Palette("positive", symmetric=False)
AMOUNT = Palette("viridis", symmetric=False)
CORRELATION = Palette("RdBu_r", symmetric=True)


@lru_cache(maxsize=8)
def colours(name: str) -> Colormap:
    """Colour map of a palette."""
    from matplotlib import colormaps
    from matplotlib.colors import LinearSegmentedColormap

    own = {STATISTIC.cmap: _STATISTIC, POSITIVE.cmap: _STATISTIC[len(_STATISTIC) // 2 :]}
    if name in own:
        return LinearSegmentedColormap.from_list(name, own[name])
    return colormaps[name]


def paint_slices(
    image: nib.Nifti1Image, background: nib.Nifti1Image, palette: Palette, threshold: float
) -> NDArray[np.uint8]:
    """Paint slices evenly over what is not zero.

    Parameters
    ----------
    image : nibabel image
        Values; zero is not painted.
    background : nibabel image
        What lies below, in grey.
    palette : Palette
        Colours.
    threshold : float
        Absolute values up to this are not painted.

    Returns
    -------
    (row, column, 3) uint8
        The picture.
    """
    values = np.asarray(image.dataobj, dtype=np.float32)
    grey = np.asarray(background.dataobj, dtype=np.float32)
    high = float(np.abs(values).max()) or 1.0
    low = -high if palette.symmetric else min(float(values.min()), 0.0)
    brightest = float(np.percentile(grey[grey > 0], _BRIGHT)) if (grey > 0).any() else 1.0
    # The template fades out over some centimetres around the head.
    x, y = _axes(_corners(image), _corners(background, _FAINT))
    panels = []
    for height in _heights(image):
        below = _sample(grey, background.affine, x, y, height, order=1) / brightest
        above = _sample(values, image.affine, x, y, height, order=0)
        panel = np.repeat(_GREY * np.clip(below, 0, 1)[..., None], 3, axis=-1)
        shown = (np.abs(above) > threshold) & (above != 0)
        panel[shown] = colours(palette.cmap)((above[shown] - low) / (high - low))[:, :3]
        panels += [_labelled(panel, height), np.zeros((len(y), _GAP, 3))]
    panels.append(_scale(len(y), palette, low, high, threshold))
    return np.asarray(255 * np.concatenate(panels, axis=1), dtype=np.uint8)


def _axes(*corners: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Positions (mm) of columns, from left to right, and of rows, from front to back."""
    low = np.min([each.min(axis=0) for each in corners], axis=0)
    high = np.max([each.max(axis=0) for each in corners], axis=0)
    # Small images are enlarged, so that there is room for the scale.
    step = min(_PIXEL, float(high[1] - low[1]) / _MIN_ROWS)
    return np.arange(low[0], high[0] + step, step), np.arange(high[1], low[1] - step, -step)


def _corners(image: nib.Nifti1Image, share: float = 0.0) -> NDArray[np.float64]:
    """(corner, axis) mm of the box around what is above a share of the largest, or of the whole volume."""
    size = np.abs(np.asarray(image.dataobj))
    inside = np.argwhere(size > share * size.max())
    if not inside.size:
        inside = np.array([[0, 0, 0], np.array(image.shape[:3]) - 1])
    ends = np.stack([inside.min(axis=0) - 0.5, inside.max(axis=0) + 0.5])
    box = np.array([[ends[i, 0], ends[j, 1], ends[k, 2]] for i in (0, 1) for j in (0, 1) for k in (0, 1)])
    corners: NDArray[np.float64] = box @ image.affine[:3, :3].T + image.affine[:3, 3]
    return corners


def _heights(image: nib.Nifti1Image) -> list[float]:
    """Heights of the slices (mm); half a step from either end, where there would be little to see."""
    corners = _corners(image)[:, 2]
    heights: list[float] = np.linspace(corners.min(), corners.max(), N_SLICES + 2)[1:-1].tolist()
    return heights


def _sample(
    values: NDArray[np.float32],
    affine: NDArray[np.float64],
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    height: float,
    *,
    order: Literal[0, 1],
) -> NDArray[np.float32]:
    """(row, column) values in the plane at a height; zero outside of the volume."""
    inverse = np.linalg.inv(affine)
    grid = np.stack(np.broadcast_arrays(x[None, :], y[:, None], height))
    places = np.tensordot(inverse[:3, :3], grid, axes=1) + inverse[:3, 3, None, None]
    plane: NDArray[np.float32] = map_coordinates(values, places, order=order, mode="constant")
    return plane


def _labelled(panel: NDArray[np.float64], height: float) -> NDArray[np.float64]:
    return _written(panel, [((3, panel.shape[0] - _TEXT - 4), f"z {height:.0f}"), ((3, 2), "L")])


def _scale(n_rows: int, palette: Palette, low: float, high: float, threshold: float) -> NDArray[np.float64]:
    """Bar of the colours with the numbers at its ends, and at the threshold."""
    panel = np.zeros((n_rows, _SCALE_WIDTH, 3))
    top, bottom = _TEXT, n_rows - _TEXT
    values = np.linspace(high, low, bottom - top)
    bar = colours(palette.cmap)((values - low) / (high - low))[:, :3]
    bar[np.abs(values) <= threshold] = 0.35
    panel[top:bottom, 8:22] = bar[:, None]
    marks = {high, low}
    if threshold > high / 20:
        marks |= {threshold, -threshold}
    texts = []
    for mark in sorted(mark for mark in marks if low <= mark <= high):
        row = top + (high - mark) / (high - low) * (bottom - top)
        texts.append(((26.0, min(max(row - _TEXT / 2 - 2, 0), n_rows - _TEXT - 4)), f"{mark:.3g}"))
    return _written(panel, texts)


def _written(panel: NDArray[np.float64], texts: list[tuple[tuple[float, float], str]]) -> NDArray[np.float64]:
    """Write texts, each with the place of its left upper corner, onto a picture."""
    from PIL import Image, ImageDraw, ImageFont

    picture: Any = Image.fromarray(np.asarray(255 * panel, dtype=np.uint8))
    draw = ImageDraw.Draw(picture)
    for place, text in texts:
        draw.text(place, text, fill=(235, 235, 235), font=ImageFont.load_default(size=_TEXT))
    return np.asarray(picture, dtype=np.float64) / 255
