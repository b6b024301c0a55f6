"""Runs given again: only what is missing or changed is computed, and what changed is said."""

from __future__ import annotations

import json
import os
import shutil

import nibabel as nib
import numpy as np
import pytest

from blmm_bids.cli import main
from blmm_bids.outputs.lock import LOCK_NAME, locked
from tests.datasets import longitudinal

EFFECTS = "*stat-effect_statmap.nii.gz"
MODEL = ("--formula", "1 + time + (1 | subject)")


@pytest.fixture
def data(tmp_path):
    return longitudinal(tmp_path / "data", subjects=tuple(f"{n:02d}" for n in range(1, 9)))


def run(data, *arguments, model=MODEL, expect=0):
    work = data.parent / "work"
    command = [str(data), str(data.parent / "out"), "group", *model, "--work-dir", str(work), "--nprocs", "1"]
    assert main([*command, *arguments]) == expect
    return content(data.parent / "out")


def content(out):
    """Bytes of all maps and tables."""
    return {path.name: path.read_bytes() for path in out.glob("node-*/*") if path.is_file()}


def stamps(data, pattern):
    return {path: path.stat().st_mtime_ns for path in (data.parent / "work").glob(pattern)}


def touched(data, before, pattern):
    """Names of the working files written since."""
    now = stamps(data, pattern)
    return sorted(path.name for path, stamp in now.items() if before.get(path) != stamp)


def test_run__again_computes_nothing(data, capsys):
    first = run(data)
    parts, blocks = stamps(data, "gather-*/*"), stamps(data, "fit-*/*")
    capsys.readouterr()
    assert run(data) == first
    assert touched(data, parts, "gather-*/*") == touched(data, blocks, "fit-*/*") == []
    assert f"node 'group': as in the earlier run in {data.parent}/work" in capsys.readouterr().err


def test_run__no_resume_computes_all(data):
    first = run(data)
    parts, blocks = stamps(data, "gather-*/*"), stamps(data, "fit-*/*")
    assert run(data, "--no-resume") == first
    assert len(touched(data, parts, "gather-*/*")) == len(parts)
    assert len(touched(data, blocks, "fit-*/*")) == len(blocks)


def test_run__a_changed_image_costs_its_batch_and_the_fit(data, capsys):
    first = run(data)
    parts = stamps(data, "gather-*/*.blmm")
    assert len(parts) > 1
    image = sorted(data.rglob(EFFECTS))[0]
    values = nib.load(image).get_fdata(dtype=np.float32)
    nib.Nifti1Image(values + 1, nib.load(image).affine).to_filename(image)
    capsys.readouterr()
    second = run(data, "--overwrite")
    said = capsys.readouterr().err
    assert f"1 image changed on disk ({image.name}); {len(parts) - 1} of {len(parts)} batches" in said
    assert touched(data, parts, "gather-*/*.blmm") == ["part-00000.blmm"]
    assert second != first
    shutil.rmtree(data.parent / "work")
    assert run(data) == second


def test_run__another_model_keeps_the_parts(data, capsys):
    run(data)
    parts = stamps(data, "gather-*/*")
    capsys.readouterr()
    other = run(data, "--overwrite", model=("--formula", "1 + time + site + (1 | subject)"))
    said = capsys.readouterr().err
    assert "the formula ('1 + time + (1 | subject)' before, now '1 + time + site + (1 | subject)')" in said
    assert touched(data, parts, "gather-*/*") == []
    assert "task-nback_space-MNI_param-siteT2_stat-beta_statmap.nii.gz" in other


def test_run__other_memory_is_no_reason_to_begin_again(data):
    run(data, "--mem", "1G")
    parts, blocks = stamps(data, "gather-*/*"), stamps(data, "fit-*/*")
    run(data, "--mem", "2G")
    run(data, "--nprocs", "1", "--mem", "3G")
    assert touched(data, parts, "gather-*/*") == touched(data, blocks, "fit-*/*") == []


@pytest.mark.parametrize("pattern", ["gather-*/part-*.blmm", "gather-*/part-*.npz", "fit-*/block-*.npz"])
@pytest.mark.parametrize("fault", ["truncated", "flipped", "removed"])
def test_run__damaged_working_files_are_made_anew(data, pattern, fault, capsys):
    first = run(data)
    shutil.rmtree(data.parent / "out")
    victim = sorted((data.parent / "work").glob(pattern))[0]
    whole = victim.read_bytes()
    if fault == "removed":
        victim.unlink()
    else:
        middle = len(whole) // 2
        flipped = whole[:middle] + bytes([whole[middle] ^ 0xFF]) + whole[middle + 1 :]
        victim.write_bytes(whole[:middle] if fault == "truncated" else flipped)
    if "part" in pattern:
        # A fit that is there already needs no parts.
        for block in (data.parent / "work").glob("fit-*/*"):
            block.unlink()
    command = [str(data), str(data.parent / "out"), "group", *MODEL, "--work-dir", str(data.parent / "work")]
    code = main([*command, "--nprocs", "1", "--quiet"])
    if code:
        message = capsys.readouterr().err.partition("error: ")[2]
        assert code == 74
        assert str(victim) in message
        assert "run again" in message
        assert not content(data.parent / "out")
    assert run(data) == first


def test_run__is_refused_while_another_is_at_work(data, tmp_path, capsys):
    for place in ("work", "out/logs"):
        (tmp_path / place).mkdir(parents=True, exist_ok=True)
        with locked(tmp_path / place):
            run(data, expect=69)
            assert f"{tmp_path}/{place}: another run is at work there" in capsys.readouterr().err
    run(data)
    assert not list(tmp_path.rglob(LOCK_NAME))


def test_run__refused_leaves_no_working_directory(data, tmp_path):
    run(data, model=("--formula", "1 + tme"), expect=64)
    assert not (tmp_path / "work").exists()


def test_run__clean_workdir(data, tmp_path):
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "notes.txt").write_text("the user's")
    run(data, "--clean-workdir")
    assert [path.name for path in (tmp_path / "work").iterdir()] == ["notes.txt"]


def test_run__never_mixes_an_older_result_with_a_newer(data, tmp_path):
    first = run(data, "--contrast", "old=time")
    listed = json.loads((tmp_path / "out" / "logs" / "outputs.json").read_text())
    assert listed["Finished"] is True
    assert set(first) <= {name.rpartition("/")[2] for name in listed["Files"]}
    mine = tmp_path / "out" / "node-group" / "my_statmap.nii.gz"
    mine.write_text("x")
    other = ("--formula", "1 + time + site + (1 | subject)")
    second = run(data, "--contrast", "new=2*time", "--overwrite", model=other)
    assert not [name for name in second if "contrast-old" in name]
    assert mine.exists()


def test_run__an_older_result_stays_whole_until_the_newer_is_there(data, tmp_path):
    first = run(data, "--contrast", "old=time")
    model = (tmp_path / "out" / "code").glob("*")
    before = {path: path.read_bytes() for path in [*model, tmp_path / "out" / "dataset_description.json"]}
    image = sorted(data.rglob(EFFECTS))[-1]
    image.write_bytes(image.read_bytes()[:-20])
    run(data, "--contrast", "new=2*time", "--overwrite", expect=65)
    assert content(tmp_path / "out") == first
    assert {path: path.read_bytes() for path in before} == before
    assert json.loads((tmp_path / "out" / "logs" / "outputs.json").read_text())["Finished"] is True


def test_run__working_files_are_the_users_own(data, tmp_path):
    old = os.umask(0)
    try:
        run(data)
    finally:
        os.umask(old)
    assert not [path for path in [tmp_path / "work", *(tmp_path / "work").rglob("*")] if _is_open(path)]


def _is_open(path):
    """Whether others may write there, the directories above considered."""
    closed = any(parent.stat().st_mode & 0o077 == 0 for parent in path.parents)
    return not closed and bool(path.stat().st_mode & 0o022)
