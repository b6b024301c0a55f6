"""Sparse ``A = L diag(d) L'`` for many voxels, and derivatives of ``f = sum_j w_j log d_j``.

With ``G = df/dA`` (symmetric, on the factor's pattern) the adjoint sweep is Takahashi's recursion
with weights: for w = 1 it gives the entries of ``A^-1`` on the pattern, for the weights of the
profiled deviance it gives all of its gradient. Differentiating both sweeps along a direction
``dA`` gives a column of the Hessian. All four cost a small multiple of the factorisation, and no
dense inverse appears.

Entries of a column hold ``l`` (unit lower triangular), ``d`` is kept apart.
"""

# Kernel arguments follow the module docstring; lanes are the last axis of every array.
from __future__ import annotations

from blmm_bids.stats.kernels.compiling import apart
from blmm_bids.stats.model import FloatArray
from blmm_bids.stats.plan_structure import Structure


@apart
def factorise(
    s: Structure, entries: FloatArray, diag: FloatArray, u: FloatArray, first_column: int, stop_column: int
) -> None:
    """Replace A by L and d in place, for a range of columns (right-looking).

    Parameters
    ----------
    s : Structure
    entries : (entry, lane)
        Strictly lower entries of A, then of L.
    diag : (column, lane)
        Diagonal of A, then d.
    u : (longest column, lane)
        Scratch.
    first_column, stop_column : int
        Columns to eliminate; the later ones become their Schur complement.
    """
    lanes = diag.shape[1]
    n_rows = diag.shape[0]
    n_ranef = s.sizes[0]
    tail = s.sizes[2]
    for j in range(first_column, stop_column):
        first = s.col_ptr[j]
        length = s.col_ptr[j + 1] - first
        pair = s.pair_ptr[j]
        for a in range(length):
            for w in range(lanes):
                u[a, w] = entries[first + a, w]
                entries[first + a, w] = u[a, w] / diag[j, w]
        for b in range(length):
            row = s.row_idx[first + b]
            for w in range(lanes):
                diag[row, w] -= entries[first + b, w] * u[b, w]
            for a in range(b + 1, length):
                other = s.row_idx[first + a]
                if row >= tail:
                    target = s.col_ptr[row] + other - row - 1
                elif other >= n_ranef:
                    target = s.col_ptr[row + 1] - n_rows + other
                else:
                    target = s.pair_target[pair]
                    pair += 1
                for w in range(lanes):
                    entries[target, w] -= entries[first + a, w] * u[b, w]


@apart
def factorise_tangent(
    s: Structure,
    entries: FloatArray,
    diag: FloatArray,
    d_entries: FloatArray,
    d_diag: FloatArray,
    u: FloatArray,
    du: FloatArray,
    first_column: int,
    stop_column: int,
) -> None:
    """Replace dA by dL and dd in place, along the same sweep as `factorise`."""
    lanes = diag.shape[1]
    n_rows = diag.shape[0]
    n_ranef = s.sizes[0]
    tail = s.sizes[2]
    for j in range(first_column, stop_column):
        first = s.col_ptr[j]
        length = s.col_ptr[j + 1] - first
        pair = s.pair_ptr[j]
        for a in range(length):
            for w in range(lanes):
                u[a, w] = entries[first + a, w] * diag[j, w]
                du[a, w] = d_entries[first + a, w]
                d_entries[first + a, w] = (du[a, w] - entries[first + a, w] * d_diag[j, w]) / diag[j, w]
        for b in range(length):
            row = s.row_idx[first + b]
            for w in range(lanes):
                d_diag[row, w] -= d_entries[first + b, w] * u[b, w] + entries[first + b, w] * du[b, w]
            for a in range(b + 1, length):
                other = s.row_idx[first + a]
                if row >= tail:
                    target = s.col_ptr[row] + other - row - 1
                elif other >= n_ranef:
                    target = s.col_ptr[row + 1] - n_rows + other
                else:
                    target = s.pair_target[pair]
                    pair += 1
                for w in range(lanes):
                    d_entries[target, w] -= (
                        d_entries[first + a, w] * u[b, w] + entries[first + a, w] * du[b, w]
                    )


@apart
def adjoint(
    s: Structure,
    entries: FloatArray,
    diag: FloatArray,
    weights: FloatArray,
    g_entries: FloatArray,
    g_diag: FloatArray,
    u: FloatArray,
) -> None:
    """G = df/dA on the pattern, for ``f = sum_j weights_j log d_j`` (weighted Takahashi).

    Parameters
    ----------
    weights : (3, lane)
        Weights of the random-effects columns, the columns of X, and y.
    g_entries, g_diag
        Output; laid out as ``entries`` and ``diag``.
    """
    lanes = diag.shape[1]
    n_rows = diag.shape[0]
    n_ranef = s.sizes[0]
    tail = s.sizes[2]
    for j in range(n_rows - 1, -1, -1):
        first = s.col_ptr[j]
        length = s.col_ptr[j + 1] - first
        pair = s.pair_ptr[j]
        kind = 0 if j < n_ranef else (1 if j < n_rows - 1 else 2)
        for a in range(length):
            row = s.row_idx[first + a]
            for w in range(lanes):
                u[a, w] = g_diag[row, w] * entries[first + a, w]
        for b in range(length):
            row = s.row_idx[first + b]
            for a in range(b + 1, length):
                other = s.row_idx[first + a]
                if row >= tail:
                    target = s.col_ptr[row] + other - row - 1
                elif other >= n_ranef:
                    target = s.col_ptr[row + 1] - n_rows + other
                else:
                    target = s.pair_target[pair]
                    pair += 1
                for w in range(lanes):
                    u[a, w] += g_entries[target, w] * entries[first + b, w]
                    u[b, w] += g_entries[target, w] * entries[first + a, w]
        for w in range(lanes):
            g_diag[j, w] = weights[kind, w] / diag[j, w]
        for a in range(length):
            for w in range(lanes):
                g_entries[first + a, w] = -u[a, w]
                g_diag[j, w] += entries[first + a, w] * u[a, w]


@apart
def adjoint_tangent(
    s: Structure,
    entries: FloatArray,
    diag: FloatArray,
    weights: FloatArray,
    g_entries: FloatArray,
    g_diag: FloatArray,
    d_entries: FloatArray,
    d_diag: FloatArray,
    dg_entries: FloatArray,
    dg_diag: FloatArray,
    u: FloatArray,
) -> None:
    """DG along the direction whose factor tangent is ``d_entries``, ``d_diag``; see `adjoint`."""
    lanes = diag.shape[1]
    n_rows = diag.shape[0]
    n_ranef = s.sizes[0]
    tail = s.sizes[2]
    for j in range(n_rows - 1, -1, -1):
        first = s.col_ptr[j]
        length = s.col_ptr[j + 1] - first
        pair = s.pair_ptr[j]
        kind = 0 if j < n_ranef else (1 if j < n_rows - 1 else 2)
        for a in range(length):
            row = s.row_idx[first + a]
            for w in range(lanes):
                u[a, w] = dg_diag[row, w] * entries[first + a, w] + g_diag[row, w] * d_entries[first + a, w]
        for b in range(length):
            row = s.row_idx[first + b]
            for a in range(b + 1, length):
                other = s.row_idx[first + a]
                if row >= tail:
                    target = s.col_ptr[row] + other - row - 1
                elif other >= n_ranef:
                    target = s.col_ptr[row + 1] - n_rows + other
                else:
                    target = s.pair_target[pair]
                    pair += 1
                for w in range(lanes):
                    u[a, w] += (
                        dg_entries[target, w] * entries[first + b, w]
                        + g_entries[target, w] * d_entries[first + b, w]
                    )
                    u[b, w] += (
                        dg_entries[target, w] * entries[first + a, w]
                        + g_entries[target, w] * d_entries[first + a, w]
                    )
        for w in range(lanes):
            dg_diag[j, w] = -weights[kind, w] * d_diag[j, w] / (diag[j, w] * diag[j, w])
        for a in range(length):
            for w in range(lanes):
                dg_entries[first + a, w] = -u[a, w]
                dg_diag[j, w] += (
                    entries[first + a, w] * u[a, w] - d_entries[first + a, w] * g_entries[first + a, w]
                )
