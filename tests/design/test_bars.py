"""Splitting random-effects bars from a formula."""

from __future__ import annotations

import pytest

from blmm_bids.design.bars import Bar, parse_bar, quote_name, split_bars, split_response
from blmm_bids.errors import ModelSpecError

SPLITS = [
    ("age", "age", []),
    ("1 + (1 | g)", "1", [("1", "g", True)]),
    ("(1|g)", "1", [("1", "g", True)]),
    ("age + sex + (1 + age | subject)", "age + sex", [("1 + age", "subject", True)]),
    ("(0 + x | g) + age", "age", [("0 + x", "g", True)]),
    ("(1 + x || g)", "1", [("1 + x", "g", False)]),
    ("(1 | a/b)", "1", [("1", "a", True), ("1", "a:b", True)]),
    ("(1 | a/b/c)", "1", [("1", "a", True), ("1", "a:b", True), ("1", "a:b:c", True)]),
    ("(1 | a : b)", "1", [("1", "a:b", True)]),
    ("(1 | (a/b))", "1", [("1", "a", True), ("1", "a:b", True)]),
    ("((1 | g))", "1", [("1", "g", True)]),
    ("(age + (1 | g))", "(age)", [("1", "g", True)]),
    ("0 + age - sex + (1 | g) - 1", "0 + age - sex - 1", [("1", "g", True)]),
    ("age*sex + (x*y | g) + (1 | h)", "age*sex", [("x*y", "g", True), ("1", "h", True)]),
    ("(a + b)**2 + (1 + (x + y)**2 | g)", "(a + b)**2", [("1 + (x + y)**2", "g", True)]),
    ("poly(age, 2) + (1 + poly(age, 2) | g)", "poly(age, 2)", [("1 + poly(age, 2)", "g", True)]),
    ("`a|b` + (1 | `my group`)", "`a|b`", [("1", "`my group`", True)]),
    ("C(site, levels=['a|b', 'c)'])", "C(site, levels=['a|b', 'c)'])", []),
    ("sessions.age + (1 + sessions.age | participants.family)", "sessions.age",
     [("1 + sessions.age", "participants.family", True)]),
]  # fmt: skip


@pytest.mark.parametrize(("formula", "fixed", "bars"), SPLITS)
def test_split_bars__gives_fixed_part_and_terms(formula, fixed, bars):
    found_fixed, found = split_bars(formula)
    assert found_fixed == fixed
    assert [(bar.effects, bar.group, bar.correlated) for bar in found] == bars


REFUSED = [
    ("age * (1 | g)", "add it with '+'", 9),
    ("1 | g", "in parentheses", 2),
    ("age - (1 | g)", "not subtracted", 4),
    ("(1 | g | h)", "one bar", 7),
    ("(| g)", "no effects", 1),
    ("(1 |)", "no grouping factor", 3),
    ("(1 | a + b)", "grouping factor is a column", 7),
    ("(1 | a:)", "column name is missing", 6),
    ("(1 | 2)", "grouping factor is a column", 5),
    ("(1 | f(a))", "grouping factor is a column", 5),
    ("(age + (1 | g)) * 2", "add it with '+'", 10),
    ("age + (1 | g", "never closed", 6),
    ("age)", "closes nothing", 3),
    ("log(age", "never closed", 3),
    ("'a", "not part of any name", 0),
    ("log('a", "quote that is never closed", 4),
    ("`a", "backtick", 0),
    ("age + @x", "not part of any name", 6),
    ("age + (1 | g) +", "ends with", 14),
    ("y ~ age", "~", 2),
    ("(" * 40 + "a" + ")" * 40, "nested deeper", None),
    ("log" + "(" * 40 + "a" + ")" * 40, "nested deeper", None),
]


@pytest.mark.parametrize(("formula", "message", "column"), REFUSED)
def test_split_bars__points_at_what_is_wrong(formula, message, column):
    with pytest.raises(ModelSpecError) as error:
        split_bars(formula)
    first, shown, caret = str(error.value).split("\n")
    assert message in first
    if column is not None:
        assert shown[2:] == formula
        assert caret.index("^") - 2 == column


def test_split_bars__refuses_endless_text():
    with pytest.raises(ModelSpecError, match="at most"):
        split_bars("a + " * 100_000 + "a")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("(1 | g)", [Bar("1", "g")]),
        ("1 + age | g", [Bar("1 + age", "g")]),
        ("0 + age || g", [Bar("0 + age", "g", correlated=False)]),
        ("1 | a/b", [Bar("1", "a"), Bar("1", "a:b")]),
    ],
)
def test_parse_bar__takes_parentheses_or_none(text, expected):
    assert list(parse_bar(text)) == expected


@pytest.mark.parametrize(("text", "message"), [("age", "no bar"), ("age + (1 | g)", "fixed effects 'age'")])
def test_parse_bar__refuses_fixed_effects(text, message):
    with pytest.raises(ModelSpecError, match=message):
        parse_bar(text)


@pytest.mark.parametrize(
    ("formula", "response", "rest"),
    [
        ("age", "", "age"),
        ("y ~ age + (1|g)", "y", "age + (1|g)"),
        ("~ age", "", "age"),
        ("`the y` ~ 1", "the y", "1"),
    ],
)
def test_split_response__takes_a_name_off(formula, response, rest):
    assert split_response(formula) == (response, rest)


@pytest.mark.parametrize("formula", ["log(y) ~ age", "y + x ~ age", "y ~ x ~ z", "1 ~ age"])
def test_split_response__refuses_more_than_a_name(formula):
    with pytest.raises(ModelSpecError):
        split_response(formula)


def test_bar__reads_back_as_it_is_written():
    for text in ("(1 + age | subject)", "(0 + x || a:b)"):
        assert str(parse_bar(text)[0]) == text
    assert parse_bar("(1 | `a b`:c)")[0].group_names == ("a b", "c")


@pytest.mark.parametrize(
    ("name", "quoted"), [("age", "age"), ("sessions.age", "sessions.age"), ("a b", "`a b`"), ("1st", "`1st`")]
)
def test_quote_name__quotes_what_is_no_plain_name(name, quoted):
    assert quote_name(name) == quoted
