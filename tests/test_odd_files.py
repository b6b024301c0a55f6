"""What is named is no file, or has no end: refused at once, by its name, wherever a file is read.

Pipes that nobody writes to, sockets, devices and directories in the place of each kind of input; sparse files
of terabytes, headers that promise as much, and gzip data that swell a thousandfold.
"""

from __future__ import annotations

import gzip
import os
import resource
import shutil
import socket
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import yaml

from blmm_bids.cli import main, main_fit
from tests import test_bad_config
from tests.alarms import in_seconds
from tests.datasets import AFFINE, SHAPE, longitudinal

MODEL = ("--formula", "1 + time + (1 | subject)")
# A table matters where the model uses it.
PEOPLE = ("--formula", "1 + sex + (1 | subject)")
EFFECTS = "*stat-effect_statmap.nii.gz"
TB = 2**40


def image_of(data):
    return sorted(data.rglob(EFFECTS))[3]


def fifo(path):
    os.mkfifo(path)


def a_socket(path):
    # The name of a socket is short.
    before = Path.cwd()
    os.chdir(path.parent)
    try:
        socket.socket(socket.AF_UNIX).bind(path.name[-100:])
        Path(path.name[-100:]).rename(path.name)
    finally:
        os.chdir(before)


KINDS = {
    "fifo": (fifo, "is a named pipe (FIFO), which is not read"),
    "link to a fifo": (
        lambda path: (fifo(path.with_name("pipe")), path.symlink_to("pipe")),
        "is a named pipe (FIFO), which is not read",
    ),
    "socket": (a_socket, "is a socket, which is not read"),
    "endless device": (lambda path: path.symlink_to("/dev/zero"), "is a device, which is not read"),
    "directory": (lambda path: path.mkdir(), "Is a directory"),
}
# Where it is, and the options that name it.
ROLES = {
    "image": (image_of, ()),
    "sidecar of an image": (lambda data: Path(str(image_of(data)).replace(".nii.gz", ".json")), ()),
    "mask of an image": (lambda data: sorted(data.rglob("*_mask.nii.gz"))[0], ()),
    "participants.tsv": (lambda data: data / "participants.tsv", PEOPLE),
    "participants.json": (lambda data: data / "participants.json", PEOPLE),
    "sessions.tsv": (lambda data: data / "sub-01" / "sub-01_sessions.tsv", ()),
    "phenotype": (lambda data: data / "phenotype" / "iq.tsv", ("--formula", "1 + score + (1 | subject)")),
    "description": (lambda data: data / "dataset_description.json", ()),
    "model": (lambda data: data.parent / "m.json", ("--model", "{out}/m.json")),
    "YAML model": (lambda data: data.parent / "m.yml", ("--model", "{out}/m.yml")),
    "filters": (lambda data: data.parent / "f.json", (*MODEL, "--bids-filter-file", "{out}/f.json")),
    "analysis mask": (lambda data: data.parent / "m.nii", (*MODEL, "--mask", "{out}/m.nii")),
    "participants": (lambda data: data.parent / "p.tsv", (*PEOPLE, "--participants-tsv", "{out}/p.tsv")),
    "labels": (lambda data: data.parent / "l.txt", (*MODEL, "--participant-label", "{out}/l.txt")),
}


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    return longitudinal(tmp_path_factory.mktemp("sound") / "data", masks="stem")


def refuse(data, arguments, capsys, seconds=30):
    out = data.parent / "out"
    named = [text.format(out=data.parent) for text in arguments or MODEL]
    with in_seconds(seconds):
        code = main([str(data), str(out), "group", *named, "--nprocs", "1", "--quiet"])
    assert not list(out.glob("node-*"))
    error = capsys.readouterr().err
    assert "Traceback" not in error
    assert "--mem" not in error
    return code, error


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("kind", KINDS)
def test_app__reads_regular_files_only(sound, tmp_path, capsys, role, kind):
    place, arguments = ROLES[role]
    make, words = KINDS[kind]
    if (role, kind) == ("labels", "directory"):
        pytest.skip("a label may be the name of a directory")
    data = shutil.copytree(sound, tmp_path / "data")
    path = place(data)
    path.unlink(missing_ok=True)
    make(path)
    code, error = refuse(data, arguments, capsys)
    assert code in (16, 64, 65, 66), error
    assert str(path) in error
    assert words in error


CONFIG_ROLES = ("y3.nii.gz", "Y.txt", "X.csv", "f.csv", "z.csv", "m.nii", "M.txt", "config.yml")


@pytest.mark.parametrize("name", CONFIG_ROLES)
@pytest.mark.parametrize("kind", KINDS)
def test_fit__reads_regular_files_only(tmp_path, capsys, name, kind):
    make, words = KINDS[kind]
    config = test_bad_config.study(tmp_path)
    config |= {"analysis_mask": "m.nii"} if name == "m.nii" else {}
    config |= {"data_mask_files": "M.txt"} if name == "M.txt" else {}
    (tmp_path / "config.yml").write_text(yaml.safe_dump(config))
    (tmp_path / name).unlink(missing_ok=True)
    make(tmp_path / name)
    with in_seconds(30):
        code = main_fit([str(tmp_path / "config.yml"), "--nprocs", "1", "--quiet"])
    error = capsys.readouterr().err
    assert code in (65, 66), error
    assert name in error
    assert words in error


def sparse(path, size=TB // 4):
    """Zeros without end, of which the disk holds nothing."""
    with path.open("ab") as file:
        file.truncate(size)


def volume(path, dims=None, dtype=np.uint8):
    nib.Nifti1Image(np.ones(SHAPE, dtype), AFFINE).to_filename(path)
    if dims:
        content = bytearray(path.read_bytes())
        content[42:48] = b"".join(length.to_bytes(2, "little") for length in dims)
        path.write_bytes(bytes(content))


def huge(path):
    """More voxels than any machine holds, and a file that is as long as they need."""
    volume(path, (20000,) * 3)
    sparse(path, 15 * TB // 2)


def zeros_behind(path):
    content = path.read_bytes()
    path.write_bytes(content if not path.name.endswith(".gz") else gzip.compress(gzip.decompress(content)))
    sparse(path)


def plain_image(data):
    """The image, no longer compressed."""
    image = image_of(data)
    plain = image.with_name(image.name.removesuffix(".gz"))
    plain.write_bytes(gzip.decompress(image.read_bytes()))
    image.unlink()
    return plain


def bomb(path, megabytes=400):
    """A small file that swells to gigabytes, behind the header of a small volume."""
    head = gzip.decompress(path.read_bytes())
    with gzip.open(path, "wb", compresslevel=9) as file:
        file.write(head)
        for _ in range(megabytes):
            file.write(bytes(2**20))


ENDLESS = {
    "zeros behind a plain volume": (lambda data: zeros_behind(plain_image(data)), (), "holds more data"),
    "zeros behind a compressed volume": (lambda data: zeros_behind(image_of(data)), (), "holds more data"),
    "a gzip bomb": (lambda data: bomb(image_of(data)), (), "holds more data"),
    "zeros behind a table": (
        lambda data: sparse(data / "participants.tsv"), PEOPLE, "participants.tsv: larger"
    ),
    "zeros behind a sidecar": (
        lambda data: sparse(data / "participants.json"), PEOPLE, "participants.json: larger than 100 MB"
    ),
    "zeros behind a model": (
        lambda data: sparse(data.parent / "m.json"), ("--model", "{out}/m.json"), "m.json: more than 10 MB"
    ),
    "zeros behind a list of labels": (
        lambda data: sparse(data.parent / "l.txt"),
        (*MODEL, "--participant-label", "{out}/l.txt"),
        "l.txt: larger than",
    ),
    "a mask of 20000 x 20000 x 20000": (
        lambda data: huge(data.parent / "m.nii"),
        (*MODEL, "--mask", "{out}/m.nii"),
        "m.nii: a volume of 20000 x 20000 x 20000 voxels",
    ),
    "an image of 20000 x 20000 x 20000": (
        lambda data: huge(plain_image(data)),
        (),
        "a volume of 20000 x 20000 x 20000 voxels",
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", ENDLESS)
def test_app__reads_no_more_than_it_needs(sound, tmp_path, capsys, fault):
    change, arguments, words = ENDLESS[fault]
    data = shutil.copytree(sound, tmp_path / "data")
    try:
        change(data)
    except OSError as error:
        pytest.skip(f"no sparse files of that size here: {error}")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    code, error = refuse(data, arguments, capsys, 60)
    assert code in (16, 64, 65), error
    assert words in error
    # A table of a GB may be one, and is looked at.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 3 * 2**20
