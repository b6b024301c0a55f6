"""What a user sees whatever was said at: no more than a screen, and also where nobody listens."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys

import pytest

from blmm_bids.cli import main
from blmm_bids.errors import MOST_CHARACTERS, MOST_LINES, bounded
from tests.datasets import longitudinal

MODEL = ("--formula", "1 + time + (1 | subject)")
LINES = "\n".join(f"line {number}" for number in range(500))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return longitudinal(tmp_path_factory.mktemp("sound") / "data")


@pytest.mark.parametrize(
    "text", ["", "short", "\n".join("abc"), LINES, "x" * 30_000, f"{'x' * 30_000}\n{LINES}", "é\n" * 31]
)
def test_bounded__keeps_both_ends(text):
    found = bounded(text, "ask")
    assert found.count("\n") < MOST_LINES
    assert len(found) <= MOST_CHARACTERS
    is_long = text.count("\n") >= MOST_LINES or len(text) > MOST_CHARACTERS
    assert ("left out; ask]" in found) == is_long
    assert is_long or found == text
    assert found[:2] == text[:2]
    assert found[-3:] == text[-3:]


def test_bounded__counts_what_is_left_out():
    found = bounded(LINES, "ask").split("\n")
    shown = [line for line in found if line.startswith("line ")]
    assert f"[... {500 - len(shown)} lines left out; ask]" in found


LONG = {
    "labels": (*MODEL, "--participant-label", *(f"nobody{number:05d}" for number in range(4000))),
    "formula": ("--formula", "1 + " + " + ".join(f"unknown{number}" for number in range(400))),
    "contrast": (*MODEL, "--contrast", f"c={'+'.join(f'unknown{number}' for number in range(2000))}"),
    "option": (*MODEL, "--space", "x" * 30_000),
}


@pytest.mark.parametrize("name", LONG)
def test_app__says_no_more_than_a_screen(data, tmp_path, capsys, name):
    assert main([str(data), str(tmp_path / "out"), "group", *LONG[name]]) in (18, 64, 65)
    error = capsys.readouterr().err
    assert "error: " in error
    for message in error.split("error: "):
        assert len(message) < MOST_CHARACTERS + 100
        assert message.count("\n") <= MOST_LINES + 5


def run(data, out, redirection):
    words = [sys.executable, "-m", "blmm_bids", str(data), str(out), "group", *MODEL, "--nprocs", "1"]
    return subprocess.run(
        ["bash", "-c", f"{shlex.join(words)} {redirection}"],
        check=False, timeout=300, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


@pytest.mark.parametrize("redirection", [">&- 2>&-", "<&- >&- 2>&-", "2>/dev/full", ">/dev/full 2>&1"])
def test_app__runs_where_nobody_listens(data, tmp_path, redirection):
    done = run(data, tmp_path / "out", redirection)
    assert done.returncode == 0
    assert "Traceback" not in done.stderr
    assert list(tmp_path.glob("out/node-*/*_stat-beta_statmap.nii.gz"))
    log = (tmp_path / "out/logs/blmm_bids.log").read_text(encoding="utf-8")
    assert "Traceback" not in log
    # Nor has anything been written into a file that was opened in the place of a stream.
    json.loads((tmp_path / "out/dataset_description.json").read_text())


def test_app__has_its_code_where_nobody_listens(data, tmp_path):
    assert run(data / "nowhere", tmp_path / "out", "2>&-").returncode == 66
    assert run(data / "nowhere", tmp_path / "out", "2>/dev/full").returncode == 66


@pytest.mark.parametrize("number", ["9" * 1990, "-" + "9" * 1990, "1e999", "12345678901234567890123"])
@pytest.mark.parametrize("query", ["age < {}", "sex == {}", "age in [{}]", "{} > age", "subject != {}"])
def test_app__takes_any_number_in_a_filter(data, tmp_path, capsys, query, number):
    node = {
        "Level": "Dataset", "Name": "g",
        "Transformations": {
            "Transformer": "pybids-transforms-v1",
            "Instructions": [{"Name": "Filter", "Input": [], "Query": query.format(number)}],
        },
        "Model": {"X": [1, "time"], "Formula": "1 + time"},
    }  # fmt: skip
    spec = {"Name": "m", "BIDSModelVersion": "1.0.0", "Nodes": [node]}
    (tmp_path / "m.json").write_text(json.dumps(spec))
    arguments = ["--model", str(tmp_path / "m.json"), "--dry-run"]
    assert main([str(data), str(tmp_path / "out"), "group", *arguments]) in (0, 64, 65)
    assert "Traceback" not in capsys.readouterr().err
