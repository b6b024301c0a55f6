"""The working arrays of a fit laid open: named tuples to look into, and the records that kernels take."""

import numpy as np

from blmm_bids.stats.kernels.batches import allocate_batch, make_queue
from blmm_bids.stats.kernels.criterion import allocate_factors, allocate_lanes
from blmm_bids.stats.kernels.finish import allocate_estimates
from blmm_bids.stats.kernels.fold_lanes import allocate_fold
from blmm_bids.stats.kernels.folding import evaluate
from blmm_bids.stats.kernels.loading import load_lanes
from blmm_bids.stats.kernels.records import by_reference
from blmm_bids.stats.kernels.search import allocate_search


class Workspace:
    """Some voxels of one pattern loaded into lanes."""

    def __init__(self, plan, Y, rules, *, which_pass=-1):
        lanes, n_obs = Y.shape
        one_pass = plan.passes[which_pass]
        rest, fold = one_pass.rest, one_pass.fold
        voxels = np.arange(lanes)
        self.k, self.search = allocate_lanes(plan.structure, lanes), allocate_search(plan.structure, lanes)
        self.fl = allocate_fold(rest, fold, lanes)
        self.out = allocate_estimates(lanes, plan.n_fixef, plan.n_theta)
        s, rest_record, fold, k, fl, search, out = map(
            by_reference, (plan.structure, rest, fold, self.k, self.fl, self.search, self.out)
        )
        queue = make_queue(voxels, np.zeros_like(voxels), n_obs)
        batch = allocate_batch(rest, one_pass.fold)
        self.n_loaded = load_lanes(
            s,
            rest_record,
            fold,
            plan.Q,
            one_pass.effects,
            Y,
            by_reference(queue),
            rules,
            k,
            fl,
            search,
            by_reference(batch),
            out,
        )
        kr = by_reference(allocate_factors(rest, lanes))
        self.evaluate = lambda: evaluate(rest_record, fold, k, kr, fl)
