"""The criterion when the first term is folded; see `blmm_bids.stats.folding`.

What `integrate_out` leaves of the products of the other terms, X and y takes the place of the products
in the criterion of the terms that are left; the chain rule brings its derivatives back to the folded
term's D, and from there to theta.
"""

from __future__ import annotations

from blmm_bids.stats.folding import Folding
from blmm_bids.stats.kernels.assembly import assemble, contract
from blmm_bids.stats.kernels.cholesky import adjoint
from blmm_bids.stats.kernels.compiling import inner, kernel
from blmm_bids.stats.kernels.criterion import Lanes, factor_tangent, factorise_products, hessian_in_theta
from blmm_bids.stats.kernels.fold_classes import FoldLanes, integrate_out
from blmm_bids.stats.model import FloatArray
from blmm_bids.stats.plan_structure import Structure


@kernel
def evaluate_folded(rest: Structure, fold: Folding, k: Lanes, kr: Lanes, fl: FoldLanes) -> None:
    """Value, gradient, Hessian and border at ``k.theta`` and ``k.weights``; see `evaluate`.

    Parameters
    ----------
    rest, fold : Structure, Folding
    k : Lanes
        Input and output; its other arrays are not used.
    kr : Lanes
        Working arrays of the other terms.
    fl : FoldLanes
    """
    size = fold.sizes[0]
    m = size * (size + 1) // 2
    lanes = k.value.size
    # 1. Integrate the folded term out.
    for t in range(rest.sizes[3]):
        for w in range(lanes):
            kr.theta[t, w] = k.theta[m + t, w]
    for kind in range(3):
        for w in range(lanes):
            kr.weights[kind, w] = k.weights[kind, w]
    integrate_out(fold, k, kr, fl)
    # 2. The criterion of the other terms at the products that are left.
    factorise_products(rest, kr)
    adjoint(rest, kr.entries, kr.diag, kr.weights, kr.g_entries, kr.g_diag, kr.u)
    if rest.sizes[3] > 0:
        contract(rest, kr.stats, kr.theta, kr.g_entries, kr.g_diag, kr.grad, kr.right)
        hessian_in_theta(rest, kr)
    # 3. Derivatives in the folded term's D.
    _differentiate(rest, k, kr, fl)
    # 4. From D to theta.
    for w in range(lanes):
        k.value[w] = kr.value[w] + k.weights[0, w] * fl.logdet[w]
        k.rss[w] = kr.rss[w]
    for i in range(k.border.shape[0]):
        for w in range(lanes):
            k.border[i, w] = kr.border[i, w]
    _to_theta(rest, fold, k, kr, fl)


@inner
def _differentiate(rest: Structure, k: Lanes, kr: Lanes, fl: FoldLanes) -> None:
    """Gradient and Hessian of the whole criterion in D, and across to the other terms' theta."""
    m = fl.grad.shape[0]
    lanes = k.value.size
    for i in range(m):
        assemble(rest, fl.d_stats[i], kr.theta, 0.0, fl.a_entries[i], fl.a_diag[i], kr.right)
        for w in range(lanes):
            fl.grad[i, w] *= k.weights[0, w]
        _add_inner_product(kr.g_entries, kr.g_diag, fl.a_entries[i], fl.a_diag[i], fl.grad[i])
    second = 0
    for i in range(m):
        for j in range(i + 1):
            assemble(rest, fl.d2_stats[second], kr.theta, 0.0, kr.d_entries, kr.d_diag, kr.right)
            for w in range(lanes):
                fl.hess[i, j, w] *= k.weights[0, w]
            _add_inner_product(kr.g_entries, kr.g_diag, kr.d_entries, kr.d_diag, fl.hess[i, j])
            second += 1
    for j in range(m):
        for x in range(kr.d_entries.shape[0]):
            for w in range(lanes):
                kr.d_entries[x, w] = fl.a_entries[j, x, w]
        for x in range(kr.d_diag.shape[0]):
            for w in range(lanes):
                kr.d_diag[x, w] = fl.a_diag[j, x, w]
        factor_tangent(rest, kr, fl.d_border[j], fl.d_rss[j])
        for i in range(j, m):
            _add_inner_product(kr.dg_entries, kr.dg_diag, fl.a_entries[i], fl.a_diag[i], fl.hess[i, j])
        if rest.sizes[3] > 0:
            contract(rest, kr.stats, kr.theta, kr.dg_entries, kr.dg_diag, fl.cross[j], kr.right)
            contract(rest, fl.d_stats[j], kr.theta, kr.g_entries, kr.g_diag, kr.column, kr.right)
            for t in range(rest.sizes[3]):
                for w in range(lanes):
                    fl.cross[j, t, w] += kr.column[t, w]


@inner
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
def _to_theta(rest: Structure, fold: Folding, k: Lanes, kr: Lanes, fl: FoldLanes) -> None:
    """Chain rule for D = L L': theta (e, f) moves D's element (a, b) by [a=e] L_bf + [b=e] L_af."""
    size = fold.sizes[0]
    m = fl.grad.shape[0]
    n_rest = rest.sizes[3]
    lanes = k.value.size
    t = 0
    for f in range(size):
        for e in range(f, size):
            # 1. First derivatives.
            for w in range(lanes):
                k.grad[t, w] = 0.0
                k.d_rss[t, w] = 0.0
            for x in range(k.border.shape[0]):
                for w in range(lanes):
                    k.d_border[t, x, w] = 0.0
            for u in range(n_rest):
                for w in range(lanes):
                    k.hess[m + u, t, w] = 0.0
            for r in range(f, size):
                i = _direction(size, e, r)
                times = 2.0 if r == e else 1.0
                v = _direction(size, r, f)
                for w in range(lanes):
                    k.grad[t, w] += times * k.theta[v, w] * fl.grad[i, w]
                    k.d_rss[t, w] += times * k.theta[v, w] * fl.d_rss[i, w]
                for x in range(k.border.shape[0]):
                    for w in range(lanes):
                        k.d_border[t, x, w] += times * k.theta[v, w] * fl.d_border[i, x, w]
                for u in range(n_rest):
                    for w in range(lanes):
                        k.hess[m + u, t, w] += times * k.theta[v, w] * fl.cross[i, u, w]
            # 2. Second derivatives within the term.
            t2 = 0
            for g in range(size):
                for h in range(g, size):
                    if t2 <= t:
                        _second_in_theta(size, k, fl, t, e, f, t2, h, g)
                    t2 += 1
            t += 1
    for u in range(n_rest):
        for w in range(lanes):
            k.grad[m + u, w] = kr.grad[u, w]
            k.d_rss[m + u, w] = kr.d_rss[u, w]
        for x in range(k.border.shape[0]):
            for w in range(lanes):
                k.d_border[m + u, x, w] = kr.d_border[u, x, w]
        for v in range(u + 1):
            for w in range(lanes):
                k.hess[m + u, m + v, w] = kr.hess[u, v, w]


@inner
def _second_in_theta(
    size: int, k: Lanes, fl: FoldLanes, t: int, e: int, f: int, t2: int, h: int, g: int
) -> None:
    """Hessian element of theta (e, f) and theta (h, g)."""
    lanes = k.value.size
    for w in range(lanes):
        k.hess[t, t2, w] = 0.0
    for r in range(f, size):
        i = _direction(size, e, r)
        v = _direction(size, r, f)
        for q in range(g, size):
            j = _direction(size, h, q)
            v2 = _direction(size, q, g)
            times = (2.0 if r == e else 1.0) * (2.0 if q == h else 1.0)
            high, low = max(i, j), min(i, j)
            for w in range(lanes):
                k.hess[t, t2, w] += times * k.theta[v, w] * k.theta[v2, w] * fl.hess[high, low, w]
    if f == g:
        i = _direction(size, e, h)
        times = 2.0 if e == h else 1.0
        for w in range(lanes):
            k.hess[t, t2, w] += times * fl.grad[i, w]


@inner
def _direction(size: int, a: int, b: int) -> int:
    """Place of element (a, b) of a symmetric matrix among its vech elements."""
    high, low = max(a, b), min(a, b)
    return low * size - low * (low - 1) // 2 + high - low
