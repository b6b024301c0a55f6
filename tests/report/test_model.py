"""The design's tables and pictures hold the design."""

from __future__ import annotations

import numpy as np
import pytest

from blmm_bids.report.model import correlation_rows, pattern, relations
from blmm_bids.stats.model import RandomTerm


def term(name, refs):
    refs = np.asarray(refs)
    n_levels = refs.max() + 1
    return RandomTerm(name, tuple(map(str, range(n_levels))), refs, np.ones((len(refs), 1)), ("Intercept",))


def test_correlation_rows__inflation_is_one_over_what_the_others_leave():
    rng = np.random.default_rng(5)
    a = rng.normal(size=200)
    b = a + 0.5 * rng.normal(size=200)
    rows = correlation_rows(np.column_stack([np.ones(200), a, b]), ("Intercept", "a", "b"))
    r = np.corrcoef(a, b)[0, 1]
    assert [row["name"] for row in rows] == ["a", "b"]
    assert rows[0]["vif"] == pytest.approx(1 / (1 - r**2), rel=1e-9)
    assert rows[0]["correlations"][1] == pytest.approx(r, abs=0.005)
    assert correlation_rows(np.ones((4, 1)), ("Intercept",)) == []


def test_correlation_rows__of_columns_that_depend_on_each_other():
    a = np.arange(6.0)
    rows = correlation_rows(np.column_stack([a, 1 - a]), ("a", "b"))
    assert all(row["is_high"] for row in rows)


def test_relations__tell_nested_from_crossed():
    subject, site, task = (
        term("subject", [0, 0, 1, 1, 2, 2]),
        term("site", [0, 0, 0, 0, 1, 1]),
        term("task", [0, 1] * 3),
    )
    assert relations((subject, site, task)) == [
        "Each level of subject belongs to one level of site: nested.",
        "subject and task are crossed.",
        "site and task are crossed.",
    ]


@pytest.mark.parametrize("n_levels", [3, 500])
def test_pattern__has_a_cell_wherever_an_image_has_a_level(n_levels):
    picture = pattern(term("subject", np.repeat(np.arange(n_levels), 2)))
    assert picture["width"] <= 110
    assert picture["height"] <= 110
    assert {column for column, _, _ in picture["cells"]} == set(range(picture["width"]))
    assert {row for _, row, _ in picture["cells"]} == set(range(picture["height"]))
