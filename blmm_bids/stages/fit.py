"""Fit every block of voxels, from all parts to a result file."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blmm_bids import __version__
from blmm_bids.cluster import Runner
from blmm_bids.errors import DataError
from blmm_bids.images.blocks import Span
from blmm_bids.outputs.parts import read_block
from blmm_bids.outputs.workdir import WorkDir, content_digest
from blmm_bids.stages.gather import array_digest
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
from blmm_bids.stats.fit import STEPS, compile_step, fit_voxels
from blmm_bids.stats.inference import contrast_maps
from blmm_bids.stats.model import Contrast, Design, FitOptions, FloatArray
from blmm_bids.stats.modes import conditional_modes
from blmm_bids.stats.plan import DesignPlan

LOGGER = logging.getLogger(__name__)


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
            f"{int(gathered.counts.max())} of {problem.design.n_obs}); lower --min-n or --min-percent, or "
            "check the masks and --zeros"
        )
        raise DataError(msg)
    digest = content_digest(
        {
            "gather": gathered.stage.digest,
            "design": _design_digest(problem.design),
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
        for _ in runner.map(compile_step, STEPS, label="kernel", shared=shared):
            pass
    progress = Progress("voxels fitted", int(fitted.keep.sum()), n_done, runner.n_workers)
    for index, _ in runner.map(fit_block, undone, label="block", shared=(task,)):
        progress.add(fitted.n_voxels(undone[index]))
        yield undone[index]


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


def fit_block(span: Span, task: FitTask) -> int:
    """Fit one block and write its results; the number of voxels. Runs on a worker.

    Series follow from the results: a block that was fitted before series were asked for is not fitted again.
    """
    y = read_block(task.parts, span.index, task.keep[span.start : span.stop])
    if task.stage.is_result_done(span.index):
        results = task.stage.load_result(span.index, ("D", "status"))
    else:
        results = fit_results(task.plan, y, task.options, task.contrasts)
        task.stage.save_result(span.index, results)
    if task.slabs:
        modes = conditional_modes(task.plan, y, results["D"], results["status"])
        for key, slabs in task.slabs.items():
            task.stage.save_result(span.index, slabs_of(getattr(modes, key), slabs), kind=key)
    return len(y)


def slabs_of(values: FloatArray, slabs: Sequence[Span]) -> BlockResult:
    """(voxel, map) values of a block cut into the runs of maps (map, voxel) that are read together."""
    # Beyond float32's range an infinity is the honest value, not a reason to warn.
    with np.errstate(over="ignore"):
        return {
            slab_name(slab): np.ascontiguousarray(values[:, slab.start : slab.stop].T, dtype=np.float32)
            for slab in slabs
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
        "mean": present_means(y),
        "missing": np.isnan(y).sum(axis=0),
    }
    for index, contrast in enumerate(contrasts):
        for name, values in contrast_maps(estimates, contrast).items():
            results[f"c{index}_{name}"] = values
    return results


def present_means(y: NDArray[np.floating]) -> FloatArray:
    """Mean over the images with a value, at each voxel of (voxel, obs); NaN without any."""
    present = ~np.isnan(y)
    with np.errstate(invalid="ignore"):
        mean: FloatArray = np.add.reduce(y, axis=1, dtype=np.float64, where=present) / present.sum(axis=1)
    return mean


def _design_digest(design: Design) -> list[Any]:
    terms = [
        [term.group, term.levels, array_digest(term.refs), array_digest(term.effects)]
        for term in design.terms
    ]
    return [array_digest(design.X), terms]
