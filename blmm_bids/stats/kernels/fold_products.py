"""Sufficient statistics of a design whose first term is integrated out level by level.

A level's effects ``Z = B G'`` are orthonormalised (B) within the level. What the other columns share with
them, ``U = B'[Z_rest X y]``, is all that the level's covariance acts on; what is left of the columns is
their part within levels. Where neither holds anything by cancellation, no variance ratio is too large.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from blmm_bids.stats.folding import Folding
from blmm_bids.stats.kernels.compiling import apart, inner
from blmm_bids.stats.kernels.products import (
    CONVERGED,
    ONE_LEVEL,
    SAFE_MODE,
    Pattern,
    add_square,
)
from blmm_bids.stats.kernels.small import clear, clear_rows, copy, copy_rows
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
    absent : (obs,)
        Whether an image is missing.
    basis : (obs, effect)
        B; zero where the image is missing, as in ``within``.
    within : (obs, fixef)
        Q's part within levels.
    root : (level, effect, effect)
        G, lower triangular.
    met : (column met, effect)
        U of the other terms' columns that a level meets.
    fixef : (level, effect, fixef)
        U of Q.
    base : (product,)
        The other terms' and Q's products within levels.
    seen : (level,)
        Images of each level.
    seen_inner : (inner level,)
        The same of the first of two terms.
    class_of : (level,)
        Class of levels with equal G, -1 for a level without images.
    class_root : (class, effect, effect)
        G of each class.
    n_classes : (1,)
    class_levels : (class,)
        Levels of each class.
    totals : (class, pair, product)
        The design's part of the totals; see `FoldLanes`.
    """

    absent: NDArray[np.bool_]
    basis: FloatArray
    within: FloatArray
    root: FloatArray
    met: FloatArray
    fixef: FloatArray
    base: FloatArray
    seen: IntArray
    seen_inner: IntArray
    class_of: IntArray
    class_root: FloatArray
    n_classes: IntArray
    class_levels: FloatArray
    totals: FloatArray


def allocate_fold_pattern(rest: Structure, fold: Folding) -> FoldPattern:
    """Zeroed products for one pattern."""
    size, n_levels, most, _ = (int(value) for value in fold.sizes)
    n_obs, n_fixef, store = fold.obs_level.size, int(rest.sizes[1]), int(rest.sizes[8])
    return FoldPattern(
        absent=np.zeros(n_obs, dtype=np.bool_),
        basis=np.zeros((n_obs, size)),
        within=np.zeros((n_obs, n_fixef)),
        root=np.zeros((n_levels, size, size)),
        met=np.zeros((fold.level_cols.size, size)),
        fixef=np.zeros((n_levels, size, n_fixef)),
        base=np.zeros(store),
        seen=np.zeros(n_levels, dtype=np.int64),
        seen_inner=np.zeros(fold.inner_images.size, dtype=np.int64),
        class_of=np.zeros(n_levels, dtype=np.int64),
        class_root=np.zeros((most, size, size)),
        n_classes=np.zeros(1, dtype=np.int64),
        class_levels=np.zeros(most),
        totals=np.zeros((most, fold.directions.size, store)),
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
    n_levels, n_fixef, n_present = fold.sizes[1], rest.sizes[1], pattern.n_present[0]
    for obs in range(out.absent.size):
        out.absent[obs] = True
    for i in range(n_present):
        out.absent[pattern.present[i]] = False
    n_seen = 0
    for level in range(n_levels):
        count_level(fold, level, out)
        n_seen += 1 if out.seen[level] > 0 else 0
    code = check_levels(fold, n_seen, _count_inner(fold, out), n_present, safe_mode)
    if code != CONVERGED:
        return code  # type: ignore[no-any-return]
    # The other terms' products: what levels share with them is taken off, level by level.
    copy(pattern.products, out.base)
    if n_levels > 0:
        clear(out.base[rest.sizes[6] :])
    else:
        for i in range(n_present):
            for j in range(n_fixef):
                out.within[pattern.present[i], j] = q_basis[pattern.present[i], j]
    out.n_classes[0] = 0
    clear(out.class_levels)
    for c in range(out.totals.shape[0]):
        clear_rows(out.totals[c])
    for level in range(n_levels):
        split_level(rest, fold, q_basis, effects, level, out)
        if not classify_level(fold, level, out):
            return TOO_MANY_CLASSES
        add_level(rest, fold, level, 1.0, out)
        if out.class_of[level] >= 0:
            out.class_levels[out.class_of[level]] += 1.0
    return CONVERGED


@inner
def count_level(fold: Folding, level: int, out: FoldPattern) -> None:
    """Count the images that a level has."""
    out.seen[level] = 0
    for o in range(fold.obs_ptr[level], fold.obs_ptr[level + 1]):
        out.seen[level] += 0 if out.absent[fold.level_obs[o]] else 1


@inner
def _count_inner(fold: Folding, out: FoldPattern) -> int:
    """Count the levels of the first of two terms that have images."""
    clear(out.seen_inner)
    n_seen = 0
    for obs in range(fold.obs_inner.size):
        if not out.absent[obs]:
            n_seen += 1 if out.seen_inner[fold.obs_inner[obs]] == 0 else 0
            out.seen_inner[fold.obs_inner[obs]] += 1
    return n_seen


@inner
def check_levels(fold: Folding, n_seen: int, n_inner: int, n_present: int, safe_mode: bool) -> int:
    """Whether what is folded keeps two levels, and fewer effects than images.

    Parameters
    ----------
    n_seen, n_inner : int
        Levels with images, and those of the first of two terms.
    """
    if fold.sizes[1] == 0:
        return CONVERGED
    if n_seen < 2:
        return ONE_LEVEL
    last = fold.part_sizes.size - 1
    n_effects = max(n_seen * fold.part_sizes[last], n_inner * fold.part_sizes[0])
    return SAFE_MODE if safe_mode and n_effects >= n_present else CONVERGED


@inner
def split_level(
    rest: Structure, fold: Folding, q_basis: FloatArray, effects: FloatArray, level: int, out: FoldPattern
) -> None:
    """B and G of one level, U of the other terms' columns and of Q, and Q's part within the level."""
    size, n_fixef = fold.sizes[0], rest.sizes[1]
    first, last = fold.obs_ptr[level], fold.obs_ptr[level + 1]
    basis, within, met, fixef = out.basis, out.within, out.met, out.fixef[level]
    find_root(fold, effects, level, out)
    clear_rows(fixef)
    clear_rows(met[fold.level_ptr[level] : fold.level_ptr[level + 1]])
    for o in range(first, last):
        obs = fold.level_obs[o]
        for a in range(size):
            if basis[obs, a] == 0.0:
                continue
            for j in range(n_fixef):
                fixef[a, j] += basis[obs, a] * q_basis[obs, j]
            effect = size
            for term in range(rest.term_size.size):
                position = fold.level_ptr[level] + fold.obs_met[obs, term]
                for e in range(rest.term_size[term]):
                    met[position + e, a] += basis[obs, a] * effects[obs, effect]
                    effect += 1
    for o in range(first, last):
        obs = fold.level_obs[o]
        for j in range(n_fixef):
            within[obs, j] = 0.0 if out.absent[obs] else q_basis[obs, j]
            for a in range(size):
                within[obs, j] -= basis[obs, a] * fixef[a, j]


@inner
def find_root(fold: Folding, effects: FloatArray, level: int, out: FoldPattern) -> None:
    """B and G of one level."""
    observations = fold.level_obs[fold.obs_ptr[level] : fold.obs_ptr[level + 1]]
    _orthonormalise(fold.sizes[0], observations, effects, out.absent, out.basis, out.root[level])


@inner
def _orthonormalise(
    size: int,
    observations: IntArray,
    effects: FloatArray,
    absent: NDArray[np.bool_],
    basis: FloatArray,
    root: FloatArray,
) -> None:
    """``Z = B G'`` within a level, by Gram-Schmidt twice over."""
    clear_rows(root)
    for a in range(size):
        square = 0.0
        for obs in observations:
            basis[obs, a] = 0.0 if absent[obs] else effects[obs, a]
            square += basis[obs, a] * basis[obs, a]
        for _ in range(2):
            for c in range(a):
                shared = 0.0
                for obs in observations:
                    shared += basis[obs, c] * basis[obs, a]
                for obs in observations:
                    basis[obs, a] -= shared * basis[obs, c]
                root[a, c] += shared
        left = 0.0
        for obs in observations:
            left += basis[obs, a] * basis[obs, a]
        if left > DEPENDENT * square:
            root[a, a] = math.sqrt(left)
        for obs in observations:
            basis[obs, a] = basis[obs, a] / root[a, a] if root[a, a] > 0.0 else 0.0


@inner
def classify_level(fold: Folding, level: int, out: FoldPattern) -> bool:
    """Find the class of levels with the same G, or make one; whether there is room for it."""
    out.class_of[level] = -1
    if fold.sizes[2] == 0 or out.seen[level] == 0:
        return True
    n_classes = out.n_classes[0]
    for c in range(n_classes):
        same = True
        for a in range(fold.sizes[0]):
            for b in range(a + 1):
                same = same and out.root[level, a, b] == out.class_root[c, a, b]
        if same:
            out.class_of[level] = c
            return True
    if n_classes == out.class_root.shape[0]:
        return False
    copy_rows(out.root[level], out.class_root[n_classes])
    out.class_of[level] = n_classes
    out.n_classes[0] = n_classes + 1
    return True


@inner
def add_level(rest: Structure, fold: Folding, level: int, times: float, out: FoldPattern) -> None:
    """Add the design's products of one level to those within levels and to its class, or take them off.

    Of Q those within levels come from its residuals; of the other terms what the level shares with them is
    taken off: their variances bound what cancels.

    Parameters
    ----------
    times : float
        1, or -1 to take off.
    """
    n_border, start, last = rest.sizes[1] + 1, fold.level_ptr[level], fold.level_ptr[level + 1]
    first, diagonal = rest.sizes[6], rest.sizes[7] - rest.sizes[6]
    base, met, fixef, c = out.base, out.met, out.fixef[level], out.class_of[level]
    for o in range(fold.obs_ptr[level], fold.obs_ptr[level + 1]):
        add_square(times, out.within[fold.level_obs[o]], diagonal, base[first:])
    pair = -1
    for b in range(fold.sizes[0]):
        for v in range(fold.value_ptr[level], fold.value_ptr[level + 1]):
            row, col = start + fold.values[v, 1], start + fold.values[v, 2]
            base[fold.values[v, 0]] -= times * met[row, b] * met[col, b]
        for m in range(start, last):
            shared = base[rest.sizes[5] + fold.level_cols[m] * n_border :]
            add_row(-times * met[m, b], fixef[b], shared)
        for a in range(b, fold.sizes[0]):
            pair += 1
            if c < 0 or not has_columns(out.root[level], a, b):
                continue
            # Off-diagonal pairs hold both orders; on the diagonal they are the same.
            twice = 0.0 if a == b else times
            total = out.totals[c, pair]
            for v in range(fold.value_ptr[level], fold.value_ptr[level + 1]):
                row, col = start + fold.values[v, 1], start + fold.values[v, 2]
                total[fold.values[v, 0]] += (
                    times * met[row, a] * met[col, b] + twice * met[row, b] * met[col, a]
                )
            for m in range(start, last):
                shared = total[rest.sizes[5] + fold.level_cols[m] * n_border :]
                add_row(times * met[m, a], fixef[b], shared)
                if a != b:
                    add_row(times * met[m, b], fixef[a], shared)
            if a == b:
                add_square(times, fixef[a], diagonal, total[first:])
            else:
                _add_both(times, fixef[a], fixef[b], diagonal, total[first:])


@apart
def add_row(times: float, x: FloatArray, out: FloatArray) -> None:
    """Add ``times x`` to the first elements."""
    for i in range(x.size):
        out[i] += times * x[i]


@apart
def _add_both(times: float, x: FloatArray, y: FloatArray, diagonal: int, border: FloatArray) -> None:
    """Add ``times (x y' + y x')``, as `add_square` does."""
    entry = 0
    for i in range(x.size):
        border[diagonal + i] += 2.0 * times * x[i] * y[i]
        for j in range(i + 1, x.size):
            border[entry] += times * (x[j] * y[i] + y[j] * x[i])
            entry += 1
        entry += 1


@inner
def has_columns(root: FloatArray, a: int, b: int) -> bool:
    """Whether a level has both columns of B: where an effect depends on the earlier ones there it has not."""
    has: bool = root[a, a] > 0.0 and root[b, b] > 0.0
    return has
