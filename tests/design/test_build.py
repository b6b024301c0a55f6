"""From a node and a table to a design: rows, terms, and what is reported."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blmm_bids.design.build import build_design
from blmm_bids.design.spec import spec_from_formula
from blmm_bids.errors import DataError, ModelSpecError
from tests.design import tables
from tests.design.tables import longitudinal

TABLE = longitudinal()


def built(formula, table=TABLE, ambiguous=None, **model):
    return tables.built(formula, table, ambiguous, **model)


def test_build_design__fixed_and_random_parts():
    found = built("time * sex + (1 + time | subject) + (1 | scanner)")
    design = found.design
    assert design.fixef_names == ("Intercept", "time", "sex[T.M]", "time:sex[T.M]")
    np.testing.assert_array_equal(design.X[:, 1], TABLE["time"])
    subject, scanner = design.terms
    assert (subject.group, subject.n_levels, subject.effect_names) == ("subject", 12, ("Intercept", "time"))
    assert [subject.levels[ref] for ref in subject.refs] == TABLE["subject"].tolist()
    np.testing.assert_array_equal(subject.effects, np.column_stack([np.ones(48), TABLE["time"]]))
    assert (scanner.levels, scanner.effect_names) == (("prisma", "trio"), ("Intercept",))
    assert [contrast.name for contrast in found.contrasts] == list(design.fixef_names)
    assert found.rows == tuple(range(48))
    assert found.dropped == ()
    assert found.formula_text == "time * sex + (1 + time | subject) + (1 | scanner)"
    assert found.fixef_terms["time:sex"] == ("time:sex[T.M]",)


TERMS = [
    ("(1 | subject)", [("subject", 12, ["Intercept"])]),
    ("(time | subject)", [("subject", 12, ["Intercept", "time"])]),
    ("(0 + time | subject)", [("subject", 12, ["time"])]),
    ("(1 + time || subject)", [("subject", 12, ["Intercept"]), ("subject", 12, ["time"])]),
    ("(1 + scanner | sex)", [("sex", 2, ["Intercept", "scanner[T.trio]"])]),
    ("(0 + scanner | sex)", [("sex", 2, ["scanner[prisma]", "scanner[trio]"])]),
    ("(time + scanner || sex)",
     [("sex", 2, ["Intercept"]), ("sex", 2, ["time"]), ("sex", 2, ["scanner[prisma]", "scanner[trio]"])]),
    ("(1 | site/scanner)", [("site", 3, ["Intercept"]), ("site:scanner", 6, ["Intercept"])]),
    ("(1 | sex:scanner)", [("sex:scanner", 4, ["Intercept"])]),
    ("(1 + poly(time, 2) | sex)", [("sex", 2, ["Intercept", "poly(time, 2)[1]", "poly(time, 2)[2]"])]),
]  # fmt: skip


@pytest.mark.parametrize(("bars", "terms"), TERMS)
def test_build_design__random_terms(bars, terms):
    found = built(f"1 + {bars}").design.terms
    assert [(term.group, term.n_levels, list(term.effect_names)) for term in found] == terms


def test_build_design__levels_are_labels_sorted_alphabetically():
    table = TABLE.assign(family=np.tile([10.0, 9.0, 1.0, 2.0], 12))
    (term,) = built("1 + (1 | family)", table).design.terms
    assert term.levels == ("1", "10", "2", "9")
    assert term.levels[term.refs[0]] == "10"
    (nested,) = built("1 + (1 | sex:family)", table).design.terms
    assert nested.levels[:5] == ("F:1", "F:10", "F:2", "F:9", "M:1")


def test_build_design__drops_rows_that_lack_a_variable_it_uses():
    table = TABLE.copy()
    table.loc[[0, 5], "age"] = np.nan
    table.loc[5, "sex"] = None
    table.loc[7, "iq"] = np.nan
    table.loc[9, "subject"] = None
    table.loc[11, "motion"] = np.inf
    found = built("age + sex + log(motion) + (1 + time | subject)", table)
    assert dict(found.dropped) == {
        0: "age missing",
        5: "age, sex missing",
        9: "subject missing",
        11: "motion missing",
    }
    assert found.rows == tuple(row for row in range(48) if row not in (0, 5, 9, 11))
    assert found.design.n_obs == 44
    missing = {info.name: info.n_missing for info in found.variables}
    assert missing == {"age": 2, "sex": 1, "motion": 1, "time": 0, "subject": 1}


def test_build_design__means_run_over_the_rows_fitted():
    table = TABLE.copy()
    table.loc[:10, "iq"] = np.nan
    instructions = [
        {"Name": "Scale", "Input": ["age"], "Rescale": False},
        {"Name": "Filter", "Input": ["time"], "Query": "time < 3"},
    ]
    found = built("age + iq + center(motion) + poly(time, 2)", table, instructions=instructions)
    rows = list(found.rows)
    assert rows == [row for row in range(11, 48) if TABLE["time"][row] < 3]
    X = found.design.X
    np.testing.assert_allclose(X[:, [1, 3, 4, 5]].mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(X[:, 1], TABLE["age"][rows] - TABLE["age"][rows].mean())
    assert {reason for _, reason in found.dropped} == {"iq missing", "Filter: not time < 3"}


def test_build_design__filter_after_scale_decides_once():
    instructions = [
        {"Name": "Scale", "Input": ["age"]},
        {"Name": "Filter", "Input": ["age"], "Query": "age < 1"},
    ]
    found = built("age", instructions=instructions)
    z = (TABLE["age"] - TABLE["age"].mean()) / TABLE["age"].std()
    assert found.rows == tuple(np.flatnonzero(z < 1))


def test_build_design__replaced_missing_values_stay():
    table = TABLE.copy()
    table.loc[3, "age"] = np.nan
    scaled = [{"Name": "Scale", "Input": ["age"], "ReplaceNA": "after"}]
    found = built("age", table, instructions=scaled)
    assert found.rows == tuple(range(48))
    assert found.design.X[3, 1] == 0


def test_build_design__unused_levels_are_removed():
    table = TABLE.assign(
        site=pd.Categorical(TABLE["site"].map({1: "C", 2: "A", 3: "B"}), categories=["C", "A", "B", "Z"])
    )
    table.loc[table["site"] == "B", "age"] = np.nan
    found = built("age + site + (1 | site:scanner)", table)
    assert found.design.fixef_names == ("Intercept", "age", "site[T.C]")
    assert found.design.terms[0].levels == ("A:prisma", "A:trio", "C:prisma", "C:trio")


def test_build_design__does_not_care_for_the_tables_index_or_changes_it():
    table = TABLE.set_index(np.arange(48) + 1000)
    before = table.copy(deep=True)
    found = built(
        "C(site) + poly(age, 2) + (1 | subject)", table, instructions=[{"Name": "Demean", "Input": ["age"]}]
    )
    pd.testing.assert_frame_equal(table, before)
    assert found.rows == tuple(range(48))
    assert found.design.X.shape == (48, 5)


def test_build_design__describes_its_variables():
    found = built("age + sex + C(site) + (1 | subject)")
    age, sex, site, subject = found.variables
    assert (age.kind, age.minimum, age.maximum) == ("numeric", TABLE["age"].min(), TABLE["age"].max())
    assert (sex.kind, sex.levels, sex.reference, sex.counts) == ("categorical", ("F", "M"), "F", (24, 24))
    assert (site.kind, site.levels, site.reference) == ("categorical", ("1", "2", "3"), "1")
    assert (subject.kind, len(subject.levels), subject.reference) == ("grouping", 12, None)


@settings(max_examples=8)
@given(st.permutations(range(48)))
def test_build_design__permuted_rows_give_permuted_designs(order):
    formula = "time*sex + center(motion, by=subject) + (1 + time | subject) + (1 | scanner)"
    order = list(order)
    first, second = built(formula).design, built(formula, TABLE.iloc[order]).design
    np.testing.assert_allclose(second.X, first.X[order], atol=1e-12)
    for one, other in zip(first.terms, second.terms, strict=True):
        assert one.levels == other.levels
        np.testing.assert_array_equal(other.refs, one.refs[order])


def test_build_design__ambiguous_names_must_be_qualified():
    table = TABLE.drop(columns="age").assign(
        **{"sessions.age": TABLE["age"], "participants.age": TABLE["iq"]}
    )
    ambiguous = {"age": ("participants.age", "sessions.age")}
    for formula in ("age", "center(age)", "1 + (age | subject)", "1 + (1 | age)"):
        with pytest.raises(
            ModelSpecError, match=r"several tables have; write participants.age or sessions.age"
        ):
            built(formula, table, ambiguous)
    assert built("sessions.age", table, ambiguous).design.fixef_names == ("Intercept", "sessions.age")
    copied = [{"Name": "Copy", "Input": ["sessions.age"], "Output": ["age"]}]
    assert built("age", table, ambiguous, instructions=copied).design.fixef_names == ("Intercept", "age")


def test_build_design__everything_filtered_away():
    filtered = [{"Name": "Filter", "Input": ["age"], "Query": "age > 200"}]
    with pytest.raises(DataError, match="Filter or DropNA removed 48"):
        built("age", instructions=filtered)


def test_build_design__contrasts_and_anova():
    found = built("time*C(site) + (1 | subject)", Anova=True)
    tests = {contrast.name: (contrast.test, len(contrast.L)) for contrast in found.contrasts}
    assert tests["C(site)[T.2]"] == ("t", 1)
    assert tests["anova_C(site)"] == ("F", 2)
    assert tests["anova_time:C(site)"] == ("F", 2)


def test_build_design__takes_strings_numbers_and_booleans_of_any_dtype():
    table = pd.DataFrame(
        {
            "subject": pd.array([str(i // 4) for i in range(16)], dtype="string"),
            "int": pd.array([*range(15), None], dtype="Int64"),
            "flag": [True, False] * 8,
            "small": np.arange(16, dtype=np.int8) ** 2 % 7,
            "mixed": [1, "b"] * 8,
            "day": pd.to_datetime(["2020-01-01", "2020-01-02"] * 8),
        }
    )
    found = built("int + small + (1 | subject)", table)
    assert found.dropped == ((15, "int missing"),)
    assert found.design.X.dtype == np.float64
    assert built("flag", table).design.fixef_names == ("Intercept", "flag")
    assert built("mixed", table).design.fixef_names == ("Intercept", "mixed[T.b]")
    assert len(built("day", table).design.fixef_names) == 2


def test_build_design__large_tables_are_quick():
    rng = np.random.default_rng(0)
    n = 20_000
    table = pd.DataFrame({"s": np.arange(n) % 3000, "d": rng.permutation(n) % 1000, "x": rng.normal(size=n)})
    found = build_design(spec_from_formula("x + (1 + x | s) + (1 | d)").nodes[0], table)
    assert found.design.n_ranef == 2 * 3000 + 1000


ROOT = Path(os.environ.get("BLMM_SHARED_DATA") or Path(__file__).resolve().parents[3] / "shared" / "data")
CLASSIC = ROOT / "classic"
TABLES = {
    "sleepstudy_ri": "sleepstudy",
    "sleepstudy_rs": "sleepstudy",
    "sleepstudy_rs_nocorr": "sleepstudy",
    "penicillin_crossed": "Penicillin",
    "pastes_nested": "Pastes",
    "cake": "cake",
    "dyestuff": "Dyestuff",
    "dyestuff2_singular": "Dyestuff2",
    "orthodont_rs": "Orthodont",
    "orthodont_ri": "Orthodont",
    "oxide_nested": "Oxide",
    "machines_nested": "Machines",
    "ham": "ham",
    "carrots_rs": "carrots",
    "tvbo": "TVbo",
    "insteval_crossed": None,
}

needs_classic = pytest.mark.skipif(
    not (CLASSIC / "summary.csv").is_file(), reason=f"no reference data at {ROOT}; set BLMM_SHARED_DATA"
)


def read_r_table(path):
    """Read R's CSV: what it quotes is a factor."""
    with path.open() as file:
        quoted = next(csv.reader([file.readlines()[1]], quoting=csv.QUOTE_NONE))
    table = pd.read_csv(path)
    factors = {name: str for name, value in zip(table.columns, quoted, strict=True) if value.startswith('"')}
    return pd.read_csv(path, dtype=factors)


def insteval(n_students, n_lecturers, n_obs):
    """A stand-in of InstEval's size, whose data are not among the files."""
    rng = np.random.default_rng(1)
    students = np.concatenate([np.arange(n_students), rng.integers(0, n_students, n_obs - n_students)])
    lecturers = np.concatenate([np.arange(n_lecturers), rng.integers(0, n_lecturers, n_obs - n_lecturers)])
    return pd.DataFrame({"s": students, "d": lecturers, "service": rng.integers(0, 2, n_obs).astype(str)})


def summary():
    if not (CLASSIC / "summary.csv").is_file():
        return []
    table = pd.read_csv(CLASSIC / "summary.csv")
    return list(table[table["REML"]].itertuples(index=False))


@needs_classic
@pytest.mark.parametrize("fit", summary(), ids=lambda fit: fit.id)
def test_build_design__published_fits(fit):
    levels = sorted(int(count) for count in str(fit.ngroups).split(";"))
    name = TABLES[fit.id]
    table = (
        insteval(levels[1], levels[0], fit.nobs)
        if name is None
        else read_r_table(CLASSIC / f"data_{name}.csv")
    )
    response, _, formula = fit.formula.partition("~")
    if response.strip() in table:
        table = table.dropna(subset=[response.strip()])
    found = build_design(spec_from_formula(formula).nodes[0], table)

    fixef = pd.read_csv(CLASSIC / f"{fit.id}_REML_fixef.csv")
    assert found.design.n_obs == fit.nobs
    assert found.design.n_fixef == len(fixef)
    groups = {term.group: term.n_levels for term in found.design.terms}
    assert sorted(groups.values()) == levels

    varcorr = pd.read_csv(CLASSIC / f"{fit.id}_REML_varcorr.csv")
    n_parameters = sum(len(term.vech_names) for term in found.design.terms)
    assert n_parameters == len(varcorr) - 1


@needs_classic
def test_build_design__published_fits_are_all_there():
    assert {fit.id for fit in summary()} == set(TABLES)
