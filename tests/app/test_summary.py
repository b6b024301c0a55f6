"""What a run says: workers, stages, a closing summary; more with -v, warnings alone with -q; a log of all."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from blmm_bids import __version__
from blmm_bids.cli import main
from tests.datasets import longitudinal

SUBJECTS = tuple(f"{number:02d}" for number in range(1, 9))


def said(data, capsys, *arguments, n_procs=1):
    command = ["--formula", "1 + time + (1 | subject)", "--nprocs", str(n_procs), *arguments]
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
    for stage in ("images read: 24 of 24", "voxels fitted: 23 of 23"):
        assert re.search(rf"^{stage}, \S+ a second, \d+ s left, 1 workers, \d+ MB in use here$", text, re.M)
    assert "\033[" not in text


@pytest.mark.parametrize("asked", [(), ("--dashboard",)])
def test_run__has_a_dashboard_where_it_is_asked_for(data, capsys, asked):
    text = said(data, capsys, "--mem", "2G", *asked, n_procs=2)
    assert bool(re.search(r"^dashboard: http://127\.0\.0\.1:\d+/status$", text, re.M)) == bool(asked)
    assert ("who has an account on this machine can look at it" in text) == bool(asked)
    assert re.search(r"^workers: 2, up to \d+ MB each$", text, re.M)


def test_run__says_more_or_nothing_and_keeps_a_log_of_all(data, capsys):
    assert said(data, capsys, "--quiet") == ""
    loud = said(data, capsys, "-v", "--no-resume")
    versions = f"blmm_bids {__version__}; Python 3."
    assert versions in loud
    log = (data.parent / "out" / "logs" / "blmm_bids.log").read_text(encoding="utf-8")
    assert versions in log
    assert "voxels fitted: 23 of 23" in log
    assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} DEBUG ", log)
