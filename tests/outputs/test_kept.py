"""Memory that is used again."""

from __future__ import annotations

import numpy as np

from blmm_bids.outputs.kept import KeptMatrix


def test_rows__are_in_the_place_of_those_before():
    kept = KeptMatrix()
    first = kept.rows(3, 4, "float32")
    assert (first.shape, first.dtype, first.flags.c_contiguous) == ((3, 4), np.float32, True)
    smaller, wider = kept.rows(2, 3, "float64"), kept.rows(4, 3, "float32")
    assert np.shares_memory(first, smaller)
    assert np.shares_memory(first, wider)
    larger = kept.rows(5, 4, "float64")
    assert not np.shares_memory(first, larger)
    assert kept.rows(0, 4, "float32").shape == (0, 4)
    assert np.shares_memory(larger, kept.rows(5, 4, "float64"))
