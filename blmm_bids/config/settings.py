"""Everything a run of the BIDS App needs to know, in one frozen record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

from blmm_bids.bids.dataset import DatasetOptions, MapSource
from blmm_bids.bids.image_table import named_folders
from blmm_bids.bids.selection import Selection, merge_filters, selection_from_input
from blmm_bids.cluster import ClusterOptions
from blmm_bids.design.contrast_spec import ContrastSpec
from blmm_bids.design.references import with_references
from blmm_bids.design.spec import ModelSpec
from blmm_bids.errors import UsageError
from blmm_bids.stats.thresholds import Threshold

MaskChoice = Path | Literal["template"] | None
OutputLevel = Literal["minimal", "default", "full"]
OutputSeries = Literal["ranef", "residuals"]
OUTPUT_LEVELS: tuple[OutputLevel, ...] = get_args(OutputLevel)
OUTPUT_SERIES: tuple[OutputSeries, ...] = get_args(OutputSeries)


@dataclass(frozen=True)
class Filters:
    """What the command line selects, on top of the model spec's Input.

    Attributes
    ----------
    participant_label, exclude_participant_label, session_label : tuple of str
        Labels, with or without their key.
    entities : tuple of Mapping
        Further filters, later ones winning: ``--bids-filter-file``, then ``--task-label`` and so on.
    """

    participant_label: tuple[str, ...] = ()
    exclude_participant_label: tuple[str, ...] = ()
    session_label: tuple[str, ...] = ()
    entities: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class MaskOptions:
    """Which voxels are analysed, and what counts as missing. None: the model spec decides.

    Attributes
    ----------
    mask : Path, "template" or None
        Explicit mask.
    resample_mask : bool
        Bring a mask on another grid to the images'.
    min_n : int or None
        Fewest images a voxel needs.
    min_percent : float or None
        Smallest share of the images a voxel needs, 0 to 1.
    data_mask_threshold : float or None
        Values below are missing.
    zeros : {"auto", "missing", "data"} or None
        What an exact 0 is; ``auto`` goes by the kind of map.
    affine_tolerance : float
        mm at the corners of the volume by which images may lie apart.
    """

    mask: MaskChoice = None
    resample_mask: bool = False
    min_n: int | None = None
    min_percent: float | None = None
    data_mask_threshold: float | None = None
    zeros: Literal["auto", "missing", "data"] | None = None
    affine_tolerance: float = 1e-3


@dataclass(frozen=True)
class WorkOptions:
    """The working directory and what a rerun does with it.

    Attributes
    ----------
    work_dir : Path
        Where parts and block results are kept.
    clean : bool
        Remove what the run put there when it has succeeded.
    resume : bool
        Use what an earlier run left there.
    """

    work_dir: Path
    clean: bool = False
    resume: bool = True


@dataclass(frozen=True)
class Settings:
    """A run of the BIDS App.

    Attributes
    ----------
    output_dir : Path
        Root of the output dataset.
    spec : ModelSpec
        The model.
    dataset : DatasetOptions
        Where the data are.
    filters, masks, cluster, work
        The rooms' options.
    contrasts : tuple of ContrastSpec
        Added to every node (``--contrast``).
    references : mapping of str to str
        Reference levels of variables, in every node that has them (``--reference``).
    output_level : {"minimal", "default", "full"}
        Which maps are written.
    output_series : tuple of {"ranef", "residuals"}
        Maps of each level and of each image that are written besides.
    threshold : Threshold
        What the tables of clusters and the report show.
    dry_run : bool
        Stop after the work summary.
    overwrite : bool
        Replace results of another model under a node's name.
    validate : bool
        Run the BIDS validator on the input first.
    command : tuple of str
        The command line.
    """

    output_dir: Path
    spec: ModelSpec
    dataset: DatasetOptions
    work: WorkOptions
    filters: Filters = field(default_factory=Filters)
    masks: MaskOptions = field(default_factory=MaskOptions)
    cluster: ClusterOptions = field(default_factory=ClusterOptions)
    contrasts: tuple[ContrastSpec, ...] = ()
    references: Mapping[str, str] = field(default_factory=dict)
    output_level: OutputLevel = "default"
    output_series: tuple[OutputSeries, ...] = ()
    threshold: Threshold = field(default_factory=Threshold)
    dry_run: bool = False
    overwrite: bool = False
    validate: bool = False
    command: tuple[str, ...] = ()

    def selection(self, sources: Sequence[MapSource] = ()) -> Selection:
        """Join the Input block and the filters, for a node that reads the maps of some lower nodes."""
        return selection_from_input(
            merge_filters(self.spec.input, *self.filters.entities),
            participant_label=self.filters.participant_label,
            exclude_participant_label=self.filters.exclude_participant_label,
            session_label=self.filters.session_label,
            filtered=merge_filters({}, *self.filters.entities),
            sources=sources,
        )

    @property
    def nodes(self) -> tuple[Any, ...]:
        """The spec's nodes with the command line's contrasts and reference levels."""
        nodes = with_references(self.spec.nodes, self.references)
        return tuple(replace(node, contrasts=(*node.contrasts, *self.contrasts)) for node in nodes)

    @property
    def worker_paths(self) -> tuple[Path, ...]:
        """Directories that workers read and write: of the images, OUTPUT_DIR and the working directory."""
        datasets = (self.dataset.bids_dir, *(path for _, path in self.dataset.derivatives))
        table, encoding = self.dataset.images_tsv, self.dataset.table_encoding
        named = named_folders(table, self.dataset.bids_dir, encoding) if table else ()
        return (*datasets, *named, self.output_dir, self.work.work_dir)

    def as_mapping(self) -> dict[str, Any]:
        """Give the settings as JSON can hold them, for ``logs/settings.json``; a path is its name alone."""
        return {
            "Filters": _plain(self.filters),
            "Masks": _plain(self.masks),
            "OutputLevel": self.output_level,
            "OutputSeries": list(self.output_series),
            "InputMasks": self.dataset.input_masks,
            **({"Images": self.dataset.images_tsv.name} if self.dataset.images_tsv else {}),
            "Cluster": {"Backend": self.cluster.backend},
            "Threshold": _plain(self.threshold),
            "Contrasts": [_plain(contrast) for contrast in self.contrasts],
            "Reference": _plain(self.references),
        }


def parse_outputs(text: str) -> tuple[OutputLevel, tuple[OutputSeries, ...]]:
    """Take ``LEVEL[,ranef][,residuals]`` apart.

    Raises
    ------
    UsageError
        Says which word is not known, or that the level is missing.
    """
    words = [word.strip() for word in text.split(",")]
    level = next((name for name in OUTPUT_LEVELS if name == words[0]), None)
    added = words[1:] if level else words
    wrong = [word for word in added if word not in OUTPUT_SERIES]
    if wrong or level is None:
        what = f"'{wrong[0]}' is not known or not in its place" if wrong else "the level comes first"
        msg = (
            f"--outputs {text}: {what}; wanted {', '.join(OUTPUT_LEVELS[:-1])} or {OUTPUT_LEVELS[-1]}, "
            f"then {' and '.join(OUTPUT_SERIES)}, as in --outputs default,{','.join(OUTPUT_SERIES)}"
        )
        raise UsageError(msg)
    return level, tuple(name for name in OUTPUT_SERIES if name in added)


def _plain(value: object) -> object:
    """Turn records, tuples and paths into JSON types; a path is its name alone."""
    if isinstance(value, Path):
        return value.name
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    if hasattr(value, "__dataclass_fields__"):
        return {name: _plain(getattr(value, name)) for name in value.__dataclass_fields__}
    return value
