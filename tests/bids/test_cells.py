from __future__ import annotations

import random

import pytest

from blmm_bids.bids.cells import check_cells, sort_images
from blmm_bids.bids.layout import BidsFile
from blmm_bids.bids.names import parse_name
from blmm_bids.errors import DataError


def images(root, *names, **entities):
    found = []
    for name in names:
        *folders, last = name.split("/")
        parsed = parse_name(last + ("" if "." in last else "_statmap.nii"))
        found.append(
            BidsFile(
                str(root.joinpath(*folders)),
                last,
                root,
                {**entities, **parsed.entities},
                parsed.suffix,
                parsed.extension,
                None,
            )
        )
    return found


def test_sort_images__goes_by_entities_not_by_path(tmp_path):
    names = [
        "sub-01_ses-1_task-b_run-2",
        "sub-01_ses-1_task-b_run-10",
        "sub-01_ses-10_task-a",
        "sub-01_ses-2_task-a",
        "sub-02_task-a_contrast-x",
        "sub-02_task-a_contrast-y",
    ]
    shuffled = images(tmp_path, *random.Random(1).sample(names, len(names)))
    assert [image.name for image in sort_images(shuffled)] == names


@pytest.mark.parametrize(
    ("names", "group_by", "said"),
    [
        (["sub-01_run-1", "sub-01_run-2", "sub-01"], [], ["carry 'run'", '"run": null', '"run": ["1", "2"]']),
        (["sub-01_contrast-a", "sub-01"], [], ['"contrast": null']),
        (["sub-01_ses-1", "sub-01_ses-1_desc-x"], ["session"], ['"desc": null']),
        (["sub-01_space-A", "sub-01_space-B"], [], ["2 values of 'space'", '"space": "A" or "space": "B"']),
        (["sub-01_space-A", "sub-02"], [], ['"space": "A" or "space": null']),
        (["sub-01_res-1", "sub-02_res-2"], [], ["'res', so they are on different grids"]),
        (["sub-01_stat-effect", "sub-01_stat-variance"], [], ["different quantities"]),
        (["sub-01_stat-z", "sub-01_stat-z_statmap.nii.gz"], [], ['".nii" or "extension": ".nii.gz"']),
        (["sub-01_run-1", "sub-01_run-01"], [], ["same entities"]),
        (["sub-01_statmap.nii", "sub-01_boldmap.nii"], [], ['"suffix": "statmap" or "suffix": "boldmap"']),
    ],
)  # fmt: skip
def test_check_cells__stops_lists_both_and_shows_the_filter(tmp_path, names, group_by, said):
    with pytest.raises(DataError) as caught:
        check_cells(images(tmp_path, *names), group_by)
    message = str(caught.value)
    for text in said:
        assert text in message
    assert message.count(str(tmp_path)) >= 2


@pytest.mark.parametrize(
    ("names", "group_by"),
    [
        (["sub-01_run-1", "sub-02"], []),
        (["sub-01_space-A_contrast-x", "sub-01_space-A_contrast-y"], []),
        (["sub-01_space-A", "sub-01_space-B"], ["space"]),
        (["sub-01_space-A_res-1", "sub-01_space-A_res-2"], ["res"]),
        (["sub-01_task-a_run-1", "sub-01_task-b"], ["task"]),
        (["sub-01_stat-effect", "sub-01_stat-z"], ["stat"]),
        (["sub-01_desc-a", "sub-01_desc-b"], []),
    ],
)
def test_check_cells__accepts(tmp_path, names, group_by):
    check_cells(images(tmp_path, *names), group_by)


def test_check_cells__nodes_and_datasets_are_choices(tmp_path):
    one, two = images(tmp_path, "n1/sub-01", node="one"), images(tmp_path, "n2/sub-01", node="two")
    with pytest.raises(DataError, match='"node": "one" or "node": "two"'):
        check_cells([*one, *two])
    runs = images(tmp_path, "n1/sub-01_run-1", node="one")
    with pytest.raises(DataError, match=r'"run": null.*"node": "one" or "node": "two"'):
        check_cells([*runs, *two])
    with pytest.raises(DataError, match="name only one of"):
        check_cells([*images(tmp_path / "a", "sub-01"), *images(tmp_path / "b", "sub-01")])
    with pytest.raises(DataError, match="none tells them apart"):
        check_cells(images(tmp_path, "x/sub-01", "y/sub-01"))
