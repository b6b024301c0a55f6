"""Fit every block of voxels, from all parts to a result file."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import fields

import numpy as np
from numpy.typing import NDArray

from blmm_bids import __version__
from blmm_bids.cluster import Runner
from blmm_bids.errors import DataError, ExhaustedError
from blmm_bids.images.blocks import Span, split_evenly
from blmm_bids.outputs.parts import read_block
from blmm_bids.outputs.precision import narrowed
from blmm_bids.outputs.workdir import WorkDir, content_digest
from blmm_bids.stages.digests import array_digest, design_digest
from blmm_bids.stages.progress import Progress
from blmm_bids.stages.records import (
    SERIES_ITEMSIZE,
    BlockResult,
    FitTask,
    Fitted,
    Gathered,
    Prepared,
    slab_name,
)
from blmm_bids.stats.compilation import compile_steps, deal_steps
from blmm_bids.stats.fit import fit_voxels
from blmm_bids.stats.inference import contrast_maps
from blmm_bids.stats.model import Contrast, FitOptions, FloatArray, IntArray
from blmm_bids.stats.modes import conditional_modes
from blmm_bids.stats.plan import DesignPlan

LOGGER = logging.getLogger(__name__)
# A block that kills its workers is fitted in pieces, this many times as many at each attempt.
PIECES_STEP = 4
MOST_PIECES = 64


def fit(runner: Runner, work_dir: WorkDir, prepared: Prepared, gathered: Gathered) -> Fitted:
    """Fit every block of voxels that has enough images; raises as `plan_fit`."""
    fitted = plan_fit(work_dir, prepared, gathered)
    for _ in fit_blocks(runner, fitted):
        pass
    return fitted


def plan_fit(work_dir: WorkDir, prepared: Prepared, gathered: Gathered) -> Fitted:
    """Say which voxels have enough images and where their results go; `fit_blocks` makes them.

    Raises
    ------
    DataError
        No voxel has enough images.
    StorageError
        The disk does not hold the results.
    """
    problem = prepared.problem
    keep = gathered.counts >= problem.min_images
    if not keep.any():
        msg = (
            f"no voxel has {problem.min_images} images with a value (the most is "
            f"{int(gathered.counts.max())} of {problem.design.n_obs}); lower MinN or MinPercent (the BIDS "
            "App's --min-n and --min-percent), or check the masks and which values count as missing"
        )
        raise DataError(msg)
    digest = content_digest(
        {
            "gather": prepared.batch_digests,
            "design": design_digest(problem.design),
            "contrasts": [[c.name, c.test, c.L.tolist()] for c in problem.contrasts],
            "options": [getattr(problem.options, field.name) for field in fields(FitOptions)],
            "keep": array_digest(keep),
            "version": __version__,
        }
    )
    fitted = Fitted(prepared, gathered, work_dir.fit(digest), keep)
    task = _task(fitted)
    n_undone = sum(fitted.n_voxels(span) for span in fitted.spans if not task.is_done(span.index))
    work_dir.require_space(SERIES_ITEMSIZE * n_undone * sum(problem.n_series_maps(key) for key in task.slabs))
    return fitted


def fit_blocks(runner: Runner, fitted: Fitted) -> Iterator[Span]:
    """Fit what an earlier run has not, and yield each block as soon as its results are there.

    Those of an earlier run come first, the others in order of completion: what is done with a block
    meanwhile overlaps with the fit of others.
    """
    task = _task(fitted)
    undone = []
    n_done = 0
    for span in fitted.spans:
        if not task.is_done(span.index):
            undone.append(span)
            continue
        n_done += fitted.n_voxels(span)
        yield span
    if undone and runner.n_workers > 1:
        LOGGER.debug("compiling the kernels, or loading them from the cache")
        shared = (fitted.prepared.checked.dtype.name, fitted.prepared.problem.options.method)
        for _ in runner.map(compile_steps, deal_steps(runner.n_workers), label="kernel", shared=shared):
            pass
    progress = Progress("voxels fitted", int(fitted.keep.sum()), n_done, runner.n_workers)
    for span in _smaller_and_smaller(runner, task, undone):
        progress.add(fitted.n_voxels(span))
        yield span


def _smaller_and_smaller(runner: Runner, task: FitTask, undone: list[Span]) -> Iterator[Span]:
    """Fit blocks whole; once one has killed its workers, in ever smaller pieces rather than for ever."""
    n_pieces = 1
    left = {span.index: span for span in undone}
    while left:
        spans = list(left.values())
        try:
            for index, _ in runner.map(fit_block, spans, label="block", shared=(task, n_pieces)):
                yield left.pop(spans[index].index)
        except ExhaustedError as error:
            n_pieces *= PIECES_STEP
            if n_pieces > MOST_PIECES:
                raise
            LOGGER.warning("%s. Now in %d pieces a block", error, n_pieces)
            # Some may have been finished without being yielded.
            for span in [span for span in left.values() if task.is_done(span.index)]:
                yield left.pop(span.index)


def _task(fitted: Fitted) -> FitTask:
    problem = fitted.prepared.problem
    return FitTask(
        fitted.prepared.plan,
        problem.options,
        problem.contrasts,
        fitted.gathered.parts,
        fitted.stage,
        fitted.keep,
        problem.series_slabs(int(fitted.keep.sum())),
    )


def fit_block(span: Span, task: FitTask, n_pieces: int = 1) -> int:
    """Fit one block and write its results; the number of voxels. Runs on a worker.

    Series follow from the results: a block that was fitted before series were asked for is not fitted again.

    Parameters
    ----------
    span : Span
    task : FitTask
    n_pieces : int
        Runs of voxels to fit one after the other; more take less memory, and change no bit.
    """
    inside = np.flatnonzero(task.keep[span.start : span.stop])
    pieces = split_evenly(inside.size, -(-inside.size // n_pieces))
    fitted = [_fit_piece(span, task, inside[piece.start : piece.stop], piece) for piece in pieces]
    if not task.stage.is_result_done(span.index):
        task.stage.save_result(span.index, join_results([results for results, _ in fitted]))
    for key in task.slabs:
        parts = [slabs[key] for _, slabs in fitted]
        joined = {name: np.concatenate([part[name] for part in parts], axis=1) for name in parts[0]}
        task.stage.save_result(span.index, joined, kind=key)
    return inside.size


def _fit_piece(
    span: Span, task: FitTask, places: IntArray, piece: Span
) -> tuple[BlockResult, dict[str, BlockResult]]:
    """Results and series of some voxels of a block, given by their places in it."""
    keep = np.zeros(span.size, dtype=bool)
    keep[places] = True
    y = read_block(task.parts, span.index, keep, task.kept)
    if task.stage.is_result_done(span.index):
        whole = task.stage.load_result(span.index, ("D", "status"))
        results = {name: values[piece.start : piece.stop] for name, values in whole.items()}
    else:
        results = fit_results(task.plan, y, task.options, task.contrasts)
    if not task.slabs:
        return results, {}
    modes = conditional_modes(task.plan, y, results["D"], results["status"])
    return results, {key: slabs_of(getattr(modes, key), slabs) for key, slabs in task.slabs.items()}


def join_results(pieces: Sequence[BlockResult]) -> BlockResult:
    """Results of the pieces of a block as those of the whole block."""
    joined = {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}
    # Counts over voxels, not values at each.
    joined["missing"] = np.sum([piece["missing"] for piece in pieces], axis=0)
    return joined


def slabs_of(values: FloatArray, slabs: Sequence[Span]) -> BlockResult:
    """(voxel, map) values of a block cut into the runs of maps (map, voxel) that are read together."""
    return {
        slab_name(slab): np.ascontiguousarray(narrowed(values[:, slab.start : slab.stop].T)) for slab in slabs
    }


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
    present = ~np.isnan(y)
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
        "mean": present_means(y, present),
        "missing": len(y) - present.sum(axis=0),
    }
    for index, contrast in enumerate(contrasts):
        for name, values in contrast_maps(estimates, contrast).items():
            results[f"c{index}_{name}"] = values
    return results


def present_means(y: NDArray[np.floating], present: NDArray[np.bool_]) -> FloatArray:
    """Mean over the images with a value, at each voxel of (voxel, obs); NaN without any."""
    with np.errstate(invalid="ignore"):
        mean: FloatArray = np.add.reduce(y, axis=1, dtype=np.float64, where=present) / present.sum(axis=1)
    return mean
