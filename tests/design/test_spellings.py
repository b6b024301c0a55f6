"""Names of other software for columns: which column each means, and which mean none."""

from __future__ import annotations

import numpy as np
import pytest

from blmm_bids.design.columns import Variables
from blmm_bids.design.contrast_spec import ContrastSpec, DummySpec
from blmm_bids.design.contrasts import build_contrast, build_contrasts
from blmm_bids.design.formula import model_matrix, parse_formula
from blmm_bids.design.spellings import ColumnNames, split_interaction
from blmm_bids.errors import ModelSpecError
from tests.design.tables import longitudinal

TABLE = longitudinal().assign(
    group=np.repeat(["A", "B", "C"], 16), arm=["pre-1", "post: x", "post: x", "pre-1"] * 12
)
TABLE["group.B"] = (TABLE["group"] == "B").astype(float)


def names_of(formula, references=None):
    variables = Variables(TABLE, {}, references)
    matrix = model_matrix(parse_formula(formula), variables, len(TABLE))
    return ColumnNames(matrix.columns, matrix.terms, matrix.coded)


PRE = "C(session, Treatment('v1'))"
FULL = "1 + age + sex * age + group"
INDICATORS = [
    f"{base}{level}" for base in ("sex", "C(sex)", "factor(sex)") for level in ("[T.M]", "[M]", "M")
]
# formula, names, the column that each means (None: no name of a column)
READ = [
    (FULL, [*INDICATORS, "sex.M", "sex_M", "C(sex).M", " sex.M "], "sex[T.M]"),
    (FULL, ["Intercept", "intercept", "(Intercept)", "constant", "1"], "Intercept"),
    (FULL, ["group.C", "groupC", "C(group)[T.C]", "as.factor(group)C", "group[C]"], "group[T.C]"),
    (FULL, ["sex.M:age", "age:sex.M", "age:sex[T.M]", "C(sex)[T.M]:age", "sexM : age"], "sex[T.M]:age"),
    (FULL, ["sex", "group", "sex:age", "sex.m", "sex[S.M]", "M", "ageM", "age.M", "sexMM", "sex.", ""], None),
    ("C(group)", ["group[T.B]", "group.B", "group[B]", "groupB", "C( group )[T.B]"], "C(group)[T.B]"),
    ("C(site)", ["site.2", "site2", "C(site)2", "site[2]", "site[T.2]", "factor(site)2"], "C(site)[T.2]"),
    (PRE, ["session.v2", "session[T.v2]", 'C(session, Treatment("v1"))[T.v2]'], f"{PRE}[T.v2]"),
    (PRE, ["C(session,Treatment('v1'))[T.v2]", "C(session)[T.v2]"], f"{PRE}[T.v2]"),
    # A column a level.
    ("0 + group", ["group.A", "groupA", "group[A]", "C(group)[A]"], "group[A]"),
    # Earlier formulaic wrote these columns so; nothing else can be meant.
    ("0 + group", ["group[T.A]", "C(group)[T.A]"], "group[A]"),
    ("0 + group", ["Intercept", "1"], None),
    ("1 + group:age", ["group.A:age", "age:group[A]"], "group[A]:age"),
    # Sums are no indicators.
    ("C(group, contr.sum)", ["group[S.A]", "C(group)[S.A]"], "C(group, contr.sum)[S.A]"),
    ("C(group, contr.sum)", ["group.A", "group[A]", "groupA", "group[T.A]", "C(group)[A]"], None),
    ("C(session, contr.poly)", ["session.L", "session[.L]"], "C(session, contr.poly)[.L]"),
    # A column's own name comes first.
    ("`group.B` + sex", ["group.B"], "group.B"),
    ("arm", ["arm.pre-1", "arm[pre-1]", "armpre-1", "C(arm)[T.pre-1]"], "arm[T.pre-1]"),
    # Coded in full in the interaction, where M is no difference from F.
    ("sex + arm:sex", ["sex.M:arm[pre-1]", "arm.pre-1:sexM"], "arm[T.pre-1]:sex[M]"),
    ("sex + arm:sex", ["sex[T.M]:arm[T.pre-1]"], None),
]  # fmt: skip


@pytest.mark.parametrize(("formula", "names", "column"), READ)
def test_find__reads_what_means_one_column(formula, names, column):
    known = names_of(formula)
    assert {name: known.find(name, "contrast 'c'") for name in names} == dict.fromkeys(names, column)


REFUSED = [
    (FULL, "sex.F", r"contrast 'c' names 'sex.F', but 'F' is the reference level of 'sex', which has no "
     r"column: sex\[T.M\] compare the others with it \(--reference sex=LEVEL chooses another\)"),
    (FULL, "sex[T.F]", "'F' is the reference level of 'sex'"),
    (FULL, "C(group)A", "'A' is the reference level of 'group'.*group\\[T.B\\], group\\[T.C\\] compare"),
    (FULL, "age:sex.F", "'F' is the reference level of 'sex'"),
    (PRE, "session.v1", "'v1' is the reference level of 'session'"),
    ("C(sex) + sex:age + sex", "sex.M", r"which may be C\(sex\)\[T.M\] or sex\[T.M\]; write the one that"),
]  # fmt: skip


@pytest.mark.parametrize(("formula", "name", "message"), REFUSED)
def test_find__refuses_the_reference_and_what_means_several(formula, name, message):
    with pytest.raises(ModelSpecError, match=message):
        names_of(formula).find(name, "contrast 'c'")


def test_find__the_reference_that_the_user_chose():
    known = names_of("sex", {"sex": "M"})
    assert known.find("sex.F", "c") == "sex[T.F]"
    with pytest.raises(ModelSpecError, match="'M' is the reference level of 'sex'"):
        known.find("sexM", "c")


EXPRESSIONS = [
    ("sex.M", {"sex[T.M]": 1}),
    ("sex.M - 2*age", {"sex[T.M]": 1, "age": -2}),
    ("2*sexM-age", {"sex[T.M]": 2, "age": -1}),
    ("age:sex.M + age", {"sex[T.M]:age": 1, "age": 1}),
    ("C(group)[T.B] - group.C", {"group[T.B]": 1, "group[T.C]": -1}),
    ("(Intercept) + intercept*0.5", {"Intercept": 1.5}),
    ("-(group_B + groupC)/2", {"group[T.B]": -0.5, "group[T.C]": -0.5}),
    ("age", {"age": 1}),
    ("1*age", {"age": 1}),
]


@pytest.mark.parametrize(("text", "weights"), EXPRESSIONS)
def test_build_contrast__expressions_take_the_spellings(text, weights):
    known = names_of(FULL)
    contrast = build_contrast(ContrastSpec("c", expression=text), known)
    assert {known.columns[i]: contrast.L[0, i] for i in np.flatnonzero(contrast.L[0])} == weights


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sex.F - age", "'F' is the reference level of 'sex'"),
        ("sex.X", "uses 'sex.X', which is no column of the design"),
        ("sex.M age", "expected"),
        ("sex.M*group.B", "multiplies two columns"),
        ("age:", "expected"),
    ],
)
def test_build_contrast__expressions_refuse(text, message):
    with pytest.raises(ModelSpecError, match=message):
        build_contrast(ContrastSpec("c", expression=text), names_of(FULL))


def test_build_contrast__conditions_are_read_and_said_once():
    known = names_of(FULL)
    spec = ContrastSpec("c", ("sex.M", "(Intercept)", "age", "group[T.B]"), ((1.0, 2.0, 3.0, 4.0),))
    weights = dict(zip(known.columns, build_contrast(spec, known).L[0], strict=True))
    assert weights["sex[T.M]"] == 1
    assert weights["Intercept"] == 2
    build_contrast(spec, known)
    assert known.notices == [
        "names in contrasts are read as columns of the design: 'sex.M' as 'sex[T.M]', "
        "'(Intercept)' as 'Intercept'"
    ]


def test_build_contrast__refuses_one_column_under_two_names():
    spec = ContrastSpec("c", ("sex.M", "sex[T.M]"), ((1.0, -1.0),))
    with pytest.raises(ModelSpecError, match=r"names the column 'sex\[T.M\]' as 'sex.M' and as 'sex\[T.M\]'"):
        build_contrast(spec, names_of(FULL))


@pytest.mark.parametrize(
    ("formula", "wanted", "columns"),
    [
        (FULL, ("sex.M", "1", "age"), ["sex[T.M]", "Intercept", "age"]),
        (FULL, ("C(group)",), ["group[T.B]", "group[T.C]"]),
        ("C(group) + age", ("group",), ["C(group)[T.B]", "C(group)[T.C]"]),
        ("C(group) * age", ("age:group",), ["C(group)[T.B]:age", "C(group)[T.C]:age"]),
        (PRE, ("session",), [f"{PRE}[T.v0]", f"{PRE}[T.v2]", f"{PRE}[T.v3]"]),
    ],
)
def test_build_contrasts__dummies_take_the_spellings(formula, wanted, columns):
    assert [each.name for each in build_contrasts((), DummySpec("t", wanted), names_of(formula))] == columns


def test_build_contrast__a_coded_term_by_its_variable_is_its_joint_test():
    contrast = build_contrast(ContrastSpec("c", expression="session"), names_of(PRE))
    assert (contrast.test, contrast.L.shape) == ("F", (3, 4))


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("age", ["age"]),
        ("age:sex[T.M]", ["age", "sex[T.M]"]),
        ("arm[T.post: x]:age", ["arm[T.post: x]", "age"]),
        ("C(a, levels=['x:y'])[T.x:y]:b", ["C(a, levels=['x:y'])[T.x:y]", "b"]),
        ("`a:b`:c", ["`a:b`", "c"]),
        ("", [""]),
    ],
)
def test_split_interaction__splits_outside_of_brackets(name, parts):
    assert split_interaction(name) == parts


MEANS = [
    # conditions, weights, weights of Intercept, group[T.B] and group[T.C]
    (["group.A", "group.B"], [[1, -1]], [[0, -1, 0]]),
    (["group.B", "group.A", "group.C"], [[1, -1, 0]], [[0, 1, 0]]),
    (["group.A", "group.B", "group.C"], [[1, 1, 1]], [[3, 1, 1]]),
    (["group.A", "group.C"], [[1, 0], [0, 1]], [[1, 0, 0], [1, 0, 1]]),
    (["C(group)[T.B]", "groupA"], [[1, -1]], [[0, 1, 0]]),
    # Without the reference, names are those of columns.
    (["group.B", "group.C"], [[1, -1]], [[0, 1, -1]]),
]


@pytest.mark.parametrize(("conditions", "weights", "expected"), MEANS)
def test_build_contrast__levels_with_the_reference_are_means(conditions, weights, expected):
    names = names_of("1 + group")
    spec = ContrastSpec("c", tuple(conditions), tuple(map(tuple, weights)), "F")
    assert build_contrast(spec, names).L.tolist() == expected
    if any("A" in condition for condition in conditions):
        assert "the mean of group A" in names.notices[0]


def test_build_contrast__the_reference_alone_is_no_column():
    with pytest.raises(ModelSpecError, match="'A' is the reference level of 'group'"):
        build_contrast(ContrastSpec("c", ("group.A",), ((1,),), "t"), names_of("1 + group"))


@pytest.mark.parametrize("formula", ["1 + group * age", "1 + age * group + sex"])
def test_build_contrast__no_means_of_a_factor_that_interacts(formula):
    with pytest.raises(ModelSpecError, match="'A' is the reference level of 'group'"):
        build_contrast(ContrastSpec("c", ("group.A", "group.B"), ((1, -1),), "t"), names_of(formula))
