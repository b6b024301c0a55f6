"""What a run says: workers, stages, a closing summary; more with -v, warnings alone with -q; a log of all."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from blmm_bids import __version__
from blmm_bids.app.summary import contrast_lines, shown_table
from blmm_bids.cli import main
from blmm_bids.stats.model import Contrast
from tests.datasets import longitudinal

SUBJECTS = tuple(f"{number:02d}" for number in range(1, 9))


def said(data, capsys, *arguments, n_procs=1):
    formula = [] if "--formula" in arguments else ["--formula", "1 + time + (1 | subject)"]
    command = [*formula, "--nprocs", str(n_procs), *arguments]
    assert main([str(data), str(data.parent / "out"), "group", *command]) == 0
    return capsys.readouterr().err


@pytest.fixture
def data(tmp_path):
    return longitudinal(tmp_path / "data", subjects=SUBJECTS, missing=())


def test_run__closes_with_paths_that_there_are(data, capsys):
    text = said(data, capsys)
    places = dict(re.findall(r"^(maps|report|methods|log): +(.*)$", text, re.M))
    assert list(places) == ["maps", "report", "methods", "log"]
    assert all(Path(place).exists() for place in places.values())
    assert re.search(r"^  time \(t\): largest \d+\.\d\d; \d+ voxels with p < 0.001, uncorrected$", text, re.M)
    assert re.search(r"^done in \d+\.\d s; CPU time \d+\.\d s, at most \d+ MB in one process$", text, re.M)
    for stage in ("images read: 24 of 24", "voxels fitted: 23 of 23"):
        assert re.search(rf"^{stage}, \S+ a second, \d+ s left, 1 workers, \d+ MB in use here$", text, re.M)
    assert "\033[" not in text


@pytest.mark.parametrize("asked", [(), ("--dashboard",)])
def test_run__has_a_dashboard_where_it_is_asked_for(data, capsys, asked):
    text = said(data, capsys, "--mem", "2G", *asked, n_procs=2)
    assert bool(re.search(r"^dashboard: http://127\.0\.0\.1:\d+/status$", text, re.M)) == bool(asked)
    assert ("who has an account on this machine can look at it" in text) == bool(asked)
    assert re.search(r"^workers: 2, up to \d+ MB each$", text, re.M)


def test_run__counts_what_its_workers_took(data, capsys):
    taken = []
    for n_procs in (1, 2):
        text = said(data, capsys, "--mem", "2G", "--no-resume", n_procs=n_procs)
        taken.append(float(re.search(r"CPU time (\d+\.\d) s", text)[1]))
    # This process has run other tests before; the two workers' start is what is new.
    assert taken[1] > taken[0] + 0.5


def test_run__says_more_or_nothing_and_keeps_a_log_of_all(data, capsys):
    assert said(data, capsys, "--quiet") == ""
    loud = said(data, capsys, "-v", "--no-resume")
    versions = f"blmm_bids {__version__}; Python 3."
    assert versions in loud
    log = (data.parent / "out" / "logs" / "blmm_bids.log").read_text(encoding="utf-8")
    assert versions in log
    assert "voxels fitted: 23 of 23" in log
    assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} DEBUG ", log)


@pytest.mark.parametrize(
    ("weights", "test", "line"),
    [
        ([[0, 1, -2]], "t", "c (t): 1*age - 2*sex[T.M]"),
        ([[0, -1, 0]], "t", "c (t): -1*age"),
        ([[1, 0.5, 0.25]], "t", "c (t): 1*Intercept + 0.5*age + 0.25*sex[T.M]"),
        ([[0, 1, 0], [0, 0, -1]], "F", "c (F): 1*age; -1*sex[T.M]"),
        ([[0, 1e-9, 1 / 3]], "t", "c (t): 1e-09*age + 0.333333*sex[T.M]"),
    ],
)
def test_contrast_lines__name_the_columns(weights, test, line):
    contrast = Contrast("c", np.array(weights, dtype=float), test)
    assert contrast_lines([contrast], ("Intercept", "age", "sex[T.M]")) == [line]


def test_contrast_lines__count_those_that_are_too_many():
    lines = contrast_lines([Contrast(f"c{n}", np.ones((1, 1)), "t") for n in range(25)], ("Intercept",))
    assert len(lines) == 21
    assert lines[-1] == "… and 5 more contrasts"


LONG = "a" * 70
# Images, masks of each, what is said of them, columns of the table
PATHS = [
    (["/d/sub-01/sub-01_x.nii", "/d/sub-02/sub-02_x.nii"], [[], []],
     ["path: /d/…_x.nii", "masks: no image has its own"], {"path": ["sub-01/sub-01", "sub-02/sub-02"]}),
    ([f"/{LONG}/sub-01_run-1.nii", f"/{LONG}/sub-01_run-2.nii"], [["/m/m.nii"], ["/m/m.nii"]],
     [f"path: /{LONG}/…", "masks: every image has /m/m.nii"],
     {"path": ["sub-01_run-1.nii", "sub-01_run-2.nii"]}),
    (["/d/a b/s1_run-11_z.nii", "/d/a b/s1_run-21_z.nii"], [["/m/1_k.nii"], ["/m/2_k.nii", "/m/1_k.nii"]],
     ["path: /d/a b/…_z.nii", "masks: /m/…_k.nii"],
     {"path": ["s1_run-11", "s1_run-21"], "masks": ["1", "2 1"]}),
    (["/d/s1_x.nii", "/d/s2_x.nii"], [["/m/s1_m.nii"], []],
     ["path: /d/…_x.nii", "masks: /m/…"], {"path": ["s1", "s2"], "masks": ["s1_m.nii", "n/a"]}),
    (["/d/s1_x.nii"], [["/m/s1_m.nii"]],
     ["path: /d/…", "masks: every image has /m/s1_m.nii"], {"path": ["s1_x.nii"]}),
    (["/s1_x.nii", "/d/s2_x.nii"], [[], []],
     ["path: /…_x.nii", "masks: no image has its own"], {"path": ["s1", "d/s2"]}),
]  # fmt: skip


@pytest.mark.parametrize(("paths", "masks", "notes", "columns"), PATHS)
def test_shown_table__cuts_paths_where_they_are_alike(paths, masks, notes, columns):
    images, own = [Path(path) for path in paths], [[Path(mask) for mask in each] for each in masks]
    table = pd.DataFrame({
        "path": paths, "masks": [" ".join(each) or None for each in masks], "age": 20.5, "note": "n" * 99,
    })  # fmt: skip
    said_of_it, shown = shown_table(table, images, own)
    assert said_of_it == notes
    assert {name: shown[name].tolist() for name in columns} == columns
    assert ("masks" in shown) == ("masks" in columns)
    assert shown["age"].tolist() == [20.5] * len(paths)
    assert shown["note"].iloc[0] == "n" * 59 + "…"


def test_dry_run__says_references_contrasts_and_masks(data, capsys):
    text = said(
        data, capsys, "--dry-run", "--reference", "sex=M", "--contrast", "c=time - 2*sex.F",
        "--formula", "1 + time + sex + (1 | subject)",
    )  # fmt: skip
    assert re.search(r"^  sex: categorical, reference M \(M: 12, F: 12\)", text, re.M)
    assert re.search(r"^  c \(t\): 1\*time - 2\*sex\[T\.F\]$", text, re.M)
    assert "names in contrasts are read as columns of the design: 'sex.F' as 'sex[T.F]'" in text
    assert re.search(rf"^  path: {data}/…_task-nback_space-MNI_contrast-face_stat-effect_statmap", text, re.M)
    assert re.search(rf"^  masks: {data}/…_task-nback_space-MNI_desc-brain_mask.nii.gz$", text, re.M)
    assert re.search(r"^ *sub-01/ses-01/func/sub-01_ses-01 +sub-01/ses-01/func/sub-01_ses-01 +01", text, re.M)


def test_dry_run__names_no_reference_where_each_level_has_a_column(data, capsys):
    text = said(data, capsys, "--dry-run", "--formula", "0 + sex + (1 | subject)")
    assert re.search(r"^  sex: categorical, no reference level \(F: 12, M: 12\)", text, re.M)


def test_run__keeps_the_reference_in_results_and_sidecars(data, capsys):
    said(data, capsys, "--formula", "1 + sex + time + (1 | subject)", "--reference", "sex=M")
    out = data.parent / "out"
    (sidecar,) = out.glob("node-group/*_contrast-sexTF_stat-t_statmap.json")
    assert json.loads(sidecar.read_text(encoding="utf-8"))["ReferenceLevels"] == {"sex": "M"}
    settings = json.loads((out / "logs" / "settings.json").read_text(encoding="utf-8"))
    assert settings["Reference"] == {"sex": "M"}
    (one,) = json.loads((out / "logs" / "results.json").read_text(encoding="utf-8"))["Runs"]
    (fit,) = one["Fits"]
    assert {each["name"]: each["reference"] for each in fit["variables"]}["sex"] == "M"
    assert '<td class="name">M (12), F (12)</td><td>M</td>' in (out / "node-group.html").read_text("utf-8")
