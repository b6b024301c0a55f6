"""Faults of columns are refused where the model uses them, by whatever name, and nowhere else."""

from __future__ import annotations

import pandas as pd
import pytest

from blmm_bids.design.build import build_design
from blmm_bids.design.faults import Origin, TableFaults
from blmm_bids.design.spec import parse_model_spec
from blmm_bids.errors import BlmmError, DataError, InvalidBIDSError, ModelSpecError

NUMBERS = {"20,5": 20.5, "21,5": 21.5, "22,5": 22.5}
SAID = "'g' has 'unknown' in 1 line"


def table():
    return pd.DataFrame(
        {
            "subject": [f"{row // 2}" for row in range(12)],
            "g": ["unknown", *("a", "b") * 5, "a"],
            "age": [None, *(20.0 + row * row for row in range(11))],
            "x": [float(row * 7 % 5) for row in range(12)],
            "text": [f"{20 + row % 3},5" for row in range(12)],
        }
    )


FAULTS = TableFaults(
    mixed={"text": "'text' looks like numbers"},
    suspects={"g": {0: ("unknown", SAID)}, "age": {0: ("?", "'age' has '?'")}},
    unusable={"iq": InvalidBIDSError("iq.tsv, line 2: 1 cells"), "score": DataError("two values")},
    unread=("'iq' (iq.tsv, line 2: 1 cells)",),
    origins={"g": Origin("participants", "text"), "subject": Origin("", "entity of the images")},
    notices={"x": ("'NA' (2) read as missing",), "age": ("guessed",)},
)


def build(formula, *instructions):
    node = {
        "Level": "Dataset",
        "Name": "n",
        "Model": {"Formula": formula},
        "Transformations": {"Transformer": "pybids-transforms-v1", "Instructions": list(instructions)},
    }
    return build_design(parse_model_spec({"Nodes": [node]}).nodes[0], table(), {}, FAULTS)


@pytest.mark.parametrize(
    ("formula", "instructions", "kind", "said"),
    [
        ("g", [], DataError, SAID),
        ("C(g)", [], DataError, SAID),
        ("x + (1 | g)", [], DataError, SAID),
        ("age", [], DataError, "'age' has"),
        ("z", [{"Name": "Scale", "Input": ["age"], "Output": ["z"]}], DataError, "'age' has"),
        ("h", [{"Name": "Copy", "Input": ["g"], "Output": ["h"]}], DataError, SAID),
        ("`g.a`", [{"Name": "Factor", "Input": ["g"]}], DataError, SAID),
        ("x", [{"Name": "Filter", "Query": "g != 'b'"}], DataError, SAID),
        ("text", [], DataError, "looks like numbers"),
        ("x + (text | subject)", [], DataError, "looks like numbers"),
        ("h", [{"Name": "Copy", "Input": ["text"], "Output": ["h"]}], DataError, "looks like numbers"),
        ("h", [{"Name": "Rename", "Input": ["text"], "Output": ["h"]}], DataError, "looks like numbers"),
        ("x + iq", [], InvalidBIDSError, "the model uses 'iq': iq.tsv, line 2"),
        ("x + (1 | iq)", [], InvalidBIDSError, "iq.tsv, line 2"),
        ("z", [{"Name": "Scale", "Input": ["iq"], "Output": ["z"]}], InvalidBIDSError, "iq.tsv, line 2"),
        ("x", [{"Name": "Filter", "Query": "iq > 80"}], InvalidBIDSError, "iq.tsv, line 2"),
        ("score", [], DataError, "the model uses 'score': two values"),
        ("agee", [], ModelSpecError, "'agee', absent .*did you mean 'age'.* Not read: 'iq' .iq.tsv, line 2"),
    ],
)
def test_build_design__refuses_a_fault_where_it_is_used(formula, instructions, kind, said):
    with pytest.raises(BlmmError, match=said) as caught:
        build(formula, *instructions)
    assert type(caught.value) is kind


@pytest.mark.parametrize(
    ("formula", "instructions"),
    [
        ("x", []),
        ("g", [{"Name": "Filter", "Query": "g != 'unknown'"}]),
        ("g", [{"Name": "Replace", "Input": ["g"], "Replace": {"unknown": "a"}}]),
        ("g", [{"Name": "Replace", "Input": ["g"], "Replace": {"unknown": None}}]),
        ("x + (1 | text)", []),
        ("x + C(text)", []),
        ("h", [{"Name": "Replace", "Input": ["text"], "Output": ["h"], "Replace": NUMBERS}]),
    ],
)
def test_build_design__leaves_faults_alone_that_do_not_matter(formula, instructions):
    assert build(formula, *instructions).design.n_obs >= 11


def test_build_design__says_what_was_guessed_of_columns_that_are_used():
    assert build("x").notices == (
        "'NA' (2) read as missing",
        "could not be read, and no model uses them: 'iq' (iq.tsv, line 2: 1 cells)",
    )
    instructions = [{"Name": "Filter", "Query": "g != 'unknown'"}]
    found = {each.name: each for each in build("x + g + (1 | subject)", *instructions).variables}
    assert (found["g"].reason, found["g"].table) == ("text", "participants")
    assert found["subject"].reason == "grouping factor"
    assert (found["x"].kind, found["x"].reason) == ("numeric", "made by a transformation")
