"""A level without one of its images, from what it is with it.

Without a row b of B, the products of what is left of the level's columns within it lose ``e e' / (1 - b'b)``,
e being what was left of that image; and B's other rows are made orthonormal again by the Cholesky factor of
``I - b b'``, which has a closed form. The values of the level's other images are not needed.
"""

from __future__ import annotations

import math

from blmm_bids.stats.folding import Folding
from blmm_bids.stats.kernels.compiling import inner
from blmm_bids.stats.kernels.fold_products import (
    FoldPattern,
    add_shared,
    add_square,
    classify_level,
    count_level,
    find_root,
)
from blmm_bids.stats.kernels.fold_responses import FoldResponses, add_responses
from blmm_bids.stats.model import FloatArray
from blmm_bids.stats.plan_structure import Structure

# An image that has more of an effect than this for itself leaves too little of it to be taken off.
MOST_LEVERAGE = 0.9


@inner
def can_delete(fold: Folding, design: FoldPattern, level: int, obs: int) -> bool:
    """Whether a level keeps enough of all its effects without an image."""
    leverage = 0.0
    for a in range(fold.sizes[0]):
        if design.root[level, a, a] == 0.0:
            return False
        leverage += design.basis[obs, a] * design.basis[obs, a]
    return leverage < MOST_LEVERAGE


@inner
def delete_image(
    rest: Structure,
    fold: Folding,
    q_basis: FloatArray,
    effects: FloatArray,
    level: int,
    obs: int,
    b: int,
    row: FloatArray,
    turn: FloatArray,
    design: FoldPattern,
    out: FoldResponses,
) -> bool:
    """Take one image off its level; whether there is room for the level's class then.

    Parameters
    ----------
    obs : int
        The image, absent already; its response counted zero.
    row : (effect,)
        Of B of all images.
    turn : (2, effect)
        Scratch.
    design, out
        The design's products become those without the image, as do those of column ``b``.
    """
    size, n_fixef = fold.sizes[0], rest.sizes[1]
    first = level * size
    met, fixef, level_y, border = design.met, design.fixef[level], out.level, out.border
    add_shared(rest, fold, level, -1.0, design)
    add_responses(rest, fold, level, b, -1.0, design, out)
    # 1. Within the level.
    left, residual = 1.0, 0.0
    for a in range(size):
        turn[0, a] = row[a] / left
        before = left
        left -= row[a] * row[a]
        turn[1, a] = math.sqrt(before / left)
        residual -= row[a] * level_y[first + a, b]
    diagonal = rest.sizes[7] - rest.sizes[6]
    add_square(-1.0 / left, design.within[obs], diagonal, design.base[rest.sizes[6] :])
    for j in range(n_fixef):
        border[j, b] -= design.within[obs, j] * residual / left
    border[n_fixef, b] -= residual * residual / left
    # 2. Shared with it.
    for j in range(n_fixef):
        shared = 0.0
        for a in range(size):
            old = fixef[a, j] - row[a] * q_basis[obs, j]
            fixef[a, j] = (old + turn[0, a] * shared) * turn[1, a]
            shared += row[a] * old
    effect = size
    for term in range(rest.term_size.size):
        position = fold.level_ptr[level] + fold.obs_met[obs, term]
        for e in range(rest.term_size[term]):
            for a in range(size):
                met[position + e, a] -= row[a] * effects[obs, effect]
            effect += 1
    for m in range(fold.level_ptr[level], fold.level_ptr[level + 1]):
        shared = 0.0
        for a in range(size):
            old = met[m, a]
            met[m, a] = (old + turn[0, a] * shared) * turn[1, a]
            shared += row[a] * old
    shared = 0.0
    for a in range(size):
        old = level_y[first + a, b]
        level_y[first + a, b] = (old + turn[0, a] * shared) * turn[1, a]
        shared += row[a] * old
    # 3. G as it is found elsewhere, to the bit, for levels with equal ones are one class.
    find_root(fold, effects, level, design)
    count_level(fold, level, design)
    if not classify_level(fold, level, design):
        return False
    add_shared(rest, fold, level, 1.0, design)
    add_responses(rest, fold, level, b, 1.0, design, out)
    return True
