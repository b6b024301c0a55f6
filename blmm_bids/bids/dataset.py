"""From a BIDS dataset to the observation table: the room's front door."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, Literal

import pandas as pd

from blmm_bids.bids.cells import check_cells, sort_images
from blmm_bids.bids.encodings import BY_BYTES
from blmm_bids.bids.filters import select_images
from blmm_bids.bids.frame import build_frame, observations_of
from blmm_bids.bids.image_table import read_image_table
from blmm_bids.bids.join import join_tables, participants_of
from blmm_bids.bids.layout import BidsFile, Listing, list_database, walk_dataset
from blmm_bids.bids.levels import ChosenMaps, MapSource, choose_maps
from blmm_bids.bids.masks import MaskFinder
from blmm_bids.bids.names import long_name
from blmm_bids.bids.observations import Observations, group_observations
from blmm_bids.bids.roots import Root, find_roots
from blmm_bids.bids.selection import Selection
from blmm_bids.bids.tables import Table, read_tables
from blmm_bids.bids.words import WordRules
from blmm_bids.errors import MissingInputError, NoMatchError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

__all__ = [
    "DatasetOptions",
    "MapSource",
    "Observations",
    "ScannedDataset",
    "Selection",
    "find_observations",
    "group_observations",
    "scan_dataset",
]

_SHOWN: Final = 5


@dataclass(frozen=True)
class DatasetOptions:
    """Where the data are.

    Attributes
    ----------
    bids_dir : Path
        A derivatives dataset, or a raw one whose derivatives are named.
    derivatives : tuple of (name or None, Path)
    database_dir : Path, optional
        A pybids database, made there if it does not exist.
    participants_tsv : Path, optional
        Read in place of the datasets' own.
    input_masks : {"auto", "none"}
        Whether to look for masks that come with the images.
    skip_validation : bool
        Accept datasets without a description.
    table_encoding : str
        Of the TSV files; ``"auto"``: their bytes say it.
    words : WordRules
        Which words in tables mean a missing value.
    images_tsv : Path, optional
        A table of the images (see `blmm_bids.bids.image_table`), in place of those of the datasets.
    """

    bids_dir: Path
    derivatives: tuple[tuple[str | None, Path], ...] = ()
    database_dir: Path | None = None
    participants_tsv: Path | None = None
    input_masks: Literal["auto", "none"] = "auto"
    skip_validation: bool = False
    table_encoding: str = BY_BYTES
    words: WordRules = field(default_factory=WordRules)
    images_tsv: Path | None = None


@dataclass(frozen=True)
class ScannedDataset:
    """The datasets of a run, listed once for all nodes.

    Attributes
    ----------
    options : DatasetOptions
    roots : tuple of Root
    listings : tuple of Listing
        Of each root.
    """

    options: DatasetOptions
    roots: tuple[Root, ...]
    listings: tuple[Listing, ...]


def scan_dataset(options: DatasetOptions) -> ScannedDataset:
    """Find the datasets and list their files.

    Raises
    ------
    InvalidBIDSError, MissingInputError, UsageError
        See the functions called here; each message says what to do.
    """
    if options.images_tsv is not None:
        # The table says which images there are, whatever the datasets hold.
        return ScannedDataset(
            options, find_roots(options.bids_dir, options.derivatives, skip_validation=True), ()
        )
    roots = find_roots(options.bids_dir, options.derivatives, skip_validation=options.skip_validation)
    return ScannedDataset(options, roots, tuple(_list_files(options, roots)))


def find_observations(
    dataset: ScannedDataset,
    selection: Selection,
    group_by: Sequence[str] = (),
    mask_filter: Mapping[str, tuple[str, ...]] | None = None,
) -> Observations:
    """Find images, their masks and their covariates.

    Parameters
    ----------
    dataset : ScannedDataset
    selection : Selection
    group_by : sequence of str
        GroupBy entities of the model: images of different groups may be on different grids.
    mask_filter : mapping of str to tuple of str, optional
        Entities of the masks that apply to the images; those that come with them where None or empty.

    Returns
    -------
    Observations
        Rows sorted by entities, subject first.

    Raises
    ------
    InvalidBIDSError, NoMatchError, DataError, MissingInputError, ModelSpecError
        See the functions called here; each message says what to do.
    """
    options, roots, listings = dataset.options, dataset.roots, dataset.listings
    if options.images_tsv is not None:
        return read_image_table(dataset, options.images_tsv, selection, group_by, mask_filter or {})
    image_files = [
        file
        for root, listing in zip(roots, listings, strict=True)
        if root.has_images
        for file in listing.files
    ]
    scan_warnings = [text for listing in listings for text in listing.warnings]
    try:
        selected, warnings = select_images(image_files, selection)
    except NoMatchError as error:
        # A tree whose names all miss BIDS by a dash looks empty; only the walk knows why.
        raise NoMatchError("\n".join([str(error), *scan_warnings])) from error
    subject_images, dropped = _subject_images(selected)
    chosen = choose_maps(subject_images, selection.sources)
    images = list(chosen.images)
    group_maps = _group_map_notices(dropped)
    dropped = pd.concat([dropped, _left_out(chosen)], ignore_index=True)
    check_cells(images, [long_name(name) for name in group_by])
    images = sort_images(images)
    paths = tuple(image.path for image in images)
    masks, mask_warnings = _find_masks(options, roots, image_files, images, mask_filter or {})
    _check_content(dict.fromkeys((*paths, *(mask for found in masks for mask in found))))
    tables = read_tables(listings, options.participants_tsv, options.table_encoding)
    columns, unread = join_tables(tables, images, options.words)
    without_images, people_warnings = _compare_participants(tables, images, selection)
    frame = build_frame(images, columns)
    sources = {root.name: root.path for root in roots}
    return replace(
        observations_of(frame, paths, masks, dropped, sources, unread),
        without_images=without_images,
        warnings=(
            *scan_warnings,
            *warnings,
            *group_maps,
            *chosen.notices,
            *mask_warnings,
            *people_warnings,
            *frame.warnings,
        ),
    )


def _list_files(options: DatasetOptions, roots: Sequence[Root]) -> list[Listing]:
    if options.database_dir is not None:
        return list_database(options.database_dir, {root.name: root.path for root in roots})
    return [walk_dataset(root.path, [other.path for other in roots if other is not root]) for root in roots]


def _subject_images(selected: Sequence[BidsFile]) -> tuple[list[BidsFile], pd.DataFrame]:
    images = [file for file in selected if "subject" in file.entities]
    others = [str(file.path) for file in selected if "subject" not in file.entities]
    if not images:
        msg = (
            f"{len(others)} images match, but none belongs to a subject (the first is {others[0]}): "
            "names need 'sub-<label>', or a folder of that name around them."
        )
        raise NoMatchError(msg)
    reason = "no subject in its name: a map of a group"
    return images, pd.DataFrame({"path": others, "reason": reason}, columns=["path", "reason"], dtype=object)


def _group_map_notices(others: pd.DataFrame) -> list[str]:
    """Say which images match and belong to no subject."""
    if others.empty:
        return []
    return [
        f"{len(others)} image(s) that match have no subject in their names (maps of a group?) and are not "
        f"used, the first being {others['path'].iloc[0]}"
    ]


def _left_out(chosen: ChosenMaps) -> pd.DataFrame:
    paths = [str(file.path) for file, _ in chosen.left_out]
    reasons = [reason for _, reason in chosen.left_out]
    return pd.DataFrame({"path": paths, "reason": reasons}, columns=["path", "reason"], dtype=object)


def _check_content(paths: Iterable[Path]) -> None:
    absent = [path for path in paths if not path.exists()]
    if absent:
        listed = "\n".join(f"  {path}" for path in absent[:_SHOWN])
        links = any(path.is_symlink() for path in absent)
        advice = "They are links without content: run 'datalad get' (or 'git annex get') on them."
        msg = (
            f"{len(absent)} image(s) or mask(s) cannot be opened:\n{listed}\n"
            f"{advice if links else 'Were they removed since the database was made?'}"
        )
        raise MissingInputError(msg)


def _find_masks(
    options: DatasetOptions,
    roots: Sequence[Root],
    files: Sequence[BidsFile],
    images: Sequence[BidsFile],
    mask_filter: Mapping[str, tuple[str, ...]],
) -> tuple[tuple[tuple[Path, ...], ...], list[str]]:
    if options.input_masks == "none":
        return ((),) * len(images), []
    finder = MaskFinder(roots, files, mask_filter)
    masks = tuple(finder.masks_of(image) for image in images)
    warnings = []
    if finder.n_unfiltered:
        told = ", ".join(f"{key}-{'|'.join(labels)}" for key, labels in mask_filter.items())
        warnings.append(
            f"Options.Mask ({told}) finds no mask for {finder.n_unfiltered} of {len(images)} images: for "
            "these the masks that come with them are used, if any"
        )
    unmasked = [image for image, found in zip(images, masks, strict=True) if not found]
    if not unmasked:
        return masks, warnings
    return masks, [
        *warnings,
        f"{len(unmasked)} of {len(images)} images have no mask of their own (no 'Mask' in a sidecar, "
        f"no _mask of the same stem, no desc-brain_mask), the first being {unmasked[0].path.name}",
    ]


def _compare_participants(
    tables: Sequence[Table], images: Sequence[BidsFile], selection: Selection
) -> tuple[tuple[str, ...], list[str]]:
    """Participants without images, and what to say about images without a participant."""
    listed = participants_of(tables)
    if not listed:
        return (), []
    pictured = sorted({image.entities["subject"] for image in images})
    wanted = selection.with_defaults()
    without = tuple(
        f"sub-{label}"
        for label in listed
        if label not in pictured
        and label not in wanted.exclude_participant_label
        and (not wanted.participant_label or label in wanted.participant_label)
    )
    unlisted = [label for label in pictured if label not in listed]
    if not unlisted:
        return without, []
    warning = (
        f"{len(unlisted)} of {len(pictured)} subjects with images are not in participants.tsv "
        f"({', '.join(unlisted[:_SHOWN])})"
    )
    if len(unlisted) == len(pictured):
        warning += f"; it lists {', '.join(listed[:_SHOWN])}. Labels are text: '01' is not '1'"
    return without, [warning]
