"""What runs on workers, and the driver's side of each stage.

Gather: images to voxel-major parts. Fit: a block of voxels from all parts to a result file. Both
stages skip what an earlier run has finished, and neither knows which kind of worker it runs on.
"""

from blmm_bids.stages.content import zero_warnings
from blmm_bids.stages.fit import fit, fit_block, fit_blocks, fit_results, plan_fit
from blmm_bids.stages.gather import gather, gather_smaller, prepare, result_bytes
from blmm_bids.stages.history import note_cut, note_fits, result_record
from blmm_bids.stages.records import BlockResult, FitTask, Fitted, Gathered, Prepared, Problem

__all__ = [
    "BlockResult",
    "FitTask",
    "Fitted",
    "Gathered",
    "Prepared",
    "Problem",
    "fit",
    "fit_block",
    "fit_blocks",
    "fit_results",
    "gather",
    "gather_smaller",
    "note_cut",
    "note_fits",
    "plan_fit",
    "prepare",
    "result_bytes",
    "result_record",
    "zero_warnings",
]
