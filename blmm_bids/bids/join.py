"""Joining tables to images.

A line of a table belongs to an image where all entities that both have are equal; where several lines
belong to one image, they must agree on a column's value.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from blmm_bids.bids.described import Description
from blmm_bids.bids.values import Cells, Values, read_values
from blmm_bids.bids.words import WordRules
from blmm_bids.errors import BlmmError, DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from blmm_bids.bids.layout import BidsFile
    from blmm_bids.bids.tables import Fault, Row, Table

_SHOWN: Final = 5
# Characters of 2019-03-01.
_DAY: Final = 10


@dataclass(frozen=True)
class Column:
    """One column, a value per image (None where missing).

    Attributes
    ----------
    table, name : str
    values : list of (float or str or None)
    is_categorical : bool
    reason : str
        Why it is, or is not.
    fault : BlmmError or None
        Why the column cannot be used.
    mixture : str
        Why it is no covariate as it is: numbers and text, text that looks like numbers or dates; else empty.
    unlisted : tuple of int
        Images that no line of the table is about.
    mismatch : str
        Which labels the table has instead of the images', where it has none of theirs.
    suspects : mapping of int to (str, str)
        Images whose value looks like a missing one -> the word, and what to say of it.
    notices : tuple of str
        What was guessed or read as missing, for those who use the column.
    """

    table: str
    name: str
    values: list[float | str | None]
    is_categorical: bool
    reason: str = ""
    fault: BlmmError | None = None
    mixture: str = ""
    unlisted: tuple[int, ...] = ()
    mismatch: str = ""
    suspects: Mapping[int, tuple[str, str]] = field(default_factory=dict)
    notices: tuple[str, ...] = ()

    @property
    def qualified(self) -> str:
        """Name with the table's before it."""
        return f"{self.table}.{self.name}"


def join_tables(
    tables: Sequence[Table], images: Sequence[BidsFile], rules: WordRules | None = None
) -> tuple[list[Column], list[str]]:
    """Give each image the values of the lines that belong to it.

    Parameters
    ----------
    tables : sequence of Table
    images : sequence of BidsFile
    rules : WordRules, optional
        Which words the user says are missing values.

    Returns
    -------
    columns : list of Column
        Those with a fault keep their place, without being usable.
    unread : list of str
        Tables that could not be read, and why.
    """
    columns: list[Column] = []
    unread: list[str] = []
    for table in tables:
        faults, reason = _faults(table, images)
        if reason:
            unread.append(reason)
        matches = _matches(table, images)
        unlisted = tuple(image for image, rows in enumerate(matches) if not rows)
        mismatch = _mismatch(table, images) if unlisted else ""
        where = [row.where for row in table.rows]
        for name in dict.fromkeys([*table.columns, *faults]):
            if name in faults:
                columns.append(
                    Column(table.name, name, [None] * len(images), is_categorical=False, fault=faults[name])
                )
                continue
            cells = Cells(table.name, name, [row.values.get(name) for row in table.rows], where)
            typed = read_values(cells, table.about.get(name, Description()), rules or WordRules())
            column = Column(
                table.name, name, [None] * len(images), typed.is_categorical,
                reason=typed.reason, mixture=typed.mixture, unlisted=unlisted, mismatch=mismatch,
                notices=(*table.notices, *typed.notices),
            )  # fmt: skip
            columns.append(_joined(column, table, typed, matches, images))
    return columns, unread


def _faults(table: Table, images: Sequence[BidsFile]) -> tuple[dict[str, BlmmError], str]:
    """Columns that a file which could not be read may have, and what to say of such files."""
    concerned = [fault for fault in table.faults if _concerns(fault, images)]
    faults: dict[str, BlmmError] = {}
    for fault in concerned:
        for name in (*fault.columns, *(table.columns if fault.is_whole else ())):
            faults.setdefault(name, fault.error)
    whole = [fault for fault in concerned if fault.is_whole]
    if not whole:
        return faults, ""
    more = f"; and {len(whole) - 1} files more" if len(whole) > 1 else ""
    return faults, f"'{table.name}' ({str(whole[0].error).removesuffix('.')}{more})"


def _concerns(fault: Fault, images: Sequence[BidsFile]) -> bool:
    return any(
        all(image.entities.get(name, label) == label for name, label in fault.entities.items())
        for image in images
    )


def _mismatch(table: Table, images: Sequence[BidsFile]) -> str:
    """Say so where the table's labels are none of the images'."""
    for entity in ("subject", "session"):
        theirs = sorted({row.entities[entity] for row in table.rows if entity in row.entities})
        ours = sorted({image.entities[entity] for image in images if entity in image.entities})
        if theirs and ours and not set(theirs) & set(ours):
            return (
                f"its {entity}s are {', '.join(theirs[:_SHOWN])}, those of the images "
                f"{', '.join(ours[:_SHOWN])}: labels are text, '1' is not '01'"
            )
    return ""


def _matches(table: Table, images: Sequence[BidsFile]) -> list[list[int]]:
    """Rows of the table that belong to each image, found by subject and session first."""
    rows_of: dict[str | None, dict[str | None, list[int]]] = defaultdict(lambda: defaultdict(list))
    for index, row in enumerate(table.rows):
        rows_of[row.entities.get("subject")][row.entities.get("session")].append(index)
    found: list[list[int]] = []
    for image in images:
        session = image.entities.get("session")
        candidates: list[int] = []
        for subject in (image.entities.get("subject"), None):
            by_session = rows_of.get(subject, {})
            sessions = by_session if session is None else (session, None)
            for each in sessions:
                candidates += by_session.get(each, [])
        found.append([index for index in candidates if _belongs(table.rows[index], image)])
    return found


def _belongs(row: Row, image: BidsFile) -> bool:
    if row.is_scan:
        if image.datatype is not None and row.datatype not in {None, image.datatype}:
            return False
        # An anatomical scan is no source of a task's map.
        if "task" in image.entities and "task" not in row.entities:
            return False
    return all(image.entities.get(name, label) == label for name, label in row.entities.items())


def _joined(
    column: Column,
    table: Table,
    typed: Values,
    matches: Sequence[Sequence[int]],
    images: Sequence[BidsFile],
) -> Column:
    suspects: dict[int, tuple[str, str]] = {}
    n_earliest = 0
    for image, rows in enumerate(matches):
        filled = [index for index in rows if typed.values[index] is not None]
        if filled:
            value = typed.values[filled[0]]
            other = next((index for index in filled if typed.values[index] != value), None)
            if other is not None and typed.reason == "dates":
                value = _earliest([str(typed.values[index]) for index in filled])
                n_earliest += value is not None
            if other is not None and (value is None or typed.reason != "dates"):
                error = DataError(_conflict(column.name, table, typed, (filled[0], other), images[image]))
                return replace(column, fault=error)
            column.values[image] = value
        doubtful = next((index for index in filled or rows if index in typed.suspects), None)
        if doubtful is not None:
            suspects[image] = typed.suspects[doubtful]
    notices = column.notices
    if n_earliest:
        notices += (
            f"'{column.name}' in {table.name}: {n_earliest} images have several times of one day, of which "
            "the earliest is taken",
        )
    return replace(column, suspects=suspects, notices=notices)


def _earliest(moments: Sequence[str]) -> str | None:
    """First of the moments of one day, as of a session's runs; None where they are of several days."""
    return min(moments) if len({moment[:_DAY] for moment in moments}) == 1 else None


def _conflict(name: str, table: Table, typed: Values, rows: tuple[int, int], image: BidsFile) -> str:
    """Say which lines disagree on an image, and what would tell them apart."""
    first, other = (table.rows[index] for index in rows)
    values = [typed.values[index] for index in rows]
    msg = (
        f"'{name}' has two values for {image.name}: {values[0]} ({first.where}) and {values[1]} "
        f"({other.where})"
    )
    session = image.entities.get("session")
    if first.is_scan or "subject" not in first.entities:
        return msg
    if first.entities.get("session") != other.entities.get("session") and session is None:
        return (
            f"{msg}. They are about sessions {first.entities.get('session')} and "
            f"{other.entities.get('session')}, and the image's name has no session: give a table with the "
            "line that is meant, --participants-tsv FILE, or images of one session each"
        )
    if first.where.rpartition(",")[0] != other.where.rpartition(",")[0]:
        return f"{msg}. Correct one of the files"
    if not table.telling:
        return f"{msg}. Correct the one that is wrong"
    column = table.telling[0]
    advice = (
        f"write the images' session labels into a column 'session_id' beside '{column}', which tells such "
        "lines apart"
        if session is not None
        else f"give a table with a line a participant instead (the lines differ in '{column}')"
    )
    return f"{msg}. If both are right, {advice}; else correct the one that is wrong"


def participants_of(tables: Iterable[Table]) -> tuple[str, ...]:
    """Labels of all participants in participants.tsv, sorted."""
    rows = (row for table in tables if table.name == "participants" for row in table.rows)
    return tuple(sorted({row.entities["subject"] for row in rows if "subject" in row.entities}))
