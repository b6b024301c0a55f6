"""Working arrays of the term that is integrated out."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from blmm_bids.stats.folding import Folding
from blmm_bids.stats.model import FloatArray, IntArray
from blmm_bids.stats.plan_structure import Structure

# A lane's pattern where that is one voxel's own, or was changed in the lane.
NOBODYS = -1


class FoldLanes(NamedTuple):
    """Products and working arrays of the first term.

    A ``unit`` is a class of levels with equal Z'Z, or else a group of levels that are worked on side by side,
    as lanes are; an ``item`` is a lane, or a level of the group and a lane. ``pair`` runs over
    the elements (a, b), a >= b, of a symmetric matrix of a level's effects, column by column, as vech does;
    ``direction`` over the elements of D: the same ones, but where two terms are integrated out together.

    Attributes
    ----------
    base : (product, lane)
        Products of the other terms, X and y within levels.
    plain : (border, lane)
        [X y]'[X y].
    roots : (unit, effect, effect, item)
        G.
    totals : (class, pair, product, lane)
        Sums of UU'; off-diagonal pairs hold ``U_a U_b' + U_b U_a'``.
    n_levels : (class, lane)
        Levels of each class.
    n_classes : (lane,)
    pattern : (lane,)
        Whose products with X the lane holds; see `store_voxel`.
    u, v : (level x effect x column, item)
        U and ``G W^-1 U``.
    y, h : (unit, effect, effect, item)
        ``G W^-1`` and ``G W^-1 G'``.
    inverse_root, half, k : (effect, effect, item)
        ``R^-1`` where ``W = R R'``; scratch; ``<df/dB, vv'>``.
    a : (effect x column, item)
        ``R^-1 U`` of one unit.
    product, logdet : (item,)
        Product of pivots, and the term's log-determinant.
    theta, weights : (pair, item), (item,)
        Factor of a level's D and the weight of the log-determinant.
    stats_grad : (product, item)
        Derivative of the criterion in B.
    sums : (1 + direction, product, item)
        B and dB as they are summed.
    first, second : (direction, item), (two directions, item)
        Derivatives of the criterion in D as they are summed.
    d_stats : (direction, product, lane)
        dB.
    grad, hess : (direction, lane), (direction, direction, lane)
        Derivatives of the whole criterion in D.
    cross : (direction, theta of the other terms, lane)
    a_entries, a_diag : (direction, entry, lane), (direction, column, lane)
        dA.
    d_border, d_rss : (direction, border, lane), (direction, lane)
    moments : (2, effect, effect)
        Scratch of one lane.
    """

    base: FloatArray
    plain: FloatArray
    roots: FloatArray
    totals: FloatArray
    n_levels: FloatArray
    n_classes: IntArray
    pattern: IntArray
    u: FloatArray
    v: FloatArray
    y: FloatArray
    h: FloatArray
    inverse_root: FloatArray
    half: FloatArray
    k: FloatArray
    a: FloatArray
    product: FloatArray
    logdet: FloatArray
    theta: FloatArray
    weights: FloatArray
    stats_grad: FloatArray
    sums: FloatArray
    first: FloatArray
    second: FloatArray
    d_stats: FloatArray
    grad: FloatArray
    hess: FloatArray
    cross: FloatArray
    a_entries: FloatArray
    a_diag: FloatArray
    d_border: FloatArray
    d_rss: FloatArray
    moments: FloatArray


def allocate_fold(rest: Structure, fold: Folding, lanes: int) -> FoldLanes:
    """Zeroed working arrays for ``lanes`` voxels side by side."""
    size, n_levels, most, group = (int(value) for value in fold.sizes)
    store, n_fixef = int(rest.sizes[8]), int(rest.sizes[1])
    n_pairs, m = fold.directions.size, int(fold.directions.max(initial=-1)) + 1
    n_second = m * (m + 1) // 2
    columns = int(rest.sizes[0]) + n_fixef + 1
    n_border = (n_fixef + 1) * (n_fixef + 2) // 2
    n_units = most if most else -(-n_levels // group)
    met = np.diff(fold.level_ptr)
    rows = 0 if most else size * (int(fold.level_cols.size) + n_units * (n_fixef + 1))
    widest = 0 if most else int(met.max(initial=0)) + n_fixef + 1

    def zeros(*shape: int) -> FloatArray:
        return np.zeros((*shape, lanes))

    def items(*shape: int) -> FloatArray:
        return np.zeros((*shape, lanes * group))

    return FoldLanes(
        base=zeros(store),
        plain=zeros(n_border),
        roots=items(n_units, size, size),
        totals=zeros(most, n_pairs, store),
        n_levels=zeros(most),
        n_classes=np.zeros(lanes, dtype=np.int64),
        pattern=np.full(lanes, NOBODYS),
        u=items(rows),
        v=items(rows),
        y=items(n_units if most else 1, size, size),
        h=items(n_units, size, size),
        inverse_root=items(size, size),
        half=items(size, size),
        k=items(size, size),
        a=items(size * widest),
        product=items(),
        logdet=items(),
        theta=items(n_pairs),
        weights=items(),
        stats_grad=items(store),
        sums=items(1 + m, store),
        first=items(m),
        second=items(n_second),
        d_stats=zeros(m, store),
        grad=zeros(m),
        hess=zeros(m, m),
        cross=zeros(m, int(rest.sizes[3])),
        a_entries=zeros(m, rest.row_idx.size),
        a_diag=zeros(m, columns),
        d_border=zeros(m, n_border),
        d_rss=zeros(m),
        moments=np.zeros((2, size, size)),
    )
