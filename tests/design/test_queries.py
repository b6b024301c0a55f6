"""Queries of Filter: comparisons, and nothing else."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blmm_bids.design.columns import Variables
from blmm_bids.design.queries import parse_query, query_names, select_rows
from blmm_bids.errors import ModelSpecError

TABLE = pd.DataFrame(
    {
        "age": [20.0, 30.0, np.nan, 50.0],
        "sex": pd.Categorical(["M", "F", "M", None]),
        "site": [1, 2, 1, 3],
        "score": [1.0, 2.0, 3.0, 4.0],
        "a b": [1.0, 0.0, 1.0, 0.0],
        "rot_x": [1.0, 2.0, 3.0, 5.0],
        "rot_y": [2.0, 2.0, 3.0, 6.0],
    }
)


QUERIES = [
    ("age > 20", [0, 1, 0, 1]),
    ("age >= 20 and age <= 30", [1, 1, 0, 0]),
    ("20 < age <= 50", [0, 1, 0, 1]),
    ("age == 30 | score == 1", [1, 1, 0, 0]),
    ("not age > 20", [1, 0, 1, 0]),
    ("~(age > 20) & score > 1", [0, 0, 1, 0]),
    ("sex == 'M'", [1, 0, 1, 0]),
    ('sex != "M"', [0, 1, 0, 1]),
    ("sex in ['M', 'F']", [1, 1, 1, 0]),
    ("site not in (1, 3)", [0, 1, 0, 0]),
    ("site in ['1']", [1, 0, 1, 0]),
    ("`a b` == 1", [1, 0, 1, 0]),
    ("rot_x < rot_y", [1, 0, 0, 1]),
    ("score > -1", [1, 1, 1, 1]),
]


@pytest.mark.parametrize(("query", "expected"), QUERIES)
def test_select_rows__compares(query, expected):
    tree, quoted = parse_query(query)
    assert select_rows(tree, quoted, Variables(TABLE, {})).tolist() == [bool(value) for value in expected]


def test_query_names__lists_columns():
    assert query_names(*parse_query("20 < age and sessions.x == 'a' or `a b` in [1]")) == (
        "age",
        "sessions.x",
        "a b",
    )


ESCAPES = [
    "__import__('os')",
    "age.__class__() > 1",
    "age > __import__('os').system('x')",
    "age > [x for x in (1,)]",
    "(lambda: 1)() > age",
    "@age > 1",
    "age",
    "1",
    "age > 1 if age else 2",
    "age + 1 > 2",
    "f'{age}' == 'a'",
    "age is None",
    "1 > 2",
    "age[0] > 1",
    "age > (1 := 2)",
    "",
    "age >",
    "(" * 3000,
    "not " * 900 + "age > 1",
    "age > 1; import os",
    "age in [[1]]",
    "age > b'x'",
    "age > 3j",
]


@pytest.mark.parametrize("query", ESCAPES)
def test_parse_query__takes_comparisons_only(query):
    with pytest.raises(ModelSpecError):
        parse_query(query)


PIECES = [
    "age",
    "sex",
    "`a b`",
    ">",
    "==",
    "in",
    "[",
    "]",
    "(",
    ")",
    "'M'",
    "1",
    "and",
    "not",
    "&",
    "~",
    "-",
    " ",
    "x.y",
    "!",
    "é",
]


@given(st.lists(st.sampled_from(PIECES), max_size=10).map(" ".join) | st.text(max_size=20))
def test_select_rows__fuzzed_query_selects_or_is_a_spec_error(text):
    try:
        tree, quoted = parse_query(text)
        found = select_rows(tree, quoted, Variables(TABLE, {}))
    except ModelSpecError:
        return
    assert found.shape == (len(TABLE),)
