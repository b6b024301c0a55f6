"""Contrasts: conditions, expressions and dummies over named columns."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blmm_bids.design.contrast_spec import ContrastSpec, DummySpec, parse_contrast_option
from blmm_bids.design.contrasts import build_contrast, build_contrasts
from blmm_bids.design.spellings import ColumnNames
from blmm_bids.errors import ModelSpecError

COLUMNS = ("Intercept", "age", "age2", "sex[T.M]", "site[T.B]", "site[T.C; d]", "age:sex[T.M]", "I(age - 1)")
TERMS = {
    "Intercept": ("Intercept",),
    "age": ("age",),
    "age2": ("age2",),
    "sex": ("sex[T.M]",),
    "site": ("site[T.B]", "site[T.C; d]"),
    "age:sex": ("age:sex[T.M]",),
    "I(age - 1)": ("I(age - 1)",),
}
NAMES = ColumnNames(COLUMNS, TERMS)


def row(*pairs):
    found = np.zeros(len(COLUMNS))
    for name, weight in pairs:
        found[COLUMNS.index(name)] += weight
    return found


EXPRESSIONS = [
    ("age", "t", [row(("age", 1))]),
    ("sex[T.M] - 2*age", "t", [row(("sex[T.M]", 1), ("age", -2))]),
    ("age2", "t", [row(("age2", 1))]),
    ("-age2 + age", "t", [row(("age2", -1), ("age", 1))]),
    ("0.5*(age + age2)/2 - -Intercept", "t", [row(("age", 0.25), ("age2", 0.25), ("Intercept", 1))]),
    ("age*1e-2", "t", [row(("age", 0.01))]),
    ("1/3*age", "t", [row(("age", 1 / 3))]),
    ("age:sex[T.M]-age", "t", [row(("age:sex[T.M]", 1), ("age", -1))]),
    ("I(age - 1) - age", "t", [row(("I(age - 1)", 1), ("age", -1))]),
    ("site[T.B] - site[T.C; d]", "t", [row(("site[T.B]", 1), ("site[T.C; d]", -1))]),
    ("age; age2", "F", [row(("age", 1)), row(("age2", 1))]),
    ("age ; site[T.C; d];", "F", [row(("age", 1)), row(("site[T.C; d]", 1))]),
    ("sex", "F", [row(("sex[T.M]", 1))]),
    ("site", "F", [row(("site[T.B]", 1)), row(("site[T.C; d]", 1))]),
    ("sex:age", "F", [row(("age:sex[T.M]", 1))]),
]


@pytest.mark.parametrize(("expression", "test", "rows"), EXPRESSIONS)
def test_build_contrast__reads_expressions(expression, test, rows):
    contrast = build_contrast(ContrastSpec("c", expression=expression), NAMES)
    assert contrast.test == test
    np.testing.assert_allclose(contrast.L, rows)


WRONG = [
    ("agee", "uses 'agee', which is no column of the design .*; did you mean 'age2?'"),
    ("age + sex", r"uses the term 'sex' in a sum; its columns are sex\[T.M\]"),
    ("age + 1", "adds the constant 1; the intercept's column is 'Intercept'"),
    ("1", "adds the constant 1"),
    ("age * age2", "linear"),
    ("age / age2", "divides by a column"),
    ("age / 0", "divides by a column or by zero"),
    ("(age", "never closed"),
    ("age)", r"expected \+ or - before '\)'"),
    ("age age2", "expected"),
    ("2 age", "expected"),
    ("age +", "ends where"),
    (";", "is empty"),
    ("age - age", "only zero weights"),
    ("age; 0*age", "zero weights in row 2"),
    ("age; 2*age", "linear combinations"),
    ("1e308*10*age", "not finite"),
    ("__import__('os')", "no column"),
    ("(" * 50 + "age" + ")" * 50, "nested too deeply"),
    ("-" * 5000 + "age", "nested too deeply"),
]


@pytest.mark.parametrize(("expression", "message"), WRONG)
def test_build_contrast__says_what_is_wrong(expression, message):
    with pytest.raises(ModelSpecError, match=message):
        build_contrast(ContrastSpec("c", expression=expression), NAMES)


def test_build_contrast__places_weights_by_condition():
    spec = ContrastSpec("c", ("sex[T.M]", "Intercept"), ((1.0, 2.0), (0.0, 3.0)), "F")
    contrast = build_contrast(spec, NAMES)
    np.testing.assert_array_equal(contrast.L, [row(("sex[T.M]", 1), ("Intercept", 2)), row(("Intercept", 3))])


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (ContrastSpec("c", ("sex",), ((1.0,),), "t"), r"'sex' has sex\[T.M\]"),
        (ContrastSpec("c", ("sex[T.W]",), ((1.0,),), "t"), r"did you mean 'sex\[T.M\]'"),
        (ContrastSpec("c", ("age",), ((0.0,),), "t"), "zero weights"),
        (ContrastSpec("c", ("age", "age2"), ((1.0, 1.0), (2.0, 2.0)), "F"), "linear combinations"),
    ],
)
def test_build_contrast__refuses_what_cannot_be_estimated(spec, message):
    with pytest.raises(ModelSpecError, match=message):
        build_contrast(spec, NAMES)


def test_build_contrasts__dummies_are_named_as_columns():
    contrasts = build_contrasts((), DummySpec("t"), NAMES)
    assert tuple(contrast.name for contrast in contrasts) == COLUMNS
    np.testing.assert_array_equal(np.vstack([contrast.L for contrast in contrasts]), np.eye(len(COLUMNS)))


def test_build_contrasts__dummies_of_some_columns_and_terms():
    contrasts = build_contrasts((), DummySpec("F", ("site", "Intercept")), NAMES)
    assert [(c.name, c.test) for c in contrasts] == [
        ("site[T.B]", "F"),
        ("site[T.C; d]", "F"),
        ("Intercept", "F"),
    ]


def test_build_contrasts__anova_is_one_f_a_term():
    contrasts = build_contrasts((), None, NAMES, anova=True)
    assert [(c.name, c.test, len(c.L)) for c in contrasts] == [
        ("anova_age", "F", 1), ("anova_age2", "F", 1), ("anova_sex", "F", 1), ("anova_site", "F", 2),
        ("anova_age:sex", "F", 1), ("anova_I(age - 1)", "F", 1),
    ]  # fmt: skip


def test_build_contrasts__a_dummy_that_repeats_a_contrast_is_left_out():
    explicit = ContrastSpec("age", ("age",), ((1.0,),), "t")
    assert [c.name for c in build_contrasts([explicit], DummySpec(contrasts=("age", "age2")), NAMES)] == [
        "age",
        "age2",
    ]
    other = ContrastSpec("age", ("age",), ((2.0,),), "t")
    with pytest.raises(ModelSpecError, match="two different contrasts are named 'age'"):
        build_contrasts([other], DummySpec(), NAMES)


@pytest.mark.parametrize(
    ("text", "name", "expression"),
    [("a=age", "a", "age"), (" older = age - 2*sex[T.M] ", "older", "age - 2*sex[T.M]")],
)
def test_parse_contrast_option__splits_at_the_first_equals_sign(text, name, expression):
    assert parse_contrast_option(text) == ContrastSpec(name, expression=expression)


@pytest.mark.parametrize("text", ["age", "=age", "a=", "", "="])
def test_parse_contrast_option__needs_a_name_and_an_expression(text):
    with pytest.raises(ModelSpecError, match="NAME=EXPRESSION"):
        parse_contrast_option(text)


WORDS = st.sampled_from(
    [*COLUMNS, *TERMS, "2", "0.5", "1e400", "+", "-", "*", "/", "(", ")", ";", " ", "x", "é", "=", "`"]
)


@given(st.lists(WORDS, max_size=12).map("".join) | st.text(max_size=20))
def test_build_contrast__fuzzed_expression_is_read_or_a_spec_error(text):
    try:
        contrast = build_contrast(ContrastSpec("c", expression=text or " "), NAMES)
    except ModelSpecError:
        return
    assert np.isfinite(contrast.L).all()


@given(st.lists(st.floats(-9, 9).map(lambda w: round(w, 3)), min_size=len(COLUMNS), max_size=len(COLUMNS)))
def test_build_contrast__any_weights_survive_writing_and_reading(wanted):
    if not any(wanted):
        return
    text = " + ".join(f"{weight!r}*{name}" for weight, name in zip(wanted, COLUMNS, strict=True))
    contrast = build_contrast(ContrastSpec("c", expression=text), NAMES)
    np.testing.assert_allclose(contrast.L, [wanted])
