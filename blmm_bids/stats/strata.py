"""Where a contrast lives: the strata of a design, and the fewest degrees of freedom that each leaves.

A stratum is one effect of one random term: the levels' own values of it. A contrast that rests on them has
no fewer degrees of freedom than these levels leave once the fixed effects are fitted, however little the
images say of the variance between them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from blmm_bids.stats.model import FloatArray, IntArray, RandomTerm

# A squared cosine this close to one is one: covariates that are constant within levels up to rounding.
SAME_SPACE = 1e-9


@dataclass(frozen=True, eq=False)
class Strata:
    """What `floor_of` needs of a design.

    Attributes
    ----------
    grams : (stratum, fixef, fixef)
        ``Q'U U'Q``, U an orthonormal basis of a stratum's columns of Z.
    df : (stratum,)
        Levels less the fixed effects that are constant within them (as multiples of the effect), and less the
        df of coarser strata.
    coarser : (stratum, stratum) bool
        Whether the second's columns of Z are in the span of the first's: sites, of subjects nested in them.
    residual_df : float
        At least this many images are left to the residual.
    obs, starts : tuple of IntArray
        Images that a stratum's effect reaches, level by level, and where each level starts.
    n_obs : int
        Images in all.
    metric : (fixef, fixef)
        Variance of the least-squares coefficients in Q if images of one level of a random term were less
        alike than others: no D makes that so, and thus no voxel's covariance is a multiple of it.
    """

    grams: FloatArray
    df: FloatArray
    coarser: NDArray[np.bool_]
    residual_df: float
    obs: tuple[IntArray, ...]
    starts: tuple[IntArray, ...]
    n_obs: int
    metric: FloatArray

    def bounds(self, y: NDArray[np.floating], n_obs: IntArray) -> FloatArray:
        """Lower bound of each stratum's df, and of the residual's last, at voxels that may lack images.

        Parameters
        ----------
        y : (voxel, obs)
            NaN where an image is missing.
        n_obs : (voxel,)
            Images that each voxel has.

        Returns
        -------
        (voxel, stratum + 1)
        """
        bounds = np.empty((y.shape[0], self.df.size + 1))
        bounds[:] = np.append(self.df, self.residual_df)
        # Each image takes one from the rank of [X Z] at most.
        bounds -= (self.n_obs - n_obs)[:, None]
        partly = np.flatnonzero(n_obs < self.n_obs)
        if partly.size and self.df.size:
            n_fixef = self.grams.shape[1]
            n_levels = np.stack([*self.levels_present(~np.isnan(y[partly]))], axis=1)
            left = n_levels - n_fixef - n_levels @ self.coarser.T
            bounds[partly, :-1] = np.maximum(bounds[partly, :-1], left)
        return np.maximum(bounds, 1.0)

    def levels_present(self, present: NDArray[np.bool_]) -> list[IntArray]:
        """Count the levels of each stratum that have an image, (voxel, obs) to one (voxel,) a stratum."""
        return [
            np.logical_or.reduceat(present[:, obs], starts, axis=1).sum(axis=1)
            for obs, starts in zip(self.obs, self.starts, strict=True)
        ]

    def floor_of(self, rows: FloatArray, bounds: FloatArray, n_obs: IntArray) -> FloatArray:
        """Fewest degrees of freedom of a contrast.

        Parameters
        ----------
        rows : (contrast, fixef)
            Weights of coefficients in Q.
        bounds : (voxel, stratum + 1)
            From `bounds`.
        n_obs : (voxel,)
            Images that each voxel has.

        Returns
        -------
        (voxel,)
            That of the strata which the contrast's least-squares estimate rests on, and of the residual where
            it rests on none. Where images are missing it may rest on any.
        """
        square = (rows**2).sum()
        shares = np.array([sum(float(row @ gram @ row) for row in rows) for gram in self.grams])
        rests_on = np.append(shares > SAME_SPACE * square, False)
        if not rests_on.any():
            rests_on[-1] = True
        whole = n_obs == self.n_obs
        return np.asarray(np.where(whole, bounds[:, rests_on].min(axis=1), bounds.min(axis=1)))


def make_strata(q_basis: FloatArray, terms: Sequence[RandomTerm]) -> Strata:
    """Work the strata of a design out.

    Parameters
    ----------
    q_basis : (obs, fixef)
        Orthonormal basis of the columns of X.
    terms : sequence of RandomTerm
    """
    grams, dfs, all_obs, all_starts = [], [], [], []
    for term in terms:
        for effect in term.effects.T:
            reached = np.flatnonzero(effect)
            obs = reached[np.argsort(term.refs[reached], kind="stable")]
            levels, starts = np.unique(term.refs[obs], return_index=True)
            length = np.sqrt(np.add.reduceat(effect[obs] ** 2, starts))
            cosines = np.add.reduceat(q_basis[obs] * effect[obs, None], starts) / length[:, None]
            gram = cosines.T @ cosines
            n_inside = int((np.linalg.eigvalsh(gram) > 1.0 - SAME_SPACE).sum())
            grams.append(gram)
            dfs.append(float(levels.size - n_inside))
            all_obs.append(obs)
            all_starts.append(starts)
    n_obs, n_fixef = q_basis.shape
    coarser = _coarser([(term.refs, effect) for term in terms for effect in term.effects.T])
    df = np.array(dfs)
    # From the coarsest on, each is without what lies in it.
    for k in np.argsort(df, kind="stable"):
        df[k] -= df[coarser[k]].sum()
    return Strata(
        grams=np.array(grams).reshape(-1, n_fixef, n_fixef),
        df=df,
        coarser=coarser,
        residual_df=float(n_obs - n_fixef - df.sum()),
        obs=tuple(all_obs),
        starts=tuple(all_starts),
        n_obs=n_obs,
        metric=_metric(q_basis, terms),
    )


def _coarser(strata: Sequence[tuple[IntArray, FloatArray]]) -> NDArray[np.bool_]:
    """Which strata lie in the span of which; see `Strata.coarser`."""
    coarser = np.zeros((len(strata), len(strata)), dtype=bool)
    for i, (refs, effect) in enumerate(strata):
        square = np.bincount(refs, effect**2)
        for j, (others, column) in enumerate(strata):
            if others is refs or others.max() >= refs.max():
                continue
            is_nested = np.unique(np.stack([refs, others]), axis=1).shape[1] == np.unique(refs).size
            inside = np.bincount(refs, effect * column) ** 2 / np.where(square > 0, square, 1.0)
            coarser[i, j] = is_nested and inside.sum() > (1.0 - SAME_SPACE) * (column**2).sum()
    return coarser


def _metric(q_basis: FloatArray, terms: Sequence[RandomTerm]) -> FloatArray:
    """``Q' (I - sum of w U U') Q``, U an orthonormal basis of what an effect adds to those before it."""
    n_fixef = q_basis.shape[1]
    metric = np.eye(n_fixef)
    n_strata = sum(term.n_effects for term in terms)
    stratum = 0
    for given in terms:
        # Made orthogonal in their order, since a slope's offset would hide its digits.
        term = replace(given, effects=np.linalg.qr(given.effects)[0])
        inner, cross = level_sums(term, term.effects), level_sums(term, q_basis)
        for e in range(term.n_effects):
            stratum += 1
            before = inner[:, :e, :e], inner[:, :e, [e]], cross[:, :e]
            weights = (np.linalg.pinv(before[0], hermitian=True) @ before[1]).transpose(0, 2, 1)
            added = (cross[:, [e]] - weights @ before[2])[:, 0]
            square = inner[:, e, e] - (weights @ before[1])[:, 0, 0]
            there = square > SAME_SPACE * inner[:, e, e]
            # Weights that differ, so that strata do where no variance tells them apart; half in all.
            weight = stratum / (n_strata * (n_strata + 1))
            metric -= weight * (added[there].T / square[there]) @ added[there]
    return metric


def level_sums(term: RandomTerm, columns: FloatArray) -> FloatArray:
    """``Z_l' columns`` of each level, (level, effect, column)."""
    sums = np.empty((term.n_levels, term.n_effects, columns.shape[1]))
    for e, effect in enumerate(term.effects.T):
        for c, column in enumerate(columns.T):
            sums[:, e, c] = np.bincount(term.refs, effect * column, term.n_levels)
    return sums
