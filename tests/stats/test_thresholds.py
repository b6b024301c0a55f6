"""Thresholds mean what they say, and wrong ones are refused with advice."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from blmm_bids.errors import UsageError
from blmm_bids.stats.thresholds import Threshold, parse_threshold


@pytest.mark.parametrize(
    ("text", "fdr", "wanted"),
    [
        (None, None, Threshold("p", 0.001, 10)),
        ("p<0.01", None, Threshold("p", 0.01, 10)),
        (" P < 1e-4 ", None, Threshold("p", 1e-4, 10)),
        ("z>3.1", None, Threshold("z", 3.1, 10)),
        ("q<.05", None, Threshold("q", 0.05, 10)),
        (None, 0.1, Threshold("q", 0.1, 10)),
    ],
)
def test_parse_threshold__reads(text, fdr, wanted):
    assert parse_threshold(text, fdr, 10) == wanted


@pytest.mark.parametrize(
    ("text", "fdr", "size", "word"),
    [
        ("p>0.01", None, 10, "p<0.001"),
        ("z<3", None, 10, "z>3.1"),
        ("t>3", None, 10, "wanted"),
        ("p<1e", None, 10, "wanted"),
        ("p<2", None, 10, "between 0 and 1"),
        ("z>0", None, 10, "above 0"),
        (None, 1.5, 10, "--fdr 1.5"),
        ("p<0.01", 0.05, 10, "two thresholds"),
        (None, None, 0, "1 voxel or more"),
    ],
)
def test_parse_threshold__refuses(text, fdr, size, word):
    with pytest.raises(UsageError, match=word):
        parse_threshold(text, fdr, size)


def test_lowest_z__is_two_sided_for_t_and_one_sided_for_f():
    z, q = np.array([-4.0, 1.0, 5.0]), np.array([0.01, 0.5, 0.001])
    assert Threshold("p", 0.001).lowest_z(z, q, "t") == pytest.approx(norm.isf(0.0005))
    assert Threshold("p", 0.001).lowest_z(z, q, "F") == pytest.approx(norm.isf(0.001))
    assert Threshold("z", 2.5).lowest_z(z, q, "t") == 2.5
    lowest = Threshold("q", 0.05).lowest_z(z, q, "t")
    assert (np.abs(z) > lowest).tolist() == [True, False, True]
    assert Threshold("q", 1e-6).lowest_z(z, q, "t") == np.inf
