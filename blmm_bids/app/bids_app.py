"""The BIDS App, top to bottom."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from blmm_bids import __version__
from blmm_bids.app.comparison import FinishedUnit, write_comparisons
from blmm_bids.app.directories import opened_directories, places_of
from blmm_bids.app.disk import announce_series, check_working_files
from blmm_bids.app.inputs import plan_fits
from blmm_bids.app.missing import least_images, missing_rule, say_zeros
from blmm_bids.app.output_dataset import OutputDataset, check_places, close_run, find_neighbours
from blmm_bids.app.peaks import keep_peaks
from blmm_bids.app.pooling import check_pooling
from blmm_bids.app.summary import (
    show_units,
    show_workers,
    write_dry_run,
)
from blmm_bids.app.troubles import Troubles
from blmm_bids.app.validation import validate_input
from blmm_bids.app.variables import design_of
from blmm_bids.bids.observations import Observations
from blmm_bids.bids.zeros import ZeroRule
from blmm_bids.cluster import Runner, open_cluster, plan_cluster
from blmm_bids.config.settings import Settings
from blmm_bids.design.build import BuiltDesign
from blmm_bids.design.spec import NodeSpec
from blmm_bids.errors import BlmmError, DataError, StorageError, TemporaryError
from blmm_bids.images.grid import Grid, read_grid
from blmm_bids.images.masks import read_mask, template_mask
from blmm_bids.outputs.changes import FitRecord, load_records
from blmm_bids.outputs.description import Neighbours, distinct_sources
from blmm_bids.outputs.records import RunOutputs, UnitOutputs
from blmm_bids.outputs.registry import OutputOptions
from blmm_bids.outputs.stored import software_versions
from blmm_bids.outputs.workdir import WorkDir, scratch_dir
from blmm_bids.outputs.write import check_names, write_unit
from blmm_bids.stages import (
    Prepared,
    Problem,
    fit_blocks,
    gather_smaller,
    note_cut,
    note_fits,
    plan_fit,
    prepare,
)
from blmm_bids.stats.model import FitOptions, IntArray

LOGGER = logging.getLogger(__name__)
Result = TypeVar("Result")


@dataclass(frozen=True, eq=False)
class Unit:
    """One fit of the run: a node in one of its groups.

    Attributes
    ----------
    node : NodeSpec
    group : Mapping
        Labels of the GroupBy entities.
    observations : Observations
        Images of the group.
    built : BuiltDesign
        Their design.
    prepared : Prepared
        Their headers and the work.
    zeros : ZeroRule
        What a 0 is in them.
    """

    node: NodeSpec
    group: Mapping[str, str]
    observations: Observations
    built: BuiltDesign
    prepared: Prepared
    zeros: ZeroRule

    @property
    def notes(self) -> tuple[str, ...]:
        """How the images are read."""
        return (self.zeros.text, *self.prepared.checked.notes)

    @property
    def title(self) -> str:
        """The node and its group, for messages."""
        return title(self.node, self.group)


def title(node: NodeSpec, group: Mapping[str, str]) -> str:
    """Name of a node in one of its groups, for messages."""
    labels = ", ".join(f"{name}-{label}" for name, label in group.items())
    return f"node '{node.name}'" + (f" ({labels})" if labels else "")


def run(settings: Settings) -> int:
    """Run the whole app; the exit code.

    Raises
    ------
    BlmmError
        With the exit code that its class has.
    """
    started = time.monotonic()
    # 1. The dataset and the model: everything that can be refused is refused here.
    check_places(settings)
    if settings.validate:
        validate_input(settings.dataset.bids_dir)
    for notice in settings.spec.notices:
        LOGGER.warning("%s", notice)
    directories = nullcontext(None) if settings.dry_run else opened_directories(settings)
    with directories as work_dir:
        return _run(settings, work_dir, started)


def _run(settings: Settings, work_dir: WorkDir | None, started: float) -> int:
    failures: list[str] = []
    versions = ", ".join(" ".join(pair) for pair in software_versions().items())
    LOGGER.debug("blmm_bids %s; %s", __version__, versions)
    scratch = scratch_dir(settings.work.work_dir) if work_dir is None else work_dir.scratch
    earlier = {} if work_dir is None else load_records(work_dir.path)
    with _cluster(settings, scratch, dry_run=settings.dry_run) as runner:
        show_workers(runner)
        units = _prepare_units(settings, runner, failures, earlier)
        neighbours = find_neighbours(settings.output_dir, units)
        run_outputs = _run_outputs(settings, units, neighbours)
        planned = [_unit_outputs(settings, unit, unit.prepared.voxels) for unit in units]
        check_names(planned)
        show_units(units)
        dataset = OutputDataset.survey(run_outputs, units, planned, neighbours)
        dataset.announce(overwrite=settings.overwrite)
        if not settings.dry_run:
            dataset.refuse(overwrite=settings.overwrite)
        prepared = [unit.prepared for unit in units]
        check_working_files(settings.work.work_dir, prepared, dry_run=settings.dry_run)
        announce_series(settings.output_dir, settings.work.work_dir, planned, dry_run=settings.dry_run)
        if work_dir is None:
            write_dry_run(settings.output_dir, units)
            dataset.refuse(overwrite=settings.overwrite)
            return 1 if failures else 0
        # 2. Gather, fit and write, one unit after the other.
        note_fits(work_dir, {unit.title: (unit.prepared, unit.built.formula_text) for unit in units})
        units = [dataset.with_contrasts(unit, runner, settings.masks.affine_tolerance) for unit in units]
        finished: list[FinishedUnit] = []
        for unit in units:
            done = _attempt(
                unit.title,
                failures,
                len(units),
                lambda u=unit: _fit_unit(settings, u, runner, work_dir, dataset),  # type: ignore[misc]
            )
            if done is not None:
                finished.append(done)
                # Whatever fails from here on must cost neither maps nor results.
                dataset.store([each.result for each in finished], time.monotonic() - started)
        # 3. What is made of the results while there are workers.
        troubles = _write_derived(dataset, finished, runner, work_dir)
        usage = runner.usage()
    # 4. What describes all of them.
    close_run(dataset, [unit.result for unit in finished], started, usage, failures, troubles)
    if settings.work.clean and not failures:
        work_dir.remove([unit.title for unit in units])
    for failure in failures:
        LOGGER.error("failed: %s", failure)
    troubles.report()
    return 1 if failures or troubles else 0


def _write_derived(
    dataset: OutputDataset, finished: list[FinishedUnit], runner: Runner, work_dir: WorkDir
) -> Troubles:
    """Write peaks and likelihood ratio tests; what fails is noted, and costs nothing that there is."""
    troubles = Troubles()
    for done in finished:
        tables = troubles.spare(
            f"clusters and peaks of {done.title}",
            lambda d=done: keep_peaks(dataset.run, d.result, d.fitted, runner),  # type: ignore[misc]
        )
        dataset.note(done.result, tables or [])
    compared = troubles.spare(
        "comparison of nodes", lambda: write_comparisons(dataset.run, finished, runner, work_dir)
    )
    for path in compared or []:
        dataset.share(path.parent, [path])
    return troubles


def _cluster(settings: Settings, scratch: Path, *, dry_run: bool) -> AbstractContextManager[Runner]:
    """Workers; a dry run only needs to know how many there would be."""
    options = replace(settings.cluster, paths=settings.worker_paths)
    if dry_run:
        return nullcontext(plan_cluster(options, scratch))
    return open_cluster(options, scratch)


def _prepare_units(
    settings: Settings, runner: Runner, failures: list[str], earlier: Mapping[str, FitRecord]
) -> list[Unit]:
    """Observations, designs and headers of every node and group."""
    units: list[Unit] = []
    planned = plan_fits(settings)
    for node, group, observations in planned:
        unit = _attempt(
            title(node, group),
            failures,
            len(planned),
            lambda n=node, g=group, o=observations: _prepare_unit(settings, runner, n, g, o, earlier),  # type: ignore[misc]
        )
        if unit is not None:
            units.append(unit)
    if not units:
        msg = "no model could be prepared:\n" + "\n".join(failures)
        raise DataError(msg)
    for notice in dict.fromkeys(notice for unit in units for notice in unit.built.notices):
        LOGGER.warning("%s", notice)
    return units


def _attempt(name: str, failures: list[str], n_units: int, make: Callable[[], Result]) -> Result | None:
    """One unit's failure must not stop the others; a single unit's is the run's."""
    try:
        return make()
    except (TemporaryError, StorageError):
        raise
    except BlmmError as error:
        if n_units == 1:
            raise
        failures.append(f"{name}: {error}")
        LOGGER.error("%s is left out: %s", name, error)
        return None


def _prepare_unit(
    settings: Settings,
    runner: Runner,
    node: NodeSpec,
    group: Mapping[str, str],
    observations: Observations,
    earlier: Mapping[str, FitRecord],
) -> Unit:
    built = design_of(settings, node, observations)
    pooled = check_pooling(node, observations, built)
    for notice in pooled.notices:
        LOGGER.info("%s: %s", title(node, group), notice)
    built = replace(built, warnings=(*built.warnings, *pooled.warnings))
    for warning in built.warnings:
        LOGGER.warning("%s: %s", title(node, group), warning)
    images = tuple(observations.paths[row] for row in built.rows)
    masks = settings.masks
    options = node.options
    rule, zeros = missing_rule(masks, options, images)
    problem = Problem(
        design=built.design,
        contrasts=built.contrasts,
        options=FitOptions(
            reml=node.reml,
            method=options.method,
            tol=options.tol,
            max_iter=options.max_iter,
            satterthwaite=options.satterthwaite,
            safe_mode=options.safe_mode,
        ),
        images=images,
        masks=tuple(observations.masks[row] for row in built.rows),
        mask=_explicit_mask(settings, observations, read_grid(images[0])),
        rule=rule,
        min_images=least_images(masks, options, built.design.n_obs, built.design.n_fixef),
        series=settings.output_series,
    )
    record = earlier.get(title(node, group))
    cut = None if record is None else record.cut
    prepared = prepare(problem, runner, masks.affine_tolerance, earlier_cut=cut)
    return Unit(node, group, observations, built, prepared, zeros)


def _explicit_mask(settings: Settings, observations: Observations, grid: Grid) -> NDArray[np.bool_] | None:
    masks = settings.masks
    if masks.mask is None:
        return None
    if masks.mask == "template":
        space = observations.constant_entities.get("space")
        if space is None:
            msg = (
                "--mask template: the images have no single space entity, so the template is not known; "
                "give --mask FILE"
            )
            raise DataError(msg)
        return template_mask(space, grid)
    return read_mask(masks.mask, grid, resample=masks.resample_mask, affine_tolerance=masks.affine_tolerance)


def _fit_unit(
    settings: Settings,
    unit: Unit,
    runner: Runner,
    work_dir: WorkDir,
    dataset: OutputDataset,
) -> FinishedUnit:
    LOGGER.info("%s: %s", unit.title, unit.built.formula_text)
    prepared, gathered = gather_smaller(runner, work_dir, unit.prepared)
    if prepared is not unit.prepared:
        note_cut(work_dir, unit.title, prepared)
    fitted = plan_fit(work_dir, prepared, gathered)
    warnings = (*gathered.warnings, *say_zeros(unit.title, prepared.problem, gathered))
    outputs = _unit_outputs(settings, unit, fitted.voxels, warnings)
    blocks = (fitted.block(span) for span in fit_blocks(runner, fitted))
    outputs = replace(outputs, image_stats=gathered.images)
    result = write_unit(
        dataset.run,
        outputs,
        blocks,
        work_dir.scratch,
        fitted.slabs,
        runner.n_workers,
        lambda: dataset.begin(outputs),
    )
    dataset.note(result, result.files)
    n_maps = len(result.maps) + sum(series.n_maps for series in result.series)
    LOGGER.info("%s: %d maps in %s", unit.title, n_maps, result.directory)
    return FinishedUnit(unit.title, unit.node.compare_with, fitted, result)


def _run_outputs(settings: Settings, units: list[Unit], neighbours: Neighbours) -> RunOutputs:
    observations, places = units[0].observations, places_of(settings)
    return RunOutputs(
        output_dir=settings.output_dir,
        name=settings.spec.name,
        settings=settings.as_mapping(),
        model_spec=settings.spec.source,
        sources=distinct_sources(observations.sources, settings.output_dir, neighbours),
        command=places.hide_arguments(settings.command),
        description=settings.spec.description,
        warnings=tuple(map(places.hide, (*settings.spec.notices, *observations.warnings))),
        environment=dict(os.environ),
        threshold=settings.threshold,
    )


def _unit_outputs(
    settings: Settings, unit: Unit, voxels: IntArray, warnings: tuple[str, ...] = ()
) -> UnitOutputs:
    problem, observations = unit.prepared.problem, unit.observations
    return UnitOutputs(
        node=unit.node.name,
        formula=unit.built.formula_text,
        design=problem.design,
        contrasts=problem.contrasts,
        fit_options=problem.options,
        output_options=OutputOptions(
            level=settings.output_level,
            cov_beta=unit.node.options.output_cov_b,
            resms=unit.node.options.resms,
            ranef="ranef" in settings.output_series,
            residuals="residuals" in settings.output_series,
        ),
        grid=unit.prepared.checked.grid,
        voxels=voxels,
        table=observations.table,
        paths=observations.paths,
        masks=observations.masks,
        rows=unit.built.rows,
        dropped=unit.built.dropped,
        excluded=observations.dropped,
        without_images=observations.without_images,
        constant_entities=observations.constant_entities,
        group=unit.group,
        variables=unit.built.variables,
        notes=unit.notes,
        warnings=tuple(map(places_of(settings).hide, (*unit.built.notices, *unit.built.warnings, *warnings))),
    )
