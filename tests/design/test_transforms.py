"""pybids-transforms-v1 on an observation table."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from blmm_bids.design.instructions import parse_instructions
from blmm_bids.design.transforms import apply_instructions
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


def run(*instructions, table=TABLE, drop_rows=True):
    return apply_instructions(parse_instructions(instructions, "node 'n'"), table, {}, drop_rows=drop_rows)


SD = np.std([20, 30, 50], ddof=1)
MEAN = 100 / 3
RESULTS = [
    ({"Name": "Demean", "Input": ["age"]}, {"age": [20 - MEAN, 30 - MEAN, np.nan, 50 - MEAN]}),
    (
        {"Name": "Scale", "Input": ["age"]},
        {"age": [(20 - MEAN) / SD, (30 - MEAN) / SD, np.nan, (50 - MEAN) / SD]},
    ),
    (
        {"Name": "Scale", "Input": "age", "Rescale": False, "Output": "agec"},
        {"age": TABLE["age"], "agec": [20 - MEAN, 30 - MEAN, np.nan, 50 - MEAN]},
    ),
    ({"Name": "Scale", "Input": ["age"], "Demean": False}, {"age": TABLE["age"] / SD}),
    (
        {"Name": "Scale", "Input": ["age"], "ReplaceNA": "after", "Rescale": False},
        {"age": [20 - MEAN, 30 - MEAN, 0, 50 - MEAN]},
    ),
    ({"Name": "Scale", "Input": ["age"], "ReplaceNA": "before", "Rescale": False}, {"age": [-5, 5, -25, 25]}),
    ({"Name": "Demean", "Input": ["score"], "GroupBy": ["site"]}, {"score": [-1, 0, 1, 0]}),
    (
        {"Name": "Demean", "Input": ["rot_*"], "OutputSuffix": "_c"},
        {
            "rot_x_c": [-1.75, -0.75, 0.25, 2.25],
            "rot_y_c": [-1.25, -1.25, -0.25, 2.75],
            "rot_x": TABLE["rot_x"],
        },
    ),
    ({"Name": "Copy", "Input": ["age", "sex"], "Output": ["x", "y"]}, {"x": TABLE["age"], "y": TABLE["sex"]}),
    ({"Name": "Rename", "Input": ["age"], "Output": ["years"]}, {"years": TABLE["age"], "age": None}),
    (
        {"Name": "Factor", "Input": ["sex"]},
        {"sex.F": [0, 1, 0, np.nan], "sex.M": [1, 0, 1, np.nan], "sex": None},
    ),
    (
        {"Name": "Factor", "Input": ["site"], "Constraint": "drop_one", "Sep": "_"},
        {"site_2": [0, 1, 0, 0], "site_3": [0, 0, 0, 1], "site_1": None},
    ),
    (
        {"Name": "Factor", "Input": ["site"], "Constraint": "drop_one", "RefLevel": 3},
        {"site.1": [1, 0, 1, 0], "site.2": [0, 1, 0, 0], "site.3": None},
    ),
    (
        {"Name": "Factor", "Input": ["site"], "Constraint": "mean_zero"},
        {"site.2": [-0.5, 1, -0.5, 0], "site.3": [-0.5, 0, -0.5, 1], "site.1": None},
    ),
    ({"Name": "Replace", "Input": ["sex"], "Replace": {"M": 1, "F": -1}}, {"sex": [1, -1, 1, np.nan]}),
    (
        {
            "Name": "Replace",
            "Input": ["site"],
            "Replace": {"3": "C", "1": "A", "2": "B"},
            "Output": ["place"],
        },
        {"place": ["A", "B", "A", "C"], "site": TABLE["site"]},
    ),
    ({"Name": "Replace", "Input": ["score"], "Replace": {4: None}}, {"score": [1, 2, 3, np.nan]}),
    ({"Name": "Product", "Input": ["age", "score"], "Output": ["both"]}, {"both": [20, 60, np.nan, 200]}),
]


@pytest.mark.parametrize(("instruction", "expected"), RESULTS)
def test_apply_instructions__computes(instruction, expected):
    before = TABLE.copy(deep=True)
    table = run(instruction).table
    pd.testing.assert_frame_equal(TABLE, before)
    for name, values in expected.items():
        if values is None:
            assert name not in table
            continue
        found = table[name].astype(object).where(table[name].notna(), None).tolist()
        wanted = [None if pd.isna(value) else value for value in values]
        assert found == pytest.approx(wanted) if not isinstance(wanted[0], str) else found == wanted


def test_apply_instructions__runs_in_order():
    table = run(
        {"Name": "Rename", "Input": ["age"], "Output": ["years"]},
        {"Name": "Filter", "Input": ["years"], "Query": "years < 40"},
        {"Name": "Demean", "Input": ["years", "score"]},
    )
    assert table.table["score"].tolist() == [-0.5, 0.5]
    assert dict(table.dropped) == {2: "Filter: not years < 40", 3: "Filter: not years < 40"}


def test_apply_instructions__keeps_rows_when_told():
    found = run(
        {"Name": "Filter", "Input": ["score"], "Query": "score < 2"},
        {"Name": "DropNA", "Input": ["age"]},
        drop_rows=False,
    )
    assert len(found.table) == 4
    assert not found.dropped


def test_apply_instructions__drops_missing():
    found = run({"Name": "DropNA", "Input": ["age", "sex"]})
    assert dict(found.dropped) == {2: "DropNA: age or sex missing", 3: "DropNA: age or sex missing"}


WRONG = [
    ({"Name": "Scale", "Input": ["agee"]}, "transformation Scale uses 'agee', absent .* did you mean 'age'"),
    ({"Name": "Scale", "Input": ["sex"]}, "'sex' holds labels"),
    ({"Name": "Product", "Input": ["sex", "age"], "Output": ["x"]}, "'sex' holds labels"),
    ({"Name": "Scale", "Input": ["nothing_*"]}, "no variable matches 'nothing_\\*'"),
    ({"Name": "Factor", "Input": ["sex"], "RefLevel": "W"}, "no level 'W' \\(has F, M\\)"),
    ({"Name": "Filter", "Input": ["age"], "Query": "agee > 3"}, "Filter 'agee > 3' uses 'agee'"),
    ({"Name": "Filter", "Query": "sex > 'A'"}, "order of 'sex'"),
    ({"Name": "Filter", "Query": "age == 'old'"}, "'age', which is numeric, with text"),
]


@pytest.mark.parametrize(("instruction", "message"), WRONG)
def test_apply_instructions__says_what_is_wrong(instruction, message):
    with pytest.raises(ModelSpecError, match=message):
        run(instruction)


def test_apply_instructions__refuses_to_scale_a_constant():
    with pytest.raises(ModelSpecError, match="'k' has one value"):
        run({"Name": "Scale", "Input": ["k"]}, table=TABLE.assign(k=3.0))
