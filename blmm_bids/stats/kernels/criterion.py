"""The weighted deviance of every lane at its theta, with gradient, Hessian and the border's tangents."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from blmm_bids.stats.kernels.assembly import (
    assemble,
    assemble_tangent,
    contract,
    contract_curvature,
    theta_index,
)
from blmm_bids.stats.kernels.cholesky import adjoint, adjoint_tangent, factorise, factorise_tangent
from blmm_bids.stats.kernels.compiling import inner, kernel
from blmm_bids.stats.model import FloatArray
from blmm_bids.stats.plan_structure import Structure

# Pivots multiplied before one logarithm is taken: at theta = 1e6 with 1e4 images a level a pivot
# is 1e16, and eight of them stay far from overflow.
PIVOTS_PER_LOG = 8


class Lanes(NamedTuple):
    """Working arrays of one chunk of voxels; the last axis is the lane.

    ``stats`` is the store of products (see `Structure`); ``theta weights`` are the input of an evaluation;
    ``value grad hess`` and these are its output: ``border`` is ``[X y]'V^-1[X y]``, packed as strictly
    lower entries then diagonal, ``rss`` the last pivot ``e'V^-1e``; ``d_border d_rss`` their derivatives.
    """

    stats: FloatArray
    entries: FloatArray
    diag: FloatArray
    g_entries: FloatArray
    g_diag: FloatArray
    d_entries: FloatArray
    d_diag: FloatArray
    dg_entries: FloatArray
    dg_diag: FloatArray
    u: FloatArray
    du: FloatArray
    right: FloatArray
    column: FloatArray
    theta: FloatArray
    weights: FloatArray
    value: FloatArray
    grad: FloatArray
    hess: FloatArray
    border: FloatArray
    d_border: FloatArray
    rss: FloatArray
    d_rss: FloatArray


def allocate_lanes(s: Structure, lanes: int) -> Lanes:
    """Zeroed working arrays for ``lanes`` voxels side by side."""
    n_ranef, n_fixef, _, n_theta, longest = (int(size) for size in s.sizes[:5])
    n_columns = n_ranef + n_fixef + 1
    n_entries = s.row_idx.size
    n_border = n_fixef * (n_fixef + 1) // 2
    widest = int(s.term_size.max()) if s.term_size.size else 1

    def zeros(*shape: int) -> FloatArray:
        return np.zeros((*shape, lanes))

    return Lanes(
        stats=zeros(int(s.sizes[8])),
        entries=zeros(n_entries),
        diag=zeros(n_columns),
        g_entries=zeros(n_entries),
        g_diag=zeros(n_columns),
        d_entries=zeros(n_entries),
        d_diag=zeros(n_columns),
        dg_entries=zeros(n_entries),
        dg_diag=zeros(n_columns),
        u=zeros(longest),
        du=zeros(longest),
        right=zeros(widest * widest),
        column=zeros(n_theta),
        theta=zeros(n_theta),
        weights=zeros(3),
        value=zeros(),
        grad=zeros(n_theta),
        hess=zeros(n_theta, n_theta),
        border=zeros(n_border + n_fixef + 1),
        d_border=zeros(n_theta, n_border + n_fixef + 1),
        rss=zeros(),
        d_rss=zeros(n_theta),
    )


@kernel
def evaluate(s: Structure, k: Lanes) -> None:
    """``value = sum_j w_j log d_j`` at ``theta``, its gradient and Hessian (lower triangle), in every lane.

    With weights (1, 1, n - p) the value is the profiled REML deviance up to a constant, with
    (1, 0, n) that of ML, with (1, 1, 0) it is ``log|V| + log|X'V^-1X|``, whose Hessian is the
    expected information (MATH: Inference).
    """
    # 1. A(theta), its factor, and the border on the way.
    factorise_products(s, k)
    # 2. Gradient.
    if s.sizes[3] == 0:
        return
    adjoint(s, k.entries, k.diag, k.weights, k.g_entries, k.g_diag, k.u)
    contract(s, k.stats, k.theta, k.g_entries, k.g_diag, k.grad, k.right)
    # 3. Hessian, a column per theta.
    hessian_in_theta(s, k)


@inner
def factorise_products(s: Structure, k: Lanes) -> None:
    """Factor of A(theta), the border after the random effects, value and rss."""
    n_ranef = s.sizes[0]
    assemble(s, k.stats, k.theta, 1.0, k.entries, k.diag, k.right)
    factorise(s, k.entries, k.diag, k.u, 0, n_ranef)
    copy_border(s, k.entries, k.diag, k.border)
    factorise(s, k.entries, k.diag, k.u, n_ranef, k.diag.shape[0])
    _weighted_log_pivots(s, k)


@inner
def hessian_in_theta(s: Structure, k: Lanes) -> None:
    """Hessian of the value in theta, after `adjoint`."""
    for t in range(s.sizes[3]):
        for u in range(s.sizes[3]):
            for w in range(k.value.size):
                k.hess[t, u, w] = 0.0
    contract_curvature(s, k.stats, k.g_entries, k.g_diag, k.hess)
    for term in range(s.term_size.size):
        for f in range(s.term_size[term]):
            for e in range(f, s.term_size[term]):
                _hessian_column(s, k, term, e, f)


@inner
def _hessian_column(s: Structure, k: Lanes, term: int, e: int, f: int) -> None:
    """Add the tangent of the gradient along one theta to the Hessian; keep the border's tangent."""
    t = theta_index(s, term, e, f)
    assemble_tangent(s, k.stats, k.theta, term, e, f, k.d_entries, k.d_diag, k.right)
    factor_tangent(s, k, k.d_border[t], k.d_rss[t])
    contract(s, k.stats, k.theta, k.dg_entries, k.dg_diag, k.column, k.right)
    for row in range(t, s.sizes[3]):
        for w in range(k.value.size):
            k.hess[row, t, w] += k.column[row, w]


@inner
def factor_tangent(s: Structure, k: Lanes, d_border: FloatArray, d_rss: FloatArray) -> None:
    """Tangents of the factor and of its adjoint along the dA in ``d_entries``, ``d_diag``."""
    n_ranef = s.sizes[0]
    n_columns = k.diag.shape[0]
    factorise_tangent(s, k.entries, k.diag, k.d_entries, k.d_diag, k.u, k.du, 0, n_ranef)
    copy_border(s, k.d_entries, k.d_diag, d_border)
    factorise_tangent(s, k.entries, k.diag, k.d_entries, k.d_diag, k.u, k.du, n_ranef, n_columns)
    for w in range(d_rss.size):
        d_rss[w] = k.d_diag[n_columns - 1, w]
    adjoint_tangent(
        s,
        k.entries,
        k.diag,
        k.weights,
        k.g_entries,
        k.g_diag,
        k.d_entries,
        k.d_diag,
        k.dg_entries,
        k.dg_diag,
        k.u,
    )


@inner
def copy_border(s: Structure, entries: FloatArray, diag: FloatArray, border: FloatArray) -> None:
    """Keep the Schur complement of the random effects: strictly lower entries, then diagonal."""
    n_ranef = s.sizes[0]
    start = s.col_ptr[n_ranef]
    n_lower = entries.shape[0] - start
    for i in range(n_lower):
        for w in range(border.shape[1]):
            border[i, w] = entries[start + i, w]
    for i in range(diag.shape[0] - n_ranef):
        for w in range(border.shape[1]):
            border[n_lower + i, w] = diag[n_ranef + i, w]


@inner
def _weighted_log_pivots(s: Structure, k: Lanes) -> None:
    """Value and rss from the pivots."""
    n_ranef = s.sizes[0]
    n_columns = k.diag.shape[0]
    for w in range(k.value.size):
        total = 0.0
        product = 1.0
        for j in range(n_ranef):
            product *= k.diag[j, w]
            if j % PIVOTS_PER_LOG == PIVOTS_PER_LOG - 1:
                total += math.log(product)
                product = 1.0
        total = k.weights[0, w] * (total + math.log(product))
        for j in range(n_ranef, n_columns - 1):
            if k.weights[1, w] != 0.0:
                total += k.weights[1, w] * math.log(k.diag[j, w])
        k.rss[w] = k.diag[n_columns - 1, w]
        if k.weights[2, w] != 0.0:
            total += k.weights[2, w] * math.log(k.rss[w])
        k.value[w] = total
