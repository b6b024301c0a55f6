"""What tells the images of a fit apart is in the model, is a repeat, or stops the run."""

from __future__ import annotations

import pytest

from blmm_bids.app.inputs import plan_fits
from blmm_bids.app.pooling import check_pooling
from blmm_bids.bids.dataset import DatasetOptions
from blmm_bids.config.settings import Settings, WorkOptions
from blmm_bids.design.build import build_design
from blmm_bids.design.spec import parse_model_spec
from blmm_bids.errors import DataError
from tests.datasets import describe, write_image, write_tsv

STATMAP = "stat-effect_statmap"
RANDOM = "(1 | subject)"


def tree(root, *names, subjects=8):
    """Write an image of each name, with ``{i}`` for the number of the subject, for each subject."""
    describe(root)
    rows = [f"sub-{i:02d} {20 + i * i % 7} {'ab'[i % 2]}" for i in range(subjects)]
    write_tsv(root / "participants.tsv", "participant_id age arm", *rows)
    for i in range(subjects):
        for name in dict.fromkeys(
            name.format(i=i, half="ab"[i % 2], kind=("stat", "bold")[i % 2]) for name in names
        ):
            write_image(root / f"sub-{i:02d}" / f"sub-{i:02d}_{name}.nii.gz")
    return root


def pooled(root, formula, group_by=(), chosen=None):
    node = {
        "Level": "Dataset",
        "Name": "group",
        "GroupBy": list(group_by),
        "Model": {"Formula": formula},
        "DummyContrasts": {"Test": "t"},
    }
    spec = parse_model_spec({"Name": "m", "Input": chosen or {}, "Nodes": [node]})
    settings = Settings(root.parent / "out", spec, DatasetOptions(root), WorkOptions(root.parent / "work"))
    found = []
    for own, _, observations in plan_fits(settings):
        said = check_pooling(own, observations, build_design(own, observations.table, {}))
        found += [*said.notices, *said.warnings]
    return found


ANY = {"suffix": ["statmap", "dwimap", "boldmap"]}
STOPPED = {
    "contrast": (("contrast-a_" + STATMAP, "contrast-b_" + STATMAP), "1 + age"),
    "contrast, though tied": (("contrast-a_" + STATMAP, "contrast-b_" + STATMAP), "1 + (1 | subject)"),
    "param": (("param-FA_dwimap", "param-MD_dwimap"), "1"),
    "label": (("label-GM_dwimap", "label-WM_dwimap"), "1"),
    "hemi": (("hemi-L_" + STATMAP, "hemi-R_" + STATMAP), "1 + (1 | subject)"),
    "task": (("task-a_" + STATMAP, "task-b_" + STATMAP), "1 + (1 | subject)"),
    "echo": (("echo-1_" + STATMAP, "echo-2_" + STATMAP), "1 + (1 | subject)"),
    "desc, half of the subjects each": (("desc-{half}_" + STATMAP,), "1 + age"),
    "desc, which half of the subjects have": (("desc-a_" + STATMAP,), "1 + age"),
    "suffix": (("desc-a_{kind}map",), "1 + age"),
}


@pytest.mark.parametrize("kind", STOPPED)
def test_check_pooling__stops_at_what_nothing_accounts_for(tmp_path, kind):
    names, formula = STOPPED[kind]
    root = tree(tmp_path / "data", *names)
    if kind.endswith("have"):
        for path in sorted(root.rglob("*desc-a*"))[::2]:
            path.rename(path.with_name(path.name.replace("_desc-a", "")))
    name = kind.split(",", maxsplit=1)[0]
    with pytest.raises(
        DataError, match=rf"2 labels of '{name}' \(.* nothing in the model tells them"
    ) as error:
        pooled(root, formula, chosen=ANY)
    assert f'"{name}": ' in str(error.value)
    assert "in the spec's Input or in --bids-filter-file" in str(error.value)


ACCOUNTED = {
    "in the formula": (
        ("contrast-a_" + STATMAP, "contrast-b_" + STATMAP),
        "1 + contrast + (1 | subject)",
        (),
    ),
    "a random factor": (
        ("contrast-a_" + STATMAP, "contrast-b_" + STATMAP),
        "1 + (1 | subject) + (1 | contrast)",
        (),
    ),
    "in GroupBy": (("contrast-a_" + STATMAP, "contrast-b_" + STATMAP), "1 + age", ("contrast",)),
    "goes with the contrast": (
        ("task-x_contrast-a_" + STATMAP, "task-y_contrast-b_" + STATMAP),
        "1 + contrast + (1 | subject)",
        (),
    ),
    "goes with a covariate's categories": (("desc-{half}_" + STATMAP,), "1 + arm", ()),
    "as columns": (("contrast-a_" + STATMAP, "contrast-b_" + STATMAP), "0 + a + b + (1 | subject)", ()),
    "one image a subject": (("contrast-a_" + STATMAP,), "1 + age", ()),
    "subjects are fixed": (("ses-1_" + STATMAP, "ses-2_" + STATMAP), "1 + subject", ()),
}


@pytest.mark.parametrize("kind", ACCOUNTED)
def test_check_pooling__has_nothing_to_say(tmp_path, kind):
    names, formula, group_by = ACCOUNTED[kind]
    assert pooled(tree(tmp_path / "data", *names), formula, group_by) == []


SAID = {
    "repeated sessions": (
        ("ses-1_" + STATMAP, "ses-2_" + STATMAP),
        "1 + age + (1 | subject)",
        "session (1, 2) is not in the formula: repeats, which the random part accounts for",
    ),
    "repeated runs": (
        ("run-1_" + STATMAP, "run-2_" + STATMAP),
        "1 + (1 | subject)",
        "run (1, 2) is not in the formula: repeats",
    ),
    "a session of its own for each subject": (
        ("ses-20{i}_" + STATMAP,),
        "1 + age",
        "session (200, 201, 202, 203, 204, …) differs between subjects",
    ),
    "told apart by a random factor alone": (
        ("ses-1_" + STATMAP, "ses-2_" + STATMAP),
        "1 + age + (1 | session)",
        "16 images of 8 subjects count as independent observations",
    ),
    "told apart, but independent": (
        ("ses-1_" + STATMAP, "ses-2_" + STATMAP),
        "1 + session",
        "16 images of 8 subjects count as independent observations",
    ),
}


@pytest.mark.parametrize("kind", SAID)
def test_check_pooling__says_what_repeats(tmp_path, kind):
    names, formula, message = SAID[kind]
    (said,) = pooled(tree(tmp_path / "data", *names), formula)
    assert message in said


@pytest.mark.parametrize("formula", ["1", "1 + age", "1 + age + (1 | arm)"])
def test_check_pooling__images_of_a_subject_that_are_alike_and_loose(tmp_path, formula):
    root = tree(tmp_path / "data", "ses-1_" + STATMAP, "ses-2_" + STATMAP)
    with pytest.raises(DataError, match="8 subjects have several images that differ in session in this fit"):
        pooled(root, formula)
