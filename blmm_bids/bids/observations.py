"""The observation table: one row an image, with its covariates, masks and reasons for what is left out."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import pandas as pd

from blmm_bids.bids.names import entity_rank, long_name
from blmm_bids.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from blmm_bids.errors import BlmmError

# Set by whoever names an output, or by where a file lies: never part of a stem because inputs share them.
_SHOWN: Final = 12
# FitLins, too, takes these as constant where no name has them.
_OPTIONAL: Final = frozenset({"run", "session"})
_NOT_IN_STEM: Final = frozenset({"contrast", "param", "stat", "desc", "node"})


@dataclass(frozen=True)
class ColumnFacts:
    """Where a column comes from, and what there is to say of it.

    Attributes
    ----------
    table : str
        Its table's name; empty for entities.
    reason : str
        Why it has its type: ``numbers``, ``text``, ``dates``, ``Levels in participants.json``, …
    notices : tuple of str
        For those who use it: what was guessed, which words were read as missing.
    mismatch : str
        Which labels the table has, where it has none of the images'.
    suspects : mapping
        Images whose value looks like a missing one -> the word, and what to say of it.
    """

    table: str = ""
    reason: str = "entity of the images"
    notices: tuple[str, ...] = ()
    mismatch: str = ""
    suspects: Mapping[Any, tuple[str, str]] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Observations:
    """All images of an analysis.

    Attributes
    ----------
    table : DataFrame
        One row an image, RangeIndex. Entities (long names) and text columns are Categorical with
        alphabetical categories that all occur; other columns are float64. Absent is NaN.
    paths : tuple of Path
        Image of each row.
    masks : tuple of tuple of Path
        Masks of each row; several are to be intersected, an empty tuple means that none was found.
    dropped : DataFrame
        Columns ``path`` and ``reason``: images that are not used.
    entities : tuple of str
        Those columns of `table` that are entities.
    ambiguous : mapping of str to tuple of str
        A column name that several tables have -> its qualified names (``sessions.age``,
        ``participants.age``), which are columns of `table`; the bare name is absent.
    qualified : mapping of str to str
        Every qualified name (``participants.age``) -> the column of `table` that holds it, which is
        the bare name where that is unambiguous.
    unusable : mapping of str to BlmmError
        Columns that could not be read or joined -> why; they are absent from `table`.
    unread : tuple of str
        Tables that could not be read, and why.
    mixed : mapping of str to str
        Columns of numbers and text, of text that looks like numbers or of dates, undeclared -> what they
        hold; qualified names too.
    unlisted : mapping of str to frozenset of Path
        Columns -> images that no line of their table is about; qualified names too.
    facts : mapping of str to ColumnFacts
        Where each column comes from and what there is to say of it; qualified names too.
    levels : mapping of str to tuple of str
        Categorical columns -> categories.
    sources : mapping of str to Path
        Name -> root directory of each dataset used; ``""`` is BIDS_DIR.
    without_images : tuple of str
        Participants (``sub-01``) of participants.tsv that have no image.
    warnings : tuple of str
    """

    table: pd.DataFrame
    paths: tuple[Path, ...]
    masks: tuple[tuple[Path, ...], ...]
    dropped: pd.DataFrame
    entities: tuple[str, ...] = ()
    ambiguous: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    qualified: Mapping[str, str] = field(default_factory=dict)
    unusable: Mapping[str, BlmmError] = field(default_factory=dict)
    unread: tuple[str, ...] = ()
    mixed: Mapping[str, str] = field(default_factory=dict)
    unlisted: Mapping[str, frozenset[Path]] = field(default_factory=dict)
    facts: Mapping[str, ColumnFacts] = field(default_factory=dict)
    levels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    sources: Mapping[str, Path] = field(default_factory=dict)
    without_images: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check that every row has its image and its masks."""
        n_rows = len(self.table)
        for name, values in (("paths", self.paths), ("masks", self.masks)):
            if len(values) != n_rows:
                msg = f"`table` has {n_rows} rows, `{name}` has {len(values)}"
                raise ValueError(msg)

    def __len__(self) -> int:
        """Count the images."""
        return len(self.paths)

    @property
    def constant_entities(self) -> dict[str, str]:
        """Entities that all images share, in BIDS order, for the stem of outputs."""
        constant = {}
        for name in sorted(self.entities, key=entity_rank):
            labels = self.levels.get(name, ())
            if name not in _NOT_IN_STEM and len(labels) == 1 and bool(self.table[name].notna().all()):
                constant[name] = labels[0]
        return constant

    def column_of(self, name: str) -> str | None:
        """Column of `table` that a bare or qualified name (``participants.age``) stands for."""
        if name in self.table.columns:
            return name
        return self.qualified.get(name)

    def labels(self, name: str) -> list[str | None]:
        """Values of a column as labels, 1.0 as ``1``; None where missing."""
        return [
            None
            if pd.isna(value)
            else str(int(value))
            if isinstance(value, float) and value.is_integer()
            else str(value)
            for value in self.table[name].astype(object)
        ]

    def take(self, rows: Sequence[int]) -> Observations:
        """Keep some rows, in the order given; categories that are left without a row go."""
        chosen = list(rows)
        table = self.table.iloc[chosen].reset_index(drop=True)
        for name in self.levels:
            table[name] = table[name].cat.remove_unused_categories()
        return replace(
            self,
            table=table,
            paths=tuple(self.paths[row] for row in chosen),
            masks=tuple(self.masks[row] for row in chosen),
            levels={name: tuple(table[name].cat.categories) for name in self.levels},
        )

    def drop(self, rows: Sequence[int], reason: str) -> Observations:
        """Leave out some rows and note the reason."""
        unwanted = set(rows)
        kept = self.take([row for row in range(len(self)) if row not in unwanted])
        noted = pd.DataFrame(
            {"path": [str(self.paths[row]) for row in sorted(unwanted)], "reason": reason}, dtype=object
        )
        return replace(kept, dropped=pd.concat([self.dropped, noted], ignore_index=True))


def group_observations(
    observations: Observations, group_by: Sequence[str]
) -> list[tuple[dict[str, str], Observations]]:
    """Split by the labels of the variables in GroupBy.

    Parameters
    ----------
    observations : Observations
    group_by : sequence of str
        Entities, by long or short name, or columns of tables; none gives a single group without labels.

    Returns
    -------
    list of (dict of str to str, Observations)
        Labels of each group and its images, sorted by the labels. Images without a value of a column are in
        no group: they are noted as dropped.

    Raises
    ------
    DataError
        A name is neither an entity nor a column, some images lack the entity, or a column has a word that
        looks like a missing value.
    """
    columns: dict[str, list[str | None]] = {}
    constant: list[str] = []
    for given in group_by:
        name = _group_column(observations, given)
        if name is None:
            constant.append(given)
        else:
            columns[name] = observations.labels(name)
    if constant:
        warning = (
            f"GroupBy names {' and '.join(constant)}, which no image has: read as one {constant[0]} for all"
        )
        observations = replace(observations, warnings=(*observations.warnings, warning))
    for name, labels in columns.items():
        missing = [row for row, label in enumerate(labels) if label is None]
        if missing:
            reason = f"{name}, which GroupBy names, is missing"
            kept = observations.drop(missing, reason)
            warning = f"{len(missing)} of {len(observations)} images are in no fit: {reason} for them"
            return group_observations(replace(kept, warnings=(*kept.warnings, warning)), group_by)
    if not columns:
        return [({}, observations)]
    rows_of: dict[tuple[str, ...], list[int]] = {}
    for row, values in enumerate(zip(*columns.values(), strict=True)):
        rows_of.setdefault(tuple(str(value) for value in values), []).append(row)
    return [
        (dict(zip(columns, labels, strict=True)), observations.take(rows_of[labels]))
        for labels in sorted(rows_of)
    ]


def _group_column(observations: Observations, given: str) -> str | None:
    """Column of a name in GroupBy; None for a run or session that no image has."""
    name = long_name(given)
    if name in observations.entities:
        absent = observations.table[name].isna()
        if absent.any():
            first = observations.paths[int(absent.to_numpy().argmax())]
            msg = (
                f"GroupBy names '{name}', which {int(absent.sum())} of {len(observations)} images lack, "
                f'the first being {first}. Leave these out with a filter ("{name}": "*" in Input).'
            )
            raise DataError(msg)
        return name
    column = observations.column_of(given)
    if column is not None:
        suspects = observations.facts[column].suspects if column in observations.facts else {}
        for path in observations.paths:
            if path in suspects:
                raise DataError(suspects[path][1])
        return column
    if name in _OPTIONAL:
        return None
    if given in observations.ambiguous:
        choice = " or ".join(observations.ambiguous[given])
        msg = f"GroupBy names '{given}', which several tables have; write {choice}."
        raise DataError(msg)
    if given in observations.unusable:
        msg = f"GroupBy names '{given}', which cannot be a variable: {observations.unusable[given]}"
        raise DataError(msg)
    columns = [str(each) for each in observations.table.columns if each not in observations.entities]
    msg = (
        f"GroupBy names '{given}', but the images have no such entity "
        f"(they have {', '.join(observations.entities)}), and the tables no such column "
        f"(they have {', '.join(columns[:_SHOWN]) or 'none'}). Remove it or correct the name."
    )
    near = [each for each in (*observations.entities, *columns) if each.casefold() == given.casefold()]
    if near:
        msg += f" Did you mean '{near[0]}'?"
    raise DataError(msg)
