"""From sufficient statistics and theta to A, and from df/dA back to theta.

``A = L'Z'ZL + I`` bordered by X and y is linear in each row's and column's factor, so one theta
``(e, f)`` of a term moves row ``f`` of the term's blocks by row ``e`` of ``Z'Z L``, and likewise
for columns. Off-diagonal blocks count twice in ``df = sum_ij G_ij dA_ij``: G is symmetric and the
pattern holds one triangle.
"""

from __future__ import annotations

from blmm_bids.stats.kernels.compiling import apart, inner
from blmm_bids.stats.model import FloatArray
from blmm_bids.stats.plan_structure import Structure


@inner
def theta_index(s: Structure, term: int, row: int, col: int) -> int:
    """Position in theta of element (row, col) of a term's lower-triangular factor."""
    size = s.term_size[term]
    return s.theta_start[term] + col * size - col * (col - 1) // 2 + row - col  # type: ignore[no-any-return]


@apart
def times_factor(s: Structure, stats: FloatArray, block: int, theta: FloatArray, right: FloatArray) -> None:
    """``right[r, j] = (Z'Z L_col)[r, j]`` of one block, rows flattened."""
    lanes = stats.shape[1]
    row_term = s.block_terms[block, 0]
    col_term = s.block_terms[block, 1]
    width = s.term_size[col_term]
    for r in range(s.term_size[row_term]):
        for j in range(width):
            for w in range(lanes):
                right[r * width + j, w] = 0.0
            for c in range(j, width):
                value = s.block_start[block] + r * width + c
                t = theta_index(s, col_term, c, j)
                for w in range(lanes):
                    right[r * width + j, w] += stats[value, w] * theta[t, w]


@apart
def assemble(
    s: Structure,
    stats: FloatArray,
    theta: FloatArray,
    identity: float,
    entries: FloatArray,
    diag: FloatArray,
    right: FloatArray,
) -> None:
    """Write A(theta) into ``entries`` and ``diag``.

    Parameters
    ----------
    stats : (product, lane)
        The store of products, see `Structure`.
    theta : (theta, lane)
    identity : float
        Added to the diagonal of the random effects: 1, or 0 for the derivative along products.
    right : (effects squared, lane)
        Scratch.
    """
    lanes = diag.shape[1]
    n_ranef = s.sizes[0]
    n_border = s.sizes[1] + 1
    border_start = s.col_ptr[n_ranef]
    for i in range(border_start):
        for w in range(lanes):
            entries[i, w] = 0.0
    for i in range(n_ranef):
        for w in range(lanes):
            diag[i, w] = identity
    for i in range(s.sizes[7] - s.sizes[6]):
        for w in range(lanes):
            entries[border_start + i, w] = stats[s.sizes[6] + i, w]
    for i in range(n_border):
        for w in range(lanes):
            diag[n_ranef + i, w] = stats[s.sizes[7] + i, w]
    for block in range(s.block_terms.shape[0]):
        row_term = s.block_terms[block, 0]
        height = s.term_size[row_term]
        width = s.term_size[s.block_terms[block, 1]]
        on_diagonal = s.block_cols[block, 0] == s.block_cols[block, 1]
        times_factor(s, stats, block, theta, right)
        for i in range(height):
            for j in range(i + 1 if on_diagonal else width):
                position = s.block_pos[s.block_start[block] + i * width + j]
                for r in range(i, height):
                    t = theta_index(s, row_term, r, i)
                    if position < 0:
                        for w in range(lanes):
                            diag[-1 - position, w] += theta[t, w] * right[r * width + j, w]
                    else:
                        for w in range(lanes):
                            entries[position, w] += theta[t, w] * right[r * width + j, w]
    for term in range(s.term_size.size):
        size = s.term_size[term]
        for col in range(s.term_start[term], s.term_start[term + 1], size):
            for i in range(size):
                position = s.col_ptr[col + i + 1] - n_border
                for r in range(i, size):
                    t = theta_index(s, term, r, i)
                    product = s.sizes[5] + (col + r) * n_border
                    for c in range(n_border):
                        for w in range(lanes):
                            entries[position + c, w] += theta[t, w] * stats[product + c, w]


@apart
def assemble_tangent(
    s: Structure,
    stats: FloatArray,
    theta: FloatArray,
    term: int,
    e: int,
    f: int,
    d_entries: FloatArray,
    d_diag: FloatArray,
    right: FloatArray,
) -> None:
    """Write dA along element (e, f) of one term's factor."""
    lanes = d_diag.shape[1]
    n_border = s.sizes[1] + 1
    for i in range(d_entries.shape[0]):
        for w in range(lanes):
            d_entries[i, w] = 0.0
    for i in range(d_diag.shape[0]):
        for w in range(lanes):
            d_diag[i, w] = 0.0
    for block in range(s.block_terms.shape[0]):
        row_term = s.block_terms[block, 0]
        col_term = s.block_terms[block, 1]
        if row_term != term and col_term != term:
            continue
        height = s.term_size[row_term]
        width = s.term_size[col_term]
        start = s.block_start[block]
        on_diagonal = s.block_cols[block, 0] == s.block_cols[block, 1]
        if row_term == term:
            times_factor(s, stats, block, theta, right)
            for j in range(width):
                # Row f of the block moves; on the diagonal its mirror image is column f.
                position = s.block_pos[start + f * width + j]
                if position < 0:
                    for w in range(lanes):
                        d_diag[-1 - position, w] += 2.0 * right[e * width + j, w]
                else:
                    for w in range(lanes):
                        d_entries[position, w] += right[e * width + j, w]
        if col_term == term and not on_diagonal:
            for i in range(height):
                position = s.block_pos[start + i * width + f]
                for r in range(i, height):
                    t = theta_index(s, row_term, r, i)
                    for w in range(lanes):
                        d_entries[position, w] += theta[t, w] * stats[start + r * width + e, w]
    size = s.term_size[term]
    for col in range(s.term_start[term], s.term_start[term + 1], size):
        position = s.col_ptr[col + f + 1] - n_border
        product = s.sizes[5] + (col + e) * n_border
        for c in range(n_border):
            for w in range(lanes):
                d_entries[position + c, w] += stats[product + c, w]


@apart
def contract(
    s: Structure,
    stats: FloatArray,
    theta: FloatArray,
    g_entries: FloatArray,
    g_diag: FloatArray,
    out: FloatArray,
    right: FloatArray,
) -> None:
    """``out[t] = sum_ij G_ij dA_ij / dtheta_t`` for all theta.

    Parameters
    ----------
    g_entries, g_diag
        df/dA on the pattern, or its tangent.
    out : (theta, lane)
    """
    lanes = g_diag.shape[1]
    n_border = s.sizes[1] + 1
    for t in range(out.shape[0]):
        for w in range(lanes):
            out[t, w] = 0.0
    for block in range(s.block_terms.shape[0]):
        row_term = s.block_terms[block, 0]
        col_term = s.block_terms[block, 1]
        height = s.term_size[row_term]
        width = s.term_size[col_term]
        start = s.block_start[block]
        times_factor(s, stats, block, theta, right)
        for f in range(height):
            for j in range(width):
                position = s.block_pos[start + f * width + j]
                for e in range(f, height):
                    t = theta_index(s, row_term, e, f)
                    if position < 0:
                        for w in range(lanes):
                            out[t, w] += 2.0 * g_diag[-1 - position, w] * right[e * width + j, w]
                    else:
                        for w in range(lanes):
                            out[t, w] += 2.0 * g_entries[position, w] * right[e * width + j, w]
        if s.block_cols[block, 0] == s.block_cols[block, 1]:
            continue
        for f in range(width):
            for i in range(height):
                position = s.block_pos[start + i * width + f]
                for r in range(i, height):
                    t_row = theta_index(s, row_term, r, i)
                    for e in range(f, width):
                        t = theta_index(s, col_term, e, f)
                        value = start + r * width + e
                        for w in range(lanes):
                            out[t, w] += 2.0 * g_entries[position, w] * theta[t_row, w] * stats[value, w]
    for term in range(s.term_size.size):
        size = s.term_size[term]
        for col in range(s.term_start[term], s.term_start[term + 1], size):
            for f in range(size):
                position = s.col_ptr[col + f + 1] - n_border
                for e in range(f, size):
                    t = theta_index(s, term, e, f)
                    product = s.sizes[5] + (col + e) * n_border
                    for c in range(n_border):
                        for w in range(lanes):
                            out[t, w] += 2.0 * g_entries[position + c, w] * stats[product + c, w]


@apart
def contract_curvature(
    s: Structure, stats: FloatArray, g_entries: FloatArray, g_diag: FloatArray, out: FloatArray
) -> None:
    """Add ``sum_ij G_ij d2A_ij / dtheta_t dtheta_u`` to the lower triangle of ``out``.

    Parameters
    ----------
    out : (theta, theta, lane)
        The Hessian under construction; ``out[t, u]`` with t >= u.
    """
    lanes = g_diag.shape[1]
    for block in range(s.block_terms.shape[0]):
        row_term = s.block_terms[block, 0]
        col_term = s.block_terms[block, 1]
        height = s.term_size[row_term]
        width = s.term_size[col_term]
        start = s.block_start[block]
        on_diagonal = s.block_cols[block, 0] == s.block_cols[block, 1]
        # dA = E' (Z'Z) E: element (f, h) of the block moves with Z'Z's element (e, g).
        for f in range(height):
            for h in range(width):
                position = s.block_pos[start + f * width + h]
                for e in range(f, height):
                    t = theta_index(s, row_term, e, f)
                    for g in range(h, width):
                        t_col = theta_index(s, col_term, g, h)
                        if on_diagonal and t < t_col:
                            continue
                        high, low = max(t, t_col), min(t, t_col)
                        value = start + e * width + g
                        # Two levels of one term: a theta moves the block from both sides.
                        times = 4.0 if row_term == col_term and t == t_col and not on_diagonal else 2.0
                        if position < 0:
                            for w in range(lanes):
                                out[high, low, w] += times * g_diag[-1 - position, w] * stats[value, w]
                        else:
                            for w in range(lanes):
                                out[high, low, w] += times * g_entries[position, w] * stats[value, w]


@apart
def spread(
    s: Structure, theta: FloatArray, g_entries: FloatArray, g_diag: FloatArray, out: FloatArray
) -> None:
    """``out[x] = df/d(product x)`` from df/dA: the transpose of `assemble`.

    Parameters
    ----------
    g_entries, g_diag
        df/dA on the pattern.
    out : (product, item)
        As many items as a multiple of the lanes; each lane's values are repeated.
    """
    lanes = g_diag.shape[1]
    n_ranef = s.sizes[0]
    n_border = s.sizes[1] + 1
    border_start = s.col_ptr[n_ranef]
    for i in range(s.sizes[7] - s.sizes[6]):
        for w in range(lanes):
            out[s.sizes[6] + i, w] = 2.0 * g_entries[border_start + i, w]
    for i in range(n_border):
        for w in range(lanes):
            out[s.sizes[7] + i, w] = g_diag[n_ranef + i, w]
    for x in range(s.sizes[6]):
        for w in range(lanes):
            out[x, w] = 0.0
    for block in range(s.block_terms.shape[0]):
        row_term = s.block_terms[block, 0]
        col_term = s.block_terms[block, 1]
        height = s.term_size[row_term]
        width = s.term_size[col_term]
        start = s.block_start[block]
        on_diagonal = s.block_cols[block, 0] == s.block_cols[block, 1]
        for i in range(height):
            for j in range(i + 1 if on_diagonal else width):
                position = s.block_pos[start + i * width + j]
                for r in range(i, height):
                    t = theta_index(s, row_term, r, i)
                    for c in range(j, width):
                        t_col = theta_index(s, col_term, c, j)
                        value = start + r * width + c
                        if position < 0:
                            for w in range(lanes):
                                out[value, w] += g_diag[-1 - position, w] * theta[t, w] * theta[t_col, w]
                        else:
                            for w in range(lanes):
                                out[value, w] += 2.0 * g_entries[position, w] * theta[t, w] * theta[t_col, w]
    for term in range(s.term_size.size):
        size = s.term_size[term]
        for col in range(s.term_start[term], s.term_start[term + 1], size):
            for i in range(size):
                position = s.col_ptr[col + i + 1] - n_border
                for r in range(i, size):
                    t = theta_index(s, term, r, i)
                    product = s.sizes[5] + (col + r) * n_border
                    for c in range(n_border):
                        for w in range(lanes):
                            out[product + c, w] += 2.0 * theta[t, w] * g_entries[position + c, w]
    for x in range(out.shape[0]):
        for first in range(lanes, out.shape[1], lanes):
            for w in range(lanes):
                out[x, first + w] = out[x, w]
