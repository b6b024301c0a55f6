"""Reference levels that the user names: which columns come out, what is said, what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from blmm_bids.design.build import build_design
from blmm_bids.design.references import parse_reference_options, with_references
from blmm_bids.design.spec import parse_model_spec
from blmm_bids.errors import ModelSpecError
from tests.design.tables import built, longitudinal

TABLE = longitudinal().assign(dose=[0.0, 1.5, 2.0, 2.0] * 12)
V3 = {"session": "v3"}

# formula, Reference, columns of X, variable -> its reference
CODED = [
    ("session", V3, ["Intercept", "session[T.v0]", "session[T.v1]", "session[T.v2]"], {"session": "v3"}),
    ("C(session)", V3, [f"C(session)[T.v{n}]" for n in (0, 1, 2)], {"session": "v3"}),
    ("sex * time", {"sex": "M"}, ["sex[T.F]", "time", "sex[T.F]:time"], {"sex": "M"}),
    ("sex * session", {"sex": "M", **V3}, ["sex[T.F]", "sex[T.F]:session[T.v1]"],
     {"sex": "M", "session": "v3"}),
    ("C(session, contr.sum)", V3, ["C(session, contr.sum)[S.v3]", "C(session, contr.sum)[S.v1]"],
     {"session": None}),
    ("C(session, contr.helmert)", V3, ["C(session, contr.helmert)[H.v0]"], {"session": None}),
    ("C(session, levels=['v1', 'v0', 'v2', 'v3'])", V3,
     ["C(session, levels=['v1', 'v0', 'v2', 'v3'])[T.v1]"], {"session": "v3"}),
    ("C(session, Treatment('v3'))", V3, ["C(session, Treatment('v3'))[T.v0]"], {"session": "v3"}),
    ("0 + session", V3, ["session[v3]", "session[v0]"], {"session": None}),
    ("C(site)", {"site": "2"}, ["C(site)[T.1]", "C(site)[T.3]"], {"site": "2"}),
    ("C(site)", {"site": 2}, ["C(site)[T.1]", "C(site)[T.3]"], {"site": "2"}),
    ("C(site)", {"site": "2.0"}, ["C(site)[T.1]", "C(site)[T.3]"], {"site": "2"}),
    ("C(dose)", {"dose": 1.5}, ["C(dose)[T.0]", "C(dose)[T.2]"], {"dose": "1.5"}),
    ("time + C(time) - time", {"time": 2}, ["C(time)[T.0]", "C(time)[T.1]", "C(time)[T.3]"], {"time": "2"}),
    # Without the option, what is printed is what the formula says.
    ("C(session, Treatment('v2'))", {}, ["C(session, Treatment('v2'))[T.v0]"], {"session": "v2"}),
    ("C(session, Treatment(reference='v2'))", {}, [], {"session": "v2"}),
    ("C(session, contr.treatment(base='v1'))", {}, [], {"session": "v1"}),
    ("C(session, contr.SAS)", {}, ["C(session, contr.SAS)[T.v0]"], {"session": "v3"}),
    ("C(session, contr.poly)", {}, ["C(session, contr.poly)[.L]"], {"session": None}),
    ("C(site, Treatment(3))", {}, ["C(site, Treatment(3))[T.1]"], {"site": "3"}),
    ("session", {}, ["session[T.v1]"], {"session": "v0"}),
    ("0 + session", {}, ["session[v0]"], {"session": None}),
    ("0 + session + sex", {}, ["session[v0]", "sex[T.M]"], {"session": None, "sex": "F"}),
    ("session + C(session, Treatment('v2')):motion", {}, [], {"session": "v0"}),
]  # fmt: skip


@pytest.mark.parametrize(("formula", "reference", "columns", "references"), CODED)
def test_build_design__codes_and_says_the_reference(formula, reference, columns, references):
    found = built(f"{formula} + (1 | subject)", TABLE, Reference=reference)
    assert set(columns) <= set(found.design.fixef_names)
    said = {each.name: each.reference for each in found.variables if each.kind == "categorical"}
    assert said == references
    for variable in found.variables:
        if reference.keys() & {variable.name}:
            assert variable.levels[0] == (references[variable.name] or "v3")
            assert sum(variable.counts) == 48


def test_build_design__random_effects_see_the_reference():
    found = built("time + (1 + sex | scanner)", TABLE, Reference={"sex": "M"})
    assert found.design.terms[0].effect_names == ("Intercept", "sex[T.F]")
    np.testing.assert_array_equal(found.design.terms[0].effects[:, 1], TABLE["sex"] == "F")
    assert {each.name: each.reference for each in found.variables}["sex"] == "M"


def test_build_design__a_number_may_be_a_slope_and_coded():
    found = built("C(time) + (0 + time | subject)", TABLE, Reference={"time": 2})
    assert found.design.fixef_names == ("Intercept", "C(time)[T.0]", "C(time)[T.1]", "C(time)[T.3]")
    np.testing.assert_array_equal(found.design.terms[0].effects[:, 0], TABLE["time"])


def test_build_design__another_reference_is_the_same_fit():
    one, two = (built("session * sex + (1 | subject)", TABLE, Reference=each).design.X for each in ({}, V3))
    assert np.linalg.matrix_rank(np.hstack([one, two])) == np.linalg.matrix_rank(one) == one.shape[1]


REFUSED = [
    ("session", {"sesion": "v1"}, r"names 'sesion', which is no categorical variable of the model "
     r"\(has session\); did you mean 'session'\?"),
    ("session", {"sex": "M"}, r"names 'sex', which is no categorical variable of the model \(has session\)"),
    ("session + site", {"site": 2}, r"'site' enters as numbers: write C\(site\) if they are labels"),
    ("session", {"subject": "01"}, r"names 'subject', which is no categorical variable of the model"),
    ("session", {"session": "v11"}, r"of 'session' is 'v11', which no image that is fitted has "
     r"\(levels: v0, v1, v2, v3\); did you mean 'v1'\?"),
    ("C(site)", {"site": 7}, r"is '7', which no image that is fitted has \(levels: 1, 2, 3\)"),
    ("C(session, Treatment('v1'))", V3, "it says 'v1', and Reference .* says 'v3'; keep one of them"),
    ("C(session, contr.poly)", V3, "contr.poly has no place for the level"),
    ("C(session, contr.diff)", V3, "contr.diff has no place for the level"),
    ("C(session, contr.SAS)", V3, "contr.SAS has no place for the level"),
    ("session", ["v1"], "Reference in Software.blmm of node 'n' must be an object; it is a list"),
    ("session", {"session": True}, "Reference of 'session' in .* must be the name of a level; it is true"),
    ("session", {"session": None}, "must be the name of a level; it is null"),
    ("session", {"session": " "}, "must be text that is not empty"),
]  # fmt: skip


@pytest.mark.parametrize(("formula", "reference", "message"), REFUSED)
def test_build_design__refuses_a_reference(formula, reference, message):
    with pytest.raises(ModelSpecError, match=message):
        built(f"{formula} + (1 | subject)", TABLE, Reference=reference)


def test_build_design__refuses_a_reference_of_what_factor_replaced():
    factor = [{"Name": "Factor", "Input": ["sex"], "Constraint": "drop_one"}]
    with pytest.raises(ModelSpecError, match="Factor makes indicators of it: say RefLevel there"):
        built("`sex.M` + (1 | subject)", TABLE, instructions=factor, Reference={"sex": "M"})


def test_build_design__a_transformed_variable_has_its_new_levels():
    replace = [{"Name": "Replace", "Input": ["session"], "Replace": {"v0": "before", "v1": "before"}}]
    found = built("session + (1 | subject)", TABLE, instructions=replace, Reference=V3)
    assert found.design.fixef_names == ("Intercept", "session[T.before]", "session[T.v2]")


def test_build_design__a_level_that_the_rows_lack_is_refused():
    later = TABLE[TABLE["session"] != "v3"]
    with pytest.raises(ModelSpecError, match=r"no image that is fitted has \(levels: v0, v1, v2\)"):
        built("session + (1 | subject)", later, Reference=V3)


def test_build_design__a_qualified_name_is_a_variable():
    table = TABLE.rename(columns={"sex": "participants.sex"})
    found = built("participants.sex + (1 | subject)", table, Reference={"participants.sex": "M"})
    assert found.design.fixef_names[1] == "participants.sex[T.F]"


@pytest.mark.parametrize(
    ("texts", "levels"),
    [
        ([], {}),
        (["session=pre"], {"session": "pre"}),
        (["session = pre", "site=2"], {"session": "pre", "site": "2"}),
        (["session=pre", "session=pre"], {"session": "pre"}),
    ],
)
def test_parse_reference_options__reads(texts, levels):
    assert parse_reference_options(texts) == levels


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["session"], "must be VARIABLE=LEVEL, as in --reference session=pre"),
        (["=pre"], "must be VARIABLE=LEVEL"),
        (["session="], "must be VARIABLE=LEVEL"),
        (["session=pre", "session=post"], "gives 'session' two levels, 'pre' and 'post'; keep one"),
    ],
)
def test_parse_reference_options__refuses(texts, message):
    with pytest.raises(ModelSpecError, match=message):
        parse_reference_options(texts)


def _nodes(*formulas):
    return parse_model_spec(
        {
            "Nodes": [
                {
                    "Level": "Dataset",
                    "Name": f"n{number}",
                    "Model": {"Formula": formula, "Software": {"blmm": {"Reference": {"sex": "F"}}}},
                }
                for number, formula in enumerate(formulas)
            ]
        }
    ).nodes


def test_with_references__wins_and_reaches_the_nodes_that_have_the_variable():
    first, second = with_references(
        _nodes("sex * session + (1 | subject)", "sex + (1 | subject)"), {"sex": "M", "session": "v3"}
    )
    assert first.references == {"sex": "M", "session": "v3"}
    assert second.references == {"sex": "M"}
    assert build_design(second, TABLE).design.fixef_names == ("Intercept", "sex[T.F]")


def test_with_references__finds_a_variable_of_the_random_part():
    assert with_references(_nodes("1 + (1 + session | sex)"), V3)[0].references["session"] == "v3"


@pytest.mark.parametrize("name", ["sesion", "subject"])
def test_with_references__refuses_what_no_node_has(name):
    with pytest.raises(
        ModelSpecError, match=f"--reference names '{name}', which is no variable of the model"
    ):
        with_references(_nodes("session + (1 | subject)"), {name: "v3"})
