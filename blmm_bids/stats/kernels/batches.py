"""Batches of voxels: they wait in a queue, and the products of many are formed together."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from blmm_bids.stats.folding import Folding
from blmm_bids.stats.kernels.compiling import inner
from blmm_bids.stats.kernels.finish import Estimates
from blmm_bids.stats.kernels.fold_lanes import NOBODYS, FoldLanes
from blmm_bids.stats.kernels.fold_products import (
    FoldPattern,
    allocate_fold_pattern,
    compute_fold_pattern,
)
from blmm_bids.stats.kernels.fold_responses import (
    FoldResponses,
    allocate_fold_responses,
    project_responses,
    store_voxel,
    total_responses,
)
from blmm_bids.stats.kernels.gaps import (
    ON_ITS_OWN,
    Gaps,
    allocate_gaps,
    blank_missing,
    check_gaps,
    find_gaps,
    hold_levels,
    solve_responses,
)
from blmm_bids.stats.kernels.patching import copy_pattern, patch_voxel, restore_levels
from blmm_bids.stats.kernels.products import (
    CONVERGED,
    Pattern,
    Responses,
    allocate_pattern,
    allocate_responses,
    compute_pattern,
    multiply_basis,
    multiply_effects,
    scale_responses,
    take_off_fit,
    take_response,
)
from blmm_bids.stats.kernels.search import Rules
from blmm_bids.stats.kernels.small import copy
from blmm_bids.stats.model import FloatArray, IntArray
from blmm_bids.stats.plan import WIDTH
from blmm_bids.stats.plan_structure import Structure

# Voxels of one pattern whose products are formed together: so many that a loop over them is worth
# starting, and so few that their values stay near. Padded to a vector's width, so that a voxel's bits do
# not depend on its place.
BATCH_DOUBLES = 128_000
MOST_COLUMNS = 64
# The pattern of voxels that lack no image; see `sort_patterns`.
WHOLE = 0


class Queue(NamedTuple):
    """Voxels waiting for a lane.

    Attributes
    ----------
    order : (voxel,)
        Voxels sorted by pattern.
    pattern_ids : (block voxel,)
        Which pattern each voxel of the block has.
    voxels : (batch,)
        Voxels of the batch whose products are at hand.
    state : (7,)
        Next position in ``order``; next column of the batch, and its columns; whether the batch has one
        pattern of its own, the pattern's id, and its status code; and that of all images.
    values : (obs,)
        Scratch: one voxel's response.
    """

    order: IntArray
    pattern_ids: IntArray
    voxels: IntArray
    state: IntArray
    values: FloatArray


class Batch(NamedTuple):
    """Products of a batch of voxels, and of the patterns that they have.

    Attributes
    ----------
    whole, whole_fold : Pattern, FoldPattern
        Of all images.
    own, own_fold : Pattern, FoldPattern
        Of a pattern that is formed from nothing; the second serves voxels with gaps, too, one at a time.
    gaps : Gaps
    responses, fold_responses : Responses, FoldResponses
    """

    whole: Pattern
    whole_fold: FoldPattern
    own: Pattern
    own_fold: FoldPattern
    gaps: Gaps
    responses: Responses
    fold_responses: FoldResponses


# Elements of ``Queue.state``, and what a code says before it is known.
NEXT, COLUMN, COLUMNS, ON_OWN, OWN_ID, OWN_CODE, WHOLE_CODE = range(7)
UNKNOWN = -4


def batch_columns(n_obs: int) -> int:
    """Voxels of a batch, a multiple of a vector's width."""
    return max(min(BATCH_DOUBLES // (n_obs * WIDTH) * WIDTH, MOST_COLUMNS), WIDTH)


def make_queue(order: IntArray, pattern_ids: IntArray, n_obs: int) -> Queue:
    """Queue of the voxels in ``order``, of which none is at hand."""
    voxels = np.zeros(batch_columns(n_obs), dtype=np.int64)
    return Queue(order, pattern_ids, voxels, np.array([0, 0, 0, 0, -1, 0, UNKNOWN]), np.zeros(n_obs))


def allocate_batch(rest: Structure, fold: Folding) -> Batch:
    """Zeroed products."""
    n_obs = fold.obs_level.size
    columns = batch_columns(n_obs)
    return Batch(
        whole=allocate_pattern(rest, n_obs),
        whole_fold=allocate_fold_pattern(rest, fold),
        own=allocate_pattern(rest, n_obs),
        own_fold=allocate_fold_pattern(rest, fold),
        gaps=allocate_gaps(rest, fold, columns),
        responses=allocate_responses(n_obs, int(rest.sizes[1]), columns),
        fold_responses=allocate_fold_responses(rest, fold, columns),
    )


@inner
def form_pattern(
    rest: Structure,
    fold: Folding,
    q_basis: FloatArray,
    effects: FloatArray,
    rules: Rules,
    row: FloatArray,
    pattern: Pattern,
    fold_pattern: FoldPattern,
) -> int:
    """Products of the images where ``row`` is not NaN; a status code."""
    code = compute_pattern(rest, q_basis, effects, fold.sizes[0], row, rules.safe_mode, pattern)
    if code == CONVERGED:
        code = compute_fold_pattern(rest, fold, q_basis, effects, pattern, rules.safe_mode, fold_pattern)
    return code  # type: ignore[no-any-return]


@inner
def next_batch(
    rest: Structure,
    fold: Folding,
    q_basis: FloatArray,
    effects: FloatArray,
    y: FloatArray,
    queue: Queue,
    rules: Rules,
    batch: Batch,
    out: Estimates,
) -> None:
    """Take the next voxels: those that share most levels with all images, or those of one pattern."""
    state, order, gaps, responses = queue.state, queue.order, batch.gaps, batch.responses
    n_columns = 0
    state[ON_OWN] = 0
    while n_columns < queue.voxels.size and state[NEXT] < order.size and state[ON_OWN] == 0:
        voxel = order[state[NEXT]]
        code = ON_ITS_OWN
        if state[WHOLE_CODE] == CONVERGED and find_gaps(fold, y[voxel], n_columns, gaps):
            code = check_gaps(rest, fold, q_basis, effects, rules.safe_mode, batch.whole, n_columns, gaps)
        if code == ON_ITS_OWN:
            if n_columns > 0:
                break
            state[ON_OWN] = 1
            continue
        state[NEXT] += 1
        out.n_obs[voxel] = batch.whole.n_present[0] - gaps.n_missing[n_columns]
        out.status[voxel] = code
        if code == CONVERGED:
            queue.voxels[n_columns] = voxel
            take_response(y[voxel], batch.whole, gaps.n_missing[n_columns], n_columns, responses)
            n_columns += 1
    if state[ON_OWN] == 1:
        n_columns = _next_on_its_own(rest, fold, q_basis, effects, y, queue, rules, batch, out)
    # Columns without a voxel compute what nobody reads.
    for b in range(n_columns, _padded(n_columns)):
        gaps.n_missing[b], gaps.n_levels[b] = 0, 0
        for i in range(responses.values.shape[0]):
            responses.values[i, b] = 0.0
    state[COLUMN], state[COLUMNS] = 0, n_columns


@inner
def _next_on_its_own(
    rest: Structure,
    fold: Folding,
    q_basis: FloatArray,
    effects: FloatArray,
    y: FloatArray,
    queue: Queue,
    rules: Rules,
    batch: Batch,
    out: Estimates,
) -> int:
    """Take the next voxels of one pattern, whose products are formed from nothing; how many."""
    state, order, row, gaps = queue.state, queue.order, queue.values, batch.gaps
    pattern_id = queue.pattern_ids[order[state[NEXT]]]
    if state[OWN_ID] != pattern_id:
        state[OWN_ID] = pattern_id
        for obs in range(row.size):
            row[obs] = y[order[state[NEXT]], obs]
        state[OWN_CODE] = form_pattern(rest, fold, q_basis, effects, rules, row, batch.own, batch.own_fold)
    n_columns = 0
    while (
        n_columns < queue.voxels.size
        and state[NEXT] < order.size
        and queue.pattern_ids[order[state[NEXT]]] == pattern_id
    ):
        voxel = order[state[NEXT]]
        state[NEXT] += 1
        out.n_obs[voxel] = batch.own.n_present[0]
        out.status[voxel] = state[OWN_CODE]
        if state[OWN_CODE] == CONVERGED:
            queue.voxels[n_columns] = voxel
            take_response(y[voxel], batch.own, 0, n_columns, batch.responses)
            gaps.n_missing[n_columns], gaps.n_levels[n_columns] = 0, 0
            copy(batch.own.products[rest.sizes[6] :], gaps.plain[n_columns])
            n_columns += 1
    return n_columns


@inner
def multiply_batch(
    rest: Structure,
    fold: Folding,
    q_basis: FloatArray,
    effects: FloatArray,
    queue: Queue,
    rules: Rules,
    batch: Batch,
) -> None:
    """Products of a batch's responses."""
    width, gaps, responses = _padded(queue.state[COLUMNS]), batch.gaps, batch.responses
    pattern, design = batch.whole, batch.whole_fold
    if queue.state[ON_OWN] == 1:
        pattern, design = batch.own, batch.own_fold
    multiply_basis(q_basis, pattern, width, responses)
    solve_responses(pattern.factor, width, gaps, responses)
    take_off_fit(q_basis, pattern, width, responses)
    blank_missing(width, gaps, responses)
    scale_responses(pattern, rules.resolution, width, responses)
    multiply_effects(
        rest, effects, fold.sizes[0], pattern, responses.values, width, batch.fold_responses.rest
    )
    hold_levels(fold, design, width, gaps, responses)
    project_responses(rest, fold, pattern, design, width, responses, batch.fold_responses)
    total_responses(rest, fold, design, width, batch.fold_responses)


@inner
def store_column(
    rest: Structure,
    fold: Folding,
    q_basis: FloatArray,
    effects: FloatArray,
    queue: Queue,
    b: int,
    w: int,
    batch: Batch,
    fl: FoldLanes,
) -> bool:
    """Give a lane the products of a column of the batch; whether it has room for their classes."""
    gaps, r, whole, own = batch.gaps, batch.responses, batch.whole_fold, batch.own_fold
    square = r.extent[3, b] / (r.scale[0, b] * r.scale[0, b])
    if gaps.n_missing[b] == 0:
        design, pattern = whole, WHOLE
        if queue.state[ON_OWN] == 1:
            design, pattern = own, queue.state[OWN_ID]
        store_voxel(rest, fold, gaps.plain[b], design, batch.fold_responses, square, pattern, b, w, fl)
        return True
    if queue.state[OWN_ID] >= 0:
        queue.state[OWN_ID] = -1
        copy_pattern(whole, own)
    room: bool = patch_voxel(rest, fold, q_basis, effects, whole, b, gaps, own, batch.fold_responses)
    if room:
        store_voxel(rest, fold, gaps.plain[b], own, batch.fold_responses, square, NOBODYS, b, w, fl)
    restore_levels(fold, whole, b, gaps, own)
    return room


@inner
def _padded(n_columns: int) -> int:
    return (n_columns + WIDTH - 1) // WIDTH * WIDTH
