"""Check the headers, cut the work, and read every image once into voxel-major parts."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blmm_bids.cluster import Runner
from blmm_bids.errors import DataError, ExhaustedError
from blmm_bids.images.blocks import WorkPlan, WorkSize, plan_work
from blmm_bids.images.grid import CheckedImages, Grid, check_grids
from blmm_bids.images.masks import mask_union
from blmm_bids.outputs.gather import GatherBatch, GatherSummary, GatherTask, gather_part, read_summary
from blmm_bids.outputs.workdir import WorkDir, content_digest
from blmm_bids.stages.content import infinite_warnings, refuse_void_images, zero_shares
from blmm_bids.stages.digests import array_digest, mask_identities
from blmm_bids.stages.progress import Progress
from blmm_bids.stages.records import SERIES_ITEMSIZE, Gathered, Prepared, Problem
from blmm_bids.stats.model import IntArray
from blmm_bids.stats.plan import DesignPlan, make_plan

LOGGER = logging.getLogger(__name__)
# Image masks that one task unites.
MASKS_PER_TASK = 50
# Doubles of intermediate arrays a voxel while contrasts are computed, a contrast.
_CONTRAST_DOUBLES = 24


def prepare(
    problem: Problem,
    runner: Runner,
    affine_tolerance: float,
    max_block_voxels: int | None = None,
    earlier_cut: tuple[int, int] | None = None,
) -> Prepared:
    """Check all headers, find the candidate voxels and cut the work.

    Parameters
    ----------
    problem : Problem
    runner : Runner
    affine_tolerance : float
        mm at a corner of the volume.
    max_block_voxels : int, optional
        Never more voxels a block.
    earlier_cut : (int, int), optional
        Images a batch and voxels a block of an earlier run, whose files are found again where this cut still
        fits into memory.

    Raises
    ------
    DataError
        Headers that differ, an empty mask, a rank-deficient design.
    UsageError
        Too little memory.
    """
    plan = make_plan(problem.design)
    checked = _check_images(problem, affine_tolerance)
    voxels = _candidates(problem, checked.grid, runner)
    work = plan_work(
        WorkSize(
            n_obs=problem.design.n_obs,
            n_voxels=voxels.size,
            itemsize=checked.dtype.itemsize,
            max_stored_bytes=checked.max_stored_bytes,
            n_orientations=checked.n_orientations,
            fit_bytes_per_voxel=result_bytes(problem, plan),
        ),
        runner.bytes_per_worker - plan.work_bytes,
        runner.n_workers,
        max_block_voxels,
        earlier_cut,
    )
    digest = _parts_digest(problem, checked, voxels, work)
    batches = _batch_digests(problem, checked, work, digest)
    return Prepared(problem, checked, voxels, plan, work, digest, batches)


def result_bytes(problem: Problem, plan: DesignPlan) -> int:
    """Bytes a voxel that a block's estimates and contrasts take."""
    p, m = plan.n_fixef, plan.n_theta
    # A badly conditioned X is fitted in Q and brought back.
    matrices = m + 3 if plan.is_well_conditioned else m + 7
    doubles = p * p * matrices + (m + 1) ** 2 + 3 * m + 20 + _CONTRAST_DOUBLES * (len(problem.contrasts) + 1)
    # Modes and residuals are computed together, in float64, and kept in float32.
    series = (8 + SERIES_ITEMSIZE) * (problem.design.n_ranef + problem.design.n_obs) if problem.series else 0
    return 8 * doubles + series


def _check_images(problem: Problem, affine_tolerance: float) -> CheckedImages:
    """Check the headers of all images and of their own masks."""
    checked = check_grids(problem.images, affine_tolerance)
    masks = sorted({path for paths in problem.masks for path in paths})
    if not masks:
        return checked
    about = check_grids(masks, affine_tolerance, checked.grid, "masks")
    n_orientations = max(checked.n_orientations, about.n_orientations)
    return replace(checked, n_orientations=n_orientations, notes=(*checked.notes, *about.notes))


def _candidates(problem: Problem, grid: Grid, runner: Runner) -> IntArray:
    """Voxels that may be in the analysis mask: the explicit mask, else the union of the images' own."""
    if problem.mask is not None:
        mask = problem.mask
    elif problem.masks and all(problem.masks):
        # Masks that share a file are read once; the union is over the distinct ones.
        sets = list(dict.fromkeys(problem.masks))
        chunks = [sets[start : start + MASKS_PER_TASK] for start in range(0, len(sets), MASKS_PER_TASK)]
        mask = np.zeros(grid.n_voxels, dtype=bool)
        for _, union in runner.map(mask_union, chunks, label="masks", shared=(grid.shape, grid.affine)):
            mask |= union
    else:
        mask = np.ones(grid.n_voxels, dtype=bool)
    voxels = np.flatnonzero(mask).astype(np.int64)
    if voxels.size == 0:
        msg = "the mask is empty; check that the analysis mask and the images' own masks cover the brain"
        raise DataError(msg)
    return voxels


def gather(runner: Runner, work_dir: WorkDir, prepared: Prepared) -> Gathered:
    """Read every image once into voxel-major parts.

    Raises
    ------
    DataError
        Names the images that cannot be read, or that hold nothing.
    StorageError
        A part cannot be written.
    """
    problem, work = prepared.problem, prepared.work
    stage = work_dir.gather(prepared.digest)
    digests = prepared.batch_digests
    undone = [span for span in work.batches if not stage.is_part_done(span.index, digests[span.index])]
    if undone:
        work_dir.require_space(work.disk_bytes * len(undone) // work.n_batches)
    task = GatherTask(
        shape=prepared.checked.grid.shape,
        voxels=prepared.voxels,
        blocks=work.blocks,
        dtype=prepared.checked.dtype.name,
        rule=problem.rule,
        affine=prepared.checked.grid.affine,
    )
    batches = [
        GatherBatch(
            path=stage.part(span.index),
            first_obs=span.start,
            images=problem.images[span.start : span.stop],
            masks=problem.masks[span.start : span.stop],
            identities=prepared.checked.identities[span.start : span.stop],
            digest=digests[span.index],
        )
        for span in undone
    ]
    n_images = len(problem.images)
    n_done = n_images - sum(span.size for span in undone)
    progress = Progress("images read", n_images, n_done, runner.n_workers)
    for index, _ in runner.map(gather_part, batches, label="batch", shared=(task,)):
        progress.add(undone[index].size)
    summaries = [read_summary(stage.part(span.index)) for span in work.batches]
    numbers = _image_numbers(summaries)
    refuse_void_images(problem.images, numbers, problem.rule)
    for warning in (warnings := infinite_warnings(problem.images, numbers)):
        LOGGER.warning("%s", warning)
    counts: IntArray = np.sum([summary.counts for summary in summaries], axis=0, dtype=np.int64)
    keep: NDArray[np.bool_] = counts >= problem.min_images
    numbers["zero_share"] = zero_shares(numbers.pop("zeros"), keep)
    return Gathered(
        stage=stage,
        parts=tuple(stage.part(span.index) for span in work.batches),
        counts=counts,
        images=numbers,
        warnings=warnings,
    )


def gather_smaller(runner: Runner, work_dir: WorkDir, prepared: Prepared) -> tuple[Prepared, Gathered]:
    """Gather; where a batch kills its workers, cut the work smaller and begin again, rather than for ever.

    Returns
    -------
    Prepared
        As given, or with a smaller cut.
    Gathered
        Its parts.

    Raises
    ------
    ExhaustedError
        Workers die of a single image, too.
    BlmmError
        As `gather`.
    """
    while True:
        try:
            return prepared, gather(runner, work_dir, prepared)
        except ExhaustedError as error:
            if prepared.work.batch_obs == 1:
                raise
            prepared = _with_smaller_cut(prepared)
            LOGGER.warning("%s. Now with at most %d images a batch", error, prepared.work.batch_obs)


def _with_smaller_cut(prepared: Prepared) -> Prepared:
    problem, checked = prepared.problem, prepared.checked
    work = replace(
        prepared.work,
        batch_obs=max(prepared.work.batch_obs // 4, 1),
        block_voxels=max(prepared.work.block_voxels // 4, 1),
    )
    digest = _parts_digest(problem, checked, prepared.voxels, work)
    batches = _batch_digests(problem, checked, work, digest)
    return replace(prepared, work=work, digest=digest, batch_digests=batches)


def _parts_digest(problem: Problem, checked: CheckedImages, voxels: IntArray, work: WorkPlan) -> str:
    """Hash of what all parts depend on: which files, at which voxels, cut how; not what is in the files."""
    return content_digest(
        {
            "images": problem.images,
            "masks": problem.masks,
            "rule": [problem.rule.threshold, problem.rule.zeros],
            # Says which way round values lie; a file says it in its header.
            "affine": array_digest(checked.grid.affine),
            "voxels": array_digest(voxels),
            "batches": [span.stop for span in work.batches],
            "blocks": [span.stop for span in work.blocks],
            "dtype": checked.dtype.name,
        }
    )


def _batch_digests(problem: Problem, checked: CheckedImages, work: WorkPlan, digest: str) -> tuple[str, ...]:
    """Hash of what each part depends on: its files' identities too, so a change costs its batch alone."""
    masks = mask_identities(problem.masks)
    return tuple(
        content_digest(
            [
                digest,
                checked.identities[span.start : span.stop],
                [[masks[path] for path in paths] for paths in problem.masks[span.start : span.stop]],
            ]
        )
        for span in work.batches
    )


def _image_numbers(summaries: Sequence[GatherSummary]) -> dict[str, NDArray[Any]]:
    names = [field.name for field in fields(GatherSummary) if field.name not in ("first_obs", "counts")]
    return {name: np.concatenate([getattr(summary, name) for summary in summaries]) for name in names}
