"""What counts as missing in a unit's images, and how many of them a voxel needs."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from pathlib import Path

from blmm_bids.bids.zeros import ZeroRule, chosen_zeros
from blmm_bids.config.settings import MaskOptions
from blmm_bids.design.software import NodeOptions
from blmm_bids.errors import DataError
from blmm_bids.images.reader import MissingRule
from blmm_bids.stages import Gathered, Problem, zero_warnings

LOGGER = logging.getLogger(__name__)
DEFAULT_MIN_PERCENT = 0.5


def missing_rule(
    masks: MaskOptions, options: NodeOptions, images: Sequence[Path]
) -> tuple[MissingRule, ZeroRule]:
    """Join what the command line and the node say; where neither speaks of zeros, the images' names do.

    Returns
    -------
    MissingRule
        For reading.
    ZeroRule
        What a 0 is and why, for the user.
    """
    said = masks.data_mask_threshold
    threshold = options.data_mask_threshold if said is None else said
    zeros = chosen_zeros(images, masks.zeros, options.zeros)
    return MissingRule(threshold=threshold, zeros=zeros.zeros), zeros


def say_zeros(title: str, problem: Problem, gathered: Gathered) -> tuple[str, ...]:
    """Warn where zeros that count as missing are many; the warnings, for the report."""
    warnings = zero_warnings(problem.images, gathered.images["zero_share"], problem.rule)
    for warning in warnings:
        LOGGER.warning("%s: %s", title, warning)
    return warnings


def least_images(masks: MaskOptions, options: NodeOptions, n_obs: int, n_fixef: int) -> int:
    """Images that a voxel needs: MinN and MinPercent, and never fewer than the fixed effects and two more.

    Raises
    ------
    DataError
        More than there are.
    """
    min_n = options.min_n if masks.min_n is None else masks.min_n
    percent = options.min_percent if masks.min_percent is None else masks.min_percent
    if percent is None:
        percent = DEFAULT_MIN_PERCENT
    if min_n is not None and min_n > n_obs:
        msg = f"--min-n {min_n}: there are only {n_obs} images, so no voxel can have as many"
        raise DataError(msg)
    # The share is compared in images, so that 0.1 of 30 is 3 and not 4.
    return max(min_n or 0, math.ceil(percent * n_obs - 1e-9), n_fixef + 2)
