"""Idle lanes take the next voxels."""

from __future__ import annotations

import math

from blmm_bids.stats.folding import Folding
from blmm_bids.stats.kernels.batches import (
    COLUMN,
    COLUMNS,
    NEXT,
    UNKNOWN,
    WHOLE_CODE,
    Batch,
    Queue,
    form_pattern,
    multiply_batch,
    next_batch,
    store_column,
)
from blmm_bids.stats.kernels.compiling import inner, kernel
from blmm_bids.stats.kernels.criterion import Lanes
from blmm_bids.stats.kernels.deletion import find_ways
from blmm_bids.stats.kernels.finish import Estimates
from blmm_bids.stats.kernels.fold_lanes import FoldLanes
from blmm_bids.stats.kernels.fold_products import TOO_MANY_CLASSES
from blmm_bids.stats.kernels.newton import FIRST_RADIUS
from blmm_bids.stats.kernels.patching import copy_pattern
from blmm_bids.stats.kernels.products import CONVERGED, Responses
from blmm_bids.stats.kernels.search import FIRST, IDLE, Rules, Search, residual_df
from blmm_bids.stats.kernels.starting import START, start_from_moments
from blmm_bids.stats.model import FloatArray
from blmm_bids.stats.plan_structure import Structure


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
    batch: Batch,
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
    if state[WHOLE_CODE] == UNKNOWN:
        state[WHOLE_CODE] = form_pattern(
            rest, fold, q_basis, effects, rules, queue.values, batch.whole, batch.whole_fold
        )
        copy_pattern(batch.whole_fold, batch.own_fold)
        if state[WHOLE_CODE] == CONVERGED:
            find_ways(fold, batch.whole_fold, batch.gaps.ways)
    for w in range(phase.size):
        while phase[w] == IDLE:
            if state[COLUMN] == state[COLUMNS]:
                if state[NEXT] == queue.order.size:
                    break
                next_batch(rest, fold, q_basis, effects, y, queue, rules, batch, out)
                if state[COLUMNS] > 0:
                    multiply_batch(rest, fold, q_basis, effects, queue, rules, batch)
                continue
            b = state[COLUMN]
            state[COLUMN] += 1
            voxel = queue.voxels[b]
            code = batch.responses.codes[b]
            if code == CONVERGED and not store_column(rest, fold, q_basis, effects, queue, b, w, batch, fl):
                code = TOO_MANY_CLASSES
            out.status[voxel] = code
            if code == CONVERGED:
                _start(search, k, batch.responses, b, w, voxel, s, rules)
                start_from_moments(rest, fold, batch.responses.n_present[b], w, fl, k)
        n_active += 0 if phase[w] == IDLE else 1
    return n_active


@inner
def _start(
    search: Search,
    k: Lanes,
    responses: Responses,
    b: int,
    w: int,
    voxel: int,
    s: Structure,
    rules: Rules,
) -> None:
    """First point of a lane's search."""
    n_present = responses.n_present[b]
    search.voxel[w] = voxel
    search.phase[w] = FIRST
    search.n_iter[w] = 0
    search.n_present[w] = n_present
    search.outcome[w] = CONVERGED
    search.radius[w] = FIRST_RADIUS
    search.value[w] = math.inf
    search.predicted[w] = 0.0
    for i in range(s.sizes[1]):
        search.gamma[w, i] = responses.gamma[i, b]
    search.scale[w, 0] = responses.scale[0, b]
    search.scale[w, 1] = responses.scale[1, b]
    k.weights[0, w] = 1.0
    k.weights[1, w] = 1.0 if rules.reml else 0.0
    # Scoring has the log-determinants alone: their Hessian is the expected information.
    k.weights[2, w] = 0.0 if rules.scoring else residual_df(s, search, w, rules)
    for term in range(s.term_size.size):
        t = s.theta_start[term]
        for f in range(s.term_size[term]):
            search.order[w, s.effect_start[term] + f] = f
            for e in range(f, s.term_size[term]):
                k.theta[t, w] = START if e == f else 0.0
                t += 1
