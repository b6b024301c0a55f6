from __future__ import annotations

import pytest

from blmm_bids.bids.filters import select_images
from blmm_bids.bids.layout import walk_dataset
from blmm_bids.bids.masks import MaskFinder
from blmm_bids.bids.roots import find_roots
from blmm_bids.bids.selection import Selection
from blmm_bids.errors import InvalidBIDSError, MissingInputError
from tests.datasets import describe, fmriprep, write_json, write_text

STEM = "sub-01_task-x_space-MNI_contrast-a_stat-effect"
IMAGE = f"sub-01/func/{STEM}_statmap.nii.gz"


def masks_of(root, *derivatives):
    """Masks of the only image, as paths from the folder around the datasets."""
    roots = find_roots(root, derivatives)
    files = [file for each in roots for file in walk_dataset(each.path).files]
    (image,), _ = select_images(files, Selection())
    return [path.relative_to(root.parent).as_posix() for path in MaskFinder(roots, files).masks_of(image)]


def tree(folder, *names, **links):
    root = describe(folder / "glm", DatasetLinks=links)
    for name in (IMAGE, *names):
        write_text(root / name, "")
    return root


@pytest.mark.parametrize(
    ("present", "expected"),
    [
        ([], []),
        ([f"sub-01/func/{STEM}_mask.nii.gz"], [0]),
        ([f"sub-01/func/{STEM}_mask.nii.gz", "sub-01/func/sub-01_space-MNI_desc-brain_mask.nii"], [0]),
        (["sub-01/func/sub-01_task-x_space-MNI_mask.nii.gz"], [0]),
        (["sub-01/func/sub-01_task-y_space-MNI_mask.nii.gz", "sub-01/func/sub-01_space-MNI_mask.nii.gz"], []),
        (["sub-01/func/sub-01_task-x_space-MNI_desc-brain_mask.nii.gz"], [0]),
        (["space-MNI_desc-brain_mask.nii.gz", "sub-01/sub-01_space-MNI_desc-brain_mask.nii.gz"], [0, 1]),
        (["desc-brain_mask.nii.gz"], [0]),
        (["sub-01/sub-01_desc-brain_mask.nii.gz"], [0]),
        (["sub-02/sub-02_space-MNI_desc-brain_mask.nii.gz"], []),
        (["sub-01/sub-01_space-MNI_res-2_desc-brain_mask.nii.gz"], []),
        (["sub-01/sub-01_space-T1w_desc-brain_mask.nii.gz", "sub-01/sub-01_desc-brain_mask.nii.gz"], []),
        (["sub-01/anat/sub-01_space-MNI_desc-brain_mask.nii.gz"], [0]),
        (["sub-01/func/sub-01_task-x_run-1_space-MNI_desc-brain_mask.nii.gz"], []),
        (["sub-01/func/sub-01_space-MNI_desc-ribbon_mask.nii.gz"], []),
        (["sub-01/func/sub-01_space-MNI_desc-brain_mask.json"], []),
    ],
)
def test_masks_of__same_stem_then_brain_masks_of_a_subset(tmp_path, present, expected):
    assert masks_of(tree(tmp_path, *present)) == [f"glm/{present[index]}" for index in expected]


def test_masks_of__in_other_derivatives_on_the_image_grid_only(tmp_path):
    prep = fmriprep(tmp_path / "prep", ["01"])
    image = "sub-01/sub-01_task-rest_space-MNI_contrast-a_stat-effect_statmap.nii.gz"
    glm = describe(tmp_path / "glm")
    write_text(glm / image, "")
    expected = ["prep/sub-01/func/sub-01_task-rest_space-MNI_desc-brain_mask.nii.gz"]
    assert masks_of(glm, (None, prep)) == expected


@pytest.mark.parametrize(
    ("sidecar", "value"),
    [
        (f"sub-01/func/{STEM}_statmap.json", "masks/all.nii"),
        (f"sub-01/func/{STEM}_statmap.json", ["masks/all.nii", "masks/all.nii"]),
        (f"sub-01/func/{STEM}_statmap.json", "bids::masks/all.nii"),
        ("sub-01/sub-01_statmap.json", "../masks/all.nii"),
        ("sub-01/sub-01_statmap.json", "bids:self:masks/all.nii"),
        ("statmap.json", "bids:glm:masks/all.nii"),
        ("task-x_statmap.json", "bids:linked:all.nii"),
    ],
)
def test_masks_of__sidecar_comes_first_and_is_inherited(tmp_path, sidecar, value):
    root = tree(
        tmp_path, "masks/all.nii", f"sub-01/func/{STEM}_mask.nii.gz", self=".", glm="../glm", linked="masks"
    )
    write_json(root / sidecar, {"Mask": value})
    write_json(root / "task-y_statmap.json", {"Mask": "nowhere"})
    (found,) = masks_of(root)
    assert (tmp_path / found).resolve() == root / "masks" / "all.nii"


def test_masks_of__sidecar_names_a_dataset_of_the_command_line(tmp_path):
    root = tree(tmp_path)
    prep = describe(tmp_path / "fmriprep")
    write_text(prep / "m a.nii", "")
    write_json(root / "statmap.json", {"Mask": "bids:prep:m%20a.nii"})
    assert masks_of(root, ("prep", prep)) == ["fmriprep/m a.nii"]


def test_masks_of__nearest_sidecar_wins(tmp_path):
    root = tree(tmp_path, "near.nii", "far.nii")
    write_json(root / "statmap.json", {"Mask": "far.nii"})
    write_json(root / "sub-01" / "func" / "sub-01_statmap.json", {"Mask": "near.nii"})
    write_json(root / "sub-01" / "func" / f"{STEM}_statmap.json", {"Description": "no mask"})
    assert masks_of(root) == ["glm/near.nii"]


@pytest.mark.parametrize(
    ("value", "error", "said"),
    [
        ("gone.nii", MissingInputError, r"gone\.nii, which does not exist.*--input-masks none"),
        ("bids:other:x.nii", MissingInputError, "a dataset of that name"),
        ([3], InvalidBIDSError, "'Mask' is 3"),
    ],
)
def test_masks_of__sidecar_that_leads_nowhere(tmp_path, value, error, said):
    root = tree(tmp_path)
    write_json(root / "statmap.json", {"Mask": value})
    with pytest.raises(error, match=rf"statmap\.json.*{said}"):
        masks_of(root)
