"""Where a variable is that no table has which is read."""

from __future__ import annotations

import shutil

import pytest

from blmm_bids.bids.nearby import advice_on_variable
from blmm_bids.cli import main
from tests.datasets import describe, longitudinal, write_text, write_tsv

FORMULA = ("--formula", "1 + {} + (1 | subject)", "--dry-run", "--nprocs", "1")


@pytest.fixture
def raw(tmp_path):
    """A raw dataset with the tables, and the maps without any in derivatives/pipeline/maps."""
    raw = describe(tmp_path / "my study", "raw")
    maps = longitudinal(raw / "derivatives" / "maps")
    for name in ("participants.tsv", "participants.json", "phenotype"):
        shutil.move(maps / name, raw / name)
    for subject in sorted(maps.glob("sub-*")):
        (raw / subject.name).mkdir()
        for table in subject.rglob("*.tsv"):
            target = raw / table.relative_to(maps)
            target.parent.mkdir(exist_ok=True)
            shutil.move(table, target)
    return raw


def said(capsys, *arguments):
    code = main(list(map(str, arguments)))
    return code, capsys.readouterr().err


@pytest.mark.parametrize(
    ("variable", "table"),
    [
        ("sex", "participants.tsv"),
        ("participants.sex", "participants.tsv"),
        ("time", "sub-*/sub-*_sessions.tsv"),
        ("score", "phenotype/iq.tsv"),
        ("motion", "sub-*/ses-*/sub-*_scans.tsv"),
    ],
)
@pytest.mark.parametrize("deeper", ["maps", "pipeline/maps"])
def test_run__names_the_dataset_around_and_the_command(raw, capsys, variable, table, deeper):
    maps = raw / "derivatives" / deeper
    if deeper != "maps":
        maps.parent.mkdir()
        shutil.move(raw / "derivatives" / "maps", maps)
    out = raw.parent / "out"
    options = [text.format(variable) for text in FORMULA]
    code, text = said(capsys, maps, out, "group", *options)
    assert code == 64
    assert f"formula uses '{variable}', absent from the tables" in text
    command = f"bids_app_run.py '{raw}' {out} group -d '{maps}' …"
    assert f"has it, and is not read: make its dataset BIDS_DIR: {command}" in text
    assert any(str(path) in text for path in raw.glob(table))
    # What it says to do works.
    assert said(capsys, raw, out, "group", "-d", maps, *options)[0] == 0


def test_run__says_nothing_where_the_formula_needs_no_table(raw, capsys):
    options = [text.format("session") for text in FORMULA]
    code, text = said(capsys, raw / "derivatives" / "maps", raw.parent / "out", "group", *options)
    assert code == 0
    assert "not read" not in text


def test_run__says_that_there_is_no_table_at_all(raw, capsys):
    maps = shutil.move(raw / "derivatives" / "maps", raw.parent / "elsewhere" / "maps")
    options = [text.format("sex") for text in FORMULA]
    code, text = said(capsys, maps, raw.parent / "out", "group", *options)
    assert code == 64
    assert f"{maps} has no participants.tsv, sessions.tsv, scans.tsv or phenotype/*.tsv" in text
    assert f"bids_app_run.py RAW_DATASET {raw.parent / 'out'} group -d {maps} …" in text


ADVICE = [
    # header of the table above, description, links, variable, what is said
    (
        "participant_id age",
        True,
        {},
        "age",
        "make its dataset BIDS_DIR: bids_app_run.py {top} {out} group -d {maps} …",
    ),
    (
        "participant_id age",
        False,
        {},
        "age",
        "has it, and is not read: add --participants-tsv {top}/participants.tsv",
    ),
    ("participant_id age", True, {}, "agee", None),
    ("participant_id", True, {"raw": "../../other"}, "iq", "bids_app_run.py {other} {out} group -d {maps} …"),
    ("participant_id", True, {"raw": "https://example.org/raw", "gone": "../gone"}, "iq", None),
]


@pytest.mark.parametrize(("header", "described", "links", "variable", "advice"), ADVICE)
def test_advice_on_variable__finds_tables_by_their_headers(
    tmp_path, header, described, links, variable, advice
):
    top, other, out = tmp_path / "top", tmp_path / "other", tmp_path / "out"
    maps = describe(top / "maps", DatasetLinks=links)
    write_tsv(top / "participants.tsv", header)
    write_tsv(describe(other, "raw") / "participants.tsv", "participant_id iq")
    if described:
        describe(top, "raw")
    found = advice_on_variable(variable, {"": maps}, out, has_tables=True)
    if advice is None:
        assert found == ""
    else:
        assert advice.format(top=top, out=out, maps=maps, other=other) in found


@pytest.mark.parametrize(
    "content", ["participant_id\tage\r\n", "\ufeffparticipant_id\tage", 'x\t"age"\n1\t2']
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_advice_on_variable__reads_headers_as_people_save_them(tmp_path, content, encoding):
    maps = describe(tmp_path / "maps")
    (tmp_path / "participants.tsv").write_bytes(content.encode(encoding))
    assert "--participants-tsv" in advice_on_variable("age", {"": maps}, tmp_path, has_tables=True)


def test_advice_on_variable__is_quiet_about_what_cannot_be_read(tmp_path):
    maps = tmp_path / "maps"
    write_text(maps / "dataset_description.json", "no JSON")
    (tmp_path / "participants.tsv").mkdir()
    assert advice_on_variable("age", {"": maps}, tmp_path, has_tables=True) == ""
