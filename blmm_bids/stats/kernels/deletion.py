"""A level without one of its images, from what it is with it.

Without a row b of B, the products of what is left of the level's columns within it lose ``e e' / (1 - b'b)``,
e being what was left of that image; and B's other rows are made orthonormal again by the Cholesky factor of
``I - b b'``, which has a closed form. The values of the level's other images are not needed.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from blmm_bids.stats.folding import Folding
from blmm_bids.stats.kernels.compiling import apart, inner
from blmm_bids.stats.kernels.fold_products import (
    FoldPattern,
    add_row,
    classify_level,
    find_root,
)
from blmm_bids.stats.kernels.fold_responses import FoldResponses
from blmm_bids.stats.kernels.products import add_square
from blmm_bids.stats.kernels.small import copy, copy_rows
from blmm_bids.stats.model import FloatArray, IntArray
from blmm_bids.stats.plan_structure import Structure

# An image that has more of the effects than this for itself leaves too little of them to be taken off; with
# less it leaves G as it is, and the class would be moved from to itself.
LEAST_LEVERAGE, MOST_LEVERAGE = 1e-8, 0.9
# Ways from class to class that are told apart.
MOST_WAYS = 64
UNKNOWN = -1


class Ways(NamedTuple):
    """From class to class: what becomes of a level that loses an image.

    Attributes
    ----------
    of : (obs,)
        The way of the image's level without it, or `UNKNOWN`.
    rows : (way, effect)
        The image's row of B.
    before, after : (way,)
        Class with the image; without it, at the voxel at hand, or `UNKNOWN`.
    n : (1,)
        Ways known.
    turn : (2, effect)
        Scratch: the factor that makes a level's other rows orthonormal.
    responses : (2, effect)
        Scratch: U of y with and without the image.
    """

    of: IntArray
    rows: FloatArray
    before: IntArray
    after: IntArray
    n: IntArray
    turn: FloatArray
    responses: FloatArray


def allocate_ways(fold: Folding) -> Ways:
    """No way known."""
    size = int(fold.sizes[0])
    return Ways(
        of=np.full(fold.obs_level.size, UNKNOWN),
        rows=np.zeros((MOST_WAYS, size)),
        before=np.zeros(MOST_WAYS, dtype=np.int64),
        after=np.full(MOST_WAYS, UNKNOWN),
        n=np.zeros(1, dtype=np.int64),
        turn=np.zeros((2, size)),
        responses=np.zeros((2, size)),
    )


@inner
def forget_classes(ways: Ways) -> None:
    """Begin with another voxel, whose classes are its own."""
    for way in range(ways.n[0]):
        ways.after[way] = UNKNOWN


@inner
def can_delete(fold: Folding, design: FoldPattern, level: int, obs: int) -> bool:
    """Whether a level keeps enough of all its effects, and loses something of them, without an image."""
    leverage = 0.0
    for a in range(fold.sizes[0]):
        if design.root[level, a, a] == 0.0:
            return False
        leverage += design.basis[obs, a] * design.basis[obs, a]
    return LEAST_LEVERAGE < leverage < MOST_LEVERAGE


@inner
def delete_image(
    rest: Structure,
    fold: Folding,
    q_basis: FloatArray,
    effects: FloatArray,
    level: int,
    obs: int,
    b: int,
    whole: FoldPattern,
    design: FoldPattern,
    out: FoldResponses,
    ways: Ways,
) -> bool:
    """Take one image off its level; whether there is room for the level's class then.

    Parameters
    ----------
    obs : int
        The image, absent already; its response counted zero.
    whole : FoldPattern
        Of all images.
    design, out
        The level's products become those without the image, as do those of column ``b``; B stays as it is.
    """
    size, n_fixef = fold.sizes[0], rest.sizes[1]
    first, row, turn = level * size, whole.basis[obs], ways.turn
    met, fixef, level_y, border = design.met, design.fixef[level], out.level, out.border
    old_class = design.class_of[level]
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
        for a in range(size):
            fixef[a, j] -= row[a] * q_basis[obs, j]
        _turn(row, turn, fixef[:, j])
    effect = size
    for term in range(rest.term_size.size):
        position = fold.level_ptr[level] + fold.obs_met[obs, term]
        for e in range(rest.term_size[term]):
            for a in range(size):
                met[position + e, a] -= row[a] * effects[obs, effect]
            effect += 1
    for m in range(fold.level_ptr[level], fold.level_ptr[level + 1]):
        _turn(row, turn, met[m])
    y = level_y[first : first + size, b]
    copy(y, ways.responses[0])
    _turn(row, turn, y)
    copy(y, ways.responses[1])
    # 3. G and the class.
    if not reclassify(fold, effects, level, obs, whole, design, ways):
        return False
    if design.class_of[level] >= 0:
        copy_rows(design.class_root[design.class_of[level]], design.root[level])
    _move(rest, fold, level, old_class, b, whole, design, out, ways)
    return True


@inner
def _turn(row: FloatArray, turn: FloatArray, x: FloatArray) -> None:
    """Coefficients of B's other rows made orthonormal, in place of those of the rows as they are."""
    shared = 0.0
    for a in range(row.size):
        old = x[a]
        x[a] = (old + turn[0, a] * shared) * turn[1, a]
        shared += row[a] * old


@inner
def _move(
    rest: Structure,
    fold: Folding,
    level: int,
    before: int,
    b: int,
    whole: FoldPattern,
    design: FoldPattern,
    out: FoldResponses,
    ways: Ways,
) -> None:
    """Change the products that a level shares with the other terms, and move all of its class to the new one.

    Parameters
    ----------
    before : int
        The level's class with the image, -1 without classes.
    """
    n_ranef, n_fixef, first = rest.sizes[0], rest.sizes[1], rest.sizes[6]
    start, last = fold.level_ptr[level], fold.level_ptr[level + 1]
    old, new, old_q, new_q = whole.met, design.met, whole.fixef[level], design.fixef[level]
    old_y, new_y = ways.responses[0], ways.responses[1]
    pair = -1
    for e in range(fold.sizes[0]):
        for v in range(fold.value_ptr[level], fold.value_ptr[level + 1]):
            r, c = start + fold.values[v, 1], start + fold.values[v, 2]
            design.base[fold.values[v, 0]] += old[r, e] * old[c, e] - new[r, e] * new[c, e]
        for m in range(start, last):
            column = fold.level_cols[m]
            shared = design.base[rest.sizes[5] + column * (n_fixef + 1) :]
            add_row(old[m, e], old_q[e], shared)
            add_row(-new[m, e], new_q[e], shared)
            out.rest[column, b] += old[m, e] * old_y[e] - new[m, e] * new_y[e]
        for a in range(e, fold.sizes[0] if before >= 0 else e):
            pair += 1
            after = design.class_of[level]
            source, target = design.totals[before, pair], design.totals[after, pair]
            source_y, target_y = out.totals[before, pair], out.totals[after, pair]
            # Off-diagonal pairs hold both orders.
            twice = 0.0 if a == e else 1.0
            for v in range(fold.value_ptr[level], fold.value_ptr[level + 1]):
                r, c = start + fold.values[v, 1], start + fold.values[v, 2]
                source[fold.values[v, 0]] -= old[r, a] * old[c, e] + twice * old[r, e] * old[c, a]
                target[fold.values[v, 0]] += new[r, a] * new[c, e] + twice * new[r, e] * new[c, a]
            for m in range(start, last):
                column = fold.level_cols[m]
                place = rest.sizes[5] + column * (n_fixef + 1)
                add_row(-old[m, a], old_q[e], source[place:])
                add_row(new[m, a], new_q[e], target[place:])
                if a != e:
                    add_row(-old[m, e], old_q[a], source[place:])
                    add_row(new[m, e], new_q[a], target[place:])
                source_y[column, b] -= old[m, a] * old_y[e] + twice * old[m, e] * old_y[a]
                target_y[column, b] += new[m, a] * new_y[e] + twice * new[m, e] * new_y[a]
            _move_products(
                old_q[a], old_q[e], new_q[a], new_q[e], 1.0 + twice, rest.sizes[7] - first,
                source[first:], target[first:],
            )  # fmt: skip
            for i in range(n_fixef):
                source_y[n_ranef + i, b] -= old_q[e, i] * old_y[a] + twice * old_q[a, i] * old_y[e]
                target_y[n_ranef + i, b] += new_q[e, i] * new_y[a] + twice * new_q[a, i] * new_y[e]
            source_y[n_ranef + n_fixef, b] -= (1.0 + twice) * old_y[a] * old_y[e]
            target_y[n_ranef + n_fixef, b] += (1.0 + twice) * new_y[a] * new_y[e]


@apart
def _move_products(
    a: FloatArray,
    b: FloatArray,
    c: FloatArray,
    d: FloatArray,
    times: float,
    diagonal: int,
    source: FloatArray,
    target: FloatArray,
) -> None:
    """Take ``times a b'``, made symmetric, off packed products, and add ``times c d'`` to others."""
    half = 0.5 * times
    entry = 0
    for i in range(a.size):
        source[diagonal + i] -= times * a[i] * b[i]
        target[diagonal + i] += times * c[i] * d[i]
        for j in range(i + 1, a.size):
            source[entry] -= half * (a[i] * b[j] + a[j] * b[i])
            target[entry] += half * (c[i] * d[j] + c[j] * d[i])
            entry += 1
        # The row of y.
        entry += 1


@inner
def reclassify(
    fold: Folding,
    effects: FloatArray,
    level: int,
    obs: int,
    whole: FoldPattern,
    design: FoldPattern,
    ways: Ways,
) -> bool:
    """Class of a level that has lost an image, or G where there are no classes; whether there is room for it.

    It is that of an earlier level of the same class that has lost an image with the same row of B. Where
    there was none G is found as for a level that never had the image, to the bit: equal ones are one class.
    """
    design.seen[level] -= 1
    way = ways.of[obs]
    if way != UNKNOWN and ways.after[way] != UNKNOWN:
        design.class_of[level] = ways.after[way]
        return True
    find_root(fold, effects, level, design)
    for o in range(fold.obs_ptr[level], fold.obs_ptr[level + 1]):
        copy(whole.basis[fold.level_obs[o]], design.basis[fold.level_obs[o]])
    if not classify_level(fold, level, design):
        return False
    if way != UNKNOWN:
        ways.after[way] = design.class_of[level]
    return True


@inner
def open_way(
    fold: Folding,
    effects: FloatArray,
    level: int,
    obs: int,
    whole: FoldPattern,
    design: FoldPattern,
    ways: Ways,
) -> bool:
    """Find the class that the way of a level without an image leads to; whether there is room for it."""
    if ways.after[ways.of[obs]] != UNKNOWN:
        return True
    room: bool = reclassify(fold, effects, level, obs, whole, design, ways)
    design.seen[level], design.class_of[level] = whole.seen[level], whole.class_of[level]
    copy_rows(whole.root[level], design.root[level])
    return room


@inner
def find_ways(fold: Folding, whole: FoldPattern, ways: Ways) -> None:
    """Find the ways of all levels without each of their images.

    Before there is any voxel: sums over levels go through the ways in their order, and a voxel's bits must
    not depend on what the voxels before it lack.
    """
    for level in range(fold.sizes[1]):
        for o in range(fold.obs_ptr[level], fold.obs_ptr[level + 1]):
            obs = fold.level_obs[o]
            if can_delete(fold, whole, level, obs):
                _find_way(level, obs, whole, ways)


@inner
def _find_way(level: int, obs: int, whole: FoldPattern, ways: Ways) -> None:
    """Find which way a level goes that loses an image; unknown without classes, or with too many ways."""
    before, row = whole.class_of[level], whole.basis[obs]
    if before < 0:
        return
    for way in range(ways.n[0]):
        same: bool = ways.before[way] == before
        for a in range(row.size):
            same = same and ways.rows[way, a] == row[a]
        if same:
            ways.of[obs] = way
            return
    way = ways.n[0]
    if way < MOST_WAYS:
        ways.n[0] = way + 1
        ways.of[obs], ways.before[way] = way, before
        copy(row, ways.rows[way])
