"""Columns of the observation table as the model sees them: numbers, or labels with sorted levels."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.api import types as pdt

from blmm_bids.errors import DataError, ModelSpecError, UnknownVariableError

REFERENCE = "reference"
"""Key in a column's ``attrs``: the level that stands first, wherever the column's labels are coded."""

_KEY_ENTITIES = {
    **dict.fromkeys(("participant", "participants", "sub", "subj", "subject", "subjects"), "subject"),
    **dict.fromkeys(("ses", "sess", "session", "sessions"), "session"),
    "run": "run",
    "task": "task",
    "acq": "acquisition",
}


def label(value: object) -> str:
    """Write a value as a level's label; 1.0 is ``"1"``, since a gap turns integers into floats."""
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        return str(int(value))
    return str(value)


def is_categorical(column: pd.Series) -> bool:
    """Whether a column holds labels rather than numbers."""
    return not pdt.is_numeric_dtype(column.dtype)


def numeric_values(column: pd.Series, name: str) -> pd.Series:
    """Return a numeric column as float64, missing and infinite values as NaN.

    Raises
    ------
    DataError
        Complex numbers.
    """
    if pdt.is_complex_dtype(column.dtype):
        msg = f"column '{name}' holds complex numbers; covariates are real"
        raise DataError(msg)
    values = column.to_numpy(dtype=np.float64, na_value=np.nan)
    return pd.Series(np.where(np.isfinite(values), values, np.nan), index=column.index, name=name)


def categorical_values(column: pd.Series) -> pd.Series:
    """Return labels as a Categorical: levels that occur, alphabetical, or by size where they are numbers.

    A level that the column's ``attrs`` name as `REFERENCE` comes before the others.
    """
    present = column.dropna()
    is_number = pdt.is_numeric_dtype(column.dtype)
    levels = sorted(present.unique(), key=float if is_number else str)
    labels = list(dict.fromkeys(label(level) for level in levels))
    if (reference := column.attrs.get(REFERENCE)) in labels:
        labels = [reference, *(name for name in labels if name != reference)]
    as_text = column.map(label, na_action="ignore").astype(object)
    coded = pd.Series(pd.Categorical(as_text, categories=labels), index=column.index, name=column.name)
    coded.attrs.update(column.attrs)
    return coded


def model_values(column: pd.Series, name: str) -> pd.Series:
    """Return a column as float64 or as a Categorical without unused levels."""
    return categorical_values(column) if is_categorical(column) else numeric_values(column, name)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'age'?"``, or nothing where no known name is near."""
    candidates = list(known)
    near = difflib.get_close_matches(name, candidates, n=1)
    if not near:
        folded = {candidate.casefold(): candidate for candidate in candidates}
        near = [folded[key] for key in difflib.get_close_matches(name.casefold(), list(folded), n=1)]
    return f"; did you mean '{near[0]}'?" if near else ""


def enumerate_names(names: Sequence[str], limit: int = 12) -> str:
    """Join names for a message, the first few of many."""
    shown = ", ".join(names[:limit])
    return f"{shown}, … ({len(names)} in all)" if len(names) > limit else shown or "none"


class Variables(Mapping[str, pd.Series]):
    """The columns of a table by name, with errors that say what there is.

    Parameters
    ----------
    table : DataFrame
        One row an observation.
    ambiguous : mapping of str to tuple of str
        Names found in several tables, to their qualified names.
    references : mapping of str to str, optional
        Columns to the level that comes first in each.
    """

    def __init__(
        self,
        table: pd.DataFrame,
        ambiguous: Mapping[str, tuple[str, ...]],
        references: Mapping[str, str] | None = None,
    ) -> None:
        self._table = table.reset_index(drop=True)
        self._ambiguous = ambiguous
        self._references = references or {}
        self._values: dict[str, pd.Series] = {}

    def __getitem__(self, name: str) -> pd.Series:
        """Return a column of `model_values`.

        Raises
        ------
        ModelSpecError
            A name that is in no table, or in several.
        """
        if name not in self._values:
            self.require(name)
            values = model_values(self._table[name], name)
            if name in self._references:
                values.attrs[REFERENCE] = self._references[name]
                values = categorical_values(values) if is_categorical(values) else values
            self._values[name] = values
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names."""
        return iter(self._table.columns)

    def __contains__(self, name: object) -> bool:
        """Whether a name stands for one column."""
        return name in self._table.columns

    def __len__(self) -> int:
        """Count the columns."""
        return len(self._table.columns)

    @property
    def n_obs(self) -> int:
        """Number of rows."""
        return len(self._table)

    def require(self, name: str, where: str = "formula") -> None:
        """Check that a name stands for one column.

        Parameters
        ----------
        name : str
            Column name as the user wrote it.
        where : str
            What uses it, for the message.

        Raises
        ------
        ModelSpecError
            A name that is in no table, or in several.
        """
        if name in self._table.columns:
            return
        if qualified := self._ambiguous.get(name):
            msg = f"{where} uses '{name}', which several tables have; write {' or '.join(qualified)}"
            raise ModelSpecError(msg)
        names = [str(column) for column in self._table.columns]
        msg = f"{where} uses '{name}', absent from the tables (has {enumerate_names(names)})"
        entity = _entity_of_key(name)
        hint = f"; write '{entity}'" if entity in names else did_you_mean(name, [*names, *self._ambiguous])
        raise UnknownVariableError(msg + hint, name)


def _entity_of_key(name: str) -> str | None:
    """Name the entity that a key column or its short form stands for: ``participant_id`` is ``subject``."""
    bare = name.casefold().rpartition(".")[2].replace("_", "").removesuffix("label").removesuffix("id")
    return _KEY_ENTITIES.get(bare)


def group_codes(columns: Sequence[pd.Series]) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Give a number to each combination of some columns' values that occurs.

    Parameters
    ----------
    columns : sequence of Series
        Columns without missing values; numbers are labels here.

    Returns
    -------
    refs : (obs,) int64
        Index into the levels for each observation.
    levels : tuple of str
        Labels joined by ``:``, sorted column by column alphabetically.
    """
    codes: list[NDArray[np.int64]] = []
    labels: list[list[str]] = []
    for column in columns:
        text = column.map(label).astype(str).to_numpy(dtype=object)
        found, index = np.unique(text.astype(str), return_inverse=True)
        codes.append(index.astype(np.int64).ravel())
        labels.append([str(name) for name in found])
    rows, refs = np.unique(np.column_stack(codes), axis=0, return_inverse=True)
    levels = tuple(":".join(names[code] for names, code in zip(labels, row, strict=True)) for row in rows)
    return refs.astype(np.int64).ravel(), levels
