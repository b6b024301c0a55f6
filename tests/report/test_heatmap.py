"""The picture of a design is its matrix."""

from __future__ import annotations

import numpy as np
import pytest

from blmm_bids.report.heatmap import MAX_ROWS, heatmap


def test_heatmap__merges_equal_neighbours_and_leaves_zeros_out():
    picture = heatmap(np.array([[1.0, 0], [1, -2], [1, 4]]), ("a", "b"))
    assert [(cell.x, cell.is_negative, cell.shade) for cell in picture.cells] == [
        (0, False, 1.0),
        (picture.cell_width, True, 0.5),
        (picture.cell_width, False, 1.0),
    ]
    assert picture.cells[0].height == picture.height
    assert [name for _, name in picture.columns] == ["a", "b"]


def test_heatmap__names_have_room_and_long_ones_are_cut():
    picture = heatmap(np.eye(2), ("Intercept", "x" * 300))
    assert picture.columns[1][1].endswith("…")
    assert picture.width < picture.width + picture.right < 600
    wide = heatmap(np.eye(40), [f"c{number}" for number in range(40)])
    assert wide.cell_width < picture.cell_width


@pytest.mark.parametrize("n_rows", [1, MAX_ROWS, MAX_ROWS + 1, 10 * MAX_ROWS + 7])
def test_heatmap__stays_small_however_many_images(n_rows):
    rng = np.random.default_rng(1)
    picture = heatmap(rng.normal(size=(n_rows, 3)), ("a", "b", "c"))
    assert len(picture.cells) <= 3 * MAX_ROWS
    assert picture.rows_per_bin == -(-n_rows // MAX_ROWS)
    assert max(cell.y + cell.height for cell in picture.cells) <= picture.height + 0.1
