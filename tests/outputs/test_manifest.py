"""The list of an output dataset: files of a model go only where that was asked for, and nothing else does."""

from __future__ import annotations

import json

import pytest

from blmm_bids.errors import OutputError
from blmm_bids.outputs.changes import FitRecord
from blmm_bids.outputs.manifest import (
    FitEntry,
    Manifest,
    fit_key,
    foreign_files,
    is_finished,
    read_listing,
    read_manifest,
)

RECORD = FitRecord({"sub-1.nii": "1-a"}, {}, {"zeros": "missing"}, {"the formula": "1"})


def write(out, *names):
    for name in names:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text("x")
    return [out / name for name in names]


def entry(label, *files, **group):
    return FitEntry(label, label, group, files, record=RECORD)


def run(out, fit, *shared, replaced=()):
    manifest = Manifest(out, (fit,), frozenset(replaced))
    manifest.begin(fit.key)
    manifest.note(fit.key, write(out, *fit.files))
    manifest.share(fit.label, write(out, *shared))
    manifest.finish([fit.key])


def left(out):
    return {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}


def test_begin__deletes_the_model_that_is_replaced_and_no_more(tmp_path):
    first = entry("a", "node-a/x_statmap.nii.gz", "node-a/x_statmap.json")
    run(tmp_path, first, "node-a.html", "node-a/figures/x.png", "code/model-m_smdl.json")
    run(tmp_path, entry("b", "node-b/x_statmap.nii.gz"))
    write(tmp_path, "node-a/mine.nii.gz", "README", "code/mine.R", "node-a/.x.nii.gz.12.part")
    fit = entry("a", "node-a/y_statmap.nii.gz")
    Manifest(tmp_path, (fit,), frozenset({fit.key})).begin(fit.key)
    kept = {"node-a/mine.nii.gz", "README", "code/mine.R", "code/model-m_smdl.json"}
    assert left(tmp_path) == kept | {"logs/outputs.json", "node-b/x_statmap.nii.gz"}
    assert not is_finished(tmp_path)
    assert not is_finished(tmp_path, "a")
    assert is_finished(tmp_path, "b")
    assert "node-a/y_statmap.nii.gz" in read_manifest(tmp_path)["Files"]


def test_begin__deletes_nothing_of_the_same_model(tmp_path):
    fit = entry("a", "node-a/x_statmap.nii.gz", "node-a/y_statmap.nii.gz")
    run(tmp_path, fit)
    less = entry("a", "node-a/x_statmap.nii.gz")
    run(tmp_path, less)
    assert left(tmp_path) == {*fit.files, "logs/outputs.json"}
    assert read_listing(tmp_path).fit(fit.key).files == fit.files


def test_begin__replaces_the_groups_of_another_group_by(tmp_path):
    old = [entry("a", f"node-a/{n}_statmap.nii.gz", contrast=n) for n in ("one", "two")]
    for fit in old:
        run(tmp_path, fit)
    new = entry("a", "node-a/x_statmap.nii.gz")
    run(tmp_path, new, replaced=[fit.key for fit in old])
    assert left(tmp_path) == {"logs/outputs.json", *new.files}
    assert [fit.key for fit in read_listing(tmp_path).fits] == [new.key]


def test_begin__goes_on_with_what_a_killed_run_had_planned(tmp_path):
    fit = entry("a", "node-a/x_statmap.nii.gz", "node-a/y_statmap.nii.gz")
    Manifest(tmp_path, (fit,)).begin(fit.key)
    write(tmp_path, "node-a/x_statmap.nii.gz")
    assert foreign_files(tmp_path, fit.files) == []
    run(tmp_path, fit)
    assert is_finished(tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        "../precious",
        "/etc/passwd",
        "node-a/../../precious",
        "precious",
        "node-link/precious",
        "a/node-b/precious",
        7,
    ],
)
def test_begin__stays_inside(tmp_path, name):
    out, precious = tmp_path / "out", tmp_path / "precious"
    (out / "logs").mkdir(parents=True)
    places = (
        precious,
        out / "precious",
        out / "a" / "node-b" / "precious",
        tmp_path / "elsewhere" / "precious",
    )
    for path in places:
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text("x")
    (out / "node-link").symlink_to(tmp_path / "elsewhere")
    fit = entry("a", "node-a/x_statmap.nii.gz")
    run(out, fit)
    content = json.loads((out / "logs" / "outputs.json").read_text())
    content["Fits"][0]["Files"].append(name)
    content["Shared"]["a"] = [name]
    (out / "logs" / "outputs.json").write_text(json.dumps(content))
    Manifest(out, (fit,), frozenset({fit.key})).begin(fit.key)
    assert [path for path in places if not path.exists()] == []


@pytest.mark.parametrize("content", ["", "{", "[]", '{"Files": 3}', "[" * 100_000])
def test_read_manifest__damaged_is_none(tmp_path, content):
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "outputs.json").write_text(content)
    assert read_manifest(tmp_path) == {}
    assert read_listing(tmp_path).fits == ()
    assert not is_finished(tmp_path)


@pytest.mark.parametrize("fits", [[1], [{}], [{"Label": "a"}], "x", [{"Label": "a", "Record": {}}]])
def test_read_listing__of_damaged_entries(tmp_path, fits):
    (tmp_path / "logs").mkdir()
    content = {"Finished": True, "Files": ["node-a/x.nii.gz", "README"], "Fits": fits, "Shared": {}}
    (tmp_path / "logs" / "outputs.json").write_text(json.dumps(content))
    listing = read_listing(tmp_path)
    assert listing.fit(fit_key("a", {})).record is None
    assert {"node-a/x.nii.gz", "README"} <= listing.all_files


def test_begin__names_a_file_that_cannot_be_deleted(tmp_path):
    fit = entry("a", "node-a/x_statmap.nii.gz")
    run(tmp_path, fit)
    (tmp_path / "node-a" / "x_statmap.nii.gz").unlink()
    (tmp_path / "node-a" / "x_statmap.nii.gz").mkdir()
    with pytest.raises(OutputError, match=r"x_statmap\.nii\.gz of an earlier run cannot be deleted"):
        Manifest(tmp_path, (fit,), frozenset({fit.key})).begin(fit.key)
