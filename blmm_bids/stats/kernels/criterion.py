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
from blmm_bids.stats.kernels.cholesky import adjoint_tangent, factorise, factorise_tangent
from blmm_bids.stats.kernels.compiling import apart, inner
from blmm_bids.stats.kernels.small import clear_rows, copy
from blmm_bids.stats.model import FloatArray
from blmm_bids.stats.plan_structure import Structure

# Pivots multiplied before one logarithm is taken: at theta = 1e6 with 1e4 images a level a pivot
# is 1e16, and eight of them stay far from overflow.
PIVOTS_PER_LOG = 8


class Lanes(NamedTuple):
    """What a search gives and gets, of one chunk of voxels; the last axis is the lane.

    ``theta weights`` are the input of an evaluation; ``value grad hess`` and these are its output:
    ``border`` is ``[X y]'V^-1[X y]``, packed as strictly lower entries then diagonal, ``rss`` the last
    pivot ``e'V^-1e``; ``d_border d_rss`` their derivatives.
    """

    theta: FloatArray
    weights: FloatArray
    value: FloatArray
    grad: FloatArray
    hess: FloatArray
    border: FloatArray
    d_border: FloatArray
    rss: FloatArray
    d_rss: FloatArray


class Factors(NamedTuple):
    """Working arrays of a sparse factor and its derivatives; the last axis is the lane.

    ``stats`` is the store of products (see `Structure`); the rest is laid out as in `Lanes`.
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
    """Zeroed input and output for ``lanes`` voxels side by side."""
    n_theta, n_border = int(s.sizes[3]), border_size(int(s.sizes[1]))

    def zeros(*shape: int) -> FloatArray:
        return np.zeros((*shape, lanes))

    return Lanes(
        theta=zeros(n_theta),
        weights=zeros(3),
        value=zeros(),
        grad=zeros(n_theta),
        hess=zeros(n_theta, n_theta),
        border=zeros(n_border),
        d_border=zeros(n_theta, n_border),
        rss=zeros(),
        d_rss=zeros(n_theta),
    )


def allocate_factors(s: Structure, lanes: int) -> Factors:
    """Zeroed working arrays for ``lanes`` voxels side by side."""
    longest = int(s.sizes[4])
    n_columns = int(s.sizes[0] + s.sizes[1]) + 1
    n_entries = s.row_idx.size
    widest = int(s.term_size.max()) if s.term_size.size else 1

    def zeros(*shape: int) -> FloatArray:
        return np.zeros((*shape, lanes))

    return Factors(
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
        column=zeros(int(s.sizes[3])),
        **allocate_lanes(s, lanes)._asdict(),
    )


def border_size(n_fixef: int) -> int:
    """Values of a packed [X y]'[X y]."""
    return (n_fixef + 1) * (n_fixef + 2) // 2


@inner
def factorise_products(s: Structure, k: Factors) -> None:
    """Factor of A(theta), the border after the random effects, value and rss."""
    n_ranef = s.sizes[0]
    assemble(s, k.stats, k.theta, 1.0, k.entries, k.diag, k.right)
    factorise(s, k.entries, k.diag, k.u, 0, n_ranef)
    copy_border(s, k.entries, k.diag, k.border)
    factorise(s, k.entries, k.diag, k.u, n_ranef, k.diag.shape[0])
    _weighted_log_pivots(s, k)


@inner
def hessian_in_theta(s: Structure, k: Factors) -> None:
    """Hessian of the value in theta, after `adjoint`."""
    for t in range(s.sizes[3]):
        clear_rows(k.hess[t])
    contract_curvature(s, k.stats, k.g_entries, k.g_diag, k.hess)
    for term in range(s.term_size.size):
        for f in range(s.term_size[term]):
            for e in range(f, s.term_size[term]):
                _hessian_column(s, k, term, e, f)


@inner
def _hessian_column(s: Structure, k: Factors, term: int, e: int, f: int) -> None:
    """Add the tangent of the gradient along one theta to the Hessian; keep the border's tangent."""
    t = theta_index(s, term, e, f)
    assemble_tangent(s, k.stats, k.theta, term, e, f, k.d_entries, k.d_diag, k.right)
    factor_tangent(s, k, k.d_border[t], k.d_rss[t])
    contract(s, k.stats, k.theta, k.dg_entries, k.dg_diag, k.column, k.right)
    hess, column = k.hess, k.column
    for row in range(t, s.sizes[3]):
        for w in range(column.shape[1]):
            hess[row, t, w] += column[row, w]


@inner
def factor_tangent(s: Structure, k: Factors, d_border: FloatArray, d_rss: FloatArray) -> None:
    """Tangents of the factor and of its adjoint along the dA in ``d_entries``, ``d_diag``."""
    n_ranef = s.sizes[0]
    n_columns = k.diag.shape[0]
    factorise_tangent(s, k.entries, k.diag, k.d_entries, k.d_diag, k.u, k.du, 0, n_ranef)
    copy_border(s, k.d_entries, k.d_diag, d_border)
    factorise_tangent(s, k.entries, k.diag, k.d_entries, k.d_diag, k.u, k.du, n_ranef, n_columns)
    copy(k.d_diag[n_columns - 1], d_rss)
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


@apart
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
def _weighted_log_pivots(s: Structure, k: Factors) -> None:
    """Value and rss from the pivots."""
    n_ranef = s.sizes[0]
    diag, weights, value, rss = k.diag, k.weights, k.value, k.rss
    n_columns = diag.shape[0]
    for w in range(value.size):
        total = 0.0
        product = 1.0
        for j in range(n_ranef):
            product *= diag[j, w]
            if j % PIVOTS_PER_LOG == PIVOTS_PER_LOG - 1:
                total += math.log(product)
                product = 1.0
        if n_ranef > 0:
            total = weights[0, w] * (total + math.log(product))
        if weights[1, w] != 0.0:
            for j in range(n_ranef, n_columns - 1):
                total += weights[1, w] * math.log(diag[j, w])
        rss[w] = diag[n_columns - 1, w]
        if weights[2, w] != 0.0:
            total += weights[2, w] * math.log(rss[w])
        value[w] = total
