"""The criterion: the first term is integrated out, the others are factorised.

What `integrate_classes` or `integrate_levels` leaves of the products of the other terms, X and y takes the
place of the products in the criterion of the terms that are left; the chain rule brings its derivatives back
to the first term's D, and from there to theta.
"""

from __future__ import annotations

from blmm_bids.stats.folding import Folding
from blmm_bids.stats.kernels.assembly import assemble, contract, spread
from blmm_bids.stats.kernels.cholesky import adjoint
from blmm_bids.stats.kernels.compiling import apart, inner, kernel
from blmm_bids.stats.kernels.criterion import (
    Factors,
    Lanes,
    factor_tangent,
    factorise_products,
    hessian_in_theta,
)
from blmm_bids.stats.kernels.fold_classes import integrate_classes, weigh_classes
from blmm_bids.stats.kernels.fold_lanes import FoldLanes
from blmm_bids.stats.kernels.fold_levels import integrate_levels, weigh_levels
from blmm_bids.stats.kernels.fold_matrices import lower_place
from blmm_bids.stats.kernels.small import clear, clear_rows, copy, copy_rows
from blmm_bids.stats.model import FloatArray
from blmm_bids.stats.plan_structure import Structure


@kernel
def evaluate(rest: Structure, fold: Folding, k: Lanes, kr: Factors, fl: FoldLanes) -> None:
    """``value = sum_j w_j log d_j`` at ``theta``, its gradient and Hessian (lower triangle), in every lane.

    With weights (1, 1, n - p) the value is the profiled REML deviance up to a constant, with
    (1, 0, n) that of ML, with (1, 1, 0) it is ``log|V| + log|X'V^-1X|``, whose Hessian is the
    expected information.

    Parameters
    ----------
    rest, fold : Structure, Folding
    k : Lanes
        Input and output.
    kr : Factors
        Working arrays of the other terms.
    fl : FoldLanes
        Working arrays of the first term.
    """
    # 1. Integrate the first term out.
    _start(fold, k, kr, fl)
    if fold.sizes[2] > 0:
        integrate_classes(fold, fl, kr.stats)
    else:
        integrate_levels(rest, fold, fl, kr.stats)
    # 2. The criterion of the other terms at the products that are left.
    factorise_products(rest, kr)
    adjoint(rest, kr.entries, kr.diag, kr.weights, kr.g_entries, kr.g_diag, kr.u)
    if rest.sizes[3] > 0:
        contract(rest, kr.stats, kr.theta, kr.g_entries, kr.g_diag, kr.grad, kr.right)
        hessian_in_theta(rest, kr)
    # 3. Derivatives in the first term's D.
    spread(rest, kr.theta, kr.g_entries, kr.g_diag, fl.stats_grad)
    if fold.sizes[2] > 0:
        weigh_classes(fold, fl)
    else:
        weigh_levels(rest, fold, fl)
    _differentiate(rest, kr, fl)
    # 4. From D to theta.
    _finish(k, kr, fl)
    _to_theta(rest, fold, k, kr, fl)


@inner
def _start(fold: Folding, k: Lanes, kr: Factors, fl: FoldLanes) -> None:
    """Give the lanes' theta, weights and products to the two parts; zero what is summed."""
    m = fl.first.shape[0]
    lanes = k.value.size
    theta, weights, kr_theta, kr_weights, stats, base = (
        k.theta, k.weights, kr.theta, kr.weights, kr.stats, fl.base,
    )  # fmt: skip
    for t in range(kr_theta.shape[0]):
        for w in range(lanes):
            kr_theta[t, w] = theta[m + t, w]
    for kind in range(3):
        for w in range(lanes):
            kr_weights[kind, w] = weights[kind, w]
    for x in range(stats.shape[0]):
        for w in range(lanes):
            stats[x, w] = base[x, w]
    for first in range(0, fl.logdet.size, lanes):
        for w in range(lanes):
            fl.logdet[first + w] = 0.0
            fl.weights[first + w] = weights[0, w]
        for i in range(fold.directions.size):
            # Elements of a factor have the places of D's: terms are not correlated.
            t = fold.directions[i]
            for w in range(lanes):
                fl.theta[i, first + w] = theta[t, w] if t >= 0 else 0.0
    for i in range(m):
        clear_rows(fl.d_stats[i])
    clear_rows(fl.first)
    clear_rows(fl.second)


@inner
def _differentiate(rest: Structure, kr: Factors, fl: FoldLanes) -> None:
    """Gradient and Hessian of the whole criterion in D, and across to the other terms' theta."""
    m = fl.grad.shape[0]
    lanes = kr.value.size
    second = 0
    for i in range(m):
        _sum_groups(fl.first[i], fl.grad[i])
        assemble(rest, fl.d_stats[i], kr.theta, 0.0, fl.a_entries[i], fl.a_diag[i], kr.right)
        for j in range(i + 1):
            _sum_groups(fl.second[second], fl.hess[i, j])
            second += 1
    d_entries, d_diag = kr.d_entries, kr.d_diag
    for j in range(m):
        copy_rows(fl.a_entries[j], d_entries)
        copy_rows(fl.a_diag[j], d_diag)
        factor_tangent(rest, kr, fl.d_border[j], fl.d_rss[j])
        for i in range(j, m):
            _add_inner_product(kr.dg_entries, kr.dg_diag, fl.a_entries[i], fl.a_diag[i], fl.hess[i, j])
        if rest.sizes[3] > 0:
            cross, column = fl.cross[j], kr.column
            contract(rest, kr.stats, kr.theta, kr.dg_entries, kr.dg_diag, cross, kr.right)
            contract(rest, fl.d_stats[j], kr.theta, kr.g_entries, kr.g_diag, column, kr.right)
            for t in range(rest.sizes[3]):
                for w in range(lanes):
                    cross[t, w] += column[t, w]


@apart
def _sum_groups(items: FloatArray, out: FloatArray) -> None:
    """Sum every item into its lane."""
    for w in range(out.size):
        out[w] = 0.0
    for first in range(0, items.size, out.size):
        for w in range(out.size):
            out[w] += items[first + w]


@inner
def _finish(k: Lanes, kr: Factors, fl: FoldLanes) -> None:
    """Value, rss and border."""
    lanes = k.value.size
    value, rss, border, weights = k.value, k.rss, k.border, k.weights
    _sum_groups(fl.logdet, value)
    for w in range(lanes):
        value[w] = kr.value[w] + weights[0, w] * value[w]
        rss[w] = kr.rss[w]
    copy_rows(kr.border, border)


@apart
def _add_inner_product(
    g_entries: FloatArray, g_diag: FloatArray, a_entries: FloatArray, a_diag: FloatArray, out: FloatArray
) -> None:
    """``out += sum_ij G_ij A_ij`` of two symmetric matrices on the pattern."""
    for x in range(g_entries.shape[0]):
        for w in range(out.size):
            out[w] += 2.0 * g_entries[x, w] * a_entries[x, w]
    for x in range(g_diag.shape[0]):
        for w in range(out.size):
            out[w] += g_diag[x, w] * a_diag[x, w]


@inner
def _to_theta(rest: Structure, fold: Folding, k: Lanes, kr: Factors, fl: FoldLanes) -> None:
    """Chain rule for D = L L': theta (e, f) moves D's element (a, b) by [a=e] L_bf + [b=e] L_af."""
    m = fl.grad.shape[0]
    n_rest = rest.sizes[3]
    theta, grad, hess, d_border, d_rss = k.theta, k.grad, k.hess, k.d_border, k.d_rss
    n_border = d_border.shape[1]
    start = 0
    for part in range(fold.part_sizes.size):
        size = fold.part_sizes[part]
        t = start
        for f in range(size):
            for e in range(f, size):
                # 1. First derivatives.
                clear(grad[t])
                clear(d_rss[t])
                clear_rows(d_border[t])
                for u in range(n_rest):
                    clear(hess[m + u, t])
                for r in range(f, size):
                    i = start + lower_place(size, e, r)
                    times = 2.0 if r == e else 1.0
                    factor = theta[start + lower_place(size, r, f)]
                    _add_scaled(times, factor, fl.grad[i], grad[t])
                    _add_scaled(times, factor, fl.d_rss[i], d_rss[t])
                    for x in range(n_border):
                        _add_scaled(times, factor, fl.d_border[i, x], d_border[t, x])
                    for u in range(n_rest):
                        _add_scaled(times, factor, fl.cross[i, u], hess[m + u, t])
                # 2. Second derivatives.
                _seconds_in_theta(fold, theta, fl, start, size, e, f, hess[t])
                t += 1
        start = t
    for u in range(n_rest):
        copy(kr.grad[u], grad[m + u])
        copy(kr.d_rss[u], d_rss[m + u])
        copy_rows(kr.d_border[u], d_border[m + u])
        for v in range(u + 1):
            copy(kr.hess[u, v], hess[m + u, m + v])


@inner
def _seconds_in_theta(
    fold: Folding, theta: FloatArray, fl: FoldLanes, start: int, size: int, e: int, f: int, out: FloatArray
) -> None:
    """Hessian elements of theta (e, f) of the part whose theta begin at ``start``, and of all up to it."""
    last = start + lower_place(size, e, f)
    other = 0
    for part in range(fold.part_sizes.size):
        other_size = fold.part_sizes[part]
        t = other
        for g in range(other_size):
            for h in range(g, other_size):
                if t <= last:
                    _second_in_theta(theta, fl, start, size, e, f, other, other_size, h, g, out[t])
                t += 1
        other = t


@inner
def _second_in_theta(
    theta: FloatArray,
    fl: FoldLanes,
    start: int,
    size: int,
    e: int,
    f: int,
    other: int,
    other_size: int,
    h: int,
    g: int,
    out: FloatArray,
) -> None:
    """Hessian element of theta (e, f) of one part and theta (h, g) of another or the same."""
    for w in range(out.size):
        out[w] = 0.0
    for r in range(f, size):
        i = start + lower_place(size, e, r)
        first = theta[start + lower_place(size, r, f)]
        for q in range(g, other_size):
            j = other + lower_place(other_size, h, q)
            second = theta[other + lower_place(other_size, q, g)]
            times = (2.0 if r == e else 1.0) * (2.0 if q == h else 1.0)
            curvature = fl.hess[max(i, j), min(i, j)]
            for w in range(out.size):
                out[w] += times * first[w] * second[w] * curvature[w]
    if start == other and f == g:
        times = 2.0 if e == h else 1.0
        slope = fl.grad[start + lower_place(size, e, h)]
        for w in range(out.size):
            out[w] += times * slope[w]


@apart
def _add_scaled(times: float, factor: FloatArray, x: FloatArray, out: FloatArray) -> None:
    """``out += times factor x``, lane by lane."""
    for w in range(out.size):
        out[w] += times * factor[w] * x[w]
