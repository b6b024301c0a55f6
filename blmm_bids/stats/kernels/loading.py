"""Idle lanes take the next voxels; their products are formed as they come in."""

from __future__ import annotations

import math
from typing import NamedTuple

from blmm_bids.stats.folding import Folding
from blmm_bids.stats.kernels.compiling import inner, kernel
from blmm_bids.stats.kernels.criterion import Lanes
from blmm_bids.stats.kernels.finish import Estimates
from blmm_bids.stats.kernels.fold_classes import FoldLanes
from blmm_bids.stats.kernels.fold_products import FoldPattern, compute_fold_pattern, store_fold
from blmm_bids.stats.kernels.newton import FIRST_RADIUS
from blmm_bids.stats.kernels.products import (
    CONVERGED,
    Pattern,
    compute_pattern,
    reduce_response,
    store_products,
)
from blmm_bids.stats.kernels.search import FIRST, IDLE, Rules, Search
from blmm_bids.stats.model import FloatArray, IntArray
from blmm_bids.stats.plan_structure import Structure

# Every search starts from this multiple of the identity: a little less variance between the levels than
# within, in conditioned effects.
START = 0.7


class Queue(NamedTuple):
    """Voxels waiting for a lane.

    Attributes
    ----------
    order : (voxel,)
        Voxels sorted by pattern.
    pattern_ids : (block voxel,)
        Which pattern each voxel of the block has.
    state : (3,)
        Next position in ``order``; pattern whose products are at hand, and its status code.
    values : (obs,)
        Scratch: one voxel's response.
    """

    order: IntArray
    pattern_ids: IntArray
    state: IntArray
    values: FloatArray


@kernel
def load_lanes(
    s: Structure,
    q_basis: FloatArray,
    effects: FloatArray,
    y: FloatArray,
    queue: Queue,
    rules: Rules,
    k: Lanes,
    search: Search,
    pattern: Pattern,
    out: Estimates,
) -> int:
    """Give every idle lane the next voxel that can be fitted; the number of lanes at work.

    Parameters
    ----------
    q_basis, effects
        See `DesignPlan`.
    y : (voxel, obs) float32 or float64
        Values, NaN where missing.
    """
    n_active = 0
    for w in range(search.phase.size):
        while search.phase[w] == IDLE and queue.state[0] < queue.order.size:
            voxel, n_present, is_new = _take(y, queue, out)
            if is_new:
                queue.state[2] = compute_pattern(s, q_basis, effects, queue.values, rules.safe_mode, pattern)
            if _reduce(queue, q_basis, pattern, voxel, w, rules, search, out):
                store_products(s, q_basis, effects, queue.values, pattern, w, k.stats)
                _start(search, k, w, voxel, n_present, s, rules)
        n_active += 0 if search.phase[w] == IDLE else 1
    return n_active


@kernel
def load_lanes_folded(
    s: Structure,
    rest: Structure,
    fold: Folding,
    q_basis: FloatArray,
    effects: FloatArray,
    rest_effects: FloatArray,
    y: FloatArray,
    queue: Queue,
    rules: Rules,
    k: Lanes,
    fl: FoldLanes,
    search: Search,
    pattern: Pattern,
    fold_pattern: FoldPattern,
    level_y: FloatArray,
    out: Estimates,
) -> int:
    """As `load_lanes`; voxels with too many classes keep `TOO_MANY_CLASSES` as their status."""
    n_active = 0
    for w in range(search.phase.size):
        while search.phase[w] == IDLE and queue.state[0] < queue.order.size:
            voxel, n_present, is_new = _take(y, queue, out)
            if is_new:
                code = compute_pattern(rest, q_basis, rest_effects, queue.values, rules.safe_mode, pattern)
                if code == CONVERGED:
                    code = compute_fold_pattern(
                        rest, fold, q_basis, effects, queue.values, n_present, rules.safe_mode, fold_pattern
                    )
                queue.state[2] = code
            if _reduce(queue, q_basis, pattern, voxel, w, rules, search, out):
                store_products(rest, q_basis, rest_effects, queue.values, pattern, w, fl.base)
                store_fold(rest, fold, effects, queue.values, fold_pattern, w, level_y, fl)
                _start(search, k, w, voxel, n_present, s, rules)
        n_active += 0 if search.phase[w] == IDLE else 1
    return n_active


@inner
def _take(y: FloatArray, queue: Queue, out: Estimates) -> tuple[int, int, bool]:
    """Next voxel, its images, and whether its pattern differs from the last one's."""
    voxel = queue.order[queue.state[0]]
    queue.state[0] += 1
    n_present = 0
    for obs in range(queue.values.size):
        queue.values[obs] = y[voxel, obs]
        if not math.isnan(queue.values[obs]):
            n_present += 1
    out.n_obs[voxel] = n_present
    is_new = queue.pattern_ids[voxel] != queue.state[1]
    queue.state[1] = queue.pattern_ids[voxel]
    return voxel, n_present, is_new


@inner
def _reduce(
    queue: Queue,
    q_basis: FloatArray,
    pattern: Pattern,
    voxel: int,
    w: int,
    rules: Rules,
    search: Search,
    out: Estimates,
) -> bool:
    """Reduce the response of a voxel that its pattern allows to be fitted; whether it can be."""
    status = queue.state[2]
    if status == CONVERGED:
        status = reduce_response(
            q_basis, pattern.factor, rules.resolution, queue.values, search.gamma[w], search.scale[w]
        )
    out.status[voxel] = status
    return status == CONVERGED  # type: ignore[no-any-return]


@inner
def _start(search: Search, k: Lanes, w: int, voxel: int, n_present: int, s: Structure, rules: Rules) -> None:
    """First point of a lane's search."""
    search.voxel[w] = voxel
    search.phase[w] = FIRST
    search.n_iter[w] = 0
    search.n_present[w] = n_present
    search.outcome[w] = CONVERGED
    search.radius[w] = FIRST_RADIUS
    search.value[w] = math.inf
    k.weights[0, w] = 1.0
    k.weights[1, w] = 1.0 if rules.reml else 0.0
    k.weights[2, w] = float(n_present - s.sizes[1]) if rules.reml else float(n_present)
    for term in range(s.term_size.size):
        t = s.theta_start[term]
        for f in range(s.term_size[term]):
            search.order[w, s.effect_start[term] + f] = f
            for e in range(f, s.term_size[term]):
                k.theta[t, w] = START if e == f else 0.0
                t += 1
