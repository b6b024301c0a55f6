"""Joining tables to images.

A line of a table belongs to an image where all entities that both have are equal; where several lines
belong to one image, they must agree on a column's value.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from blmm_bids.bids.layout import BidsFile
    from blmm_bids.bids.tables import Row, Table

_NUMBER: Final = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


@dataclass(frozen=True)
class Column:
    """One column, a value per image (None where missing).

    Attributes
    ----------
    table, name : str
    values : list of (float or str or None)
    is_categorical : bool
    conflict : str
        Why the column cannot be used; empty if it can.
    mixture : str
        Which numbers and which text it has, where it has both without being declared; else empty.
    unlisted : tuple of int
        Images that no line of the table is about.
    """

    table: str
    name: str
    values: list[float | str | None]
    is_categorical: bool
    conflict: str = ""
    mixture: str = ""
    unlisted: tuple[int, ...] = ()

    @property
    def qualified(self) -> str:
        """Name with the table's before it."""
        return f"{self.table}.{self.name}"


def join_tables(tables: Sequence[Table], images: Sequence[BidsFile]) -> tuple[list[Column], list[str]]:
    """Give each image the values of the lines that belong to it.

    Parameters
    ----------
    tables : sequence of Table
    images : sequence of BidsFile

    Returns
    -------
    columns : list of Column
        Those with a conflict keep their place, without being usable.
    warnings : list of str
    """
    columns: list[Column] = []
    warnings: list[str] = []
    for table in tables:
        warnings.extend(table.warnings)
        matches = _matches(table, images)
        unlisted = tuple(image for image, rows in enumerate(matches) if not rows)
        for name in table.columns:
            typed, is_categorical, warning = _typed_values(table, name)
            if warning:
                warnings.append(warning)
            mixture = warning if is_categorical else ""
            column = Column(
                table.name, name, [None] * len(images), is_categorical, mixture=mixture, unlisted=unlisted
            )
            columns.append(_joined(column, table, typed, matches, images))
    return columns, warnings


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


def _typed_values(table: Table, name: str) -> tuple[list[float | str | None], bool, str]:
    """Values of a column, row by row; numbers unless the column holds text or has Levels."""
    texts = [row.values.get(name) for row in table.rows]
    if name in table.described:
        return list(texts), True, ""
    odd = [index for index, text in enumerate(texts) if text is not None and not _NUMBER.fullmatch(text)]
    if not odd:
        return [None if text is None else float(text) for text in texts], False, ""
    n_filled = sum(text is not None for text in texts)
    if len(odd) == n_filled:
        return list(texts), True, ""
    if all(texts[index] == "NA" for index in odd):
        numbers = [None if text in {None, "NA"} else float(text or "nan") for text in texts]
        return list(numbers), False, f"'{name}' in {table.name}: 'NA' read as missing (BIDS writes n/a)"
    first = odd[0]
    warning = (
        f"'{name}' in {table.name} is categorical, for {len(odd)} of {n_filled} values are no numbers, "
        f"the first being '{texts[first]}' ({table.rows[first].where}); write n/a where a value is missing"
    )
    return list(texts), True, warning


def _joined(
    column: Column,
    table: Table,
    typed: Sequence[float | str | None],
    matches: Sequence[Sequence[int]],
    images: Sequence[BidsFile],
) -> Column:
    if all(len(rows) <= 1 for rows in matches):
        return replace(column, values=[typed[rows[0]] if rows else None for rows in matches])
    for image, rows in enumerate(matches):
        filled = [index for index in rows if typed[index] is not None]
        if not filled:
            continue
        value = typed[filled[0]]
        other = next((index for index in filled if typed[index] != value), None)
        if other is not None:
            conflict = (
                f"'{column.name}' has two values for {images[image].name}: "
                f"{value} ({table.rows[filled[0]].where}) and {typed[other]} ({table.rows[other].where})"
            )
            return replace(column, conflict=conflict)
        column.values[image] = value
    return column


def participants_of(tables: Iterable[Table]) -> tuple[str, ...]:
    """Labels of all participants in participants.tsv, sorted."""
    rows = (row for table in tables if table.name == "participants" for row in table.rows)
    return tuple(sorted({row.entities["subject"] for row in rows if "subject" in row.entities}))
