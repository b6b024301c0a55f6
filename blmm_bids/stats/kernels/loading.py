"""Idle lanes take the next voxels; products are formed for a batch of voxels of one pattern at a time."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from blmm_bids.stats.folding import Folding
from blmm_bids.stats.kernels.compiling import inner, kernel
from blmm_bids.stats.kernels.criterion import Lanes
from blmm_bids.stats.kernels.finish import Estimates
from blmm_bids.stats.kernels.fold_lanes import FoldLanes
from blmm_bids.stats.kernels.fold_products import FoldPattern, compute_fold_pattern
from blmm_bids.stats.kernels.fold_responses import (
    FoldResponses,
    project_responses,
    store_voxel,
    total_responses,
)
from blmm_bids.stats.kernels.newton import FIRST_RADIUS
from blmm_bids.stats.kernels.products import (
    CONVERGED,
    Pattern,
    Responses,
    compute_pattern,
    reduce_responses,
)
from blmm_bids.stats.kernels.search import FIRST, IDLE, Rules, Search
from blmm_bids.stats.model import FloatArray, IntArray
from blmm_bids.stats.plan_structure import Structure

# Every search starts from this multiple of the identity: a little less variance between the levels than
# within, in conditioned effects.
START = 0.7
# Voxels of one pattern whose products are formed together: so many that a loop over them is worth
# starting, and so few that their values stay near. Padded to a vector's width, so that a voxel's bits do
# not depend on its place.
BATCH_DOUBLES = 128_000
MOST_COLUMNS, WIDTH = 64, 8


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
    state : (5,)
        Next position in ``order``; pattern whose products are at hand, and its status code; next column of
        the batch, and its columns.
    values : (obs,)
        Scratch: one voxel's response.
    """

    order: IntArray
    pattern_ids: IntArray
    voxels: IntArray
    state: IntArray
    values: FloatArray


def batch_columns(n_obs: int) -> int:
    """Voxels of a batch, a multiple of a vector's width."""
    return max(min(BATCH_DOUBLES // (n_obs * WIDTH) * WIDTH, MOST_COLUMNS), WIDTH)


def make_queue(order: IntArray, pattern_ids: IntArray, n_obs: int) -> Queue:
    """Queue of the voxels in ``order``, of which none is at hand."""
    voxels = np.zeros(batch_columns(n_obs), dtype=np.int64)
    return Queue(order, pattern_ids, voxels, np.array([0, -1, 0, 0, 0]), np.zeros(n_obs))


@kernel
def load_lanes(
    s: Structure,
    rest: Structure,
    fold: Folding,
    q_basis: FloatArray,
    effects: FloatArray,
    y: FloatArray,
    queue: Queue,
    rules: Rules,
    k: Lanes,
    fl: FoldLanes,
    search: Search,
    pattern: Pattern,
    fold_pattern: FoldPattern,
    responses: Responses,
    fold_responses: FoldResponses,
    out: Estimates,
) -> int:
    """Give every idle lane the next voxel that can be fitted; the number of lanes at work.

    Voxels with too many classes keep `TOO_MANY_CLASSES` as their status.

    Parameters
    ----------
    s, rest : Structure
        Of all terms, and of those behind the first.
    q_basis, effects
        See `DesignPlan`.
    y : (voxel, obs) float32 or float64
        Values, NaN where missing.
    """
    n_active = 0
    phase, state = search.phase, queue.state
    for w in range(phase.size):
        while phase[w] == IDLE:
            if state[3] == state[4]:
                if state[0] == queue.order.size:
                    break
                _next_batch(
                    rest, fold, q_basis, effects, y, queue, rules, pattern, fold_pattern, responses, out
                )
                if state[4] > 0:
                    width = _padded(state[4])
                    reduce_responses(q_basis, pattern, rules.resolution, width, responses)
                    project_responses(
                        rest, fold, effects, pattern, fold_pattern, width, responses, fold_responses
                    )
                    if fold.sizes[2] > 0:
                        total_responses(rest, fold, fold_pattern, width, fold_responses)
                continue
            b = state[3]
            state[3] += 1
            voxel = queue.voxels[b]
            out.status[voxel] = responses.codes[b]
            if responses.codes[b] == CONVERGED:
                store_voxel(rest, fold, pattern, fold_pattern, fold_responses, b, w, fl)
                _start(search, k, responses, b, w, voxel, pattern.n_present[0], s, rules)
        n_active += 0 if phase[w] == IDLE else 1
    return n_active


@inner
def _next_batch(
    rest: Structure,
    fold: Folding,
    q_basis: FloatArray,
    effects: FloatArray,
    y: FloatArray,
    queue: Queue,
    rules: Rules,
    pattern: Pattern,
    fold_pattern: FoldPattern,
    responses: Responses,
    out: Estimates,
) -> None:
    """Take the next voxels of one pattern, and their responses where the pattern can be fitted."""
    state, order, pattern_ids, row = queue.state, queue.order, queue.pattern_ids, queue.values
    voxel = order[state[0]]
    if pattern_ids[voxel] != state[1]:
        state[1] = pattern_ids[voxel]
        for obs in range(row.size):
            row[obs] = y[voxel, obs]
        code = compute_pattern(rest, q_basis, effects, fold.sizes[0], row, rules.safe_mode, pattern)
        if code == CONVERGED:
            code = compute_fold_pattern(rest, fold, q_basis, effects, pattern, rules.safe_mode, fold_pattern)
        state[2] = code
    n_columns = 0
    values, present, n_present = responses.values, pattern.present, pattern.n_present[0]
    while (
        n_columns < queue.voxels.size and state[0] < order.size and pattern_ids[order[state[0]]] == state[1]
    ):
        voxel = order[state[0]]
        state[0] += 1
        out.n_obs[voxel] = n_present
        out.status[voxel] = state[2]
        if state[2] == CONVERGED:
            queue.voxels[n_columns] = voxel
            for i in range(n_present):
                values[i, n_columns] = y[voxel, present[i]]
            n_columns += 1
    # Columns without a voxel compute what nobody reads.
    width = _padded(n_columns)
    for i in range(n_present):
        for b in range(n_columns, width):
            values[i, b] = 0.0
    state[3] = 0
    state[4] = n_columns


@inner
def _padded(n_columns: int) -> int:
    return (n_columns + WIDTH - 1) // WIDTH * WIDTH


@inner
def _start(
    search: Search,
    k: Lanes,
    responses: Responses,
    b: int,
    w: int,
    voxel: int,
    n_present: int,
    s: Structure,
    rules: Rules,
) -> None:
    """First point of a lane's search."""
    search.voxel[w] = voxel
    search.phase[w] = FIRST
    search.n_iter[w] = 0
    search.n_present[w] = n_present
    search.outcome[w] = CONVERGED
    search.radius[w] = FIRST_RADIUS
    search.value[w] = math.inf
    for i in range(s.sizes[1]):
        search.gamma[w, i] = responses.gamma[i, b]
    search.scale[w, 0] = responses.scale[0, b]
    search.scale[w, 1] = responses.scale[1, b]
    k.weights[0, w] = 1.0
    k.weights[1, w] = 1.0 if rules.reml else 0.0
    k.weights[2, w] = float(n_present - s.sizes[1]) if rules.reml else float(n_present)
    if rules.scoring:
        # The log-determinants alone: their Hessian is the expected information.
        k.weights[2, w] = 0.0
    for term in range(s.term_size.size):
        t = s.theta_start[term]
        for f in range(s.term_size[term]):
            search.order[w, s.effect_start[term] + f] = f
            for e in range(f, s.term_size[term]):
                k.theta[t, w] = START if e == f else 0.0
                t += 1
