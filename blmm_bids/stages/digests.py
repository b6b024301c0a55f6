"""Hashes of what results depend on."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blmm_bids.images.header import read_header
from blmm_bids.stats.model import Design


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


def mask_identities(masks: Sequence[Sequence[Path]]) -> dict[Path, str]:
    """Identity of each mask; each file is looked at once."""
    return {path: read_header(path).identity for path in dict.fromkeys(p for paths in masks for p in paths)}
