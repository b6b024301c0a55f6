"""The summary says how the fits ended and what to make of it."""

from __future__ import annotations

import pytest

from blmm_bids.report.summary import advice, status_rows, troubles
from blmm_bids.stats.model import Status


@pytest.mark.parametrize(
    ("counts", "wanted"),
    [
        ({0: 10}, "ended well"),
        ({3: 10}, "No voxel was fitted"),
        ({}, "No voxel was fitted"),
        ({0: 4, 1: 6}, "60 % of the fitted voxels are singular"),
        ({0: 90, 2: 10}, "10.0 % of the fitted voxels stopped"),
    ],
)
def test_advice__says_what_to_make_of_the_statuses(counts, wanted):
    assert wanted in advice(counts)[0]


def test_troubles__are_short_and_absent_where_all_is_well():
    assert troubles({0: 10}) == []
    assert [headline for headline, _ in troubles({0: 4, 1: 6})] == ["60 % of the fitted voxels are singular"]


def test_status_rows__share_and_explain():
    rows = status_rows({0: 19, 3: 1})
    assert [row["share"] for row in rows] == ["95.0 %", "5.0 %"]
    assert [row["kind"] for row in rows] == ["good", "poor"]
    assert rows[1]["sentence"] == Status.TOO_FEW_IMAGES.sentence
