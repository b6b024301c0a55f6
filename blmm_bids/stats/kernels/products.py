"""Sufficient statistics: past these files nothing sees the data.

The products of the design depend on which images are present, not on their values; voxels come
sorted by pattern, and a pattern's products are computed once. Responses are taken a batch of voxels
of one pattern at a time, a column each.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from blmm_bids.stats.kernels.compiling import apart, inner
from blmm_bids.stats.kernels.small import cholesky, clear, clear_columns
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
    present : (obs,)
        Images present, as far as ``n_present`` goes.
    n_present : (1,)
    products : (product,)
        Laid out as `Structure` says; zero for the products with y.
    factor : (fixef, fixef)
        Cholesky factor of Q'Q.
    seen : (ranef,)
        Images of each level, at the level's first column.
    """

    present: IntArray
    n_present: IntArray
    products: FloatArray
    factor: FloatArray
    seen: IntArray


class Responses(NamedTuple):
    """A batch of voxels of one pattern; the last axis is the voxel.

    Attributes
    ----------
    values : (obs present, column)
        Reduced responses.
    gamma : (fixef, column)
        Least-squares coefficients in Q.
    scale : (2, column)
        The power of two that ``values`` were divided by, and the scaled rss at or below which nothing is
        left but rounding.
    extent : (4, column)
        Least and largest value, sum of squares, and residual sum of squares, unscaled.
    n_present : (column,)
    codes : (column,)
        Status: whether the voxel can be fitted.
    """

    values: FloatArray
    gamma: FloatArray
    scale: FloatArray
    extent: FloatArray
    n_present: IntArray
    codes: IntArray


def allocate_pattern(s: Structure, n_obs: int) -> Pattern:
    """Zeroed products for one pattern."""
    n_ranef, n_fixef = int(s.sizes[0]), int(s.sizes[1])
    return Pattern(
        present=np.zeros(n_obs, dtype=np.int64),
        n_present=np.zeros(1, dtype=np.int64),
        products=np.zeros(int(s.sizes[8])),
        factor=np.zeros((n_fixef, n_fixef)),
        seen=np.zeros(n_ranef, dtype=np.int64),
    )


def allocate_responses(n_obs: int, n_fixef: int, columns: int) -> Responses:
    """Zeroed room for a batch of voxels."""
    return Responses(
        values=np.zeros((n_obs, columns)),
        gamma=np.zeros((n_fixef, columns)),
        scale=np.zeros((2, columns)),
        extent=np.zeros((4, columns)),
        n_present=np.zeros(columns, dtype=np.int64),
        codes=np.zeros(columns, dtype=np.int64),
    )


@inner
def compute_pattern(
    s: Structure,
    q_basis: FloatArray,
    effects: FloatArray,
    skipped: int,
    y: FloatArray,
    safe_mode: bool,
    out: Pattern,
) -> int:
    """Fill a pattern's products from the images where ``y`` is not NaN; a status code.

    Parameters
    ----------
    q_basis : (obs, fixef)
    effects : (obs, effect over all terms)
    skipped : int
        Effects at the front of ``effects`` that ``s`` does not know.
    y : (obs,)
        Values of any voxel with this pattern.
    safe_mode : bool
        Refuse a term with at least as many effects as images.
    out : Pattern
    """
    n_terms = s.term_size.size
    products, present, seen = out.products, out.present, out.seen
    clear(products)
    clear(seen)
    n_present = 0
    for obs in range(y.size):
        if math.isnan(y[obs]):
            continue
        present[n_present] = obs
        n_present += 1
        add_image(s, q_basis, effects, skipped, obs, products)
        for term in range(n_terms):
            seen[s.obs_cols[obs, term]] += 1
    out.n_present[0] = n_present
    return check_pattern(s, products[s.sizes[6] :], n_present, seen, safe_mode, out.factor)  # type: ignore[no-any-return]


@inner
def check_pattern(
    s: Structure, plain: FloatArray, n_present: int, seen: IntArray, safe_mode: bool, factor: FloatArray
) -> int:
    """Status code of a pattern, but for the first term; ``factor`` becomes the one of Q'Q.

    Parameters
    ----------
    plain : (border,)
        Q'Q, packed.
    seen : (ranef,)
        Images of each level.
    """
    n_fixef = s.sizes[1]
    if n_present <= n_fixef + 1:
        return TOO_FEW
    entry, diagonal = 0, s.sizes[7] - s.sizes[6]
    for i in range(n_fixef):
        factor[i, i] = plain[diagonal + i]
        for j in range(i + 1, n_fixef):
            factor[j, i] = plain[entry]
            entry += 1
        entry += 1
    if not cholesky(factor, n_fixef, RANK_TOLERANCE):
        return RANK_DEFICIENT
    code: int = _check_levels(s, n_present, safe_mode, seen)
    return code


@inner
def add_image(
    s: Structure, q_basis: FloatArray, effects: FloatArray, skipped: int, obs: int, products: FloatArray
) -> None:
    """Add one image's products of Q and of the effects."""
    add_square(1.0, q_basis[obs], s.sizes[7] - s.sizes[6], products[s.sizes[6] :])
    add_image_effects(s, q_basis, effects, skipped, obs, products)


@inner
def add_image_effects(
    s: Structure, q_basis: FloatArray, effects: FloatArray, skipped: int, obs: int, products: FloatArray
) -> None:
    """Add one image's products of the effects, with Q and each other."""
    n_fixef = s.sizes[1]
    n_border = n_fixef + 1
    effect = skipped
    for term in range(s.term_size.size):
        col = s.obs_cols[obs, term]
        for e in range(s.term_size[term]):
            place = s.sizes[5] + (col + e) * n_border
            for i in range(n_fixef):
                products[place + i] += effects[obs, effect] * q_basis[obs, i]
            effect += 1
    _add_blocks(s, effects, skipped, obs, products)


@apart
def add_square(times: float, x: FloatArray, diagonal: int, border: FloatArray) -> None:
    """Add ``times x x'`` to packed products of [Q y] from their start on, the diagonal from ``diagonal``."""
    entry = 0
    for i in range(x.size):
        factor = times * x[i]
        border[diagonal + i] += factor * x[i]
        for j in range(i + 1, x.size):
            border[entry] += factor * x[j]
            entry += 1
        # The row of y.
        entry += 1


@inner
def _add_blocks(s: Structure, effects: FloatArray, skipped: int, obs: int, products: FloatArray) -> None:
    """Add one image's products of effects to the blocks of Z'Z."""
    pair = 0
    first_col = skipped
    for col_term in range(s.term_size.size):
        first_row = first_col
        for row_term in range(col_term, s.term_size.size):
            start = s.block_start[s.obs_blocks[obs, pair]]
            width = s.term_size[col_term]
            for i in range(s.term_size[row_term]):
                for j in range(width):
                    products[start + i * width + j] += (
                        effects[obs, first_row + i] * effects[obs, first_col + j]
                    )
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
def take_response(y: FloatArray, pattern: Pattern, n_missing: int, b: int, r: Responses) -> None:
    """Make a voxel's values a column of the batch; where the voxel lacks images of the pattern, zero.

    Parameters
    ----------
    y : (obs,)
    n_missing : int
        Images of the pattern that the voxel lacks.
    """
    values, present, n_present = r.values, pattern.present, pattern.n_present[0]
    low, high = math.inf, -math.inf
    for i in range(n_present):
        value = y[present[i]]
        if math.isnan(value):
            values[i, b] = 0.0
            continue
        values[i, b] = value
        low = min(low, value)
        high = max(high, value)
    r.extent[0, b] = low
    r.extent[1, b] = high
    r.n_present[b] = n_present - n_missing


@inner
def multiply_basis(q_basis: FloatArray, pattern: Pattern, n_columns: int, r: Responses) -> None:
    """``gamma = Q'y``, and y'y."""
    present, values, gamma, square = pattern.present, r.values, r.gamma, r.extent[2]
    clear_columns(gamma, n_columns)
    for b in range(n_columns):
        square[b] = 0.0
    for i in range(pattern.n_present[0]):
        for b in range(n_columns):
            square[b] += values[i, b] * values[i, b]
        for j in range(gamma.shape[0]):
            x = q_basis[present[i], j]
            for b in range(n_columns):
                gamma[j, b] += x * values[i, b]


@inner
def take_off_fit(q_basis: FloatArray, pattern: Pattern, n_columns: int, r: Responses) -> None:
    """Leave the residuals of the least-squares fit."""
    present, values, gamma = pattern.present, r.values, r.gamma
    for i in range(pattern.n_present[0]):
        for j in range(gamma.shape[0]):
            x = q_basis[present[i], j]
            for b in range(n_columns):
                values[i, b] -= x * gamma[j, b]


@inner
def scale_responses(pattern: Pattern, resolution: float, n_columns: int, r: Responses) -> None:
    """Divide residuals by a power of two near their size, and say which voxels can be fitted.

    Neither a large mean nor the units of a response cost digits then.

    Parameters
    ----------
    resolution : float
        Machine epsilon of the type that the values were stored in.
    n_columns : int
        Columns of the batch in use.
    """
    values, n_present = r.values, pattern.n_present[0]
    low, high, square, rss = r.extent[0], r.extent[1], r.extent[2], r.extent[3]
    for b in range(n_columns):
        rss[b] = 0.0
    for i in range(n_present):
        for b in range(n_columns):
            rss[b] += values[i, b] * values[i, b]
    for b in range(n_columns):
        rounding = 16.0 * resolution * resolution * square[b]
        r.codes[b] = CONVERGED
        r.scale[0, b] = 1.0
        if low[b] == high[b]:
            r.codes[b] = CONSTANT
        elif not rss[b] > rounding:
            r.codes[b] = ZERO_RESIDUAL
        else:
            r.scale[0, b] = 2.0 ** math.floor(0.5 * math.log2(rss[b] / r.n_present[b]))
        r.scale[1, b] = rounding / (r.scale[0, b] * r.scale[0, b])
    for i in range(n_present):
        for b in range(n_columns):
            values[i, b] /= r.scale[0, b]


@inner
def solve_columns(factor: FloatArray, n_columns: int, x: FloatArray) -> None:
    """Solve ``L L' X = B`` in place of B, for many columns."""
    n = x.shape[0]
    for i in range(n):
        for k in range(i):
            for b in range(n_columns):
                x[i, b] -= factor[i, k] * x[k, b]
        for b in range(n_columns):
            x[i, b] /= factor[i, i]
    for i in range(n - 1, -1, -1):
        for k in range(i + 1, n):
            for b in range(n_columns):
                x[i, b] -= factor[k, i] * x[k, b]
        for b in range(n_columns):
            x[i, b] /= factor[i, i]


@inner
def multiply_effects(
    s: Structure,
    effects: FloatArray,
    skipped: int,
    pattern: Pattern,
    values: FloatArray,
    n_columns: int,
    out: FloatArray,
) -> None:
    """``out = Z' values``: (ranef, column) from (obs present, column), for the columns in use."""
    clear_columns(out, n_columns)
    for i in range(pattern.n_present[0]):
        obs = pattern.present[i]
        effect = skipped
        for term in range(s.term_size.size):
            col = s.obs_cols[obs, term]
            for e in range(s.term_size[term]):
                z = effects[obs, effect]
                for b in range(n_columns):
                    out[col + e, b] += z * values[i, b]
                effect += 1
