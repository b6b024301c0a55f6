"""Products of a batch of responses with the levels of the first term, and a lane's share of them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from blmm_bids.stats.folding import Folding
from blmm_bids.stats.kernels.compiling import apart, inner
from blmm_bids.stats.kernels.fold_lanes import NOBODYS, FoldLanes
from blmm_bids.stats.kernels.fold_products import FoldPattern, has_columns
from blmm_bids.stats.kernels.products import Pattern, Responses
from blmm_bids.stats.kernels.small import clear_columns
from blmm_bids.stats.model import FloatArray
from blmm_bids.stats.plan_structure import Structure


class FoldResponses(NamedTuple):
    """Products of a batch of responses; the last axis is the column.

    Attributes
    ----------
    level : (level x effect, column)
        U of y.
    rest : (ranef of the other terms, column)
        Their products with y within levels.
    border : (fixef + 1, column)
        Q'y and y'y within levels.
    totals : (class, pair, ranef of the other terms and fixef + 1, column)
        Part of the classes' totals that y has.
    """

    level: FloatArray
    rest: FloatArray
    border: FloatArray
    totals: FloatArray


def allocate_fold_responses(rest: Structure, fold: Folding, columns: int) -> FoldResponses:
    """Zeroed products for a batch of voxels."""
    size, n_levels, most, _ = (int(value) for value in fold.sizes)
    n_ranef, n_border = int(rest.sizes[0]), int(rest.sizes[1]) + 1
    return FoldResponses(
        level=np.zeros((size * n_levels, columns)),
        rest=np.zeros((n_ranef, columns)),
        border=np.zeros((n_border, columns)),
        totals=np.zeros((most, fold.directions.size, n_ranef + n_border, columns)),
    )


@inner
def project_responses(
    rest: Structure,
    fold: Folding,
    pattern: Pattern,
    design: FoldPattern,
    n_columns: int,
    r: Responses,
    out: FoldResponses,
) -> None:
    """Products of a batch of responses; its values are what is left of them within levels then.

    Parameters
    ----------
    out : FoldResponses
        ``rest`` holds the products of the other terms' effects; what levels share with them is taken off.
    """
    size, n_fixef = fold.sizes[0], rest.sizes[1]
    values, level_y, border = r.values, out.level, out.border
    basis, within, n_present = design.basis, design.within, pattern.n_present[0]
    clear_columns(level_y, n_columns)
    clear_columns(border, n_columns)
    for i in range(n_present):
        for a in range(size):
            row = fold.obs_level[pattern.present[i]] * size + a
            z = basis[pattern.present[i], a]
            if z != 0.0:
                _add_columns(z, values[i], 0, n_columns, level_y[row])
    for i in range(n_present):
        for a in range(size):
            row = fold.obs_level[pattern.present[i]] * size + a
            z = basis[pattern.present[i], a]
            if z != 0.0:
                _add_columns(-z, level_y[row], 0, n_columns, values[i])
        for j in range(n_fixef):
            x = within[pattern.present[i], j]
            for b in range(n_columns):
                border[j, b] += x * values[i, b]
        for b in range(n_columns):
            border[n_fixef, b] += values[i, b] * values[i, b]


@inner
def total_responses(
    rest: Structure, fold: Folding, design: FoldPattern, n_columns: int, out: FoldResponses
) -> None:
    """Add up what levels share with a batch of responses, and take it off the other terms' products."""
    # Classes too that none of these levels is in: a level with gaps may be.
    for c in range(out.totals.shape[0]):
        for pair in range(out.totals.shape[1]):
            clear_columns(out.totals[c, pair], n_columns)
    for level in range(fold.sizes[1]):
        add_responses(rest, fold, level, 0, n_columns, design, out)


@inner
def add_responses(
    rest: Structure, fold: Folding, level: int, begin: int, end: int, design: FoldPattern, out: FoldResponses
) -> None:
    """Add what one level shares with responses to its class, and take it off the other terms' products.

    Parameters
    ----------
    begin, end : int
        Columns of ``out``.
    """
    size, n_fixef, n_ranef = fold.sizes[0], rest.sizes[1], rest.sizes[0]
    start, last = fold.level_ptr[level], fold.level_ptr[level + 1]
    met, fixef, c = design.met, design.fixef[level], design.class_of[level]
    pair = -1
    for e in range(size):
        y_e = out.level[level * size + e]
        for m in range(start, last):
            _add_columns(-met[m, e], y_e, begin, end, out.rest[fold.level_cols[m]])
        for a in range(e, size):
            pair += 1
            if c < 0 or not has_columns(design.root[level], a, e):
                continue
            total, y_a = out.totals[c, pair], out.level[level * size + a]
            for m in range(start, last):
                _add_columns(met[m, a], y_e, begin, end, total[fold.level_cols[m]])
                if a != e:
                    _add_columns(met[m, e], y_a, begin, end, total[fold.level_cols[m]])
            for i in range(n_fixef):
                _add_columns(fixef[e, i], y_a, begin, end, total[n_ranef + i])
                if a != e:
                    _add_columns(fixef[a, i], y_e, begin, end, total[n_ranef + i])
            square = total[n_ranef + n_fixef]
            # Off-diagonal pairs hold both orders.
            times = 1.0 if a == e else 2.0
            for column in range(begin, end):
                square[column] += times * y_a[column] * y_e[column]


@apart
def _add_columns(times: float, x: FloatArray, begin: int, end: int, out: FloatArray) -> None:
    for column in range(begin, end):
        out[column] += times * x[column]


@inner
def store_voxel(
    rest: Structure,
    fold: Folding,
    plain_products: FloatArray,
    design: FoldPattern,
    responses: FoldResponses,
    square: float,
    pattern: int,
    b: int,
    w: int,
    fl: FoldLanes,
) -> None:
    """Write column ``b`` of a batch into lane ``w``.

    Parameters
    ----------
    pattern : int
        A name of ``design``, or `NOBODYS`: a lane that holds its products already is given those of y.
    plain_products : (border,)
        Q'Q, packed.
    square : float
        y'y.
    """
    n_fixef = rest.sizes[1]
    n_border = n_fixef + 1
    base, plain = fl.base, fl.plain
    is_new = pattern == NOBODYS or fl.pattern[w] != pattern
    fl.pattern[w] = pattern
    # 1. Products within levels, and those of [X y] as they are.
    if is_new:
        for x in range(base.shape[0]):
            base[x, w] = design.base[x]
        for x in range(plain.shape[0]):
            plain[x, w] = plain_products[x]
    for col in range(rest.sizes[0]):
        base[rest.sizes[5] + col * n_border + n_fixef, w] = responses.rest[col, b]
    plain[plain.shape[0] - 1, w] = square
    entry = rest.sizes[6]
    for i in range(n_fixef):
        entry += n_fixef - i - 1
        base[entry, w] = responses.border[i, b]
        entry += 1
    base[base.shape[0] - 1, w] = responses.border[n_fixef, b]
    # 2. Those of the levels.
    if fold.sizes[2] > 0:
        if is_new:
            _store_classes(fold.sizes[0], design, w, fl)
        _store_totals(rest, design.n_classes[0], responses, b, w, fl)
    else:
        _store_levels(rest, fold, design, responses, is_new, b, w, fl)


@inner
def _store_classes(size: int, design: FoldPattern, w: int, fl: FoldLanes) -> None:
    """Classes and their totals; classes that the lane's last voxel had and this one lacks are zeroed."""
    n_classes, roots, totals = design.n_classes[0], fl.roots, fl.totals
    for c in range(max(n_classes, fl.n_classes[w])):
        fl.n_levels[c, w] = design.class_levels[c] if c < n_classes else 0.0
        for i in range(size):
            for j in range(size):
                roots[c, i, j, w] = design.class_root[c, i, j] if c < n_classes else 0.0
        for pair in range(totals.shape[1]):
            for x in range(totals.shape[2]):
                totals[c, pair, x, w] = design.totals[c, pair, x] if c < n_classes else 0.0
    fl.n_classes[w] = n_classes


@inner
def _store_totals(
    rest: Structure, n_classes: int, responses: FoldResponses, b: int, w: int, fl: FoldLanes
) -> None:
    """Store the products of the totals with y."""
    n_fixef, n_ranef, totals = rest.sizes[1], rest.sizes[0], fl.totals
    for c in range(n_classes):
        for pair in range(totals.shape[1]):
            mine = responses.totals[c, pair]
            for col in range(n_ranef):
                totals[c, pair, rest.sizes[5] + col * (n_fixef + 1) + n_fixef, w] = mine[col, b]
            entry = rest.sizes[6]
            for i in range(n_fixef):
                entry += n_fixef - i
                totals[c, pair, entry - 1, w] = mine[n_ranef + i, b]
            totals[c, pair, rest.sizes[7] + n_fixef, w] = mine[n_ranef + n_fixef, b]


@inner
def _store_levels(
    rest: Structure,
    fold: Folding,
    design: FoldPattern,
    responses: FoldResponses,
    is_new: bool,
    b: int,
    w: int,
    fl: FoldLanes,
) -> None:
    """G and U of each level; of a pattern that is not new, y's part and G, whose effects may be reordered."""
    size, group, n_fixef, lanes = fold.sizes[0], fold.sizes[3], rest.sizes[1], fl.base.shape[1]
    roots, u = fl.roots, fl.u
    for level in range(fold.sizes[1]):
        unit = level // group
        item = (level - unit * group) * lanes + w
        n_met = fold.level_ptr[level + 1] - fold.level_ptr[level]
        n_columns = n_met + n_fixef + 1
        row = size * (fold.level_ptr[unit] + unit * (n_fixef + 1))
        for a in range(size):
            for c in range(size):
                roots[unit, a, c, item] = design.root[level, a, c]
            if is_new:
                for m in range(n_met):
                    u[row + a * n_columns + m, item] = design.met[fold.level_ptr[level] + m, a]
                for i in range(n_fixef):
                    u[row + a * n_columns + n_met + i, item] = design.fixef[level, a, i]
            u[row + (a + 1) * n_columns - 1, item] = responses.level[level * size + a, b]
