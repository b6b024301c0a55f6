from __future__ import annotations

import contextlib
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from blmm_bids.config.reference import FIELDS, ReferenceFactor, read_reference_config
from blmm_bids.config.reference_design import build_contrasts, load_design
from blmm_bids.errors import BlmmError, DataError, MissingInputError, ModelSpecError
from blmm_bids.stats.model import FitOptions

N_IMAGES = 12
REMOVE = object()
ONES = "1\n" * N_IMAGES
DESIGN = "".join(f"1,{value}\n" for value in (3, 5, 2, 8, 1, 9, 4, 7, 6, 0, 2.5, 5.5))
FACTOR = "".join(f"{1 + row // 3}\n" for row in range(N_IMAGES))


def write_config(root: Path, fields: dict | None = None, files: dict | None = None) -> Path:
    """``root/cfg/blmm_config.yml`` with twelve images of four subjects, three visits each.

    ::

        cfg/blmm_config.yml
        lists/Y.txt          sub1.nii ... sub12.nii, relative to the list
        design/X.csv         intercept, age
        design/subject.csv   1 1 1 2 2 2 3 3 3 4 4 4
        design/ones.csv
    """
    contents = {
        "lists/Y.txt": "".join(f"sub{number}.nii\n" for number in range(1, N_IMAGES + 1)),
        "design/X.csv": DESIGN,
        "design/subject.csv": FACTOR,
        "design/ones.csv": ONES,
    } | (files or {})
    for name, content in contents.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    entries = {
        "Y_files": "../lists/Y.txt",
        "X": "../design/X.csv",
        "Z": [{"f1": {"name": "subject", "factor": "../design/subject.csv", "design": "../design/ones.csv"}}],
        "outdir": "../out",
        "contrasts": [{"c1": {"name": "age", "vector": [0, 1]}}],
    } | (fields or {})
    path = root / "cfg" / "blmm_config.yml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump({key: value for key, value in entries.items() if value is not REMOVE}))
    return path


def test_read_reference_config__fills_defaults_and_makes_paths_absolute(tmp_path):
    path = write_config(tmp_path)
    before = path.read_bytes()
    config = read_reference_config(path)
    assert path.read_bytes() == before
    lists, design = tmp_path / "cfg/../lists", tmp_path / "cfg/../design"
    assert config.images[0] == lists / "sub1.nii"
    assert len(config.images) == N_IMAGES
    assert config.design_file == design / "X.csv"
    assert config.factors == (ReferenceFactor("subject", design / "subject.csv", design / "ones.csv"),)
    assert (config.masks, config.masks_list, config.analysis_mask) == ((), None, None)
    assert (config.data_mask_threshold, config.min_percent, config.min_n) == (None, None, None)
    assert (config.mem_bytes, config.output_cov_b, config.minlog, config.resms) == (
        2**32,
        True,
        -323.306,
        True,
    )
    assert config.fit_options == FitOptions()
    assert (config.cluster_type, config.n_nodes) == ("local", None)


@pytest.mark.parametrize("spell", [lambda x: x, str, float, lambda x: str(float(x))])
def test_read_reference_config__every_number_as_int_float_or_text(tmp_path, spell):
    numbers = {
        "MAXMEM": spell(2**33),
        "data_mask_thresh": spell(3),
        "minlog": spell(-400),
        "tol": spell(2),
        "maxnit": spell(500),
        "resms": spell(0),
        "safeMode": spell(0) if spell is not str else "False",
        "OutputCovB": "False",
        "voxelBatching": 1,
        "maxnvb": spell(7),
        "numNodes": spell(4),
        "Missingness": {"MinN": spell(6), "MinPercent": spell(1)},
    }
    if spell(0) == "0.0":
        numbers |= {"resms": 0.0, "safeMode": 0.0}
    config = read_reference_config(write_config(tmp_path, numbers))
    assert (config.mem_bytes, config.data_mask_threshold, config.minlog) == (2**33, 3.0, -400.0)
    assert (config.fit_options.tol, config.fit_options.max_iter, config.fit_options.safe_mode) == (
        2.0,
        500,
        False,
    )
    assert (config.resms, config.output_cov_b, config.voxel_batching) == (False, False, True)
    assert (config.max_voxel_batches, config.n_nodes, config.min_n, config.min_percent) == (7, 4, 6, 1.0)


def test_read_reference_config__all_the_other_fields(tmp_path):
    fields = {
        "data_mask_files": "../lists/M.txt",
        "analysis_mask": "/masks/brain.nii.gz",
        "MAXMEM": "2**32",
        "Missingness": {"minpercent": "10%", "minn": 3},
        "method": "pSFS",
        "clusterType": "SLURM",
        "reml": False,
        "satterthwaite": "ml-expected",
        "q": "4",
    }
    masks = {"lists/M.txt": "".join(f"/masks/m{number}.nii\n" for number in range(N_IMAGES)) + "\n"}
    config = read_reference_config(write_config(tmp_path, fields, masks))
    assert len(config.masks) == N_IMAGES
    assert config.masks[0] == Path("/masks/m0.nii")
    assert config.analysis_mask == Path("/masks/brain.nii.gz")
    assert (config.min_percent, config.min_n, config.cluster_type) == (pytest.approx(0.1), 3, "slurm")
    assert (config.fit_options.method, config.fit_options.reml) == ("pSFS", False)
    assert config.fit_options.satterthwaite == "ml-expected"


@pytest.mark.parametrize("empty", [[], None, REMOVE])
def test_read_reference_config__no_factor_is_a_linear_model(tmp_path, empty):
    config = read_reference_config(write_config(tmp_path, {"Z": empty}))
    assert config.factors == ()
    assert load_design(config).terms == ()


def test_read_reference_config__missingness_as_a_list_of_fields(tmp_path):
    config = read_reference_config(
        write_config(tmp_path, {"Missingness": [{"MinPercent": 0.5}, {"MinN": 2}]})
    )
    assert (config.min_percent, config.min_n) == (0.5, 2)


def factor_entry(**changes):
    entry = {"name": "subject", "factor": "../design/subject.csv", "design": "../design/ones.csv"} | changes
    return [{"f1": {key: value for key, value in entry.items() if value is not REMOVE}}]


BAD_FIELDS = [
    ({"Y_files": REMOVE}, "'Y_files' is missing; it is required: a text file with one image a line"),
    ({"X": None}, "'X' is empty; it is required"),
    ({"X": ["a"]}, "is not a path"),
    ({"outdir": REMOVE}, "'outdir' is missing"),
    ({"contrasts": REMOVE}, "'contrasts' is missing"),
    ({"analysismask": "m.nii"}, "'analysismask' is not a field of the config; did you mean 'analysis_mask'?"),
    ({"Maxmem": 3}, "did you mean 'MAXMEM'?"),
    ({"qqq": 3}, "'qqq' is not a field of the config; known are Y_files, X,"),
    ({"MAXMEM": "lots"}, "'MAXMEM: lots' is not a number"),
    ({"MAXMEM": "__import__('os').getcwd()"}, "is not a number, nor arithmetic"),
    ({"MAXMEM": 0}, "is not a number of bytes"),
    ({"tol": -1}, "'tol: -1' is not above 0"),
    ({"maxnit": 1.5}, "'maxnit: 1.5' is not a whole number"),
    ({"maxnit": 0}, "is below 1"),
    ({"safeMode": 2}, "'safeMode: 2' is neither true nor false"),
    ({"method": "FSS"}, "'method: FSS' is not one of default, FS, pFS, SFS, pSFS"),
    ({"satterthwaite": "exact"}, "is not one of expected, ml-expected, observed"),
    ({"clusterType": "kubernetes"}, "is not one of local, htcondor"),
    ({"Missingness": {"MinPercent": 50}}, "Missingness, 'MinPercent: 50' is not a share between 0 and 1"),
    ({"Missingness": {"MinM": 5}}, "Missingness, 'MinM' is not a field of the config; did you mean 'MinN'?"),
    ({"Missingness": {"MinN": 5, "minn": 6}}, "has 'MinN' twice"),
    ({"Missingness": 5}, "wanted MinPercent, MinN or both"),
    ({"contrasts": [{"c2": {"name": "a", "vector": [1, 0]}}]}, "has 'c2' as its entry 1; wanted 'c1:'"),
    ({"contrasts": [{"c1": None}]}, "has nothing under 'c1'; wanted name, vector there"),
    ({"contrasts": [{"c1": {"name": "a"}}]}, "contrasts, c1: 'vector' is missing"),
    ({"contrasts": [{"c1": {"name": "a", "vectr": [1, 0]}}]}, "did you mean 'vector'?"),
    ({"contrasts": [{"c1": {"name": "a", "vector": [1, "b"]}}]}, "is not a number"),
    ({"contrasts": "age"}, "is not a list of c1, c2"),
    ({"Z": "subject"}, "is not a list of f1, f2"),
    ({"Z": factor_entry(design=REMOVE)}, "Z, f1: 'design' is missing; it is required: a CSV"),
    ({"Z": factor_entry(desing="x.csv")}, "did you mean 'design'?"),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "message"), BAD_FIELDS)
def test_read_reference_config__names_the_field(tmp_path, fields, message):
    path = write_config(tmp_path, fields)
    with pytest.raises(ModelSpecError) as caught:
        read_reference_config(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)
    assert caught.value.exit_code == 64


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("X: a\nX: b\n", "'X' is given twice, on lines 1 and 2"),
        ("just words", "has no 'field: value' lines"),
        ("", "has no 'field: value' lines"),
        ("a: [1", "expected"),
        ("X: !!python/object:os.system {}\n", "could not determine a constructor"),
    ],
)
def test_read_reference_config__broken_yaml(tmp_path, text, message):
    path = tmp_path / "blmm_config.yml"
    path.write_text(text)
    with pytest.raises(ModelSpecError, match=message):
        read_reference_config(path)


def test_read_reference_config__absent_files(tmp_path):
    with pytest.raises(MissingInputError, match="there is no such config file"):
        read_reference_config(tmp_path / "blmm_config.yml")
    path = write_config(tmp_path, {"Y_files": "absent.txt"})
    with pytest.raises(MissingInputError, match=r"absent\.txt: cannot be read: No such file"):
        read_reference_config(path)


def test_load_design__reads_numbers_labels_and_any_line_ends(tmp_path):
    files = {
        "design/X.csv": b"\xef\xbb\xbf" + DESIGN.replace("\n", "\r\n").encode() + b"\r\n",
        "design/subject.csv": "b\nb\nb\na\na\na\nc c\nc c\nc c\n10\n10\n10\n",
        "lists/Y.txt": "".join(f"sub{number}.nii\n" for number in range(N_IMAGES)) + "\n\n",
    }
    design = load_design(read_reference_config(write_config(tmp_path, files=files)))
    assert design.fixef_names == ("Intercept", "x2")
    np.testing.assert_array_equal(design.X[:3], [[1, 3], [1, 5], [1, 2]])
    (term,) = design.terms
    assert (term.group, term.effect_names) == ("subject", ("Intercept",))
    assert [term.levels[ref] for ref in term.refs[::3]] == ["b", "a", "c c", "10"]


def test_load_design__orders_number_levels_by_value(tmp_path):
    labels = "".join(
        f"{label}\n" for label in ("10", "10.0", "10", "9", "9", "9", "2", "2", "2", "1", "1", "1")
    )
    design = load_design(read_reference_config(write_config(tmp_path, files={"design/subject.csv": labels})))
    assert design.terms[0].levels == ("1", "2", "9", "10")
    np.testing.assert_array_equal(design.terms[0].refs, np.repeat([3, 2, 1, 0], 3))


BAD_FILES = [
    ({"design/X.csv": "one,age\n" + DESIGN}, DataError, "X.csv, line 1: 'one' looks like a header"),
    ({"design/X.csv": DESIGN[:-8]}, DataError, "X.csv: 11 rows and 12 images in Y_files"),
    ({"design/X.csv": DESIGN + "1,2\n"}, DataError, "X.csv: 13 rows and 12 images in Y_files"),
    ({"design/X.csv": "1,2,3\n" + DESIGN}, DataError, "X.csv, line 2: 2 values; line 1 has 3"),
    ({"design/X.csv": DESIGN.replace("1,8", "1,old")}, DataError, "X.csv, line 4: 'old' is not a number"),
    ({"design/X.csv": DESIGN.replace("1,8", "1,")}, DataError, "X.csv, line 4: a value is missing"),
    ({"design/X.csv": DESIGN.replace("1,8", "1,nan")}, DataError, "line 4: a value is missing ('nan')"),
    ({"design/X.csv": DESIGN.replace("1,8", "1,1e999")}, DataError, "line 4: '1e999' is not a number"),
    ({"design/X.csv": DESIGN.replace("1,8\n", "1,8\n\n")}, DataError, "line 5: is blank and others follow"),
    ({"design/X.csv": b"\xff\xfe1\x00"}, DataError, "is not text in UTF-8"),
    ({"design/X.csv": b"\x00\x01\n"}, DataError, "is not text"),
    ({"design/X.csv": ""}, DataError, "X.csv: 0 rows and 12 images"),
    ({"design/X.csv": "1,2\n" * N_IMAGES}, DataError, "X.csv: columns of the design are collinear"),
    ({"design/subject.csv": "subject\n" + FACTOR}, DataError, "line 1: 'subject' looks like a header"),
    ({"design/subject.csv": "subject\n" + FACTOR.replace("1", "a")}, DataError, "13 rows and 12 images"),
    ({"design/subject.csv": FACTOR.replace("2", "2,2", 1)}, DataError, "line 4: 2 values; a factor has one"),
    ({"design/subject.csv": FACTOR.replace("2", "NaN", 1)}, DataError, "line 4: the level is missing"),
    ({"design/subject.csv": FACTOR[:-2]}, DataError, "subject.csv: 11 rows and 12 images"),
    ({"design/subject.csv": ONES}, DataError, "grouping factor 'subject' has one level, '1'"),
    ({"design/subject.csv": "".join(f"{i}\n" for i in range(12))}, DataError, "as many levels as there are"),
    ({"design/ones.csv": "intercept\n" + ONES}, DataError, "line 1: 'intercept' looks like a header"),
    ({"design/ones.csv": ONES + "1\n"}, DataError, "ones.csv: 13 rows and 12 images"),
    ({"lists/Y.txt": ""}, DataError, "Y.txt: lists no image"),
    ({"lists/Y.txt": "a.nii\n\nb.nii\n"}, DataError, "Y.txt, line 2: is blank"),
    ({"lists/Y.txt": "a.nii\nb.nii\na.nii\n"}, DataError, "lines 1 and 3 are the same image"),
]  # fmt: skip


@pytest.mark.parametrize(("files", "error", "message"), BAD_FILES)
def test_load_design__names_file_and_line(tmp_path, files, error, message):
    path = write_config(tmp_path, files=files)
    with pytest.raises(error) as caught:
        load_design(read_reference_config(path))
    assert message in str(caught.value)


def test_read_reference_config__one_mask_an_image(tmp_path):
    path = write_config(tmp_path, {"data_mask_files": "../lists/M.txt"}, {"lists/M.txt": "m.nii\n"})
    with pytest.raises(ModelSpecError, match=r"lists 1 masks and .* 12 images"):
        read_reference_config(path)


def test_load_design__two_factors_that_share_an_effect(tmp_path):
    slope = {"design/slope.csv": DESIGN}
    second = {"name": "again", "factor": "../design/subject.csv", "design": "../design/slope.csv"}
    config = read_reference_config(write_config(tmp_path, {"Z": [*factor_entry(), {"f2": second}]}, slope))
    with pytest.raises(DataError, match=r"f1 \('subject'\) and f2 \('again'\) group the images alike"):
        load_design(config)


def test_build_contrasts__order_and_tests(tmp_path):
    vectors = [[[0, 1]], [0, 1], "[[1 0] [0 1]]", ["1", "-1"]]
    entries = [{f"c{i}": {"name": f"n{i}", "vector": v}} for i, v in enumerate(vectors, start=1)]
    config = read_reference_config(write_config(tmp_path, {"contrasts": entries}))
    contrasts = build_contrasts(config, load_design(config))
    assert [contrast.test for contrast in contrasts] == ["F", "t", "F", "t"]
    assert [contrast.name for contrast in contrasts] == ["n1", "n2", "n3", "n4"]
    np.testing.assert_array_equal(contrasts[3].L, [[1, -1]])


@pytest.mark.parametrize(
    ("vector", "message"),
    [
        ([0, 1, 0], "has 3 weights and X has 2 columns"),
        ([0, 0], "row of zeros"),
        ([[0, 1], [0, 0]], "row of zeros"),
    ],
)
def test_build_contrasts__refuses(tmp_path, vector, message):
    config = read_reference_config(
        write_config(tmp_path, {"contrasts": [{"c1": {"name": "n", "vector": vector}}]})
    )
    with pytest.raises(BlmmError, match=message):
        build_contrasts(config, load_design(config))


def test_build_contrasts__none_is_fine(tmp_path):
    config = read_reference_config(write_config(tmp_path, {"contrasts": []}))
    assert build_contrasts(config, load_design(config)) == ()


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just("~nobody/x")
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
)


@given(st.sampled_from(FIELDS), VALUES)
def test_read_reference_config__any_value_is_read_or_refused(name, value):
    with TemporaryDirectory() as root:
        path = write_config(Path(root), {name: value})
        with contextlib.suppress(BlmmError):
            load_design(read_reference_config(path))


@given(st.binary(max_size=60))
def test_load_design__any_bytes_are_read_or_refused(content):
    with TemporaryDirectory() as root:
        for name in ("design/X.csv", "design/subject.csv", "lists/Y.txt"):
            path = write_config(Path(root), files={name: content})
            with contextlib.suppress(BlmmError):
                load_design(read_reference_config(path))


@given(st.text(max_size=80))
def test_read_reference_config__any_text_is_read_or_refused(text):
    with TemporaryDirectory() as root:
        path = Path(root) / "blmm_config.yml"
        path.write_text(text, encoding="utf-8", errors="surrogatepass")
        with pytest.raises(BlmmError):
            read_reference_config(path)
