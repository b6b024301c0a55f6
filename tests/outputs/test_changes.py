"""What differs between two runs, in words."""

from __future__ import annotations

from dataclasses import replace

import pytest

from blmm_bids.outputs.changes import RECORD, FitRecord, find_changes, load_records, save_records

BEFORE = FitRecord(
    images={"/d/a.nii": "1", "/d/b.nii": "2"},
    masks={"/d/m.nii": "3"},
    values={"what 0 is": "missing", "the voxels of the mask digest": "ab"},
    model={"the formula": "1 + age", "the contrasts digest": "cd", "reml": True},
    cut=(10, 640),
)


@pytest.mark.parametrize(
    ("changes", "texts"),
    [
        ({}, ()),
        ({"images": {"/d/a.nii": "1", "/d/b.nii": "9"}}, ("1 image changed on disk (b.nii)",)),
        (
            {"images": {"/d/a.nii": "1", "/d/c.nii": "2"}},
            ("1 image new (c.nii)", "1 image no longer used (b.nii)"),
        ),
        ({"masks": {"/d/m.nii": "4"}}, ("1 mask changed on disk (m.nii)",)),
        ({"values": {**BEFORE.values, "what 0 is": "data"}}, ("what 0 is ('missing' before, now 'data')",)),
        (
            {"model": {**BEFORE.model, "the formula": "1", "the contrasts digest": "x"}},
            ("the formula ('1 + age' before, now '1')", "the contrasts"),
        ),
        (
            {"cut": (5, 640)},
            (
                "the cut into batches of 10 images and blocks of 640 voxels (now 5 and 640: another --mem or "
                "--nprocs)",
            ),
        ),
    ],
)
def test_find_changes__says_what(changes, texts):
    found = find_changes(BEFORE, replace(BEFORE, **changes))
    assert found.texts == texts
    assert bool(found) == bool(texts)


def test_find_changes__shows_a_few_names():
    images = {f"/d/{number}.nii": "x" for number in range(9)}
    (text,) = find_changes(BEFORE, replace(BEFORE, images={**BEFORE.images, **images})).texts
    assert text == "9 images new (0.nii, 1.nii, 2.nii, …)"


def test_records__come_back(tmp_path):
    assert load_records(tmp_path) == {}
    save_records(tmp_path, {"node 'a'": BEFORE})
    assert load_records(tmp_path) == {"node 'a'": BEFORE}


@pytest.mark.parametrize("content", ["", "[]", '{"a": 1}', '{"a": {"images": {}}}', "\x00"])
def test_load_records__damaged_is_none(tmp_path, content):
    (tmp_path / RECORD).write_text(content)
    assert load_records(tmp_path) == {}
