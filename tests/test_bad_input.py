"""Bad input, one row each: the exact message, the exit code, and no output.

A case breaks a sound dataset in one way. Messages have places for paths: ``{data}`` is the dataset,
``{image}`` the image that was broken, ``{first}`` the first image of the dataset, ``{out}`` what holds both.
"""

from __future__ import annotations

import gzip
import html
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from blmm_bids.cli import main
from tests.datasets import AFFINE, SHAPE, longitudinal, write_tsv

MODEL = ("--formula", "1 + time + (1 | subject)")
EFFECTS = "*stat-effect_statmap.nii.gz"
PEOPLE = "participant_id age sex site"
UNDO = "copy or make it again"
APART = "images are never resampled here; bring them to one grid, or leave this one out"


@dataclass(frozen=True)
class Case:
    """One thing wrong."""

    name: str
    message: str
    code: int = 65
    break_it: Callable[[Path], object] = lambda data: None
    arguments: tuple[str, ...] = MODEL


def formula(text, *more):
    return ("--formula", text, *more)


def image_of(data):
    return sorted(data.rglob(EFFECTS))[3]


def with_bytes(change):
    """Rewrite the broken image's bytes, as they are on disk."""
    return lambda data: image_of(data).write_bytes(change(image_of(data).read_bytes()))


def with_values(change, dtype=np.float32, shift=0.0):
    """Rewrite the broken image's values and place."""

    def rewrite(data):
        values = nib.load(image_of(data)).get_fdata(dtype=np.float32)
        affine = AFFINE.copy()
        affine[0, 3] += shift
        nib.Nifti1Image(change(values).astype(dtype), affine).to_filename(image_of(data))

    return rewrite


def wide_header(stored):
    """A header of 2000 instead of 4 voxels along x."""
    plain = bytearray(gzip.decompress(stored))
    plain[42:44] = (2000).to_bytes(2, "little")
    return gzip.compress(bytes(plain))


def huge_header(stored):
    """A header that promises more than any deflate stream of this size can hold."""
    plain = bytearray(gzip.decompress(stored))
    plain[42:48] = (3000).to_bytes(2, "little") * 3
    return gzip.compress(bytes(plain))


def people(*lines):
    return lambda data: write_tsv(data / "participants.tsv", PEOPLE, *lines)


def sessions(header, *lines):
    def rewrite(data):
        for folder in sorted(data.glob("sub-*")):
            write_tsv(folder / f"{folder.name}_sessions.tsv", header, *lines)

    return rewrite


def drug_given_once(data):
    sessions("session_id drug", "ses-01 no", "ses-02 no", "ses-03 no")(data)
    table = data / "sub-02" / "sub-02_sessions.tsv"
    write_tsv(table, "session_id drug", "ses-01 yes", "ses-02 no", "ses-03 no")


def mask(values, affine=AFFINE):
    return lambda data: nib.Nifti1Image(values.astype(np.uint8), affine).to_filename(data.parent / "mask.nii")


def beside(**replaced):
    """Copy the broken image to a name with other entities, beside it."""

    def copy(data):
        name = image_of(data).name
        for old, new in replaced.values():
            name = name.replace(old, new)
        shutil.copy(image_of(data), image_of(data).with_name(name))

    return copy


def both_resolutions(data):
    for path in sorted(data.rglob(EFFECTS)):
        for label in "12":
            shutil.copy(path, path.with_name(path.name.replace("space-MNI", f"space-MNI_res-{label}")))
        path.unlink()


def images_that_do_not_overlap(data):
    """The broken image has values in one half, all the others in the other half."""
    half = np.arange(24).reshape(SHAPE) < 12
    for path in sorted(data.rglob(EFFECTS)):
        values = nib.load(path).get_fdata(dtype=np.float32)
        kept = np.where(half if path == image_of(data) else ~half, values, np.nan)
        nib.Nifti1Image(kept, AFFINE).to_filename(path)


def empty_own_masks(data):
    for path in data.rglob("*_mask.nii.gz"):
        nib.Nifti1Image(np.zeros(SHAPE, np.uint8), AFFINE).to_filename(path)


def link_to_itself(data):
    image = image_of(data)
    image.unlink()
    image.symlink_to(image)


def spec(**contrast):
    """A model file with one contrast."""

    def write(data):
        node = {"Level": "Dataset", "Name": "g", "Model": {"X": [1, "time"], "Formula": "1 + time"}}
        full = {"Name": "c", "ConditionList": ["time"], "Weights": [1], "Test": "t", **contrast}
        content = {"Name": "m", "BIDSModelVersion": "1.0.0", "Nodes": [{**node, "Contrasts": [full]}]}
        (data.parent / "spec.json").write_text(json.dumps(content))

    return write


def void(what):
    return f"1 of 10 images have {what}:\n  {{image}}\nMake them again, or leave them out"


NO_VALUE = void("no value at any voxel of the mask (all are NaN, infinite, 0 or masked out)")
HAS = (
    "(has subject, session, task, space, contrast, stat, participants.age, sessions.age, sex, site, time, "
    "motion, … (13 in all))"
)
WITH_SPEC = ("--model", "{out}/spec.json")
WITH_MASK = (*MODEL, "--mask", "{out}/mask.nii")
LONG = "n" * 300

IMAGES = [
    Case(
        "gz truncated",
        f"{{image}}: the gzip data end too early (truncated file); {UNDO}",
        break_it=with_bytes(lambda stored: stored[: len(stored) * 2 // 3]),
    ),
    Case(
        "gz with trailing garbage",
        f"{{image}}: foreign bytes after the gzip data; {UNDO}",
        break_it=with_bytes(lambda stored: stored + b"garbage"),
    ),
    Case(
        "zero bytes",
        f"{{image}}: the file is empty (zero bytes); {UNDO}",
        break_it=with_bytes(lambda stored: b""),
    ),
    Case(
        "not a NIfTI",
        "{image}: not a NIfTI image (no NIfTI header at its start); wanted .nii or .nii.gz",
        break_it=with_bytes(lambda stored: gzip.compress(b"hello" * 200)),
    ),
    Case(
        "not even gzip",
        "{image}: not a NIfTI image (no NIfTI header at its start); wanted .nii or .nii.gz",
        break_it=with_bytes(lambda stored: b"hello" * 200),
    ),
    Case(
        "header lies about the shape",
        f"{{image}}: shape (2000, 3, 2) differs from (4, 3, 2) of {{first}}; {APART}",
        break_it=with_bytes(wide_header),
    ),
    Case(
        "header promises the impossible",
        "{image}: the header promises 108000000352 bytes (shape (3000, 3000, 3000), float32), the file has "
        f"only {{size}} compressed. It is truncated or its header is wrong; {UNDO}",
        break_it=with_bytes(huge_header),
    ),
    Case(
        "fewer data than the header says",
        "{image}: holds fewer data than its header says (448 bytes for shape (4, 3, 2), float32): truncated, "
        "or a wrong header. Copy or make it again",
        break_it=with_bytes(lambda stored: gzip.compress(gzip.decompress(stored)[:-8])),
    ),
    Case("NaN image", NO_VALUE, break_it=with_values(lambda values: values * np.nan)),
    Case("infinite image", NO_VALUE, break_it=with_values(lambda values: np.full(SHAPE, np.inf))),
    Case("all-zero image", NO_VALUE, break_it=with_values(lambda values: values * 0)),
    Case(
        "constant image",
        void("the same value at every voxel"),
        break_it=with_values(lambda values: values * 0 + 3),
    ),
    Case(
        "4-D where 3-D is wanted",
        "{image}: has 4 dimensions (4, 3, 2, 2); wanted one 3-D volume an image. Split it "
        "(fslsplit, 3dTsplit4D, or SPM's 4D to 3D File Conversion), or select a 3-D map",
        break_it=with_values(lambda values: np.stack([values, values], axis=-1)),
    ),
    Case(
        "wrong shape",
        f"{{image}}: shape (3, 3, 2) differs from (4, 3, 2) of {{first}}; {APART}",
        break_it=with_values(lambda values: values[:-1]),
    ),
    Case(
        "affine off by 0.1 mm",
        "{image}: its affine differs from that of {first} by 0.1 mm at a corner of the volume (at most 0.001 "
        "mm are allowed, --affine-tolerance):\n"
        "             3            0            0          0.1\n"
        "             0            3            0            0\n"
        "             0            0            3            0\n"
        "instead of\n"
        "             3            0            0            0\n"
        "             0            3            0            0\n"
        f"             0            0            3            0\n{APART}",
        break_it=with_values(lambda values: values, shift=0.1),
    ),
    Case(
        "complex numbers",
        "{image}: data type complex64 is not supported; wanted an image of real numbers",
        break_it=with_values(lambda values: values, dtype=np.complex64),
    ),
    Case(
        "link to itself",
        "1 image(s) or mask(s) cannot be opened:\n  {image}\n"
        "They are links without content: run 'datalad get' (or 'git annex get') on them.",
        66,
        link_to_itself,
    ),
]

SELECTION = [
    Case(
        "an image twice",
        "Two images have the same entities, so they would count as one observation twice:\n"
        "  {plain}\n  {image}\n"
        'Remove one, or choose with a filter in the model spec\'s Input: "extension": ".nii" or '
        '"extension": ".nii.gz".',
        break_it=lambda data: nib.load(image_of(data)).to_filename(image_of(data).with_suffix("")),
    ),
    Case(
        "two images for one cell",
        "Two images have the same entities, so they would count as one observation twice:\n"
        "  {data}/{name}\n  {image}\n"
        "Remove one, or choose with a filter in the model spec's Input: none tells them apart, so one must "
        "go.",
        break_it=lambda data: shutil.copy(image_of(data), data / image_of(data).name),
    ),
    Case(
        "two spaces",
        "The images have 2 values of 'space', so they are on different grids:\n  {first}\n"
        "  {folder}/sub-02_ses-01_task-nback_space-T1w_contrast-face_stat-effect_statmap.nii.gz\n"
        'Choose one in the model spec\'s Input: "space": "MNI" or "space": "T1w" (or name \'space\' in '
        "GroupBy).",
        break_it=beside(space=("space-MNI", "space-T1w")),
    ),
    Case(
        "a resolution beside none",
        "Some images of sub-02 carry 'res', others lack it:\n"
        "  {folder}/sub-02_ses-01_task-nback_space-MNI_res-2_contrast-face_stat-effect_statmap.nii.gz\n"
        "  {image}\n"
        'Say in the model spec\'s Input which are meant: "res": null (those without it), or "res": ["2"] '
        "(those with it).",
        break_it=beside(res=("space-MNI", "space-MNI_res-2")),
    ),
    Case(
        "two resolutions",
        "The images have 2 values of 'res', so they are on different grids:\n"
        "  {data}/sub-01/ses-01/func/sub-01_ses-01_task-nback_space-MNI_res-1_contrast-face_stat-effect_"
        "statmap.nii.gz\n"
        "  {data}/sub-01/ses-01/func/sub-01_ses-01_task-nback_space-MNI_res-2_contrast-face_stat-effect_"
        "statmap.nii.gz\n"
        'Choose one in the model spec\'s Input: "res": "1" or "res": "2" (or name \'res\' in GroupBy).',
        break_it=both_resolutions,
    ),
    Case(
        "a label of 300 characters",
        "No image matches all filters; there are 20 images.\n"
        "  stat 'effect': 10 images pass; there is effect, variance\n"
        "  suffix 'statmap': 20 images pass\n"
        f"  --participant-label '{LONG}': 0 images pass; there is 01, 02, 03, 04  <- without this filter 10 "
        "images would match\n"
        "Change or remove the filter in the model spec's Input or on the command line.",
        18,
        arguments=(*MODEL, "--participant-label", LONG),
    ),
    Case(
        "filters that match nothing",
        "No image matches all filters; there are 20 images.\n"
        "  task 'rest': 0 images pass; there is nback  <- without this filter 10 images would match\n"
        "  stat 'effect': 10 images pass; there is effect, variance\n"
        "  suffix 'statmap': 20 images pass\n"
        "Change or remove the filter in the model spec's Input or on the command line.",
        18,
        arguments=(*MODEL, "--task-label", "rest"),
    ),
]

TABLES = [
    Case(
        "an image without its row",
        "the model needs 'participants.age', and the table that has it has no line for 2 of 10 images: "
        "sub-04_ses-01_task-nback_space-MNI_contrast-face_stat-effect_statmap.nii.gz, "
        "sub-04_ses-02_task-nback_space-MNI_contrast-face_stat-effect_statmap.nii.gz. Add the lines (n/a "
        "where the value is not known: such images are dropped), or leave the images out with a filter or "
        "--exclude-participant-label",
        break_it=people("sub-01 20 M 1", "sub-02 21 F 2", "sub-03 3 F 1", "sub-09 4 F 2"),
        arguments=formula("1 + participants.age + (1 | subject)"),
    ),
    Case(
        "duplicate rows",
        "the model uses 'participants.age': 'age' has two values for "
        "sub-01_ses-01_task-nback_space-MNI_contrast-face_stat-effect_statmap.nii.gz: 20.0 "
        "({data}/participants.tsv, line 2) and 3.0 ({data}/participants.tsv, line 4). Correct the one "
        "that is wrong",
        break_it=people("sub-01 20 M 1", "sub-02 21 F 2", "sub-01 3 F 1"),
        arguments=formula("1 + participants.age + (1 | subject)"),
    ),
    Case(
        "undecodable bytes",
        "the model uses 'participants.age': {data}/participants.tsv, line 2: byte 0xe9 is not UTF-8. Save "
        "the file as UTF-8 (in a spreadsheet: 'Text, tab-separated, UTF-8'), or say what it is in: "
        "--table-encoding latin-1.",
        16,
        lambda data: (data / "participants.tsv").write_bytes(b"participant_id\tage\nsub-01\t3\xe9\n"),
        formula("1 + participants.age + (1 | subject)", "--table-encoding", "utf-8"),
    ),
    Case(
        "a malformed line",
        "the model uses 'participants.age': {data}/participants.tsv, line 2: 3 cells, but the header has 4. "
        "Write n/a where a value is missing.",
        16,
        people("sub-01 20 M"),
        formula("1 + participants.age + (1 | subject)"),
    ),
    Case(
        "a name that a table which cannot be read may have",
        "the model uses 'dose', absent from the tables that could be read. Not read: 'drugs' "
        "({data}/phenotype/drugs.tsv, line 1: the header has commas and no tab. Save the table "
        "tab-separated)",
        64,
        lambda data: (data / "phenotype" / "drugs.tsv").write_text("participant_id,dose\nsub-01,2\n"),
        formula("1 + dose"),
    ),
    Case(
        "a word that looks like a missing value",
        "'sex' in participants has '-' in 1 line, the first being {data}/participants.tsv, line 3: it looks "
        "like a missing value. If it is one: --missing-values '-', 'MissingValues' of the column in the "
        "table's JSON file, or n/a in its place; if it is a value: --not-missing '-', or 'Levels' in the "
        "table's JSON file",
        break_it=people("sub-01 20 M 1", "sub-02 21 - 2", "sub-03 3 F 1", "sub-04 5 M 1"),
        arguments=formula("1 + C(sex) + (1 | subject)"),
    ),
    Case(
        "a number that looks like a missing value",
        "'age' in participants has '-999' in 1 line, the first being {data}/participants.tsv, line 3: it "
        "looks like a missing value. If it is one: --missing-values '-999', 'MissingValues' of the column in "
        "the table's JSON file, or n/a in its place; if it is a value: --not-missing '-999', or 'Levels' in "
        "the table's JSON file",
        break_it=people("sub-01 20 M 1", "sub-02 -999 F 2", "sub-03 3 F 1", "sub-04 5 M 1"),
        arguments=formula("1 + participants.age + (1 | subject)"),
    ),
    Case(
        "dates as a covariate",
        "'age' in participants is text that looks like dates, the first being '2019-03-01' "
        "({data}/participants.tsv, line 2); days(participants.age) and "
        "years(participants.age, by=subject) give the time since the first, or declare a category: "
        "C(participants.age) in the formula, or 'Levels' in the table's JSON file",
        break_it=people("sub-01 2019-03-01 M 1", "sub-02 2019-03-02 F 2", "sub-03 n/a M 1", "sub-04 n/a M 1"),
        arguments=formula("1 + participants.age + (1 | subject)"),
    ),
    Case(
        "numbers and text in one column",
        "'age' in participants is categorical, for 1 of 4 values are no numbers, the first being 'old' "
        "({data}/participants.tsv, line 3); write n/a where a value is missing, correct it, or declare a "
        "category: C(participants.age) in the formula, or 'Levels' in the table's JSON file",
        break_it=people("sub-01 20 M 1", "sub-02 old F 2", "sub-03 3 F 1", "sub-04 5 M 1"),
        arguments=formula("1 + participants.age + (1 | subject)"),
    ),
]

MODELS = [
    Case(
        "an encoding that is none",
        "--table-encoding klingon: not an encoding of text; wanted utf-8, latin-1, cp1252, …",
        64,
        arguments=(*MODEL, "--table-encoding", "klingon"),
    ),
    Case(
        "covariate without variance",
        "covariate 'participants.age' has no variance: it is 20 in all 10 images used; remove it from the "
        "formula",
        break_it=people(*(f"sub-0{number} 20 M 1" for number in (1, 2, 3, 4))),
        arguments=formula("1 + participants.age + (1 | subject)"),
    ),
    Case(
        "collinear columns",
        "columns of the design are collinear: twice is a linear combination of Intercept, time; remove or "
        "merge some of them",
        break_it=sessions("session_id time twice", "ses-01 0 0", "ses-02 1 2", "ses-03 2 4"),
        arguments=formula("1 + time + twice + (1 | subject)"),
    ),
    Case(
        "unknown column",
        f"formula uses 'tme', absent from the tables {HAS}; did you mean 'time'?",
        64,
        arguments=formula("1 + tme"),
    ),
    Case(
        "contrast of an unknown column",
        "contrast 'x': 'tme' uses 'tme', which is no column of the design (has Intercept, time); did you "
        "mean 'time'?",
        64,
        arguments=(*MODEL, "--contrast", "x=tme"),
    ),
    Case(
        "contrast of wrong length",
        "spec.json: model spec: contrast 'c' of node 'g' has 2 weights in a row and 1 conditions; they must "
        "be as many",
        64,
        spec(Weights=[1, 2]),
        WITH_SPEC,
    ),
    Case(
        "slope on what is constant within levels",
        "random slope of 'score' over 'subject' cannot be estimated: no level of 'subject' has more than one "
        "value of it; use (1 | subject) or another grouping factor",
        arguments=formula("1 + time + (1 + score | subject)"),
    ),
    Case(
        "a factor with one level",
        "grouping factor 'task' has one level, 'nback'; a random effect needs at least two",
        arguments=formula("1 + time + (1 | task)"),
    ),
    Case(
        "a covariate with one level",
        "variable 'task' has one level, 'nback', in all 10 images used; remove it from the formula or "
        "include other images",
        arguments=formula("1 + task + (1 | subject)"),
    ),
    Case(
        "as many levels as images",
        "grouping factor 'subject:session' has as many levels as there are images (10), so its variance "
        "cannot be told from the residual's; remove the term or group by something that repeats",
        arguments=formula("1 + time + (1 | subject:session)"),
    ),
    Case(
        "more random effects than images",
        "random term (Intercept + time + I(time ** 2) | subject) has 12 effects and there are 10 images, so "
        "its variances cannot be told from the residual's: for slopes each level needs more images than "
        "effects; simplify the term (or set SafeMode to false)",
        arguments=formula("1 + time + (1 + time + I(time**2) | subject)"),
    ),
    Case(
        "a contrast's name of 300 characters",
        f"contrast '{LONG}' would need a file name of 357 bytes, "
        "'task-nback_space-MNI_contrast-nnnnnnnnnnnnnnnnnnnnnnnnnnnnnn…', and file systems take 241; give it "
        "a shorter name",
        64,
        arguments=(*MODEL, "--contrast", f"{LONG}=time"),
    ),
    Case(
        "a column's name of 300 characters",
        f"regressor '{LONG}' would need a file name of 352 bytes, "
        "'task-nback_space-MNI_param-nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn…', and file systems take 241; give it "
        "a shorter name",
        64,
        sessions(f"session_id {LONG}", "ses-01 0", "ses-02 1", "ses-03 2"),
        formula(f"1 + {LONG} + (1 | subject)"),
    ),
    Case(
        "a level's name of 300 characters",
        f"regressor 'phase[T.{LONG}]' would need a file name of 358 bytes, "
        "'task-nback_space-MNI_param-phaseTNnnnnnnnnnnnnnnnnnnnnnnnnnn…', and file systems take 241; give it "
        "a shorter name",
        64,
        sessions("session_id phase", "ses-01 a", f"ses-02 {LONG}", "ses-03 a"),
        formula("1 + phase + (1 | subject)"),
    ),
]

MASKS = [
    Case(
        "empty mask",
        "{out}/mask.nii: the mask is empty (no voxel above 0.5); wanted at least one voxel inside",
        break_it=mask(np.zeros(SHAPE)),
        arguments=WITH_MASK,
    ),
    Case(
        "a mask's name of 300 characters",
        f"{{out}}/{LONG}: File name too long",
        66,
        arguments=(*MODEL, "--mask", f"{{out}}/{LONG}"),
    ),
    Case(
        "mask on another grid",
        "{out}/mask.nii: the mask lies on another grid (shape (2, 2, 2), zooms 3 x 3 x 3 mm) than the images "
        "(shape (4, 3, 2), zooms 3 x 3 x 3 mm). Give --resample-mask to bring it to theirs, or another mask",
        break_it=mask(np.ones((2, 2, 2))),
        arguments=WITH_MASK,
    ),
    Case(
        "empty masks of the images",
        "the mask is empty; check that the analysis mask and the images' own masks cover the brain",
        break_it=empty_own_masks,
    ),
    Case(
        "no voxel with enough images",
        "no voxel has 10 images with a value (the most is 9 of 10); lower MinN or MinPercent "
        "(the BIDS App's --min-n and --min-percent), or check the masks and which values count as missing",
        break_it=images_that_do_not_overlap,
        arguments=(*MODEL, "--min-n", "10", "--input-masks", "none"),
    ),
]
CASES = [*IMAGES, *SELECTION, *TABLES, *MODELS, *MASKS]


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    return longitudinal(tmp_path_factory.mktemp("sound") / "data")


def refuse(data, arguments, capsys):
    """The exit code and the message of a run; no output may be left."""
    out = data.parent / "out"
    code = main([str(data), str(out), "group", *arguments, "--nprocs", "1", "--quiet"])
    written = [path.name for path in out.rglob("*") if path.is_file()] if out.exists() else []
    assert not [name for name in written if name.endswith((".nii.gz", ".html", ".part", ".tmp"))]
    assert not list(out.glob("node-*"))
    return code, capsys.readouterr().err.partition("error: ")[2].removesuffix("\n")


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_app__refuses_bad_input(sound, tmp_path, capsys, case):
    data = shutil.copytree(sound, tmp_path / "data")
    image, first = image_of(data), sorted(data.rglob(EFFECTS))[0]
    places = {
        "data": str(data), "image": str(image), "first": str(first), "out": str(tmp_path),
        "folder": str(image.parent), "name": image.name, "plain": str(image).removesuffix(".gz"),
    }  # fmt: skip
    case.break_it(data)
    places["size"] = str(image.stat().st_size) if image.exists() else ""
    code, message = refuse(data, [text.format(**places) for text in case.arguments], capsys)
    assert message == case.message.format(**places)
    assert code == case.code


SAID = [
    Case(
        "a category with one row",
        "node 'group': only one level of subject has sex X (04): such an effect cannot be told from that "
        "level's own",
        0,
        people("sub-01 20 F 1", "sub-02 21 F 2", "sub-03 3 F 1", "sub-04 4 X 2"),
        formula("1 + sex + (1 | subject)"),
    ),
    Case(
        "a category with one image",
        "node 'group': one image only has drug yes",
        0,
        drug_given_once,
        formula("1 + drug + (1 | subject)"),
    ),
    Case(
        "participants without an image",
        "participants without an image: 2 (sub-08, sub-09)",
        0,
        people(*(f"sub-0{number} 20 M 1" for number in (1, 2, 3, 4, 8, 9))),
    ),
]


@pytest.mark.parametrize("case", SAID, ids=[case.name for case in SAID])
def test_app__says_what_it_goes_on_with(sound, tmp_path, capsys, case):
    data = shutil.copytree(sound, tmp_path / "data")
    case.break_it(data)
    assert main([str(data), str(tmp_path / "out"), "group", *case.arguments, "--nprocs", "1"]) == case.code
    assert case.message in capsys.readouterr().err.splitlines()
    (page,) = (tmp_path / "out").glob("node-*.html")
    # The page has it too; there participants are listed by themselves.
    shown = case.message.partition(": ")[2].removeprefix("2 (").removesuffix(")")
    assert shown in html.unescape(page.read_text(encoding="utf-8"))


@pytest.mark.parametrize("closed", ["out", "work", "data/sub-01"])
def test_app__names_a_directory_that_is_closed(sound, capsys, closed):
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        place.chmod(0o777)
        data = shutil.copytree(sound, place / "data")
        (place / closed).mkdir(exist_ok=True)
        (place / closed).chmod(0)
        user = os.geteuid()
        if user == 0:
            os.seteuid(65534)
        try:
            arguments = ["--work-dir", str(place / "work"), "--nprocs", "1", "--quiet"]
            code = main([str(data), str(place / "out"), "group", *MODEL, *arguments])
        finally:
            os.seteuid(user)
            (place / closed).chmod(0o755)
        message = capsys.readouterr().err.partition("error: ")[2]
        assert str(place / closed) in message
        assert "Permission denied" in message
        assert code == (66 if closed == "data/sub-01" else 73)
        assert not list(place.glob("out/node-*"))
