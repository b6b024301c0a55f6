from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

import pytest

from blmm_bids.bids.layout import list_database, walk_dataset
from blmm_bids.errors import InvalidBIDSError, MissingInputError
from tests.datasets import describe, fitlins, fmriprep, longitudinal, write_text

# A tree of this size takes about 0.1 s; ten times that means that the walk has changed its order.
N_SUBJECTS = 200
SECONDS = 2.0


def names(listing):
    return [file.name for file in listing.files]


def test_walk_dataset__reads_entities_of_names_and_folders(tmp_path):
    write_text(tmp_path / "sub-01" / "ses-b" / "func" / "task-x_contrast-a_statmap.nii.gz", "")
    write_text(tmp_path / "node-run" / "node-all" / "sub-02" / "sub-02_statmap.nii", "")
    first, second = sorted(walk_dataset(tmp_path).files, key=lambda file: file.name, reverse=True)
    assert first.entities == {"subject": "01", "session": "b", "task": "x", "contrast": "a"}
    assert (first.suffix, first.extension, first.datatype) == ("statmap", ".nii.gz", "func")
    assert first.path == tmp_path / "sub-01" / "ses-b" / "func" / "task-x_contrast-a_statmap.nii.gz"
    assert second.entities == {"node": "all", "subject": "02"}
    assert second.datatype is None


@pytest.mark.parametrize(
    "folder", [".git/annex", "sourcedata", "code/sub-01", "derivatives/fmriprep", "a/.b"]
)
def test_walk_dataset__skips_what_is_no_data(tmp_path, folder):
    write_text(tmp_path / folder / "sub-01_statmap.nii", "")
    write_text(tmp_path / "sub-02_statmap.nii", "")
    write_text(tmp_path / "._sub-03_statmap.nii", "")
    assert names(walk_dataset(tmp_path)) == ["sub-02_statmap.nii"]


def test_walk_dataset__leaves_other_datasets_to_themselves(tmp_path):
    write_text(tmp_path / "fitlins" / "sub-01_statmap.nii", "")
    write_text(tmp_path / "sub-02_statmap.nii", "")
    assert names(walk_dataset(tmp_path, [tmp_path / "fitlins", tmp_path])) == ["sub-02_statmap.nii"]
    assert names(walk_dataset(tmp_path / "fitlins", [tmp_path])) == ["sub-01_statmap.nii"]


def test_walk_dataset__follows_links_once_and_survives_loops(tmp_path):
    data, store = tmp_path / "data", tmp_path / "store"
    write_text(store / "key", "content")
    write_text(store / "sub-02" / "sub-02_statmap.nii", "")
    (data / "sub-01").mkdir(parents=True)
    (data / "sub-01" / "sub-01_statmap.nii").symlink_to(store / "key")
    (data / "sub-01" / "sub-01_contrast-x_statmap.nii").symlink_to(store / "absent")
    (data / "sub-02").symlink_to(store / "sub-02")
    (data / "sub-01" / "up").symlink_to(data)
    (data / "a_again").symlink_to(data / "sub-01")
    (data / "self").symlink_to(data / "self")
    listing = walk_dataset(data)
    expected = ["sub-01_contrast-x_statmap.nii", "sub-01_statmap.nii", "self", "sub-02_statmap.nii"]
    assert sorted(names(listing)) == sorted(expected)
    assert {file.path.parent.name for file in listing.files} == {"sub-01", "sub-02", "data"}


@pytest.mark.parametrize("closed", ["sub-01", "lost+found"])
def test_walk_dataset__names_directories_that_cannot_be_read(closed):
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_text(root / closed / "sub-01_statmap.nii", "")
        write_text(root / "sub-02" / "sub-02_statmap.nii", "")
        root.chmod(0o755)
        (root / closed).chmod(0)
        user = os.geteuid()
        if user == 0:
            os.seteuid(65534)
        try:
            if closed == "sub-01":
                with pytest.raises(MissingInputError, match=r"sub-01 cannot be read \(Permission denied\)"):
                    walk_dataset(root)
                return
            listing = walk_dataset(root)
        finally:
            os.seteuid(user)
            (root / closed).chmod(0o755)
    assert names(listing) == ["sub-02_statmap.nii"]
    assert listing.warnings == (
        f"{root}/lost+found cannot be read (Permission denied): what it holds is not used",
    )


def test_walk_dataset__says_which_images_it_could_not_name(tmp_path):
    write_text(tmp_path / "sub-01" / "sub-01_contrast-a_b_statmap.nii.gz", "")
    write_text(tmp_path / "sub-01" / "sub-02_statmap.nii.gz", "")
    unnamed, misplaced = walk_dataset(tmp_path).warnings
    assert unnamed.startswith("1 image file(s)")
    assert unnamed.endswith("sub-01_contrast-a_b_statmap.nii.gz")
    assert "another subject" in misplaced
    assert misplaced.endswith("sub-02_statmap.nii.gz")


def test_walk_dataset__needs_no_order_of_the_file_system(tmp_path):
    for name in ("sub-02", "sub-10", "sub-01"):
        write_text(tmp_path / name / f"{name}_statmap.nii", "")
    assert names(walk_dataset(tmp_path)) == [f"sub-{label}_statmap.nii" for label in ("01", "02", "10")]


def test_walk_dataset__is_fast(tmp_path):
    for subject in range(N_SUBJECTS):
        folder = tmp_path / f"sub-{subject:04}" / "func"
        folder.mkdir(parents=True)
        for contrast in range(20):
            stem = (
                f"sub-{subject:04}_task-x_space-MNI152NLin2009cAsym_contrast-c{contrast}_stat-effect_statmap"
            )
            (folder / f"{stem}.nii.gz").touch()
    start = time.perf_counter()
    assert len(walk_dataset(tmp_path).files) == 20 * N_SUBJECTS
    assert time.perf_counter() - start < SECONDS


def test_list_database__makes_a_database_and_finds_what_the_walk_finds(tmp_path):
    first, second = longitudinal(tmp_path / "my data"), fitlins(tmp_path / "fitlins")
    roots = {"": first, "fitlins": second}
    for _ in ("made", "opened"):
        listings = list_database(tmp_path / "db", roots)
        for listing, root in zip(listings, roots.values(), strict=True):
            walked = [file for file in walk_dataset(root).files if file.extension == ".nii.gz"]
            assert [file for file in listing.files if file.extension == ".nii.gz"] == walked
    assert (tmp_path / "db" / "layout_index.sqlite").exists()
    assert (tmp_path / "db" / "fitlins" / "layout_index.sqlite").exists()


def test_list_database__opens_one_that_pybids_made_with_derivatives(tmp_path):
    from bids.layout import BIDSLayout

    raw = describe(tmp_path / "raw", "raw")
    derived = fmriprep(raw / "derivatives" / "fmriprep")
    BIDSLayout(raw, validate=False, derivatives=[str(derived)], database_path=tmp_path / "db")
    listings = list_database(tmp_path / "db", {"": raw, "prep": derived})
    walked = [file.path for file in walk_dataset(derived).files if file.suffix == "mask"]
    assert [file.path for file in listings[1].files if file.suffix == "mask"] == walked
    assert not (tmp_path / "db" / "prep").exists()


def test_list_database__refuses_another_dataset_and_a_broken_file(tmp_path):
    first, second = longitudinal(tmp_path / "a"), longitudinal(tmp_path / "b")
    list_database(tmp_path / "db", {"": first})
    with pytest.raises(InvalidBIDSError, match=r"describes .*a, not .*b\. Remove"):
        list_database(tmp_path / "db", {"": second})
    write_text(tmp_path / "broken" / "layout_index.sqlite", "nonsense")
    with pytest.raises(InvalidBIDSError, match="cannot open its database"):
        list_database(tmp_path / "broken", {"": first})
