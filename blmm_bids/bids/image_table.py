"""Images that are not named as BIDS has it: a table with a row an image, its path and its covariates.

What comes out is what a BIDS dataset gives, an observation table. Columns with the names of BIDS entities are
entities; `subject` and `session` join participants, sessions and phenotype tables of BIDS_DIR. All others are
columns of a table called ``images``.
"""

from __future__ import annotations

import os
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import pandas as pd

from blmm_bids.bids.cells import check_cells, sort_images
from blmm_bids.bids.described import Description, describe_columns
from blmm_bids.bids.filters import filter_images
from blmm_bids.bids.frame import build_frame, observations_of
from blmm_bids.bids.image_paths import NIFTI, Finder, folders_of, refuse_same_file
from blmm_bids.bids.image_rows import MASK, PATH, SESSION, SUBJECT, read_image_rows
from blmm_bids.bids.join import join_tables
from blmm_bids.bids.keys import is_missing
from blmm_bids.bids.layout import BidsFile, Listing
from blmm_bids.bids.names import long_name, parse_name
from blmm_bids.bids.observations import Observations
from blmm_bids.bids.roots import read_json
from blmm_bids.bids.tables import Row, Table, read_tables
from blmm_bids.errors import ModelSpecError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from blmm_bids.bids.dataset import DatasetOptions, ScannedDataset
    from blmm_bids.bids.image_rows import ImageRow, ImageTable
    from blmm_bids.bids.join import Column
    from blmm_bids.bids.roots import Root
    from blmm_bids.bids.selection import Selection
    from blmm_bids.bids.words import WordRules

# Qualifies the columns: images.age.
TABLE: Final = "images"


def read_image_table(
    dataset: ScannedDataset,
    table: Path,
    selection: Selection,
    group_by: Sequence[str] = (),
    mask_filter: Mapping[str, tuple[str, ...]] = MappingProxyType({}),
) -> Observations:
    """Read the table of images, and what tables of BIDS_DIR know of its subjects.

    Parameters
    ----------
    dataset : ScannedDataset
        Its tables are joined by subject.
    table : Path
        Tab-separated, or as its header shows.
    selection : Selection
        Its entities are columns of the table.
    group_by : sequence of str
        GroupBy entities of the model.
    mask_filter : mapping of str to tuple of str
        Entities of masks, which only files with BIDS names have.

    Returns
    -------
    Observations
        As from a dataset: rows sorted by entities, then by path.

    Raises
    ------
    InvalidBIDSError, MissingInputError, DataError, ModelSpecError, UsageError, NoMatchError
        Each message says what to do.
    """
    options, roots = dataset.options, dataset.roots
    if options.database_dir is not None:
        msg = "--bids-database-dir finds images in BIDS datasets; leave it out beside --images"
        raise UsageError(msg)
    read = read_image_rows(table, options.table_encoding)
    _select(read, selection)
    if mask_filter:
        read.notices.append(
            "Options.Mask is about masks with BIDS names; the table's column 'mask' names others"
        )
    finder = Finder(table, roots[0].path)
    named = [row.named for row in read.rows]
    paths = finder.find(named, "images")
    refuse_same_file(table, named, paths)
    images = [
        BidsFile(str(path.parent), path.name, roots[0].path, row.entities, TABLE, "", None)
        for row, path in zip(read.rows, paths, strict=True)
    ]
    # Rows with the same entities may differ in another column; that their paths differ is known by now.
    check_cells(
        [replace(image, entities={**image.entities, PATH: str(image.path)}) for image in images],
        [long_name(name) for name in group_by],
    )
    row_of = {id(image): row for image, row in zip(images, read.rows, strict=True)}
    images = sort_images(images)
    read.rows = [row_of[id(image)] for image in images]
    masks = ((),) * len(images) if options.input_masks == "none" else _find_masks(read, finder)
    tables = _joined_tables(read, options, roots)
    sources = {root.name: root.path for root in roots}
    return _observations(read, images, masks, tables, sources, options.words)


def named_folders(table: Path, bids_dir: Path, encoding: str) -> tuple[Path, ...]:
    """Folders in which files of a table may be, below BIDS_DIR or not.

    Raises
    ------
    InvalidBIDSError, MissingInputError, DataError
        The table cannot be read.
    """
    finder = Finder(table, bids_dir)
    files = (named for row in read_image_rows(table, encoding).rows for named in (row.named, *row.masks))
    found = dict.fromkeys(path.parent for named in files for path in finder.candidates(named.text))
    others = (folder for folder in found if not folder.is_relative_to(table.parent))
    # Unlike Path's, this takes any text for a path.
    return (table.parent, *filter(os.path.isdir, others))


def _select(read: ImageTable, selection: Selection) -> None:
    """Keep the rows that the filters allow."""
    useless = _inapplicable(read, selection)
    aside = [name for name in useless if selection.sources and name in selection.input_names]
    if aside:
        read.notices.append(
            f"Input is about what the lowest node reads: its {', '.join(aside)}, for which {read.path.name} "
            "has no column, say nothing about its images and are set aside"
        )
    if len(useless) > len(aside):
        names = ", ".join(name for name in useless if name not in aside)
        msg = (
            f"there are filters on {names}, and {read.path} has no such column (it has "
            f"{', '.join(read.columns)}). The table says which images are analysed: take the filters out of "
            "the model spec's Input or the command line, or add the columns."
        )
        raise ModelSpecError(msg)
    # Neither the suffix nor the datatype of a name, nor its being a name of BIDS, says anything here.
    known = _known_names(read)
    entities = {name: labels for name, labels in selection.entities.items() if name in known}
    if selection.extension:
        entities["extension"] = selection.extension
    wanted = replace(selection, entities=entities, suffix=(TABLE,), datatype=()).with_defaults()
    files = [_as_text(row, read.path.parent) for row in read.rows]
    kept, warnings = filter_images(files, replace(wanted, suffix=()))
    read.notices += warnings
    row_of = {id(file): row for file, row in zip(files, read.rows, strict=True)}
    read.rows = [row_of[id(file)] for file in kept]


def _known_names(read: ImageTable) -> set[str]:
    return {*read.columns, *map(long_name, read.columns), *read.entities}


def _inapplicable(read: ImageTable, selection: Selection) -> list[str]:
    """Say which filters are on what the table does not tell."""
    known = _known_names(read)
    options = {
        "--participant-label": (SUBJECT, selection.participant_label),
        "--exclude-participant-label": (SUBJECT, selection.exclude_participant_label),
        "--session-label": (SESSION, selection.session_label),
    }
    parts = {"suffix": selection.suffix, "datatype": selection.datatype}
    return [
        # Where there is no column it is true of every image that it lacks the entity.
        *(name for name, labels in selection.entities.items() if name not in known and set(labels) != {None}),
        *(name for name, labels in parts.items() if labels),
        *(f"{name} ({flag})" for flag, (name, labels) in options.items() if labels and name not in known),
    ]


def _as_text(row: ImageRow, folder: Path) -> BidsFile:
    """Give every column as if it were an entity: filters may name any."""
    filled = {name: text for name, text in row.cells.items() if not is_missing(text)}
    name = row.named.text.rpartition("/")[2]
    extension = next((ending for ending in NIFTI if name.lower().endswith(ending)), "")
    by_long_name = {long_name(name): text for name, text in filled.items()}
    entities = {"extension": extension, **by_long_name, **filled, **row.entities}
    return BidsFile("", name, folder, entities, TABLE, extension, None)


def _find_masks(read: ImageTable, finder: Finder) -> tuple[tuple[Path, ...], ...]:
    named = list({mask.text: mask for row in reversed(read.rows) for mask in row.masks}.values())
    found = dict(zip((mask.text for mask in named), finder.find(named, "masks"), strict=True))
    without = [row for row in read.rows if not row.masks]
    if without:
        place = "a cell of" if MASK in read.roles else "a column"
        read.notices.append(
            f"{len(without)} of {len(read.rows)} images have no mask of their own ({place} 'mask' would name "
            f"it), the first being {without[0].named.text}"
        )
    return tuple(tuple(dict.fromkeys(found[mask.text] for mask in row.masks)) for row in read.rows)


def _joined_tables(read: ImageTable, options: DatasetOptions, roots: Sequence[Root]) -> tuple[Table, ...]:
    """Tables of the datasets that are about subjects; scans.tsv is about files that are not these."""
    if SUBJECT not in read.roles:
        listed = (
            [options.participants_tsv]
            if options.participants_tsv
            else [root.path / "participants.tsv" for root in roots]
        )
        read.notices += [
            f"{path} is not read: the table of images has no column 'subject' to join it by"
            for path in listed
            if path.is_file()
        ]
        return ()
    listings = [Listing(root.path, _sessions_files(root.path)) for root in roots]
    return read_tables(listings, options.participants_tsv, options.table_encoding)


def _sessions_files(root: Path) -> tuple[BidsFile, ...]:
    return tuple(
        BidsFile(str(path.parent), path.name, root, parsed.entities, parsed.suffix, ".tsv", None)
        for path in sorted(root.glob("sub-*/sub-*_sessions.tsv"))
        if (parsed := parse_name(path.name)) is not None
    )


def _observations(
    read: ImageTable,
    images: Sequence[BidsFile],
    masks: tuple[tuple[Path, ...], ...],
    tables: Sequence[Table],
    sources: Mapping[str, Path],
    rules: WordRules,
) -> Observations:
    own = _own_columns(read, rules)
    others, unread = join_tables(tables, images, rules)
    frame = build_frame(images, [*own, *others], TABLE)
    paths = tuple(image.path for image in images)
    files = [*paths, *(mask for found in masks for mask in found)]
    named = dict(sources)
    for folder in folders_of(files, sources.values(), read.path.parent):
        number = sum(name.startswith(TABLE) for name in named)
        named[f"{TABLE}{number + 1}" if number else TABLE] = folder
    dropped = pd.DataFrame(columns=["path", "reason"], dtype=object)
    found = observations_of(frame, paths, masks, dropped, named, unread)
    return replace(found, warnings=(*read.notices, *frame.warnings))


def _own_columns(read: ImageTable, rules: WordRules) -> list[Column]:
    """Columns of the table itself, by the rules of any other table's."""
    # A label is one however it is written; what else has an entity's name in other capitals keeps its type.
    labels = {name: role for role in (SUBJECT, SESSION) if (name := read.entities.get(role, role)) != role}
    unneeded = {read.roles[role] for role in (PATH, MASK) if role in read.roles}
    unneeded |= {name for name, column in read.entities.items() if name == column}
    lines: list[Row] = []
    images: list[BidsFile] = []
    for number, row in enumerate(read.rows):
        # A line is about the image that it names, which has a number here.
        image = {SUBJECT: str(number)}
        values = {name: text for name, text in row.cells.items() if name not in unneeded}
        values |= {name: row.entities.get(role, "") for name, role in labels.items()}
        lines.append(Row(image, values, f"{read.path}, line {row.named.line}"))
        images.append(BidsFile("", row.named.text, read.path.parent, image, TABLE, "", None))
    about = _described(read.path)
    for name, role in labels.items():
        # Labels are labels though they are numbers.
        written = tuple(dict.fromkeys(row.entities.get(role, "") for row in read.rows))
        about[name] = Description(read.path.name, written)
    return join_tables([Table(TABLE, tuple(lines), about)], images, rules)[0]


def _described(path: Path) -> dict[str, Description]:
    """Columns that the JSON file beside the table describes."""
    sidecar = path.with_suffix(".json")
    return describe_columns(read_json(sidecar), sidecar.name) if sidecar.is_file() else {}
