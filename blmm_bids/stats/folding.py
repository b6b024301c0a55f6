"""How the levels of the largest term are integrated out.

A level enters the likelihood through ``S = Z'Z`` (small) and ``U = Z'[Z_rest X y]``. Once its
effects are integrated out it leaves ``U'C(S, D)U`` behind, and C depends on the level through S
alone. So for levels with the same S, which is all subjects seen at the same visits, the sum of
``UU'`` is formed once per voxel, and what an evaluation costs depends on the number of different S,
not on the number of levels. Levels that are not alike are gone through one by one.

Where every level of the largest term lies in one level of the next, as subjects do in families, the two are
integrated out together: a family is then a level whose effects are its own and those of its subjects.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from blmm_bids.stats.model import FloatArray, IntArray
from blmm_bids.stats.plan_structure import Structure, make_structure

# Different Z'Z that missing images may add to those of the complete design; voxels with more are
# fitted level by level.
SPARE_CLASSES = 24
# Folding pays where it leaves at most this share of the levels.
WORTHWHILE = 0.5
# Effects of a level, its own and those of the levels within it, beyond which folding the two together does
# not pay; and classes that missing images may add there, where it matters which of the levels lacks an image.
MOST_TOGETHER = 7
SPARE_NESTED_CLASSES = 96


class Folding(NamedTuple):
    """Integer arrays of what is integrated out: the first term in elimination order, or the first two.

    Attributes
    ----------
    level_ptr : (level + 1,)
        Start of each level's columns of the other terms in ``level_cols``.
    level_cols : (column met,)
        Columns of the other terms that a level meets.
    value_ptr : (level + 1,)
        Start of each level's run in ``values``.
    values : (value met, 3)
        Place of a Z'Z value of the other terms in the store, and the positions of its row and
        column among the level's columns.
    obs_level : (obs,)
        Level of each observation.
    obs_ptr : (level + 1,)
        Start of each level's run in ``level_obs``.
    level_obs : (obs,)
        Observations, level by level.
    obs_met : (obs, other term)
        Position of the observation's level of each other term among the columns its level meets.
    part_sizes : (part,)
        Effects of each term that is integrated out.
    directions : (pair of effects,)
        Which element of those terms' D an element (a, b), a >= b, of a level's D is; column by column, -1
        where it is zero.
    obs_inner : (obs,)
        Level of the first of two terms that an observation belongs to; empty where there is one term.
    inner_images : (inner level,)
        Images of each such level.
    sizes : (4,)
        Effects of a level, and levels; classes at most, zero where levels are gone through one by one; levels
        that are then worked on side by side.
    """

    level_ptr: IntArray
    level_cols: IntArray
    value_ptr: IntArray
    values: IntArray
    obs_level: IntArray
    obs_ptr: IntArray
    level_obs: IntArray
    obs_met: IntArray
    part_sizes: IntArray
    directions: IntArray
    obs_inner: IntArray
    inner_images: IntArray
    sizes: IntArray


def make_folding(
    refs: list[IntArray], n_levels: IntArray, effects: list[FloatArray], n_obs: int, n_fixef: int
) -> tuple[Structure, Folding, int]:
    """Structure of the terms behind the first one, how the first one folds into it, and classes at most.

    Parameters
    ----------
    refs : list of (obs,)
        Level index of each observation, one array a term, terms in elimination order.
    n_levels : (term,)
    effects : list of (obs, effect)
        Conditioned columns of each term.
    n_obs, n_fixef : int
        Sizes.

    Returns
    -------
    Structure
    Folding
        For going through the levels one by one.
    int
        Zero where too few levels are alike for classes to pay.
    """
    n_effects = np.array([columns.shape[1] for columns in effects], dtype=np.int64)
    if not refs:
        rest = make_structure([], n_levels, n_effects, n_obs, n_fixef)
        return rest, _folding(rest, np.zeros(n_obs, dtype=np.int64), 0, 0), 0
    rest = make_structure(refs[1:], n_levels[1:], n_effects[1:], n_obs, n_fixef, met_through=refs[0])
    folding = _folding(rest, refs[0], int(n_effects[0]), int(n_levels[0]))
    n_classes = _count_classes(refs[0], effects[0], int(n_levels[0]))
    if n_classes > WORTHWHILE * n_levels[0]:
        return rest, folding, 0
    constant = bool((effects[0] == effects[0][0]).all())
    most = int(np.bincount(refs[0]).max()) if constant else n_classes + SPARE_CLASSES
    return rest, folding, min(most, int(n_levels[0]))


def make_nested_folding(
    refs: list[IntArray], n_levels: IntArray, effects: list[FloatArray], n_obs: int, n_fixef: int
) -> tuple[Structure, Folding, FloatArray] | None:
    """Structure of the terms behind the first two, how these two fold into it together, and the effects then.

    Parameters
    ----------
    refs, n_levels, effects, n_obs, n_fixef
        See `make_folding`.

    Returns
    -------
    Structure
    Folding
    (obs, effect)
        Those of the first term by their place within the level of the second, those of the second, and those
        of the other terms.
    None
        In place of all where the first term is not nested in the second, or where it would not pay.
    """
    if len(refs) < 2:
        return None
    pairs = np.unique(np.stack(refs[:2], axis=1), axis=0)
    slots = _slots(pairs)
    n_slots = int(slots.max()) + 1
    n_effects = np.array([columns.shape[1] for columns in effects], dtype=np.int64)
    size = n_slots * int(n_effects[0]) + int(n_effects[1])
    if pairs.shape[0] != n_levels[0] or size > MOST_TOGETHER:
        return None
    of_obs = slots[refs[0]][:, np.newaxis]
    together = np.hstack([*(effects[0] * (of_obs == slot) for slot in range(n_slots)), effects[1]])
    n_classes = _count_classes(refs[1], together, int(n_levels[1]))
    if n_classes > WORTHWHILE * n_levels[1]:
        return None
    rest = make_structure(refs[2:], n_levels[2:], n_effects[2:], n_obs, n_fixef, met_through=refs[1])
    folding = _folding(rest, refs[1], size, int(n_levels[1]))
    most = n_classes + min(SPARE_NESTED_CLASSES, int(n_levels[1]))
    folding = folding._replace(
        part_sizes=n_effects[:2].copy(),
        directions=_directions(int(n_effects[0]), n_slots, int(n_effects[1])),
        obs_inner=np.ascontiguousarray(refs[0], dtype=np.int64),
        inner_images=np.bincount(refs[0]).astype(np.int64),
        sizes=np.array([size, n_levels[1], most, 1], dtype=np.int64),
    )
    return rest, folding, np.ascontiguousarray(np.hstack([together, *effects[2:]]))


def _directions(inner: int, n_slots: int, outer: int) -> IntArray:
    """Element of two terms' D that each element of a level's D is; see `Folding`."""
    size = n_slots * inner + outer
    directions = np.full((size, size), -1, dtype=np.int64)
    for begin in (*range(0, n_slots * inner, inner), n_slots * inner):
        width, first = (inner, 0) if begin < n_slots * inner else (outer, inner * (inner + 1) // 2)
        cols, rows = np.triu_indices(width)
        directions[begin + cols, begin + rows] = first + np.arange(rows.size)
    # Column by column of the lower triangle is row by row of the upper one.
    return directions[np.triu_indices(size)]


def _slots(pairs: IntArray) -> IntArray:
    """Place of each level of the first term within its level of the second: (level, level of the second)."""
    order = np.argsort(pairs[:, 1], kind="stable")
    outer = pairs[order, 1]
    slots = np.zeros(order.size, dtype=np.int64)
    slots[order] = np.arange(order.size) - np.searchsorted(outer, outer)
    return slots


def _count_classes(refs: IntArray, effects: FloatArray, n_levels: int) -> int:
    """Count the different Z'Z of a term's levels."""
    size = effects.shape[1]
    rows, cols = np.tril_indices(size)
    products = np.zeros((n_levels, rows.size))
    # np.add.at sums in observation order, as the kernels do: equal visits give equal bits.
    np.add.at(products, refs, effects[:, rows] * effects[:, cols])
    return int(np.unique(products, axis=0).shape[0])


def _folding(rest: Structure, refs: IntArray, size: int, n_levels: int) -> Folding:
    n_terms = rest.term_size.size
    n_obs = refs.size
    starts = [rest.obs_cols[:, term] for term in range(n_terms)]
    pairs = (
        np.unique(np.stack([np.tile(refs, n_terms), np.concatenate(starts)], axis=1), axis=0)
        if n_terms
        else (np.zeros((0, 2), dtype=np.int64))
    )
    block_of = {(int(row), int(col)): block for block, (row, col) in enumerate(rest.block_cols.tolist())}
    size_of = {
        int(col): int(rest.term_size[np.searchsorted(rest.term_start, col, side="right") - 1])
        for col in set(pairs[:, 1].tolist())
    }
    level_cols: list[int] = []
    values: list[tuple[int, int, int]] = []
    level_ptr = np.zeros(n_levels + 1, dtype=np.int64)
    value_ptr = np.zeros(n_levels + 1, dtype=np.int64)
    first_met: dict[tuple[int, int], int] = {}
    bounds = np.searchsorted(pairs[:, 0], np.arange(n_levels + 1))
    for level in range(n_levels):
        met = pairs[bounds[level] : bounds[level + 1], 1].tolist()
        place: dict[int, int] = {}
        here = 0
        for start in met:
            place[start] = here
            first_met[level, start] = here
            level_cols.extend(range(start, start + size_of[start]))
            here += size_of[start]
        for a, col in enumerate(met):
            for row in met[a:]:
                begin = int(rest.block_start[block_of[row, col]])
                width = size_of[col]
                values.extend(
                    (begin + i * width + j, place[row] + i, place[col] + j)
                    for i in range(size_of[row])
                    for j in range(width)
                )
        level_ptr[level + 1] = len(level_cols)
        value_ptr[level + 1] = len(values)
    obs_met = np.zeros((n_obs, n_terms), dtype=np.int64)
    for term in range(n_terms):
        obs_met[:, term] = [
            first_met[int(level), int(col)] for level, col in zip(refs, starts[term], strict=True)
        ]
    return Folding(
        level_ptr=level_ptr,
        level_cols=np.array(level_cols, dtype=np.int64),
        value_ptr=value_ptr,
        values=np.array(values, dtype=np.int64).reshape(-1, 3),
        obs_level=np.ascontiguousarray(refs, dtype=np.int64),
        obs_ptr=np.searchsorted(np.sort(refs), np.arange(n_levels + 1)).astype(np.int64),
        level_obs=np.argsort(refs, kind="stable").astype(np.int64),
        obs_met=obs_met,
        part_sizes=np.array([size] if size else [], dtype=np.int64),
        directions=np.arange(size * (size + 1) // 2),
        obs_inner=np.zeros(0, dtype=np.int64),
        inner_images=np.zeros(0, dtype=np.int64),
        sizes=np.array([size, n_levels, 0, 1], dtype=np.int64),
    )
