"""The working directory: stages by digest, whole files only, other versions refused."""

from __future__ import annotations

import json
import stat

import numpy as np
import pytest

from blmm_bids.errors import OutputError, StorageError
from blmm_bids.images.blocks import split_evenly
from blmm_bids.outputs.atomic import save_arrays
from blmm_bids.outputs.changes import FitRecord, load_records, save_records
from blmm_bids.outputs.parts import write_part
from blmm_bids.outputs.workdir import WORKDIR_FORMAT, WorkDir, content_digest, stage_name

A, B = content_digest("a"), content_digest("b")


def test_content_digest__ignores_the_order_of_keys():
    assert content_digest({"a": 1, "b": [2, None]}) == content_digest({"b": [2, None], "a": 1})
    assert content_digest({"a": 1}) != content_digest({"a": 2})
    assert content_digest({"a": "é"}) != content_digest({"a": "e"})
    assert len(A) == 64


def test_open__makes_a_private_directory(tmp_path):
    work = WorkDir.open(tmp_path / "deep" / "work dir")
    for path in (work.path, work.scratch, work.gather(A).path, work.fit(A).path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert WorkDir.open(work.path) == work


def test_open__refuses_another_format(tmp_path):
    work = WorkDir.open(tmp_path / "w")
    mark = work.path / "blmm_workdir.json"
    for content in (json.dumps({"format": WORKDIR_FORMAT + 1}), "[]", "{", "\x00"):
        mark.write_text(content)
        with pytest.raises(OutputError, match="working directory of format"):
            WorkDir.open(work.path)
    mark.unlink()
    work.gather(A)
    with pytest.raises(OutputError, match="holds gather-"):
        WorkDir.open(work.path)


def test_open__refuses_a_file(tmp_path):
    (tmp_path / "f").write_text("x")
    with pytest.raises(OutputError, match="--work-dir"):
        WorkDir.open(tmp_path / "f")
    with pytest.raises(OutputError, match="--work-dir"):
        WorkDir.open(tmp_path / "f" / "w")


def test_stages__of_other_digests_are_apart(tmp_path):
    work = WorkDir.open(tmp_path)
    assert work.gather(A).path != work.gather(B).path
    assert work.gather(A).path != work.fit(A).path


def test_is_part_done__needs_part_and_summary(tmp_path):
    stage = WorkDir.open(tmp_path).gather(A)
    assert not stage.is_part_done(0, A)
    write_part(stage.part(0), np.ones((2, 3), np.float32), split_evenly(3, 3), 0, A)
    assert not stage.is_part_done(0, A)
    save_arrays(stage.part(0).with_suffix(".npz"), {"counts": np.ones(3)})
    assert stage.is_part_done(0, A)
    write_part(stage.part(0), np.ones((2, 3), np.float32), split_evenly(3, 3), 0, B)
    assert not stage.is_part_done(0, A)


def test_results__come_back_bit_for_bit(tmp_path):
    stage = WorkDir.open(tmp_path).fit(A)
    arrays = {
        "beta": np.random.default_rng(0).normal(size=(5, 2)),
        "status": np.arange(5),
        "c0_t": np.full(5, np.nan),
    }
    assert not stage.is_result_done(7)
    stage.save_result(7, arrays)
    assert stage.is_result_done(7)
    loaded = stage.load_result(7)
    assert list(loaded) == list(arrays)
    for name, array in arrays.items():
        assert loaded[name].dtype == array.dtype
        np.testing.assert_array_equal(loaded[name], array)
    assert list(stage.load_result(7, ("status",))) == ["status"]
    assert [path.name for path in stage.path.iterdir()] == ["block-00007.npz"]


def test_results__damage_is_found(tmp_path):
    stage = WorkDir.open(tmp_path).fit(A)
    stage.save_result(0, {"beta": np.arange(1000.0)})
    whole = stage.result(0).read_bytes()
    with pytest.raises(StorageError, match="damaged"):
        stage.load_result(0, ("absent",))
    stage.result(0).write_bytes(whole[:4000])
    assert not stage.is_result_done(0)
    with pytest.raises(StorageError, match="block-00000"):
        stage.load_result(0)
    flipped = bytearray(whole)
    flipped[4000] ^= 1
    stage.result(0).write_bytes(flipped)
    with pytest.raises(StorageError, match="damaged"):
        stage.load_result(0)
    with pytest.raises(StorageError, match="not there"):
        stage.load_result(1)


def test_results__hold_no_objects(tmp_path):
    stage = WorkDir.open(tmp_path).fit(A)
    with pytest.raises(TypeError, match="Python objects"):
        stage.save_result(0, {"names": np.array([{}], dtype=object)})
    np.savez(stage.result(1).open("wb"), names=np.array([{}], dtype=object))
    with pytest.raises(StorageError):
        stage.load_result(1)


def test_remove__deletes_what_this_run_used_and_no_more(tmp_path):
    """Another model's blocks are hours of work."""
    WorkDir.open(tmp_path / "w").fit(B).save_result(0, {"x": np.ones(1)})
    work = WorkDir.open(tmp_path / "w")
    used = work.gather(A)
    used.save_result(0, {"x": np.ones(1)})
    work.scratch.joinpath("junk").write_text("x")
    (work.path / "notes.txt").write_text("the user's")
    (work.path / "gather-mine").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (work.path / f"fit-{'0' * 16}").symlink_to(tmp_path / "elsewhere")
    record = FitRecord({}, {}, {}, {})
    save_records(work.path, {"mine": record, "other": record})
    work.remove(["mine"])
    left = {path.name for path in work.path.iterdir()}
    kept = {"blmm_workdir.json", "blmm_runs.json", "notes.txt", "gather-mine", f"fit-{'0' * 16}"}
    assert left == {*kept, stage_name("fit", B)}
    assert load_records(work.path) == {"other": record}
    assert (tmp_path / "elsewhere").exists()


def test_stages__are_emptied_once_where_nothing_is_resumed(tmp_path):
    for digest in (A, B):
        WorkDir.open(tmp_path / "w").fit(digest).save_result(0, {"x": np.ones(1)})
    work = WorkDir.open(tmp_path / "w", resume=False)
    assert not work.fit(A).is_result_done(0)
    work.fit(A).save_result(0, {"x": np.ones(1)})
    assert work.fit(A).is_result_done(0)
    assert WorkDir.open(tmp_path / "w").fit(B).is_result_done(0)


def test_sweep__keeps_what_jobs_said_after_an_error(tmp_path):
    work = WorkDir.open(tmp_path / "w")
    for name in ("run-1/job.sh", "run-1/logs/1.err", "run-1/key.pem", "run-2/key.pem", "dask/x"):
        (work.scratch / name).parent.mkdir(parents=True, exist_ok=True)
        (work.scratch / name).write_text("x")
    work.sweep(keep_jobs=True)
    left = {path.relative_to(work.scratch).as_posix() for path in work.scratch.rglob("*") if path.is_file()}
    assert left == {"run-1/job.sh", "run-1/logs/1.err"}
    assert work.has_jobs
    work.sweep()
    assert not work.has_jobs


def test_sweep__deletes_what_is_half_written_and_nothing_else(tmp_path):
    work = WorkDir.open(tmp_path / "w")
    stage = work.fit(A)
    stage.save_result(0, {"x": np.ones(1)})
    (stage.path / ".block-00001.npz.0123.tmp").write_bytes(b"half")
    work.scratch.joinpath("junk").write_text("x")
    (work.path / ".notes.tmp").write_text("the user's")
    work.sweep()
    assert [path.name for path in stage.path.iterdir()] == ["block-00000.npz"]
    assert {path.name for path in work.path.iterdir()} == {"blmm_workdir.json", stage.path.name, ".notes.tmp"}
    assert work.has_stages


def test_remove__takes_the_directory_too(tmp_path):
    work = WorkDir.open(tmp_path / "w")
    work.fit(A).save_result(0, {"x": np.ones(1)})
    work.remove()
    assert not work.path.exists()


def test_require_space__refuses_what_does_not_fit(tmp_path):
    work = WorkDir.open(tmp_path)
    work.require_space(1)
    with pytest.raises(StorageError, match="GB are free"):
        work.require_space(2**62)
