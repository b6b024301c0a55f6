"""Integrate the first term out, level by level.

Where there are no other terms, several levels are worked on side by side, as lanes are, and each of
these items sums its own levels; otherwise the columns that a level meets say where its products land.
"""

from __future__ import annotations

import math

from blmm_bids.stats.folding import Folding
from blmm_bids.stats.kernels.compiling import apart, inner
from blmm_bids.stats.kernels.fold_lanes import FoldLanes
from blmm_bids.stats.kernels.fold_matrices import add_derivatives, effect_matrices
from blmm_bids.stats.kernels.small import clear_rows
from blmm_bids.stats.model import FloatArray
from blmm_bids.stats.plan_structure import Structure

# Units whose pivots are multiplied before one logarithm is taken: at theta = 1e6 with 1e4 images a
# level a pivot is 1e16, and eight of them stay far from overflow.
PIVOTS_PER_LOG = 8


@inner
def integrate_levels(rest: Structure, fold: Folding, fl: FoldLanes, out: FloatArray) -> None:
    """Add the levels' part of B, dB and the log-determinant; keep v = Y U and H of each.

    Parameters
    ----------
    out : (product, lane)
        B, with the part within levels in it already.
    """
    size = fold.sizes[0]
    n_units = fl.roots.shape[0]
    product, logdet = fl.product, fl.logdet
    for i in range(fl.sums.shape[0]):
        clear_rows(fl.sums[i])
    for w in range(product.size):
        product[w] = 1.0
    units_per_log = max(PIVOTS_PER_LOG // max(size, 1), 1)
    for unit in range(n_units):
        effect_matrices(
            size, fl.roots[unit], fl.theta, fl.half, fl.inverse_root, fl.y[0], fl.h[unit], product
        )
        if unit % units_per_log == units_per_log - 1 or unit == n_units - 1:
            for w in range(product.size):
                logdet[w] += math.log(product[w])
                product[w] = 1.0
        row, n_columns = _rows(rest, fold, unit)
        _rotate(size, n_columns, row, fl.inverse_root, fl.y[0], fl.u, fl.a, fl.v)
        _add_unit(rest, fold, unit, row, n_columns, fl.a, fl.v, fl.sums)
    _sum_items(fl.sums[0], out)
    for i in range(fl.d_stats.shape[0]):
        _sum_items(fl.sums[1 + i], fl.d_stats[i])


@inner
def weigh_levels(rest: Structure, fold: Folding, fl: FoldLanes) -> None:
    """Add the levels' part of the criterion's derivatives in D, once ``stats_grad`` is known."""
    size = fold.sizes[0]
    k = fl.k
    for unit in range(fl.roots.shape[0]):
        row, n_columns = _rows(rest, fold, unit)
        for e in range(size):
            clear_rows(k[e])
        _weigh_unit(rest, fold, unit, row, n_columns, fl.stats_grad, fl.v, k)
        add_derivatives(size, fold.directions, fl.h[unit], k, fl.weights, fl.first, fl.second)


@inner
def _rows(rest: Structure, fold: Folding, unit: int) -> tuple[int, int]:
    """Where a unit's U starts, and its number of columns."""
    n_border = rest.sizes[1] + 1
    row = fold.sizes[0] * (fold.level_ptr[unit] + unit * n_border)
    return row, fold.level_ptr[unit + 1] - fold.level_ptr[unit] + n_border


@apart
def _rotate(
    size: int,
    n_columns: int,
    row: int,
    inverse_root: FloatArray,
    y: FloatArray,
    u: FloatArray,
    a: FloatArray,
    v: FloatArray,
) -> None:
    """Form ``a = R^-1 U`` and ``v = Y U`` of one unit."""
    if size == 2:
        for c in range(n_columns):
            first, second = row + c, row + n_columns + c
            _rotate_two(inverse_root, y, u[first], u[second], a[c], a[n_columns + c], v[first], v[second])
        return
    items = u.shape[1]
    for i in range(size):
        for c in range(n_columns):
            here, there = i * n_columns + c, row + i * n_columns + c
            for w in range(items):
                a[here, w] = inverse_root[i, 0, w] * u[row + c, w]
                v[there, w] = y[i, 0, w] * u[row + c, w]
            for r in range(1, size):
                source = row + r * n_columns + c
                for w in range(items):
                    v[there, w] += y[i, r, w] * u[source, w]
                if r <= i:
                    for w in range(items):
                        a[here, w] += inverse_root[i, r, w] * u[source, w]


@apart
def _rotate_two(
    inverse_root: FloatArray,
    y: FloatArray,
    u: FloatArray,
    u_next: FloatArray,
    a: FloatArray,
    a_next: FloatArray,
    v: FloatArray,
    v_next: FloatArray,
) -> None:
    """One column of two effects."""
    i_a, i_b, i_c = inverse_root[0, 0], inverse_root[1, 0], inverse_root[1, 1]
    y_a, y_b, y_c, y_d = y[0, 0], y[0, 1], y[1, 0], y[1, 1]
    for w in range(u.size):
        first, second = u[w], u_next[w]
        a[w] = i_a[w] * first
        a_next[w] = i_b[w] * first + i_c[w] * second
        v[w] = y_a[w] * first + y_b[w] * second
        v_next[w] = y_c[w] * first + y_d[w] * second


@inner
def _add_unit(
    rest: Structure,
    fold: Folding,
    unit: int,
    row: int,
    n_columns: int,
    a: FloatArray,
    v: FloatArray,
    sums: FloatArray,
) -> None:
    """Add one unit's products to B and dB."""
    size = fold.sizes[0]
    n_border = rest.sizes[1] + 1
    n_met = n_columns - n_border
    if n_met > 0:
        for p in range(fold.value_ptr[unit], fold.value_ptr[unit + 1]):
            _add_product(
                size, n_columns, row, fold.values[p, 1], fold.values[p, 2], fold.values[p, 0], a, v, sums
            )
        for m in range(n_met):
            x = rest.sizes[5] + fold.level_cols[fold.level_ptr[unit] + m] * n_border
            for c in range(n_border):
                _add_product(size, n_columns, row, m, n_met + c, x + c, a, v, sums)
    entry = rest.sizes[6]
    for i in range(n_met, n_columns):
        _add_product(size, n_columns, row, i, i, rest.sizes[7] + i - n_met, a, v, sums)
        for j in range(i + 1, n_columns):
            _add_product(size, n_columns, row, i, j, entry, a, v, sums)
            entry += 1


@apart
def _add_product(
    size: int,
    n_columns: int,
    row: int,
    i: int,
    j: int,
    x: int,
    a: FloatArray,
    v: FloatArray,
    sums: FloatArray,
) -> None:
    """Add the product of columns ``i`` and ``j`` to value ``x`` of B and dB."""
    if size == 2:
        k = n_columns
        _add_two(
            a[i], a[j], a[k + i], a[k + j], v[row + i], v[row + j], v[row + k + i], v[row + k + j],
            sums[0, x], sums[1, x], sums[2, x], sums[3, x],
        )  # fmt: skip
        return
    items = a.shape[1]
    for r in range(size):
        left, right = r * n_columns + i, r * n_columns + j
        for w in range(items):
            sums[0, x, w] += a[left, w] * a[right, w]
    direction = 1
    for e in range(size):
        e_i, e_j = row + e * n_columns + i, row + e * n_columns + j
        for w in range(items):
            sums[direction, x, w] -= v[e_i, w] * v[e_j, w]
        direction += 1
        for d in range(e + 1, size):
            d_i, d_j = row + d * n_columns + i, row + d * n_columns + j
            for w in range(items):
                sums[direction, x, w] -= v[d_i, w] * v[e_j, w] + v[e_i, w] * v[d_j, w]
            direction += 1


@apart
def _add_two(
    a: FloatArray,
    b: FloatArray,
    c: FloatArray,
    d: FloatArray,
    v_i: FloatArray,
    v_j: FloatArray,
    w_i: FloatArray,
    w_j: FloatArray,
    out: FloatArray,
    first: FloatArray,
    both: FloatArray,
    second: FloatArray,
) -> None:
    """Do it for two effects, the most usual number of them, in one loop: to start a loop is what costs.

    ``out += a b + c d``, and off the three directions of their D go the products of v and w.
    """
    for x in range(out.size):
        out[x] += a[x] * b[x] + c[x] * d[x]
        first[x] -= v_i[x] * v_j[x]
        both[x] -= w_i[x] * v_j[x] + v_i[x] * w_j[x]
        second[x] -= w_i[x] * w_j[x]


@inner
def _weigh_unit(
    rest: Structure,
    fold: Folding,
    unit: int,
    row: int,
    n_columns: int,
    gamma: FloatArray,
    v: FloatArray,
    k: FloatArray,
) -> None:
    """Add one unit's ``<df/dB, v v'>``, of which the lower triangle is filled."""
    size = fold.sizes[0]
    n_border = rest.sizes[1] + 1
    n_met = n_columns - n_border
    if n_met > 0:
        for p in range(fold.value_ptr[unit], fold.value_ptr[unit + 1]):
            _weigh_product(
                size, n_columns, row, fold.values[p, 1], fold.values[p, 2], gamma[fold.values[p, 0]], v, k
            )
        for m in range(n_met):
            x = rest.sizes[5] + fold.level_cols[fold.level_ptr[unit] + m] * n_border
            for c in range(n_border):
                _weigh_product(size, n_columns, row, m, n_met + c, gamma[x + c], v, k)
    entry = rest.sizes[6]
    for i in range(n_met, n_columns):
        _weigh_product(size, n_columns, row, i, i, gamma[rest.sizes[7] + i - n_met], v, k)
        for j in range(i + 1, n_columns):
            _weigh_product(size, n_columns, row, i, j, gamma[entry], v, k)
            entry += 1


@apart
def _weigh_product(
    size: int, n_columns: int, row: int, i: int, j: int, gamma: FloatArray, v: FloatArray, k: FloatArray
) -> None:
    """Add the product of columns ``i`` and ``j``, which has the derivative ``gamma``."""
    first, other = row + i, row + j
    if size == 2:
        after = n_columns
        _weigh_two(gamma, v[first], v[other], v[first + after], v[other + after], k[0, 0], k[1, 0], k[1, 1])
        return
    for b in range(size):
        for a in range(b, size):
            a_i, a_j = v[first + a * n_columns], v[other + a * n_columns]
            b_i, b_j = v[first + b * n_columns], v[other + b * n_columns]
            for w in range(gamma.size):
                k[a, b, w] += 0.5 * gamma[w] * (a_i[w] * b_j[w] + a_j[w] * b_i[w])


@apart
def _weigh_two(
    gamma: FloatArray,
    v_i: FloatArray,
    v_j: FloatArray,
    w_i: FloatArray,
    w_j: FloatArray,
    first: FloatArray,
    both: FloatArray,
    second: FloatArray,
) -> None:
    """Do it for two effects, v and w, in one loop."""
    for x in range(gamma.size):
        first[x] += gamma[x] * v_i[x] * v_j[x]
        both[x] += 0.5 * gamma[x] * (w_i[x] * v_j[x] + v_i[x] * w_j[x])
        second[x] += gamma[x] * w_i[x] * w_j[x]


@apart
def _sum_items(sums: FloatArray, out: FloatArray) -> None:
    """Add every item to its lane."""
    lanes = out.shape[1]
    for x in range(out.shape[0]):
        for first in range(0, sums.shape[1], lanes):
            for w in range(lanes):
                out[x, w] += sums[x, first + w]
