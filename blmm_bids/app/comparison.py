"""Likelihood ratio tests between the nodes of one run (``CompareWith``)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from blmm_bids.cluster import Runner
from blmm_bids.errors import DataError
from blmm_bids.outputs.records import ComparisonOutputs, RunOutputs, UnitResult
from blmm_bids.outputs.workdir import WorkDir
from blmm_bids.outputs.write import write_comparison
from blmm_bids.stages import Fitted, fit
from blmm_bids.stats.lrt import ComparedModel, compare_models, lrt_maps
from blmm_bids.stats.model import FloatArray

LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class FinishedUnit:
    """A unit with its block results and what was written of it."""

    title: str
    compare_with: tuple[str, ...]
    fitted: Fitted
    result: UnitResult


def write_comparisons(
    run: RunOutputs, units: Sequence[FinishedUnit], runner: Runner, work_dir: WorkDir
) -> list[Path]:
    """Compare every node with those that it names, group by group.

    Returns
    -------
    list of Path
        The files written.

    Raises
    ------
    DataError
        The two nodes were fitted to different images.
    ModelSpecError
        The models are not nested in a way whose null distribution is known.
    """
    files: list[Path] = []
    by_name = {(unit.result.unit.node, tuple(unit.result.unit.group.items())): unit for unit in units}
    for unit in units:
        for name in unit.compare_with:
            other = by_name.get((name, tuple(unit.result.unit.group.items())))
            if other is not None:
                files += write_comparison(run, _compare(run, unit, other, runner, work_dir))
    return files


def _compare(
    run: RunOutputs, first: FinishedUnit, second: FinishedUnit, runner: Runner, work_dir: WorkDir
) -> ComparisonOutputs:
    one, two = first.result.unit, second.result.unit
    problems = first.fitted.prepared.problem, second.fitted.prepared.problem
    if problems[0].images != problems[1].images:
        msg = (
            f"cannot compare '{one.node}' with '{two.node}': they were fitted to {len(problems[0].images)} "
            f"and {len(problems[1].images)} images that are not the same; drop the same rows in both "
            "(DropNA, Filter)"
        )
        raise DataError(msg)
    notice = ""
    fits = first.fitted, second.fitted
    if _needs_ml(fits):
        notice = "Both models were refitted by ML here: their REML criteria cannot be compared."
        LOGGER.info("comparing '%s' with '%s': %s", one.node, two.node, notice)
        fits = _refit(fits[0], runner, work_dir), _refit(fits[1], runner, work_dir)
    reml = fits[0].prepared.problem.options.reml
    models = [
        ComparedModel(unit.node, fitted.prepared.problem.design, reml)
        for unit, fitted in zip((one, two), fits, strict=True)
    ]
    mixture = compare_models(models[0], models[1])
    voxels, loglik = _common(fits)
    maps = lrt_maps(loglik[0], loglik[1], mixture)
    # The node that asks for the comparison may be either of the two.
    smaller, larger = (two, one) if mixture.swapped else (one, two)
    return ComparisonOutputs(
        directory=run.output_dir / f"node-{one.label}",
        larger=larger.node,
        smaller=smaller.node,
        larger_formula=larger.formula,
        smaller_formula=smaller.formula,
        reml=reml,
        distribution=mixture.formula,
        grid=one.grid,
        voxels=voxels,
        chi2=maps["chi2"],
        logp=maps["logp"],
        constant_entities=one.constant_entities,
        group=one.group,
        notice=notice,
    )


def _needs_ml(fits: tuple[Fitted, Fitted]) -> bool:
    """Whether the criteria that the nodes were fitted by cannot be compared."""
    problems = [fitted.prepared.problem for fitted in fits]
    if problems[0].options.reml != problems[1].options.reml:
        return True
    same_x = np.array_equal(problems[0].design.X, problems[1].design.X)
    return problems[0].options.reml and not same_x


def _refit(fitted: Fitted, runner: Runner, work_dir: WorkDir) -> Fitted:
    problem = fitted.prepared.problem
    if not problem.options.reml:
        return fitted
    by_ml = replace(problem, options=replace(problem.options, reml=False), contrasts=(), series=())
    return fit(runner, work_dir, replace(fitted.prepared, problem=by_ml), fitted.gathered)


def _common(fits: tuple[Fitted, Fitted]) -> tuple[np.ndarray, tuple[FloatArray, FloatArray]]:
    """Voxels of both, and their log-likelihoods there; NaN where they have different images."""
    voxels, at_first, at_second = np.intersect1d(
        fits[0].voxels, fits[1].voxels, assume_unique=True, return_indices=True
    )
    values = [
        {name: _collect(fitted, name)[rows] for name in ("logLikelihood", "n")}
        for fitted, rows in zip(fits, (at_first, at_second), strict=True)
    ]
    same = values[0]["n"] == values[1]["n"]
    if not same.all():
        LOGGER.warning("%d voxels have different images in the two models and are NaN", int((~same).sum()))
    return voxels, (np.where(same, values[0]["logLikelihood"], np.nan), values[1]["logLikelihood"])


def _collect(fitted: Fitted, name: str) -> FloatArray:
    return np.concatenate([result[name] for _, result in fitted.blocks((name,))])
