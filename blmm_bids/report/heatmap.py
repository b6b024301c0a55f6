"""A design matrix as rectangles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from blmm_bids.stats.model import FloatArray

MAX_ROWS = 150
_LEAST_WIDTH, _MOST_WIDTH, _ROOM = 28, 70, 330
# Room that a slanted letter takes along either axis, and letters of a name that is not cut.
_LETTER, _MAX_LETTERS = 5.3, 28
_HEIGHT = 300
_N_SHADES = 20


@dataclass(frozen=True)
class Cell:
    """One rectangle: place, sign of the value, and shade between 0 and 1."""

    x: float
    y: float
    height: float
    is_negative: bool
    shade: float


@dataclass(frozen=True)
class Heatmap:
    """Rectangles of a design matrix, in the units of an SVG's view box.

    Attributes
    ----------
    width, height : float
        Of the cells together.
    right, below : float
        Room for the names beside and below the cells.
    cell_width : float
        Of one column.
    columns : tuple of (float, str)
        Middle of each column, and its name.
    cells : tuple of Cell
        Neighbours in a column with the same shade are one cell; zeros have none.
    rows_per_bin : int
        Images that one line of the picture stands for.
    """

    width: float
    height: float
    right: float
    below: float
    cell_width: float
    columns: tuple[tuple[float, str], ...]
    cells: tuple[Cell, ...]
    rows_per_bin: int


def heatmap(matrix: FloatArray, names: Sequence[str]) -> Heatmap:
    """Lay out a design matrix, each column scaled to its largest absolute value.

    Parameters
    ----------
    matrix : (obs, fixef)
        Design matrix; more than `MAX_ROWS` rows are averaged in bins.
    names : sequence of str
        Its columns.
    """
    rows_per_bin = max(1, -(-len(matrix) // MAX_ROWS))
    starts = np.arange(0, len(matrix), rows_per_bin)
    sizes = np.diff(np.append(starts, len(matrix)))
    binned = np.add.reduceat(matrix, starts, axis=0) / sizes[:, None]
    largest = np.abs(binned).max(axis=0, initial=0)
    shades = np.rint(_N_SHADES * binned / np.where(largest > 0, largest, 1)) / _N_SHADES
    row_height = _HEIGHT / max(len(binned), 1)
    cell_width = round(min(max(_ROOM / len(names), _LEAST_WIDTH), _MOST_WIDTH), 1)
    shown = [name if len(name) <= _MAX_LETTERS else f"{name[: _MAX_LETTERS - 1]}…" for name in names]
    cells = tuple(
        cell
        for column in range(len(names))
        for cell in _column_cells(shades[:, column], column * cell_width, row_height)
    )
    columns = tuple(((column + 0.5) * cell_width, name) for column, name in enumerate(shown))
    width = len(names) * cell_width
    right = max(max(middle + _LETTER * len(name) for middle, name in columns) - width, 0) + 8
    below = _LETTER * max(map(len, shown)) + 20
    return Heatmap(width, _HEIGHT, right, below, cell_width, columns, cells, rows_per_bin)


def _column_cells(shades: FloatArray, x: float, row_height: float) -> list[Cell]:
    edges = np.flatnonzero(np.diff(shades)) + 1
    starts, ends = [0, *edges.tolist()], [*edges.tolist(), len(shades)]
    return [
        Cell(x, round(start * row_height, 2), round((end - start) * row_height, 2), shade < 0, abs(shade))
        for start, end in zip(starts, ends, strict=True)
        if (shade := float(shades[start])) != 0
    ]
