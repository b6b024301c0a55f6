"""The table of observations: entities and joined columns with their names and types settled."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from blmm_bids.bids.names import entity_rank
from blmm_bids.bids.observations import ColumnFacts, Observations

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from blmm_bids.bids.join import Column
    from blmm_bids.bids.layout import BidsFile
    from blmm_bids.errors import BlmmError

    Values = pd.Series[float] | pd.Series[str]


@dataclass(frozen=True, eq=False)
class Frame:
    """Fields as in `Observations`."""

    table: pd.DataFrame
    entities: tuple[str, ...]
    ambiguous: Mapping[str, tuple[str, ...]]
    qualified: Mapping[str, str]
    unusable: Mapping[str, BlmmError]
    mixed: Mapping[str, str]
    unlisted: Mapping[str, tuple[int, ...]]
    levels: Mapping[str, tuple[str, ...]]
    facts: Mapping[str, ColumnFacts]
    warnings: tuple[str, ...]


def build_frame(images: Sequence[BidsFile], columns: Sequence[Column], preferred: str = "") -> Frame:
    """Put entities and columns side by side.

    Entities keep their bare name. A column has it too where no entity and no other table claims it,
    else its qualified name alone.

    Parameters
    ----------
    images : sequence of BidsFile
        One a row.
    columns : sequence of Column
        With a value per image.
    preferred : str
        A table whose columns keep their bare name whatever other tables have.
    """
    entities = tuple(sorted({name for image in images for name in image.entities}, key=entity_rank))
    data: dict[str, Values] = {
        name: _categorical([image.entities.get(name) for image in images]) for name in entities
    }
    owners: dict[str, list[Column]] = {}
    for column in columns:
        owners.setdefault(column.name, []).append(column)
    ambiguous: dict[str, tuple[str, ...]] = {}
    qualified: dict[str, str] = {}
    unusable: dict[str, BlmmError] = {}
    mixed: dict[str, str] = {}
    unlisted: dict[str, tuple[int, ...]] = {}
    facts = {name: ColumnFacts() for name in entities}
    warnings: list[str] = []
    shadowed: list[str] = []
    for name, owned in owners.items():
        usable = [column for column in owned if column.fault is None]
        bare = next((column for column in owned if len(owned) == 1 or column.table == preferred), None)
        if name in entities:
            names = ", ".join(column.qualified for column in owned)
            warnings.append(f"'{name}' alone means the images' entity; the tables' column is {names}")
        elif bare is not None:
            shadowed += [column.qualified for column in owned if column is not bare]
        elif usable:
            ambiguous[name] = tuple(column.qualified for column in usable)
        for column in owned:
            key = name if column is bare and name not in entities else column.qualified
            if column.fault is not None:
                unusable[column.qualified] = unusable[key] = column.fault
            else:
                qualified[column.qualified] = key
                if column.mixture:
                    mixed[column.qualified] = mixed[key] = column.mixture
                if column.unlisted:
                    unlisted[column.qualified] = unlisted[key] = column.unlisted
                facts[column.qualified] = facts[key] = ColumnFacts(
                    column.table, column.reason, column.notices, column.mismatch, column.suspects
                )
                data[key] = _series(column)
    if shadowed:
        warnings.append(
            f"{len(shadowed)} column(s) of other tables have the name of one of the table of images, which "
            f"is the one meant; the others are {', '.join(shadowed)}"
        )
    table = pd.DataFrame(data, index=pd.RangeIndex(len(images)))
    levels = {
        str(name): tuple(series.cat.categories)
        for name, series in table.items()
        if isinstance(series.dtype, pd.CategoricalDtype)
    }
    return Frame(
        table, entities, ambiguous, qualified, unusable, mixed, unlisted, levels, facts, tuple(warnings)
    )


def observations_of(
    frame: Frame,
    paths: tuple[Path, ...],
    masks: tuple[tuple[Path, ...], ...],
    dropped: pd.DataFrame,
    sources: Mapping[str, Path],
    unread: Sequence[str],
) -> Observations:
    """Put a frame and its images together; what is said by row is then said by image, for rows may leave.

    Parameters
    ----------
    frame : Frame
    paths, masks : tuple
        Image and masks of each row.
    dropped, sources, unread
        As in `Observations`.
    """
    return Observations(
        table=frame.table,
        paths=paths,
        masks=masks,
        dropped=dropped,
        entities=frame.entities,
        ambiguous=frame.ambiguous,
        qualified=frame.qualified,
        unusable=frame.unusable,
        unread=tuple(unread),
        mixed=frame.mixed,
        unlisted={name: frozenset(paths[row] for row in rows) for name, rows in frame.unlisted.items()},
        facts={
            name: replace(each, suspects={paths[row]: word for row, word in each.suspects.items()})
            for name, each in frame.facts.items()
        },
        levels=frame.levels,
        sources=sources,
        warnings=frame.warnings,
    )


def _series(column: Column) -> Values:
    if column.is_categorical:
        return _categorical(column.values)
    return pd.Series([np.nan if value is None else value for value in column.values], dtype=np.float64)


def _categorical(values: Sequence[float | str | None]) -> pd.Series[str]:
    categories = sorted({str(value) for value in values if value is not None})
    return pd.Series(pd.Categorical(list(values), categories=categories))
