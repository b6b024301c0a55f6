"""Config mode: bad input, one row each, with the exact message and exit code; and what must work.

``{data}`` in a message is the directory of the config file.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import yaml

from blmm_bids.cli import main_fit

N_IMAGES = 12
SHAPE = (3, 2, 2)
LONG = "n" * 300
SLOPING = np.arange(12, dtype=np.float32).reshape(SHAPE) + 1
APART = "images are never resampled here; bring them to one grid, or leave this one out"
ROWS = "rows and 12 images in Y_files; wanted one row an image, no header"


@dataclass(frozen=True)
class Case:
    """One change of a sound study; `change` takes its directory and its config."""

    name: str
    change: Callable[[Path, dict[str, Any]], object]
    message: str = ""
    code: int = 65
    arguments: tuple[str, ...] = ()


def study(data):
    rng = np.random.default_rng(5)
    for index in range(N_IMAGES):
        values = rng.normal(3, 1, SHAPE).astype(np.float32)
        nib.Nifti1Image(values, np.eye(4)).to_filename(data / f"y{index}.nii.gz")
    (data / "Y.txt").write_text("".join(f"y{index}.nii.gz\n" for index in range(N_IMAGES)))
    X = np.column_stack([np.ones(N_IMAGES), np.tile([0, 1, 2], 4)])
    np.savetxt(data / "X.csv", X, delimiter=",", fmt="%g")
    np.savetxt(data / "f.csv", np.repeat(np.arange(4), 3) + 1, fmt="%d")
    np.savetxt(data / "z.csv", np.ones(N_IMAGES), fmt="%d")
    return {
        "Y_files": "Y.txt", "X": "X.csv", "outdir": "out", "numNodes": 1, "MAXMEM": "2**31",
        "Z": [{"f1": {"name": "subject", "factor": "f.csv", "design": "z.csv"}}],
        "contrasts": [{"c1": {"name": "slope", "vector": [0, 1]}}],
    }  # fmt: skip


def edit(name, change):
    """Change a text file, as a list of lines."""

    def rewrite(data, config):
        lines = change((data / name).read_text().splitlines())
        (data / name).write_text("".join(f"{line}\n" for line in lines))

    return rewrite


def fields(**changed):
    return lambda data, config: config.update(changed)


def analysis_mask(values, dtype=np.uint8):
    def write(data, config):
        nib.Nifti1Image(np.asarray(values, dtype=dtype), np.eye(4)).to_filename(data / "m.nii")
        config["analysis_mask"] = "m.nii"

    return write


def image(values, shift=0.0, name="y3"):
    affine = np.eye(4)
    affine[0, 3] = shift
    return lambda data, config: nib.Nifti1Image(values, affine).to_filename(data / f"{name}.nii.gz")


def table(name, values):
    return lambda data, config: np.savetxt(data / name, values, delimiter=",", fmt="%g")


def truncated(data, config):
    (data / "y3.nii.gz").write_bytes((data / "y3.nii.gz").read_bytes()[:-20])


def masks(names):
    def write(data, config):
        (data / "M.txt").write_text("".join(f"{name}\n" for name in names))
        config["data_mask_files"] = "M.txt"

    return write


def link_to_itself(data, config):
    (data / "y3.nii.gz").unlink()
    (data / "y3.nii.gz").symlink_to("y3.nii.gz")


NO_VALUE = (
    "1 of 12 images have no value at any voxel of the mask (all are NaN, infinite, 0 or masked out):\n"
    "  {data}/y3.nii.gz\nMake them again, or leave them out"
)


BAD = [
    *[
        Case(
            f"a header line in {name}",
            edit(name, lambda lines: ["name", *lines]),
            f"{{data}}/{name}, line 1: 'name' looks like a header; these files have none: remove the line",
        )
        for name in ("X.csv", "f.csv", "z.csv")
    ],
    *[
        Case(
            f"too few rows in {name}",
            edit(name, lambda lines: lines[:-1]),
            f"{{data}}/{name}: 11 {ROWS}",
        )
        for name in ("X.csv", "f.csv", "z.csv")
    ],
    *[
        Case(
            f"too many rows in {name}",
            edit(name, lambda lines: [*lines, lines[-1]]),
            f"{{data}}/{name}: 13 {ROWS} (is the first line, '{first}', a header?)",
        )
        for name, first in (("X.csv", "1,0"), ("f.csv", "1"), ("z.csv", "1"))
    ],
    Case(
        "too few images",
        edit("Y.txt", lambda lines: lines[:-1]),
        "{data}/X.csv: 12 rows and 11 images in Y_files; wanted one row an image, no header (is the first "
        "line, '1,0', a header?)",
    ),
    Case(
        "the same image twice",
        edit("Y.txt", lambda lines: [*lines[:5], *lines[4:]]),
        "{data}/Y.txt: lines 5 and 6 are the same image, {data}/y4.nii.gz; list each image once",
    ),
    Case(
        "too few masks",
        masks(["y0.nii.gz"]),
        "{data}/M.txt lists 1 masks and {data}/Y.txt 12 images; the first mask belongs to the first image "
        "and so on: list one mask an image",
        64,
    ),
    Case(
        "empty mask",
        analysis_mask(np.zeros(SHAPE)),
        "{data}/m.nii: the mask is empty (no voxel above 0.5); wanted at least one voxel inside",
    ),
    Case(
        "outdir is a file",
        lambda data, config: (data / "out").write_text(""),
        "outdir '{data}/out' is a file; name a directory",
        73,
    ),
    Case(
        "gz truncated",
        truncated,
        "{data}/y3.nii.gz: the gzip data end too early (truncated file); copy or make it again",
    ),
    Case(
        "an image that is not there",
        lambda data, config: (data / "y3.nii.gz").unlink(),
        "{data}/y3.nii.gz: no such image: check the path",
        66,
    ),
    Case(
        "constant image",
        image(np.ones(SHAPE, np.float32)),
        "1 of 12 images have the same value at every voxel:\n  {data}/y3.nii.gz\n"
        "Make them again, or leave them out",
    ),
    Case(
        "wrong shape",
        image(np.ones((2, 2, 2), np.float32)),
        f"{{data}}/y3.nii.gz: shape (2, 2, 2) differs from (3, 2, 2) of {{data}}/y0.nii.gz; {APART}",
    ),
    Case(
        "collinear columns",
        table("X.csv", np.column_stack([np.ones(N_IMAGES), np.full(N_IMAGES, 2)])),
        "{data}/X.csv: columns of the design are collinear: x2 is a linear combination of Intercept; remove "
        "or merge some of them",
    ),
    Case(
        "a factor with one level",
        table("f.csv", np.ones(N_IMAGES)),
        "{data}/f.csv and {data}/z.csv: grouping factor 'subject' has one level, '1'; a random effect needs "
        "at least two",
    ),
    Case(
        "as many levels as images",
        table("f.csv", np.arange(N_IMAGES)),
        "{data}/f.csv and {data}/z.csv: grouping factor 'subject' has as many levels as there are images "
        "(12), so its variance cannot be told from the residual's; remove the term or group by something "
        "that repeats",
    ),
    Case(
        "contrast of wrong length",
        fields(contrasts=[{"c1": {"name": "s", "vector": [0, 1, 0]}}]),
        "{data}/c.yml: contrast 's' has 3 weights and X has 2 columns; give one weight a column",
        64,
    ),
    Case(
        "undecodable bytes",
        lambda data, config: (data / "f.csv").write_bytes(b"caf\xe9\n" * N_IMAGES),
        "{data}/f.csv: is not text in UTF-8 (byte 3); save it as plain text",
    ),
    Case(
        "text among numbers",
        edit("X.csv", lambda lines: [*lines[:2], "1,two", *lines[3:]]),
        "{data}/X.csv, line 3: 'two' is not a number; code text as columns of numbers",
    ),
    Case(
        "a header line in the list of images",
        edit("Y.txt", lambda lines: ["image", *lines]),
        "{data}/X.csv: 12 rows and 13 images in Y_files; wanted one row an image, no header",
    ),
    Case(
        "a blank line among images",
        edit("Y.txt", lambda lines: [*lines[:3], "", *lines[3:]]),
        "{data}/Y.txt, line 4: is blank and others follow; remove it: lines go with images",
    ),
    Case(
        "too many masks",
        masks([*(f"y{index}.nii.gz" for index in range(N_IMAGES)), "y0.nii.gz"]),
        "{data}/M.txt lists 13 masks and {data}/Y.txt 12 images; the first mask belongs to the first image "
        "and so on: list one mask an image",
        64,
    ),
    Case(
        "mask on another grid",
        analysis_mask(np.ones((2, 2, 2))),
        "{data}/m.nii: the mask lies on another grid (shape (2, 2, 2), zooms 1 x 1 x 1 mm) than the images "
        "(shape (3, 2, 2), zooms 1 x 1 x 1 mm). Give --resample-mask to bring it to theirs, or another mask",
    ),
    Case(
        "affine off by 0.1 mm",
        image(SLOPING, 0.1),
        "{data}/y3.nii.gz: its affine differs from that of {data}/y0.nii.gz by 0.1 mm at a corner of the "
        "volume (at most 0.001 mm are allowed, --affine-tolerance):\n"
        "             1            0            0          0.1\n"
        "             0            1            0            0\n"
        "             0            0            1            0\n"
        "instead of\n"
        "             1            0            0            0\n"
        "             0            1            0            0\n"
        f"             0            0            1            0\n{APART}",
    ),
    Case(
        "4-D where 3-D is wanted",
        image(np.stack([SLOPING, SLOPING], axis=-1)),
        "{data}/y3.nii.gz: has 4 dimensions (3, 2, 2, 2); wanted one 3-D volume an image. Split it "
        "(fslsplit, 3dTsplit4D, or SPM's 4D to 3D File Conversion), or select a 3-D map",
    ),
    Case(
        "complex numbers",
        image(SLOPING.astype(np.complex64)),
        "{data}/y3.nii.gz: data type complex64 is not supported; wanted an image of real numbers",
    ),
    Case("NaN image", image(SLOPING * np.nan), NO_VALUE),
    Case("all-zero image", image(SLOPING * 0), NO_VALUE),
    Case(
        "all below data_mask_thresh",
        lambda data, config: (image(SLOPING - 50)(data, config), config.update(data_mask_thresh=-20)),
        "1 of 12 images have no value at any voxel of the mask (all are NaN, infinite, 0, below -20 or "
        "masked out):\n  {data}/y3.nii.gz\nMake them again, or leave them out",
    ),
    Case(
        "no voxel with enough images",
        lambda data, config: (
            image(np.where(SLOPING < 7, SLOPING, np.nan))(data, config),
            image(np.where(SLOPING < 7, np.nan, SLOPING), name="y4")(data, config),
            config.update(Missingness={"MinN": N_IMAGES}),
        ),
        "no voxel has 12 images with a value (the most is 11 of 12); lower MinN or MinPercent (the BIDS "
        "App's --min-n and --min-percent), or check the masks and which values count as missing",
    ),
    Case(
        "zero bytes",
        lambda data, config: (data / "y3.nii.gz").write_bytes(b""),
        "{data}/y3.nii.gz: the file is empty (zero bytes); copy or make it again",
    ),
    Case(
        "link to itself",
        link_to_itself,
        "{data}/y3.nii.gz: cannot be read (Too many levels of symbolic links); check that it is a file and "
        "its permissions",
        66,
    ),
    Case(
        "names of 300 characters",
        edit("Y.txt", lambda lines: [f"{LONG}.nii", *lines[1:]]),
        f"{{data}}/{LONG}.nii: cannot be read (File name too long); check that it is a file and "
        "its permissions",
        66,
    ),
    Case(
        "slope on what is constant within levels",
        table("z.csv", np.column_stack([np.ones(N_IMAGES), np.repeat([1, 2, 3, 4], 3)])),
        "{data}/f.csv and {data}/z.csv: random slope of '2' over 'subject' cannot be estimated: no level of "
        "'subject' has more than one value of it; use (1 | subject) or another grouping factor",
    ),
    Case(
        "more random effects than images",
        table("z.csv", np.column_stack([np.ones(N_IMAGES), np.tile([0, 1, 2], 4), np.tile([0, 1, 4], 4)])),
        "{data}/f.csv and {data}/z.csv: random term (Intercept + 2 + 3 | subject) has 12 effects and there "
        "are 12 images, so its variances cannot be told from the residual's: for slopes each level needs "
        "more images than effects; simplify the term (or set SafeMode to false)",
    ),
    Case(
        "a missing value in X",
        edit("X.csv", lambda lines: ["1,nan", *lines[1:]]),
        "{data}/X.csv, line 1: a value is missing ('nan'); leave the image out of all files",
    ),
    Case(
        "an unknown field",
        fields(analysismask="m.nii"),
        "{data}/c.yml: 'analysismask' is not a field of the config; did you mean 'analysis_mask'?",
        64,
    ),
]

FINE = [
    Case("blank last lines in Y_files", edit("Y.txt", lambda lines: [*lines, "", ""])),
    Case("a mask of 0 and 255", analysis_mask(np.full(SHAPE, 255))),
    Case("a mask of fractions", analysis_mask(np.full(SHAPE, 0.75), np.float32)),
    Case(
        "an F contrast first",
        fields(contrasts=[{"c1": {"vector": [[0, 1]]}}, {"c2": {"vector": [0, 1]}}]),
    ),
    Case("numbers as floats", fields(numNodes=1.0, MAXMEM=2.0**31, maxnit=1000.0, safeMode=1.0, resms=1.0)),
    Case(
        "numbers as text",
        fields(numNodes="1", MAXMEM="2147483648", maxnit="1000", safeMode="1", tol="1e-6", resms="1"),
    ),
    Case("an outdir whose parent is missing", fields(outdir="a/b/out")),
    Case("an image off by 1e-6 mm", image(SLOPING, 1e-6)),
    Case("an image off by 0.1 mm", image(SLOPING, 0.1), arguments=("--affine-tolerance", "0.2")),
    Case("a mask on another grid", analysis_mask(np.ones((4, 3, 3))), arguments=("--resample-mask",)),
]


def run(case, data):
    config = study(data)
    case.change(data, config)
    (data / "c.yml").write_text(yaml.safe_dump(config))
    return main_fit([str(data / "c.yml"), "--quiet", *case.arguments]), data / config["outdir"]


@pytest.mark.parametrize("case", BAD, ids=[case.name for case in BAD])
def test_fit__refuses_bad_input(tmp_path, capsys, case):
    code, outdir = run(case, tmp_path)
    message = capsys.readouterr().err.partition("error: ")[2].removesuffix("\n")
    assert message == case.message.format(data=tmp_path)
    assert code == case.code
    assert not [*outdir.glob("blmm_vox_*"), *outdir.glob(".blmm_vox_*"), *outdir.glob("inputs.yml")]


@pytest.mark.parametrize("case", FINE, ids=[case.name for case in FINE])
def test_fit__works_all_the_same(tmp_path, case):
    code, outdir = run(case, tmp_path)
    assert code == 0
    mask = np.asarray(nib.load(outdir / "blmm_vox_mask.nii").dataobj)
    assert mask.all()
    t = np.asarray(nib.load(outdir / "blmm_vox_conT.nii").dataobj)
    assert np.isfinite(t).all()
    assert (outdir / "blmm_vox_conF.nii").exists() == (case.name == "an F contrast first")


def test_fit__leaves_none_of_an_earlier_runs_maps(tmp_path):
    (tmp_path / "out").mkdir()
    for name in ("blmm_vox_old.nii", ".blmm_vox_beta.nii.1.part", "mine.txt"):
        (tmp_path / "out" / name).write_text("x")
    code, outdir = run(Case("", lambda data, config: None), tmp_path)
    assert code == 0
    names = {path.name for path in outdir.iterdir()}
    assert not {"blmm_vox_old.nii", ".blmm_vox_beta.nii.1.part"} & names
    assert {"mine.txt", "inputs.yml"} <= names


@pytest.mark.parametrize(
    "text",
    [
        "Y_files: !!python/object/apply:os.system ['false']\n",
        "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
        + "".join(
            f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n"
            for before, name in zip("abcdefgh", "bcdefghi", strict=True)
        ),
        "[" * 5000,
    ],
    ids=["a Python object", "an alias bomb", "deep nesting"],
)
def test_fit__takes_plain_yaml_only(tmp_path, capsys, text):
    (tmp_path / "c.yml").write_text(text)
    assert main_fit([str(tmp_path / "c.yml")]) == 64
    error = capsys.readouterr().err
    assert error.startswith(f"error: {tmp_path}/c.yml: ")
    assert len(error) < 1000
