"""Sufficient statistics: past this file nothing sees the data.

The products of the design depend on which images are present, not on their values; voxels come
sorted by pattern, and a pattern's products are computed once and copied to each voxel's lane.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from blmm_bids.stats.kernels.compiling import inner
from blmm_bids.stats.kernels.small import cholesky, cholesky_solve
from blmm_bids.stats.model import FloatArray, IntArray, Status
from blmm_bids.stats.plan_structure import Structure

# A column of Q whose part outside the others has less than this share of its square is dependent
# on them: 1e-5 of its length, far above rounding and far below any usable regressor.
RANK_TOLERANCE = 1e-10

CONVERGED = int(Status.CONVERGED)
TOO_FEW = int(Status.TOO_FEW_IMAGES)
RANK_DEFICIENT = int(Status.RANK_DEFICIENT)
ONE_LEVEL = int(Status.ONE_LEVEL)
SAFE_MODE = int(Status.SAFE_MODE)
CONSTANT = int(Status.CONSTANT)
ZERO_RESIDUAL = int(Status.ZERO_RESIDUAL)


class Pattern(NamedTuple):
    """Products of the design over the images present in one missingness pattern.

    Attributes
    ----------
    zz : (value,)
        Blocks of Z'Z.
    zx : (ranef, fixef)
        Z'Q.
    xx : (fixef, fixef)
        Q'Q.
    factor : (fixef, fixef)
        Its Cholesky factor.
    seen : (ranef,)
        Images of each level, at the level's first column.
    """

    zz: FloatArray
    zx: FloatArray
    xx: FloatArray
    factor: FloatArray
    seen: IntArray


def allocate_pattern(s: Structure) -> Pattern:
    """Zeroed products for one pattern."""
    n_ranef, n_fixef = int(s.sizes[0]), int(s.sizes[1])
    return Pattern(
        zz=np.zeros(s.block_pos.size),
        zx=np.zeros((n_ranef, n_fixef)),
        xx=np.zeros((n_fixef, n_fixef)),
        factor=np.zeros((n_fixef, n_fixef)),
        seen=np.zeros(n_ranef, dtype=np.int64),
    )


@inner
def compute_pattern(
    s: Structure, q_basis: FloatArray, effects: FloatArray, y: FloatArray, safe_mode: bool, out: Pattern
) -> int:
    """Fill a pattern's products from the images where ``y`` is not NaN; a status code.

    Parameters
    ----------
    q_basis : (obs, fixef)
    effects : (obs, effect over all terms)
    y : (obs,)
        Values of any voxel with this pattern.
    safe_mode : bool
        Refuse a term with at least as many effects as images.
    out : Pattern
    """
    n_fixef = s.sizes[1]
    n_terms = s.term_size.size
    _clear(out)
    n_present = 0
    for obs in range(y.size):
        if math.isnan(y[obs]):
            continue
        n_present += 1
        for i in range(n_fixef):
            for j in range(i + 1):
                out.xx[i, j] += q_basis[obs, i] * q_basis[obs, j]
        first_effect = 0
        for term in range(n_terms):
            col = s.obs_cols[obs, term]
            out.seen[col] += 1
            for e in range(s.term_size[term]):
                for i in range(n_fixef):
                    out.zx[col + e, i] += effects[obs, first_effect + e] * q_basis[obs, i]
            first_effect += s.term_size[term]
        _add_blocks(s, effects, obs, out.zz)
    if n_present <= n_fixef + 1:
        return TOO_FEW
    for i in range(n_fixef):
        for j in range(i + 1):
            out.factor[i, j] = out.xx[i, j]
    if not cholesky(out.factor, n_fixef, RANK_TOLERANCE):
        return RANK_DEFICIENT
    code: int = _check_levels(s, n_present, safe_mode, out.seen)
    return code


@inner
def _clear(out: Pattern) -> None:
    """Zero a pattern's products."""
    for value in range(out.zz.size):
        out.zz[value] = 0.0
    for col in range(out.zx.shape[0]):
        out.seen[col] = 0
        for i in range(out.zx.shape[1]):
            out.zx[col, i] = 0.0
    for i in range(out.xx.shape[0]):
        for j in range(out.xx.shape[1]):
            out.xx[i, j] = 0.0


@inner
def _add_blocks(s: Structure, effects: FloatArray, obs: int, zz: FloatArray) -> None:
    """Add one image's products of effects to the blocks of Z'Z."""
    pair = 0
    first_col = 0
    for col_term in range(s.term_size.size):
        first_row = first_col
        for row_term in range(col_term, s.term_size.size):
            start = s.block_start[s.obs_blocks[obs, pair]]
            width = s.term_size[col_term]
            for i in range(s.term_size[row_term]):
                for j in range(width):
                    zz[start + i * width + j] += effects[obs, first_row + i] * effects[obs, first_col + j]
            first_row += s.term_size[row_term]
            pair += 1
        first_col += s.term_size[col_term]


@inner
def _check_levels(s: Structure, n_present: int, safe_mode: bool, seen: IntArray) -> int:
    """Whether each factor keeps two levels, and fewer effects than images."""
    code = CONVERGED
    for term in range(s.term_size.size):
        n_levels = 0
        for col in range(s.term_start[term], s.term_start[term + 1], s.term_size[term]):
            if seen[col] > 0:
                n_levels += 1
        if n_levels < 2:
            return ONE_LEVEL
        if safe_mode and n_levels * s.term_size[term] >= n_present:
            code = SAFE_MODE
    return code


@inner
def reduce_response(
    q_basis: FloatArray,
    factor: FloatArray,
    resolution: float,
    y: FloatArray,
    gamma: FloatArray,
    scale: FloatArray,
) -> int:
    """Take the least-squares fit off a voxel's response, in place; a status code.

    It is divided by a power of two near its residual's size besides, so that neither a large mean nor
    its units cost digits.

    Parameters
    ----------
    q_basis : (obs, fixef)
    factor : (fixef, fixef)
        Cholesky factor of Q'Q over the images present.
    resolution : float
        Machine epsilon of the type that the values were stored in.
    y : (obs,)
        Values, NaN where missing; overwritten.
    gamma : (fixef,)
        Output: the least-squares coefficients in Q.
    scale : (2,)
        Output: the power of two, and the scaled rss at or below which nothing is left but rounding.
    """
    n_fixef = gamma.size
    low, high, square = _range(y)
    if low == high:
        return CONSTANT
    for i in range(n_fixef):
        gamma[i] = 0.0
    for obs in range(y.size):
        if not math.isnan(y[obs]):
            for i in range(n_fixef):
                gamma[i] += q_basis[obs, i] * y[obs]
    cholesky_solve(factor, n_fixef, gamma)
    rss = 0.0
    n_present = 0
    for obs in range(y.size):
        if not math.isnan(y[obs]):
            for i in range(n_fixef):
                y[obs] -= q_basis[obs, i] * gamma[i]
            rss += y[obs] * y[obs]
            n_present += 1
    rounding = 16.0 * resolution * resolution * square
    if not rss > rounding:
        return ZERO_RESIDUAL
    scale[0] = 2.0 ** math.floor(0.5 * math.log2(rss / n_present))
    scale[1] = rounding / (scale[0] * scale[0])
    for obs in range(y.size):
        y[obs] /= scale[0]
    return CONVERGED


@inner
def store_products(
    s: Structure,
    q_basis: FloatArray,
    effects: FloatArray,
    y: FloatArray,
    pattern: Pattern,
    w: int,
    stats: FloatArray,
) -> None:
    """Write one voxel's products into lane ``w`` of a store.

    Parameters
    ----------
    y : (obs,)
        Reduced response.
    pattern : Pattern
        The design's products over the images present.
    stats : (product, lane)
    """
    n_fixef = s.sizes[1]
    n_border = n_fixef + 1
    # 1. Products with the response.
    for col in range(s.sizes[0]):
        stats[s.sizes[5] + col * n_border + n_fixef, w] = 0.0
    square = 0.0
    for obs in range(y.size):
        if math.isnan(y[obs]):
            continue
        square += y[obs] * y[obs]
        first_effect = 0
        for term in range(s.term_size.size):
            col = s.obs_cols[obs, term]
            for e in range(s.term_size[term]):
                product = s.sizes[5] + (col + e) * n_border + n_fixef
                stats[product, w] += effects[obs, first_effect + e] * y[obs]
            first_effect += s.term_size[term]
    entry = s.sizes[6]
    for i in range(n_fixef):
        for j in range(i + 1, n_fixef):
            stats[entry, w] = pattern.xx[j, i]
            entry += 1
        total = 0.0
        for obs in range(y.size):
            if not math.isnan(y[obs]):
                total += q_basis[obs, i] * y[obs]
        stats[entry, w] = total
        entry += 1
        stats[s.sizes[7] + i, w] = pattern.xx[i, i]
    stats[s.sizes[7] + n_fixef, w] = square
    # 2. The pattern's own.
    for value in range(pattern.zz.size):
        stats[value, w] = pattern.zz[value]
    for col in range(pattern.zx.shape[0]):
        for i in range(n_fixef):
            stats[s.sizes[5] + col * n_border + i, w] = pattern.zx[col, i]


@inner
def reorder_effects(
    s: Structure, stats: FloatArray, w: int, term: int, order: IntArray, scratch: FloatArray
) -> None:
    """Put a term's effects into another order in one lane's products.

    Parameters
    ----------
    stats : (product, lane)
    order : (effect,)
        Position that each effect's products have now.
    scratch : (effects squared,)
    """
    size = s.term_size[term]
    n_border = s.sizes[1] + 1
    for col in range(s.term_start[term], s.term_start[term + 1], size):
        for c in range(n_border):
            for e in range(size):
                scratch[e] = stats[s.sizes[5] + (col + order[e]) * n_border + c, w]
            for e in range(size):
                stats[s.sizes[5] + (col + e) * n_border + c, w] = scratch[e]
    for block in range(s.block_terms.shape[0]):
        is_row = s.block_terms[block, 0] == term
        is_col = s.block_terms[block, 1] == term
        if not is_row and not is_col:
            continue
        start = s.block_start[block]
        height = s.term_size[s.block_terms[block, 0]]
        width = s.term_size[s.block_terms[block, 1]]
        for i in range(height):
            row = order[i] if is_row else i
            for j in range(width):
                scratch[i * width + j] = stats[start + row * width + (order[j] if is_col else j), w]
        for value in range(height * width):
            stats[start + value, w] = scratch[value]


@inner
def _range(y: FloatArray) -> tuple[float, float, float]:
    """Smallest and largest value present, and the sum of squares."""
    low = math.inf
    high = -math.inf
    square = 0.0
    for value in y:
        if not math.isnan(value):
            low = min(low, value)
            high = max(high, value)
            square += value * value
    return low, high, square
