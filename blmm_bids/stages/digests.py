"""Hashes of what results depend on."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blmm_bids.images.header import read_header
from blmm_bids.stats.model import Design, FloatArray


def array_digest(array: NDArray[Any]) -> str:
    """Hash of an array's values."""
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def design_digest(design: Design) -> list[Any]:
    """Hashes of X and of each random term."""
    terms = [
        [term.group, term.levels, array_digest(term.refs), array_digest(term.effects)]
        for term in design.terms
    ]
    return [array_digest(design.X), terms]


def rounded_digest(design: Design) -> list[Any]:
    """Hashes of X and of each random term to nine digits: the same on machines whose last bits differ."""
    terms = [
        [term.group, term.levels, array_digest(term.refs), array_digest(_rounded(term.effects))]
        for term in design.terms
    ]
    return [array_digest(_rounded(design.X)), terms]


def _rounded(values: FloatArray) -> FloatArray:
    scale = np.maximum(np.abs(values).max(axis=0, initial=0.0), np.finfo(np.float64).tiny)
    # Adding 0 makes negative zeros positive.
    size = np.floor(np.log10(scale))
    return np.concatenate([np.round(values / scale, 9) + 0.0, [np.round(scale / 10**size, 9)], [size]])


def mask_identities(masks: Sequence[Sequence[Path]]) -> dict[Path, str]:
    """Identity of each mask; each file is looked at once."""
    return {path: read_header(path).identity for path in dict.fromkeys(p for paths in masks for p in paths)}
