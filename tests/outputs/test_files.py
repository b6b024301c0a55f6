"""Files are whole or absent."""

from __future__ import annotations

import errno
import json
from datetime import date
from pathlib import Path

import pytest

from blmm_bids.errors import OutputError, StorageError
from blmm_bids.outputs.files import opened_aside, write_json, write_text


def test_opened_aside__keeps_the_old_file_when_writing_fails(tmp_path):
    path = write_text(tmp_path / "a.txt", "old")
    with pytest.raises(TypeError), opened_aside(path) as file:
        file.writelines([b"half", None])
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.parametrize(
    ("code", "error"),
    [(errno.ENOSPC, StorageError), (errno.EDQUOT, StorageError), (errno.EACCES, OutputError)],
)
def test_opened_aside__tells_a_full_disk_from_a_closed_one(tmp_path, code, error):
    with pytest.raises(error, match=r"a\.txt"), opened_aside(tmp_path / "a.txt"):
        raise OSError(code, "reason")
    assert list(tmp_path.iterdir()) == []


def test_write_text__refuses_a_directory_that_is_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="file"):
        write_text(tmp_path / "file" / "a.txt", "x")


def test_write_json__keeps_order_and_letters_and_refuses_nan(tmp_path):
    path = write_json(tmp_path / "a.json", {"b": "µ", "a": [1]})
    assert path.read_bytes().decode() == '{\n  "b": "µ",\n  "a": [\n    1\n  ]\n}\n'
    plain = write_json(path, {"path": Path("a") / "b", "day": date(2020, 1, 2)})
    assert json.loads(plain.read_text()) == {"path": "a/b", "day": "2020-01-02"}
    with pytest.raises(TypeError, match="set"):
        write_json(path, {"a": set()})
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"a": float("nan")})
