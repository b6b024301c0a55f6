from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blmm_bids.config.numbers import parse_flag, parse_number, parse_share, parse_vector, parse_whole


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2**32", 2**32),
        (" 2 ** 32 ", 2**32),
        (4294967296, 2**32),
        ("4294967296", 2**32),
        (4.0e9, 4e9),
        ("4e9", 4e9),
        ("1e-6", 1e-6),
        ("8*2**30", 8 * 2**30),
        ("(1 + 3) * 1024 - 96/2", 4048.0),
        ("-323.306", -323.306),
        ("+5", 5),
        ("2**-1", 0.5),
    ],
)
def test_parse_number__reads_numbers_and_arithmetic(value, expected):
    assert parse_number(value) == expected


@pytest.mark.parametrize(
    "value",
    [
        "",
        "many",
        "4 GB",
        "2**32; import os",
        "__import__('os').system('true')",
        "(1).__class__",
        "[1][0]",
        "x",
        "1 if 1 else 2",
        "lambda: 1",
        "'a'*10",
        "True",
        True,
        None,
        [1],
        {},
        "9**9**9",
        "10**1000",
        "(-8)**0.5",
        "1/0",
        "1e999",
        float("nan"),
        float("inf"),
        "1" * 300,
        "(" * 100,
        "\0",
        10**400,
        "1<<60",
        "5 % 2",
        "1j",
    ],
)
def test_parse_number__refuses_all_else(value):
    with pytest.raises(ValueError, match=r"^(is|has|divides) "):
        parse_number(value)


@given(st.text(max_size=30))
def test_parse_number__any_text_is_a_number_or_a_value_error(text):
    with contextlib.suppress(ValueError):
        assert isinstance(parse_number(text), int | float)


@pytest.mark.parametrize(("value", "expected"), [(10, 10), (10.0, 10), ("10", 10), ("1e4", 10_000)])
def test_parse_whole__reads_any_spelling(value, expected):
    assert parse_whole(value) == expected


def test_parse_whole__refuses_fractions():
    with pytest.raises(ValueError, match="not a whole number"):
        parse_whole("2.5")


@pytest.mark.parametrize(
    ("value", "expected"),
    [(True, True), (1, True), ("1", True), ("True", True), ("yes", True), (1.0, True),
     (False, False), (0, False), ("0", False), ("off", False), (" FALSE ", False)],
)  # fmt: skip
def test_parse_flag__reads_words_and_digits(value, expected):
    assert parse_flag(value) is expected


@pytest.mark.parametrize("value", [2, "maybe", "", None, [True]])
def test_parse_flag__refuses_all_else(value):
    with pytest.raises(ValueError, match="neither true nor false"):
        parse_flag(value)


@pytest.mark.parametrize(
    ("value", "expected"), [("10%", 0.1), (0.1, 0.1), ("0.1", 0.1), (1, 1.0), ("100 %", 1.0)]
)
def test_parse_share__reads_shares_and_percentages(value, expected):
    assert parse_share(value) == pytest.approx(expected)


@pytest.mark.parametrize("value", [10, "101%", -0.1, "10", "%", "half"])
def test_parse_share__refuses_numbers_that_may_be_percentages(value):
    with pytest.raises(ValueError, match=r"share|number"):
        parse_share(value)


@pytest.mark.parametrize(
    ("value", "rows", "test"),
    [
        ([1, 0], ((1.0, 0.0),), "t"),
        ([[1, 0]], ((1.0, 0.0),), "F"),
        ([[1, 0], [0, 1]], ((1.0, 0.0), (0.0, 1.0)), "F"),
        ("[1, 0]", ((1.0, 0.0),), "t"),
        ("[1 -0.5]", ((1.0, -0.5),), "t"),
        ("[[1 0] [0 1]]", ((1.0, 0.0), (0.0, 1.0)), "F"),
        ("[ [ 1, 0 ],[ 0, 1 ] ]", ((1.0, 0.0), (0.0, 1.0)), "F"),
        (["1", "1/2"], ((1.0, 0.5),), "t"),
    ],
)
def test_parse_vector__shape_says_the_test(value, rows, test):
    assert parse_vector(value) == (rows, test)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], "list of weights"),
        ([[]], "different lengths"),
        ("", "list of weights"),
        ("1, 0", "list of weights"),
        (3, "list of weights"),
        ([1, [0]], "mixes numbers and lists"),
        ([[1, 0], [1]], "different lengths"),
        (["a"], "not a number"),
        ([None], "not a number"),
        ([[[1]]], "not a number"),
    ],
)
def test_parse_vector__refuses_all_else(value, message):
    with pytest.raises(ValueError, match=message):
        parse_vector(value)
