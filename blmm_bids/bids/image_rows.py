"""The lines of a table of images: which column is what, and what a line says of its image."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from blmm_bids.bids.image_paths import NIFTI, Named, file_of
from blmm_bids.bids.keys import is_missing
from blmm_bids.bids.names import SHORT_NAME
from blmm_bids.bids.tsv import read_any_table
from blmm_bids.errors import DataError, InvalidBIDSError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from blmm_bids.bids.tsv import Line, Tsv

PATH, MASK, SUBJECT, SESSION = "path", "mask", "subject", "session"
# What a column with a role of its own is called, and what others call it, in small letters; InputFile and
# Subj are 3dLMEr's.
_ROLES: Final[Mapping[str, tuple[str, ...]]] = {
    PATH: ("inputfile",),
    MASK: ("masks",),
    SUBJECT: ("participant_id", "participant", "participant_label", "subj", "sub", "subject_id", "subjid"),
    SESSION: ("session_id", "ses"),
}
_SPREADSHEETS: Final = frozenset({".xlsx", ".xlsm", ".xls", ".ods", ".numbers"})
# Names of other entities (label, scale, cohort, direction …) may mean something else in any table.
_ENTITIES: Final = ("task", "acquisition", "run", "echo", "hemi", "space", "res", "contrast", "desc", "stat")


@dataclass(frozen=True, eq=False)
class ImageRow:
    """One line of the table."""

    named: Named
    masks: tuple[Named, ...]
    entities: Mapping[str, str]
    cells: Mapping[str, str]


@dataclass(eq=False)
class ImageTable:
    """The table as it was read.

    Attributes
    ----------
    path : Path
    columns : tuple of str
    roles, entities : mapping of str to str
        Role, or entity, to the column that has it.
    rows : list of ImageRow
    notices : list of str
        What is said once.
    """

    path: Path
    columns: tuple[str, ...]
    roles: Mapping[str, str]
    entities: Mapping[str, str]
    rows: list[ImageRow]
    notices: list[str]


def read_image_rows(path: Path, encoding: str) -> ImageTable:
    """Read a table of images, whatever is between its cells.

    Raises
    ------
    InvalidBIDSError, MissingInputError, DataError
        It cannot be read, or lacks the path or the subject of an image; the message names the line.
    """
    if path.suffix.lower() in _SPREADSHEETS and path.is_file():
        msg = f"{path} is a spreadsheet's own file. Save it as text: tab-separated (.tsv) or CSV."
        raise DataError(msg)
    tsv, separator = read_any_table(path, encoding)
    if tsv.twice:
        msg = f"{path}: column '{tsv.twice[0]}' is there twice. Rename or remove one."
        raise InvalidBIDSError(msg)
    notices = [f"{path.name} has {separator} between its cells, not tabs: read as such"] if separator else []
    notices += [tsv.notice] if tsv.notice else []
    roles = _find_roles(tsv)
    entities = _entity_columns(tsv, roles)
    for role, name in {**roles, **entities}.items():
        if name != role:
            also = "; the model may call it either" if role in entities else ""
            notices.append(f"column '{name}' of {path.name} is taken for '{role}'{also}")
    rows = [_row(tsv, line, roles, entities) for line in tsv.lines]
    n_first = sum(row.named.text != (row.cells[roles[PATH]] or "").strip("'") for row in rows)
    if n_first:
        notices.append(f"{n_first} path(s) name the first volume of a file (',1' or '[0]'): the file is read")
    return ImageTable(path, tsv.columns, roles, entities, rows, notices)


def _find_roles(tsv: Tsv) -> dict[str, str]:
    roles: dict[str, str] = {}
    for role, others in _ROLES.items():
        found = [role] if role in tsv.columns else []
        found = found or [name for name in tsv.columns if name.casefold() in (role, *others)]
        if len(found) > 1:
            msg = (
                f"{tsv.path}: columns {' and '.join(repr(name) for name in found)} may both be the {role}. "
                f"Rename the one that is meant to {role}."
            )
            raise DataError(msg)
        if found:
            roles[role] = found[0]
    if PATH not in roles:
        raise DataError(_no_path_message(tsv))
    if not tsv.lines:
        msg = f"{tsv.path} has a header and no line below it; a line for each image was expected."
        raise DataError(msg)
    return roles


def _no_path_message(tsv: Tsv) -> str:
    msg = f"{tsv.path} has no column 'path', for the file of each image (it has {', '.join(tsv.columns)})."
    first = tsv.lines[0].cells if tsv.lines else {}
    # A column of file names is a better guess than a name that looks alike.
    near = [name for name, text in first.items() if text.lower().endswith(NIFTI)]
    near = near or difflib.get_close_matches(PATH, tsv.columns, n=1)
    return f"{msg} Rename '{near[0]}' to path." if near else f"{msg} Add it."


def _entity_columns(tsv: Tsv, roles: Mapping[str, str]) -> dict[str, str]:
    """Entity -> column; its own name goes before that with other capitals."""
    found = {role: roles[role] for role in (SUBJECT, SESSION) if role in roles}
    for name in sorted(tsv.columns, key=str.islower):
        if name.casefold() in _ENTITIES:
            found[name.casefold()] = name
    return found


def _bare(entity: str, text: str) -> str:
    return text.removeprefix(f"{SHORT_NAME[entity]}-")


def _row(tsv: Tsv, line: Line, roles: Mapping[str, str], entities: Mapping[str, str]) -> ImageRow:
    cells = line.cells
    for role in (PATH, SUBJECT):
        if role in roles and is_missing(cells[roles[role]]):
            msg = (
                f"{tsv.path}, line {line.number}: '{roles[role]}' is missing. Fill it in or remove the line."
            )
            raise DataError(msg)
    about = {
        each: _bare(each, text) for each, name in entities.items() if not is_missing(text := cells[name])
    }
    masks = cells[roles[MASK]].split(";") if MASK in roles and not is_missing(cells[roles[MASK]]) else []
    named = [Named(file_of(text.strip()), line.number) for text in (cells[roles[PATH]], *masks)]
    return ImageRow(named[0], tuple(mask for mask in named[1:] if mask.text), about, cells)
