"""Quantities with a map for each level or each image: named, counted, and written slab by slab.

There may be thousands of them, so they never are in memory together, and they are listed nowhere but in
their directory.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from blmm_bids.bids.names import SHORT_NAME, distinct_names, long_name, parse_name, to_label
from blmm_bids.errors import OutputError
from blmm_bids.outputs.files import write_json
from blmm_bids.outputs.maps import volume_of
from blmm_bids.outputs.naming import MapSpec, design_filename, joined_label, list_series, stem_entities
from blmm_bids.outputs.nifti import write_volume
from blmm_bids.outputs.records import MapSeries, RunOutputs, UnitOutputs
from blmm_bids.outputs.registry import Scope
from blmm_bids.outputs.sidecars import map_sidecar
from blmm_bids.outputs.uris import input_uri, output_uri

LOGGER = logging.getLogger(__name__)

# Runs of maps (map, voxel) of a quantity, given its key, in the order of the maps.
Slabs = Callable[[str], Iterator[NDArray[np.floating]]]
BYTES_PER_VALUE = 4
# What may be in the directories of images rather than in their names.
_DIRECTORY_ENTITIES = ("subject", "session")


@dataclass(frozen=True)
class SeriesCost:
    """What one quantity of a fit takes on disk.

    Attributes
    ----------
    key : str
        ``ranef`` or ``residuals``.
    n_maps : int
        Maps, each with a sidecar.
    n_bytes : int
        Values inside the mask before compression: about what the files take, as noise barely compresses.
    """

    key: str
    n_maps: int
    n_bytes: int


def unit_series(unit: UnitOutputs) -> dict[str, tuple[MapSpec, ...]]:
    """List the maps that a fit writes for each level and each image, by quantity.

    Raises
    ------
    ModelSpecError
        Two maps would have the same name.
    """
    options = unit.output_options
    if not options.ranef and not options.residuals:
        return {}
    names = distinct_names([unit.paths[row].as_posix() for row in unit.rows])
    images = list(zip(names, _image_entities(unit), strict=True))
    stem = stem_entities(unit.constant_entities, unit.group)
    return list_series(stem, unit.design.terms, images if options.residuals else (), options)


def series_costs(unit: UnitOutputs, n_voxels: int) -> list[SeriesCost]:
    """Count what a fit's series take on disk with so many voxels in the mask."""
    return [
        SeriesCost(key, len(specs), len(specs) * n_voxels * BYTES_PER_VALUE)
        for key, specs in unit_series(unit).items()
    ]


def write_series(
    run: RunOutputs, unit: UnitOutputs, directory: Path, slabs: Slabs
) -> tuple[list[Path], tuple[MapSeries, ...]]:
    """Write the maps and sidecars of every series of a fit.

    Parameters
    ----------
    run, unit : RunOutputs, UnitOutputs
        The run and the fit.
    directory : Path
        Where they go.
    slabs : Slabs
        The values; one slab is in memory at a time.

    Returns
    -------
    list of Path
        All files.
    tuple of MapSeries
        What was written, for the report.

    Raises
    ------
    OutputError
        The fit has values for more or fewer maps.
    """
    files: list[Path] = []
    series: list[MapSeries] = []
    for key, specs in unit_series(unit).items():
        n_written = 0
        for slab in slabs(key):
            for spec, values in zip(specs[n_written:], slab, strict=False):
                files += _write_map(run, unit, directory, spec, values)
            n_written += len(slab)
            LOGGER.info("%s: %d of %d maps written", key, n_written, len(specs))
        if n_written != len(specs):
            msg = f"the fit has {n_written} maps of '{key}', wanted {len(specs)}; clean the work directory"
            raise OutputError(msg)
        quantity, ends = specs[0].quantity, (specs[0].filename, specs[-1].filename)
        series.append(MapSeries(quantity.name, quantity.description, len(specs), *ends))
    return files, tuple(series)


def _write_map(
    run: RunOutputs, unit: UnitOutputs, directory: Path, spec: MapSpec, values: NDArray[np.floating]
) -> list[Path]:
    quantity = spec.quantity
    volume = volume_of(values, unit.voxels, unit.grid.shape, quantity.dtype)
    path = directory / spec.filename
    write_volume(path, volume, unit.grid, intent=(quantity.intent, ()), intent_name=quantity.name)
    content = map_sidecar(spec, run, unit, _sources_of(spec, run, unit, directory))
    return [path, write_json(directory / spec.sidecar_name, content)]


def _sources_of(spec: MapSpec, run: RunOutputs, unit: UnitOutputs, directory: Path) -> list[str]:
    """Name a residual's own image; for a mode the table of all images: the list would outgrow its map."""
    if spec.quantity.scope is Scope.IMAGE and spec.column is not None:
        return [input_uri(unit.paths[unit.rows[spec.column]], run.sources)]
    stem = stem_entities(unit.constant_entities, unit.group)
    return [output_uri(directory / design_filename(stem, "inputs"), run.output_dir)]


def _image_entities(unit: UnitOutputs) -> list[dict[str, str]]:
    """Entities of all images; those that have too few for a name of their own get their row of the design."""
    found = [_entities_of(unit, row) for row in unit.rows]
    # Case is ignored, as in all names of outputs.
    keys = [frozenset((name, label.casefold()) for name, label in each.items()) for each in found]
    counts = Counter(keys)
    return [
        each | {"desc": joined_label(each.get("desc", ""), f"image{number}")} if counts[key] > 1 else each
        for number, (each, key) in enumerate(zip(found, keys, strict=True), start=1)
    ]


def _entities_of(unit: UnitOutputs, row: int) -> dict[str, str]:
    """Entities of an image's name, and those of the table that the name lacks."""
    parsed = parse_name(unit.paths[row].name)
    entities = {} if parsed is None else dict(parsed.entities)
    # Without a subject it is no name of BIDS, and what the image is of stands in a table of images.
    lacking = _DIRECTORY_ENTITIES if "subject" in entities else tuple(SHORT_NAME)
    for name in lacking:
        label = unit.table[name].iloc[row] if name in unit.table.columns else None
        if isinstance(label, str) and label:
            entities.setdefault(name, to_label(label))
    return {long_name(name): label for name, label in entities.items()}
