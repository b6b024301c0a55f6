"""Check the headers, cut the work, and read every image once into voxel-major parts."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blmm_bids.cluster import Runner
from blmm_bids.errors import DataError
from blmm_bids.images.blocks import WorkPlan, WorkSize, plan_work
from blmm_bids.images.grid import CheckedImages, check_grids
from blmm_bids.images.header import read_header
from blmm_bids.images.masks import mask_union
from blmm_bids.outputs.gather import GatherBatch, GatherSummary, GatherTask, gather_part, read_summary
from blmm_bids.outputs.workdir import WorkDir, content_digest
from blmm_bids.stages.progress import Progress
from blmm_bids.stages.records import SERIES_ITEMSIZE, Gathered, Prepared, Problem
from blmm_bids.stats.model import IntArray
from blmm_bids.stats.plan import DesignPlan, make_plan

# Image masks that one task unites.
MASKS_PER_TASK = 50
# Doubles of intermediate arrays a voxel while contrasts are computed, a contrast.
_CONTRAST_DOUBLES = 24


def prepare(
    problem: Problem, runner: Runner, affine_tolerance: float, max_block_voxels: int | None = None
) -> Prepared:
    """Check all headers, find the candidate voxels and cut the work.

    Raises
    ------
    DataError
        Headers that differ, an empty mask, a rank-deficient design.
    UsageError
        Too little memory.
    """
    plan = make_plan(problem.design)
    checked = check_grids(problem.images, affine_tolerance)
    voxels = _candidates(problem, checked, runner)
    work = plan_work(
        WorkSize(
            n_obs=problem.design.n_obs,
            n_voxels=voxels.size,
            itemsize=checked.dtype.itemsize,
            max_stored_bytes=checked.max_stored_bytes,
            fit_bytes_per_voxel=result_bytes(problem, plan),
        ),
        runner.bytes_per_worker - plan.work_bytes,
        runner.n_workers,
        max_block_voxels,
    )
    return Prepared(problem, checked, voxels, plan, work, _parts_digest(problem, checked, voxels, work))


def result_bytes(problem: Problem, plan: DesignPlan) -> int:
    """Bytes a voxel that a block's estimates and contrasts take."""
    p, m = plan.n_fixef, plan.n_theta
    doubles = p * p * (m + 3) + (m + 1) ** 2 + 3 * m + 20 + _CONTRAST_DOUBLES * (len(problem.contrasts) + 1)
    # Modes and residuals are computed together, in float64, and kept in float32.
    series = (8 + SERIES_ITEMSIZE) * (problem.design.n_ranef + problem.design.n_obs) if problem.series else 0
    return 8 * doubles + series


def _candidates(problem: Problem, checked: CheckedImages, runner: Runner) -> IntArray:
    """Voxels that may be in the analysis mask: the explicit mask, else the union of the images' own."""
    grid = checked.grid
    if problem.mask is not None:
        mask = problem.mask
    elif problem.masks and all(problem.masks):
        # Masks that share a file are read once; the union is over the distinct ones.
        check_grids(sorted({path for paths in problem.masks for path in paths}), reference=grid)
        sets = list(dict.fromkeys(problem.masks))
        chunks = [sets[start : start + MASKS_PER_TASK] for start in range(0, len(sets), MASKS_PER_TASK)]
        mask = np.zeros(grid.n_voxels, dtype=bool)
        for _, union in runner.map(mask_union, chunks, label="masks", shared=(grid.shape,)):
            mask |= union
    else:
        mask = np.ones(grid.n_voxels, dtype=bool)
    voxels = np.flatnonzero(mask).astype(np.int64)
    if voxels.size == 0:
        msg = "the mask is empty; check that --mask and the images' own masks cover the brain"
        raise DataError(msg)
    return voxels


def gather(runner: Runner, work_dir: WorkDir, prepared: Prepared) -> Gathered:
    """Read every image once into voxel-major parts."""
    problem, work = prepared.problem, prepared.work
    stage = work_dir.gather(prepared.digest)
    undone = [span for span in work.batches if not stage.is_part_done(span.index)]
    if undone:
        work_dir.require_space(work.disk_bytes * len(undone) // work.n_batches)
    task = GatherTask(
        shape=prepared.checked.grid.shape,
        voxels=prepared.voxels,
        blocks=work.blocks,
        dtype=prepared.checked.dtype.name,
        rule=problem.rule,
        digest=prepared.digest,
    )
    batches = [
        GatherBatch(
            path=stage.part(span.index),
            first_obs=span.start,
            images=problem.images[span.start : span.stop],
            masks=problem.masks[span.start : span.stop],
        )
        for span in undone
    ]
    n_images = len(problem.images)
    n_done = n_images - sum(span.size for span in undone)
    progress = Progress("images read", n_images, n_done, runner.n_workers)
    for index, _ in runner.map(gather_part, batches, label="batch", shared=(task,)):
        progress.add(undone[index].size)
    summaries = [read_summary(stage.part(span.index)) for span in work.batches]
    return Gathered(
        stage=stage,
        parts=tuple(stage.part(span.index) for span in work.batches),
        counts=np.sum([summary.counts for summary in summaries], axis=0, dtype=np.int64),
        images=_image_numbers(summaries),
    )


def _parts_digest(problem: Problem, checked: CheckedImages, voxels: IntArray, work: WorkPlan) -> str:
    return content_digest(
        {
            "images": checked.identities,
            "masks": _mask_identities(problem.masks),
            "rule": [problem.rule.threshold, problem.rule.zeros],
            "voxels": array_digest(voxels),
            "batches": [span.stop for span in work.batches],
            "blocks": [span.stop for span in work.blocks],
            "dtype": checked.dtype.name,
        }
    )


def _image_numbers(summaries: Sequence[GatherSummary]) -> dict[str, NDArray[Any]]:
    names = [field.name for field in fields(GatherSummary) if field.name not in ("first_obs", "counts")]
    return {name: np.concatenate([getattr(summary, name) for summary in summaries]) for name in names}


def array_digest(array: NDArray[Any]) -> str:
    """Hash of an array's values."""
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def _mask_identities(masks: Sequence[Sequence[Path]]) -> list[list[str]]:
    unique = {path: read_header(path).identity for paths in masks for path in paths}
    return [[unique[path] for path in paths] for paths in masks]
