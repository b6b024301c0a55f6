"""Names of users' columns that look like what a formula, a contrast or a transformation makes."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from blmm_bids.design.columns import Variables
from blmm_bids.design.contrast_spec import ContrastSpec
from blmm_bids.design.contrasts import build_contrast
from blmm_bids.design.formula import model_matrix, parse_formula
from blmm_bids.design.instructions import parse_instructions
from blmm_bids.design.queries import parse_query, select_rows
from blmm_bids.design.spellings import ColumnNames
from blmm_bids.design.transforms import apply_instructions
from blmm_bids.errors import ModelSpecError
from tests.design import tables

N = 12
RNG = np.random.default_rng(5)
OWN = RNG.normal(size=N)
A, B = RNG.normal(size=(2, N))
SEX = np.array(list("FM" * (N // 2)), dtype=object)
MALE = (SEX == "M").astype(float)


def matrix_of(formula, **columns):
    table = pd.DataFrame({"a": A, "b": B, "sex": SEX, "fi": A + B, **columns})
    return model_matrix(parse_formula(formula), Variables(table, {}), N)


# The formula, the user's own column in it, and what every column of X must hold.
KEPT = [
    ("1 + `1`", "1", {"Intercept": np.ones(N), "1": OWN}),
    ("1 + `0`", "0", {"Intercept": np.ones(N), "0": OWN}),
    ("1 + `-1`", "-1", {"Intercept": np.ones(N), "-1": OWN}),
    ("0 + `1`:a", "1", {"1:a": OWN * A}),
    ("0 + `a:b`", "a:b", {"a:b": OWN}),
    ("0 + `I(a * b)`", "I(a * b)", {"I(a * b)": OWN}),
    ("0 + `sex[T.M]`", "sex[T.M]", {"sex[T.M]": OWN}),
    ("0 + a:b + `b:a`", "b:a", {"b:a": OWN, "a:b": A * B}),
    ("0 + I(`b`*_quoted_0)", "_quoted_0", {"I(`b` * _quoted_0)": B * OWN}),
    ("0 + I(`b`*_quoted_0_)", "_quoted_0_", {"I(`b` * _quoted_0_)": B * OWN}),
    ("0 + f0_ + a", "f0_", {"f0_": OWN, "a": A}),
    ("0 + `\ue0000\ue001` + a", "\ue0000\ue001", {"\ue0000\ue001": OWN, "a": A}),
    # Python reads the ligature as the two letters.
    ("0 + ﬁ + fi", "ﬁ", {"ﬁ": OWN, "fi": A + B}),
    ("0 + I(ﬁ * 2)", "ﬁ", {"I(`ﬁ` * 2)": 2 * OWN}),
    ("0 + I(fi * 2)", "ﬁ", {"I(fi * 2)": 2 * (A + B)}),
    ("0 + I(x² * 2)", "x²", {"I(`x²` * 2)": 2 * OWN}),
    ("0 + C + I(C * 2)", "C", {"C": OWN, "I(C * 2)": 2 * OWN}),
    ("0 + poly + center(poly)", "poly", {"poly": OWN, "center(poly)": OWN - OWN.mean()}),
    ("0 + class + I(`class` * 2)", "class", {"class": OWN, "I(`class` * 2)": 2 * OWN}),
    ("0 + True + I(`True` * 2)", "True", {"True": OWN, "I(`True` * 2)": 2 * OWN}),
    ("0 + I(`contr.sum` * 2)", "contr.sum", {"I(`contr.sum` * 2)": 2 * OWN}),
    ("0 + `.`", ".", {".": OWN}),
    ("1 + I(Intercept * 2)", "Intercept", {"Intercept": np.ones(N), "I(Intercept * 2)": 2 * OWN}),
    ("1 + {sex} + sex", "own", {"Intercept": np.ones(N), "sex[T.M]": MALE}),
]


@pytest.mark.parametrize(("formula", "own", "wanted"), KEPT)
def test_model_matrix__a_users_name_means_the_users_column(formula, own, wanted):
    found = matrix_of(formula, **{own: OWN})
    assert set(found.columns) == set(wanted)
    for name, values in wanted.items():
        np.testing.assert_allclose(found.values[:, found.columns.index(name)], values, rtol=1e-14)


REFUSED = [
    ("1 + a + Intercept", "Intercept"),
    ("0 + a + `Intercept`", "Intercept"),
    ("0 + {Intercept}", "Intercept"),
    ("a*b + `a:b`", "a:b"),
    ("sex*a + `sex:a`", "sex:a"),
    ("sex + `sex[T.M]`", "sex[T.M]"),
    ("C(sex) + `C(sex)[T.M]`", "C(sex)[T.M]"),
    ("sex*a + `sex[T.M]:a`", "sex[T.M]:a"),
    ("I(a*b) + `I(a * b)`", "I(a * b)"),
    ("`I(a * b)` + I(a*b)", "I(a * b)"),
    ("{a*b} + `a * b`", "a * b"),
    ("poly(a, 2) + `poly(a, 2)`", "poly(a, 2)"),
    ("poly(a, 2) + `poly(a, 2)[1]`", "poly(a, 2)[1]"),
    ("I(True * a)", "True"),
]


@pytest.mark.parametrize(("formula", "own"), REFUSED)
def test_model_matrix__refuses_a_name_that_would_be_taken_for_another(formula, own):
    with pytest.raises(ModelSpecError) as error:
        matrix_of(formula, **{own: OWN})
    assert own in str(error.value)


def test_model_matrix__refuses_labels_that_name_another_terms_column():
    labels = np.array(list("xy" * (N // 2)), dtype=object)
    with pytest.raises(ModelSpecError, match=r"'sex\[T.M\]' would be the name of two things"):
        matrix_of("sex + `sex[T.M]`", **{"sex[T.M]": labels})


def test_build_design__refuses_an_effect_and_a_grouping_factor_that_are_named_as_others():
    table = tables.longitudinal()
    table["Intercept"] = np.arange(len(table)) * 1.0
    with pytest.raises(ModelSpecError, match="Intercept"):
        tables.built("1 + time + (0 + Intercept | subject)", table)
    table["site:scanner"] = table["subject"]
    with pytest.raises(ModelSpecError, match="two grouping factors would be named 'site:scanner'"):
        tables.built("time + (1 | site:scanner) + (1 | `site:scanner`)", table)


COLUMNS = ("Intercept", "a", "b", "a-b", "2", "I(a - b)", "x:y", "b*2")
TERMS = {name: (name,) for name in COLUMNS} | {"a:b": ("I(a - b)",), "b:a": ("x:y",)}


@pytest.mark.parametrize(("expression", "named"), [("a-b", "a-b"), ("2*a", "2"), ("b*2 - a", "b*2")])
def test_build_contrast__refuses_a_column_that_reads_as_an_expression(expression, named):
    with pytest.raises(ModelSpecError, match="reads as an expression too") as error:
        build_contrast(ContrastSpec("c", (), (), None, expression), ColumnNames(COLUMNS, TERMS))
    assert f"'{named}'" in str(error.value)


@pytest.mark.parametrize(("term", "column"), [("b:a", "x:y"), ("a:b", "I(a - b)")])
def test_build_contrast__takes_a_term_by_its_own_name_first(term, column):
    found = build_contrast(ContrastSpec("c", (), (), None, term), ColumnNames(COLUMNS, TERMS))
    assert np.flatnonzero(found.L[0]).tolist() == [COLUMNS.index(column)]


QUERIES = [("`a b` == 1 and _quoted_0 == 2", [0, 1, 0]), ("ﬁ == 7", [1, 0, 0]), ("fi == 7", [0, 0, 1])]


@pytest.mark.parametrize(("query", "rows"), QUERIES)
def test_select_rows__a_users_name_means_the_users_column(query, rows):
    table = pd.DataFrame({"a b": [1, 1, 0], "_quoted_0": [1, 2, 2], "ﬁ": [7, 1, 1], "fi": [1, 1, 7]})
    tree, quoted = parse_query(query)
    assert select_rows(tree, quoted, Variables(table, {})).astype(int).tolist() == rows


@pytest.mark.parametrize(
    ("table", "inputs"),
    [
        ({"sex": ["M", "F"], "sex.M": [1.0, 2.0]}, ["sex"]),
        ({"a": ["b.c", "d"], "a.b": ["c", "d"]}, ["a", "a.b"]),
    ],
)
def test_apply_instructions__factor_replaces_no_column(table, inputs):
    instructions = parse_instructions([{"Name": "Factor", "Input": inputs}], "node 'n'")
    with pytest.raises(ModelSpecError, match="is there already"):
        apply_instructions(instructions, pd.DataFrame(table), {}, drop_rows=True)
