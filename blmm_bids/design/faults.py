"""What is known of columns besides their values: origins, and faults, refused only where they are used."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd

from blmm_bids.design.columns import did_you_mean
from blmm_bids.errors import BlmmError, DataError, ModelSpecError

_SHOWN = 3


@dataclass(frozen=True)
class Origin:
    """Where a column comes from: its table (empty for entities), and why it has its type."""

    table: str
    reason: str


@dataclass(frozen=True)
class TableFaults:
    """Facts and faults by column, under every name that the model may use for it.

    Attributes
    ----------
    mixed : mapping of str to str
        Columns that are no covariate as they are, undeclared -> what they hold: numbers and text, text that
        looks like numbers, dates.
    unlisted : mapping of str to collection of int
        Columns -> rows of the table that no line of the column's own file is about.
    images : sequence of str
        Name of each row's image.
    mismatches : mapping of str to str
        Columns -> which labels their file has, where it has none of the images'.
    suspects : mapping of str to mapping of int to (str, str)
        Columns -> rows whose value looks like a missing one -> the word, and what to say of it.
    unusable : mapping of str to BlmmError
        Columns that could not be read or joined, and are no columns of the table -> why.
    unread : sequence of str
        Tables that could not be read, and why.
    origins : mapping of str to Origin
        Where columns come from.
    notices : mapping of str to sequence of str
        Columns -> what was guessed of them or read as missing.
    """

    mixed: Mapping[str, str] = field(default_factory=dict)
    unlisted: Mapping[str, Collection[int]] = field(default_factory=dict)
    images: Sequence[str] = ()
    mismatches: Mapping[str, str] = field(default_factory=dict)
    suspects: Mapping[str, Mapping[int, tuple[str, str]]] = field(default_factory=dict)
    unusable: Mapping[str, BlmmError] = field(default_factory=dict)
    unread: Sequence[str] = ()
    origins: Mapping[str, Origin] = field(default_factory=dict)
    notices: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def refuse_unusable(self, names: Iterable[str], known: Collection[str]) -> None:
        """Refuse columns that could not be read or joined.

        Parameters
        ----------
        names : iterable of str
            What the model, or a transformation, reads.
        known : collection of str
            Names that stand for a column, or for several.

        Raises
        ------
        BlmmError
            What was wrong with the table.
        """
        for name in names:
            if name not in known and name in self.unusable:
                error = self.unusable[name]
                msg = f"the model uses '{name}': {error}"
                raise type(error)(msg) from error

    def refuse_absent(self, names: Iterable[str], known: Collection[str]) -> None:
        """Refuse names that no table has, where one could not be read and may have them.

        Raises
        ------
        ModelSpecError
            Names the tables that could not be read.
        """
        absent = [name for name in names if name not in known]
        if absent and self.unread:
            hint = did_you_mean(absent[0], known)
            msg = (
                f"the model uses '{absent[0]}', absent from the tables that could be read{hint}. Not "
                f"read: {'; '.join(self.unread)}"
            )
            raise ModelSpecError(msg)

    def refuse_suspects(
        self,
        names: Iterable[str],
        table: pd.DataFrame,
        rows: Collection[int],
        replaced: Mapping[str, Collection[str]],
    ) -> None:
        """Refuse words that look like missing values, and that nobody said are values or not.

        Parameters
        ----------
        names : iterable of str
            Columns that the model, or a transformation, reads.
        table : DataFrame
            Before the transformations.
        rows : collection of int
            Those that are fitted. A number that is none for such a word is dropped, and is looked at too.
        replaced : mapping of str to collection of str
            Columns -> words that a transformation replaces.

        Raises
        ------
        DataError
            Names column, word, count, file and line, and what to do.
        """
        for name in names:
            found = self.suspects.get(name)
            if not found or name not in table.columns:
                continue
            dropped = table[name].isna().to_numpy()
            for row, (word, said) in found.items():
                if (row in rows or dropped[row]) and word not in replaced.get(name, ()):
                    raise DataError(said)

    def said_of(self, names: Iterable[str]) -> list[str]:
        """Say, once each, what was guessed of columns that are used, and which tables could not be read."""
        said = dict.fromkeys(text for name in names for text in self.notices.get(name, ()))
        if self.unread:
            said[f"could not be read, and no model uses them: {'; '.join(self.unread)}"] = None
        return list(said)

    def refuse_mixed(self, covariates: Iterable[str]) -> None:
        """Refuse numbers and text in one covariate: text among ages would make of each age a category.

        Raises
        ------
        DataError
            Names the column and its first text.
        """
        for name in covariates:
            if name in self.mixed:
                said = self.mixed[name].replace("{name}", name)
                msg = (
                    f"{said}, or declare a category: C({name}) in the formula, or 'Levels' in the table's "
                    "JSON file"
                )
                raise DataError(msg)

    def refuse_unlisted(self, names: Iterable[str], missing: Collection[int]) -> None:
        """Refuse images without a line in a table that the model needs; n/a in a line is another matter.

        Parameters
        ----------
        names : iterable of str
            Columns that the model, or a transformation, reads.
        missing : collection of int
            Rows that would be dropped for a missing value.

        Raises
        ------
        DataError
            Names the column and the images.
        """
        for name in names:
            rows = sorted(set(self.unlisted.get(name, ())) & set(missing))
            if rows:
                shown = ", ".join(self.images[row] for row in rows[:_SHOWN])
                more = f" and {len(rows) - _SHOWN} more" if len(rows) > _SHOWN else ""
                mismatch = f" ({self.mismatches[name]})" if name in self.mismatches else ""
                msg = (
                    f"the model needs '{name}', and the table that has it has no line for {len(rows)} of "
                    f"{len(self.images)} images: {shown}{more}{mismatch}. Add the lines (n/a "
                    "where the value is not known: such images are dropped), or leave the images out with a "
                    "filter or --exclude-participant-label"
                )
                raise DataError(msg)
