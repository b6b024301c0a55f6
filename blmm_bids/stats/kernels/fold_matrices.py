"""Small matrices of a unit of levels, in every item.

With a level's effects ``Z = B G'``, B orthonormal within the level, and ``W = I + G'DG``, integrating them
out leaves ``B_within + sum U'W^-1 U`` of the products of the other columns (``U = B'[Z_rest X y]``), and
``log|I + Z'Z D| = log|W|``. In D, with ``Y = G W^-1`` and ``H = G W^-1 G'``::

    d(log|W|) = tr(E_i H)              dB = -U'Y'E_i Y U
    d2(log|W|) = -tr(E_i H E_j H)      d2B = U'Y'(E_i H E_j + E_j H E_i) Y U

All are finite for a singular D or G, and none is a difference of large numbers.
"""

from __future__ import annotations

import math

from blmm_bids.stats.kernels.compiling import apart, inner
from blmm_bids.stats.kernels.small import clear
from blmm_bids.stats.model import FloatArray, IntArray


@apart
def effect_matrices(
    size: int,
    root: FloatArray,
    theta: FloatArray,
    half: FloatArray,
    inverse_root: FloatArray,
    y: FloatArray,
    h: FloatArray,
    product: FloatArray,
) -> None:
    """``R^-1`` of ``W = R R'``, Y and H of one unit; multiply ``product`` by the pivots of W.

    Parameters
    ----------
    root : (effect, effect, item)
        G.
    theta : (theta, item)
        Lower triangle of the factor of D.
    half : (effect, effect, item)
        Scratch.
    """
    if size == 2:
        _matrices_of_two(root, theta, inverse_root, y, h, product)
        return
    items = product.size
    for i in range(size):
        for j in range(size):
            clear(half[i, j])
            for r in range(i, size):
                t = theta[lower_place(size, r, i)]
                for w in range(items):
                    half[i, j, w] += t[w] * root[r, j, w]
    for i in range(size):
        for j in range(i + 1):
            for w in range(items):
                y[i, j, w] = 1.0 if i == j else 0.0
            for r in range(size):
                for w in range(items):
                    y[i, j, w] += half[r, i, w] * half[r, j, w]
    _factor_in_place(size, y, product)
    _invert_lower(size, y, inverse_root)
    # half = G R'^-1, then H and Y.
    for i in range(size):
        for j in range(size):
            clear(half[i, j])
            for r in range(j + 1):
                for w in range(items):
                    half[i, j, w] += root[i, r, w] * inverse_root[j, r, w]
    for i in range(size):
        for j in range(size):
            clear(h[i, j])
            clear(y[i, j])
            for r in range(size):
                for w in range(items):
                    h[i, j, w] += half[i, r, w] * half[j, r, w]
            for r in range(j, size):
                for w in range(items):
                    y[i, j, w] += half[i, r, w] * inverse_root[r, j, w]


@apart
def _matrices_of_two(
    root: FloatArray,
    theta: FloatArray,
    inverse_root: FloatArray,
    y: FloatArray,
    h: FloatArray,
    product: FloatArray,
) -> None:
    """`effect_matrices` of the most usual number of effects, in one loop: starting loops is what costs."""
    t_a, t_b, t_c = theta[0], theta[1], theta[2]
    g_a, g_b, g_c, g_d = root[0, 0], root[0, 1], root[1, 0], root[1, 1]
    inverse_a, inverse_b, inverse_c = inverse_root[0, 0], inverse_root[1, 0], inverse_root[1, 1]
    y_a, y_b, y_c, y_d = y[0, 0], y[0, 1], y[1, 0], y[1, 1]
    h_a, h_b, h_c, h_d = h[0, 0], h[0, 1], h[1, 0], h[1, 1]
    for w in range(product.size):
        # L'G, and W.
        half_a = t_a[w] * g_a[w] + t_b[w] * g_c[w]
        half_b = t_a[w] * g_b[w] + t_b[w] * g_d[w]
        half_c = t_c[w] * g_c[w]
        half_d = t_c[w] * g_d[w]
        first = 1.0 + half_a * half_a + half_c * half_c
        between = half_a * half_b + half_c * half_d
        second = 1.0 + half_b * half_b + half_d * half_d
        # R^-1.
        i_a = 1.0 / math.sqrt(first)
        below = between * i_a
        pivot = second - below * below
        i_c = 1.0 / math.sqrt(pivot)
        i_b = -below * i_a * i_c
        product[w] *= first * pivot
        inverse_a[w], inverse_b[w], inverse_c[w] = i_a, i_b, i_c
        # G R'^-1, H and Y.
        half_a = g_a[w] * i_a
        half_b = g_a[w] * i_b + g_b[w] * i_c
        half_c = g_c[w] * i_a
        half_d = g_c[w] * i_b + g_d[w] * i_c
        h_a[w] = half_a * half_a + half_b * half_b
        h_b[w] = half_a * half_c + half_b * half_d
        h_c[w] = half_a * half_c + half_b * half_d
        h_d[w] = half_c * half_c + half_d * half_d
        y_a[w] = half_a * i_a + half_b * i_b
        y_b[w] = half_b * i_c
        y_c[w] = half_c * i_a + half_d * i_b
        y_d[w] = half_d * i_c


@inner
def lower_place(size: int, row: int, col: int) -> int:
    """Place of element (row, col) of a lower triangle stored column by column; either order."""
    high, low = max(row, col), min(row, col)
    return low * size - low * (low - 1) // 2 + high - low


@apart
def add_derivatives(
    size: int,
    directions: IntArray,
    h: FloatArray,
    k: FloatArray,
    weights: FloatArray,
    first: FloatArray,
    second: FloatArray,
) -> None:
    """Add one unit's part of the criterion's derivatives in D.

    Parameters
    ----------
    directions : (pair of effects,)
        See `Folding`.
    h : (effect, effect, item)
    k : (effect, effect, item)
        ``<df/dB, v v'>``, of which the lower triangle is read; scratch then.
    weights : (item,)
        Of the log-determinant, times the levels that the unit stands for.
    first, second : (direction, item), (pair of directions, item)
        ``tr(E_i (weight H - K))`` and ``tr(E_i H E_j (2 K - weight H))`` are added.
    """
    items = weights.size
    if size == 2 and directions[1] == 1:
        _add_derivatives_of_two(
            h[0, 0], h[1, 0], h[1, 1], k[0, 0], k[1, 0], k[1, 1], weights, first[0], first[1], first[2],
            second[0], second[1], second[2], second[3], second[4], second[5],
        )  # fmt: skip
        return
    i = 0
    for b in range(size):
        for a in range(b, size):
            times = 1.0 if a == b else 2.0
            if directions[i] >= 0:
                total = first[directions[i]]
                for w in range(items):
                    total[w] += times * (weights[w] * h[a, b, w] - k[a, b, w])
            i += 1
    for a in range(size):
        for b in range(a + 1):
            for w in range(items):
                k[a, b, w] = 2.0 * k[a, b, w] - weights[w] * h[a, b, w]
                k[b, a, w] = k[a, b, w]
    i = 0
    for b in range(size):
        for a in range(b, size):
            j = 0
            for e in range(size):
                for d in range(e, size):
                    if 0 <= directions[j] <= directions[i]:
                        total = second[directions[i] * (directions[i] + 1) // 2 + directions[j]]
                        # E_ab is e_a e_b' + e_b e_a' off the diagonal.
                        _add_trace(h[b, d], k[e, a], total)
                        if a != b:
                            _add_trace(h[a, d], k[e, b], total)
                        if d != e:
                            _add_trace(h[b, e], k[d, a], total)
                        if a != b and d != e:
                            _add_trace(h[a, e], k[d, b], total)
                    j += 1
            i += 1


@apart
def _add_derivatives_of_two(
    h_a: FloatArray,
    h_b: FloatArray,
    h_c: FloatArray,
    k_a: FloatArray,
    k_b: FloatArray,
    k_c: FloatArray,
    weights: FloatArray,
    first_a: FloatArray,
    first_b: FloatArray,
    first_c: FloatArray,
    second_aa: FloatArray,
    second_ba: FloatArray,
    second_bb: FloatArray,
    second_ca: FloatArray,
    second_cb: FloatArray,
    second_cc: FloatArray,
) -> None:
    """Add those of two correlated effects, whose D has the elements a, b and c, in one loop."""
    for w in range(weights.size):
        h_0, h_1, h_2 = h_a[w], h_b[w], h_c[w]
        own_0, own_1, own_2 = weights[w] * h_0, weights[w] * h_1, weights[w] * h_2
        k_0, k_1, k_2 = k_a[w], k_b[w], k_c[w]
        first_a[w] += own_0 - k_0
        first_b[w] += 2.0 * (own_1 - k_1)
        first_c[w] += own_2 - k_2
        m_0, m_1, m_2 = 2.0 * k_0 - own_0, 2.0 * k_1 - own_1, 2.0 * k_2 - own_2
        second_aa[w] += h_0 * m_0
        second_ba[w] += h_0 * m_1 + h_1 * m_0
        second_bb[w] += 2.0 * h_1 * m_1 + h_2 * m_0 + h_0 * m_2
        second_ca[w] += h_1 * m_1
        second_cb[w] += h_2 * m_1 + h_1 * m_2
        second_cc[w] += h_2 * m_2


@apart
def _add_trace(h: FloatArray, k: FloatArray, out: FloatArray) -> None:
    for w in range(out.size):
        out[w] += h[w] * k[w]


@apart
def _factor_in_place(size: int, a: FloatArray, product: FloatArray) -> None:
    """Lower Cholesky factor of I + a semi-definite matrix, in every item."""
    items = product.size
    for j in range(size):
        for c in range(j):
            for w in range(items):
                a[j, j, w] -= a[j, c, w] * a[j, c, w]
        for w in range(items):
            product[w] *= a[j, j, w]
            a[j, j, w] = math.sqrt(a[j, j, w])
        for i in range(j + 1, size):
            for c in range(j):
                for w in range(items):
                    a[i, j, w] -= a[i, c, w] * a[j, c, w]
            for w in range(items):
                a[i, j, w] /= a[j, j, w]


@apart
def _invert_lower(size: int, a: FloatArray, out: FloatArray) -> None:
    """Inverse of a lower triangular matrix in every item; nothing above the diagonal is written."""
    items = a.shape[2]
    for j in range(size):
        for w in range(items):
            out[j, j, w] = 1.0 / a[j, j, w]
        for i in range(j + 1, size):
            clear(out[i, j])
            for c in range(j, i):
                for w in range(items):
                    out[i, j, w] -= a[i, c, w] * out[c, j, w]
            for w in range(items):
                out[i, j, w] /= a[i, i, w]
