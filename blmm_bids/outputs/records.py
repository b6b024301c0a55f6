"""What the app hands to the writers, and what they hand to the report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from blmm_bids import __version__
from blmm_bids.bids.names import to_label
from blmm_bids.errors import DataError
from blmm_bids.outputs.registry import OutputOptions
from blmm_bids.stats.thresholds import Threshold

if TYPE_CHECKING:
    import pandas as pd

    from blmm_bids.images.grid import Grid
    from blmm_bids.outputs.naming import MapSpec
    from blmm_bids.stats.model import Contrast, Design, FitOptions, FloatArray, IntArray


class Variable(Protocol):
    """A covariate or factor as the report shows it (the design room's ``VariableInfo`` is one)."""

    @property
    def name(self) -> str:
        """Name in the formula."""

    @property
    def kind(self) -> str:
        """Word for its use: ``categorical``, ``numeric`` or ``grouping``."""

    @property
    def levels(self) -> tuple[str, ...]:
        """Levels of a categorical variable."""

    @property
    def reference(self) -> str | None:
        """Level that the others are compared with."""

    @property
    def counts(self) -> tuple[int, ...]:
        """Images of each level."""

    @property
    def n_missing(self) -> int:
        """Images without a value."""

    @property
    def minimum(self) -> float | None:
        """Smallest value of a numeric variable."""

    @property
    def mean(self) -> float | None:
        """Mean of a numeric variable."""

    @property
    def maximum(self) -> float | None:
        """Largest value of a numeric variable."""

    @property
    def reason(self) -> str:
        """Why it has its kind."""

    @property
    def table(self) -> str:
        """Table that it comes from; empty for entities."""


@dataclass(frozen=True, eq=False)
class RunOutputs:
    """What all files of one run have in common.

    Attributes
    ----------
    output_dir : Path
        Root of the output dataset.
    name : str
        Name of the model spec.
    settings : Mapping
        The exact settings, as JSON can hold them.
    model_spec : Mapping
        The model spec as run.
    sources : Mapping
        Root directory of each dataset that images come from, by dataset name; ``""`` is the main one.
    command : tuple of str
        The command line.
    description : str
        The model spec's own description.
    warnings : tuple of str
        What the user should know of the whole run.
    version : str
        Version of this software.
    environment : Mapping
        Environment variables, to tell in which container the run was.
    elapsed : float or None
        Seconds that the run took.
    threshold : Threshold
        What the tables of clusters and the report show.
    """

    output_dir: Path
    name: str
    settings: Mapping[str, Any]
    model_spec: Mapping[str, Any]
    sources: Mapping[str, Path]
    command: tuple[str, ...] = ()
    description: str = ""
    warnings: tuple[str, ...] = ()
    version: str = __version__
    environment: Mapping[str, str] = field(default_factory=dict)
    elapsed: float | None = None
    threshold: Threshold = field(default_factory=Threshold)


@dataclass(frozen=True, eq=False)
class UnitOutputs:
    """One fit: a node of the model, in one of its GroupBy groups.

    Attributes
    ----------
    node : str
        Name of the node.
    formula : str
        The whole formula, random terms included, in one line.
    design : Design
        The design; its rows are ``table.iloc[list(rows)]``.
    contrasts : tuple of Contrast
        In the order of the block results.
    fit_options, output_options : FitOptions, OutputOptions
        How it was fitted and what is to be written.
    grid : Grid
        Space of the images.
    voxels : (voxel,) int64
        Analysis mask: flat indices in C order, ascending.
    table : DataFrame
        One row an image before the design dropped any: entities and covariates.
    paths, masks : tuple
        Image, and masks, of each row of `table`.
    rows : tuple of int
        Positions in `table` of the images fitted.
    dropped : tuple of (int, str)
        Positions of the images that the design left out, and why.
    excluded : DataFrame or None
        Columns ``path`` and ``reason``: images that never came into `table`.
    without_images : tuple of str
        Participants (``sub-01``) of participants.tsv that have no image.
    constant_entities, group : Mapping
        Entities with one value over all images; GroupBy entities and this unit's labels.
    n_missing : (row,) int64 or None
        Voxels of the analysis mask without a value, for each image of `rows`.
    image_stats : Mapping
        ``mean``, ``variance``, ``minimum`` and ``maximum`` of each image of `rows`, over its own voxels;
        empty where they are not known.
    variables : tuple of Variable
        Variables of the formula, for the report.
    notes : tuple of str
        How the images were read: what a 0 is, which are flipped.
    warnings : tuple of str
        What the user should know of this fit.
    """

    node: str
    formula: str
    design: Design
    contrasts: tuple[Contrast, ...]
    fit_options: FitOptions
    output_options: OutputOptions
    grid: Grid
    voxels: IntArray
    table: pd.DataFrame
    paths: tuple[Path, ...]
    masks: tuple[tuple[Path, ...], ...]
    rows: tuple[int, ...]
    dropped: tuple[tuple[int, str], ...] = ()
    excluded: pd.DataFrame | None = None
    without_images: tuple[str, ...] = ()
    constant_entities: Mapping[str, str] = field(default_factory=dict)
    group: Mapping[str, str] = field(default_factory=dict)
    n_missing: IntArray | None = None
    image_stats: Mapping[str, FloatArray] = field(default_factory=dict)
    variables: tuple[Variable, ...] = ()
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check the lengths at the door."""
        lengths = {
            "rows": (len(self.rows), "design", self.design.n_obs),
            "paths": (len(self.paths), "table", len(self.table)),
            "masks": (len(self.masks), "table", len(self.table)),
        }
        if self.n_missing is not None:
            lengths["n_missing"] = (len(self.n_missing), "rows", len(self.rows))
        for name, (found, other, wanted) in lengths.items():
            if found != wanted:
                msg = f"'{name}' of node '{self.node}' has {found} along 'obs'; '{other}' has {wanted}"
                raise DataError(msg)
        if np.any(np.diff(self.voxels) <= 0):
            msg = f"'voxels' of node '{self.node}' are not in ascending order"
            raise DataError(msg)

    @property
    def label(self) -> str:
        """Name of the node's directory without ``node-``."""
        return to_label(self.node)


@dataclass(frozen=True, eq=False)
class ComparisonOutputs:
    """A likelihood ratio test of two models.

    Attributes
    ----------
    directory : Path
        Where its maps go, inside of the run's ``output_dir``.
    larger, smaller : str
        Names of the models.
    larger_formula, smaller_formula : str
        Their formulas.
    reml : bool
        Whether the log-likelihoods compared are restricted ones.
    distribution : str
        What the ratio was compared with (``"0.5 chi2(1) + 0.5 chi2(2)"``).
    grid : Grid
        Space of the maps.
    voxels : (voxel,) int64
        Voxels of both models: flat indices in C order, ascending.
    chi2, logp : (voxel,) float64
        Likelihood ratio and -log10 of its p value; NaN where the models differ in images or lack a fit.
    sources : tuple of str
        BIDS URIs of the log-likelihood maps.
    constant_entities, group : Mapping
        As in `UnitOutputs`.
    notice : str
        What the user should know (models refitted by ML, arguments swapped).
    """

    directory: Path
    larger: str
    smaller: str
    larger_formula: str
    smaller_formula: str
    reml: bool
    distribution: str
    grid: Grid
    voxels: IntArray
    chi2: FloatArray
    logp: FloatArray
    sources: tuple[str, ...] = ()
    constant_entities: Mapping[str, str] = field(default_factory=dict)
    group: Mapping[str, str] = field(default_factory=dict)
    notice: str = ""


@dataclass(frozen=True)
class ContrastSummary:
    """One contrast over all voxels.

    Attributes
    ----------
    name, test : str
        The contrast and ``t`` or ``F``.
    largest : float
        Largest absolute t, or largest F; NaN where no voxel has one.
    n_voxels : int
        Voxels with an answer.
    n_small_p : int
        Voxels with p < 0.001, two-sided for T, uncorrected.
    """

    name: str
    test: str
    largest: float
    n_voxels: int
    n_small_p: int


@dataclass(frozen=True)
class MapSeries:
    """Maps of one quantity that are too many to list: one for each level, or for each image.

    Attributes
    ----------
    name, description : str
        The quantity's.
    n_maps : int
        How many there are.
    first, last : str
        Names of the first and the last file.
    """

    name: str
    description: str
    n_maps: int
    first: str
    last: str


@dataclass(frozen=True, eq=False)
class UnitResult:
    """What was written for one fit.

    Attributes
    ----------
    unit : UnitOutputs
        The fit.
    directory : Path
        Where its files are.
    maps : tuple of MapSpec
        The maps, by file name in `directory`.
    tables : tuple of Path
        The design tables.
    files : tuple of Path
        All files, sidecars too.
    status_counts : Mapping
        Voxels by status code, codes without a voxel left out.
    contrasts : tuple of ContrastSummary
        In the order of the fit's contrasts.
    series : tuple of MapSeries
        Maps of each level and of each image, which `maps` leaves out.
    """

    unit: UnitOutputs
    directory: Path
    maps: tuple[MapSpec, ...]
    tables: tuple[Path, ...]
    files: tuple[Path, ...]
    status_counts: Mapping[int, int]
    contrasts: tuple[ContrastSummary, ...]
    series: tuple[MapSeries, ...] = ()
