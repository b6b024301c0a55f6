"""Conditional modes and residuals of a block of voxels, at covariances found before.

Henderson's mixed model equations are the bordered matrix of `blmm_bids.stats.plan` without its last
row: ``A [u; gamma] = [L'Z'y; X'y]``. Once ``A = L diag(d) L'`` is factorised the last row of the factor
is ``diag(d)^-1 L^-1`` of the right-hand side, so one back-substitution with L' gives the spherical modes
u and the fixed effects together (Bates et al. 2015, eqs. 16-19).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from blmm_bids.stats.kernels.assembly import assemble
from blmm_bids.stats.kernels.cholesky import factorise
from blmm_bids.stats.kernels.compiling import inner, kernel
from blmm_bids.stats.kernels.criterion import Factors
from blmm_bids.stats.kernels.products import (
    CONVERGED,
    Pattern,
    Responses,
    compute_pattern,
    multiply_basis,
    multiply_effects,
    scale_responses,
    solve_columns,
    take_off_fit,
    take_response,
)
from blmm_bids.stats.kernels.small import jacobi_eigh
from blmm_bids.stats.model import FloatArray, IntArray
from blmm_bids.stats.plan_structure import Structure

# Whether a voxel may be fitted was decided before.
IGNORE_SAFE_MODE = False


class Scales(NamedTuple):
    """How the plan's columns relate to the user's.

    Attributes
    ----------
    rotations : (term, effect, effect)
        ``b = T b~`` of each term in elimination order, padded to the widest.
    first_mode : (term,)
        Where each term's modes start in the output, terms in elimination order.
    resolution : float
        Machine epsilon of the values.
    """

    rotations: FloatArray
    first_mode: IntArray
    resolution: float


class Work(NamedTuple):
    """Scratch of `write_modes`.

    ``solution`` is (ranef + fixef, lane), ``reduced`` (lane, obs), ``products`` (ranef, 1).
    """

    reduced: FloatArray
    products: FloatArray
    scale: FloatArray
    solution: FloatArray
    square: FloatArray
    vectors: FloatArray


def allocate_work(s: Structure, lanes: int, n_obs: int) -> Work:
    """Zeroed scratch for ``lanes`` voxels side by side."""
    n_ranef, n_fixef = int(s.sizes[0]), int(s.sizes[1])
    widest = int(s.term_size.max()) if s.term_size.size else 1
    return Work(
        reduced=np.zeros((lanes, n_obs)),
        products=np.zeros((n_ranef, 1)),
        scale=np.zeros(lanes),
        solution=np.zeros((n_ranef + n_fixef, lanes)),
        square=np.zeros((widest, widest)),
        vectors=np.zeros((widest, widest)),
    )


@kernel
def write_modes(
    s: Structure,
    q_basis: FloatArray,
    effects: FloatArray,
    y: FloatArray,
    order: IntArray,
    pattern_ids: IntArray,
    d: FloatArray,
    scales: Scales,
    k: Factors,
    pattern: Pattern,
    responses: Responses,
    work: Work,
    modes: FloatArray,
    residuals: FloatArray,
) -> None:
    """Fill in the modes and residuals of the voxels in ``order``.

    Parameters
    ----------
    q_basis, effects
        See `DesignPlan`.
    y : (voxel, obs) float32 or float64
        Values, NaN where missing.
    order : (fitted voxel,)
        Voxels that have estimates, sorted by pattern.
    pattern_ids : (voxel,)
        Which pattern each voxel has.
    d : (voxel, vech)
        Covariances on the user's scale, terms in elimination order.
    scales, k, pattern, responses, work
        Scales of the plan, and working arrays.
    modes : (voxel, ranef)
        Output, in units of the data.
    residuals : (voxel, obs)
        Output.
    """
    lanes = k.diag.shape[1]
    n_solved = s.sizes[0] + s.sizes[1]
    current = -1
    for first in range(0, order.size, lanes):
        n_active = min(lanes, order.size - first)
        # 1. The chunk's sufficient statistics and covariance factors.
        for w in range(n_active):
            voxel = order[first + w]
            if pattern_ids[voxel] != current:
                current = pattern_ids[voxel]
                row = work.reduced[w]
                for obs in range(row.size):
                    row[obs] = y[voxel, obs]
                compute_pattern(s, q_basis, effects, 0, row, IGNORE_SAFE_MODE, pattern)
            _load_response(s, q_basis, effects, y[voxel], scales, w, pattern, responses, work, k.stats)
            for term in range(s.term_size.size):
                _load_theta(s, term, d[voxel], scales, w, k.theta, work)
        # 2. u and gamma, in every lane; lanes without a voxel compute what nobody reads.
        assemble(s, k.stats, k.theta, 1.0, k.entries, k.diag, k.right)
        factorise(s, k.entries, k.diag, k.u, 0, n_solved)
        back_substitute(s, k.entries, n_solved, work.solution)
        # 3. Back to the units of the data.
        for w in range(n_active):
            voxel = order[first + w]
            _unscale_modes(s, k.theta, scales, w, work, modes[voxel])
            _write_residuals(s, q_basis, effects, w, work, residuals[voxel])


@inner
def _load_response(
    s: Structure,
    q_basis: FloatArray,
    effects: FloatArray,
    y: FloatArray,
    scales: Scales,
    w: int,
    pattern: Pattern,
    responses: Responses,
    work: Work,
    stats: FloatArray,
) -> None:
    """Reduce one voxel's response and write all products into lane ``w``."""
    n_border = s.sizes[1] + 1
    values, present, reduced = responses.values, pattern.present, work.reduced[w]
    take_response(y, pattern, 0, 0, responses)
    multiply_basis(q_basis, pattern, 1, responses)
    solve_columns(pattern.factor, 1, responses.gamma)
    take_off_fit(q_basis, pattern, 1, responses)
    scale_responses(pattern, scales.resolution, 1, responses)
    # Without a residual there is nothing to predict from; the fit has said so.
    work.scale[w] = responses.scale[0, 0] if responses.codes[0] == CONVERGED else math.nan
    multiply_effects(s, effects, 0, pattern, values, 1, work.products)
    for x in range(stats.shape[0]):
        stats[x, w] = pattern.products[x]
    for col in range(s.sizes[0]):
        stats[s.sizes[5] + (col + 1) * n_border - 1, w] = work.products[col, 0]
    square = 0.0
    for obs in range(reduced.size):
        reduced[obs] = math.nan
    for i in range(pattern.n_present[0]):
        reduced[present[i]] = values[i, 0]
        square += values[i, 0] * values[i, 0]
    stats[stats.shape[0] - 1, w] = square


@inner
def back_substitute(s: Structure, entries: FloatArray, n_columns: int, x: FloatArray) -> None:
    """Solve ``L' x = l`` where l is the last row of the factor.

    Parameters
    ----------
    entries : (entry, lane)
        Strictly lower entries of L.
    n_columns : int
        Columns factorised: all but the response's.
    x : (n_columns, lane)
        Output.
    """
    lanes = entries.shape[1]
    for j in range(n_columns - 1, -1, -1):
        last = s.col_ptr[j + 1] - 1
        for w in range(lanes):
            x[j, w] = entries[last, w]
        for a in range(s.col_ptr[j], last):
            row = s.row_idx[a]
            for w in range(lanes):
                x[j, w] -= entries[a, w] * x[row, w]


@inner
def _load_theta(
    s: Structure, term: int, d: FloatArray, scales: Scales, w: int, theta: FloatArray, work: Work
) -> None:
    """Lower-triangular factor of one term's conditioned covariance, ``D~ = T^-1 D T^-T``.

    Through eigenvalues: a plain Cholesky factor of a singular D~ divides rounding errors by the square
    roots of others.
    """
    size = s.term_size[term]
    a = work.square
    t = s.theta_start[term]
    for col in range(size):
        for row in range(col, size):
            a[row, col] = d[t]
            a[col, row] = d[t]
            t += 1
    # T X = D down the columns, then T Y = X' for the symmetric Y = D~.
    _solve_and_transpose(scales.rotations[term], size, a)
    _solve_and_transpose(scales.rotations[term], size, a)
    jacobi_eigh(a, size, work.vectors)
    for col in range(size):
        root = math.sqrt(max(a[col, col], 0.0))
        for row in range(size):
            work.vectors[row, col] *= root
    _make_lower(work.vectors, size)
    t = s.theta_start[term]
    for col in range(size):
        for row in range(col, size):
            theta[t, w] = work.vectors[row, col]
            t += 1


@inner
def _solve_and_transpose(lower: FloatArray, n: int, a: FloatArray) -> None:
    """``(lower^-1 a)'`` in place of a."""
    for col in range(n):
        for row in range(n):
            for c in range(row):
                a[row, col] -= lower[row, c] * a[c, col]
            a[row, col] /= lower[row, row]
    for col in range(n):
        for row in range(col):
            upper = a[row, col]
            a[row, col] = a[col, row]
            a[col, row] = upper


@inner
def _make_lower(f: FloatArray, n: int) -> None:
    """Rotate the columns of ``f`` in place until it is lower triangular; ``f f'`` stays."""
    for i in range(n):
        for j in range(i + 1, n):
            length = math.hypot(f[i, i], f[i, j])
            if length == 0.0:
                continue
            c = f[i, i] / length
            sn = f[i, j] / length
            for row in range(i, n):
                x, z = f[row, i], f[row, j]
                f[row, i] = c * x + sn * z
                f[row, j] = c * z - sn * x


@inner
def _unscale_modes(
    s: Structure, theta: FloatArray, scales: Scales, w: int, work: Work, modes: FloatArray
) -> None:
    """``b~ = L u`` in place of u, and the user's ``b = T b~`` into ``modes``."""
    scale = work.scale[w]
    x = work.solution
    for term in range(s.term_size.size):
        size = s.term_size[term]
        start = s.term_start[term]
        rotation = scales.rotations[term]
        for col in range(start, s.term_start[term + 1], size):
            for e in range(size - 1, -1, -1):
                total = 0.0
                for f in range(e + 1):
                    t = s.theta_start[term] + f * size - f * (f - 1) // 2 + e - f
                    total += theta[t, w] * x[col + f, w]
                x[col + e, w] = total
            place = scales.first_mode[term] + col - start
            for e in range(size):
                total = 0.0
                for f in range(e + 1):
                    total += rotation[e, f] * x[col + f, w]
                modes[place + e] = scale * total


@inner
def _write_residuals(
    s: Structure, q_basis: FloatArray, effects: FloatArray, w: int, work: Work, residuals: FloatArray
) -> None:
    """``y - X beta - Z b`` from the reduced response; NaN stays NaN."""
    n_ranef = s.sizes[0]
    scale = work.scale[w]
    x = work.solution
    for obs in range(residuals.size):
        fitted = 0.0
        for i in range(s.sizes[1]):
            fitted += q_basis[obs, i] * x[n_ranef + i, w]
        first_effect = 0
        for term in range(s.term_size.size):
            col = s.obs_cols[obs, term]
            for e in range(s.term_size[term]):
                fitted += effects[obs, first_effect + e] * x[col + e, w]
            first_effect += s.term_size[term]
        residuals[obs] = scale * (work.reduced[w, obs] - fitted)
