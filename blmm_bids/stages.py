"""What runs on workers, and the driver's side of each stage.

Gather: images to voxel-major parts. Fit: a block of voxels from all parts to a result file. Both
stages skip what an earlier run has finished, and neither knows which kind of worker it runs on.
"""

from __future__ import annotations

import hashlib
import logging
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blmm_bids import __version__
from blmm_bids.cluster import Runner
from blmm_bids.errors import DataError
from blmm_bids.images.blocks import Span, WorkPlan, WorkSize, plan_work
from blmm_bids.images.grid import CheckedImages, check_grids
from blmm_bids.images.header import read_header
from blmm_bids.images.masks import mask_union
from blmm_bids.images.reader import MissingRule, VoxelReader
from blmm_bids.outputs.gather import GatherBatch, GatherSummary, GatherTask, gather_part, read_summary
from blmm_bids.outputs.parts import read_block
from blmm_bids.outputs.workdir import StageDir, WorkDir, content_digest
from blmm_bids.stats.fit import fit_voxels
from blmm_bids.stats.inference import contrast_maps
from blmm_bids.stats.model import Contrast, Design, FitOptions, FloatArray, IntArray
from blmm_bids.stats.plan import DesignPlan, make_plan

LOGGER = logging.getLogger(__name__)
# Between two lines of progress, seconds.
PROGRESS_INTERVAL = 10.0
# Doubles of intermediate arrays a voxel while contrasts are computed, a contrast.
_CONTRAST_DOUBLES = 24

BlockResult = dict[str, NDArray[Any]]


@dataclass(frozen=True, eq=False)
class Problem:
    """One fit, before any image is read.

    Attributes
    ----------
    design : Design
        A row an image.
    contrasts : tuple of Contrast
    options : FitOptions
    images : tuple of Path
    masks : tuple of tuple of Path
        The masks of each image; several are intersected.
    mask : (voxel,) bool or None
        Explicit mask over the whole grid, flat in C order.
    rule : MissingRule
        What counts as missing.
    min_images : int
        A voxel with fewer images is outside of the analysis mask.
    """

    design: Design
    contrasts: tuple[Contrast, ...]
    options: FitOptions
    images: tuple[Path, ...]
    masks: tuple[tuple[Path, ...], ...]
    mask: NDArray[np.bool_] | None
    rule: MissingRule
    min_images: int


@dataclass(frozen=True, eq=False)
class Prepared:
    """A problem with its headers checked and its work cut up.

    Attributes
    ----------
    problem : Problem
    checked : CheckedImages
        Grid, type and identity of the images.
    voxels : (voxel,) int64
        Candidates for the analysis mask: flat, C order, ascending.
    plan : DesignPlan
        Design made ready.
    work : WorkPlan
        Batches and blocks.
    """

    problem: Problem
    checked: CheckedImages
    voxels: IntArray
    plan: DesignPlan
    work: WorkPlan


@dataclass(frozen=True, eq=False)
class Gathered:
    """The parts of a problem.

    Attributes
    ----------
    stage : StageDir
    parts : tuple of Path
        One a batch, in the order of the images.
    counts : (voxel,) int64
        Images with a value at each candidate.
    images : dict of (obs,) arrays
        What each image held: ``n_present``, ``n_inf``, ``mean``, ``variance`` …
    """

    stage: StageDir
    parts: tuple[Path, ...]
    counts: IntArray
    images: dict[str, NDArray[Any]]


@dataclass(frozen=True, eq=False)
class Fitted:
    """The results of a problem, a file a block.

    Attributes
    ----------
    prepared : Prepared
    gathered : Gathered
    stage : StageDir
    keep : (voxel,) bool
        Which candidates are in the analysis mask.
    """

    prepared: Prepared
    gathered: Gathered
    stage: StageDir
    keep: NDArray[np.bool_]

    @property
    def voxels(self) -> IntArray:
        """Analysis mask: flat, C order, ascending."""
        return self.prepared.voxels[self.keep]

    def blocks(self, names: tuple[str, ...] | None = None) -> Iterator[tuple[IntArray, BlockResult]]:
        """Voxels and results of every block, in order."""
        for span in self.prepared.work.blocks:
            here = self.keep[span.start : span.stop]
            if here.any():
                voxels = self.prepared.voxels[span.start : span.stop][here]
                yield voxels, self.stage.load_result(span.index, names)

    def n_missing(self) -> IntArray:
        """Voxels of the mask without a value, for each image."""
        total = np.zeros(self.prepared.problem.design.n_obs, dtype=np.int64)
        for _, result in self.blocks(("missing",)):
            total += result["missing"]
        return total


@dataclass(frozen=True, eq=False)
class FitTask:
    """What all blocks of a fit share.

    Attributes
    ----------
    plan, options, contrasts
        The model.
    parts : tuple of Path
    stage : StageDir
        Where results go.
    keep : (voxel,) bool
        Analysis mask among the candidates.
    """

    plan: DesignPlan
    options: FitOptions
    contrasts: tuple[Contrast, ...]
    parts: tuple[Path, ...]
    stage: StageDir
    keep: NDArray[np.bool_]


def prepare(
    problem: Problem,
    bytes_per_worker: int,
    n_workers: int,
    affine_tolerance: float,
    max_block_voxels: int | None = None,
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
    voxels = _candidates(problem, checked)
    work = plan_work(
        WorkSize(
            n_obs=problem.design.n_obs,
            n_voxels=voxels.size,
            itemsize=checked.dtype.itemsize,
            max_stored_bytes=checked.max_stored_bytes,
            fit_bytes_per_voxel=result_bytes(problem, plan),
        ),
        bytes_per_worker - plan.work_bytes,
        n_workers,
        max_block_voxels,
    )
    return Prepared(problem, checked, voxels, plan, work)


def result_bytes(problem: Problem, plan: DesignPlan) -> int:
    """Bytes a voxel that a block's estimates and contrasts take."""
    p, m = plan.n_fixef, plan.n_theta
    doubles = p * p * (m + 3) + (m + 1) ** 2 + 3 * m + 20 + _CONTRAST_DOUBLES * (len(problem.contrasts) + 1)
    return 8 * doubles


def _candidates(problem: Problem, checked: CheckedImages) -> IntArray:
    """Voxels that may be in the analysis mask: the explicit mask, else the union of the images' own."""
    grid = checked.grid
    if problem.mask is not None:
        mask = problem.mask
    elif problem.masks and all(problem.masks):
        # Masks that share a file are read once; the union is over the distinct ones.
        check_grids(sorted({path for paths in problem.masks for path in paths}), reference=grid)
        mask = mask_union(VoxelReader(grid.shape), problem.masks)
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
    digest = content_digest(
        {
            "images": prepared.checked.identities,
            "masks": _mask_identities(problem.masks),
            "rule": [problem.rule.threshold, problem.rule.zeros],
            "voxels": _array_digest(prepared.voxels),
            "batches": [span.stop for span in work.batches],
            "blocks": [span.stop for span in work.blocks],
            "dtype": prepared.checked.dtype.name,
        }
    )
    stage = work_dir.gather(digest)
    undone = [span for span in work.batches if not stage.is_part_done(span.index)]
    if undone:
        work_dir.require_space(work.disk_bytes * len(undone) // work.n_batches)
    task = GatherTask(
        shape=prepared.checked.grid.shape,
        voxels=prepared.voxels,
        blocks=work.blocks,
        dtype=prepared.checked.dtype.name,
        rule=problem.rule,
        digest=digest,
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
    progress = Progress("images read", len(problem.images), sum(s.size for s in work.batches) - sum(s.size for s in undone))
    for index, _ in runner.map(gather_part, batches, label="batch", shared=(task,)):
        progress.add(undone[index].size)
    summaries = [read_summary(stage.part(span.index)) for span in work.batches]
    return Gathered(
        stage=stage,
        parts=tuple(stage.part(span.index) for span in work.batches),
        counts=np.sum([summary.counts for summary in summaries], axis=0, dtype=np.int64),
        images=_image_numbers(summaries),
    )


def _image_numbers(summaries: Sequence[GatherSummary]) -> dict[str, NDArray[Any]]:
    names = [field.name for field in fields(GatherSummary) if field.name not in ("first_obs", "counts")]
    return {name: np.concatenate([getattr(summary, name) for summary in summaries]) for name in names}


def fit(runner: Runner, work_dir: WorkDir, prepared: Prepared, gathered: Gathered) -> Fitted:
    """Fit every block of voxels that has enough images.

    Raises
    ------
    DataError
        No voxel has enough images.
    """
    problem, work = prepared.problem, prepared.work
    keep = gathered.counts >= problem.min_images
    if not keep.any():
        msg = (
            f"no voxel has {problem.min_images} images with a value (the most is {int(gathered.counts.max())} of "
            f"{problem.design.n_obs}); lower --min-n or --min-percent, or check the masks and --zeros"
        )
        raise DataError(msg)
    digest = content_digest(
        {
            "gather": gathered.stage.digest,
            "design": _design_digest(problem.design),
            "contrasts": [[c.name, c.test, c.L.tolist()] for c in problem.contrasts],
            "options": [getattr(problem.options, field.name) for field in fields(FitOptions)],
            "keep": _array_digest(keep),
            "version": __version__,
        }
    )
    stage = work_dir.fit(digest)
    task = FitTask(prepared.plan, problem.options, problem.contrasts, gathered.parts, stage, keep)
    spans = [span for span in work.blocks if keep[span.start : span.stop].any()]
    undone = [span for span in spans if not stage.is_result_done(span.index)]
    sizes = {span.index: int(keep[span.start : span.stop].sum()) for span in spans}
    progress = Progress("voxels fitted", int(keep.sum()), int(keep.sum()) - sum(sizes[s.index] for s in undone))
    for index, _ in runner.map(fit_block, undone, label="block", shared=(task,)):
        progress.add(sizes[undone[index].index])
    return Fitted(prepared, gathered, stage, keep)


def fit_block(span: Span, task: FitTask) -> int:
    """Fit one block and write its results; the number of voxels. Runs on a worker."""
    y = read_block(task.parts, span.index, task.keep[span.start : span.stop])
    task.stage.save_result(span.index, fit_results(task.plan, y, task.options, task.contrasts))
    return y.shape[0]


def fit_results(
    plan: DesignPlan, y: NDArray[np.floating], options: FitOptions, contrasts: Sequence[Contrast]
) -> BlockResult:
    """All quantities of a block, by the keys that the registry of outputs uses.

    Parameters
    ----------
    plan : DesignPlan
    y : (voxel, obs)
    options : FitOptions
    contrasts : sequence of Contrast
    """
    estimates = fit_voxels(plan, y, options)
    results: BlockResult = {
        "n": estimates.n_obs,
        "edf": np.where(np.isfinite(estimates.sigma2), estimates.n_obs - plan.n_fixef, np.nan),
        "sigma2": estimates.sigma2,
        "resms": estimates.resms,
        "logLikelihood": estimates.loglik,
        "iterations": estimates.n_iter,
        "status": estimates.status,
        "beta": estimates.beta,
        "D": estimates.D,
        "vcov": estimates.vcov,
        "missing": np.isnan(y).sum(axis=0),
    }
    for index, contrast in enumerate(contrasts):
        for name, values in contrast_maps(estimates, contrast).items():
            results[f"c{index}_{name}"] = values
    return results


class Progress:
    """One line in the log every so often, with the rate and the time left."""

    def __init__(self, what: str, total: int, done: int) -> None:
        self.what = what
        self.total = total
        self.done = done
        self.start = self.last = time.monotonic()
        self.start_done = done
        if done:
            LOGGER.info("%s: %d of %d kept from an earlier run", what, done, total)

    def add(self, count: int) -> None:
        """Count some more."""
        self.done += count
        now = time.monotonic()
        if self.done < self.total and now - self.last < PROGRESS_INTERVAL:
            return
        self.last = now
        elapsed = max(now - self.start, 1e-3)
        rate = (self.done - self.start_done) / elapsed
        left = (self.total - self.done) / rate if rate else math.inf
        LOGGER.info("%s: %d of %d, %.4g a second, %.0f s left", self.what, self.done, self.total, rate, left)


def _array_digest(array: NDArray[Any]) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def _design_digest(design: Design) -> list[Any]:
    terms = [
        [term.group, term.levels, _array_digest(term.refs), _array_digest(term.effects)] for term in design.terms
    ]
    return [_array_digest(design.X), terms]


def _mask_identities(masks: Sequence[Sequence[Path]]) -> list[list[str]]:
    unique = {path: read_header(path).identity for paths in masks for path in paths}
    return [[unique[path] for path in paths] for paths in masks]
