from __future__ import annotations

import pytest

from blmm_bids.bids.tsv import read_header, read_tsv
from blmm_bids.errors import InvalidBIDSError, MissingInputError

PLAIN = "participant_id\tage\nsub-01\t3\nsub-02\tn/a\n"


@pytest.mark.parametrize(
    "content",
    [
        PLAIN.encode(),
        b"\xef\xbb\xbf" + PLAIN.replace("\n", "\r\n").encode() + b"\r\n",
        b"participant_id\tage\rsub-01\t3\rsub-02\tn/a",
        b'"participant_id"\t age \n\nsub-01\t"3"\t\nsub-02\tn/a\t\t\n',
        b"participant_id\tage\t\nsub-01\t3\nsub-02\tn/a\t\n",
        b"participant_id\tage\t\t\nsub-01\t3\t\t\nsub-02\tn/a\tsee notes\n",
        b"\tparticipant_id\tage\n0\tsub-01\t3\n1\tsub-02\tn/a\n",
        PLAIN.encode("utf-16"),
        PLAIN.encode("utf-16-le"),
        PLAIN.encode("utf-16-be"),
        b"\xfe\xff" + PLAIN.encode("utf-16-be"),
        PLAIN.encode("utf-32"),
    ],
)
def test_read_tsv__accepts_what_spreadsheets_write(tmp_path, content):
    path = tmp_path / "participants.tsv"
    path.write_bytes(content)
    table = read_tsv(path)
    assert table.columns == ("participant_id", "age")
    assert [line.cells for line in table.lines] == [
        {"participant_id": "sub-01", "age": "3"},
        {"participant_id": "sub-02", "age": "n/a"},
    ]
    assert table.notice == ""


@pytest.mark.parametrize("encoding", ["auto", "latin-1", "cp1252"])
def test_read_tsv__tells_the_encoding_by_the_bytes(tmp_path, encoding):
    path = tmp_path / "participants.tsv"
    path.write_bytes("participant_id\ttown\nsub-01\tBonn\nsub-02\tKöln\n".encode("latin-1"))
    table = read_tsv(path, encoding)
    assert table.lines[1].cells["town"] == "Köln"
    guessed = f"{path} is not in UTF-8 and was read as cp1252 (line 3: 'sub-02 Köln')"
    assert table.notice.startswith(guessed) is (encoding == "auto")


def test_read_tsv__columns_that_are_there_twice(tmp_path):
    path = tmp_path / "participants.tsv"
    path.write_bytes(b"participant_id\tage\tage\nsub-01\t3\t4\n")
    assert read_tsv(path).twice == ("age",)


def test_read_tsv__numbers_lines_as_an_editor_does(tmp_path):
    path = tmp_path / "x.tsv"
    path.write_bytes("a\nx\u2028y\n\nz\n".encode())
    assert [(line.number, line.cells["a"]) for line in read_tsv(path).lines] == [(2, "x\u2028y"), (4, "z")]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"participant_id,age\nsub-01,3\n", "commas and no tab"),
        (b"participant_id;age\nsub-01;3\n", "semicolons and no tab"),
        (b"participant_id age\nsub-01 3\n", "blanks and no tab"),
        (b"a\tb\n1\t2\n1\t\x00\x00\n", "line 3: a zero byte"),
        (b"a\tb\n1\t2\n1\n", "line 3: 1 cells, but the header has 2"),
        (b"a\tb\n1\t2\t3\n", "line 2: 3 cells"),
        (b"a\tb\n1\t2\n1\tJos\x81\n", "line 3: byte 0x81 is not UTF-8 nor Windows' cp1252"),
    ],
)
def test_read_tsv__names_file_and_line(tmp_path, content, said):
    path = tmp_path / "participants.tsv"
    path.write_bytes(content)
    with pytest.raises(InvalidBIDSError, match=rf"participants\.tsv.*{said}"):
        read_tsv(path)


def test_read_tsv__an_encoding_that_is_named_wins(tmp_path):
    path = tmp_path / "participants.tsv"
    path.write_bytes(b"a\tb\n1\tJos\xe9\n")
    with pytest.raises(InvalidBIDSError, match="line 2: byte 0xe9 is not UTF-8"):
        read_tsv(path, "utf-8")


@pytest.mark.parametrize(
    ("content", "columns"),
    [
        (b"a\tb\n1\n", ("a", "b")),
        (b"a\tb\t\n1\x81\n", ("a", "b")),
        ("a\tb\n1\n".encode("utf-16"), ("a", "b")),
        (b"a,b\n1,2\n", ()),
        (b"", ()),
    ],
)
def test_read_header__as_far_as_it_can_be_read(tmp_path, content, columns):
    path = tmp_path / "participants.tsv"
    path.write_bytes(content)
    assert read_header(path) == columns
    assert read_header(tmp_path / "absent.tsv") == ()


def test_read_tsv__link_without_content(tmp_path):
    path = tmp_path / "participants.tsv"
    path.symlink_to(tmp_path / "annex")
    with pytest.raises(MissingInputError, match="datalad get"):
        read_tsv(path)
