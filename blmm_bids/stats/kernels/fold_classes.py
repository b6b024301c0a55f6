"""Integrate the first term out, class by class of levels with equal Z'Z."""

from __future__ import annotations

import math

from blmm_bids.stats.folding import Folding
from blmm_bids.stats.kernels.compiling import apart, inner
from blmm_bids.stats.kernels.fold_lanes import FoldLanes
from blmm_bids.stats.kernels.fold_matrices import add_derivatives, effect_matrices
from blmm_bids.stats.model import FloatArray, IntArray


@inner
def integrate_classes(fold: Folding, fl: FoldLanes, out: FloatArray) -> None:
    """Add the classes' part of B, dB and the log-determinant; keep Y and H of each.

    Parameters
    ----------
    out : (product, lane)
        B, with the part within levels in it already.
    """
    size = fold.sizes[0]
    product, logdet, n_levels, d_stats = fl.product, fl.logdet, fl.n_levels, fl.d_stats
    for c in range(_most_classes(fl)):
        for w in range(product.size):
            product[w] = 1.0
        effect_matrices(size, fl.roots[c], fl.theta, fl.half, fl.inverse_root, fl.y[c], fl.h[c], product)
        for w in range(product.size):
            logdet[w] += n_levels[c, w] * math.log(product[w])
        pair = 0
        for b in range(size):
            for a in range(b, size):
                if _has_column(fl.roots[c], a) and _has_column(fl.roots[c], b):
                    total = fl.totals[c, pair]
                    _inverse_element(fl.inverse_root, a, b, product)
                    _accumulate(product, total, out)
                    for i in range(d_stats.shape[0]):
                        _projected_element(fold.directions, i, fl.y[c], a, b, product)
                        _accumulate(product, total, d_stats[i])
                pair += 1


@inner
def weigh_classes(fold: Folding, fl: FoldLanes) -> None:
    """Add the classes' part of the criterion's derivatives in D, once ``stats_grad`` is known."""
    size = fold.sizes[0]
    k, half, weights, product, n_levels = fl.k, fl.half, fl.weights, fl.product, fl.n_levels
    for c in range(_most_classes(fl)):
        y = fl.y[c]
        pair = 0
        for b in range(size):
            for a in range(b, size):
                for w in range(product.size):
                    product[w] = 0.0
                if _has_column(fl.roots[c], a) and _has_column(fl.roots[c], b):
                    _add_inner_product(fl.stats_grad, fl.totals[c, pair], product)
                # Off-diagonal totals hold both orders.
                times = 1.0 if a == b else 0.5
                for w in range(product.size):
                    k[a, b, w] = times * product[w]
                    k[b, a, w] = times * product[w]
                pair += 1
        # K = Y (...) Y'.
        for i in range(size):
            for j in range(size):
                for w in range(product.size):
                    half[i, j, w] = 0.0
                for r in range(size):
                    for w in range(product.size):
                        half[i, j, w] += y[i, r, w] * k[r, j, w]
        for i in range(size):
            for j in range(i + 1):
                for w in range(product.size):
                    k[i, j, w] = 0.0
                for r in range(size):
                    for w in range(product.size):
                        k[i, j, w] += half[i, r, w] * y[j, r, w]
        for w in range(product.size):
            product[w] = weights[w] * n_levels[c, w]
        add_derivatives(size, fold.directions, fl.h[c], k, product, fl.first, fl.second)


@inner
def _most_classes(fl: FoldLanes) -> int:
    most = 0
    for n in fl.n_classes:
        most = max(most, n)
    return most


@apart
def _inverse_element(inverse_root: FloatArray, a: int, b: int, out: FloatArray) -> None:
    """Element (a, b), a >= b, of ``W^-1 = R'^-1 R^-1``."""
    for w in range(out.size):
        out[w] = 0.0
    for r in range(a, inverse_root.shape[0]):
        for w in range(out.size):
            out[w] += inverse_root[r, a, w] * inverse_root[r, b, w]


@inner
def _has_column(root: FloatArray, b: int) -> bool:
    """Whether column b of G is more than zeros in some lane: where it is not, U has no row b."""
    for a in range(root.shape[0]):
        for w in range(root.shape[2]):
            if root[a, b, w] != 0.0:
                return True
    return False


@apart
def _projected_element(
    directions: IntArray, direction: int, y: FloatArray, a: int, b: int, out: FloatArray
) -> None:
    """Element (a, b) of ``-Y'EY`` for a direction of D."""
    for w in range(out.size):
        out[w] = 0.0
    i = 0
    for e in range(y.shape[0]):
        for d in range(e, y.shape[0]):
            if directions[i] == direction:
                for w in range(out.size):
                    out[w] -= y[d, a, w] * y[e, b, w]
                if d != e:
                    for w in range(out.size):
                        out[w] -= y[e, a, w] * y[d, b, w]
            i += 1


@apart
def _accumulate(coef: FloatArray, total: FloatArray, out: FloatArray) -> None:
    """``out += coef * total`` lane by lane."""
    for x in range(total.shape[0]):
        for w in range(coef.size):
            out[x, w] += coef[w] * total[x, w]


@apart
def _add_inner_product(a: FloatArray, b: FloatArray, out: FloatArray) -> None:
    """``out += sum_x a[x] b[x]`` lane by lane."""
    for x in range(a.shape[0]):
        for w in range(out.size):
            out[w] += a[x, w] * b[x, w]
