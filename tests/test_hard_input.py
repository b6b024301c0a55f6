"""Input that is odd and sound: it must work, and give what the plain spelling of the same data gives."""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from blmm_bids.cli import main
from blmm_bids.stats.model import Status
from tests.datasets import AFFINE, SHAPE, longitudinal, write_text, write_tsv

EFFECTS = "*stat-effect_statmap.nii.gz"
BETA = "*_param-time_stat-beta_statmap.nii.gz"
MODEL = ("--formula", "1 + time + participants.age + (1 | subject)")
# int16 with a slope of 1e-4 keeps values to half of that; the slope of time inherits about as much.
ROUNDING = 1e-4


def fit(data, out, *arguments, model=MODEL):
    assert main([str(data), str(out), "group", *model, *arguments, "--nprocs", "1", "--quiet"]) == 0
    return out


def values(out, pattern=BETA):
    (path,) = out.glob(f"node-*/{pattern}")
    return np.asarray(nib.load(path).dataobj)


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    return longitudinal(tmp_path_factory.mktemp("sound") / "data")


@pytest.fixture(scope="module")
def plain(sound, tmp_path_factory):
    """The slope of time from the plain data."""
    return values(fit(sound, tmp_path_factory.mktemp("plain") / "out"))


def as_int16(path):
    content = nib.load(path).get_fdata()
    image = nib.Nifti1Image(content, AFFINE)
    image.header.set_data_dtype(np.int16)
    image.header.set_slope_inter(1e-4, 0.0)
    stored = nib.Nifti1Header.from_header(image.header)
    raw = np.round(content / 1e-4).astype("<i2")
    stored["scl_slope"], stored["scl_inter"], stored["vox_offset"] = 1e-4, 0, 352
    stored["magic"] = b"n+1"
    path.write_bytes(gzip.compress(stored.binaryblock + bytes(4) + raw.tobytes(order="F")))
    assert nib.load(path).dataobj.slope == pytest.approx(1e-4)


def as_big_endian(path):
    header = nib.Nifti1Header(endianness=">")
    header.set_data_dtype(">f4")
    nib.Nifti1Image(nib.load(path).get_fdata(dtype=np.float32), AFFINE, header).to_filename(path)
    assert gzip.decompress(path.read_bytes())[:4] == b"\x00\x00\x01\x5c"


def rewritten(change):
    def rewrite(data):
        for path in sorted(data.rglob(EFFECTS)):
            change(path)

    return rewrite


def participants(encode):
    def rewrite(data):
        table = data / "participants.tsv"
        table.write_bytes(encode(table.read_text()))

    return rewrite


def linked(data):
    """As datalad does: every image a link into a store whose names say nothing."""
    store = data / ".git" / "annex" / "objects"
    store.mkdir(parents=True)
    for number, path in enumerate(sorted(data.rglob("*.nii.gz"))):
        path.rename(store / f"MD5E-{number}.nii.gz")
        path.symlink_to(os.path.relpath(store / f"MD5E-{number}.nii.gz", path.parent))


# What it takes to be sound, where that is more than the data.
NEEDS = {"an affine off by 0.1 mm within --affine-tolerance": ("--affine-tolerance", "0.2")}
ODD = {
    "int16 with scl_slope": rewritten(as_int16),
    "big-endian": rewritten(as_big_endian),
    "byte order mark": participants(lambda text: text.encode("utf-8-sig")),
    "CRLF": participants(lambda text: text.replace("\n", "\r\n").encode()),
    "n/a where no model looks": participants(lambda text: text.replace("\tM\t", "\tn/a\t").encode()),
    "symlinks": linked,
    "loops of links": lambda data: (data / "sub-01" / "again").symlink_to(data),
    "an affine off by 1e-6": lambda data: shift(sorted(data.rglob(EFFECTS))[2]),
    "an affine off by 0.1 mm within --affine-tolerance": lambda data: shift(
        sorted(data.rglob(EFFECTS))[2], 0.1
    ),
    "a directory that is no data": lambda data: write_text(data / "lost+found" / "x", ""),
}


def shift(path, millimetres=1e-6):
    affine = AFFINE.copy()
    affine[0, 3] += millimetres
    nib.Nifti1Image(nib.load(path).get_fdata(dtype=np.float32), affine).to_filename(path)


@pytest.mark.parametrize("name", ODD)
def test_app__takes_odd_input(sound, plain, tmp_path, name):
    data = shutil.copytree(sound, tmp_path / "data")
    ODD[name](data)
    found = values(fit(data, tmp_path / "out", *NEEDS.get(name, ())))
    if name == "int16 with scl_slope":
        np.testing.assert_allclose(found, plain, atol=ROUNDING)
    else:
        np.testing.assert_array_equal(found, plain)


@pytest.mark.parametrize("name", ["with blanks", 'it\'s "quoted"', "new\nline", "ünïcödé 数据", "-dash"])
def test_app__takes_any_path(sound, plain, tmp_path, name):
    data = shutil.copytree(sound, tmp_path / name / "data")
    out = fit(data, tmp_path / name / "out", "--work-dir", str(tmp_path / name / "work"))
    np.testing.assert_array_equal(values(out), plain)


def test_app__keeps_numeric_labels_as_text(sound, tmp_path):
    out = fit(sound, tmp_path / "out")
    (table,) = out.glob("node-*/*desc-random_design.tsv")
    levels = pd.read_csv(table, sep="\t", dtype=str)["level"]
    assert set(levels) == {"01", "02", "03", "04"}


def test_app__reads_tables_in_latin_1_where_told(sound, tmp_path):
    data = shutil.copytree(sound, tmp_path / "data")
    people = ("sub-01\tKöln", "sub-02\tBasel", "sub-03\tBasel", "sub-04\tKöln")
    table = "\n".join(["participant_id\ttown", *people])
    (data / "participants.tsv").write_bytes(table.encode("latin-1"))
    model = ("--formula", "1 + town + (1 | subject)")
    out = fit(data, tmp_path / "out", "--table-encoding", "latin-1", model=model)
    (design,) = out.glob("node-*/*MNI_design.tsv")
    assert "town[T.Köln]" in design.read_text(encoding="utf-8").splitlines()[0]


def test_app__drops_images_whose_value_is_not_known(sound, tmp_path):
    data = shutil.copytree(sound, tmp_path / "data")
    people = ("sub-01 20", "sub-02 31", "sub-03 n/a", "sub-04 28")
    write_tsv(data / "participants.tsv", "participant_id age", *people)
    out = fit(data, tmp_path / "out")
    (table,) = out.glob("node-*/*desc-inputs_design.tsv")
    inputs = pd.read_csv(table, sep="\t", dtype=str, keep_default_na=False)
    assert (inputs["is_used"] == "false").sum() == 2
    assert inputs["is_used"].eq("false").equals(inputs["image"].str.contains("sub-03"))


@pytest.fixture
def read_only(sound, tmp_path):
    """The dataset on a mount that takes no writing, else without permission to."""
    place = tmp_path / "mounted"
    place.mkdir()
    command = ["mount", "--bind", str(sound), str(place)]
    if os.geteuid() == 0 and shutil.which("mount"):
        if subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("this user may not mount")
        subprocess.run(["mount", "-o", "remount,ro,bind", str(place)], check=True)
        yield place
        subprocess.run(["umount", str(place)], check=True)
    else:
        shutil.copytree(sound, place, dirs_exist_ok=True)
        for folder in (place, *place.rglob("*/")):
            folder.chmod(0o555)
        yield place
        for folder in (place, *place.rglob("*/")):
            folder.chmod(0o755)


def test_app__reads_a_dataset_on_a_read_only_mount(read_only, plain, tmp_path):
    with pytest.raises(OSError, match=r"Read-only|denied"):
        (read_only / "probe").touch()
    np.testing.assert_array_equal(values(fit(read_only, tmp_path / "out")), plain)


# Voxels ------------------------------------------------------------------------------------------


def test_app__status_map_tells_how_each_voxel_ended(tmp_path):
    """Voxels: sound; constant; 2 values; separated levels; NaN but in one; no noise; one image a subject."""
    data = longitudinal(
        tmp_path / "data", subjects=tuple(f"{n:02d}" for n in range(1, 9)), missing=(), masks="none"
    )
    paths = sorted(data.rglob(EFFECTS))
    rng = np.random.default_rng(0)
    for index, path in enumerate(paths):
        subject, time = divmod(index, 3)
        content = rng.normal(size=SHAPE)
        content[0, 0, 1] = 7.0
        content[0, 1, 0] = 1.0 if index % 2 else 2.0
        content[0, 1, 1] = subject * 100.0 + rng.normal() * 1e-3
        content[0, 2, 0] = 5.0 if index == 4 else np.nan
        content[0, 2, 1] = 1.0 + 2.0 * time
        content[1, 0, 0] = content[1, 0, 0] if index < 2 else np.nan
        content[1, 0, 1] = content[1, 0, 1] if subject == 0 else np.nan
        content[1, 1, 0] = content[1, 1, 0] if time == subject % 3 else np.nan
        nib.Nifti1Image(content.astype(np.float32), AFFINE).to_filename(path)
    out = fit(data, tmp_path / "out", "--min-percent", "0", model=("--formula", "1 + time + (1 | subject)"))
    status = values(out, "*stat-status_statmap.nii.gz")
    inside = values(out, "*desc-analysis_mask.nii.gz")
    t = values(out, "*contrast-time_stat-t_statmap.nii.gz")
    assert status[0, 0, 0] in (Status.CONVERGED, Status.SINGULAR)
    assert status[0, 0, 1] == Status.CONSTANT
    assert status[0, 1, 0] in (Status.CONVERGED, Status.SINGULAR)
    assert status[0, 1, 1] in (Status.CONVERGED, Status.SINGULAR)
    assert status[0, 2, 1] == Status.ZERO_RESIDUAL
    assert status[1, 1, 0] == Status.SAFE_MODE
    for few in ((0, 2, 0), (1, 0, 0), (1, 0, 1)):
        assert inside[few] == 0
    assert np.isnan(t[0, 0, 1])
    assert np.isfinite(t[0, 1, 0])
    assert np.isfinite(t[0, 1, 1])
