"""A table of images gives what a dataset gives, and what is wrong with it is said by line."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from blmm_bids.bids.dataset import DatasetOptions, MapSource, find_observations, scan_dataset
from blmm_bids.bids.image_table import named_folders
from blmm_bids.bids.selection import selection_from_input
from blmm_bids.errors import (
    BlmmError,
    DataError,
    InvalidBIDSError,
    MissingInputError,
    ModelSpecError,
    NoMatchError,
    UsageError,
)
from tests.datasets import longitudinal, write_image, write_json, write_mask, write_text, write_tsv

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

HEADER = "subject session age group path mask"


def study(root):
    """SPM's folders of three subjects and two sessions, and a table of them in another order."""
    lines = []
    for number, subject in enumerate(("01", "02", "03")):
        for session in ("pre", "post"):
            folder = f"sub-{subject}/{session}"
            write_image(root / folder / "con_0001.nii")
            write_mask(root / folder / "mask.nii")
            group = "patient" if number else "control"
            lines.append(
                f"sub-{subject} {session} {20 + number} {group} {folder}/con_0001.nii {folder}/mask.nii"
            )
    write_tsv(root / "images.tsv", HEADER, *reversed(lines))
    return root


def observe(root, block=None, table="images.tsv", group_by=(), labels=None, **options):
    options = {"images_tsv": root / table, **options}
    selection = selection_from_input(block or {}, **(labels or {}))
    dataset = scan_dataset(DatasetOptions(options.pop("bids_dir", root), **options))
    return find_observations(dataset, selection, group_by)


def test_read_image_table__is_an_observation_table(tmp_path):
    root = study(tmp_path / "my study")
    found = observe(root)
    assert found.entities == ("subject", "session")
    assert list(zip(found.table["subject"], found.table["session"], strict=True)) == [
        (subject, session) for subject in ("01", "02", "03") for session in ("post", "pre")
    ]
    assert found.table["age"].tolist() == [20, 20, 21, 21, 22, 22]
    assert found.levels["group"] == ("control", "patient")
    assert set(found.table) == {"subject", "session", "age", "group"}
    assert found.paths[1] == root / "sub-01" / "pre" / "con_0001.nii"
    assert found.masks[1] == (root / "sub-01" / "pre" / "mask.nii",)
    assert found.qualified["images.age"] == "age"
    assert found.sources == {"": root}
    assert found.dropped.empty
    assert found.warnings == ()


@pytest.mark.parametrize(
    ("separator", "words"), [(",", "commas"), (";", "semicolons"), (" ", "blanks"), ("  ", "blanks")]
)
def test_read_image_table__takes_what_is_between_the_cells(tmp_path, separator, words):
    root = study(tmp_path)
    text = (root / "images.tsv").read_text().replace("\t", separator)
    write_text(root / "other.txt", text.replace("\n", " \\\n") if words == "blanks" else text)
    found, wanted = observe(root, table="other.txt"), observe(root)
    assert found.paths == wanted.paths
    pd.testing.assert_frame_equal(found.table, wanted.table)
    assert found.warnings == (f"other.txt has {words} between its cells, not tabs: read as such",)


@pytest.mark.parametrize(
    ("column", "other"),
    [
        ("path", "InputFile"),
        ("path", "Path"),
        ("subject", "participant_id"),
        ("subject", "Subj"),
        ("subject", "sub"),
        ("session", "ses"),
        ("session", "session_id"),
        ("session", "Session"),
    ],
)
def test_read_image_table__knows_other_names_of_its_columns(tmp_path, column, other):
    root = study(tmp_path)
    wanted = observe(root).table
    write_text(root / "images.tsv", (root / "images.tsv").read_text().replace(column, other, 1))
    found = observe(root)
    also = "" if column == "path" else "; the model may call it either"
    assert found.warnings == (f"column '{other}' of images.tsv is taken for '{column}'{also}",)
    pd.testing.assert_frame_equal(found.table[wanted.columns], wanted)
    if also:
        assert found.table[other].tolist() == wanted[column].tolist()
        assert isinstance(found.table[other].dtype, pd.CategoricalDtype)


def test_read_image_table__paths_start_at_its_folder_then_at_bids_dir(tmp_path):
    root = study(tmp_path / "study")
    tables = tmp_path / "tables"
    write_image(tables / "own.nii.gz")
    write_image(tmp_path / "elsewhere" / "a.nii")
    lines = [
        "sub-01/pre/con_0001.nii",
        "own.nii.gz",
        str(tmp_path / "elsewhere" / "a.nii"),
        "'../study/sub-02/pre/con_0001.nii,1'",
    ]
    write_tsv(tables / "images.tsv", "path", *lines)
    found = observe(tables, bids_dir=root)
    assert set(found.paths) == {
        root / "sub-01" / "pre" / "con_0001.nii",
        tables / "own.nii.gz",
        tmp_path / "elsewhere" / "a.nii",
        root / "sub-02" / "pre" / "con_0001.nii",
    }
    assert found.sources == {"": root, "images": tables, "images2": tmp_path / "elsewhere"}
    assert found.entities == ()
    assert set(named_folders(tables / "images.tsv", root, "utf-8-sig")) == {
        tables,
        tmp_path / "elsewhere",
        root,
        root / "sub-01" / "pre",
        root / "sub-02" / "pre",
    }


def test_read_image_table__joins_tables_of_subjects(tmp_path):
    root = study(tmp_path / "study")
    raw = longitudinal(tmp_path / "raw", sessions=("pre", "post"), missing=())
    found = observe(root, bids_dir=raw)
    assert found.table["score"].tolist() == [101, 101, 102, 102, 103, 103]
    assert found.table["time"].tolist() == [1, 0] * 3
    assert found.levels["site"] == ("1", "2")
    # Of one name the table's own is meant.
    assert found.table["age"].tolist() == [20, 20, 21, 21, 22, 22]
    assert found.table["participants.age"].tolist() == [20.5, 20.5, 21.5, 21.5, 22.5, 22.5]
    assert found.ambiguous == {}
    assert "motion" not in found.table
    (warning,) = found.warnings
    assert "participants.age, sessions.age" in warning
    assert found.sources == {"": raw, "images": root}
    write_tsv(root / "images.tsv", "path", "sub-01/pre/con_0001.nii", "sub-02/pre/con_0001.nii")
    bare = observe(root, bids_dir=raw)
    assert set(bare.table) == set()
    assert [text for text in bare.warnings if "no mask" not in text] == [
        f"{raw / 'participants.tsv'} is not read: the table of images has no column 'subject' to join it by"
    ]


def test_read_image_table__types_are_those_of_every_table(tmp_path):
    root = study(tmp_path)
    write_json(root / "images.json", {"age": {"Levels": {"20": "young"}}})
    table = (root / "images.tsv").read_text().replace("control", "n/a")
    write_text(root / "images.tsv", table)
    found = observe(root)
    assert found.levels["age"] == ("20", "21", "22")
    assert found.table["group"].isna().tolist() == [True, True, False, False, False, False]
    write_text(root / "images.tsv", table.replace("21", "old"))
    (root / "images.json").unlink()
    mixed = observe(root)
    assert "images.tsv, line" in mixed.mixed["age"]


def test_read_image_table__knows_entities_in_other_capitals(tmp_path):
    root = study(tmp_path)
    with_column(root, "Run", "1")
    found = observe(root)
    assert found.entities == ("subject", "session", "run")
    assert found.levels["run"] == ("1",)
    assert found.table["Run"].tolist() == [1.0] * 6
    assert found.warnings == ("column 'Run' of images.tsv is taken for 'run'; the model may call it either",)


def test_read_image_table__has_masks_of_its_column_alone(tmp_path):
    root = study(tmp_path)
    write_mask(root / "brain.nii")
    path = "sub-0{}/pre/con_0001.nii"
    text = "path\tmask\n" + "".join(
        f"{path.format(number)}\t{mask}\n"
        for number, mask in enumerate(["brain.nii; sub-01/pre/mask.nii", "n/a", ""], 1)
    )
    write_text(root / "images.tsv", text)
    found = observe(root)
    assert found.masks == ((root / "brain.nii", root / "sub-01" / "pre" / "mask.nii"), (), ())
    assert found.warnings == (
        "2 of 3 images have no mask of their own (a cell of 'mask' would name it), the first being "
        "sub-02/pre/con_0001.nii",
    )
    without = observe(root, input_masks="none")
    assert (without.masks, without.warnings) == (((), (), ()), ())


@pytest.mark.parametrize(
    ("block", "labels", "n_rows"),
    [
        ({"session": ["pre"]}, {}, 3),
        ({"session": "ses-pre", "group": ["patient"]}, {}, 2),
        ({"run": None}, {}, 6),
        ({"age": [20]}, {}, 2),
        ({"extension": ".nii"}, {}, 6),
        ({}, {"participant_label": ["sub-01", "02"], "session_label": ["ses-post"]}, 2),
        ({}, {"exclude_participant_label": ["01"]}, 4),
    ],
)
def test_read_image_table__filters_by_its_columns(tmp_path, block, labels, n_rows):
    root = study(tmp_path)
    found = observe(root, block, labels=labels)
    assert len(found) == n_rows
    assert found.warnings == ()


def test_read_image_table__sets_aside_what_lower_nodes_read(tmp_path):
    root = study(tmp_path)
    lower = {"sources": (MapSource("subjects", frozenset({"subject"})),), "filtered": ()}
    block = {"task": "nback", "run": [1, 2], "session": "pre", "suffix": "bold"}
    found = observe(root, block, labels=lower)
    assert found.table["session"].tolist() == ["pre"] * 3
    assert found.warnings == (
        "Input is about what the lowest node reads: its task, run, suffix, for which images.tsv has no "
        "column, say nothing about its images and are set aside",
    )
    # What the command line says is about the images.
    with pytest.raises(ModelSpecError, match="there are filters on task, and"):
        observe(root, block, labels={**lower, "filtered": ("task",)})


def test_read_image_table__needs_no_subject_and_takes_any_label(tmp_path):
    for name in ("b", "a"):
        write_image(tmp_path / f"{name} b.nii")
    write_text(
        tmp_path / "images.tsv", "path\tcontrast\trun\nb b.nii\tfaces > houses\t2\na b.nii\thouses\t10\n"
    )
    found = observe(tmp_path)
    assert found.entities == ("run", "contrast")
    assert found.table["contrast"].tolist() == ["faces > houses", "houses"]
    assert "subject" not in found.table


def alter(root, old, new):
    text = (root / "images.tsv").read_text()
    assert old in text
    write_text(root / "images.tsv", text.replace(old, new, 1))


def with_column(root, name, value):
    lines = (root / "images.tsv").read_text().splitlines()
    write_text(
        root / "images.tsv",
        "".join(f"{line}\t{value if number else name}\n" for number, line in enumerate(lines)),
    )


@dataclass(frozen=True)
class Wrong:
    """What is wrong with the table; ``{root}`` is the study's folder."""

    name: str
    break_it: Callable[[Path], object]
    error: type[BlmmError]
    message: str
    block: dict[str, object] | None = None


LAST = "sub-01/pre/con_0001.nii"
FIRST = "sub-03/post/con_0001.nii"
COLUMNS = "subject, session, age, group, path, mask"


def other_file_in_bids_dir(root):
    write_image(root / "bids" / LAST)


def all_moved(root):
    for path in root.glob("sub-*/*/con_0001.nii"):
        path.rename(path.with_name("moved.nii"))


def linked_twice(root):
    (root / LAST).unlink()
    os.link(root / FIRST, root / "copy.nii")
    (root / "sub-01" / "pre").joinpath("con_0001.nii").symlink_to(root / FIRST)


WRONG = [
    Wrong(
        "no table",
        lambda root: (root / "images.tsv").unlink(),
        MissingInputError,
        "{root}/images.tsv cannot be read (No such file or directory). If it is a datalad link, run 'datalad "
        "get' on it.",
    ),
    Wrong(
        "an empty table",
        lambda root: write_text(root / "images.tsv", ""),
        InvalidBIDSError,
        "{root}/images.tsv is empty; a header line was expected.",
    ),
    Wrong(
        "a header alone",
        lambda root: write_text(root / "images.tsv", "path\tage\n"),
        DataError,
        "{root}/images.tsv has a header and no line below it; a line for each image was expected.",
    ),
    Wrong(
        "no path",
        lambda root: alter(root, "path", "file"),
        DataError,
        "{root}/images.tsv has no column 'path', for the file of each image (it has subject, session, age, "
        "group, file, mask). Rename 'file' to path.",
    ),
    Wrong(
        "a path misspelt",
        lambda root: write_tsv(root / "images.tsv", "paths age", "x 1"),
        DataError,
        "{root}/images.tsv has no column 'path', for the file of each image (it has paths, age). Rename "
        "'paths' to path.",
    ),
    Wrong(
        "no column of files",
        lambda root: write_tsv(root / "images.tsv", "age sex", "1 F"),
        DataError,
        "{root}/images.tsv has no column 'path', for the file of each image (it has age, sex). Add it.",
    ),
    Wrong(
        "two columns of subjects",
        lambda root: (alter(root, "subject", "Subj"), alter(root, "group", "sub")),
        DataError,
        "{root}/images.tsv: columns 'Subj' and 'sub' may both be the subject. Rename the one that is "
        "meant to subject.",
    ),
    Wrong(
        "a path missing",
        lambda root: alter(root, FIRST, "n/a"),
        DataError,
        "{root}/images.tsv, line 2: 'path' is missing. Fill it in or remove the line.",
    ),
    Wrong(
        "a subject missing",
        lambda root: alter(root, "sub-03\t", "n/a\t"),
        DataError,
        "{root}/images.tsv, line 2: 'subject' is missing. Fill it in or remove the line.",
    ),
    Wrong(
        "a cell too few",
        lambda root: alter(root, "\t22", ""),
        InvalidBIDSError,
        "{root}/images.tsv, line 2: 5 cells, but the header has 6. Write n/a where a value is missing.",
    ),
    Wrong(
        "a file missing",
        lambda root: (root / LAST).unlink(),
        MissingInputError,
        "1 of 6 images that {root}/images.tsv names cannot be found:\n  line 7: {root}/"
        + LAST
        + "\nRelative "
        "paths start at the table's folder, then at BIDS_DIR ({root}/bids).",
    ),
    Wrong(
        "all files missing",
        all_moved,
        MissingInputError,
        "6 of 6 images that {root}/images.tsv names cannot be found:\n"
        + "".join(
            f"  line {line}: {{root}}/sub-0{s}/{e}/con_0001.nii\n"
            for line, (s, e) in enumerate([(3, "post"), (3, "pre"), (2, "post"), (2, "pre"), (1, "post")], 2)
        )
        + "  … and 1 more\nRelative paths start at the table's folder, then at BIDS_DIR ({root}/bids).",
    ),
    Wrong(
        "a path of another machine",
        lambda root: write_tsv(root / "images.tsv", "path", "/mnt/x/a.nii"),
        MissingInputError,
        "1 of 1 images that {root}/images.tsv names cannot be found:\n  line 2: /mnt/x/a.nii\nCheck the "
        "paths (inside a container: are their folders mounted under these names?).",
    ),
    Wrong(
        "a path of Windows",
        lambda root: alter(root, LAST, LAST.replace("/", "\\")),
        MissingInputError,
        "1 of 6 images that {root}/images.tsv names cannot be found:\n  line 7: {root}/"
        + LAST.replace("/", "\\")
        + "\nWrite / between folders, not \\.",
    ),
    Wrong(
        "a link without content",
        lambda root: ((root / LAST).unlink(), (root / LAST).symlink_to("gone")),
        MissingInputError,
        "1 of 6 images that {root}/images.tsv names cannot be found:\n  line 7: {root}/"
        + LAST
        + "\nLinks without "
        "content are filled by 'datalad get' (or 'git annex get').",
    ),
    Wrong(
        "a mask missing",
        lambda root: (root / "sub-03" / "post" / "mask.nii").unlink(),
        MissingInputError,
        "1 of 6 masks that {root}/images.tsv names cannot be found:\n  line 2: {root}/sub-03/post/mask.nii\n"
        "Relative paths start at the table's folder, then at BIDS_DIR ({root}/bids).",
    ),
    Wrong(
        "two files of one path",
        other_file_in_bids_dir,
        DataError,
        "{root}/images.tsv, line 7: " + LAST + " may be {root}/" + LAST + ", from the table's folder, or "
        "{root}/bids/" + LAST + ", from BIDS_DIR: two different files. Write its absolute path.",
    ),
    Wrong(
        "a line twice",
        lambda root: alter(root, LAST, FIRST),
        DataError,
        "{root}/images.tsv, lines 2 and 7 name "
        + FIRST
        + ": an image would count as several observations (1 "
        "such line(s)). Remove one line, or correct its path.",
    ),
    Wrong(
        "a link to another line's image",
        linked_twice,
        DataError,
        "{root}/images.tsv, lines 2 and 7 name one file, as "
        + FIRST
        + " and as "
        + LAST
        + ": an image would "
        "count as several observations (1 such line(s)). Remove one line, or correct its path.",
    ),
    Wrong(
        "AFNI's format",
        lambda root: alter(root, FIRST, "stats.s1+tlrc.HEAD"),
        DataError,
        "{root}/images.tsv, line 2: stats.s1+tlrc.HEAD is no NIfTI file (1 of 6 images are not); convert it: "
        "3dAFNItoNIFTI -prefix stats.s1.nii.gz 'stats.s1+tlrc.HEAD'.",
    ),
    Wrong(
        "AFNI's sub-brick",
        lambda root: alter(root, FIRST, "s1/stats+tlrc[faces#0_Coef]"),
        DataError,
        "{root}/images.tsv, line 2: s1/stats+tlrc[faces#0_Coef] is no NIfTI file (1 of 6 images are not); "
        "convert it: 3dAFNItoNIFTI -prefix s1/stats.nii.gz 's1/stats+tlrc[faces#0_Coef]'.",
    ),
    Wrong(
        "a volume of SPM",
        lambda root: alter(root, FIRST, "con.nii,3"),
        DataError,
        "{root}/images.tsv, line 2: con.nii,3 is no NIfTI file (1 of 6 images are not); write the "
        "volume of the 4-D file to a file of its own: fslroi con.nii NEW.nii.gz 2 1, 3dbucket -prefix "
        "NEW.nii.gz 'con.nii[2]', or SPM's 4D to 3D File Conversion.",
    ),
    Wrong(
        "a folder of FEAT",
        lambda root: alter(root, FIRST, "s1.feat/"),
        DataError,
        "{root}/images.tsv, line 2: s1.feat/ is no NIfTI file (1 of 6 images are not); name the image in the "
        "folder, as stats/cope1.nii.gz.",
    ),
    Wrong(
        "FreeSurfer's format",
        lambda root: alter(root, FIRST, "s1/brain.mgz"),
        DataError,
        "{root}/images.tsv, line 2: s1/brain.mgz is no NIfTI file (1 of 6 images are not); FreeSurfer's "
        "volumes are converted by 'mri_convert s1/brain.mgz s1/brain.nii.gz'.",
    ),
    Wrong(
        "another format",
        lambda root: alter(root, FIRST, "s1.png"),
        DataError,
        "{root}/images.tsv, line 2: s1.png is no NIfTI file (1 of 6 images are not); wanted a NIfTI volume: "
        ".nii, .nii.gz, or a pair .hdr/.img.",
    ),
    Wrong(
        "a folder that is called an image",
        lambda root: (root / "x.nii").mkdir() or alter(root, FIRST, "x.nii"),
        DataError,
        "{root}/images.tsv, line 2: {root}/x.nii is a folder. Name an image in it.",
    ),
    Wrong(
        "a filter without a column",
        lambda root: None,
        ModelSpecError,
        "there are filters on task, suffix, and {root}/images.tsv has no such column (it has "
        f"{COLUMNS}). The table says which images are analysed: take the filters out of the model spec's "
        "Input or the command line, or add the columns.",
        {"task": "nback", "suffix": "statmap"},
    ),
    Wrong(
        "several spaces",
        lambda root: (with_column(root, "space", "A"), alter(root, "nii\tA", "nii\tB")),
        DataError,
        "The images have 2 values of 'space', so they are on different grids:\n  {root}/" + FIRST + "\n"
        "  {root}/sub-03/pre/con_0001.nii\nChoose one in the model spec's Input: "
        '"space": "B" or "space": "A" (or name \'space\' in GroupBy).',
    ),
]


@pytest.mark.parametrize("wrong", WRONG, ids=[wrong.name for wrong in WRONG])
def test_read_image_table__says_what_is_wrong(tmp_path, wrong):
    root = study(tmp_path / "study")
    (root / "bids").mkdir()
    wrong.break_it(root)
    with pytest.raises(wrong.error) as raised:
        observe(root, wrong.block, bids_dir=root / "bids")
    message = str(raised.value)
    assert message == wrong.message.replace("{root}", str(root))


def test_read_image_table__says_which_filter_leaves_nothing(tmp_path):
    root = study(tmp_path)
    with pytest.raises(NoMatchError, match="group 'patients': 0 images pass; there is control, patient"):
        observe(root, {"group": "patients"})
    with pytest.raises(NoMatchError, match=r"extension '\.nii\.gz': 0 images pass; there is \.nii"):
        observe(root, {"extension": "nii.gz"})
    with pytest.raises(UsageError, match="--bids-database-dir"):
        observe(root, database_dir=root / "db")


def test_read_image_table__names_a_spreadsheet(tmp_path):
    root = study(tmp_path)
    (root / "images.tsv").rename(root / "images.xlsx")
    with pytest.raises(DataError, match=r"is a spreadsheet's own file\. Save it as text"):
        observe(root, table="images.xlsx")


def test_read_image_table__takes_pairs_of_files(tmp_path):
    root = study(tmp_path)
    nib.Nifti1Pair(np.ones((4, 3, 2), np.float32), np.eye(4)).to_filename(root / "pair.img")
    alter(root, FIRST, "pair.hdr")
    assert root / "pair.hdr" in observe(root).paths
    alter(root, LAST, "pair.img")
    with pytest.raises(DataError, match=r"one file, as pair\.hdr and as pair\.img"):
        observe(root)
