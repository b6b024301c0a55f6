"""Sufficient statistics of a design whose first term is integrated out level by level.

A level's effects ``Z = B G'`` are orthonormalised (B) within the level. What the other columns share with
them, ``U = B'[Z_rest X y]``, is all that the level's covariance acts on; what is left of the columns is
their part within levels. Where neither holds anything by cancellation, no variance ratio is too large.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from blmm_bids.stats.folding import Folding
from blmm_bids.stats.kernels.compiling import inner
from blmm_bids.stats.kernels.products import (
    CONVERGED,
    ONE_LEVEL,
    SAFE_MODE,
    Pattern,
)
from blmm_bids.stats.kernels.small import clear, clear_rows, copy
from blmm_bids.stats.model import FloatArray, IntArray
from blmm_bids.stats.plan_structure import Structure

# More different Z'Z than the plan foresaw: to be fitted level by level.
TOO_MANY_CLASSES = -2
# An effect whose part outside the earlier ones has less than this share of its square within a level is
# dependent on them there, as a slope is where a level has one image.
DEPENDENT = 1e-20


class FoldPattern(NamedTuple):
    """Products of the first term over the images present in one missingness pattern.

    Attributes
    ----------
    basis : (obs present, effect)
        B.
    within : (obs present, fixef)
        Q's part within levels.
    root : (level, effect, effect)
        G, lower triangular.
    met : (column met, effect)
        U of the other terms' columns that a level meets.
    fixef : (level, effect, fixef)
        U of Q.
    base : (product,)
        The other terms' and Q's products within levels.
    norms : (level, 2)
        Scratch.
    seen : (level,)
        Images of each level.
    class_of : (level,)
        Class of levels with equal G, -1 for a level without images.
    first : (class,)
        A level of each class.
    n_classes : (1,)
    totals : (class, pair, product)
        The design's part of the totals; see `FoldLanes`.
    """

    basis: FloatArray
    within: FloatArray
    root: FloatArray
    met: FloatArray
    fixef: FloatArray
    base: FloatArray
    norms: FloatArray
    seen: IntArray
    class_of: IntArray
    first: IntArray
    n_classes: IntArray
    totals: FloatArray


def allocate_fold_pattern(rest: Structure, fold: Folding) -> FoldPattern:
    """Zeroed products for one pattern."""
    size, n_levels, most, _ = (int(value) for value in fold.sizes)
    n_obs, n_fixef, store = fold.obs_level.size, int(rest.sizes[1]), int(rest.sizes[8])
    return FoldPattern(
        basis=np.zeros((n_obs, size)),
        within=np.zeros((n_obs, n_fixef)),
        root=np.zeros((n_levels, size, size)),
        met=np.zeros((fold.level_cols.size, size)),
        fixef=np.zeros((n_levels, size, n_fixef)),
        base=np.zeros(store),
        norms=np.zeros((n_levels, 2)),
        seen=np.zeros(n_levels, dtype=np.int64),
        class_of=np.zeros(n_levels, dtype=np.int64),
        first=np.zeros(most, dtype=np.int64),
        n_classes=np.zeros(1, dtype=np.int64),
        totals=np.zeros((most, size * (size + 1) // 2, store)),
    )


@inner
def compute_fold_pattern(
    rest: Structure,
    fold: Folding,
    q_basis: FloatArray,
    effects: FloatArray,
    pattern: Pattern,
    safe_mode: bool,
    out: FoldPattern,
) -> int:
    """Fill the products of the images present in ``pattern``; a status code.

    Parameters
    ----------
    effects : (obs, effect over all terms)
        The first term's first.
    """
    size, n_levels = fold.sizes[0], fold.sizes[1]
    n_present = pattern.n_present[0]
    clear(out.seen)
    for i in range(n_present):
        if n_levels > 0:
            out.seen[fold.obs_level[pattern.present[i]]] += 1
    n_seen = 0
    for level in range(n_levels):
        n_seen += 1 if out.seen[level] > 0 else 0
    if n_levels > 0 and n_seen < 2:
        return ONE_LEVEL
    if safe_mode and n_levels > 0 and n_seen * size >= n_present:
        return SAFE_MODE
    _orthonormalise(fold, effects, pattern, out)
    if fold.sizes[2] > 0 and not _sort_classes(size, out):
        return TOO_MANY_CLASSES
    _project_design(rest, fold, q_basis, effects, pattern, out)
    _take_off_levels(rest, fold, pattern, out)
    if fold.sizes[2] > 0:
        for c in range(out.totals.shape[0]):
            clear_rows(out.totals[c])
        for level in range(n_levels):
            if out.seen[level] > 0:
                _add_level(rest, fold, level, out)
    return CONVERGED


@inner
def _orthonormalise(fold: Folding, effects: FloatArray, pattern: Pattern, out: FoldPattern) -> None:
    """``Z = B G'`` within each level, by Gram-Schmidt twice over."""
    n_present, present = pattern.n_present[0], pattern.present
    basis, root, norms, obs_level = out.basis, out.root, out.norms, fold.obs_level
    for level in range(root.shape[0]):
        clear_rows(root[level])
    for a in range(fold.sizes[0]):
        clear_rows(norms)
        for i in range(n_present):
            basis[i, a] = effects[present[i], a]
            norms[obs_level[present[i]], 0] += basis[i, a] * basis[i, a]
        for _ in range(2):
            for c in range(a):
                norms[:, 1] = 0.0
                for i in range(n_present):
                    norms[obs_level[present[i]], 1] += basis[i, c] * basis[i, a]
                for i in range(n_present):
                    basis[i, a] -= norms[obs_level[present[i]], 1] * basis[i, c]
                for level in range(norms.shape[0]):
                    root[level, a, c] += norms[level, 1]
        norms[:, 1] = 0.0
        for i in range(n_present):
            norms[obs_level[present[i]], 1] += basis[i, a] * basis[i, a]
        for level in range(norms.shape[0]):
            if norms[level, 1] > DEPENDENT * norms[level, 0]:
                root[level, a, a] = math.sqrt(norms[level, 1])
        for i in range(n_present):
            length = root[obs_level[present[i]], a, a]
            basis[i, a] = basis[i, a] / length if length > 0.0 else 0.0


@inner
def _sort_classes(size: int, out: FoldPattern) -> bool:
    """Give levels with the same G the same class; whether there is room for all classes."""
    n_classes = 0
    for level in range(out.seen.size):
        out.class_of[level] = -1
        if out.seen[level] == 0:
            continue
        found = -1
        for c in range(n_classes):
            same = True
            for a in range(size):
                for b in range(a + 1):
                    same = same and out.root[level, a, b] == out.root[out.first[c], a, b]
            if same:
                found = c
                break
        if found < 0:
            if n_classes == out.first.size:
                return False
            out.first[n_classes] = level
            found = n_classes
            n_classes += 1
        out.class_of[level] = found
    out.n_classes[0] = n_classes
    return True


@inner
def _project_design(
    rest: Structure,
    fold: Folding,
    q_basis: FloatArray,
    effects: FloatArray,
    pattern: Pattern,
    out: FoldPattern,
) -> None:
    """U of the other terms' columns and of Q, and Q's part within levels."""
    size, n_fixef = fold.sizes[0], rest.sizes[1]
    fixef, met = out.fixef, out.met
    for level in range(fixef.shape[0]):
        clear_rows(fixef[level])
    clear_rows(met)
    for i in range(pattern.n_present[0]):
        obs = pattern.present[i]
        level = fold.obs_level[obs]
        for a in range(size):
            for j in range(n_fixef):
                fixef[level, a, j] += out.basis[i, a] * q_basis[obs, j]
            effect = size
            for term in range(rest.term_size.size):
                position = fold.level_ptr[level] + fold.obs_met[obs, term]
                for e in range(rest.term_size[term]):
                    met[position + e, a] += out.basis[i, a] * effects[obs, effect]
                    effect += 1
    for i in range(pattern.n_present[0]):
        obs = pattern.present[i]
        for j in range(n_fixef):
            out.within[i, j] = q_basis[obs, j]
            for a in range(size):
                out.within[i, j] -= out.basis[i, a] * fixef[fold.obs_level[obs], a, j]


@inner
def _take_off_levels(rest: Structure, fold: Folding, pattern: Pattern, out: FoldPattern) -> None:
    """Leave the design's products within levels."""
    n_fixef = rest.sizes[1]
    n_border = n_fixef + 1
    base, met = out.base, out.met
    # 1. Of the other terms: their variances bound what cancellation can do.
    copy(pattern.products, base)
    for level in range(fold.sizes[1]):
        start = fold.level_ptr[level]
        for a in range(fold.sizes[0]):
            for v in range(fold.value_ptr[level], fold.value_ptr[level + 1]):
                base[fold.values[v, 0]] -= (
                    met[start + fold.values[v, 1], a] * met[start + fold.values[v, 2], a]
                )
            for m in range(start, fold.level_ptr[level + 1]):
                product = rest.sizes[5] + fold.level_cols[m] * n_border
                for i in range(n_fixef):
                    base[product + i] -= met[m, a] * out.fixef[level, a, i]
    # 2. Of Q, from its residuals.
    for x in range(rest.sizes[6], rest.sizes[8]):
        base[x] = 0.0
    for i in range(pattern.n_present[0]):
        entry = rest.sizes[6]
        for j in range(n_fixef):
            base[rest.sizes[7] + j] += out.within[i, j] * out.within[i, j]
            for k in range(j + 1, n_fixef):
                base[entry] += out.within[i, j] * out.within[i, k]
                entry += 1
            entry += 1


@inner
def _add_level(rest: Structure, fold: Folding, level: int, out: FoldPattern) -> None:
    """Add one level's U U' to its class, but for the products with y."""
    c = out.class_of[level]
    start = fold.level_ptr[level]
    n_fixef = rest.sizes[1]
    n_border = n_fixef + 1
    met, fixef = out.met, out.fixef[level]
    pair = 0
    for b in range(fold.sizes[0]):
        for a in range(b, fold.sizes[0]):
            # Off-diagonal pairs hold both orders; on the diagonal they are the same.
            twice = 0.0 if a == b else 1.0
            total = out.totals[c, pair]
            for v in range(fold.value_ptr[level], fold.value_ptr[level + 1]):
                row = start + fold.values[v, 1]
                col = start + fold.values[v, 2]
                total[fold.values[v, 0]] += met[row, a] * met[col, b] + twice * met[row, b] * met[col, a]
            for m in range(start, fold.level_ptr[level + 1]):
                product = rest.sizes[5] + fold.level_cols[m] * n_border
                for i in range(n_fixef):
                    total[product + i] += met[m, a] * fixef[b, i] + twice * met[m, b] * fixef[a, i]
            entry = rest.sizes[6]
            for i in range(n_fixef):
                total[rest.sizes[7] + i] += (1.0 + twice) * fixef[a, i] * fixef[b, i]
                for j in range(i + 1, n_fixef):
                    total[entry] += fixef[a, j] * fixef[b, i] + twice * fixef[b, j] * fixef[a, i]
                    entry += 1
                # The row of y.
                entry += 1
            pair += 1
