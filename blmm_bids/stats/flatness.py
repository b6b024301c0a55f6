"""Random terms whose variance the data cannot tell: their columns lie in the span of the fixed effects.

With P the projection off X, the restricted likelihood knows a term through P Z alone. Where a combination c
of the term's effects has ``P Z_l c = 0`` at every level l, it is flat in the variance of that combination.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from blmm_bids.stats.model import FloatArray, RandomTerm
from blmm_bids.stats.strata import SAME_SPACE, Strata, level_sums

# Squared sines below this are worked out again without squares, which lose digits where images are missing.
_NEAR = 1e-4
# Voxels looked at together.
_CHUNK = 256


@dataclass(frozen=True, eq=False)
class Inside:
    """How much of a term lies inside the fixed effects.

    Attributes
    ----------
    effects : (effect,) bool
        Effects of which some combination does at all levels.
    levels : (level,) bool
        Levels of which some combination of effects does.
    """

    effects: NDArray[np.bool_]
    levels: NDArray[np.bool_]


def inside_fixed(q_basis: FloatArray, term: RandomTerm) -> Inside:
    """Compare the columns of a term with the span of X.

    Parameters
    ----------
    q_basis : (obs, fixef)
        Orthonormal basis of the columns of X.
    term : RandomTerm
    """
    total, rest = _level_products(q_basis, term)
    sizes = np.sqrt(np.maximum(np.einsum("lee->e", total), np.finfo(np.float64).tiny))
    total, rest = total / np.outer(sizes, sizes), rest / np.outer(sizes, sizes)
    shares, directions = _shares(total.sum(axis=0)[None], rest.sum(axis=0)[None])
    flat = shares[0] <= SAME_SPACE
    effects = (np.abs(directions[0][:, flat]) > 1e-6).any(axis=1)
    return Inside(np.asarray(effects), np.asarray((_shares(total, rest)[0] <= SAME_SPACE).any(axis=1)))


def flat_voxels(
    q_basis: FloatArray,
    terms: tuple[RandomTerm, ...],
    strata: Strata,
    y: NDArray[np.floating],
    candidates: NDArray[np.bool_],
) -> NDArray[np.bool_]:
    """Find voxels whose missing images put a term inside the fixed effects.

    Parameters
    ----------
    q_basis : (obs, fixef)
    terms : tuple of RandomTerm
    strata : Strata
        Of these terms.
    y : (voxel, obs)
        NaN where an image is missing.
    candidates : (voxel,) bool
        Those that were fitted and lack an image.
    """
    flat = np.zeros(y.shape[0], dtype=bool)
    voxels = np.flatnonzero(candidates)
    for start in range(0, voxels.size, _CHUNK):
        chunk = voxels[start : start + _CHUNK]
        present = ~np.isnan(y[chunk])
        n_levels = strata.levels_present(present)
        first = 0
        for term in terms:
            # The columns of the levels are independent: no more of them than fixed effects fit in.
            few = np.min(n_levels[first : first + term.n_effects], axis=0) <= q_basis.shape[1]
            first += term.n_effects
            near = few & ~flat[chunk]
            near[near] = _smallest_shares(q_basis, term, present[near]) <= _NEAR
            for place in np.flatnonzero(near):
                flat[chunk[place]] = _is_flat(q_basis, term, present[place])
    return flat


def _smallest_shares(q_basis: FloatArray, term: RandomTerm, present: NDArray[np.bool_]) -> FloatArray:
    """Smallest squared sine between a term and X over some images, (voxel, obs) to (voxel,)."""
    n_fixef, n_effects = q_basis.shape[1], term.n_effects
    if not len(present):
        return np.zeros(0)
    weights = present.astype(np.float64)
    effects = term.effects / np.maximum(np.abs(term.effects).max(axis=0), np.finfo(np.float64).tiny)
    gram = weights @ (q_basis[:, :, None] * q_basis[:, None, :]).reshape(-1, n_fixef**2)
    total = weights @ (effects[:, :, None] * effects[:, None, :]).reshape(-1, n_effects**2)
    factor = np.linalg.pinv(gram.reshape(-1, n_fixef, n_fixef), hermitian=True)
    rest = total = total.reshape(-1, n_effects, n_effects)
    for level in range(term.n_levels):
        obs = np.flatnonzero(term.refs == level)
        products = (effects[obs, :, None] * q_basis[obs, None, :]).reshape(obs.size, -1)
        cross = (weights[:, obs] @ products).reshape(-1, n_effects, n_fixef)
        rest = rest - cross @ factor @ cross.transpose(0, 2, 1)
    return np.asarray(_shares(total, rest)[0].min(axis=1))


def _is_flat(q_basis: FloatArray, term: RandomTerm, present: NDArray[np.bool_]) -> bool:
    basis = np.linalg.qr(q_basis[present])[0]
    part = replace(term, refs=term.refs[present], effects=term.effects[present])
    total, rest = _level_products(basis, part)
    return bool((_shares(total.sum(axis=0)[None], rest.sum(axis=0)[None])[0] <= SAME_SPACE).any())


def _level_products(q_basis: FloatArray, term: RandomTerm) -> tuple[FloatArray, FloatArray]:
    """``Z_l' Z_l`` and ``Z_l' P Z_l`` of each level."""
    total, cross = level_sums(term, term.effects), level_sums(term, q_basis)
    return total, total - cross @ cross.transpose(0, 2, 1)


def _shares(total: FloatArray, rest: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Eigenvalues of ``rest`` relative to ``total`` with their directions; 1 where ``total`` has none."""
    values, vectors = np.linalg.eigh(total)
    there = values > 1e-12 * np.maximum(values[:, -1:], np.finfo(np.float64).tiny)
    scaled = vectors * (there / np.sqrt(np.where(there, values, 1.0)))[:, None, :]
    inner = scaled.transpose(0, 2, 1) @ rest @ scaled
    diagonal = np.arange(values.shape[1])
    inner[:, diagonal, diagonal] += ~there
    shares, turned = np.linalg.eigh(inner)
    return np.asarray(shares), np.asarray(scaled @ turned)
