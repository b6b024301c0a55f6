"""Formulas: terms, columns, coding, and no way out of the allow-list."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from formulaic import Formula
from formulaic import model_matrix as formulaic_matrix
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from blmm_bids.design.columns import Variables
from blmm_bids.design.formula import model_matrix, parse_formula
from blmm_bids.errors import ModelSpecError
from tests.design.tables import longitudinal

TABLE = longitudinal()
COLUMNS = Variables(TABLE, {"score": ("sessions.score", "participants.score")})


def matrix_of(formula, columns=COLUMNS):
    return model_matrix(parse_formula(formula), columns, columns.n_obs)


NAMES = [
    ("1", ["Intercept"]),
    ("age", ["Intercept", "age"]),
    ("0 + age", ["age"]),
    ("age - 1", ["age"]),
    ("1 + age * sex", ["Intercept", "age", "sex[T.M]", "age:sex[T.M]"]),
    ("0 + sex", ["sex[F]", "sex[M]"]),
    ("sex/age", ["Intercept", "sex[T.M]", "sex[F]:age", "sex[M]:age"]),
    ("(age + sex)**2 - age", ["Intercept", "sex[T.M]", "age:sex[F]", "age:sex[M]"]),
    ("age %in% sex", ["Intercept", "sex[T.M]", "sex[F]:age", "sex[M]:age"]),
    ("C(site)", ["Intercept", "C(site)[T.2]", "C(site)[T.3]"]),
    ("C(site, contr.sum)", ["Intercept", "C(site, contr.sum)[S.1]", "C(site, contr.sum)[S.2]"]),
    ("C(site, contr.helmert)", ["Intercept", "C(site, contr.helmert)[H.2]", "C(site, contr.helmert)[H.3]"]),
    ("C(site, contr.poly)", ["Intercept", "C(site, contr.poly)[.L]", "C(site, contr.poly)[.Q]"]),
    ("C(sex, contr.treatment('M'))", ["Intercept", "C(sex, contr.treatment('M'))[T.F]"]),
    ("C(site, contr.treatment(base=2))",
     ["Intercept", "C(site, contr.treatment(base=2))[T.1]", "C(site, contr.treatment(base=2))[T.3]"]),
    ("C(sex, Treatment(reference='M'))", ["Intercept", "C(sex, Treatment(reference='M'))[T.F]"]),
    ("C(sex, levels=['M','F'])", ["Intercept", "C(sex, levels=['M', 'F'])[T.F]"]),
    ("poly(age,2)", ["Intercept", "poly(age, 2)[1]", "poly(age, 2)[2]"]),
    ("log(age) + I(age/2)", ["Intercept", "log(age)", "I(age / 2)"]),
    ("{age**2 + 1}", ["Intercept", "age ** 2 + 1"]),
    ("`run time` + center(`run time`)", ["Intercept", "run time", "center(`run time`)"]),
    ("center(age, by=subject) + mean(age, by=subject)",
     ["Intercept", "center(age, by=subject)", "mean(age, by=subject)"]),
]  # fmt: skip


@pytest.mark.parametrize(("formula", "names"), NAMES)
def test_model_matrix__names_columns_as_formulaic_does(formula, names):
    assert list(matrix_of(formula).columns) == names


SAME_AS_FORMULAIC = [
    "1 + age*sex",
    "0 + sex:age",
    "C(site) * sex",
    "C(scanner, contr.sum)",
    "C(scanner, contr.poly):age",
    "poly(age, 3)",
    "bs(age, df=5)",
    "bs(age, df=6, degree=2)",
    "cr(age, df=4)",
    "cc(time, df=3)",
    "center(age)",
    "scale(age)",
    "log(age)",
    "log2(age) + log10(age) + exp(time)",
    "sex + C(site, contr.diff)",
    "C(site, contr.SAS)",
    "(age + sex + scanner)**3",
    "sex/scanner/age",
    "{age**2 / 3 - time}",
    "I(age * 2) - 1",
]


@pytest.mark.parametrize("formula", SAME_AS_FORMULAIC)
def test_model_matrix__equals_formulaic(formula):
    table = TABLE.assign(site=TABLE["site"].astype(int))
    expected = formulaic_matrix(formula, table, context={})
    found = matrix_of(formula)
    assert list(found.columns) == list(expected.columns)
    np.testing.assert_allclose(found.values, expected.to_numpy(dtype=float), rtol=1e-12, atol=1e-12)


VARIABLES = ["age", "time", "iq", "sex", "scanner"]
SUMS = st.recursive(
    st.sampled_from([*VARIABLES, "1", "0"]),
    lambda inner: st.tuples(inner, st.sampled_from(["+", "-", ":", "*", "/"]), inner).map(
        lambda t: f"({''.join(t)})"
    ),
    max_leaves=6,
)


@given(SUMS)
def test_parse_formula__expands_as_formulaic(text):
    try:
        expected = Formula(text)
    except Exception:
        return
    try:
        found = parse_formula(text)
    except ModelSpecError:
        return
    assert [":".join(term) for term in found.terms] == [
        ":".join(f.expr for f in term.factors if f.expr != "1") for term in expected
    ]


SCALE_TRUTHS = {
    "standardize(age)": stats.zscore(TABLE["age"]),
    "scale(age)": stats.zscore(TABLE["age"], ddof=1),
    "mean(age, by=subject)": TABLE.groupby("subject")["age"].transform("mean"),
    "center(age, by=subject)": TABLE["age"] - TABLE.groupby("subject")["age"].transform("mean"),
    "center(age, by=[site, sex])": TABLE["age"] - TABLE.groupby(["site", "sex"])["age"].transform("mean"),
    "{age - mean(age)}": TABLE["age"] - TABLE["age"].mean(),
    "sqrt(age)": np.sqrt(TABLE["age"]),
    "abs(-age)": TABLE["age"],
    "{-age + 2 ** 3}": 8 - TABLE["age"],
}


@pytest.mark.parametrize("formula", SCALE_TRUTHS)
def test_model_matrix__computes_transforms(formula):
    np.testing.assert_allclose(matrix_of(f"0 + {formula}").values[:, 0], SCALE_TRUTHS[formula], atol=1e-12)


def test_model_matrix__centering_of_a_between_variable_is_exactly_zero():
    assert not matrix_of("0 + center(iq, by=subject)").values.any()


def test_model_matrix__qualified_names_are_columns():
    columns = Variables(TABLE.assign(**{"sessions.score": TABLE["iq"]}), {"score": ("sessions.score",)})
    assert list(matrix_of("sessions.score + center(sessions.score)", columns).columns) == [
        "Intercept", "sessions.score", "center(sessions.score)",
    ]  # fmt: skip


def test_model_matrix__terms_list_their_columns():
    assert dict(matrix_of("age*C(site)").terms) == {
        "Intercept": ("Intercept",),
        "age": ("age",),
        "C(site)": ("C(site)[T.2]", "C(site)[T.3]"),
        "age:C(site)": ("age:C(site)[T.2]", "age:C(site)[T.3]"),
    }


def test_model_matrix__a_column_may_have_a_functions_name():
    table = pd.DataFrame({"log": [1.0, 2.0, 4.0], "C": ["a", "b", "a"], "np": [3.0, 1.0, 2.0]})
    found = matrix_of("log + log(log) + C(C) + np", Variables(table, {}))
    assert list(found.columns) == ["Intercept", "log", "log(log)", "C(C)[T.b]", "np"]


def test_parse_formula__lists_variables_and_splits():
    parsed = parse_formula("age:sex + center(iq, by=subject) + I(time * `run time`) + C(site, levels=['1'])")
    assert parsed.variables == ("age", "sex", "iq", "subject", "time", "run time", "site")
    assert parsed.covariates == ("age", "sex", "iq", "time", "run time", "site")
    assert parsed.splits == {("iq", "subject")}


WRONG = [
    ("agee", r"formula uses 'agee', absent from the tables \(has subject, .*\); did you mean 'age'\?"),
    ("participant_id", r"uses 'participant_id', absent from the tables .*; write 'subject'"),
    ("participant", "; write 'subject'"),
    ("sub", "; write 'subject'"),
    ("sub_id", "; write 'subject'"),
    ("SubjectID", "; write 'subject'"),
    ("participants.participant_id", "; write 'subject'"),
    ("session_id", "; write 'session'"),
    ("ses", "; write 'session'"),
    ("score", "several tables have; write sessions.score or participants.score"),
    ("center(agee)", "did you mean 'age'"),
    ("age sex", "operator such as '\\+' is missing"),
    ("age +", "missing after '\\+'"),
    ("* age", "missing before '\\*'"),
    ("age + 2", "only numbers"),
    ("age**2.5", "only numbers"),
    ("2 * age", "only numbers"),
    (".", "name the variables"),
    ("age | sex", "cannot stand here"),
    ("log(sex)", "holds labels"),
    ("{sex + 1}", "holds labels"),
    ("log(age", "never closed"),
    ("log()", "cannot be computed"),
    ("log(age, 3)", "cannot be computed"),
    ("poly(age, 3.5)", "whole degree"),
    ("poly(sex, 2)", "holds labels"),
    ("poly(time, 4)", "different values"),
    ("bs(age, df=1000)", "from 1 to 50"),
    ("bs(age, df=1000000000)", "too large"),
    ("bs(age, degree=1000)", "from 1 to 50"),
    ("cr(age)", "cannot be computed|cannot"),
    ("C(sex, contr.treatment('X'))", "reference level 'X' is not among F, M"),
    ("C(sex, levels=['F'])", "lacks M"),
    ("C(sex, 3)", "coding of C"),
    ("C(3)", "takes a variable"),
    ("contr.sum()", "no variable"),
    ("center(age, by='subject')", "by= takes a grouping variable"),
    ("centre(age)", "did you mean 'center'"),
    ("np.log(age)", "write log"),
    ("scale(age, centre=True)", "no argument 'centre'; did you mean 'center'"),
    ("{1/0}", "not finite"),
    ("log(time)", "column 'log\\(time\\)' is not finite in 12 rows"),
    ("(age+sex+iq+time+site+motion)**8", "expands into more"),
    ("((age+sex+iq)**4)**4", "expands into more"),
    ("*".join(f"x{i}" for i in range(30)), "expands into more"),
]  # fmt: skip


@pytest.mark.parametrize(("formula", "message"), WRONG)
def test_model_matrix__says_what_is_wrong(formula, message):
    with pytest.raises(ModelSpecError, match=message):
        matrix_of(formula)


@pytest.mark.parametrize("formula", ["site", "C(code)", "code:site2", "site*age"])
def test_model_matrix__refuses_categories_of_very_many_levels_at_once(formula):
    n = 40_000
    site = np.array([f"s{i % 2000}" for i in range(n)], dtype=object)
    table = pd.DataFrame({"site": site, "code": np.arange(n) % 500, "site2": site, "age": np.arange(n) * 1.0})
    with pytest.raises(ModelSpecError, match=r"makes \d{3,} columns or more .* at most 200 are fitted"):
        matrix_of(formula, Variables(table, {}))


WORDS = st.sampled_from(
    [
        "age",
        "sex",
        "site",
        "nope",
        "`run time`",
        "center(",
        "C(",
        "poly(",
        "mean(",
        "__import__(",
        "contr.sum",
        "by=",
        "levels=",
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        "+",
        "-",
        "*",
        "/",
        ":",
        "**",
        "^",
        "%in%",
        "|",
        "||",
        "~",
        ".",
        ",",
        "=",
        "'",
        '"',
        "`",
        "0",
        "1",
        "2",
        "3.5",
        "1e9",
        "lambda",
        "for",
        "in",
        "if",
        "__class__",
        ".",
        "\\",
        "\n",
        " ",
        "é",
        "\x00",
        "\ud800",
        "'M'",
    ]
)


@given(st.lists(WORDS, max_size=14).map("".join) | st.text(max_size=30))
def test_model_matrix__fuzzed_text_gives_a_matrix_or_a_spec_error(text):
    try:
        found = matrix_of(text)
    except ModelSpecError:
        return
    assert found.values.shape == (len(TABLE), len(found.columns))


def test_model_matrix__no_expression_reaches_eval(monkeypatch):
    """formulaic's own evaluation is never used, even for what is allowed."""
    calls = list(itertools.chain(SAME_AS_FORMULAIC, SCALE_TRUTHS))
    monkeypatch.setattr(
        "formulaic.utils.stateful_transforms.stateful_eval", lambda *a, **k: pytest.fail("eval")
    )
    monkeypatch.setattr("formulaic.materializers.base.stateful_eval", lambda *a, **k: pytest.fail("eval"))
    for formula in calls:
        matrix_of(formula)
