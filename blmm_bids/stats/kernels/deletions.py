"""Levels that lack one image each, side by side.

What `deletion.py` does level by level is done here with a column for each level, where levels are gone
through by classes and meet no other term: of a level is wanted only what it adds to sums over its class.
Levels that go the same way, from the class with the image to the one without, stand together. y is a last
column beside Q's: its missing image counts zero.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from blmm_bids.stats.folding import Folding
from blmm_bids.stats.kernels.compiling import apart, inner, summing
from blmm_bids.stats.kernels.deletion import MOST_WAYS, Ways
from blmm_bids.stats.kernels.fold_products import FoldPattern
from blmm_bids.stats.kernels.fold_responses import FoldResponses
from blmm_bids.stats.kernels.small import add_column_products, clear, fetch, sum_products
from blmm_bids.stats.model import FloatArray, IntArray
from blmm_bids.stats.plan_structure import Structure


class Deletions(NamedTuple):
    """Levels of one voxel, the last axis; a column is one of Q or, the last one, y.

    Attributes
    ----------
    levels, images, ways : (level,)
        In the voxel's order.
    placed_levels, placed_images : (level,)
        In the order of their ways, as all that follows.
    ends : (1 + way,)
        Where the levels of each way end.
    rows : (effect, level)
        The image's row of B.
    before, after : (effect, column, level)
        U with and without the image.
    within : (column, level)
        What is left of the image within its level.
    scaled : (column, level)
        The same, over what its leverage leaves of 1.
    lean, scale : (effect, level)
        Factor of the turn that makes B's other rows orthonormal.
    left, shared : (level,)
        What the leverage leaves of 1; scratch.
    """

    levels: IntArray
    images: IntArray
    ways: IntArray
    placed_levels: IntArray
    placed_images: IntArray
    ends: IntArray
    rows: FloatArray
    before: FloatArray
    after: FloatArray
    within: FloatArray
    scaled: FloatArray
    lean: FloatArray
    scale: FloatArray
    left: FloatArray
    shared: FloatArray


def allocate_deletions(rest: Structure, fold: Folding) -> Deletions:
    """Room for all levels, or none where levels are not deleted side by side."""
    size, columns = int(fold.sizes[0]), int(rest.sizes[1]) + 1
    n_levels = int(fold.sizes[1]) if fold.sizes[2] > 0 and fold.level_cols.size == 0 else 0

    def counters() -> IntArray:
        return np.zeros(n_levels, dtype=np.int64)

    def zeros(*shape: int) -> FloatArray:
        return np.zeros((*shape, n_levels))

    return Deletions(
        levels=counters(),
        images=counters(),
        ways=counters(),
        placed_levels=counters(),
        placed_images=counters(),
        ends=np.zeros(1 + MOST_WAYS, dtype=np.int64),
        rows=zeros(size),
        before=zeros(size, columns),
        after=zeros(size, columns),
        within=zeros(columns),
        scaled=zeros(columns),
        lean=zeros(size),
        scale=zeros(size),
        left=zeros(),
        shared=zeros(),
    )


@inner
def list_deletion(level: int, obs: int, way: int, n: int, d: Deletions) -> None:
    """List a level that lacks an image, as the n-th."""
    d.levels[n], d.images[n], d.ways[n] = level, obs, way


@inner
def delete_listed(
    rest: Structure,
    q_basis: FloatArray,
    n: int,
    b: int,
    whole: FoldPattern,
    design: FoldPattern,
    out: FoldResponses,
    ways: Ways,
    d: Deletions,
) -> None:
    """Take the images off their levels in the sums over levels, of the design and of column ``b``."""
    n_ways = ways.n[0]
    _place(n, n_ways, d)
    _gather(q_basis, n, b, whole, out, d)
    _split(n, d)
    _add_within(rest, n, b, design, out, d)
    begin, first = 0, 0
    for way in range(n_ways):
        end = d.ends[way]
        if end > begin:
            _add_totals(rest, 1.0, d.after, begin, end, ways.after[way], b, design, out)
            design.class_levels[ways.before[way]] -= end - begin
            design.class_levels[ways.after[way]] += end - begin
        begin = end
        # Ways from one class mostly follow each other.
        is_last = way == n_ways - 1 or ways.before[way + 1] != ways.before[way]
        if is_last and end > first:
            _add_totals(rest, -1.0, d.before, first, end, ways.before[way], b, design, out)
            first = end


@inner
def _place(n: int, n_ways: int, d: Deletions) -> None:
    """Bring the levels that go one way together."""
    ends, levels, images = d.ends, d.levels, d.images
    for way in range(n_ways + 1):
        ends[way] = 0
    for i in range(n):
        ends[d.ways[i] + 1] += 1
    for way in range(n_ways):
        ends[way + 1] += ends[way]
    for i in range(n):
        place = ends[d.ways[i]]
        ends[d.ways[i]] = place + 1
        d.placed_levels[place], d.placed_images[place] = levels[i], images[i]


@inner
def _gather(
    q_basis: FloatArray, n: int, b: int, whole: FoldPattern, out: FoldResponses, d: Deletions
) -> None:
    """Fetch each level's U and its image's rows of B and Q."""
    size, n_fixef = whole.fixef.shape[1], whole.fixef.shape[2]
    for a in range(size):
        fetch(n, d.placed_images, whole.basis[:, a], d.rows[a])
        for j in range(n_fixef):
            fetch(n, d.placed_levels, whole.fixef[:, a, j], d.before[a, j])
        fetch(n, d.placed_levels, out.level[a::size, b], d.before[a, n_fixef])
    for j in range(n_fixef):
        fetch(n, d.placed_images, q_basis[:, j], d.within[j])
    for i in range(n):
        d.within[n_fixef, i] = 0.0


@inner
def _split(n: int, d: Deletions) -> None:
    """U without the images, and what is left of them within their levels; see `deletion`."""
    size, n_columns = d.before.shape[0], d.before.shape[1]
    for i in range(n):
        d.left[i] = 1.0
    for a in range(size):
        _find_turn(n, d.rows[a], d.left, d.lean[a], d.scale[a])
    for c in range(n_columns):
        clear(d.shared[:n])
        for a in range(size):
            _turn(n, d.rows[a], d.lean[a], d.scale[a], d.before[a, c], d.within[c], d.shared, d.after[a, c])
        for a in range(size):
            _take_off(n, d.rows[a], d.before[a, c], d.within[c])
        _divide(n, d.within[c], d.left, d.scaled[c])


@apart
def _find_turn(n: int, row: FloatArray, left: FloatArray, lean: FloatArray, scale: FloatArray) -> None:
    for i in range(n):
        lean[i] = row[i] / left[i]
        less = left[i] - row[i] * row[i]
        scale[i] = math.sqrt(left[i] / less)
        left[i] = less


@apart
def _turn(
    n: int,
    row: FloatArray,
    lean: FloatArray,
    scale: FloatArray,
    before: FloatArray,
    image: FloatArray,
    shared: FloatArray,
    after: FloatArray,
) -> None:
    for i in range(n):
        rest = before[i] - row[i] * image[i]
        after[i] = (rest + lean[i] * shared[i]) * scale[i]
        shared[i] += row[i] * rest


@apart
def _take_off(n: int, x: FloatArray, y: FloatArray, out: FloatArray) -> None:
    for i in range(n):
        out[i] -= x[i] * y[i]


@apart
def _divide(n: int, x: FloatArray, y: FloatArray, out: FloatArray) -> None:
    for i in range(n):
        out[i] = x[i] / y[i]


@inner
def _add_within(
    rest: Structure, n: int, b: int, design: FoldPattern, out: FoldResponses, d: Deletions
) -> None:
    """Take the images' products off those within levels."""
    n_fixef, first, within = rest.sizes[1], rest.sizes[6], d.within
    diagonal = rest.sizes[7] - first
    add_column_products(-1.0, n, within[:n_fixef], d.scaled[:n_fixef], diagonal, design.base[first:])
    for i in range(n_fixef + 1):
        out.border[i, b] -= sum_products(0, n, within[i], d.scaled[n_fixef])


@inner
def _add_totals(
    rest: Structure,
    times: float,
    u: FloatArray,
    begin: int,
    end: int,
    which: int,
    b: int,
    design: FoldPattern,
    out: FoldResponses,
) -> None:
    """Add products of some levels' U to the totals of their class, or take them off."""
    n_fixef = rest.sizes[1]
    pair = -1
    for e in range(u.shape[0]):
        for a in range(e, u.shape[0]):
            pair += 1
            total, total_y = design.totals[which, pair], out.totals[which, pair]
            entry = rest.sizes[6]
            for i in range(n_fixef):
                total[rest.sizes[7] + i] += times * _sum_pair(begin, end, u[a], u[e], i, i, a != e)
                for j in range(i + 1, n_fixef):
                    total[entry] += times * _sum_pair(begin, end, u[a], u[e], i, j, a != e)
                    entry += 1
                # The row of y.
                entry += 1
            for i in range(n_fixef + 1):
                total_y[i, b] += times * _sum_pair(begin, end, u[a], u[e], i, n_fixef, a != e)


@inner
def _sum_pair(
    begin: int, end: int, u_a: FloatArray, u_e: FloatArray, i: int, j: int, is_off_diagonal: bool
) -> float:
    """Sum the products of columns i and j; pairs off the diagonal hold both orders."""
    if is_off_diagonal:
        return _sum_both_products(begin, end, u_a[i], u_e[j], u_a[j], u_e[i])  # type: ignore[no-any-return]
    return sum_products(begin, end, u_a[i], u_e[j])  # type: ignore[no-any-return]


@summing
def _sum_both_products(
    begin: int, end: int, x: FloatArray, y: FloatArray, v: FloatArray, z: FloatArray
) -> float:
    total = 0.0
    for i in range(begin, end):
        total += x[i] * y[i] + v[i] * z[i]
    return total
