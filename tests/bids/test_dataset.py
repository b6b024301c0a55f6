from __future__ import annotations

import json
import time

import numpy as np
import pandas as pd
import pytest

from blmm_bids.bids.dataset import (
    DatasetOptions,
    Selection,
    find_observations,
    group_observations,
    scan_dataset,
)
from blmm_bids.bids.selection import selection_from_input
from blmm_bids.errors import DataError, InvalidBIDSError, MissingInputError, NoMatchError
from tests.datasets import (
    AFFINE,
    SHAPE,
    describe,
    fitlins,
    fmriprep,
    longitudinal,
    nilearn,
    shared_data,
    write_image,
    write_text,
    write_tsv,
)


def observe(root, block=None, group_by=(), **options):
    return find_observations(
        scan_dataset(DatasetOptions(root, **options)), selection_from_input(block or {}), group_by
    )


@pytest.mark.parametrize("masks", ["stem", "sidecar", "brain", "none"])
def test_find_observations__longitudinal(tmp_path, masks):
    root = longitudinal(tmp_path / "my data", masks=masks)
    found = observe(root)
    table = found.table
    assert len(found) == 4 * 3 - 2
    assert isinstance(table.index, pd.RangeIndex)
    rows = list(zip(table["subject"], table["session"], strict=True))
    assert rows == sorted(rows)
    assert rows[5:8] == [("02", "03"), ("03", "01"), ("03", "03")]
    assert found.entities == ("subject", "session", "task", "space", "contrast", "stat")
    assert found.levels["subject"] == ("01", "02", "03", "04")
    assert found.levels["site"] == ("1", "2")
    assert found.levels["sex"] == ("F", "M")
    assert table["time"].tolist()[:3] == [0, 1, 2]
    assert table["motion"].tolist()[:3] == [0.01, 0.02, 0.03]
    assert table["score"].iloc[0] == 101
    assert table["score"].dtype == np.float64
    assert found.ambiguous == {"age": ("participants.age", "sessions.age")}
    assert "age" not in table
    assert table["participants.age"].iloc[2] == 20.5
    assert table["sessions.age"].iloc[2] == 22.25
    assert found.qualified["sessions.time"] == "time"
    assert found.qualified["participants.age"] == "participants.age"
    assert found.constant_entities == {"task": "nback", "space": "MNI"}
    assert found.sources == {"": root}
    assert [path.name for path in found.paths] == [
        f"sub-{s}_ses-{e}_task-nback_space-MNI_contrast-face_stat-effect_statmap.nii.gz" for s, e in rows
    ]
    assert [len(each) for each in found.masks] == [masks != "none"] * 10
    assert all(path.exists() for each in found.masks for path in each)
    assert [text for text in found.warnings if "no mask" not in text] == []
    assert len(found.warnings) == (masks == "none")


def test_find_observations__input_masks_none(tmp_path):
    found = observe(longitudinal(tmp_path), input_masks="none")
    assert set(found.masks) == {()}
    assert found.warnings == ()


def test_find_observations__fitlins_needs_a_choice_between_nodes(tmp_path):
    root = fitlins(tmp_path)
    with pytest.raises(DataError, match=r'"run": null.*"node": "runLevel" or "node": "subjectLevel"'):
        observe(root)
    found = observe(root, {"run": None})
    assert [path.parts[-3] for path in found.paths] == ["node-subjectLevel"] * 2
    assert found.dropped["reason"].tolist() == ["no subject in its name: a map of a group"]
    assert found.dropped["path"].tolist()[0].endswith("task-stop_contrast-go_stat-effect_statmap.nii.gz")
    assert found.constant_entities == {"task": "stop"}
    assert len(observe(root, {"node": "runLevel"})) == 4
    with pytest.raises(NoMatchError, match="none belongs to a subject"):
        observe(root, {"node": "datasetLevel"})


def test_find_observations__nilearn_like_tree(tmp_path):
    found = observe(nilearn(tmp_path))
    assert found.table["contrast"].tolist() == ["aMinusB", "aMinusB"]
    assert [[path.name for path in each] for each in found.masks] == [
        ["sub-01_task-main_mask.nii.gz"], ["sub-02_task-main_mask.nii.gz"],
    ]  # fmt: skip


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")
def test_find_observations__tree_that_nilearn_wrote(tmp_path):
    nib = pytest.importorskip("nibabel")
    first_level = pytest.importorskip("nilearn.glm.first_level")
    glm = pytest.importorskip("nilearn.glm")
    # nilearn moved it in 0.13.
    if not hasattr(glm, "save_glm_to_bids"):
        glm = pytest.importorskip("nilearn.interfaces.bids")
    rng = np.random.default_rng(0)
    events = pd.DataFrame({"onset": [0, 10, 20, 30], "duration": 5, "trial_type": ["a", "b", "a", "b"]})
    mask = nib.Nifti1Image(np.ones(SHAPE, dtype=np.uint8), AFFINE)
    for subject in ("01", "02"):
        series = nib.Nifti1Image(rng.normal(100, 1, (*SHAPE, 24)).astype(np.float32), AFFINE)
        model = first_level.FirstLevelModel(t_r=2, mask_img=mask, minimize_memory=False).fit(series, events)
        glm.save_glm_to_bids(
            model, contrasts=["a", "a-b"], out_dir=tmp_path, prefix=f"sub-{subject}_task-main_space-MNI"
        )
    found = observe(tmp_path)
    assert found.table["contrast"].tolist() == ["a", "aMinusB"] * 2
    assert all(path.name.endswith("_stat-effect_statmap.nii.gz") for path in found.paths)
    assert [[path.name for path in each] for each in found.masks] == [
        [f"sub-{subject}_task-main_space-MNI_mask.nii.gz"] for subject in ("01", "01", "02", "02")
    ]
    assert [labels for labels, _ in group_observations(found, ["contrast"])] == [
        {"contrast": "a"}, {"contrast": "aMinusB"},
    ]  # fmt: skip


def test_find_observations__fmriprep_tree(tmp_path):
    root = fmriprep(tmp_path)
    with pytest.raises(DataError, match='"space": null'):
        observe(root, {"suffix": "bold"})
    found = observe(root, {"suffix": "bold", "space": "MNI"})
    assert [path.name for path in found.paths] == [
        f"sub-{s}_task-rest_space-MNI_desc-preproc_bold.nii.gz" for s in ("01", "02")
    ]
    assert [path.name for path in found.masks[0]] == ["sub-01_task-rest_space-MNI_desc-brain_mask.nii.gz"]


def test_find_observations__raw_root_gives_tables_and_derivatives_images(tmp_path):
    raw = describe(tmp_path / "raw", "raw")
    write_tsv(raw / "participants.tsv", "participant_id age", "sub-01 3", "sub-02 4", "sub-07 5")
    write_text(raw / "sub-01" / "func" / "sub-01_task-stop_bold.nii.gz", "")
    derived = fitlins(raw / "derivatives" / "fitlins")
    with pytest.raises(InvalidBIDSError, match=str(derived)):
        observe(raw)
    found = observe(raw, {"run": None}, derivatives=((None, derived),))
    assert found.table["age"].tolist() == [3, 4]
    assert found.without_images == ("sub-07",)
    assert found.sources == {"": raw, "fitlins": derived}
    with pytest.raises(NoMatchError, match="suffix 'bold': 0 images pass"):
        observe(raw, {"suffix": "bold"}, derivatives=((None, derived),))


def test_find_observations__same_image_in_two_derivatives(tmp_path):
    first, second = longitudinal(tmp_path / "a"), longitudinal(tmp_path / "b")
    with pytest.raises(DataError, match="name only one of"):
        observe(first, derivatives=((None, second),))


def test_find_observations__spaces_are_groups_where_group_by_says_so(tmp_path):
    root = describe(tmp_path)
    for space in ("A", "B"):
        write_image(root / f"sub-01_space-{space}_stat-effect_statmap.nii")
        write_image(root / f"sub-02_space-{space}_stat-effect_statmap.nii")
    with pytest.raises(DataError, match="2 values of 'space'"):
        observe(root)
    found = observe(root, group_by=["space"])
    groups = group_observations(found, ["space"])
    assert [(labels, len(group)) for labels, group in groups] == [({"space": "A"}, 2), ({"space": "B"}, 2)]
    assert groups[0][1].constant_entities == {"space": "A"}


def test_find_observations__subjects_and_participants_are_compared(tmp_path):
    root = longitudinal(tmp_path)
    people = ("sub-01 1", "sub-02 2", "sub-08 3", "sub-09 4")
    write_tsv(root / "participants.tsv", "participant_id age", *people)
    found = observe(root)
    assert found.without_images == ("sub-08", "sub-09")
    assert "2 of 4 subjects with images are not in participants.tsv (03, 04)" in found.warnings
    assert found.table["participants.age"].isna().tolist() == [False] * 6 + [True] * 4
    chosen = Selection(participant_label=("sub-02", "09"))
    some = find_observations(scan_dataset(DatasetOptions(root)), chosen)
    assert some.without_images == ("sub-09",)
    write_tsv(root / "participants.tsv", "participant_id age", "1 1", "2 2")
    assert any("Labels are text: '01' is not '1'" in text for text in observe(root).warnings)


def test_find_observations__entity_beats_column_of_the_same_name(tmp_path):
    root = longitudinal(tmp_path)
    write_tsv(root / "participants.tsv", "participant_id session", "sub-01 9")
    found = observe(root)
    assert found.table["session"].tolist()[:3] == ["01", "02", "03"]
    assert found.table["participants.session"].tolist()[:3] == [9, 9, 9]
    assert found.ambiguous == {}
    assert any("'session' alone means the images' entity" in text for text in found.warnings)


def test_find_observations__columns_in_conflict_are_unusable(tmp_path):
    root = longitudinal(tmp_path)
    write_tsv(tmp_path / "phenotype" / "more.tsv", "participant_id session_id score", "sub-01 ses-01 3")
    scans = root / "sub-01" / "ses-01" / "sub-01_ses-01_scans.tsv"
    stem = "func/sub-01_ses-01_task-nback"
    write_tsv(scans, "filename motion", f"{stem}_run-1_bold.nii.gz 1", f"{stem}_run-2_bold.nii.gz 2")
    found = observe(root)
    assert "motion" not in found.table
    assert "'motion' has two values" in str(found.unusable["motion"])
    assert found.unusable["scans.motion"] == found.unusable["motion"]
    assert found.ambiguous["score"] == ("iq.score", "more.score")


def test_find_observations__link_without_content(tmp_path):
    root = longitudinal(tmp_path)
    image = observe(root).paths[3]
    image.unlink()
    image.symlink_to(tmp_path / ".git" / "annex" / "key")
    with pytest.raises(
        MissingInputError, match=rf"(?s)1 image\(s\) or mask\(s\) cannot be opened.*{image.name}.*datalad get"
    ):
        observe(root)


def test_find_observations__mask_without_content(tmp_path):
    root = longitudinal(tmp_path)
    (mask,) = observe(root).masks[0]
    mask.unlink()
    mask.symlink_to(tmp_path / ".git" / "annex" / "key")
    with pytest.raises(MissingInputError, match=rf"(?s){mask.name}.*datalad get"):
        observe(root)
    assert len(observe(root, input_masks="none")) == 10


def test_find_observations__names_that_miss_bids_are_told_when_nothing_is_left(tmp_path):
    describe(tmp_path)
    write_text(tmp_path / "sub-01_contrast-a_vs_b_stat-effect_statmap.nii.gz", "")
    with pytest.raises(NoMatchError, match=r"(?s)No image.*do not follow BIDS.*a_vs_b"):
        observe(tmp_path)


def test_find_observations__database_gives_the_same_table(tmp_path):
    root = longitudinal(tmp_path / "data")
    walked = observe(root)
    for _ in range(2):
        indexed = observe(root, database_dir=tmp_path / "db")
        pd.testing.assert_frame_equal(indexed.table, walked.table)
        assert (indexed.paths, indexed.masks) == (walked.paths, walked.masks)


def test_observations__take_and_drop_keep_rows_together(tmp_path):
    found = observe(longitudinal(tmp_path))
    some = found.take([9, 0])
    assert some.table["subject"].tolist() == ["04", "01"]
    assert some.levels["subject"] == ("01", "04")
    assert some.levels["session"] == ("01", "02")
    assert list(some.table["subject"].cat.categories) == ["01", "04"]
    assert some.paths == (found.paths[9], found.paths[0])
    assert some.masks == (found.masks[9], found.masks[0])
    assert len(found.levels["subject"]) == 4
    fewer = found.drop([2, 0], "age is missing").drop([0], "too old")
    assert len(fewer) == 7
    assert fewer.paths[0] == found.paths[3]
    assert fewer.dropped.to_dict("list") == {
        "path": [str(found.paths[row]) for row in (0, 2, 1)],
        "reason": ["age is missing", "age is missing", "too old"],
    }
    assert found.drop([], "nothing").table.equals(found.table)


def test_group_observations__sorts_labels_and_refuses_what_images_lack(tmp_path):
    found = observe(longitudinal(tmp_path, contrasts=("face", "body")))
    groups = group_observations(found, ["ses", "contrast"])
    assert [tuple(labels.values()) for labels, _ in groups] == [
        (session, contrast) for session in ("01", "02", "03") for contrast in ("body", "face")
    ]
    assert sum(len(group) for _, group in groups) == len(found)
    ((labels, group),) = group_observations(found, [])
    assert (labels, group) == ({}, found)
    ((labels, group),) = group_observations(found, ["run"])
    assert labels == {}
    assert "GroupBy names run, which no image has" in group.warnings[-1]
    with pytest.raises(DataError, match="GroupBy names 'echo', but the images have no such entity"):
        group_observations(found, ["echo"])
    write_image(tmp_path / "sub-09" / "sub-09_task-nback_space-MNI_stat-effect_statmap.nii")
    with pytest.raises(DataError, match=r"'contrast', which 1 of .* images lack"):
        group_observations(observe(tmp_path), ["contrast"])


@pytest.mark.parametrize(("name", "n_images", "n_masked"), [("faces", 36, 36), ("sleepstudy", 180, 0)])
def test_find_observations__shared_data(name, n_images, n_masked):
    root = shared_data() / name
    if not root.is_dir():
        pytest.skip(f"no shared data in {root.parent} (BLMM_SHARED_DATA)")
    block = json.loads((root / "model.json").read_text())["Input"]
    start = time.perf_counter()
    found = observe(root, block)
    assert time.perf_counter() - start < 5
    assert len(found) == n_images
    assert sum(bool(each) for each in found.masks) == n_masked
    if name == "sleepstudy":
        assert found.table["Days"].tolist() == list(range(10)) * 18
