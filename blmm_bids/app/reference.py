"""``blmm-fit``: the same pipeline, fed by the reference implementation's config file."""

from __future__ import annotations

import logging
import math
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from blmm_bids.app.summary import usage_text
from blmm_bids.cluster import (
    ClusterOptions,
    Usage,
    open_cluster,
    process_usage,
    total_memory,
    total_usage,
)
from blmm_bids.config.reference import ReferenceConfig, read_reference_config
from blmm_bids.config.reference_design import build_contrasts, load_design
from blmm_bids.config.settings import MaskOptions
from blmm_bids.errors import DataError
from blmm_bids.images.grid import read_grid
from blmm_bids.images.masks import read_mask
from blmm_bids.images.reader import MissingRule
from blmm_bids.outputs.changes import load_records
from blmm_bids.outputs.lock import locked
from blmm_bids.outputs.outdir import check_outdir, check_overwriting
from blmm_bids.outputs.reference import inputs_text, write_reference_outputs
from blmm_bids.outputs.workdir import WorkDir
from blmm_bids.stages import Problem, fit, gather_smaller, note_cut, note_fits, prepare

LOGGER = logging.getLogger(__name__)
WORK_DIR = "blmm_work"
# Of the one fit of a config file, in the working directory's record.
TITLE = "the model"


def run_reference(path: Path, cluster: ClusterOptions, grids: MaskOptions, work_dir: Path | None) -> int:
    """Fit the model of a ``blmm_config.yml``; the exit code.

    Parameters
    ----------
    path : Path
        The config file.
    cluster : ClusterOptions
        What the command line says of it; the config fills in the rest.
    grids : MaskOptions
        How far apart images may lie, and whether a mask is brought to their grid; the config has the rest.
    work_dir : Path or None
        Working files; None puts them below ``outdir`` and removes them at the end.

    Raises
    ------
    BlmmError
        With the exit code that its class has.
    """
    started = time.monotonic()
    config = read_reference_config(path)
    problem = _problem(config, grids)
    check_outdir(config.outdir)
    replaced = check_overwriting(config, inputs_text(config))
    if replaced:
        LOGGER.warning("%s", replaced)
    with ExitStack() as stack:
        stack.enter_context(locked(config.outdir))
        work = WorkDir.open(work_dir.absolute() if work_dir else config.outdir / WORK_DIR)
        stack.enter_context(work.locked())
        work.sweep(keep_jobs=True)
        usage = _fit(config, problem, grids.affine_tolerance, cluster, work)
        work.sweep()
        if work_dir is None:
            work.remove([TITLE])
    taken = usage_text(total_usage([usage, process_usage()]))
    LOGGER.info("done in %.1f s; %s; maps: %s", time.monotonic() - started, taken, config.outdir)
    return 0


def _fit(
    config: ReferenceConfig,
    problem: Problem,
    affine_tolerance: float,
    cluster: ClusterOptions,
    work: WorkDir,
) -> Usage:
    earlier = load_records(work.path).get(TITLE)
    options = _cluster(config, cluster)
    with open_cluster(replace(options, paths=(*options.paths, work.path)), work.scratch) as runner:
        cut = None if earlier is None else earlier.cut
        prepared = prepare(problem, runner, affine_tolerance, earlier_cut=cut)
        LOGGER.info(
            "%d images, %d fixed effects, %d random factors, %d candidate voxels in %d blocks",
            problem.design.n_obs,
            problem.design.n_fixef,
            len(problem.design.terms),
            prepared.work.n_voxels,
            prepared.work.n_blocks,
        )
        for note in prepared.checked.notes:
            LOGGER.info("%s", note)
        note_fits(work, {TITLE: (prepared, config.path.name)})
        prepared, gathered = gather_smaller(runner, work, prepared)
        note_cut(work, TITLE, prepared)
        fitted = fit(runner, work, prepared, gathered)
        write_reference_outputs(
            config, problem.design, problem.contrasts, prepared.checked.grid, fitted.voxels, fitted.blocks()
        )
        return runner.usage()


def _problem(config: ReferenceConfig, grids: MaskOptions) -> Problem:
    design = load_design(config)
    grid = read_grid(config.images[0])
    mask = (
        None
        if config.analysis_mask is None
        else read_mask(
            config.analysis_mask, grid, resample=grids.resample_mask, affine_tolerance=grids.affine_tolerance
        )
    )
    if config.min_n is not None and config.min_n > design.n_obs:
        msg = (
            f"{config.path}: MinN {config.min_n} is more than the {design.n_obs} images, no voxel can have "
            "as many; lower it"
        )
        raise DataError(msg)
    share = math.ceil((config.min_percent or 0.0) * design.n_obs - 1e-9)
    return Problem(
        design=design,
        contrasts=build_contrasts(config, design),
        options=config.fit_options,
        images=config.images,
        masks=tuple((mask_path,) for mask_path in config.masks) or ((),) * len(config.images),
        mask=mask,
        rule=MissingRule(threshold=config.data_mask_threshold),
        # The reference implementation drops voxels with no more images than fixed effects plus one.
        min_images=max(config.min_n or 0, share, design.n_fixef + 2),
    )


def _cluster(config: ReferenceConfig, cluster: ClusterOptions) -> ClusterOptions:
    """Take the config's backend and workers where the command line says nothing; MAXMEM is one worker's."""
    options = replace(cluster, backend=config.cluster_type)
    if options.backend != "local":
        if options.n_workers is None and options.adapt is None:
            options = replace(options, n_workers=config.n_nodes)
        folders = {path.parent for path in (*config.images, *config.masks)}
        return replace(options, paths=(*folders, config.outdir))
    if options.n_procs is None and config.n_nodes is not None:
        options = replace(options, n_procs=config.n_nodes)
    if options.mem_bytes is None:
        options = replace(options, mem_bytes=total_memory(options, config.mem_bytes))
    return options
