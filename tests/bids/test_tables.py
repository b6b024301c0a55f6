from __future__ import annotations

import re

import pytest

from blmm_bids.bids.join import join_tables, participants_of
from blmm_bids.bids.layout import walk_dataset
from blmm_bids.bids.tables import read_tables
from blmm_bids.bids.words import WordRules
from blmm_bids.errors import MissingInputError
from tests.datasets import write_json, write_text, write_tsv

IMAGES = {
    "a": "sub-01/ses-1/func/sub-01_ses-1_task-x_run-1_statmap.nii",
    "b": "sub-01/ses-2/func/sub-01_ses-2_task-x_statmap.nii",
    "c": "sub-02/sub-02_task-x_statmap.nii",
    "d": "sub-03/anat/sub-03_probseg.nii",
}


def joined(root, participants_tsv=None, rules=None):
    """Columns by qualified name, each with its values for the images a, b, c and d."""
    for name in IMAGES.values():
        write_text(root / name, "")
    listing = walk_dataset(root)
    by_path = {str(file.path.relative_to(root)): file for file in listing.files}
    images = [by_path[name] for name in IMAGES.values()]
    columns, unread = join_tables(read_tables([listing], participants_tsv), images, rules)
    return {column.qualified: column for column in columns}, unread


def people(root, *cells, sidecar=None, rules=None):
    """The column x of a participants.tsv with these cells; the first two are of images a and c."""
    lines = [f"sub-{number:02d}\t{cell}\n" for number, cell in enumerate(cells, start=1)]
    write_text(root / "participants.tsv", "".join(["participant_id\tx\n", *lines]))
    if sidecar is not None:
        write_json(root / "participants.json", {"x": sidecar})
    return joined(root, rules=rules)[0]["participants.x"]


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
    columns, unread = joined(tmp_path)
    assert {name: column.values for name, column in columns.items()} == {
        "participants.age": [20, 20, None, None],
        "participants.sex": ["F", "F", None, "M"],
        "sessions.age": [20.5, 10, 30, None],
        "iq_test.iq": [None, 99, 98, None],
    }
    assert [name for name, column in columns.items() if column.is_categorical] == ["participants.sex"]
    assert unread == []


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
    conflict = str(columns["scans.time"].fault)
    assert conflict.startswith("'time' has two values for sub-01_ses-2_task-x_statmap.nii: f (")
    assert "line 2) and g (" in conflict


def test_join_tables__sessions_that_disagree_do_not_fit_an_image_without_session(tmp_path):
    lines = ("ses-1 30 R", "ses-2 31 R")
    write_tsv(tmp_path / "sub-02" / "sub-02_sessions.tsv", "session_id age hand", *lines)
    columns, _ = joined(tmp_path)
    conflict = str(columns["sessions.age"].fault)
    assert "30.0 (" in conflict
    assert "They are about sessions 1 and 2, and the image's name has no session" in conflict
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
    ("cells", "values", "reason", "mixture"),
    [
        (["1", "2.5"], [1, 2.5], "numbers", ""),
        (["-.5", "1E-3"], [-0.5, 0.001], "numbers", ""),
        (["01", "n/a"], [1, None], "numbers", ""),
        (["n/a", "n/a"], [None, None], "numbers", ""),
        (["yes", "no"], ["yes", "no"], "text", ""),
        (["1_0", "x"], ["1_0", "x"], "text", ""),
        (["NA", "3"], [None, 3], "numbers", ""),
        (["NA", "EU"], [None, "EU"], "text", ""),
        (["89+", "3"], ["89+", "3"], "text", "1 of 2 values are no numbers, the first being '89+'"),
        (["inf", "3"], ["inf", "3"], "text", "no numbers"),
        (["20,5", "21,5"], ["20,5", "21,5"], "text", "looks like numbers, the first being '20,5'"),
        (["024Y", "n/a"], ["024Y", None], "text", "write 24, the years alone"),
        (["20 years", "21 years"], ["20 years", "21 years"], "text", "looks like numbers"),
        (["2019-03-01", ""], ["2019-03-01", None], "dates", "dates, the first being '2019-03-01'"),
        (["20190301", "20190302"], ["20190301", "20190302"], "dates", "days({name}) and"),
        (["20190301", "20191302"], [20190301, 20191302], "numbers", ""),
    ],
)
def test_join_tables__types(tmp_path, cells, values, reason, mixture):
    column = people(tmp_path, *cells)
    assert column.values[1:3] == values
    assert (column.reason, column.is_categorical) == (reason, reason != "numbers")
    assert mixture in column.mixture
    assert bool(column.mixture) is bool(mixture)


@pytest.mark.parametrize(
    ("cells", "sidecar", "rules", "notice"),
    [
        (["F", "n/a"], None, {}, ""),
        (["F", "NA"], None, {}, "'NA' (1) read as missing (BIDS writes n/a)"),
        (["F", "nan", "NA", "NA"], None, {}, "'nan' (1), 'NA' (2) read as missing"),
        (["F", ""], None, {}, "empty cells (1) read as missing"),
        (["3", "#N/A"], None, {}, "'#N/A' (1) read as missing"),
        (["3", "null"], None, {}, "'null' (1) read as missing"),
        (["3", "-"], None, {"missing": ["-"]}, "'-' (1) read as missing (--missing-values)"),
        (["F", "Unknown"], None, {"missing": ["unknown"]}, "'Unknown' (1) read as missing"),
        (["3", "-999.0"], None, {"missing": ["-999"]}, "'-999.0' (1) read as missing"),
        (["3", "-1"], {"MissingValues": "-1"}, {}, "(MissingValues in participants.json)"),
        (["3", "-1"], {"MissingValues": [-1, -2]}, {}, "'-1' (1) read as missing"),
        (["3", "-1"], {"MissingValues": {"-1": "not done"}}, {}, "'-1' (1) read as missing"),
        (["3", "9"], {"Levels": {"9": "missing"}}, {}, "'9' (1) read as missing (Levels in"),
        (["F", "U"], {"Levels": {"F": "Female", "U": "not available"}}, {}, "'U' (1) read as missing"),
        (["1", "999"], {"Levels": {"1": "yes", "999": "Don't know"}}, {}, "'999' (1) read as missing"),
        (["1", "777"], {"Levels": {"1": "a", "777": {"Description": "Refused"}}}, {}, "'777' (1) read"),
        (["F", "NA"], {"Levels": {"F": "Female"}}, {}, "'NA' (1) read as missing"),
        (["1", "9"], {"Levels": {"1": "male", "9": "Unknown"}}, {}, "'9' (1) read as missing (Levels in"),
        (["1", "3"], {"Levels": {"1": "yes", "3": "Prefer not to say"}}, {}, "'3' (1) read as missing"),
    ],
)
def test_join_tables__missing_values_are_the_same_words_in_all_columns(
    tmp_path, cells, sidecar, rules, notice
):
    column = people(tmp_path, *cells, sidecar=sidecar, rules=WordRules.of(**rules))
    assert column.values[2] is None
    assert column.suspects == {}
    assert notice in "".join(column.notices)
    assert len(column.notices) == bool(notice)


@pytest.mark.parametrize(
    ("cells", "sidecar", "rules"),
    [
        (["NA", "EU"], {"Levels": {"NA": "North America", "EU": "Europe"}}, {}),
        (["NA", "EU"], None, {"data": ["NA"]}),
        (["none", "ssri"], {"Levels": {"none": "no drug", "ssri": ""}}, {}),
        (["0", "1"], {"Levels": {"0": "none", "1": "ssri"}}, {}),
        (["none", "ssri"], None, {"data": ["None"]}),
        (["unknown", "ssri"], {"Levels": ["unknown", "ssri"]}, {}),
        (["unknown", "F"], {"Levels": {"unknown": "Unknown", "F": ""}}, {}),
        (["-", "+"], None, {}),
        (["x", "y"], None, {}),
    ],
)
def test_join_tables__words_that_are_said_to_be_levels_are(tmp_path, cells, sidecar, rules):
    column = people(tmp_path, *cells, sidecar=sidecar, rules=WordRules.of(**rules))
    assert column.values[1:3] == cells
    assert column.suspects == {}


@pytest.mark.parametrize("word", ["-", ".", "?", "unknown", "None", "MISSING", "n.a.", "--", "<NA>", "#REF!"])
@pytest.mark.parametrize("others", [["M", "F"], ["20", "30.5"]])
def test_join_tables__words_that_look_missing_are_suspects(tmp_path, word, others):
    column = people(tmp_path, others[0], word, others[1], word)
    assert column.is_categorical is (others[0] == "M")
    assert column.values[2] == (word if others[0] == "M" else None)
    assert {image: found for image, (found, _) in column.suspects.items()} == {2: word}
    said = column.suspects[2][1]
    assert f"has '{word}' in 2 lines, the first being {tmp_path / 'participants.tsv'}, line 3" in said
    assert f"--missing-values '{word}'" in said


@pytest.mark.parametrize(
    ("cells", "sidecar", "suspect"),
    [
        (["20", "-999", "35"], None, True),
        (["20", "999", "35"], None, True),
        (["20", "99", "35"], None, True),
        (["20", "-9", "35"], None, True),
        (["1", "-9", "2"], None, True),
        (["0.5", "-999", "0.7"], None, True),
        (["1", "-999", "2"], {"Levels": {"1": "a", "2": "b"}}, True),
        (["1", "9999", "2"], {"Levels": {"1": "a", "2": "b"}}, True),
        (["20", "-9", "35"], {"Minimum": 18}, True),
        (["20", "88", "35"], {"Minimum": 18, "Maximum": 89}, False),
        (["20", "-999", "35"], {"MissingValues": "n/a"}, False),
        (["-20", "-9", "35"], None, False),
        (["-3.5", "-9", "2.25"], None, False),
        (["20", "-1", "35"], None, False),
        (["20", "88", "75"], None, False),
        (["950", "999", "35"], None, False),
        (["M", "-999", "F"], None, True),
        (["M", "99", "F"], None, True),
        (["M", "12", "F"], None, False),
        (["1990", "2010", "2000"], None, False),
        (["1", "-999", "2"], {"Levels": {"1": "a", "2": "b", "-999": "coldest"}}, False),
    ],
)
def test_join_tables__numbers_that_look_like_codes_are_suspects(tmp_path, cells, sidecar, suspect):
    column = people(tmp_path, *cells, sidecar=sidecar)
    assert (2 in column.suspects) is suspect
    assert set(column.suspects) <= {2}
    assert column.values[2] in {float(cells[1]), cells[1]}


@pytest.mark.parametrize(
    ("second", "value"),
    [
        ("2019-03-01T09:10:00", "2019-03-01T09:00:00"),
        ("2019-03-02T09:10:00", None),
        ("n/a", "2019-03-01T09:00:00"),
    ],
)
def test_join_tables__times_of_one_day_are_its_first(tmp_path, second, value):
    write_tsv(
        tmp_path / "sub-01" / "ses-2" / "sub-01_ses-2_scans.tsv",
        "filename acq_time",
        f"func/sub-01_ses-2_task-x_run-2_bold.nii.gz {second}",
        "func/sub-01_ses-2_task-x_run-1_bold.nii.gz 2019-03-01T09:00:00",
    )
    (column,) = joined(tmp_path)[0].values()
    assert column.values[1] == value
    assert (column.fault is None) is (value is not None)
    assert ("1 images have several times of one day" in "".join(column.notices)) is ("03-01" in second)


def test_join_tables__says_which_labels_differ_in_capitals_alone(tmp_path):
    notices = people(tmp_path, "F", "f", "M", "New York", "New  york").notices
    assert "different levels: 'F' and 'f', 'New York' and 'New  york'" in "".join(notices)
    assert people(tmp_path, "F", "M").notices == ()


def test_join_tables__a_broken_sidecar_concerns_all_files_that_it_describes(tmp_path):
    for label in ("01", "09"):
        write_tsv(tmp_path / f"sub-{label}" / f"sub-{label}_sessions.tsv", "session_id time", "ses-1 4")
    write_text(tmp_path / "sessions.json", "{broken")
    columns, _ = joined(tmp_path)
    assert "sessions.json, line 1: not valid JSON" in str(columns["sessions.time"].fault)


@pytest.mark.parametrize(
    ("levels", "cells", "reason"),
    [
        ({}, ["1", "2"], "numbers"),
        ("", ["1", "2"], "numbers"),
        ({"n/a": "not available"}, ["1", "2"], "numbers"),
        ({"-999": "missing"}, ["1", "2"], "numbers"),
        ({"min": "youngest", "max": "oldest"}, ["1", "2"], "numbers"),
        ({"1": "one"}, ["1", "2"], "Levels in participants.json"),
        ({"1": "one"}, ["1.0", "2.0"], "Levels in participants.json"),
        (["a", "b"], ["a", "b"], "Levels in participants.json"),
    ],
)
def test_join_tables__levels_that_name_none_of_the_values_declare_nothing(tmp_path, levels, cells, reason):
    assert people(tmp_path, *cells, sidecar={"Levels": levels}).reason == reason


@pytest.mark.parametrize("key", ["session_id", "session", "ses", "Session", "SESSION_ID"])
@pytest.mark.parametrize("table", ["participants.tsv", "phenotype/panas.tsv"])
def test_join_tables__a_line_a_session(tmp_path, table, key):
    lines = ["sub-01 2 5", "sub-01 1 4"] if key == "ses" else ["sub-01 ses-2 5", "sub-01 ses-1 4"]
    write_tsv(tmp_path / table, f"participant_id {key} score", *lines)
    (column,) = joined(tmp_path)[0].values()
    assert column.values == [4, 5, None, None]
    assert column.unlisted == (2, 3)
    assert len(column.notices) == (key != "session_id")


def test_join_tables__a_number_of_sessions_is_a_value(tmp_path):
    write_tsv(tmp_path / "participants.tsv", "participant_id session", "sub-01 2", "sub-02 1")
    assert joined(tmp_path)[0]["participants.session"].values == [2, 2, 1, None]


def test_join_tables__several_lines_of_a_participant_must_agree(tmp_path):
    write_tsv(
        tmp_path / "phenotype" / "panas.tsv",
        "participant_id visit sex score",
        *("sub-01 V1 F 3", "sub-01 V2 F 4", "sub-02 V1 M 5", "sub-02 V2 n/a 6"),
    )
    columns, unread = joined(tmp_path)
    assert columns["panas.sex"].values == ["F", "F", "M", None]
    assert unread == []
    conflict = str(columns["panas.score"].fault)
    assert "3.0 (" in conflict
    assert "into a column 'session_id' beside 'visit'" in conflict
    assert "emove" not in conflict


@pytest.mark.parametrize(
    ("theirs", "said"),
    [
        ("participant_id session_id|sub-01 01|sub-01 02|sub-02 01", "its sessions are 01, 02, those of the"),
        ("participant_id|sub-1|sub-2", "its subjects are 1, 2, those of the images 01, 02, 03"),
        ("participant_id|sub-01", ""),
    ],
)
def test_join_tables__says_whose_labels_do_not_match(tmp_path, theirs, said):
    header, *lines = theirs.split("|")
    write_tsv(tmp_path / "participants.tsv", f"{header} x", *(f"{line} 5" for line in lines))
    (column,) = joined(tmp_path)[0].values()
    assert column.mismatch.startswith(said)
    assert bool(column.mismatch) is bool(said)


@pytest.mark.parametrize(
    "key",
    [
        "participant_id",
        "Participant_ID",
        "participant",
        "subject",
        "sub",
        "subject_id",
        "src_subject_id",
        "SubjectID",
    ],
)
def test_read_tables__spellings_of_participant_id(tmp_path, key):
    write_tsv(tmp_path / "participants.tsv", f"age {key}", "20 sub-01", "21 02")
    (table,) = read_tables([walk_dataset(tmp_path)])
    assert table.faults == ()
    assert [row.entities for row in table.rows] == [{"subject": "01"}, {"subject": "02"}]
    assert table.columns == ("age",)
    assert bool(table.notices) is (key != "participant_id")


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
    ("table", "content", "said", "columns"),
    [
        (
            "participants.tsv",
            "id\tage\nsub-01\t1\n",
            "no column 'participant_id'.*it has id, age",
            ("id", "age"),
        ),
        (
            "participants.tsv",
            "subject\tsub\tage\nsub-01\t1\t2\n",
            "subject and sub may each be meant",
            ("subject", "sub", "age"),
        ),
        (
            "participants.tsv",
            "participant_id\tage\nn/a\t1\n",
            "line 2: 'participant_id' is missing",
            ("participant_id", "age"),
        ),
        ("sub-01/sub-01_sessions.tsv", "visit\tage\nses-1\t1\n", "no column 'session_id'", ("visit", "age")),
        ("sub-01/sub-01_scans.tsv", "file\tage\nx\t1\n", "no column 'filename'", ("file", "age")),
        ("phenotype/iq.tsv", "participant_id\tiq\nsub-01\n", "line 2: 1 cells", ("participant_id", "iq")),
        ("phenotype/iq.tsv", "participant_id,iq\nsub-01,2\n", "commas and no tab", ()),
        ("participants.json", "{broken", "line 1: not valid JSON", ("participant_id", "age")),
    ],
)
def test_read_tables__keeps_what_is_wrong_with_file_and_line(tmp_path, table, content, said, columns):
    write_tsv(tmp_path / "participants.tsv", "participant_id age", "sub-01 1")
    write_text(tmp_path / table, content)
    (fault,) = (fault for found in read_tables([walk_dataset(tmp_path)]) for fault in found.faults)
    assert re.search(rf"{table}.*{said}", str(fault.error))
    assert fault.columns == columns


def test_join_tables__a_broken_file_concerns_its_columns_and_its_images(tmp_path):
    write_text(tmp_path / "phenotype" / "iq.tsv", "participant_id\tiq\nsub-01\n")
    for label, lines in (("01", "ses-1\t4\n"), ("09", "ses-1\n")):
        text = f"session_id\ttime\n{lines}"
        write_text(tmp_path / f"sub-{label}" / f"sub-{label}_sessions.tsv", text)
    write_tsv(tmp_path / "participants.tsv", "participant_id age age site", "sub-01 1 2 B", "sub-02 3 3 C")
    columns, unread = joined(tmp_path)
    assert columns["sessions.time"].values == [4, None, None, None]
    assert columns["participants.site"].values == ["B", "B", "C", None]
    assert "line 2: 1 cells" in str(columns["iq.iq"].fault)
    assert "'age' is there twice" in str(columns["participants.age"].fault)
    (sentence,) = unread
    assert sentence.startswith(f"'iq' ({tmp_path / 'phenotype' / 'iq.tsv'}, line 2: 1 cells")
    write_text(tmp_path / "sub-02" / "sub-02_sessions.tsv", "session_id\ttime\nses-1\n")
    columns, unread = joined(tmp_path)
    assert "sub-02_sessions.tsv" in str(columns["sessions.time"].fault)
    assert len(unread) == 2


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
    assert "L (" in str(columns[1].fault)
    assert str(columns[1].fault).endswith("Correct one of the files")
