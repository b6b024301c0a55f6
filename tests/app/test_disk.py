from __future__ import annotations

import logging
import shutil
from types import SimpleNamespace

import numpy as np
import pytest

from blmm_bids.app.disk import announce_series, check_working_files
from blmm_bids.errors import StorageError
from blmm_bids.outputs.registry import OutputOptions
from blmm_bids.outputs.series import unit_series
from blmm_bids.outputs.workdir import WorkDir
from blmm_bids.stages import Prepared
from tests.outputs.synthetic import unit

BOTH = OutputOptions(ranef=True, residuals=True)
N_VOXELS = 1000
# 8 modes and 12 residuals in float32, twice since the working directory is on the same disk; their sidecars.
NEEDED = 2 * 20 * N_VOXELS * 4 + 20 * 4096


def made(tmp_path, options=BOTH):
    return unit(tmp_path / "in", output_options=options, voxels=np.arange(N_VOXELS))


def with_free(monkeypatch, n_bytes):
    usage = shutil.disk_usage("/")._replace(free=n_bytes)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)


def prepared(digest="a" * 64, n_obs=100, n_contrasts=2):
    voxels = np.arange(N_VOXELS)
    work = SimpleNamespace(disk_bytes=n_obs * N_VOXELS * 4)
    problem = SimpleNamespace(contrasts=(None,) * n_contrasts)
    return Prepared(problem, None, voxels, SimpleNamespace(n_fixef=3, n_theta=1), work, digest, ())


# The parts; twice, for blocks and for maps: 3 + 9 + 1 + 7 + 2 x 9 doubles a voxel.
PARTS, RESULTS = 100 * N_VOXELS * 4, 2 * 38 * N_VOXELS * 8


def test_check_working_files__refuses_what_the_disk_does_not_hold(tmp_path, monkeypatch, caplog):
    with_free(monkeypatch, PARTS + RESULTS)
    check_working_files(tmp_path / "not" / "there", [prepared()])
    with_free(monkeypatch, PARTS + RESULTS - 1)
    with pytest.raises(StorageError, match=r"may take 1 MB more, 1 MB are free.*--work-dir"):
        check_working_files(tmp_path / "not" / "there", [prepared()])
    assert caplog.text == ""
    check_working_files(tmp_path / "not" / "there", [prepared()], dry_run=True)
    assert "are free. Free space" in caplog.text


def test_check_working_files__counts_shared_parts_once(tmp_path, monkeypatch):
    with_free(monkeypatch, PARTS + 2 * RESULTS)
    check_working_files(tmp_path, [prepared(), prepared()])
    with pytest.raises(StorageError):
        check_working_files(tmp_path, [prepared(), prepared("b" * 64)])


def test_check_working_files__sets_off_what_an_earlier_run_has_written(tmp_path, monkeypatch):
    work = WorkDir.open(tmp_path / "work")
    work.gather("a" * 64).part(0).write_bytes(b"0" * 5000)
    work.fit("c" * 64).result(0).write_bytes(b"0" * 2000)
    work.gather("b" * 64).part(0).write_bytes(b"0" * 9000)
    with_free(monkeypatch, PARTS + RESULTS - 7000)
    check_working_files(work.path, [prepared()])
    with_free(monkeypatch, PARTS + RESULTS - 7001)
    with pytest.raises(StorageError):
        check_working_files(work.path, [prepared()])


def test_announce_series__says_files_and_bytes_before_the_fit(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    announce_series(tmp_path / "not" / "there", tmp_path / "work", [made(tmp_path)])
    assert "ranef adds 8 maps" in caplog.text
    assert "residuals adds 12 maps" in caplog.text
    assert "in all 40 files" in caplog.text


def test_announce_series__is_silent_where_nothing_was_asked_for(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    announce_series(tmp_path, tmp_path, [made(tmp_path, OutputOptions("full"))])
    assert caplog.text == ""


def test_announce_series__refuses_what_the_disk_does_not_hold(tmp_path, monkeypatch, caplog):
    with_free(monkeypatch, NEEDED)
    announce_series(tmp_path, tmp_path, [made(tmp_path)])
    with_free(monkeypatch, NEEDED - 1)
    with pytest.raises(StorageError, match=r"are free.*--work-dir on another disk"):
        announce_series(tmp_path, tmp_path, [made(tmp_path)])
    announce_series(tmp_path, tmp_path, [made(tmp_path)], dry_run=True)
    assert "are free. Free space" in caplog.text


def test_announce_series__counts_what_an_earlier_run_has_written(tmp_path, monkeypatch):
    fit = made(tmp_path)
    node = tmp_path / f"node-{fit.label}"
    node.mkdir()
    (node / unit_series(fit)["ranef"][0].filename).write_bytes(b"0" * 3000)
    stage = tmp_path / "work" / "fit-0123456789abcdef"
    stage.mkdir(parents=True)
    (stage / "residuals-00000.npz").write_bytes(b"0" * 4000)
    with_free(monkeypatch, NEEDED - 7000)
    announce_series(tmp_path, tmp_path / "work", [fit])
