"""What finished runs say of themselves: all that the maps and tables do not say (see `results_file`)."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blmm_bids.outputs.naming import contrast_names, stem_entities
from blmm_bids.outputs.sidecars import described
from blmm_bids.stats.thresholds import Threshold

if TYPE_CHECKING:
    from blmm_bids.outputs.records import RunOutputs, UnitResult

_PACKAGES = ("numpy", "scipy", "numba", "nibabel", "pybids", "formulaic", "dask")


@dataclass(frozen=True)
class StoredMap:
    """One map of a fit.

    Attributes
    ----------
    file : str
        Name in the node's directory.
    quantity, scope : str
        As in the registry.
    description, units : str
        For the reader.
    names : Mapping
        The exact names behind the labels: ``ContrastName``, ``RegressorName``, ``RandomEffect``.
    """

    file: str
    quantity: str
    scope: str
    description: str
    units: str
    names: Mapping[str, Any]


@dataclass(frozen=True)
class StoredContrast:
    """One contrast and how large its statistics are (see `ContrastSummary`).

    Attributes
    ----------
    name, test : str
        The contrast, and ``t`` or ``F``.
    rank : int
        Numerator degrees of freedom.
    columns : list of str
        Columns of the design with a weight.
    weights : list of list of float
        A row of weights over `columns` each.
    largest : float or None
        Largest absolute t, or largest F.
    n_voxels, n_small_p : int
        Voxels with an answer, and with p < 0.001.
    """

    name: str
    test: str
    rank: int
    columns: list[str]
    weights: list[list[float]]
    largest: float | None
    n_voxels: int
    n_small_p: int


@dataclass(frozen=True)
class StoredTerm:
    """A random term: its factor, the names of its effects, and the number of levels."""

    group: str
    effect_names: tuple[str, ...]
    n_levels: int


@dataclass(frozen=True)
class StoredVariable:
    """A variable of the formula; see `blmm_bids.outputs.records.Variable`."""

    name: str
    kind: str
    levels: tuple[str, ...]
    reference: str | None
    counts: tuple[int, ...]
    n_missing: int
    minimum: float | None
    mean: float | None
    maximum: float | None
    # Runs of earlier versions did not say them.
    reason: str = ""
    table: str = ""


@dataclass(frozen=True)
class StoredSeries:
    """Maps too many to list; see `blmm_bids.outputs.records.MapSeries`."""

    name: str
    description: str
    n_maps: int
    first: str
    last: str


@dataclass(frozen=True)
class StoredFit:
    """One fit of a run.

    Attributes
    ----------
    node, directory : str
        The node's name, and its directory below the dataset's root.
    group, stem : Mapping
        Labels of the GroupBy entities; entities that open every file name.
    space : str
        Space of the images; empty where it is not known.
    formula : str
        With the random terms.
    reml : bool
        The criterion.
    method, satterthwaite : str
        How it was fitted and how degrees of freedom came about.
    n_images, n_voxels : int
        Images fitted; voxels of the analysis mask.
    status_counts : Mapping
        Voxels by status code.
    terms, contrasts, variables, maps, series, tables, warnings
        Lists of what there is.
    without_images : tuple of str
        Participants that participants.tsv has and the images have not.
    notes : tuple of str
        How the images were read.
    """

    node: str
    directory: str
    group: Mapping[str, str]
    stem: Mapping[str, str]
    space: str
    formula: str
    reml: bool
    method: str
    satterthwaite: str
    n_images: int
    n_voxels: int
    status_counts: Mapping[int, int]
    terms: tuple[StoredTerm, ...]
    contrasts: tuple[StoredContrast, ...]
    variables: tuple[StoredVariable, ...]
    maps: tuple[StoredMap, ...]
    series: tuple[StoredSeries, ...]
    tables: tuple[str, ...]
    warnings: tuple[str, ...]
    without_images: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """Labels of the group, for headings; empty without one."""
        return ", ".join(f"{name} {label}" for name, label in self.group.items())


@dataclass(frozen=True)
class StoredRun:
    """A finished run, with those of its fits that no later run replaced.

    Attributes
    ----------
    root : Path
        The output dataset.
    name, description, version : str
        The model spec's; this software's.
    command, warnings : tuple of str
        How it was started, and what the user should know.
    software : Mapping
        Versions of what the numbers depend on.
    elapsed : float or None
        Seconds that it took.
    threshold : Threshold
        What its tables and figures show.
    fits : tuple of StoredFit
        In the order in which they were fitted.
    settings_file : str
        Where the settings are, below the dataset's root; empty where that is not known.
    """

    root: Path
    name: str
    description: str
    version: str
    command: tuple[str, ...]
    warnings: tuple[str, ...]
    software: Mapping[str, str] = field(default_factory=dict)
    elapsed: float | None = None
    threshold: Threshold = field(default_factory=Threshold)
    fits: tuple[StoredFit, ...] = ()
    settings_file: str = ""


def software_versions() -> dict[str, str]:
    """Versions of Python and of the packages that the numbers depend on."""
    found = {"Python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def stored_fit(run: RunOutputs, result: UnitResult) -> StoredFit:
    """Collect what is stored of one fit."""
    unit = result.unit
    return StoredFit(
        node=unit.node,
        directory=result.directory.relative_to(run.output_dir).as_posix(),
        group=dict(unit.group),
        stem=stem_entities(unit.constant_entities, unit.group),
        space=unit.constant_entities.get("space", unit.group.get("space", "")),
        formula=unit.formula,
        reml=unit.fit_options.reml,
        method=unit.fit_options.method,
        satterthwaite=unit.fit_options.satterthwaite,
        n_images=unit.design.n_obs,
        n_voxels=len(unit.voxels),
        status_counts=dict(result.status_counts),
        terms=tuple(StoredTerm(each.group, each.effect_names, each.n_levels) for each in unit.design.terms),
        contrasts=_stored_contrasts(result),
        variables=tuple(
            StoredVariable(
                each.name, each.kind, each.levels, each.reference, each.counts, each.n_missing,
                each.minimum, each.mean, each.maximum, each.reason, each.table,
            )
            for each in unit.variables
        ),
        maps=tuple(
            StoredMap(
                spec.filename, spec.quantity.name, spec.quantity.scope.value, described(spec),
                spec.quantity.units, dict(spec.names),
            )
            for spec in result.maps
        ),
        series=tuple(StoredSeries(**asdict(each)) for each in result.series),
        tables=tuple(path.name for path in result.tables),
        warnings=unit.warnings,
        without_images=unit.without_images,
        notes=unit.notes,
    )  # fmt: skip


def _stored_contrasts(result: UnitResult) -> tuple[StoredContrast, ...]:
    stored = []
    for contrast, summary in zip(result.unit.contrasts, result.contrasts, strict=True):
        entries = contrast_names(result.unit.design.fixef_names, contrast)
        weights = entries["Weights"]
        stored.append(
            StoredContrast(
                name=contrast.name,
                test=contrast.test,
                rank=entries.get("NumeratorDegreesOfFreedom", 1),
                columns=entries["ConditionList"],
                weights=weights if contrast.test == "F" else [weights],
                largest=summary.largest if summary.n_voxels else None,
                n_voxels=summary.n_voxels,
                n_small_p=summary.n_small_p,
            )
        )
    return tuple(stored)
