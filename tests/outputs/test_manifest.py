"""The list of a run's files: what an earlier run wrote goes before the first new file, nothing else does."""

from __future__ import annotations

import json

import pytest

from blmm_bids.errors import OutputError
from blmm_bids.outputs.manifest import Manifest, is_finished, read_manifest


def write(out, *names):
    for name in names:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text("x")
    return [out / name for name in names]


def finished(out, *names):
    manifest = Manifest(out, ())
    manifest.begin()
    manifest.add(write(out, *names))
    manifest.finish()


def test_begin__deletes_what_the_earlier_run_listed_and_no_more(tmp_path):
    finished(
        tmp_path, "node-a/x_statmap.nii.gz", "node-a/x_statmap.json", "node-a.html", "code/model-m_smdl.json"
    )
    write(tmp_path, "node-a/mine.nii.gz", "README", "code/mine.R", "node-a/.x.nii.gz.12.part")
    planned = tmp_path / "node-b" / "y_statmap.nii.gz"
    assert Manifest(tmp_path, (planned,)).begin()
    left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {"logs/outputs.json", "node-a/mine.nii.gz", "README", "code/mine.R"}
    assert not is_finished(tmp_path)
    assert "node-b/y_statmap.nii.gz" in read_manifest(tmp_path)["Files"]


def test_begin__goes_on_with_what_a_killed_run_had_planned(tmp_path):
    planned = (tmp_path / "node-a" / "x_statmap.nii.gz", tmp_path / "node-a" / "y_statmap.nii.gz")
    Manifest(tmp_path, planned).begin()
    write(tmp_path, "node-a/x_statmap.nii.gz")
    other = Manifest(tmp_path, ())
    assert other.begin()
    assert not planned[0].exists()
    assert not other.begin()


@pytest.mark.parametrize(
    "name", ["../precious", "/etc/passwd", "node-a/../../precious", "precious", "node-link/precious", 7]
)
def test_begin__stays_inside(tmp_path, name):
    out, precious = tmp_path / "out", tmp_path / "precious"
    (out / "logs").mkdir(parents=True)
    for path in (precious, out / "precious", tmp_path / "elsewhere" / "precious"):
        path.parent.mkdir(exist_ok=True)
        path.write_text("x")
    (out / "node-link").symlink_to(tmp_path / "elsewhere")
    (out / "logs" / "outputs.json").write_text(json.dumps({"Finished": True, "Files": [name]}))
    Manifest(out, ()).begin()
    assert precious.exists()
    assert (out / "precious").exists()
    assert (tmp_path / "elsewhere" / "precious").exists()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"Files": 3}', "[" * 100_000])
def test_read_manifest__damaged_is_none(tmp_path, content):
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "outputs.json").write_text(content)
    assert read_manifest(tmp_path) == {}
    assert not is_finished(tmp_path)


def test_begin__names_a_file_that_cannot_be_deleted(tmp_path):
    finished(tmp_path, "node-a/x_statmap.nii.gz")
    (tmp_path / "node-a" / "x_statmap.nii.gz").unlink()
    (tmp_path / "node-a" / "x_statmap.nii.gz").mkdir()
    with pytest.raises(OutputError, match=r"x_statmap\.nii\.gz of an earlier run cannot be deleted"):
        Manifest(tmp_path, ()).begin()
