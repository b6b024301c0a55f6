"""What dry runs say of tables as people write them."""

from __future__ import annotations

import shutil

import pytest

from blmm_bids.app.summary import variable_text
from blmm_bids.cli import main
from blmm_bids.design.variables import VariableInfo
from tests.datasets import longitudinal, write_json, write_text, write_tsv

SUBJECTS = tuple(f"{number:02d}" for number in range(1, 9))


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    root = tmp_path_factory.mktemp("tables") / "data"
    return longitudinal(root, subjects=SUBJECTS, missing=(), contrasts=("face", "house"))


@pytest.fixture
def data(sound, tmp_path):
    return shutil.copytree(sound, tmp_path / "data")


def dry_run(data, capsys, formula, *arguments):
    """Exit code and what was said."""
    given = [str(data), str(data.parent / "out"), "group", "--dry-run", "--nprocs", "1", *arguments]
    if "--model" not in arguments:
        given += ["--formula", f"{formula} + contrast + (1 | subject)"]
    return main(given), capsys.readouterr().err


def people(data, cell_of, header="participant_id\tx"):
    lines = [f"sub-{label}\t{cell_of(number)}\n" for number, label in enumerate(SUBJECTS)]
    write_text(data / "participants.tsv", f"{header}\n{''.join(lines)}")


@pytest.mark.parametrize(
    ("cell_of", "arguments", "formula", "said"),
    [
        (lambda n: 20 + n, [], "x", "x: numeric (20 to 27, mean 23.5); numbers, from participants"),
        (
            lambda n: "NA" if n == 3 else "MF"[n % 2],
            [],
            "x",
            "x: categorical, reference F (F: 18, M: 24); text, from participants; missing in 6 images",
        ),
        (
            lambda n: "-" if n == 3 else "MF"[n % 2],
            ["--missing-values", "-", "-999"],
            "x",
            "'x' in participants: '-' (1) read as missing (--missing-values)",
        ),
        (
            lambda n: ["none", "ssri"][n % 2],
            ["--not-missing", "none"],
            "x",
            "x: categorical, reference none (none: 24, ssri: 24); text, from participants",
        ),
        (
            lambda n: f"{20 + n % 2},5",
            [],
            "C(x)",
            "x: categorical, reference 20,5 (20,5: 24, 21,5: 24); C() in the formula, from participants",
        ),
        (
            lambda n: f"2019-03-0{n + 1}",
            [],
            "days(x)",
            "x: date (2019-03-01 to 2019-03-08); dates, from participants",
        ),
        (
            lambda n: n,
            [],
            "x",
            "subject: grouping (01: 6, 02: 6, 03: 6, 04: 6, 05: 6, 06: 6, 07: 6, 08: 6); grouping factor",
        ),
    ],
)
def test_app__says_what_a_variable_is_and_why(data, capsys, cell_of, arguments, formula, said):
    people(data, cell_of)
    code, text = dry_run(data, capsys, formula, *arguments)
    assert code == 0
    assert said in [line.strip() for line in text.splitlines()]


def test_app__says_once_what_was_guessed(data, capsys):
    people(data, lambda number: "NA" if number == 3 else 20 + number, "Participant_ID\tx")
    write_text(data / "phenotype" / "broken.tsv", "participant_id\ty\nsub-01\n")
    write_text(data / "phenotype" / "unused.tsv", "subject\tz\nsub-01\tNA\n")
    node = {"Level": "Dataset", "Name": "g", "GroupBy": ["contrast"], "Model": {"Formula": "1 + x"}}
    node["Model"]["Software"] = {"blmm": {"RandomEffects": ["(1 | subject)"]}}
    spec = write_json(data.parent / "spec.json", {"Name": "m", "BIDSModelVersion": "1.0.0", "Nodes": [node]})
    code, text = dry_run(data, capsys, "", "--model", str(spec))
    assert code == 0
    for said in (
        f"{data / 'participants.tsv'}: column 'Participant_ID' is read as participant_id",
        "'x' in participants: 'NA' (1) read as missing (BIDS writes n/a)",
        f"could not be read, and no model uses them: 'broken' ({data / 'phenotype' / 'broken.tsv'}, line 2:",
    ):
        assert text.count(said) == 1
    assert "unused" not in text


def test_app__refuses_a_word_that_looks_missing_as_a_group(data, capsys):
    people(data, lambda number: "unknown" if number == 3 else "ab"[number % 2])
    node = {"Level": "Dataset", "Name": "g", "GroupBy": ["contrast", "x"], "Model": {"X": [1]}}
    spec = write_json(data.parent / "spec.json", {"Name": "m", "BIDSModelVersion": "1.0.0", "Nodes": [node]})
    code, text = dry_run(data, capsys, "", "--model", str(spec))
    assert code == 65
    assert "has 'unknown' in 1 line" in text


def test_app__reads_a_table_of_images_by_the_same_rules(data, capsys):
    images = sorted(data.rglob("*contrast-face_stat-effect_statmap.nii.gz"))
    lines = [
        f"{path} sub-{path.name[4:6]} {['-', 'a', 'b'][number % 3]}" for number, path in enumerate(images)
    ]
    table = write_tsv(data.parent / "images.tsv", "path subject dose", *lines)
    given = [
        str(data),
        str(data.parent / "out"),
        "group",
        "--dry-run",
        "--nprocs",
        "1",
        "--images",
        str(table),
    ]
    given += ["--formula", "dose + (1 | subject)"]
    assert main(given) == 65
    assert f"'dose' in images has '-' in 8 lines, the first being {table}, line 2" in capsys.readouterr().err
    assert main([*given, "--missing-values", "-"]) == 0
    assert "'dose' in images: '-' (8) read as missing" in capsys.readouterr().err


def test_variable_text__many_levels():
    levels = tuple(map(str, range(30)))
    text = variable_text(VariableInfo("s", "grouping", levels, counts=(1,) * 30, n_missing=1))
    assert text.endswith("18: 1, 19: 1, … 30 levels); missing in 1 image")
