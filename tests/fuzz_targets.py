"""What is fuzzed: bytes in, and nothing out but a result or a `BlmmError`.

Both hypothesis and atheris drive these; what once broke one of them is kept in `tests/fuzz_corpus`.
"""

from __future__ import annotations

import gzip
import tempfile
from contextlib import suppress
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd

from blmm_bids.bids.dataset import DatasetOptions, find_observations, scan_dataset
from blmm_bids.bids.image_table import named_folders
from blmm_bids.bids.roots import read_json
from blmm_bids.bids.selection import merge_filters, selection_from_input
from blmm_bids.bids.tsv import read_tsv
from blmm_bids.config.files import read_mapping, read_model_spec
from blmm_bids.config.reference import read_reference_config
from blmm_bids.config.text_files import read_factor, read_matrix
from blmm_bids.design.build import build_design
from blmm_bids.design.spec import spec_from_formula
from blmm_bids.errors import BlmmError
from blmm_bids.images.reader import read_values

CORPUS = Path(__file__).parent / "fuzz_corpus"
SHAPE = (4, 3, 2)
# More than any seed needs; a header that claims more than it brings must be refused before it is believed.
MOST_BYTES = 64 * 2**20
_PLACE = tempfile.TemporaryDirectory(prefix="fuzz-")


def _file(name: str, content: bytes) -> Path:
    path = Path(_PLACE.name) / name
    path.write_bytes(content)
    return path


def nifti(content: bytes) -> None:
    """A NIfTI image, plain and as the inside of a gzip file."""
    for path in (
        _file("a.nii", content),
        _file("b.nii.gz", gzip.compress(content, 1)),
        _file("c.nii.gz", content),
    ):
        try:
            values = read_values(path)
        except BlmmError:
            continue
        assert values.nbytes <= MOST_BYTES
        assert values.ndim == 1


def tsv(content: bytes) -> None:
    """A table of BIDS, a sidecar, and the tables of config mode."""
    path = _file("a.tsv", content)
    for read in (read_tsv, read_json, lambda file: read_matrix(file, 3), lambda file: read_factor(file, 3)):
        try:
            read(path)
        except BlmmError:
            continue


def images(content: bytes) -> None:
    """A table of images, some of which are there."""
    path = _file("images.txt", content)
    for name in ("a.nii", "b.nii.gz", "c.img", "mask.nii"):
        _file(name, b"")
    dataset = scan_dataset(DatasetOptions(path.parent, images_tsv=path))
    for block in ({}, {"run": 1, "subject": "*"}):
        with suppress(BlmmError):
            find_observations(dataset, selection_from_input(block))
    with suppress(BlmmError):
        named_folders(path, path.parent, "utf-8-sig")


def spec_json(content: bytes) -> None:
    """A model spec and a filter file in JSON."""
    _spec(_file("a.json", content))


def spec_yaml(content: bytes) -> None:
    """The same in YAML."""
    _spec(_file("a.yml", content))


def _spec(path: Path) -> None:
    with suppress(BlmmError):
        read_model_spec(path)
    with suppress(BlmmError):
        selection_from_input(merge_filters({}, read_mapping(path, "filter file"))).with_defaults()


def formula(content: bytes) -> None:
    """A formula, as far as the design."""
    text = content.decode("utf-8", errors="replace")
    with suppress(BlmmError):
        build_design(spec_from_formula(text).nodes[0], _table())


def config(content: bytes) -> None:
    """A ``blmm_config.yml``."""
    with suppress(BlmmError):
        read_reference_config(_file("c.yml", content))


def _table() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "age": rng.normal(50, 9, 24),
            "time": np.tile([0.0, 1.0, 2.0], 8),
            "sex": pd.Categorical(np.repeat(["F", "M"], 12)),
            "subject": pd.Categorical(np.repeat([f"{n:02d}" for n in range(8)], 3)),
        }
    )


def image_seed(kind: type = nib.Nifti1Image, dtype: str = "<f4") -> bytes:
    """Bytes of a sound image."""
    image = kind(np.arange(24).reshape(SHAPE).astype(dtype), np.eye(4))
    return image.to_bytes()


TARGETS = {
    "nifti": nifti,
    "tsv": tsv,
    "images": images,
    "spec_json": spec_json,
    "spec_yaml": spec_yaml,
    "formula": formula,
    "config": config,
}
SEEDS: dict[str, list[bytes]] = {
    "nifti": [image_seed(), image_seed(nib.Nifti2Image), image_seed(dtype=">i2")],
    "tsv": [
        b"participant_id\tage\tsex\nsub-01\t20\tM\nsub-02\tn/a\tF\n",
        b"1,2\n3,4\n5,6\n",
        b'{"a": {"Levels": {}}}',
    ],
    "images": [
        b"path\tsubject\trun\tage\tmask\na.nii\tsub-01\t1\t20\tmask.nii\n"
        b"b.nii.gz,1\t02\t1\tn/a\tmask.nii;mask.nii\n",
        b"Subj Cond InputFile \\\ns1 a 'c.img[0]' \\\ns1 b x/y+tlrc[1] \\\n",
        b'path,contrast\n"a.nii","a > b"\n../a.nii,b\n',
    ],
    "spec_json": [
        b'{"Name": "m", "BIDSModelVersion": "1.0.0", "Input": {"task": ["a"], "suffix": "statmap"}, "Nodes": '
        b'[{"Level": "Dataset", "Name": "g", "GroupBy": ["contrast"], "Transformations": {"Transformer": '
        b'"pybids-transforms-v1", "Instructions": [{"Name": "Scale", "Input": ["age"]}, {"Name": "Filter", '
        b'"Input": ["age"], "Query": "age > 3"}]}, "Model": {"Type": "glm", "X": [1, "age"], "Formula": '
        b'"1 + age", "Software": {"blmm": {"RandomEffects": ["(1 + age | subject)"], "REML": true, "Tol": '
        b'1e-6}}}, "Contrasts": [{"Name": "c", "ConditionList": ["age"], "Weights": [[1]], "Test": "F"}], '
        b'"DummyContrasts": {"Test": "t"}}]}'
    ],
    "spec_yaml": [
        b"Name: m\nBIDSModelVersion: 1.0.0\nNodes:\n- Level: Dataset\n  Name: g\n  Model:\n    X: [1, age]\n"
        b"    Formula: 1 + age + (1 | subject)\n  Contrasts:\n  - {Name: c, ConditionList: [age], Weights: "
        b"[1], Test: t}\n"
    ],
    "formula": [
        b"1 + age * sex + poly(age, 2) + (1 + time || subject)",
        b"center(age, by=subject) + C(sex) - 1",
    ],
    "config": [
        b"Y_files: Y.txt\nX: X.csv\noutdir: out\nMAXMEM: 2**32\nMissingness: {MinPercent: '10%', MinN: 3}\n"
        b"Z:\n- f1: {name: s, factor: f.csv, design: z.csv}\ncontrasts:\n- c1: {name: a, vector: [[0, 1]]}\n"
        b"tol: 1e-6\nmethod: pSFS\nclusterType: SLURM\n"
    ],
}


def _words(text: str, *more: bytes) -> list[bytes]:
    return [*(word.encode() for word in text.split(" ")), *more]


# What these formats are made of: a change of a byte alone hardly ever gets past a parser.
WORDS: dict[str, list[bytes]] = {
    "nifti": [b"\0\0", b"\xff\xff", b"\x7f\xff", b"\0\x80", b"\0\0\x80\x7f", b"\0\0\xc0\x7f", b"n+1\0"],
    "tsv": [b"\t", b"\n", b"\r", b'"', b"n/a", b"\xef\xbb\xbf", b"\xff", b"\0", b"1e999", b"\xe2\x80\xa8"],
    "images": _words(
        '/ .. ~ ~/ ; , ,1 [0] [3] \\ " path InputFile subject sub- a.nii b.nii.gz mask +tlrc.HEAD .img n/a',
        b"\t",
        b"\n",
        b"\r",
        b"\0",
        b"\xff",
        b"a" * 300,
        b"/x" * 3000,
        b"\xe2\x80\xa8",
        b"\xed\xa0\x80",
    ),
    "spec_json": _words(
        '{ } [ ] null true 1e999 NaN "" -1 0 "\\ud800" "Name" "Weights" "Formula" "Test" "Query"',
        b"[" * 2000,
        b"9" * 5000,
        b'{"a":' * 500,
    ),
    "spec_yaml": _words(
        "&a *a !!python/name:os.system !!binary ? : - { [ 2001-99-99 .nan 0x <<: ---",
        b"9" * 5000,
        b"\n",
        b"  ",
    ),
    "formula": _words(
        "( ) | || : * ** ^ - + ~ ` { } %in% / 0 .__class__ __import__('os') lambda:0 poly( bs( C( age "
        "subject by= \\ ' \" log( 1e999 df=99999999",
        b"9" * 400,
        b"\0",
        b"[x for x in y]",
    ),
    "config": _words(
        "2** 9**9**9 ' [ ] { } % inf nan - 1e999 true ~ *a &a __import__('os') () <<",
        b"9" * 5000,
        b"\n",
        b": ",
    ),
}
