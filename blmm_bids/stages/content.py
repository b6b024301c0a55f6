"""What the images turned out to hold: those with nothing in them end the run, by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blmm_bids.bids.names import distinct_names
from blmm_bids.errors import DataError
from blmm_bids.images.reader import MissingRule
from blmm_bids.outputs.gather import sampled_voxels

_SHOWN = 5
# Share of the mask above which zeros that count as missing are worth a word.
_MANY_ZEROS = 0.01


def refuse_void_images(
    images: Sequence[Path], numbers: Mapping[str, NDArray[Any]], rule: MissingRule
) -> None:
    """Refuse images that say nothing: without a value in the mask, or with one value everywhere.

    They are what a first level that failed leaves behind; fitted, they would only look like missing data.
    Where 0 is a value, a map of one value may be real (no lesion in the mask).

    Parameters
    ----------
    images : sequence of Path
        All images of the fit.
    numbers : mapping of str to (obs,) array
        ``n_present``, ``minimum``, ``maximum`` of each image over the candidate voxels.
    rule : MissingRule
        What counted as missing.

    Raises
    ------
    DataError
        Names the images.
    """
    n_present = numbers["n_present"]
    empty = n_present == 0
    if empty.any():
        kinds = "NaN, infinite" if rule.zeros == "data" else "NaN, infinite, 0"
        kinds += "" if rule.threshold is None else f", below {rule.threshold:g}"
        _refuse(images, empty, f"no value at any voxel of the mask (all are {kinds} or masked out)")
    constant = (n_present > 1) & (numbers["minimum"] == numbers["maximum"])
    if constant.any() and rule.zeros == "missing":
        _refuse(images, constant, "the same value at every voxel")


def infinite_warnings(images: Sequence[Path], numbers: Mapping[str, NDArray[Any]]) -> tuple[str, ...]:
    """Say which images hold infinite values; they count as missing, as NaN does.

    Parameters
    ----------
    images, numbers
        As in `refuse_void_images`; ``n_inf`` counts.
    """
    n_inf = numbers["n_inf"]
    if not n_inf.any():
        return ()
    worst = int(n_inf.argmax())
    names = distinct_names([path.as_posix() for path in images])
    return (
        f"{int((n_inf > 0).sum())} of {len(images)} images hold infinite values, which count as missing; "
        f"most of them {names[worst]}, at {int(n_inf[worst])} voxels",
    )


def zero_shares(zeros: NDArray[np.uint8], keep: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Share of the analysis mask in which each image is exactly 0, (obs,), by the voxels that were sampled.

    Parameters
    ----------
    zeros : (obs, byte) uint8
        As `blmm_bids.outputs.gather.GatherSummary` has it.
    keep : (voxel,) bool
        Which candidates are in the analysis mask.
    """
    kept = keep[sampled_voxels(keep.size)]
    bits = np.packbits(kept)
    n_zero = np.bitwise_count(zeros & bits).sum(axis=1, dtype=np.int64)
    shares: NDArray[np.float64] = n_zero / max(int(kept.sum()), 1)
    return shares


def zero_warnings(images: Sequence[Path], shares: NDArray[np.float64], rule: MissingRule) -> tuple[str, ...]:
    """Say which images are 0 at many voxels of the analysis mask, where that counts as missing.

    Parameters
    ----------
    images : sequence of Path
    shares : (obs,) float64
        From `zero_shares`.
    rule : MissingRule
        What counted as missing.
    """
    many = shares > _MANY_ZEROS
    if not rule.only_zeros or not many.any():
        return ()
    worst = int(shares.argmax())
    return (
        f"zeros count as missing, and {int(many.sum())} of {len(images)} images are exactly 0 at more than "
        f"{100 * _MANY_ZEROS:.0f} % of the voxels of the mask; most of all {images[worst].name}, at "
        f"{100 * shares[worst]:.3g} %. Where 0 is a value of these maps, give --zeros data",
    )


def _refuse(images: Sequence[Path], which: NDArray[np.bool_], what: str) -> None:
    names = [str(images[index]) for index in np.flatnonzero(which).tolist()]
    listed = "\n".join(f"  {name}" for name in names[:_SHOWN])
    more = f"\n  and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    msg = (
        f"{len(names)} of {len(images)} images have {what}:\n{listed}{more}\n"
        "Make them again, or leave them out"
    )
    raise DataError(msg)
