"""Take a term's effects in a better order, in the lanes whose search asks for it."""

from __future__ import annotations

import math

import numpy as np

from blmm_bids.stats.folding import Folding
from blmm_bids.stats.kernels.compiling import inner, kernel
from blmm_bids.stats.kernels.criterion import Lanes
from blmm_bids.stats.kernels.fold_lanes import NOBODYS, FoldLanes
from blmm_bids.stats.kernels.newton import Small, needs_pivoting, reorder_theta
from blmm_bids.stats.kernels.search import FIRST, PIVOT, Search
from blmm_bids.stats.model import FloatArray, IntArray
from blmm_bids.stats.plan_structure import Structure


@kernel
def pivot_lanes(
    s: Structure, rest: Structure, fold: Folding, k: Lanes, fl: FoldLanes, search: Search, small: Small
) -> None:
    """Take the effects of terms in a better order, in the lanes that asked for it."""
    scratch = np.empty(s.term_size.max() ** 2)
    n_parts = fold.part_sizes.size
    for w in range(search.phase.size):
        if search.phase[w] == PIVOT:
            for term in range(s.term_size.size):
                if not _pivot(s, w, term, search, small):
                    continue
                if term < n_parts:
                    _reorder_roots(fold, w, term, small.order, scratch, fl)
                else:
                    behind = term - n_parts
                    _reorder_met(rest, fold, w, behind, small.order, scratch, fl)
                    _reorder_effects(rest, fl.base, w, behind, small.order, scratch)
                    for c in range(fl.n_classes[w]):
                        for pair in range(fl.totals.shape[1]):
                            _reorder_effects(rest, fl.totals[c, pair], w, behind, small.order, scratch)
                # G of single levels is given to a lane with each voxel, all else only with another pattern.
                if fold.sizes[2] > 0 or term >= n_parts:
                    fl.pattern[w] = NOBODYS
                _compose_order(s, w, term, search, small)
            _resume(k, w, search)


@inner
def _pivot(s: Structure, w: int, term: int, search: Search, small: Small) -> bool:
    """Whether a term wants another order; its theta and ``small.order`` are that order's then."""
    if s.term_size[term] == 1 or not needs_pivoting(s, search.theta[w], term, small, small.order):
        return False
    reorder_theta(s, search.theta[w], term, small, small.order)
    return True


@inner
def _compose_order(s: Structure, w: int, term: int, search: Search, small: Small) -> None:
    """Remember where a term's effects were before any pivoting."""
    start = s.effect_start[term]
    for e in range(s.term_size[term]):
        small.order[e] = search.order[w, start + small.order[e]]
    for e in range(s.term_size[term]):
        search.order[w, start + e] = small.order[e]


@inner
def _resume(k: Lanes, w: int, search: Search) -> None:
    """Evaluate the same point in its new coordinates; taken whatever rounding does to its value."""
    for t in range(search.theta.shape[1]):
        k.theta[t, w] = search.theta[w, t]
    search.phase[w] = FIRST
    search.value[w] = math.inf


@inner
def _reorder_roots(
    fold: Folding, w: int, part: int, order: IntArray, scratch: FloatArray, fl: FoldLanes
) -> None:
    """Put the effects of a term that is integrated out into another order in one lane's levels.

    Parameters
    ----------
    order : (effect,)
        Position that each effect's products have now.
    scratch : (effects squared,)
    """
    lanes = fl.base.shape[1]
    size = fold.part_sizes[part]
    # The last term is there once, the first of two once for each of its levels within one of the other.
    outer = fold.sizes[0] - fold.part_sizes[fold.part_sizes.size - 1]
    begin, end = (outer, fold.sizes[0]) if part == fold.part_sizes.size - 1 else (0, outer)
    for unit in range(fl.roots.shape[0]):
        for item in range(w, fl.roots.shape[3], lanes):
            for first in range(begin, end, size):
                for c in range(fold.sizes[0]):
                    for a in range(size):
                        scratch[a] = fl.roots[unit, first + order[a], c, item]
                    for a in range(size):
                        fl.roots[unit, first + a, c, item] = scratch[a]


@inner
def _reorder_met(
    rest: Structure, fold: Folding, w: int, term: int, order: IntArray, scratch: FloatArray, fl: FoldLanes
) -> None:
    """Put the effects of another term into another order in one lane's levels; see `_reorder_roots`."""
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


@inner
def _reorder_effects(
    s: Structure, stats: FloatArray, w: int, term: int, order: IntArray, scratch: FloatArray
) -> None:
    """Put a term's effects into another order in one lane's products.

    Parameters
    ----------
    stats : (product, lane)
    order : (effect,)
        Position that each effect's products have now.
    scratch : (effects squared,)
    """
    size = s.term_size[term]
    n_border = s.sizes[1] + 1
    for col in range(s.term_start[term], s.term_start[term + 1], size):
        for c in range(n_border):
            for e in range(size):
                scratch[e] = stats[s.sizes[5] + (col + order[e]) * n_border + c, w]
            for e in range(size):
                stats[s.sizes[5] + (col + e) * n_border + c, w] = scratch[e]
    for block in range(s.block_terms.shape[0]):
        is_row = s.block_terms[block, 0] == term
        is_col = s.block_terms[block, 1] == term
        if not is_row and not is_col:
            continue
        start = s.block_start[block]
        height = s.term_size[s.block_terms[block, 0]]
        width = s.term_size[s.block_terms[block, 1]]
        for i in range(height):
            row = order[i] if is_row else i
            for j in range(width):
                scratch[i * width + j] = stats[start + row * width + (order[j] if is_col else j), w]
        for value in range(height * width):
            stats[start + value, w] = scratch[value]
