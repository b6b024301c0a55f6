"""Voxels that lack some images: what is theirs alone lies in the levels of those images.

All other levels, and so nearly all of the work, they share with voxels that lack none, and stand in one
batch with them. A missing image counts zero in the sums over images, and what it changes in its level is
made good voxel by voxel (`patching.py`).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from blmm_bids.stats.folding import Folding
from blmm_bids.stats.kernels.compiling import inner
from blmm_bids.stats.kernels.deletion import UNKNOWN, Ways, allocate_ways, can_delete
from blmm_bids.stats.kernels.deletions import Deletions, allocate_deletions
from blmm_bids.stats.kernels.fold_products import FoldPattern, check_levels
from blmm_bids.stats.kernels.products import (
    CONVERGED,
    Pattern,
    Responses,
    add_image_effects,
    check_pattern,
    solve_columns,
)
from blmm_bids.stats.kernels.small import add_column_products, cholesky_solve, copy, fetch
from blmm_bids.stats.model import FloatArray, IntArray
from blmm_bids.stats.plan_structure import Structure

# Taking products off leaves their rounding behind. Patterns whose levels with gaps hold more than this
# share of the images, or that leave less than this share of a column's square, are formed from nothing.
MOST_AFFECTED = 0.75
LEAST_LEFT = 1e-3
# Not a status: the pattern's products are to be formed from nothing.
ON_ITS_OWN = -3
# In place of the one image that a level lacks.
NOT_ALONE = -1


class Gaps(NamedTuple):
    """What the voxels of a batch lack; the first axis is the column of the batch.

    Attributes
    ----------
    missing : (column, obs)
        Images missing, as far as ``n_missing`` goes.
    n_missing : (column,)
    levels : (column, level)
        Levels of the first term that lack images, as far as ``n_levels`` goes.
    lone : (column, level)
        The image, where such a level lacks one and can spare it.
    n_levels, n_gone, n_gone_inner : (column,)
        The second counts the levels that lack all, the third those of the first of two terms.
    lacks, lacks_inner : (level,), (inner level,)
        Scratch, zero between uses: images that a level lacks.
    columns : (fixef, obs)
        Scratch: Q of the missing images.
    change : (column, product)
        Products of the missing images.
    plain : (column, border)
        Q'Q of the images present.
    factor : (column, fixef, fixef)
        Its Cholesky factor.
    gamma : (column, fixef)
        Scratch.
    held : (column, obs)
        Responses of the images of the other such levels.
    ways, deletions : Ways, Deletions
        Scratch.
    """

    missing: IntArray
    n_missing: IntArray
    levels: IntArray
    lone: IntArray
    n_levels: IntArray
    n_gone: IntArray
    n_gone_inner: IntArray
    lacks: IntArray
    lacks_inner: IntArray
    columns: FloatArray
    change: FloatArray
    plain: FloatArray
    factor: FloatArray
    gamma: FloatArray
    held: FloatArray
    ways: Ways
    deletions: Deletions


def allocate_gaps(rest: Structure, fold: Folding, columns: int) -> Gaps:
    """Zeroed room for a batch of voxels."""
    n_obs, n_levels, n_fixef = fold.obs_level.size, int(fold.sizes[1]), int(rest.sizes[1])

    def counters(*shape: int) -> IntArray:
        return np.zeros((columns, *shape), dtype=np.int64)

    return Gaps(
        missing=counters(n_obs),
        n_missing=counters(),
        levels=counters(n_levels),
        lone=counters(n_levels),
        n_levels=counters(),
        n_gone=counters(),
        n_gone_inner=counters(),
        lacks=np.zeros(n_levels, dtype=np.int64),
        lacks_inner=np.zeros(fold.inner_images.size, dtype=np.int64),
        columns=np.zeros((n_fixef, n_obs)),
        change=np.zeros((columns, int(rest.sizes[8]))),
        plain=np.zeros((columns, int(rest.sizes[8] - rest.sizes[6]))),
        factor=np.zeros((columns, n_fixef, n_fixef)),
        gamma=np.zeros((columns, n_fixef)),
        held=np.zeros((columns, n_obs)),
        ways=allocate_ways(fold),
        deletions=allocate_deletions(rest, fold),
    )


@inner
def find_gaps(fold: Folding, y: FloatArray, b: int, gaps: Gaps) -> bool:
    """List what a voxel lacks; whether that is little enough for it to share the rest."""
    missing, levels, lone, lacks = gaps.missing[b], gaps.levels[b], gaps.lone[b], gaps.lacks
    n_missing, n_levels, n_gone, n_affected = 0, 0, 0, 0
    for obs in range(y.size):
        if not math.isnan(y[obs]):
            continue
        missing[n_missing] = obs
        n_missing += 1
        if lacks.size == 0:
            n_affected += 1
            continue
        level = fold.obs_level[obs]
        if lacks[level] == 0:
            levels[n_levels], lone[n_levels] = level, obs
            n_levels += 1
            n_affected += fold.obs_ptr[level + 1] - fold.obs_ptr[level]
        lacks[level] += 1
    for i in range(n_levels):
        n_gone += 1 if lacks[levels[i]] == fold.obs_ptr[levels[i] + 1] - fold.obs_ptr[levels[i]] else 0
        lone[i] = lone[i] if lacks[levels[i]] == 1 else NOT_ALONE
        lacks[levels[i]] = 0
    gaps.n_missing[b], gaps.n_levels[b], gaps.n_gone[b] = n_missing, n_levels, n_gone
    gaps.n_gone_inner[b] = _count_gone_inner(fold, missing[:n_missing], gaps.lacks_inner)
    return n_affected <= MOST_AFFECTED * y.size


@inner
def _count_gone_inner(fold: Folding, missing: IntArray, lacks: IntArray) -> int:
    """Count the levels of the first of two terms that lack all images."""
    if lacks.size == 0:
        return 0
    n_gone = 0
    for obs in missing:
        level = fold.obs_inner[obs]
        lacks[level] += 1
        n_gone += 1 if lacks[level] == fold.inner_images[level] else 0
    for obs in missing:
        lacks[fold.obs_inner[obs]] = 0
    return n_gone


@inner
def check_gaps(
    rest: Structure,
    fold: Folding,
    q_basis: FloatArray,
    effects: FloatArray,
    safe_mode: bool,
    whole: Pattern,
    b: int,
    gaps: Gaps,
) -> int:
    """Q'Q and its factor of the images that a voxel has; a status code, or `ON_ITS_OWN`.

    Parameters
    ----------
    whole : Pattern
        Of all images.
    """
    plain, change, missing, seen = gaps.plain[b], gaps.change[b], gaps.missing[b], whole.seen
    first, diagonal = rest.sizes[6], rest.sizes[7] - rest.sizes[6]
    n_missing = gaps.n_missing[b]
    if n_missing == 0:
        copy(whole.products[first:], plain)
        return CONVERGED
    for x in range(change.size):
        change[x] = 0.0
    for i in range(rest.sizes[1]):
        fetch(n_missing, missing, q_basis[:, i], gaps.columns[i])
    add_column_products(1.0, n_missing, gaps.columns, gaps.columns, diagonal, change[first:])
    for i in range(n_missing if rest.term_size.size > 0 else 0):
        add_image_effects(rest, q_basis, effects, fold.sizes[0], missing[i], change)
    for x in range(plain.size):
        plain[x] = whole.products[first + x] - change[first + x]
    for i in range(rest.sizes[1]):
        if plain[diagonal + i] < LEAST_LEFT * whole.products[rest.sizes[7] + i]:
            return ON_ITS_OWN
    for i in range(n_missing):
        for term in range(rest.term_size.size):
            seen[rest.obs_cols[missing[i], term]] -= 1
    n_present = whole.n_present[0] - n_missing
    code = check_pattern(rest, plain, n_present, seen, safe_mode, gaps.factor[b])
    for i in range(n_missing):
        for term in range(rest.term_size.size):
            seen[rest.obs_cols[missing[i], term]] += 1
    if code != CONVERGED:
        return code  # type: ignore[no-any-return]
    n_seen = fold.sizes[1] - gaps.n_gone[b]
    n_inner = fold.inner_images.size - gaps.n_gone_inner[b]
    return check_levels(fold, n_seen, n_inner, n_present, safe_mode)  # type: ignore[no-any-return]


@inner
def solve_responses(factor: FloatArray, n_columns: int, gaps: Gaps, r: Responses) -> None:
    """Least-squares coefficients from ``Q'y``: columns with gaps have a factor of their own."""
    gamma, own = r.gamma, gaps.gamma
    for b in range(n_columns):
        for i in range(gamma.shape[0]):
            own[b, i] = gamma[i, b]
    solve_columns(factor, n_columns, gamma)
    for b in range(n_columns):
        if gaps.n_missing[b] > 0:
            cholesky_solve(gaps.factor[b], gamma.shape[0], own[b])
            for i in range(gamma.shape[0]):
                gamma[i, b] = own[b, i]


@inner
def blank_missing(n_columns: int, gaps: Gaps, r: Responses) -> None:
    """Let missing images count zero again, once the fit was taken off."""
    for b in range(n_columns):
        for i in range(gaps.n_missing[b]):
            r.values[gaps.missing[b, i], b] = 0.0


@inner
def hold_levels(fold: Folding, design: FoldPattern, n_columns: int, gaps: Gaps, r: Responses) -> None:
    """Take the images of levels with gaps out of the batch, but where a level can spare the one it lacks."""
    for b in range(n_columns):
        for i in range(gaps.n_levels[b]):
            level = gaps.levels[b, i]
            lone = gaps.lone[b, i]
            if lone >= 0:
                if gaps.ways.of[lone] != UNKNOWN or can_delete(fold, design, level, lone):
                    continue
                gaps.lone[b, i] = NOT_ALONE
            for o in range(fold.obs_ptr[level], fold.obs_ptr[level + 1]):
                obs = fold.level_obs[o]
                gaps.held[b, obs] = r.values[obs, b]
                r.values[obs, b] = 0.0
