"""What is wrong with columns of the table, refused only where the model uses them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from blmm_bids.errors import DataError

_SHOWN = 3


@dataclass(frozen=True)
class TableFaults:
    """Faults by column, under every name that the model may use for it.

    Attributes
    ----------
    mixed : mapping of str to str
        Columns of numbers and text, undeclared -> what they hold.
    unlisted : mapping of str to collection of int
        Columns -> rows of the table that no line of the column's own file is about.
    images : sequence of str
        Name of each row's image.
    """

    mixed: Mapping[str, str] = field(default_factory=dict)
    unlisted: Mapping[str, Collection[int]] = field(default_factory=dict)
    images: Sequence[str] = ()

    def refuse_mixed(self, covariates: Iterable[str]) -> None:
        """Refuse numbers and text in one covariate: text among ages would make of each age a category.

        Raises
        ------
        DataError
            Names the column and its first text.
        """
        for name in covariates:
            if name in self.mixed:
                msg = (
                    f"{self.mixed[name]}, correct it, or declare a category: C({name}) in the formula, or "
                    "'Levels' in the table's JSON file"
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
                msg = (
                    f"the model needs '{name}', and the table that has it has no line for {len(rows)} of "
                    f"{len(self.images)} images: {shown}{more}. Add the lines (n/a where the value is not "
                    "known: such images are dropped), or leave the images out with a filter or "
                    "--exclude-participant-label"
                )
                raise DataError(msg)
