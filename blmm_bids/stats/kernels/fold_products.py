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
from blmm_bids.stats.kernels.fold_lanes import FoldLanes
from blmm_bids.stats.kernels.products import (
    CONVERGED,
    ONE_LEVEL,
    SAFE_MODE,
    Pattern,
    Responses,
    multiply_effects,
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


class FoldResponses(NamedTuple):
    """Products of a batch of responses; the last axis is the column.

    Attributes
    ----------
    level : (level x effect, column)
        U of y.
    rest : (ranef of the other terms, column)
        Their products with y within levels.
    border : (fixef + 1, column)
        Q'y and y'y within levels.
    square : (column,)
        y'y.
    """

    level: FloatArray
    rest: FloatArray
    border: FloatArray
    square: FloatArray


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


def allocate_fold_responses(rest: Structure, fold: Folding, columns: int) -> FoldResponses:
    """Zeroed products for a batch of voxels."""
    return FoldResponses(
        level=np.zeros((int(fold.sizes[0] * fold.sizes[1]), columns)),
        rest=np.zeros((int(rest.sizes[0]), columns)),
        border=np.zeros((int(rest.sizes[1]) + 1, columns)),
        square=np.zeros(columns),
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


@inner
def project_responses(
    rest: Structure,
    fold: Folding,
    effects: FloatArray,
    pattern: Pattern,
    design: FoldPattern,
    r: Responses,
    out: FoldResponses,
) -> None:
    """Products of a batch of responses; its values are what is left of them within levels then."""
    size, n_fixef, n_columns = fold.sizes[0], rest.sizes[1], r.values.shape[1]
    values, level_y, border = r.values, out.level, out.border
    basis, within, n_present = design.basis, design.within, pattern.n_present[0]
    multiply_effects(rest, effects, size, pattern, values, out.rest)
    clear_rows(level_y)
    clear_rows(border)
    clear(out.square)
    for i in range(n_present):
        for b in range(n_columns):
            out.square[b] += values[i, b] * values[i, b]
        for a in range(size):
            row = fold.obs_level[pattern.present[i]] * size + a
            z = basis[i, a]
            for b in range(n_columns):
                level_y[row, b] += z * values[i, b]
    for i in range(n_present):
        for a in range(size):
            row = fold.obs_level[pattern.present[i]] * size + a
            z = basis[i, a]
            for b in range(n_columns):
                values[i, b] -= z * level_y[row, b]
        for j in range(n_fixef):
            x = within[i, j]
            for b in range(n_columns):
                border[j, b] += x * values[i, b]
        for b in range(n_columns):
            border[n_fixef, b] += values[i, b] * values[i, b]
    for level in range(fold.sizes[1]):
        for m in range(fold.level_ptr[level], fold.level_ptr[level + 1]):
            for a in range(size):
                for b in range(n_columns):
                    out.rest[fold.level_cols[m], b] -= design.met[m, a] * level_y[level * size + a, b]


@inner
def store_voxel(
    rest: Structure,
    fold: Folding,
    pattern: Pattern,
    design: FoldPattern,
    responses: FoldResponses,
    b: int,
    w: int,
    fl: FoldLanes,
) -> None:
    """Write column ``b`` of a batch into lane ``w``."""
    n_fixef = rest.sizes[1]
    n_border = n_fixef + 1
    base, plain = fl.base, fl.plain
    # 1. Products within levels, and those of [X y] as they are.
    for x in range(base.shape[0]):
        base[x, w] = design.base[x]
    for col in range(rest.sizes[0]):
        base[rest.sizes[5] + col * n_border + n_fixef, w] = responses.rest[col, b]
    for x in range(plain.shape[0]):
        plain[x, w] = pattern.products[rest.sizes[6] + x]
    plain[plain.shape[0] - 1, w] = responses.square[b]
    entry = rest.sizes[6]
    for i in range(n_fixef):
        entry += n_fixef - i - 1
        base[entry, w] = responses.border[i, b]
        entry += 1
    base[base.shape[0] - 1, w] = responses.border[n_fixef, b]
    # 2. Those of the levels.
    if fold.sizes[2] > 0:
        _store_classes(rest, fold, design, responses, b, w, fl)
    else:
        _store_levels(rest, fold, design, responses, b, w, fl)


@inner
def _store_classes(
    rest: Structure,
    fold: Folding,
    design: FoldPattern,
    responses: FoldResponses,
    b: int,
    w: int,
    fl: FoldLanes,
) -> None:
    """Classes and totals; classes that the lane's last voxel had and this one lacks are zeroed."""
    size, n_classes = fold.sizes[0], design.n_classes[0]
    roots, totals, n_levels = fl.roots, fl.totals, fl.n_levels
    for c in range(max(n_classes, fl.n_classes[w])):
        n_levels[c, w] = 0.0
        for i in range(size):
            for j in range(size):
                roots[c, i, j, w] = design.root[design.first[c], i, j] if c < n_classes else 0.0
        for pair in range(totals.shape[1]):
            for x in range(totals.shape[2]):
                totals[c, pair, x, w] = design.totals[c, pair, x] if c < n_classes else 0.0
    fl.n_classes[w] = n_classes
    for level in range(fold.sizes[1]):
        c = design.class_of[level]
        if c >= 0:
            n_levels[c, w] += 1.0
            _add_response(rest, fold, level, design, responses.level, b, w, totals[c])


@inner
def _add_response(
    rest: Structure,
    fold: Folding,
    level: int,
    design: FoldPattern,
    level_y: FloatArray,
    column: int,
    w: int,
    totals: FloatArray,
) -> None:
    """Add one level's products with y to the totals of its class."""
    n_fixef, size = rest.sizes[1], fold.sizes[0]
    n_border = n_fixef + 1
    met, fixef = design.met, design.fixef
    pair = 0
    for b in range(size):
        for a in range(b, size):
            twice = 0.0 if a == b else 1.0
            y_a, y_b = level_y[level * size + a, column], level_y[level * size + b, column]
            for m in range(fold.level_ptr[level], fold.level_ptr[level + 1]):
                product = rest.sizes[5] + fold.level_cols[m] * n_border + n_fixef
                totals[pair, product, w] += met[m, a] * y_b + twice * met[m, b] * y_a
            entry = rest.sizes[6]
            for i in range(n_fixef):
                entry += n_fixef - i - 1
                totals[pair, entry, w] += fixef[level, b, i] * y_a + twice * fixef[level, a, i] * y_b
                entry += 1
            totals[pair, rest.sizes[7] + n_fixef, w] += (1.0 + twice) * y_a * y_b
            pair += 1


@inner
def _store_levels(
    rest: Structure,
    fold: Folding,
    design: FoldPattern,
    responses: FoldResponses,
    b: int,
    w: int,
    fl: FoldLanes,
) -> None:
    """G and U of each level."""
    size, group, n_fixef, lanes = fold.sizes[0], fold.sizes[3], rest.sizes[1], fl.base.shape[1]
    roots, u = fl.roots, fl.u
    for level in range(fold.sizes[1]):
        unit = level // group
        item = (level - unit * group) * lanes + w
        n_met = fold.level_ptr[level + 1] - fold.level_ptr[level]
        n_columns = n_met + n_fixef + 1
        row = size * (fold.level_ptr[unit] + unit * (n_fixef + 1))
        for a in range(size):
            for c in range(size):
                roots[unit, a, c, item] = design.root[level, a, c]
            for m in range(n_met):
                u[row + a * n_columns + m, item] = design.met[fold.level_ptr[level] + m, a]
            for i in range(n_fixef):
                u[row + a * n_columns + n_met + i, item] = design.fixef[level, a, i]
            u[row + (a + 1) * n_columns - 1, item] = responses.level[level * size + a, b]


@inner
def reorder_fold(
    rest: Structure, fold: Folding, w: int, term: int, order: IntArray, scratch: FloatArray, fl: FoldLanes
) -> None:
    """Put a term's effects into another order in one lane's levels; term -1 is the first one.

    Parameters
    ----------
    order : (effect,)
        Position that each effect's products have now.
    scratch : (effects squared,)
    """
    lanes = fl.base.shape[1]
    if term < 0:
        size = fold.sizes[0]
        for unit in range(fl.roots.shape[0]):
            for item in range(w, fl.roots.shape[3], lanes):
                for c in range(size):
                    for a in range(size):
                        scratch[a] = fl.roots[unit, order[a], c, item]
                    for a in range(size):
                        fl.roots[unit, a, c, item] = scratch[a]
        return
    if fold.sizes[2] > 0:
        return
    for level in range(fold.sizes[1]):
        start = fold.level_ptr[level]
        n_met = fold.level_ptr[level + 1] - start
        n_columns = n_met + rest.sizes[1] + 1
        for m in range(n_met):
            offset = fold.level_cols[start + m] - rest.term_start[term]
            if offset < 0 or fold.level_cols[start + m] >= rest.term_start[term + 1]:
                continue
            if offset % rest.term_size[term] != 0:
                continue
            for a in range(fold.sizes[0]):
                row = fold.sizes[0] * (start + level * (rest.sizes[1] + 1)) + a * n_columns + m
                for e in range(rest.term_size[term]):
                    scratch[e] = fl.u[row + order[e], w]
                for e in range(rest.term_size[term]):
                    fl.u[row + e, w] = scratch[e]
