"""All files of a run, from the results of its fits."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from blmm_bids.errors import ModelSpecError
from blmm_bids.outputs.description import write_description, write_model_files
from blmm_bids.outputs.files import LONGEST_NAME, write_json
from blmm_bids.outputs.maps import Blocks, gather_maps, n_computed, scratch_array, write_maps
from blmm_bids.outputs.naming import MapSpec, comparison_maps, design_filename, list_maps, stem_entities
from blmm_bids.outputs.records import ComparisonOutputs, RunOutputs, UnitOutputs, UnitResult
from blmm_bids.outputs.results_file import store_results
from blmm_bids.outputs.series import Slabs, unit_series, write_series
from blmm_bids.outputs.sidecars import comparison_sidecar, map_sidecar, source_uris
from blmm_bids.outputs.summary import Tally
from blmm_bids.outputs.tables import DESIGN_TABLES, write_tables

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence


def unit_maps(unit: UnitOutputs) -> tuple[MapSpec, ...]:
    """List the maps that a fit will write: before any block runs, since names that collide are an error."""
    return list_maps(
        stem_entities(unit.constant_entities, unit.group),
        unit.design.fixef_names,
        unit.design.terms,
        unit.contrasts,
        unit.output_options,
    )


def check_names(units: Sequence[UnitOutputs]) -> None:
    """Refuse a run in which two files would have the same name, before any block runs.

    Raises
    ------
    ModelSpecError
        Names the two nodes, or the two parts of one node, whose labels are the same; or a name longer than
        file systems take.
    """
    owner: dict[str, str] = {}
    for unit in units:
        other = owner.setdefault(unit.label.casefold(), unit.node)
        if other != unit.node:
            msg = f"nodes '{other}' and '{unit.node}' would share 'node-{unit.label}'; rename one"
            raise ModelSpecError(msg)
        _check_length(f"node-{unit.label}.html", f"node '{unit.node}'")
    fits: dict[tuple[str, str], UnitOutputs] = {}
    for unit in units:
        series = unit_series(unit).values()
        for spec in (*unit_maps(unit), *(spec for maps in series for spec in maps)):
            _check_length(spec.filename, spec.subject or f"node '{unit.node}'")
            first = fits.setdefault((unit.node, spec.filename.casefold()), unit)
            if first is not unit:
                msg = (
                    f"groups {dict(first.group)} and {dict(unit.group)} of node '{unit.node}' would both "
                    f"write '{spec.filename}'; rename a contrast or group by fewer entities"
                )
                raise ModelSpecError(msg)


def _check_length(filename: str, subject: str) -> None:
    if len(filename.encode()) > LONGEST_NAME:
        msg = (
            f"{subject} would need a file name of {len(filename.encode())} bytes, '{filename[:60]}…', and "
            f"file systems take {LONGEST_NAME}; give it a shorter name"
        )
        raise ModelSpecError(msg)


def planned_files(run: RunOutputs, unit: UnitOutputs, others: Iterable[UnitOutputs] = ()) -> tuple[Path, ...]:
    """List what a fit will write: maps, sidecars, tables, comparisons with other nodes in either order."""
    directory, stem = node_directory(run, unit), stem_entities(unit.constant_entities, unit.group)
    specs = [*unit_maps(unit), *(spec for maps in unit_series(unit).values() for spec in maps)]
    for other in others:
        if other.node != unit.node:
            specs += comparison_maps(stem, unit.node, other.node)
            specs += comparison_maps(stem, other.node, unit.node)
    names = [name for spec in specs for name in (spec.filename, spec.sidecar_name)]
    names += [
        design_filename(stem, desc, extension)
        for desc in ("", *DESIGN_TABLES)
        for extension in (".tsv", ".json")
    ]
    names += [
        f"{spec.filename.removesuffix('_stat-z_statmap.nii.gz')}_clusters{extension}"
        for spec in specs
        if spec.quantity.name == "z"
        for extension in (".tsv", ".json")
    ]
    return tuple(directory / name for name in dict.fromkeys(names))


def node_directory(run: RunOutputs, unit: UnitOutputs) -> Path:
    """Directory of the node's maps."""
    return run.output_dir / f"node-{unit.label}"


def write_unit(
    run: RunOutputs,
    unit: UnitOutputs,
    blocks: Blocks,
    scratch_dir: Path,
    slabs: Slabs | None = None,
    n_threads: int = 1,
    before_writing: Callable[[], object] = lambda: None,
) -> UnitResult:
    """Write all maps, sidecars and tables of one fit.

    Parameters
    ----------
    run, unit : RunOutputs, UnitOutputs
        The run and the fit.
    blocks : iterable of (voxel indices, results)
        Block results in any order; together they cover ``unit.voxels`` once. Each is laid out as it comes,
        while others may still be fitted.
    scratch_dir : Path
        Directory for a temporary file of 8 bytes a voxel and map.
    slabs : Slabs, optional
        Where the maps of each level and each image come from; needed where the unit asks for them.
    n_threads : int
        Maps to compress at one time, if they are not large.
    before_writing : callable
        Called when all results are there, before the first file.

    Returns
    -------
    UnitResult
        What was written, for `write_outputs` and the report.

    Raises
    ------
    ModelSpecError
        Two maps would have the same name.
    OutputError, StorageError
        A file cannot be written.
    """
    specs, directory = unit_maps(unit), node_directory(run, unit)
    stem = stem_entities(unit.constant_entities, unit.group)
    tally = Tally(unit.contrasts)
    with scratch_array(scratch_dir, (n_computed(specs), len(unit.voxels))) as values:
        gather_maps(specs, unit.voxels, blocks, unit.design.terms, values, tally)
        before_writing()
        maps = write_maps(directory, specs, unit.grid, unit.voxels, values, n_threads)
    if tally.n_missing is not None:
        unit = replace(unit, n_missing=tally.n_missing)
    tables = write_tables(run, unit, directory, stem)
    sources = source_uris(run, unit, directory / design_filename(stem, "inputs"))
    sidecars = [
        write_json(directory / spec.sidecar_name, map_sidecar(spec, run, unit, sources)) for spec in specs
    ]
    tsvs = tuple(path for path in tables if path.suffix == ".tsv")
    many, series = write_series(run, unit, directory, slabs) if slabs else ([], ())
    files = (*maps, *sidecars, *tables, *many)
    return UnitResult(unit, directory, specs, tsvs, files, tally.status_counts, tally.contrasts, series)


def write_comparison(run: RunOutputs, comparison: ComparisonOutputs) -> list[Path]:
    """Write the maps and sidecars of a likelihood ratio test.

    Returns
    -------
    list of Path
        Maps, then sidecars.
    """
    stem = stem_entities(comparison.constant_entities, comparison.group)
    specs = comparison_maps(stem, comparison.larger, comparison.smaller)
    rows = np.stack([getattr(comparison, spec.key) for spec in specs])
    directory = comparison.directory
    maps = write_maps(directory, specs, comparison.grid, comparison.voxels, rows)
    sidecars = [
        write_json(directory / spec.sidecar_name, comparison_sidecar(spec, run, comparison)) for spec in specs
    ]
    return maps + sidecars


def leftover_files(directories: Iterable[Path], listed: Collection[Path]) -> list[Path]:
    """List the maps and tables that lie among the results and that no run of this software wrote.

    They are never touched; the app warns of them, since they look as if they belonged to the results.
    """
    return [
        path
        for directory in sorted(set(directories))
        for path in sorted(directory.iterdir())
        if path not in listed and path.name.endswith((".nii.gz", ".tsv"))
    ]


def write_outputs(
    run: RunOutputs, fits: Sequence[tuple[UnitOutputs, Blocks]], scratch_dir: Path
) -> tuple[list[Path], tuple[UnitResult, ...]]:
    """Write the whole output dataset but its report.

    The dataset's description comes first, so that a run that is cut short leaves a valid dataset.

    Returns
    -------
    list of Path
        All files written.
    tuple of UnitResult
        One a fit, for the report.
    """
    models = [(unit.label, unit.node, unit.formula) for unit, _ in fits]
    files = [*write_description(run, models), *write_model_files(run)]
    results = []
    for unit, blocks in fits:
        result = write_unit(run, unit, blocks, scratch_dir)
        results.append(result)
        files += result.files
    files.append(store_results(run, results))
    return files, tuple(results)
