"""A fit whose blocks are planned for far more memory than a worker will have."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np

from blmm_bids.images.blocks import WorkSize, plan_work, split_evenly
from blmm_bids.images.reader import MissingRule
from blmm_bids.outputs.parts import write_part
from blmm_bids.outputs.workdir import WorkDir
from blmm_bids.stages import Fitted, Gathered, Prepared, Problem, fit_block, fit_blocks
from blmm_bids.stages.fit import _task
from blmm_bids.stats.model import Design, FitOptions
from blmm_bids.stats.plan import make_plan

N_OBS, N_VOXELS, N_PARTS = 3000, 16_384, 10


def oversized_fit(directory):
    """The fit, the stage's function, and what a block's results should be.

    One block of 200 MB, read from ten parts: a piece of it needs a part's 20 MB and its own share.
    """
    rng = np.random.default_rng(4)
    design = Design(np.column_stack([np.ones(N_OBS), rng.normal(size=N_OBS)]), ("Intercept", "x"))
    problem = Problem(design, (), FitOptions(), (), (), None, MissingRule(), 3)
    plan = make_plan(design)
    work = plan_work(WorkSize(N_OBS, N_VOXELS, 4, N_VOXELS * 4), 2**34, 1)
    work = replace(work, block_voxels=N_VOXELS)
    blocks = work.blocks
    place = WorkDir.open(directory / "work")
    parts = []
    for span in split_evenly(N_OBS, N_OBS // N_PARTS):
        values = rng.standard_normal((span.size, N_VOXELS), dtype=np.float32)
        parts.append(place.gather("a" * 64).part(span.index))
        write_part(parts[-1], values, blocks, span.start, "a" * 64)
    checked = SimpleNamespace(dtype=np.dtype(np.float32))
    prepared = Prepared(problem, checked, np.arange(N_VOXELS), plan, work, "a" * 64, ())
    gathered = Gathered(place.gather("a" * 64), tuple(parts), np.full(N_VOXELS, N_OBS), {})
    fitted = Fitted(prepared, gathered, place.fit("b" * 64), np.ones(N_VOXELS, dtype=bool))

    def expected(span):
        other = replace(fitted, stage=place.fit("c" * 64))
        fit_block(span, _task(other), 3)
        return other.stage.load_result(span.index)

    return fitted, fit_blocks, expected
