"""Integrate a folded term out, class by class of levels with equal Z'Z.

With ``C = (D^-1 + S)^-1``, ``F = I - S C`` and ``H = F S`` of a class (all finite for a singular D),
integrating its effects out leaves ``B = B0 - sum_c <C, T>`` of the products of the other terms, X and y,
where T is the class's sum of U'U. In D::

    d(log|I + S D|) = tr(E_i H)      dB = -<F'E_i F, T>
    d2(log|I + S D|) = -tr(E_i H E_j H)   d2B = <F'(E_i H E_j + E_j H E_i) F, T>
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from blmm_bids.stats.folding import Folding
from blmm_bids.stats.kernels.compiling import inner
from blmm_bids.stats.kernels.criterion import Lanes
from blmm_bids.stats.kernels.small import cholesky
from blmm_bids.stats.model import FloatArray, IntArray
from blmm_bids.stats.plan_structure import Structure


class FoldLanes(NamedTuple):
    """Working arrays of the folded term; the last axis is the lane.

    ``pair`` runs over the elements (a, b), a >= b, of a symmetric matrix of the term's effects, column
    by column, as vech does; ``direction`` over the same elements of D.

    Attributes
    ----------
    base : (product, lane)
        Products of the other terms, X and y.
    totals : (class, pair, product, lane)
        Sums of U'U; off-diagonal pairs hold ``U_a U_b' + U_b U_a'``.
    square : (class, effect, effect, lane)
        S.
    n_levels : (class, lane)
        Levels of each class.
    n_classes : (lane,)
    coefs : (output, pair, lane)
        Weights of one class's totals in B, dB and d2B.
    c, f, h : (effect, effect)
        C, F and H of one class in one lane.
    d_stats, d2_stats : (direction, product, lane), (pair of directions, product, lane)
    logdet, grad, hess : (lane,), (direction, lane), (direction, direction, lane)
        The term's own part of the criterion, then the whole criterion's, in D.
    cross : (direction, theta of the other terms, lane)
    a_entries, a_diag : (direction, entry, lane), (direction, column, lane)
        dA.
    d_border, d_rss : (direction, border, lane), (direction, lane)
    """

    base: FloatArray
    totals: FloatArray
    square: FloatArray
    n_levels: FloatArray
    n_classes: IntArray
    coefs: FloatArray
    c: FloatArray
    f: FloatArray
    h: FloatArray
    d_stats: FloatArray
    d2_stats: FloatArray
    logdet: FloatArray
    grad: FloatArray
    hess: FloatArray
    cross: FloatArray
    a_entries: FloatArray
    a_diag: FloatArray
    d_border: FloatArray
    d_rss: FloatArray


def allocate_fold(rest: Structure, fold: Folding, lanes: int) -> FoldLanes:
    """Zeroed working arrays for ``lanes`` voxels side by side."""
    size, _, most = (int(value) for value in fold.sizes)
    store = int(rest.sizes[8])
    n_fixef = int(rest.sizes[1])
    m = size * (size + 1) // 2
    pairs = m * (m + 1) // 2
    columns = int(rest.sizes[0]) + n_fixef + 1

    def zeros(*shape: int) -> FloatArray:
        return np.zeros((*shape, lanes))

    return FoldLanes(
        base=zeros(store),
        totals=zeros(most, m, store),
        square=zeros(most, size, size),
        n_levels=zeros(most),
        n_classes=np.zeros(lanes, dtype=np.int64),
        coefs=zeros(1 + m + pairs, m),
        c=np.zeros((size, size)),
        f=np.zeros((size, size)),
        h=np.zeros((size, size)),
        d_stats=zeros(m, store),
        d2_stats=zeros(pairs, store),
        logdet=zeros(),
        grad=zeros(m),
        hess=zeros(m, m),
        cross=zeros(m, int(rest.sizes[3])),
        a_entries=zeros(m, rest.row_idx.size),
        a_diag=zeros(m, columns),
        d_border=zeros(m, (n_fixef + 1) * (n_fixef + 2) // 2),
        d_rss=zeros(m),
    )


@inner
def integrate_out(fold: Folding, k: Lanes, kr: Lanes, fl: FoldLanes) -> None:
    """B and its derivatives in D, and the term's own log-determinant and derivatives."""
    size = fold.sizes[0]
    m = size * (size + 1) // 2
    n_outputs = fl.coefs.shape[0]
    lanes = k.value.size
    store = fl.base.shape[0]
    most = 0
    for w in range(lanes):
        most = max(most, fl.n_classes[w])
        fl.logdet[w] = 0.0
        for i in range(m):
            fl.grad[i, w] = 0.0
            for j in range(m):
                fl.hess[i, j, w] = 0.0
    for x in range(store):
        for w in range(lanes):
            kr.stats[x, w] = fl.base[x, w]
    for i in range(m):
        for x in range(store):
            for w in range(lanes):
                fl.d_stats[i, x, w] = 0.0
    for i in range(fl.d2_stats.shape[0]):
        for x in range(store):
            for w in range(lanes):
                fl.d2_stats[i, x, w] = 0.0
    for c in range(most):
        for w in range(lanes):
            _class_matrices(fold, k, fl, c, w)
            _class_coefficients(size, fl, c, w)
        for pair in range(m):
            _accumulate(fl.coefs[0, pair], fl.totals[c, pair], kr.stats)
            for i in range(m):
                _accumulate(fl.coefs[1 + i, pair], fl.totals[c, pair], fl.d_stats[i])
            for i in range(1 + m, n_outputs):
                _accumulate(fl.coefs[i, pair], fl.totals[c, pair], fl.d2_stats[i - 1 - m])


@inner
def _accumulate(coef: FloatArray, total: FloatArray, out: FloatArray) -> None:
    """``out += coef * total`` lane by lane."""
    for x in range(total.shape[0]):
        for w in range(coef.size):
            out[x, w] += coef[w] * total[x, w]


@inner
def _class_matrices(fold: Folding, k: Lanes, fl: FoldLanes, c: int, w: int) -> None:
    """C, F and H of one class, and its log-determinant."""
    size = fold.sizes[0]
    if size == 1:
        s = fl.square[c, 0, 0, w]
        d = k.theta[0, w] * k.theta[0, w]
        one = 1.0 + s * d
        fl.c[0, 0] = d / one
        fl.f[0, 0] = 1.0 / one
        fl.h[0, 0] = s / one
        fl.logdet[w] += fl.n_levels[c, w] * math.log(one)
        return
    # f = L, h = S L, c = chol(I + L'S L); then c = L W^-1 L' column by column.
    for i in range(size):
        for j in range(size):
            t = j * size - j * (j - 1) // 2 + i - j
            fl.f[i, j] = k.theta[t, w] if i >= j else 0.0
    for i in range(size):
        for j in range(size):
            total = 0.0
            for r in range(j, size):
                total += fl.square[c, i, r, w] * fl.f[r, j]
            fl.h[i, j] = total
    for i in range(size):
        for j in range(i + 1):
            total = 1.0 if i == j else 0.0
            for r in range(i, size):
                total += fl.f[r, i] * fl.h[r, j]
            fl.c[i, j] = total
    cholesky(fl.c, size, 0.0)
    logdet = 0.0
    for i in range(size):
        logdet += 2.0 * math.log(fl.c[i, i])
    fl.logdet[w] += fl.n_levels[c, w] * logdet
    # Rows of L solved against the factor: h[i] = R^-1 L' e_i, then C = h h'.
    for i in range(size):
        for r in range(size):
            value = fl.f[i, r]
            for j in range(r):
                value -= fl.c[r, j] * fl.h[i, j]
            fl.h[i, r] = value / fl.c[r, r]
    for i in range(size):
        for j in range(size):
            total = 0.0
            for r in range(size):
                total += fl.h[i, r] * fl.h[j, r]
            fl.c[i, j] = total
    for i in range(size):
        for j in range(size):
            total = 1.0 if i == j else 0.0
            for r in range(size):
                total -= fl.square[c, i, r, w] * fl.c[r, j]
            fl.f[i, j] = total
    for i in range(size):
        for j in range(size):
            total = 0.0
            for r in range(size):
                total += fl.f[i, r] * fl.square[c, r, j, w]
            fl.h[i, j] = total


@inner
def _class_coefficients(size: int, fl: FoldLanes, c: int, w: int) -> None:
    """Weights of the class's totals, and its part of the log-determinant's derivatives."""
    n = fl.n_levels[c, w]
    m = size * (size + 1) // 2
    pair = 0
    for b in range(size):
        for a in range(b, size):
            fl.coefs[0, pair, w] = -fl.c[a, b]
            _direction_coefficients(size, fl, a, b, pair, w)
            pair += 1
    i = 0
    second = 1 + m
    for b in range(size):
        for a in range(b, size):
            fl.grad[i, w] += n * (fl.h[a, b] if a == b else 2.0 * fl.h[a, b])
            j = 0
            for e in range(size):
                for d in range(e, size):
                    if j <= i:
                        # tr(E_i H E_j H) with E_ab = e_a e_b' + e_b e_a' off the diagonal.
                        trace = fl.h[b, d] * fl.h[e, a]
                        if a != b:
                            trace += fl.h[a, d] * fl.h[e, b]
                        if d != e:
                            trace += fl.h[b, e] * fl.h[d, a]
                        if a != b and d != e:
                            trace += fl.h[a, e] * fl.h[d, b]
                        fl.hess[i, j, w] -= n * trace
                        _second_coefficients(size, fl, a, b, d, e, second, w)
                        second += 1
                    j += 1
            i += 1


@inner
def _direction_coefficients(size: int, fl: FoldLanes, x: int, y: int, pair: int, w: int) -> None:
    """``-(F'E_i F)[x, y]`` for all directions i."""
    i = 0
    for b in range(size):
        for a in range(b, size):
            value = fl.f[a, x] * fl.f[b, y]
            if a != b:
                value += fl.f[b, x] * fl.f[a, y]
            fl.coefs[1 + i, pair, w] = -value
            i += 1


@inner
def _second_coefficients(
    size: int, fl: FoldLanes, a: int, b: int, d: int, e: int, output: int, w: int
) -> None:
    """``(F'(E_i H E_j + E_j H E_i)F)[x, y]`` for one pair of directions (a, b), (d, e)."""
    pair = 0
    for y in range(size):
        for x in range(y, size):
            value = 0.0
            for turn in range(2):
                # e_a e_b' H e_d e_e' and its mirrors, seen from x and from y.
                p, q = (x, y) if turn == 0 else (y, x)
                value += fl.f[a, p] * fl.h[b, d] * fl.f[e, q]
                if a != b:
                    value += fl.f[b, p] * fl.h[a, d] * fl.f[e, q]
                if d != e:
                    value += fl.f[a, p] * fl.h[b, e] * fl.f[d, q]
                if a != b and d != e:
                    value += fl.f[b, p] * fl.h[a, e] * fl.f[d, q]
            fl.coefs[output, pair, w] = value
            pair += 1
