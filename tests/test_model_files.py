"""Kinds of model files that are in use, each with the fits that FitLins, or bidspm, makes of it.

The specs are made up; what they stand for was read in public repositories of BIDS Stats Models.
"""

from __future__ import annotations

import pytest

from blmm_bids.app import inputs
from blmm_bids.app.inputs import plan_fits
from blmm_bids.bids.dataset import DatasetOptions, find_observations
from blmm_bids.config.settings import Settings, WorkOptions
from blmm_bids.design.build import build_design
from blmm_bids.design.spec import parse_model_spec
from blmm_bids.errors import BlmmError, DataError, ModelSpecError, NoMatchError
from tests.datasets import describe, write_image, write_tsv

RUN = {
    "Level": "Run",
    "Name": "run_level",
    "GroupBy": ["run", "subject"],
    "Model": {
        "Type": "glm",
        "X": [1, "trial_type.*"],
        "HRF": {"Variables": ["trial_type.*"], "Model": "spm"},
    },
    "DummyContrasts": {"Test": "t"},
}
SUBJECT = {
    "Level": "Subject",
    "Name": "subject_level",
    "GroupBy": ["subject", "contrast"],
    "Model": {"Type": "glm", "X": [1]},
    "DummyContrasts": {"Test": "t"},
}
GROUP = {
    "Level": "Dataset",
    "Name": "group",
    "GroupBy": ["contrast"],
    "Model": {"Type": "glm", "X": [1]},
    "DummyContrasts": {"Test": "t"},
}
SUBJECTS = tuple(f"{number:02d}" for number in range(1, 9))
SERIES = {"task": ["stop"], "run": [1, 2], "desc": "preproc", "suffix": "bold", "space": "MNI"}


def spec_of(*nodes, **more):
    return {
        "Name": "m",
        "BIDSModelVersion": "1.0.0",
        "Input": {"task": ["stop"]},
        "Nodes": list(nodes),
        **more,
    }


def group(**more):
    return {**GROUP, **more}


def tree(
    root, contrasts=("go", "stop"), runs=(), levels=("subject_level",), sessions=(None,), task="_task-stop"
):
    """Write maps of 8 subjects: in node- folders where `levels` has several, else as flat files."""
    describe(root)
    rows = [f"sub-{label} {20 + i % 5} {'ab'[i % 2]} {1 + i // 4}" for i, label in enumerate(SUBJECTS)]
    write_tsv(root / "participants.tsv", "participant_id age arm wave", *rows)
    for level in levels:
        folder = root / f"node-{level}" if len(levels) > 1 else root
        for subject in SUBJECTS:
            for session in sessions:
                for run in runs if level == "runLevel" else (None,):
                    for contrast in contrasts:
                        name = f"sub-{subject}" + (f"_ses-{session}" if session else "") + task
                        name += (
                            f"_run-{run}" if run else ""
                        ) + f"_contrast-{contrast}_stat-effect_statmap.nii.gz"
                        write_image(folder / f"sub-{subject}" / name)
    return root


def fits_of(root, spec):
    """(node, group, images, columns of X, names of contrasts) of each fit."""
    work = WorkOptions(root.parent / "work")
    settings = Settings(root.parent / "out", parse_model_spec(spec), DatasetOptions(root), work)
    fits = []
    for node, labels, observations in plan_fits(settings):
        built = build_design(node, observations.table, observations.ambiguous)
        told = "_".join(labels.values())
        names = ",".join(contrast.name for contrast in built.contrasts)
        fits.append((node.name, told, built.design.n_obs, ",".join(built.design.fixef_names), names))
    return fits


EACH = [("group", "go", 8, "Intercept", "Intercept"), ("group", "stop", 8, "Intercept", "Intercept")]
KINDS = {
    "Input of the series": (spec_of(RUN, SUBJECT, GROUP, Input=SERIES), {}, EACH),
    "Input of the series, no task in names": (spec_of(RUN, SUBJECT, GROUP, Input=SERIES), {"task": ""}, EACH),
    "folders of all levels": (
        spec_of(RUN, SUBJECT, GROUP, Input=SERIES),
        {"levels": ("runLevel", "subjectLevel"), "runs": ("1", "2")},
        EACH,
    ),
    "a single run in names": (
        spec_of(RUN, GROUP, Input=SERIES),
        {"levels": ("runLevel",), "runs": ("1",)},
        EACH,
    ),
    "sessions as groups": (
        spec_of(
            {**SUBJECT, "GroupBy": ["subject", "session", "contrast"]}, group(GroupBy=["contrast", "session"])
        ),
        {"contrasts": ("go",), "sessions": ("pre", "post")},
        [("group", "go_post", 8, "Intercept", "Intercept"), ("group", "go_pre", 8, "Intercept", "Intercept")],
    ),
    "a session that no name has": (spec_of(SUBJECT, group(GroupBy=["contrast", "session"])), {}, EACH),
    "edges with filters": (
        spec_of(
            SUBJECT,
            group(Name="all"),
            group(Name="some"),
            Edges=[
                {"Source": "subject_level", "Destination": "all"},
                {"Source": "subject_level", "Destination": "some", "Filter": {"contrast": ["stop"]}},
            ],
        ),
        {},
        [
            ("all", "go", 8, "Intercept", "Intercept"),
            ("all", "stop", 8, "Intercept", "Intercept"),
            ("some", "stop", 8, "Intercept", "Intercept"),
        ],
    ),
    "an edge that filters a column": (
        spec_of(
            SUBJECT,
            group(),
            Edges=[
                {"Source": "subject_level", "Destination": "group", "Filter": {"arm": "a", "contrast": "go"}}
            ],
        ),
        {},
        [("group", "go", 4, "Intercept", "Intercept")],
    ),
    "GroupBy a column": (
        spec_of(SUBJECT, group(GroupBy=["contrast", "arm"])),
        {"contrasts": ("go",)},
        [("group", "go_a", 4, "Intercept", "Intercept"), ("group", "go_b", 4, "Intercept", "Intercept")],
    ),
    "GroupBy a column of numbers": (
        spec_of(SUBJECT, group(GroupBy=["contrast", "wave"])),
        {"contrasts": ("go",)},
        [("group", "go_1", 4, "Intercept", "Intercept"), ("group", "go_2", 4, "Intercept", "Intercept")],
    ),
    "contrasts as columns": (
        spec_of(SUBJECT, group(GroupBy=[], Model={"X": ["trial_type.go", "trial_type.stop"]})),
        {"contrasts": ("trialTypeGo", "trialTypeStop", "goVsStop")},
        [("group", "", 16, "trial_type.go,trial_type.stop", "trial_type.go,trial_type.stop")],
    ),
    "one contrast as the only column": (
        spec_of(SUBJECT, group(GroupBy=[], Model={"X": ["go"]})),
        {},
        [("group", "", 8, "go", "go")],
    ),
    "contrasts chosen by DummyContrasts": (
        spec_of(SUBJECT, group(DummyContrasts={"Test": "t", "Contrasts": ["stop_gt_go"]})),
        {"contrasts": ("go", "stopGtGo")},
        [("group", "stopGtGo", 8, "Intercept", "Intercept")],
    ),
    "conditions without the column of events": (
        spec_of(SUBJECT, group(DummyContrasts={"Test": "t", "Contrasts": ["go"]})),
        {"contrasts": ("trialTypeGo", "trialTypeStop")},
        [("group", "trialTypeGo", 8, "Intercept", "Intercept")],
    ),
    "Options.Mask": (
        spec_of(
            SUBJECT, group(Model={"X": [1], "Options": {"Mask": {"desc": ["brain"], "suffix": ["mask"]}}})
        ),
        {},
        EACH,
    ),
    "VarianceComponents": (
        spec_of(
            {**SUBJECT, "GroupBy": ["subject", "session", "contrast"]},
            group(Model={"X": [1], "VarianceComponents": [{"Name": "subjects", "LevelsFrom": "subject"}]}),
        ),
        {"contrasts": ("go",), "sessions": ("pre", "post")},
        [("group", "go", 16, "Intercept", "Intercept")],
    ),
    "Steps of 0.x": (
        {
            "Name": "m",
            "Input": {"task": "stop"},
            "Steps": [
                {
                    "Level": "run",
                    "Model": {"X": ["a"]},
                    "Transformations": [{"Name": "Convolve", "Input": ["a"]}],
                },
                {"Level": "subject", "Model": {"X": ["a"]}},
                {"Level": "dataset", "DummyContrasts": {"Conditions": ["stop"], "Type": "t"}},
            ],
        },
        {},
        [("dataset", "stop", 8, "Intercept", "Intercept")],
    ),
    "wildcards in X": (
        spec_of(
            SUBJECT,
            group(
                Transformations=[{"Name": "Factor", "Input": "arm"}],
                Model={"X": ["arm.*"]},
            ),
        ),
        {"contrasts": ("go",)},
        [("group", "go", 8, "arm.a,arm.b", "arm.a,arm.b")],
    ),
    "contrasts chosen by DummyContrasts beside a covariate": (
        spec_of(
            SUBJECT, group(Model={"X": [1, "age"]}, DummyContrasts={"Conditions": ["stop"], "Type": "t"})
        ),
        {},
        [("group", "stop", 8, "Intercept,age", "Intercept,age")],
    ),
    "no GroupBy": (
        spec_of(SUBJECT, {key: value for key, value in GROUP.items() if key != "GroupBy"}),
        {},
        EACH,
    ),
    "a factor without an intercept": (
        spec_of(
            SUBJECT,
            group(
                Transformations={
                    "Transformer": "pybids-transforms-v1",
                    "Instructions": [{"Name": "Factor", "Input": "arm"}],
                },
                Model={"X": ["arm.a", "arm.b"]},
                DummyContrasts=None,
                Contrasts=[
                    {"Name": "aOverB", "ConditionList": ["arm.a", "arm.b"], "Weights": [1, -1], "Test": "t"}
                ],
            ),
        ),
        {"contrasts": ("go",)},
        [("group", "go", 8, "arm.a,arm.b", "aOverB")],
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_plan_fits__kinds_of_model_files(tmp_path, kind):
    spec, maps, expected = KINDS[kind]
    assert fits_of(tree(tmp_path / "data", **maps), spec) == expected


REFUSED = {
    "a wildcard that matches nothing": (
        spec_of(SUBJECT, group(Model={"X": [1, "motion_*"]})),
        {},
        ModelSpecError,
        "wildcard 'motion_.', which no variable matches",
    ),
    "GroupBy in another case": (
        spec_of(SUBJECT, group(GroupBy=["contrast", "Arm"])),
        {},
        DataError,
        "Did you mean 'arm'",
    ),
    "run maps alone where the model reads subjects'": (
        spec_of(RUN, SUBJECT, GROUP),
        {"levels": ("runLevel",), "runs": ("1", "2")},
        DataError,
        "whose GroupBy .contrast, subject. has no run, but all 32 maps carry one",
    ),
    "contrasts as columns within a contrast": (
        spec_of(SUBJECT, group(Model={"X": ["go", "stop"]})),
        {},
        ModelSpecError,
        "GroupBy has 'contrast'",
    ),
    "a Dataset node that reads a Dataset node": (
        spec_of(SUBJECT, GROUP, group(Name="above"), Edges=[{"Source": "group", "Destination": "above"}]),
        {},
        ModelSpecError,
        "reads the Dataset node 'group'",
    ),
    "an edge's filter that leaves nothing": (
        spec_of(
            SUBJECT,
            GROUP,
            Edges=[{"Source": "subject_level", "Destination": "group", "Filter": {"contrast": ["nogo"]}}],
        ),
        {},
        NoMatchError,
        "contrast: go, stop",
    ),
    "an edge's filter on nothing that there is": (
        spec_of(
            SUBJECT,
            GROUP,
            Edges=[{"Source": "subject_level", "Destination": "group", "Filter": {"amr": ["a"]}}],
        ),
        {},
        ModelSpecError,
        "did you mean 'arm'",
    ),
    "dummy contrasts that are nowhere": (
        spec_of(SUBJECT, group(DummyContrasts={"Test": "t", "Contrasts": ["rest"]})),
        {},
        ModelSpecError,
        "no input contrast of the images .there is go, stop.",
    ),
    "GroupBy a name that nothing has": (
        spec_of(SUBJECT, group(GroupBy=["contrast", "diagnosis"])),
        {},
        DataError,
        "no such column .they have age, arm, wave.",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_plan_fits__refuses_with_the_true_reason(tmp_path, kind):
    spec, maps, error, message = REFUSED[kind]
    with pytest.raises(error, match=message) as found:
        fits_of(tree(tmp_path / "data", **maps), spec)
    assert isinstance(found.value, BlmmError)


def test_plan_fits__says_once_what_is_set_aside(tmp_path, caplog):
    root = tree(tmp_path / "data", levels=("runLevel", "subjectLevel"), runs=("1", "2"))
    fits_of(root, spec_of(RUN, SUBJECT, group(Name="one"), group(Name="two"), Input=SERIES))
    said = [record.getMessage() for record in caplog.records]
    aside = [text for text in said if "set aside" in text]
    assert len(aside) == 1
    assert (
        "what it says of desc, run, space, suffix is not about the maps of node 'subject_level'" in aside[0]
    )
    assert len([text for text in said if "32 images in other folders" in text]) == 1


@pytest.mark.parametrize("folder", ["", "node-subjectLevel"])
def test_plan_fits__maps_of_runs_do_not_say_what_subjects_maps_are_called(tmp_path, folder):
    runs = "node-runLevel" if folder else ""
    root = tree(tmp_path / "data", levels=())
    for label in SUBJECTS:
        for run in (1, 2):
            name = f"sub-{label}_task-stop_run-{run}_space-MNI_contrast-go_stat-effect_statmap.nii.gz"
            write_image(root / runs / f"sub-{label}" / name)
        write_image(root / folder / f"sub-{label}" / f"sub-{label}_contrast-go_stat-effect_statmap.nii.gz")
    assert fits_of(root, spec_of(RUN, SUBJECT, GROUP, Input=SERIES)) == EACH[:1]


def test_plan_fits__a_subject_without_the_wanted_map_is_named(tmp_path, caplog):
    root = tree(tmp_path / "data", contrasts=("go",), levels=("subjectLevel",))
    for run in (1, 2):
        write_image(root / "sub-09" / f"sub-09_task-stop_run-{run}_contrast-go_stat-effect_statmap.nii.gz")
    assert [fit[2] for fit in fits_of(root, spec_of(RUN, SUBJECT, GROUP))] == [8]
    assert "1 subjects have no other map (09)" in caplog.text


SAID = {
    "no value of a column in GroupBy": (
        spec_of(SUBJECT, group(GroupBy=["contrast", "dose"])),
        "4 of 16 images are in no fit: dose, which GroupBy names, is missing for them",
    ),
    "a label in a filter that no map has": (
        spec_of(
            SUBJECT,
            GROUP,
            Edges=[
                {"Source": "subject_level", "Destination": "group", "Filter": {"contrast": ["stop", "nogo"]}}
            ],
        ),
        "the Filter in Edges names contrast nogo, which no map has (there is go, stop)",
    ),
    "a filter between lower nodes": (
        spec_of(
            RUN,
            SUBJECT,
            GROUP,
            Edges=[
                {"Source": "run_level", "Destination": "subject_level", "Filter": {"contrast": ["go"]}},
                {"Source": "subject_level", "Destination": "group"},
            ],
        ),
        "the Filter of the edge from 'run_level' to 'subject_level' is for whoever fits these nodes",
    ),
    "masks that are not there": (
        spec_of(SUBJECT, group(Model={"X": [1], "Options": {"Mask": {"desc": ["gm"]}}})),
        "Options.Mask (desc-gm) finds no mask for 16 of 16 images",
    ),
    "Dataset nodes in a row": (
        spec_of(SUBJECT, group(Name="one"), group(Name="two")),
        "node 'two' reads the maps of 'subject_level', the last lower node before it (not those of 'one')",
    ),
    "two contrasts of each subject, nothing that ties them": (
        spec_of(SUBJECT, group(GroupBy=[], Model={"X": ["go", "stop"]})),
        "go, stop in the model: 1 for the images of this input contrast, 0 for others",
    ),
}


@pytest.mark.parametrize("kind", SAID)
def test_plan_fits__says_what_it_assumes(tmp_path, caplog, kind):
    spec, message = SAID[kind]
    root = tree(tmp_path / "data")
    rows = [f"sub-{label} {'n/a' if i < 2 else 'lh'[i % 2]}" for i, label in enumerate(SUBJECTS)]
    write_tsv(root / "participants.tsv", "participant_id dose", *rows)
    fits_of(root, spec)
    assert message in " ".join((caplog.text, *parse_model_spec(spec).notices))


def test_plan_fits__reads_once_what_nodes_share(tmp_path, monkeypatch):
    calls = []

    def counted(*arguments):
        calls.append(arguments)
        return find_observations(*arguments)

    monkeypatch.setattr(inputs, "find_observations", counted)
    filtered = [
        {"Source": "subject_level", "Destination": name, "Filter": {"contrast": labels}}
        for name, labels in (("one", ["go"]), ("two", ["go"]), ("three", ["stop"]))
    ]
    spec = spec_of(SUBJECT, *(group(Name=name) for name in ("one", "two", "three")), Edges=filtered)
    fits = fits_of(tree(tmp_path / "data"), spec)
    assert [fit[:3] for fit in fits] == [("one", "go", 8), ("two", "go", 8), ("three", "stop", 8)]
    assert len(calls) == 2
