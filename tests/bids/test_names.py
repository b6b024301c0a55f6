from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blmm_bids.bids.names import (
    ENTITY_ORDER,
    INDEX_ENTITIES,
    LONG_NAME,
    SHORT_NAME,
    bids_uri,
    build_name,
    datatype_folders,
    long_name,
    parse_name,
    to_label,
    unique_labels,
)
from blmm_bids.errors import ModelSpecError


@pytest.mark.parametrize(
    ("name", "entities", "suffix", "extension"),
    [
        (
            "sub-01_ses-pre_task-x_run-02_space-MNI_res-2_contrast-a_stat-effect_statmap.nii.gz",
            {
                "subject": "01", "session": "pre", "task": "x", "run": "02", "space": "MNI", "res": "2",
                "contrast": "a", "stat": "effect",
            },
            "statmap",
            ".nii.gz",
        ),
        ("sub-01_hemi-L_bold.func.gii", {"subject": "01", "hemi": "L"}, "bold", ".func.gii"),
        ("participants.tsv", {}, "participants", ".tsv"),
        ("sub-01_foo-bar_statmap.nii", {"subject": "01", "foo": "bar"}, "statmap", ".nii"),
        ("sub-a+b_mask.nii", {"subject": "a+b"}, "mask", ".nii"),
        ("task-x_param-age+sex_stat-covbeta_statmap.nii.gz",
         {"task": "x", "param": "age+sex", "stat": "covbeta"}, "statmap", ".nii.gz"),
    ],
)  # fmt: skip
def test_parse_name__reads_entities_suffix_extension(name, entities, suffix, extension):
    parsed = parse_name(name)
    assert parsed is not None
    assert (parsed.entities, parsed.suffix, parsed.extension) == (entities, suffix, extension)


@pytest.mark.parametrize(
    "name",
    [
        "sub-01_contrast-a_vs_b_statmap.nii.gz",
        "sub-01_contrast-a-b_statmap.nii.gz",
        "sub-01_run-one_bold.nii.gz",
        "sub-01_hemi-X_bold.nii.gz",
        "sub-01_sub-02_bold.nii.gz",
        "sub-_bold.nii.gz",
        "dataset_description.json",
        "my image.nii.gz",
        ".nii.gz",
        "",
    ],
)
def test_parse_name__is_none_where_the_name_is_not_bids(name):
    assert parse_name(name) is None


def test_build_name__orders_entities_and_takes_long_and_short_names():
    entities = {
        "stat": "effect",
        "desc": "x",
        "res": "2",
        "contrast": "a",
        "subject": "01",
        "ses": "1",
        "param": "p",
    }
    expected = "sub-01_ses-1_res-2_contrast-a_param-p_desc-x_stat-effect_statmap.nii.gz"
    assert build_name(entities, "statmap", ".nii.gz") == expected


def test_build_name__refuses_characters_that_bids_forbids():
    with pytest.raises(ModelSpecError, match=r"sex\[T\.M\].*'sexTM' would do"):
        build_name({"param": "sex[T.M]"}, "statmap", ".nii.gz")


LABELS = st.text("abcXYZ019+", min_size=1, max_size=6)


@settings(deadline=None, derandomize=True, max_examples=50)
@given(
    st.dictionaries(
        st.sampled_from(
            [k for k in ENTITY_ORDER if LONG_NAME.get(k, k) not in {*INDEX_ENTITIES, "hemi", "mt", "part"}]
        ),
        LABELS,
        max_size=8,
    )
)
def test_build_name__parse_name_reads_it_back(labels):
    named = {LONG_NAME.get(key, key): label for key, label in labels.items()}
    parsed = parse_name(build_name(labels, "statmap", ".nii.gz"))
    assert parsed is not None
    assert parsed.entities == named


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("Days", "Days"),
        ("Intercept", "Intercept"),
        ("sex[T.M]", "sexTM"),
        ("C(site)[T.2]", "CSiteT2"),
        ("age:group[T.patient]", "ageGroupTPatient"),
        ("mean age", "meanAge"),
        ("Größe", "Groe"),
        ("café", "cafe"),
        ("a+b", "a+b"),
        ("poly(age, 2)[1]", "polyAge21"),
    ],
)
def test_to_label__joins_words_in_camel_case(text, label):
    assert to_label(text) == label


@pytest.mark.parametrize("text", ["", "***", "+", "年齢"])
def test_to_label__refuses_text_without_letters(text):
    with pytest.raises(ModelSpecError, match="no ASCII letter or digit"):
        to_label(text)


def test_unique_labels__keeps_order_and_names_collisions():
    assert unique_labels(["b", "a:c", "b"]) == {"b": "b", "a:c": "aC"}
    with pytest.raises(ModelSpecError, match=r"'a:c' and 'a.c' would both be written as 'aC'"):
        unique_labels(["a:c", "b", "a.c"])


def test_bids_uri__is_relative_to_the_root():
    root = Path("data") / "my set"
    assert bids_uri(root / "sub-01" / "a b.nii", root) == "bids::sub-01/a%20b.nii"
    assert bids_uri(root / "x.nii", root, "fmriprep") == "bids:fmriprep:x.nii"


def test_entity_tables__agree_with_each_other():
    assert {LONG_NAME[key] for key in LONG_NAME} == set(SHORT_NAME)
    assert LONG_NAME["sub"] == "subject"
    assert LONG_NAME["acq"] == "acquisition"
    assert set(LONG_NAME) - {"node"} <= set(ENTITY_ORDER)
    assert len(set(ENTITY_ORDER)) == len(ENTITY_ORDER)
    assert {"run", "echo"} <= INDEX_ENTITIES
    assert {"anat", "func"} <= datatype_folders()


@pytest.mark.parametrize(
    ("name", "expected"), [("ses", "session"), ("resolution", "res"), ("subject", "subject"), ("foo", "foo")]
)
def test_long_name__translates_keys_and_schema_names(name, expected):
    assert long_name(name) == expected


def test_config__is_one_that_pybids_reads_like_we_do():
    from bids.layout import parse_file_entities

    from blmm_bids.bids.names import CONFIG_FILE

    name = "sub-01_ses-1_task-x_contrast-a_param-age_stat-beta_statmap.nii.gz"
    theirs = parse_file_entities(
        f"/data/node-group/sub-01/{name}", config=["bids", "derivatives", str(CONFIG_FILE)]
    )
    ours = parse_name(name)
    assert ours is not None
    assert theirs == {**ours.entities, "node": "group", "suffix": "statmap", "extension": ".nii.gz"}


def test_import__does_not_load_pybids():
    code = (
        "import sys, blmm_bids.bids.dataset as _; sys.exit(not {'bids', 'nibabel'}.isdisjoint(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=False)
    assert done.returncode == 0
