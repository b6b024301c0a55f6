"""Options of the command line that say which voxels are analysed. Light, for ``--help`` loads it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from blmm_bids.errors import MissingInputError, UsageError

if TYPE_CHECKING:
    from blmm_bids.config.settings import MaskChoice, MaskOptions


def add_mask_options(group: argparse._ArgumentGroup) -> None:
    """Add the options of the BIDS App to a parser's group."""
    group.add_argument("--mask", metavar="FILE|template|none", default="none", help="explicit mask")
    group.add_argument(
        "--input-masks",
        choices=("auto", "none"),
        default="auto",
        help="use the images' own masks (default: auto)",
    )
    group.add_argument("--min-n", type=int, metavar="N", help="images that a voxel needs")
    group.add_argument(
        "--min-percent", type=float, metavar="0..1", help="share of images a voxel needs (default: 0.5)"
    )
    group.add_argument("--data-mask-threshold", type=float, metavar="X", help="values below X are missing")
    group.add_argument(
        "--zeros",
        choices=("auto", "missing", "data"),
        help="what an exact 0 is; auto: data in maps of shares, counts and sizes (probseg, thickness …), "
        "missing in all others (default: auto)",
    )
    add_grid_options(group)


def add_grid_options(group: argparse._ActionsContainer) -> None:
    """Add what both commands say of grids that differ."""
    group.add_argument("--resample-mask", action="store_true", help="bring the mask to the images' grid")
    group.add_argument(
        "--affine-tolerance",
        type=float,
        default=1e-3,
        metavar="MM",
        help="how far apart images may lie (default: 0.001)",
    )


def mask_options(args: argparse.Namespace) -> MaskOptions:
    """Turn parsed arguments into the record of the settings.

    Raises
    ------
    MissingInputError
        There is no such mask.
    UsageError
        A share that is none.
    """
    from blmm_bids.config.settings import MaskOptions

    return MaskOptions(
        mask=_mask(args.mask),
        resample_mask=args.resample_mask,
        min_n=args.min_n,
        min_percent=_fraction(args.min_percent),
        data_mask_threshold=args.data_mask_threshold,
        zeros=args.zeros,
        affine_tolerance=args.affine_tolerance,
    )


def _mask(text: str) -> MaskChoice:
    if text == "none":
        return None
    if text == "template":
        return "template"
    path = Path(text).absolute()
    if not path.exists():
        msg = f"--mask {text}: no such file; give a mask image, 'template' or 'none'"
        raise MissingInputError(msg)
    return path


def _fraction(value: float | None) -> float | None:
    if value is not None and not 0 <= value <= 1:
        hint = f"; for {value:g} % write {value / 100:g}" if 1 < value <= 100 else ""
        msg = f"--min-percent {value:g}: wanted a share from 0 to 1{hint}"
        raise UsageError(msg)
    return value
