"""Sufficient statistics of a folded design: sums of U'U over the levels that have equal Z'Z."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from blmm_bids.stats.folding import Folding
from blmm_bids.stats.kernels.compiling import inner
from blmm_bids.stats.kernels.fold_classes import FoldLanes
from blmm_bids.stats.kernels.products import CONVERGED, ONE_LEVEL, SAFE_MODE
from blmm_bids.stats.model import FloatArray, IntArray
from blmm_bids.stats.plan_structure import Structure

# More different Z'Z than the plan foresaw: to be fitted level by level.
TOO_MANY_CLASSES = -2


class FoldPattern(NamedTuple):
    """Products of the folded term over the images present in one missingness pattern.

    Attributes
    ----------
    square : (level, effect, effect)
        S of each level.
    met : (column met, effect)
        Products with the other terms' columns that the level meets.
    fixef : (level, effect, fixef)
        Products with Q.
    seen : (level,)
        Images of each level.
    class_of : (level,)
        Class, -1 for a level without images.
    first : (class,)
        A level of each class.
    n_classes : (1,)
    totals : (class, pair, product)
        The design's part of the totals; see `FoldLanes`.
    """

    square: FloatArray
    met: FloatArray
    fixef: FloatArray
    seen: IntArray
    class_of: IntArray
    first: IntArray
    n_classes: IntArray
    totals: FloatArray


def allocate_fold_pattern(rest: Structure, fold: Folding) -> FoldPattern:
    """Zeroed products for one pattern."""
    size, n_levels, most = (int(value) for value in fold.sizes)
    return FoldPattern(
        square=np.zeros((n_levels, size, size)),
        met=np.zeros((fold.level_cols.size, size)),
        fixef=np.zeros((n_levels, size, int(rest.sizes[1]))),
        seen=np.zeros(n_levels, dtype=np.int64),
        class_of=np.zeros(n_levels, dtype=np.int64),
        first=np.zeros(most, dtype=np.int64),
        n_classes=np.zeros(1, dtype=np.int64),
        totals=np.zeros((most, size * (size + 1) // 2, int(rest.sizes[8]))),
    )


@inner
def compute_fold_pattern(
    rest: Structure,
    fold: Folding,
    q_basis: FloatArray,
    effects: FloatArray,
    y: FloatArray,
    n_present: int,
    safe_mode: bool,
    out: FoldPattern,
) -> int:
    """Fill a pattern's products from the images where ``y`` is not NaN; a status code.

    Parameters
    ----------
    effects : (obs, effect over all terms)
        The folded term's first.
    """
    _clear(out)
    size = fold.sizes[0]
    for obs in range(y.size):
        if math.isnan(y[obs]):
            continue
        level = fold.obs_level[obs]
        out.seen[level] += 1
        for a in range(size):
            for b in range(size):
                out.square[level, a, b] += effects[obs, a] * effects[obs, b]
            for i in range(out.fixef.shape[2]):
                out.fixef[level, a, i] += effects[obs, a] * q_basis[obs, i]
            first_effect = size
            for term in range(rest.term_size.size):
                position = fold.level_ptr[level] + fold.obs_met[obs, term]
                for e in range(rest.term_size[term]):
                    out.met[position + e, a] += effects[obs, a] * effects[obs, first_effect + e]
                first_effect += rest.term_size[term]
    n_seen = 0
    for level in range(out.seen.size):
        if out.seen[level] > 0:
            n_seen += 1
    if n_seen < 2:
        return ONE_LEVEL
    if safe_mode and n_seen * size >= n_present:
        return SAFE_MODE
    if not _sort_classes(size, out):
        return TOO_MANY_CLASSES
    for level in range(out.seen.size):
        if out.seen[level] > 0:
            _add_level(rest, fold, level, out)
    return CONVERGED


@inner
def _clear(out: FoldPattern) -> None:
    """Zero a pattern's products."""
    for level in range(out.square.shape[0]):
        out.seen[level] = 0
        out.class_of[level] = -1
        for a in range(out.square.shape[1]):
            for b in range(out.square.shape[1]):
                out.square[level, a, b] = 0.0
            for i in range(out.fixef.shape[2]):
                out.fixef[level, a, i] = 0.0
    for position in range(out.met.shape[0]):
        for a in range(out.met.shape[1]):
            out.met[position, a] = 0.0
    for c in range(out.totals.shape[0]):
        for pair in range(out.totals.shape[1]):
            for x in range(out.totals.shape[2]):
                out.totals[c, pair, x] = 0.0


@inner
def _sort_classes(size: int, out: FoldPattern) -> bool:
    """Give levels with the same S the same class; whether there is room for all classes."""
    n_classes = 0
    for level in range(out.seen.size):
        if out.seen[level] == 0:
            continue
        found = -1
        for c in range(n_classes):
            same = True
            for a in range(size):
                for b in range(a + 1):
                    same = same and out.square[level, a, b] == out.square[out.first[c], a, b]
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
def _add_level(rest: Structure, fold: Folding, level: int, out: FoldPattern) -> None:
    """Add one level's U'U to its class, but for the products with y."""
    c = out.class_of[level]
    start = fold.level_ptr[level]
    n_fixef = rest.sizes[1]
    n_border = n_fixef + 1
    pair = 0
    for b in range(fold.sizes[0]):
        for a in range(b, fold.sizes[0]):
            # Off-diagonal pairs hold both orders; on the diagonal they are the same.
            twice = 0.0 if a == b else 1.0
            total = out.totals[c, pair]
            for v in range(fold.value_ptr[level], fold.value_ptr[level + 1]):
                row = start + fold.values[v, 1]
                col = start + fold.values[v, 2]
                total[fold.values[v, 0]] += (
                    out.met[row, a] * out.met[col, b] + twice * out.met[row, b] * out.met[col, a]
                )
            for m in range(start, fold.level_ptr[level + 1]):
                product = rest.sizes[5] + fold.level_cols[m] * n_border
                for i in range(n_fixef):
                    total[product + i] += (
                        out.met[m, a] * out.fixef[level, b, i]
                        + twice * out.met[m, b] * out.fixef[level, a, i]
                    )
            entry = rest.sizes[6]
            for i in range(n_fixef):
                total[rest.sizes[7] + i] += (1.0 + twice) * out.fixef[level, a, i] * out.fixef[level, b, i]
                for j in range(i + 1, n_fixef):
                    total[entry] += (
                        out.fixef[level, a, j] * out.fixef[level, b, i]
                        + twice * out.fixef[level, b, j] * out.fixef[level, a, i]
                    )
                    entry += 1
                # The row of y.
                entry += 1
            pair += 1


@inner
def store_fold(
    rest: Structure,
    fold: Folding,
    effects: FloatArray,
    y: FloatArray,
    pattern: FoldPattern,
    w: int,
    level_y: FloatArray,
    fl: FoldLanes,
) -> None:
    """Write one voxel's classes and totals into lane ``w``.

    Parameters
    ----------
    y : (obs,)
        Reduced response.
    level_y : (level, effect)
        Scratch: Z'y of the folded term.
    """
    size = fold.sizes[0]
    n_classes = pattern.n_classes[0]
    # 1. The pattern's own; classes that the lane's last voxel had and this one lacks are zeroed.
    for c in range(max(n_classes, fl.n_classes[w])):
        fl.n_levels[c, w] = 0.0
        for a in range(size):
            for b in range(size):
                fl.square[c, a, b, w] = pattern.square[pattern.first[c], a, b] if c < n_classes else 0.0
        for pair in range(fl.totals.shape[1]):
            for x in range(fl.totals.shape[2]):
                fl.totals[c, pair, x, w] = pattern.totals[c, pair, x] if c < n_classes else 0.0
    fl.n_classes[w] = n_classes
    # 2. Products with the response.
    for level in range(level_y.shape[0]):
        for a in range(size):
            level_y[level, a] = 0.0
    for obs in range(y.size):
        if not math.isnan(y[obs]):
            for a in range(size):
                level_y[fold.obs_level[obs], a] += effects[obs, a] * y[obs]
    for level in range(level_y.shape[0]):
        c = pattern.class_of[level]
        if c >= 0:
            fl.n_levels[c, w] += 1.0
            _add_response(rest, fold, level, level_y, pattern, w, fl.totals[c])


@inner
def _add_response(
    rest: Structure,
    fold: Folding,
    level: int,
    level_y: FloatArray,
    pattern: FoldPattern,
    w: int,
    totals: FloatArray,
) -> None:
    """Add one level's products with y to the totals of its class."""
    n_fixef = rest.sizes[1]
    n_border = n_fixef + 1
    pair = 0
    for b in range(fold.sizes[0]):
        for a in range(b, fold.sizes[0]):
            twice = 0.0 if a == b else 1.0
            y_a, y_b = level_y[level, a], level_y[level, b]
            for m in range(fold.level_ptr[level], fold.level_ptr[level + 1]):
                product = rest.sizes[5] + fold.level_cols[m] * n_border + n_fixef
                totals[pair, product, w] += pattern.met[m, a] * y_b + twice * pattern.met[m, b] * y_a
            entry = rest.sizes[6]
            for i in range(n_fixef):
                entry += n_fixef - i - 1
                totals[pair, entry, w] += (
                    pattern.fixef[level, b, i] * y_a + twice * pattern.fixef[level, a, i] * y_b
                )
                entry += 1
            totals[pair, rest.sizes[7] + n_fixef, w] += (1.0 + twice) * y_a * y_b
            pair += 1


@inner
def reorder_fold(fold: Folding, w: int, order: IntArray, scratch: FloatArray, fl: FoldLanes) -> None:
    """Put the folded term's effects into another order in one lane.

    Parameters
    ----------
    order : (effect,)
        Position that each effect's products have now.
    scratch : (effects squared,)
    """
    size = fold.sizes[0]
    for c in range(fl.n_classes[w]):
        for a in range(size):
            for b in range(size):
                scratch[a * size + b] = fl.square[c, order[a], order[b], w]
        for a in range(size):
            for b in range(size):
                fl.square[c, a, b, w] = scratch[a * size + b]
        for x in range(fl.totals.shape[2]):
            pair = 0
            for b in range(size):
                for a in range(b, size):
                    high, low = max(order[a], order[b]), min(order[a], order[b])
                    scratch[pair] = fl.totals[c, low * size - low * (low - 1) // 2 + high - low, x, w]
                    pair += 1
            for p in range(pair):
                fl.totals[c, p, x, w] = scratch[p]
