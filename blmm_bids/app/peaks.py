"""What the report needs from the working files, kept before they go: the data of the peaks' voxels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from blmm_bids.outputs.clusters import peak_voxels, write_clusters
from blmm_bids.outputs.inspection import n_inspected, write_inspection
from blmm_bids.outputs.stored import stored_fit
from blmm_bids.stages.inspect import read_voxels

if TYPE_CHECKING:
    from pathlib import Path

    from blmm_bids.cluster import Runner
    from blmm_bids.outputs.records import RunOutputs, UnitResult
    from blmm_bids.stages import Fitted


def keep_peaks(run: RunOutputs, result: UnitResult, fitted: Fitted, runner: Runner) -> list[Path]:
    """Write the tables of clusters of a fit, and the data of the peaks for the report's inspector.

    Returns
    -------
    list of Path
        The tables and their sidecars.

    Raises
    ------
    OutputError, StorageError
        A file cannot be written, or a working file cannot be read.
    """
    fit = stored_fit(run, result)
    clusters = write_clusters(run.output_dir, fit, run.threshold)
    tables = [
        (result.directory / each.filename).with_suffix(suffix)
        for each in clusters
        for suffix in (".tsv", ".json")
    ]
    voxels = peak_voxels(result.unit.grid, clusters, n_inspected(fit.n_images))
    if not voxels:
        return tables
    # A worker has the kernels loaded.
    items = [np.array(voxels, dtype=np.int64)]
    ((_, found),) = runner.map(read_voxels, items, label="peaks", shared=(fitted,))
    write_inspection(run.output_dir, fit, result.unit.grid, result.unit.design.terms, found)
    return tables
