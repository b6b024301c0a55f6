"""Products of a voxel that lacks images, from those of voxels that lack none, and back.

Where a missing image is the only one of its level it is taken off there (`deletion.py`), together with others
where it can be (`deletions.py`); elsewhere the images of its level were held back from the sums over levels,
and the level is split anew, from the images that the voxel has, for it alone.
"""

from __future__ import annotations

from blmm_bids.stats.folding import Folding
from blmm_bids.stats.kernels.compiling import inner
from blmm_bids.stats.kernels.deletion import UNKNOWN, delete_image, forget_classes, open_way
from blmm_bids.stats.kernels.deletions import delete_listed, list_deletion
from blmm_bids.stats.kernels.fold_products import (
    FoldPattern,
    add_level,
    classify_level,
    count_level,
    split_level,
)
from blmm_bids.stats.kernels.fold_responses import FoldResponses, add_responses
from blmm_bids.stats.kernels.gaps import Gaps
from blmm_bids.stats.kernels.small import copy, copy_rows
from blmm_bids.stats.model import FloatArray
from blmm_bids.stats.plan_structure import Structure


@inner
def patch_voxel(
    rest: Structure,
    fold: Folding,
    q_basis: FloatArray,
    effects: FloatArray,
    whole: FoldPattern,
    b: int,
    gaps: Gaps,
    own: FoldPattern,
    out: FoldResponses,
) -> bool:
    """Products of a voxel with gaps: split its levels anew; whether there is room for their classes.

    Parameters
    ----------
    whole : FoldPattern
        Of all images.
    own : FoldPattern
        The same; becomes the voxel's. `restore_levels` undoes that.
    out : FoldResponses
        Column ``b`` becomes the voxel's.
    """
    change = gaps.change[b]
    # Without a first term there is no level to bring Q's own products.
    last = rest.sizes[6] if fold.sizes[1] > 0 else change.size
    for x in range(change.size):
        own.base[x] = whole.base[x] - (change[x] if x < last else 0.0)
    # Those of the voxel before; all others are zero.
    for c in range(max(own.n_classes[0], whole.n_classes[0])):
        copy_rows(whole.totals[c], own.totals[c])
    own.n_classes[0] = whole.n_classes[0]
    forget_classes(gaps.ways)
    n_listed = 0
    for i in range(gaps.n_missing[b]):
        own.absent[gaps.missing[b, i]] = True
    for i in range(gaps.n_levels[b]):
        level, lone = gaps.levels[b, i], gaps.lone[b, i]
        if lone >= 0 and _is_listed(lone, gaps):
            if not open_way(fold, effects, level, lone, whole, own, gaps.ways):
                return False
            list_deletion(level, lone, gaps.ways.of[lone], n_listed, gaps.deletions)
            n_listed += 1
            continue
        if lone >= 0:
            if not delete_image(rest, fold, q_basis, effects, level, lone, b, whole, own, out, gaps.ways):
                return False
            continue
        add_level(rest, fold, level, -1.0, own)
        count_level(fold, level, own)
        split_level(rest, fold, q_basis, effects, level, own)
        if not classify_level(fold, level, own):
            return False
        add_level(rest, fold, level, 1.0, own)
        _add_held(rest, fold, level, b, own, gaps.held[b], out)
    if own.n_classes[0] > 0:
        _recount_classes(whole, b, gaps, own)
    if n_listed > 0:
        delete_listed(rest, q_basis, n_listed, b, whole, own, out, gaps.ways, gaps.deletions)
    return True


@inner
def _recount_classes(whole: FoldPattern, b: int, gaps: Gaps, own: FoldPattern) -> None:
    """Count the levels of each class; those with gaps may have changed theirs, but listed ones not yet."""
    copy(whole.class_levels, own.class_levels)
    for i in range(gaps.n_levels[b]):
        level, lone = gaps.levels[b, i], gaps.lone[b, i]
        if lone >= 0 and _is_listed(lone, gaps):
            continue
        if whole.class_of[level] >= 0:
            own.class_levels[whole.class_of[level]] -= 1.0
        if own.class_of[level] >= 0:
            own.class_levels[own.class_of[level]] += 1.0


@inner
def _is_listed(obs: int, gaps: Gaps) -> bool:
    """Whether a level that lacks one image is done together with others, and stays as it is itself."""
    return gaps.deletions.levels.size > 0 and gaps.ways.of[obs] != UNKNOWN


@inner
def _add_held(
    rest: Structure,
    fold: Folding,
    level: int,
    b: int,
    design: FoldPattern,
    held: FloatArray,
    out: FoldResponses,
) -> None:
    """Add the responses held back of one level."""
    size, n_fixef = fold.sizes[0], rest.sizes[1]
    first, last = fold.obs_ptr[level], fold.obs_ptr[level + 1]
    basis, within = design.basis, design.within
    level_y, border = out.level, out.border
    for a in range(size):
        level_y[level * size + a, b] = 0.0
        for o in range(first, last):
            obs = fold.level_obs[o]
            level_y[level * size + a, b] += basis[obs, a] * held[obs]
    for o in range(first, last):
        obs = fold.level_obs[o]
        for a in range(size):
            held[obs] -= basis[obs, a] * level_y[level * size + a, b]
        for j in range(n_fixef):
            border[j, b] += within[obs, j] * held[obs]
        border[n_fixef, b] += held[obs] * held[obs]
    add_responses(rest, fold, level, b, b + 1, design, out)


@inner
def restore_levels(fold: Folding, whole: FoldPattern, b: int, gaps: Gaps, own: FoldPattern) -> None:
    """Make a voxel's levels those of all images again."""
    for i in range(gaps.n_missing[b]):
        own.absent[gaps.missing[b, i]] = False
    for i in range(gaps.n_levels[b]):
        level = gaps.levels[b, i]
        if gaps.lone[b, i] >= 0 and _is_listed(gaps.lone[b, i], gaps):
            continue
        own.seen[level] = whole.seen[level]
        own.class_of[level] = whole.class_of[level]
        copy_rows(whole.root[level], own.root[level])
        copy_rows(whole.fixef[level], own.fixef[level])
        for m in range(fold.level_ptr[level], fold.level_ptr[level + 1]):
            copy(whole.met[m], own.met[m])
        if gaps.lone[b, i] >= 0:
            continue
        for o in range(fold.obs_ptr[level], fold.obs_ptr[level + 1]):
            copy(whole.basis[fold.level_obs[o]], own.basis[fold.level_obs[o]])
            copy(whole.within[fold.level_obs[o]], own.within[fold.level_obs[o]])


@inner
def copy_pattern(whole: FoldPattern, own: FoldPattern) -> None:
    """Make a pattern that of all images, for `patch_voxel` to start from."""
    for obs in range(own.absent.size):
        own.absent[obs] = False
    copy_rows(whole.basis, own.basis)
    copy_rows(whole.within, own.within)
    copy_rows(whole.met, own.met)
    copy(whole.seen, own.seen)
    copy(whole.class_of, own.class_of)
    for c in range(own.class_root.shape[0]):
        copy_rows(whole.class_root[c], own.class_root[c])
    for level in range(own.root.shape[0]):
        copy_rows(whole.root[level], own.root[level])
        copy_rows(whole.fixef[level], own.fixef[level])
