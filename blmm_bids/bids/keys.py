"""Which columns of a table say whom its lines are about."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from blmm_bids.bids.words import MISSING
from blmm_bids.errors import InvalidBIDSError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from blmm_bids.bids.tsv import Line, Tsv

ENTITY_OF: Final = {"participant_id": ("subject", "sub-"), "session_id": ("session", "ses-")}
# Spellings of others, without capitals and signs.
_SPELLINGS: Final = {
    "participant_id": frozenset(
        {
            "participantid", "participant", "participants", "participantsid", "participantlabel", "subject",
            "subjectid", "subjectlabel", "subjectkey", "sub", "subid", "subjid", "srcsubjectid", "bidsid",
            "bidssubjectid", "bidssubject",
        }
    ),
    "session_id": frozenset({"sessionid", "session", "ses", "sesid", "sessionlabel", "bidssession"}),
    "filename": frozenset({"filename"}),
}  # fmt: skip


@dataclass(frozen=True)
class Keys:
    """Key columns of a table.

    Attributes
    ----------
    columns : mapping of str to str
        BIDS's name of a key -> the table's column.
    notices : tuple of str
        Spellings that were taken for a key.
    """

    columns: Mapping[str, str]
    notices: tuple[str, ...] = ()


def find_keys(tsv: Tsv, key: str) -> Keys:
    """Find the key columns of a table.

    Parameters
    ----------
    tsv : Tsv
    key : str
        The one that it cannot do without: ``participant_id``, ``session_id`` or ``filename``.

    Raises
    ------
    InvalidBIDSError
        There is none, several columns may be meant, or a line lacks it.
    """
    columns: dict[str, str] = {}
    notices: list[str] = []
    for name in ("filename",) if key == "filename" else tuple(ENTITY_OF):
        column = _column(tsv, name, is_needed=name == key)
        if column is None:
            continue
        if column != name:
            if name != key and not _is_repeated(tsv, columns.get(key)):
                # A number of sessions, say, in a table with a line a participant.
                continue
            notices.append(f"{tsv.path}: column '{column}' is read as {name}")
        columns[name] = column
    for name in columns.values():
        if name in tsv.twice:
            msg = f"{tsv.path}: column '{name}' is there twice. Rename the one that is not the key."
            raise InvalidBIDSError(msg)
    for line in tsv.lines:
        if is_missing(line.cells[columns[key]]) and not all(map(is_missing, line.cells.values())):
            msg = f"{tsv.path}, line {line.number}: '{columns[key]}' is missing. Fill it in."
            raise InvalidBIDSError(msg)
    return Keys(columns, tuple(notices))


def is_missing(word: str) -> bool:
    """Whether a key's cell is empty."""
    return word.casefold() in MISSING


def telling_columns(lines: Sequence[Line], keys: Mapping[str, str]) -> list[str]:
    """Columns that tell the lines of one participant (and session) apart: ``visit``, ``run``, ``wave``."""
    if not lines:
        return []
    return [
        name
        for name in lines[0].cells
        if name not in keys.values()
        and len({_labels(line, [*keys.values(), name]) for line in lines}) == len(lines)
        and len({line.cells[name] for line in lines}) <= len(lines) // 2
    ]


def _labels(line: Line, names: Sequence[str]) -> tuple[str, ...]:
    return tuple(line.cells[name] for name in names)


def _column(tsv: Tsv, name: str, *, is_needed: bool) -> str | None:
    if name in tsv.columns:
        return name
    alike = [each for each in tsv.columns if re.sub(r"[^a-z0-9]", "", each.casefold()) in _SPELLINGS[name]]
    # Participant_ID goes before a column that only means it.
    exact = [each for each in alike if each.casefold() == name]
    if len(exact) == 1:
        return exact[0]
    if len(alike) == 1:
        return alike[0]
    if not is_needed:
        return None
    if alike:
        msg = (
            f"{tsv.path} has no column '{name}', and {' and '.join(alike)} may each be meant. "
            f"Rename the one that has the images' labels to {name}."
        )
        raise InvalidBIDSError(msg)
    listed = ", ".join(tsv.columns)
    msg = f"{tsv.path} has no column '{name}' (it has {listed}). Add or rename it."
    raise InvalidBIDSError(msg)


def _is_repeated(tsv: Tsv, column: str | None) -> bool:
    if column is None:
        return True
    counts = Counter(line.cells[column] for line in tsv.lines if not is_missing(line.cells[column]))
    return any(count > 1 for count in counts.values())
