from __future__ import annotations

import pytest

from blmm_bids.bids.tsv import read_tsv
from blmm_bids.errors import InvalidBIDSError, MissingInputError


@pytest.mark.parametrize(
    "content",
    [
        b"participant_id\tage\nsub-01\t3\nsub-02\tn/a\n",
        b"\xef\xbb\xbfparticipant_id\tage\r\nsub-01\t3\r\nsub-02\tN/A\r\n\r\n",
        b"participant_id\tage\rsub-01\t3\rsub-02\t",
        b'"participant_id"\t age \n\nsub-01\t"3"\t\nsub-02\tNaN\t\t\n',
    ],
)
def test_read_tsv__accepts_what_spreadsheets_write(tmp_path, content):
    path = tmp_path / "participants.tsv"
    path.write_bytes(content)
    table = read_tsv(path)
    assert table.columns == ("participant_id", "age")
    assert [line.cells for line in table.lines] == [
        {"participant_id": "sub-01", "age": "3"},
        {"participant_id": "sub-02", "age": None},
    ]


def test_read_tsv__numbers_lines_as_an_editor_does(tmp_path):
    path = tmp_path / "x.tsv"
    path.write_bytes("a\nx\u2028y\n\nz\n".encode())
    assert [(line.number, line.cells["a"]) for line in read_tsv(path).lines] == [(2, "x\u2028y"), (4, "z")]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"participant_id,age\nsub-01,3\n", "commas and no tab"),
        (b"a\ta\n1\t2\n", "column 'a' is there twice"),
        (b"a\t\tb\n1\t2\t3\n", "column 2 has no name"),
        (b"a\tb\n1\t2\n1\n", "line 3: 1 cells, but the header has 2"),
        (b"a\tb\n1\t2\t3\n", "line 2: 3 cells"),
        (b"a\tb\n1\t2\n1\tJos\xe9\n", "line 3: byte 0xe9 is not UTF-8"),
    ],
)
def test_read_tsv__names_file_and_line(tmp_path, content, said):
    path = tmp_path / "participants.tsv"
    path.write_bytes(content)
    with pytest.raises(InvalidBIDSError, match=rf"participants\.tsv.*{said}"):
        read_tsv(path)


def test_read_tsv__link_without_content(tmp_path):
    path = tmp_path / "participants.tsv"
    path.symlink_to(tmp_path / "annex")
    with pytest.raises(MissingInputError, match="datalad get"):
        read_tsv(path)
