"""Small copies of maps for the viewer in the page."""

from __future__ import annotations

import base64
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np

from blmm_bids.outputs.nifti import gzipped

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from blmm_bids.stats.model import FloatArray

# Steps between zero and the largest value: what the eye can tell apart, and what compresses.
_N_STEPS = 100
# Voxels inside of the brain above which every second (third …) voxel is taken.
MAX_VOXELS = 300_000
# Text of all volumes of a page together.
MAX_BYTES = 2_000_000


@dataclass(frozen=True)
class EmbeddedVolume:
    """A map in the page.

    Attributes
    ----------
    name : str
        For the list of maps.
    group : str
        Heading in that list.
    kind : str
        ``statistic`` (two signs), ``positive`` (a statistic of one sign), ``amount`` or ``background``.
    data : str
        NIfTI-1, compressed, in base64.
    high : float
        Largest absolute value.
    threshold : float
        Where the viewer starts; 0 shows all.
    """

    name: str
    group: str
    kind: str
    data: str
    high: float
    threshold: float

    def as_mapping(self) -> dict[str, Any]:
        """Give the fields as JSON can hold them."""
        return asdict(self)


def embed(
    values: NDArray[np.floating],
    affine: FloatArray,
    *,
    name: str,
    group: str,
    kind: str,
    threshold: float = 0.0,
) -> EmbeddedVolume | None:
    """Cut a map to what is not zero, thin it where it is large, and round it; None where all is zero.

    Parameters
    ----------
    values : (x, y, z)
        Not finite values become zero.
    affine : (4, 4)
        Voxel indices to mm.
    name, group, kind, threshold
        As in `EmbeddedVolume`.
    """
    clean = np.where(np.isfinite(values), values, 0.0)
    high = float(np.abs(clean).max())
    if high == 0:
        return None
    inside = np.argwhere(clean)
    start, stop = inside.min(axis=0), inside.max(axis=0) + 1
    stride = int(np.ceil((len(inside) / MAX_VOXELS) ** (1 / 3)))
    box = clean[tuple(slice(a, b, stride) for a, b in zip(start, stop, strict=True))]
    placed = affine.copy()
    placed[:3, 3] = affine[:3, :3] @ start + affine[:3, 3]
    placed[:3, :3] = affine[:3, :3] * stride
    step = high / _N_STEPS
    image = nib.Nifti1Image(np.rint(box / step).astype(np.int16), placed)
    image.header.set_slope_inter(step, 0)
    image.header.set_xyzt_units("mm")
    data = base64.b64encode(gzipped(image.to_bytes())).decode("ascii")
    return EmbeddedVolume(name, group, kind, data, round(high, 4), round(threshold, 4))


def within_budget(volumes: list[EmbeddedVolume]) -> tuple[list[EmbeddedVolume], list[str]]:
    """Keep the first volumes that fit into a page, and name those that do not."""
    kept: list[EmbeddedVolume] = []
    left_out: list[str] = []
    total = 0
    for volume in volumes:
        if total + len(volume.data) > MAX_BYTES and kept:
            left_out.append(f"{volume.group}: {volume.name}" if volume.group else volume.name)
            continue
        total += len(volume.data)
        kept.append(volume)
    return kept, left_out
