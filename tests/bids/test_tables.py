from __future__ import annotations

import pytest

from blmm_bids.bids.join import join_tables, participants_of
from blmm_bids.bids.layout import walk_dataset
from blmm_bids.bids.tables import read_tables
from blmm_bids.errors import InvalidBIDSError, MissingInputError
from tests.datasets import write_json, write_text, write_tsv

IMAGES = {
    "a": "sub-01/ses-1/func/sub-01_ses-1_task-x_run-1_statmap.nii",
    "b": "sub-01/ses-2/func/sub-01_ses-2_task-x_statmap.nii",
    "c": "sub-02/sub-02_task-x_statmap.nii",
    "d": "sub-03/anat/sub-03_probseg.nii",
}


def joined(root, participants_tsv=None):
    """Columns by qualified name, each with its values for the images a, b, c and d."""
    for name in IMAGES.values():
        write_text(root / name, "")
    listing = walk_dataset(root)
    by_path = {str(file.path.relative_to(root)): file for file in listing.files}
    images = [by_path[name] for name in IMAGES.values()]
    columns, warnings = join_tables(read_tables([listing], participants_tsv), images)
    return {column.qualified: column for column in columns}, warnings


def test_join_tables__participants_sessions_phenotype(tmp_path):
    write_tsv(
        tmp_path / "participants.tsv", "participant_id age sex", "sub-01 20 F", "sub-03 n/a M", "sub-9 1 M"
    )
    write_tsv(
        tmp_path / "sub-01" / "sub-01_sessions.tsv", "session_id age", "ses-1 20.5", "ses-2 1e1", "ses-3 8"
    )
    write_tsv(tmp_path / "sub-02" / "sessions.tsv", "session_id age", "ses-1 30")
    write_tsv(
        tmp_path / "phenotype" / "iq_test.tsv",
        "participant_id session_id iq",
        "sub-01 ses-2 99",
        "sub-02 n/a 98",
    )
    columns, warnings = joined(tmp_path)
    assert {name: column.values for name, column in columns.items()} == {
        "participants.age": [20, 20, None, None],
        "participants.sex": ["F", "F", None, "M"],
        "sessions.age": [20.5, 10, 30, None],
        "iq_test.iq": [None, 99, 98, None],
    }
    assert [name for name, column in columns.items() if column.is_categorical] == ["participants.sex"]
    assert warnings == []


def test_join_tables__scans_by_shared_entities(tmp_path):
    write_tsv(
        tmp_path / "sub-01" / "ses-1" / "sub-01_ses-1_scans.tsv",
        "filename motion time",
        "func/sub-01_ses-1_task-x_run-1_bold.nii.gz 1 a",
        "func/sub-01_ses-1_task-x_run-1_sbref.nii.gz 1 z",
        "func/sub-01_ses-1_task-x_run-2_bold.nii.gz 2 b",
        "func/sub-01_ses-1_task-y_bold.nii.gz 3 c",
        "anat/sub-01_ses-1_T1w.nii.gz 4 d",
        "meg/unnamed.ds 5 e",
    )
    write_tsv(
        tmp_path / "sub-01" / "ses-2" / "sub-01_ses-2_scans.tsv",
        "filename motion time",
        "func/sub-01_ses-2_task-x_run-1_bold.nii.gz 6 f",
        "func/sub-01_ses-2_task-x_run-2_bold.nii.gz 6 g",
    )
    write_tsv(tmp_path / "sub-03" / "sub-03_scans.tsv", "filename motion", "func/sub-03_task-x_bold.nii 7",
              "anat/sub-03_T1w.nii 8")  # fmt: skip
    columns, _ = joined(tmp_path)
    assert columns["scans.motion"].values == [1, 6, None, 8]
    conflict = columns["scans.time"].conflict
    assert conflict.startswith("'time' has two values for sub-01_ses-2_task-x_statmap.nii: f (")
    assert "line 2) and g (" in conflict


def test_join_tables__sessions_that_disagree_do_not_fit_an_image_without_session(tmp_path):
    lines = ("ses-1 30 R", "ses-2 31 R")
    write_tsv(tmp_path / "sub-02" / "sub-02_sessions.tsv", "session_id age hand", *lines)
    columns, _ = joined(tmp_path)
    assert "30.0 (" in columns["sessions.age"].conflict
    assert columns["sessions.hand"].values == [None, None, "R", None]


def test_join_tables__longitudinal_participants_and_root_sessions(tmp_path):
    write_tsv(
        tmp_path / "participants.tsv", "participant_id session_id age", "sub-01 ses-1 1", "sub-01 ses-2 2"
    )
    write_tsv(tmp_path / "sessions.tsv", "session_id wave", "ses-1 w1", "ses-2 w2")
    columns, _ = joined(tmp_path)
    assert columns["participants.age"].values == [1, 2, None, None]
    assert columns["sessions.wave"].values[:2] == ["w1", "w2"]


@pytest.mark.parametrize(
    ("cells", "values", "is_categorical", "warning"),
    [
        (["1", "2.5"], [1, 2.5], False, ""),
        (["-.5", "1E-3"], [-0.5, 0.001], False, ""),
        (["01", "n/a"], [1, None], False, ""),
        (["n/a", "n/a"], [None, None], False, ""),
        (["yes", "no"], ["yes", "no"], True, ""),
        (["1_0", "x"], ["1_0", "x"], True, ""),
        (["NA", "3"], [None, 3], False, "'NA' read as missing"),
        (["NA", "EU"], ["NA", "EU"], True, ""),
        (["89+", "3"], ["89+", "3"], True, "1 of 2 values are no numbers, the first being '89+'"),
        (["inf", "3"], ["inf", "3"], True, "no numbers"),
    ],
)
def test_join_tables__types(tmp_path, cells, values, is_categorical, warning):
    lines = (f"sub-{label} {cell}" for label, cell in zip(("01", "02"), cells, strict=True))
    write_tsv(tmp_path / "participants.tsv", "participant_id x", *lines)
    columns, warnings = joined(tmp_path)
    column = columns["participants.x"]
    assert column.values[1:3] == values
    assert column.is_categorical is is_categorical
    assert len(warnings) == bool(warning)
    assert all(warning in text for text in warnings)


@pytest.mark.parametrize(
    ("table", "sidecar"),
    [
        ("participants.tsv", "participants.json"),
        ("sub-01/sub-01_sessions.tsv", "sessions.json"),
        ("sub-01/sub-01_sessions.tsv", "sub-01/sub-01_sessions.json"),
        ("sub-01/ses-1/sub-01_ses-1_scans.tsv", "scans.json"),
        ("phenotype/site.tsv", "phenotype/site.json"),
    ],
)
def test_join_tables__levels_in_a_sidecar_make_a_column_categorical(tmp_path, table, sidecar):
    key, label = {
        "participants": ("participant_id", "sub-01"),
        "site": ("participant_id", "sub-01"),
        "sessions": ("session_id", "ses-1"),
        "scans": ("filename", "func/sub-01_ses-1_task-x_run-1_bold.nii.gz"),
    }[table.removesuffix(".tsv").split("_")[-1].split("/")[-1]]
    write_tsv(tmp_path / table, f"{key} site dose", f"{label} 1 2")
    write_json(tmp_path / sidecar, {"site": {"Levels": {"1": "Bonn"}}, "dose": {"Units": "mg"}})
    columns, _ = joined(tmp_path)
    by_name = {column.name: column for column in columns.values()}
    assert (by_name["site"].values[0], by_name["site"].is_categorical) == ("1", True)
    assert (by_name["dose"].values[0], by_name["dose"].is_categorical) == (2, False)


@pytest.mark.parametrize(
    ("table", "content", "said"),
    [
        ("participants.tsv", "id\tage\nsub-01\t1\n", "no column 'participant_id'.*it has id, age"),
        (
            "participants.tsv",
            "participant_id\tage\nsub-01\t1\nsub-01\t1\n",
            "lines 2 and 3 are both about sub-01",
        ),
        ("participants.tsv", "participant_id\tage\nn/a\t1\n", "line 2: 'participant_id' is missing"),
        ("sub-01/sub-01_sessions.tsv", "session\tage\nses-1\t1\n", "no column 'session_id'"),
        ("sub-01/sub-01_sessions.tsv", "session_id\nses-1\nses-1\n", "both about ses-1"),
        ("sub-01/sub-01_scans.tsv", "file\tage\nx\t1\n", "no column 'filename'"),
        ("sub-01/sub-01_scans.tsv", "filename\nfunc/x.nii\nfunc/x.nii\n", "both about func/x.nii"),
        ("phenotype/iq.tsv", "participant_id\tiq\nsub-01\n", "line 2: 1 cells"),
    ],
)
def test_read_tables__names_file_and_line(tmp_path, table, content, said):
    write_text(tmp_path / table, content)
    with pytest.raises(InvalidBIDSError, match=rf"{table}.*{said}"):
        read_tables([walk_dataset(tmp_path)])


def test_read_tables__participants_tsv_option_replaces_the_dataset_own(tmp_path):
    write_tsv(tmp_path / "data" / "participants.tsv", "participant_id age site", "sub-01 1 1")
    write_json(tmp_path / "data" / "participants.json", {"site": {"Levels": {"2": "Bonn"}}})
    mine = write_tsv(tmp_path / "mine.tsv", "participant_id site", "01 2", "sub-02 2")
    tables = read_tables([walk_dataset(tmp_path / "data")], mine)
    assert participants_of(tables) == ("01", "02")
    columns, _ = joined(tmp_path / "data", mine)
    assert columns["participants.site"].values == ["2", "2", "2", None]
    assert set(columns) == {"participants.site"}
    with pytest.raises(MissingInputError, match="--participants-tsv"):
        read_tables([walk_dataset(tmp_path / "data")], tmp_path / "absent.tsv")


def test_join_tables__tables_of_two_datasets_must_agree(tmp_path):
    raw, glm = tmp_path / "raw", tmp_path / "glm"
    write_tsv(raw / "participants.tsv", "participant_id age hand", "sub-01 1.0 R", "sub-02 2 L")
    write_tsv(glm / "participants.tsv", "participant_id age hand", "sub-01 1 R", "sub-02 2 R")
    write_text(glm / "sub-01" / "sub-01_statmap.nii", "")
    write_text(glm / "sub-02" / "sub-02_statmap.nii", "")
    listings = [walk_dataset(raw), walk_dataset(glm)]
    images = [file for file in listings[1].files if file.suffix == "statmap"]
    columns, _ = join_tables(read_tables(listings), images)
    assert columns[0].values == [1, 2]
    assert "L (" in columns[1].conflict
