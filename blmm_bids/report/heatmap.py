"""A design matrix as rectangles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from blmm_bids.stats.model import FloatArray

MAX_ROWS = 150
_CELL_WIDTH = 28
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
    cells = tuple(
        cell
        for column in range(len(names))
        for cell in _column_cells(shades[:, column], column * _CELL_WIDTH, row_height)
    )
    middles = tuple(((column + 0.5) * _CELL_WIDTH, name) for column, name in enumerate(names))
    return Heatmap(len(names) * _CELL_WIDTH, _HEIGHT, _CELL_WIDTH, middles, cells, rows_per_bin)


def _column_cells(shades: FloatArray, x: float, row_height: float) -> list[Cell]:
    edges = np.flatnonzero(np.diff(shades)) + 1
    starts, ends = [0, *edges.tolist()], [*edges.tolist(), len(shades)]
    return [
        Cell(x, round(start * row_height, 2), round((end - start) * row_height, 2), shade < 0, abs(shade))
        for start, end in zip(starts, ends, strict=True)
        if (shade := float(shades[start])) != 0
    ]
