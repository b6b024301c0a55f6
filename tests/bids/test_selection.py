from __future__ import annotations

import pytest

from blmm_bids.bids.filters import select_images
from blmm_bids.bids.layout import BidsFile
from blmm_bids.bids.names import parse_name
from blmm_bids.bids.selection import Selection, merge_filters, read_labels, selection_from_input
from blmm_bids.errors import MissingInputError, ModelSpecError, NoMatchError
from tests.datasets import write_text


def file(name, root, datatype=None):
    parsed = parse_name(name)
    return BidsFile(str(root), name, root, parsed.entities, parsed.suffix, parsed.extension, datatype)


NAMES = [
    "sub-01_ses-01_task-rest_run-01_stat-effect_statmap.nii.gz",
    "sub-01_ses-01_task-rest_run-02_stat-effect_statmap.nii.gz",
    "sub-01_ses-02_task-rest_stat-effect_statmap.nii",
    "sub-01_ses-02_task-rest_stat-z_statmap.nii",
    "sub-02_ses-01_task-faces_run-1_stat-effect_statmap.nii.gz",
    "sub-02_ses-01_task-faces_run-1_stat-effect_mask.nii.gz",
    "sub-02_ses-01_task-faces_run-1_stat-effect_statmap.json",
    "sub-02_ses-01_task-faces_bold.dtseries.nii",
    "sub-02_cohort-2_thing-a_bold.nii.gz",
]


@pytest.mark.parametrize(
    ("block", "labels", "chosen"),
    [
        ({}, {}, [0, 1, 2, 4]),
        ({"suffix": "statmap"}, {}, [0, 1, 2, 3, 4]),
        ({"stat": ["effect", "z"]}, {}, [0, 1, 2, 3, 4]),
        ({"stat": "effect", "suffix": "mask"}, {}, [5]),
        ({"task": ["rest"]}, {}, [0, 1, 2]),
        ({"run": None}, {}, [2]),
        ({"run": [1]}, {}, [0, 4]),
        ({"run": "02"}, {}, [1]),
        ({"run": [None, 2]}, {}, [1, 2]),
        ({"run": "*"}, {}, [0, 1, 4]),
        ({"ses": "ses-02"}, {}, [2]),
        ({"subject": "sub-02"}, {}, [4]),
        ({"task": []}, {}, [0, 1, 2, 4]),
        ({"suffix": "bold", "extension": "dtseries.nii"}, {}, [7]),
        ({"suffix": "bold", "thing": "a"}, {}, [8]),
        ({}, {"participant_label": ("sub-02",)}, [4]),
        ({}, {"participant_label": ("02", "01")}, [0, 1, 2, 4]),
        ({}, {"exclude_participant_label": ("sub-01",)}, [4]),
        ({}, {"session_label": ("ses-02",)}, [2]),
    ],
)
def test_select_images__picks(tmp_path, block, labels, chosen):
    files = [file(name, tmp_path) for name in NAMES]
    images, warnings = select_images(files, selection_from_input(block, **labels))
    assert [image.name for image in images] == [NAMES[index] for index in chosen]
    assert warnings == []


@pytest.mark.parametrize(
    ("block", "labels", "said"),
    [
        ({"task": "nback"}, {}, ["task 'nback': 0 images pass; there is faces, rest", "this filter 4"]),
        ({"session": [1]}, {}, [r"session '1': 0 .*there is 01, 02 \(labels are text: '01' is not '1'\)"]),
        ({"task": "rest", "session": "01", "run": None}, {}, ["run null", "filter 2", "there is 01, 02"]),
        ({}, {"participant_label": ("7",)}, [r"--participant-label '7': 0 images pass", "there is 01, 02"]),
        ({}, {"session_label": ("9",)}, ["--session-label '9'"]),
        ({}, {"exclude_participant_label": ("01", "02")}, ["--exclude-part.*pass; there is 01, 02"]),
        ({"suffix": "boldmap"}, {}, [r"suffix 'boldmap': 0 images pass; there is bold, statmap"]),
        ({"stat": "t"}, {}, [r"stat 't': 0 images pass; there is effect, z, \(absent\)"]),
        ({"extension": ".gii"}, {}, [r"No image with the extension \.gii", r"there is \.nii\.gz \("]),
    ],
)  # fmt: skip
def test_select_images__nothing_left_names_the_filter_and_what_there_is(tmp_path, block, labels, said):
    files = [file(name, tmp_path) for name in NAMES]
    with pytest.raises(NoMatchError) as caught:
        select_images(files, selection_from_input(block, **labels))
    for pattern in said:
        assert caught.match(f"(?s){pattern}")


@pytest.mark.parametrize(
    ("block", "said"),
    [
        ({"tsk": "rest"}, "'tsk'.*Did you mean 'task'"),
        ({"Subject": "01"}, "'Subject'.*Did you mean 'subject'"),
        ({"colour": "red"}, "'colour', which is no BIDS entity"),
        ({"task": {"a": 1}}, "'task'.*no label"),
        ({"task": [True]}, "'task'.*no label"),
        ({"run": 1.5}, "'run'.*no label"),
    ],
)
def test_select_images__wrong_input_block(tmp_path, block, said):
    with pytest.raises(ModelSpecError, match=said):
        select_images([file(name, tmp_path) for name in NAMES], selection_from_input(block))


def test_select_images__labels_without_image_are_a_warning(tmp_path):
    files = [file(name, tmp_path) for name in NAMES]
    selection = selection_from_input({"task": ["rest", "nback"]}, participant_label=("01", "1"))
    _, warnings = select_images(files, selection)
    assert warnings == [
        "task: no image has 'nback'; there is faces, rest, (absent)",
        "--participant-label: no image has '1' (labels are text: '01' is not '1'); there is 01, 02",
    ]


def test_merge_filters__later_ones_win_and_names_are_long():
    block = {"ses": "01", "task": "rest", "resolution": "2"}
    merged = merge_filters(block, {"session": ["02"]}, {"task": None})
    assert merged == {"session": ["02"], "task": None, "res": "2"}
    assert merge_filters(block, {}) == {"session": "01", "task": "rest", "res": "2"}


def test_merge_filters__takes_fmriprep_files():
    assert merge_filters({}, {"bold": {"run": 1}}) == {"run": 1}
    assert merge_filters({}, {"bold": {"run": 1}, "statmap": {"run": 2}}) == {"run": 2}
    with pytest.raises(ModelSpecError, match="parts bold, t1w"):
        merge_filters({}, {"bold": {"run": 1}, "t1w": {"run": 2}})


def test_selection__defaults_only_where_neither_suffix_nor_stat_is_named():
    plain = Selection().with_defaults()
    assert (plain.suffix, plain.entities, plain.extension) == (
        ("statmap",), {"stat": ("effect",)}, (".nii.gz", ".nii", ".img", ".img.gz"),
    )  # fmt: skip
    assert Selection(suffix=("bold",)).with_defaults().entities == {}
    assert Selection({"stat": ("z",)}).with_defaults().suffix == ()


@pytest.mark.parametrize(
    "content",
    ["sub-01\n02\n", "participant_id\tage\r\nsub-01\t3\r\n02\t4\r\n", "\ufeffsub-01,3\n# comment\n\n02"],
)
def test_read_labels__takes_lists_and_tables(tmp_path, content):
    assert read_labels(write_text(tmp_path / "list.txt", content)) == ("sub-01", "02")


def test_read_labels__absent_file(tmp_path):
    with pytest.raises(MissingInputError, match=r"list\.txt"):
        read_labels(tmp_path / "list.txt")
