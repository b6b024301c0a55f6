"""Reading model specs: what is taken, and that nothing but a ModelSpecError comes out of the rest."""

from __future__ import annotations

import copy
import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from blmm_bids.design.bars import Bar
from blmm_bids.design.contrast_spec import ContrastSpec, DummySpec
from blmm_bids.design.software import NodeOptions
from blmm_bids.design.spec import parse_model_spec, spec_from_formula
from blmm_bids.errors import ModelSpecError

GROWTH = {
    "Name": "growth",
    "BIDSModelVersion": "1.0.0",
    "Description": "text",
    "Input": {"task": ["nback"], "space": ["MNI152NLin2009cAsym"], "run": None, "stat": "effect"},
    "Nodes": [
        {
            "Level": "Run",
            "Name": "run",
            "GroupBy": ["run", "subject"],
            "Model": {"Type": "glm", "X": ["trial_type.a"]},
        },
        {
            "Level": "Dataset",
            "Name": "group",
            "GroupBy": ["contrast"],
            "Transformations": {
                "Transformer": "pybids-transforms-v1",
                "Instructions": [{"Name": "Scale", "Input": ["age"], "Rescale": False}],
            },
            "Model": {
                "Type": "glm",
                "X": [1, "age", "sex"],
                "Formula": "1 + age * sex",
                "Software": {
                    "blmm": {"RandomEffects": ["(1 + age | subject)", "(1 | site)"], "REML": True},
                    "FSL": {"whatever": 1},
                },
            },
            "Contrasts": [
                {"Name": "ageEffect", "ConditionList": ["age"], "Weights": [1], "Test": "t"},
                {
                    "Name": "any",
                    "ConditionList": ["age", "sex[T.M]"],
                    "Weights": [[1, 0], [0, 1]],
                    "Test": "F",
                },
                {"Name": "third", "ConditionList": [1, "age"], "Weights": ["-1/3", 0.5], "Test": "F"},
            ],
            "DummyContrasts": {"Test": "t"},
        },
    ],
    "Edges": [{"Source": "run", "Destination": "group"}],
}


def edited(path, value, base=GROWTH):
    """A copy of a spec with one entry exchanged, or removed where `value` is `...`."""
    spec = copy.deepcopy(base)
    target = spec
    for key in path[:-1]:
        target = target[key]
    if value is ...:
        del target[path[-1]]
    else:
        target[path[-1]] = value
    return spec


NODE = ("Nodes", 1)
MODEL = (*NODE, "Model")
BLMM = (*MODEL, "Software", "blmm")
CONTRAST = (*NODE, "Contrasts", 0)
INSTRUCTION = (*NODE, "Transformations", "Instructions", 0)


def test_parse_model_spec__reads_the_documented_example():
    spec = parse_model_spec(GROWTH)
    assert (spec.name, spec.description, spec.input) == ("growth", "text", GROWTH["Input"])
    assert spec.notices == ("node 'run' (Run) is skipped: its outputs are what is read",)
    assert spec.source == GROWTH
    (node,) = spec.nodes
    assert (node.name, node.group_by, node.formula, node.reml) == (
        "group",
        ("contrast",),
        "1 + age * sex",
        True,
    )
    assert node.bars == (Bar("1 + age", "subject"), Bar("1", "site"))
    assert node.formula_text == "1 + age * sex + (1 + age | subject) + (1 | site)"
    assert node.contrasts == (
        ContrastSpec("ageEffect", ("age",), ((1.0,),), "t"),
        ContrastSpec("any", ("age", "sex[T.M]"), ((1.0, 0.0), (0.0, 1.0)), "F"),
        ContrastSpec("third", ("Intercept", "age"), ((-1 / 3, 0.5),), "F"),
    )
    assert node.dummy_contrasts == DummySpec("t", None)
    assert node.options == NodeOptions()
    assert [(i.name, i.inputs, dict(i.arguments)) for i in node.transformations] == [
        ("Scale", ("age",), {"Rescale": False})
    ]


def test_parse_model_spec__reads_the_same_from_yaml():
    assert parse_model_spec(yaml.safe_load(yaml.safe_dump(GROWTH))) == parse_model_spec(
        json.loads(json.dumps(GROWTH))
    )


def test_parse_model_spec__reads_every_option():
    options = {
        "Method": "pSFS",
        "Tol": 1e-8,
        "MaxIter": 50,
        "Satterthwaite": "observed",
        "MinN": 12,
        "MinPercent": 0.8,
        "DataMaskThreshold": -1.5,
        "SafeMode": False,
        "OutputCovB": False,
        "Resms": False,
        "Anova": True,
        "REML": False,
    }
    (node,) = parse_model_spec(edited(BLMM, options)).nodes
    assert node.reml is False
    assert node.bars == ()
    assert node.options == NodeOptions(
        method="pSFS",
        tol=1e-8,
        max_iter=50,
        satterthwaite="observed",
        min_n=12,
        min_percent=0.8,
        data_mask_threshold=-1.5,
        safe_mode=False,
        output_cov_b=False,
        resms=False,
        anova=True,
    )


@pytest.mark.parametrize(
    ("x", "formula", "fixed", "notice"),
    [
        ([1, "age", "sex"], None, "1 + age + sex", None),
        (["age"], None, "0 + age", "no intercept"),
        ([1.0, "run time"], None, "1 + `run time`", None),
        ([1], None, "1", None),
        (
            [1, "age"],
            "1 + age * sex",
            "1 + age * sex",
            "'sex' is in the Formula of node 'group' but not in its X",
        ),
        ([1, "age", "iq"], "age", "age", "'iq' is in X of node 'group' but not in its Formula"),
        ([1], "age", "age", "X of node 'group' lists no variable beside a Formula: the Formula is the model"),
        ([1], "age + sex + iq", "age + sex + iq", "X of node 'group' lists no variable beside a Formula"),
        ([1], "1 + (1 | site)", "1", None),
        (
            [1, "age"],
            "age + sex + iq",
            "age + sex + iq",
            "'iq', 'sex' are in the Formula of node 'group' but not in its X; Formula wins: they are in the",
        ),
        (
            [1, "age", "iq", "ses"],
            "age + sex",
            "age + sex",
            "'iq', 'ses' are in X of node 'group' but not in its Formula, which wins: they are not in the "
            "model; 'sex' is in the Formula of node 'group' but not in its X; Formula wins: it is in the",
        ),
        (None, "age", "age", None),
        ([1, "age"], "center(age, by=subject)", "center(age, by=subject)", None),
        ([1, "age"], "bold ~ age", "age", "the left side 'bold' of the Formula of node 'group' is dropped"),
    ],
)
def test_parse_model_spec__formula_wins_over_x(x, formula, fixed, notice):
    model = {"Type": "glm", "X": x, "Formula": formula}
    spec = parse_model_spec(edited(MODEL, model))
    assert spec.nodes[0].formula == fixed
    assert [notice is not None and notice in text for text in spec.notices[1:]] == [True] * (
        notice is not None
    )


def test_parse_model_spec__merges_bars_of_formula_and_random_effects():
    spec = edited((*MODEL, "Formula"), "age + sex + (1 | family)")
    assert [str(bar) for bar in parse_model_spec(spec).nodes[0].bars] == [
        "(1 | family)",
        "(1 + age | subject)",
        "(1 | site)",
    ]


def test_parse_model_spec__slopes_in_bars_count_as_used():
    spec = edited((*MODEL, "Formula"), "1 + sex")
    assert len(parse_model_spec(spec).notices) == 1


def test_parse_model_spec__several_dataset_nodes():
    second = copy.deepcopy(GROWTH["Nodes"][1]) | {"Name": "simple"}
    spec = edited(BLMM, {"RandomEffects": "(1 | subject)", "CompareWith": "simple"})
    spec["Nodes"].append(second)
    nodes = parse_model_spec(spec).nodes
    assert [(node.name, node.compare_with) for node in nodes] == [("group", ("simple",)), ("simple", ())]


def test_spec_from_formula__one_node_with_dummy_contrasts():
    spec = spec_from_formula("age + center(iq, by=site) + (1 | subject) + (0 + age || site)")
    (node,) = spec.nodes
    assert (node.name, node.formula) == ("group", "age + center(iq, by=site)")
    assert [str(bar) for bar in node.bars] == ["(1 | subject)", "(0 + age || site)"]
    assert node.dummy_contrasts == DummySpec("t")
    assert spec.notices == ()
    assert spec.source["Nodes"][0]["Model"]["X"] == [1, "age", "iq"]
    assert parse_model_spec(spec.source) == spec


@pytest.mark.parametrize(
    ("formula", "message"),
    [("", "not empty"), ("age +", "ends with"), ("1 | g", "parentheses"), ("log(y) ~ a", "left side")],
)
def test_spec_from_formula__refuses_what_it_cannot_read(formula, message):
    with pytest.raises(ModelSpecError, match=message):
        spec_from_formula(formula)


WRONG = [
    (("Nodse",), [], "unknown key 'Nodse' .*did you mean 'Nodes'"),
    ((*NODE, "GroupBY"), [], "did you mean 'GroupBy'"),
    ((*NODE, "Formula"), "age", "belongs inside the node's Model"),
    ((*NODE, "Software"), {}, "belongs inside the node's Model"),
    ((*MODEL, "formula"), "age", "did you mean 'Formula'"),
    ((*BLMM, "RandomEffect"), [], "did you mean 'RandomEffects'"),
    ((*BLMM, "reml"), True, "did you mean 'REML'"),
    ((*MODEL, "Software", "bllm"), {}, "this app reads 'blmm'"),
    ((*CONTRAST, "Weigths"), [1], "did you mean 'Weights'"),
    ((*INSTRUCTION, "Rescal"), True, "did you mean 'Rescale'"),
    (("Nodes",), ..., "Nodes must be a list; it is null"),
    (("Nodes",), [GROWTH["Nodes"][0]], 'no node with "Level": "Dataset"'),
    (("Nodes",), "group", "must be a list"),
    (("Nodes",), {"Level": "Dataset"}, "must be a list"),
    (("Nodes", 0), 3, "must be an object; it is a number, 3"),
    (("Nodes", 0, "Name"), "group", "'group' twice"),
    ((*NODE, "Name"), 3, "must be text"),
    ((*NODE, "Name"), " ", "must be text"),
    ((*NODE, "Name"), "a\x00b", "control characters"),
    ((*NODE, "Name"), "a\ud800b", "broken Unicode"),
    ((*NODE, "Level"), "Datset", "did you mean 'Dataset'"),
    ((*NODE, "GroupBy"), "contrast", "must be a list"),
    ((*NODE, "GroupBy"), ["a", "a"], "'a' twice"),
    ((*NODE, "GroupBy"), [1], "must be text"),
    ((*NODE, "Model"), ..., "must be an object"),
    ((*MODEL, "Type"), "meta", "must be one of glm"),
    (MODEL, {"Type": "glm"}, "neither X nor Formula"),
    ((*MODEL, "X"), "age", "must be a list"),
    ((*MODEL, "X"), [True], "must be a variable's name or 1; it is true or false, true"),
    ((*MODEL, "X"), [2], "must be a variable's name or 1"),
    ((*MODEL, "X"), [["age"]], "must be a variable's name or 1; it is a list"),
    ((*MODEL, "X"), ["age", "age"], "'age' twice"),
    ((*MODEL, "Formula"), ["age"], "must be text"),
    ((*MODEL, "Formula"), "age + log(", "never closed"),
    ((*MODEL, "Formula"), "{__import__('os')}", "__import__"),
    ((*MODEL, "Formula"), "age + (1 | site)", r"\(1 \| site\) twice"),
    ((*MODEL, "HRF"), {"Variables": ["a"], "Model": "spm"}, "HRF"),
    ((*MODEL, "Options"), {"Mask": {"suffix": ["probseg"]}}, "--mask"),
    ((*MODEL, "Options"), {"Mask": {"desc": [True]}}, "a label or a list of labels"),
    ((*MODEL, "VarianceComponents"), [{"Name": "slopes"}], r"\(1 \| subject\)"),
    ((*MODEL, "Software"), [], "must be an object"),
    ((*BLMM, "REML"), 1, "must be true or false; it is a number, 1"),
    ((*BLMM, "REML"), "false", "must be true or false"),
    ((*BLMM, "Method"), "bobyqa", "must be one of default, FS"),
    ((*BLMM, "Tol"), 0, "Tol"),
    ((*BLMM, "Tol"), float("nan"), "finite"),
    ((*BLMM, "Tol"), True, "must be a number"),
    ((*BLMM, "MaxIter"), 10.5, "whole number"),
    ((*BLMM, "MaxIter"), 10**400, "too large"),
    ((*BLMM, "MaxIter"), 1e300, "MaxIter"),
    ((*BLMM, "MinN"), -1, "at least 0|from 0"),
    ((*BLMM, "MinPercent"), 50, "write 0.5"),
    ((*BLMM, "MinPercent"), "10%", "must be a number"),
    ((*BLMM, "Satterthwaite"), "kr", "must be one of expected"),
    ((*BLMM, "RandomEffects"), ["age"], "has no bar"),
    ((*BLMM, "RandomEffects"), [1], "must be text"),
    ((*BLMM, "RandomEffects"), {"subject": 1}, "must be a list"),
    ((*BLMM, "RandomEffects"), ["(1 | site)", "( 1|site )"], "twice"),
    ((*BLMM, "RandomEffects"), ["(1 | a:b)", "(1 || b:a)"], "twice"),
    ((*BLMM, "RandomEffects"), ["(0 | a)"], "no effect"),
    ((*BLMM, "RandomEffects"), ["(eval('x') | a)"], "not one of those"),
    ((*BLMM, "CompareWith"), "other", "names 'other'"),
    ((*BLMM, "CompareWith"), "group", "names 'group'"),
    ((*BLMM, "CompareWith"), "run", "names 'run'"),
    ((*NODE, "Contrasts"), {}, "must be a list"),
    ((*CONTRAST, "Name"), ..., "a column's name or 1"),
    ((*CONTRAST, "Name"), 10**400, "fits a double"),
    ((*CONTRAST, "Name"), "any", "'any' twice"),
    ((*CONTRAST, "ConditionList"), [], "at least one column"),
    ((*CONTRAST, "ConditionList"), [None], "column's name or 1"),
    ((*CONTRAST, "Test"), "FEMA", "first-level variances"),
    ((*CONTRAST, "ConditionList"), [True], "column's name or 1"),
    ((*CONTRAST, "Weights"), ..., "must be a list"),
    ((*CONTRAST, "Weights"), [1, 2], "2 weights in a row and 1 conditions"),
    ((*CONTRAST, "Weights"), [], "0 weights"),
    ((*CONTRAST, "Weights"), [[1]], "2-D Weights"),
    ((*CONTRAST, "Weights"), [[1], 2], "mix numbers and lists"),
    ((*CONTRAST, "Weights"), [[[1]]], "must be a number"),
    ((*CONTRAST, "Weights"), ["1/0"], "fraction"),
    ((*CONTRAST, "Weights"), ["1e999999999"], "fraction"),
    ((*CONTRAST, "Weights"), ["nan"], "fraction"),
    ((*CONTRAST, "Weights"), [True], "must be a number"),
    ((*CONTRAST, "Weights"), [float("inf")], "finite"),
    ((*CONTRAST, "Test"), "pass", "Dataset is the last"),
    ((*CONTRAST, "Test"), "z", "must be one of t, F"),
    ((*NODE, "DummyContrasts"), [], "must be an object"),
    ((*NODE, "DummyContrasts"), {"Test": "t", "Contrasts": "age"}, "must be a list"),
    ((*NODE, "Transformations", "Transformer"), "nistats", "must be one of pybids-transforms-v1"),
    ((*NODE, "Transformations", "Instructions"), {}, "must be a list"),
    (
        INSTRUCTION,
        {"Name": "Convolve", "Input": ["a"]},
        "transformation 'Convolve' of node 'group' is not taken",
    ),
    (INSTRUCTION, {"Name": "Scale"}, "list of variables"),
    (INSTRUCTION, {"Name": "Rename", "Input": ["a"]}, "needs Output"),
    (INSTRUCTION, {"Name": "Copy", "Input": ["a"], "Output": ["b", "c"]}, "1 Input and 2 Output"),
    (INSTRUCTION, {"Name": "Product", "Input": ["a", "b"]}, "one Output"),
    (INSTRUCTION, {"Name": "Filter", "Input": ["a"]}, "needs Query"),
    (INSTRUCTION, {"Name": "Filter", "Input": ["a"], "Query": "a.__class__()"}, "comparisons"),
    (INSTRUCTION, {"Name": "Replace", "Input": ["a"], "Replace": {"x": ["y"]}}, "number, text or null"),
    (INSTRUCTION, {"Name": "Factor", "Input": ["a"], "Constraint": "drop"}, "did you mean 'drop_one'"),
    (("Input",), [], "must be an object"),
    (("Input", "task"), {"a": 1}, "must be a label"),
    (("Input", "task"), [True], "must be a label"),
    (("Edges",), [{"Source": "run", "Destination": "grp"}], "Nodes has run, group"),
    (
        ("Edges",),
        [{"Source": "run", "Destination": "group", "Filter": {"contrast": [{"a": 1}]}}],
        "'contrast', must be a label or a list of labels",
    ),
    (("Name",), 3, "must be text"),
]


@pytest.mark.parametrize(("path", "value", "message"), WRONG)
def test_parse_model_spec__says_what_is_wrong(path, value, message):
    with pytest.raises(ModelSpecError, match=message) as error:
        parse_model_spec(edited(path, value))
    assert error.value.exit_code == 64
    str(error.value).encode()


@pytest.mark.parametrize(
    "value", [None, 3, "text", [], [1], {}, {1: 2}, {"Nodes": None}, {"Nodes": []}, True]
)
def test_parse_model_spec__refuses_other_files(value):
    with pytest.raises(ModelSpecError):
        parse_model_spec(value)


def paths_of(value, path=()):
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from paths_of(inner, (*path, key))


JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(
        ["1 + age", "(1 | g)", "Dataset", "age", "F", "1/3", 10**400, "a\ud800", "`", "(" * 100, b"x"]
    ),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.sampled_from([path for path in paths_of(GROWTH) if path]), JUNK | st.just(...))
def test_parse_model_spec__fuzzed_spec_is_read_or_a_spec_error(path, junk):
    try:
        parse_model_spec(edited(path, junk))
    except ModelSpecError as error:
        str(error).encode()
