"""Reading BIDS tables: tab-separated text with a header."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from blmm_bids.bids.encodings import BY_BYTES, decode
from blmm_bids.errors import BlmmError, InvalidBIDSError, MissingInputError
from blmm_bids.regular_files import LARGEST_TABLE, open_regular, read_regular

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

_LONGEST_HEADER: Final = 1 << 20
_MARKS: Final = {"commas": ",", "semicolons": ";", "blanks": " "}


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a table.

    Attributes
    ----------
    cells : mapping of str to str
        Text of each column, without the blanks and quotes around it.
    number : int
        Counted from 1, the header being line 1.
    """

    cells: Mapping[str, str]
    number: int


@dataclass(frozen=True)
class Tsv:
    """A table as text.

    Attributes
    ----------
    path : Path
    columns : tuple of str
        Columns without a name are left out, for nothing can refer to them.
    lines : tuple of Line
    twice : tuple of str
        Columns whose name is there more than once; only the last one's cells are in the lines.
    notice : str
        What was guessed of its encoding.
    """

    path: Path
    columns: tuple[str, ...]
    lines: tuple[Line, ...]
    twice: tuple[str, ...] = ()
    notice: str = ""


def read_tsv(path: Path, encoding: str = BY_BYTES) -> Tsv:
    """Read a table; a byte-order mark, any line ending and empty lines are accepted.

    Parameters
    ----------
    path : Path
    encoding : str
        Python's name of it, or ``"auto"``: the bytes say it.

    Raises
    ------
    InvalidBIDSError
        Bytes of another encoding, no header, or a line with another number of cells; the message names file
        and line.
    MissingInputError
        The file cannot be read.
    """
    return _as_table(path, *_text_of(path, encoding), lambda line: line.split("\t"))


def read_any_table(path: Path, encoding: str = BY_BYTES) -> tuple[Tsv, str]:
    """Read a table whose cells are between tabs, commas, semicolons or blanks, as its header shows.

    Parameters
    ----------
    path, encoding
        As for `read_tsv`.

    Returns
    -------
    table : Tsv
    separator : str
        What is between the cells, in words; empty for tabs.

    Raises
    ------
    InvalidBIDSError, MissingInputError
        As for `read_tsv`.
    """
    text, notice = _text_of(path, encoding)
    separator = _separator(_header_of(text))
    if not separator:
        return _as_table(path, text, notice, lambda line: line.split("\t")), ""
    if separator == "blanks":
        # A table that stood in a script may still have the script's line ends.
        return _as_table(path, text, notice, lambda line: line.rstrip(" \\").split()), separator
    mark = _MARKS[separator]
    try:
        table = _as_table(path, text, notice, lambda line: next(csv.reader([line], delimiter=mark), []))
    except csv.Error as error:
        msg = f"{path}: the table between {separator} cannot be read ({error}). Save it tab-separated."
        raise InvalidBIDSError(msg) from error
    return table, separator


def _separator(header: str) -> str:
    if "\t" in header:
        return ""
    return next((words for words, mark in _MARKS.items() if mark in header.strip()), "")


def _as_table(path: Path, text: str, notice: str, cells_of: Callable[[str], list[str]]) -> Tsv:
    numbered = [
        (number, [_unquoted(cell) for cell in cells_of(line)])
        for number, line in enumerate(_lines(text), start=1)
        if line.strip()
    ]
    if not numbered:
        msg = f"{path} is empty; a header line was expected."
        raise InvalidBIDSError(msg)
    number, header = numbered[0]
    _check_header(path, number, header)
    named = dict.fromkeys(name for name in header if name)
    twice = tuple(name for name in named if header.count(name) > 1)
    lines = tuple(_line(path, header, number, row) for number, row in numbered[1:])
    return Tsv(path, tuple(named), lines, twice, notice)


def read_header(path: Path, encoding: str = BY_BYTES) -> tuple[str, ...]:
    """Names of a table's columns as far as they can be read, for a table that cannot be read as a whole."""
    try:
        text, _ = _text_of(path, encoding)
    except MissingInputError:
        return ()
    except BlmmError:
        with open_regular(path) as file:
            text = file.read(_LONGEST_HEADER).decode("utf-8", errors="replace")
    names = [_unquoted(cell) for cell in _header_of(text).split("\t")]
    return tuple(dict.fromkeys(name for name in names if name)) if len(names) > 1 else ()


def _text_of(path: Path, encoding: str) -> tuple[str, str]:
    """Text of a file, and what was guessed of its encoding."""
    try:
        raw = read_regular(path, LARGEST_TABLE)
    except OSError as error:
        msg = f"{path} cannot be read ({error.strerror}). If it is a datalad link, run 'datalad get' on it."
        raise MissingInputError(msg) from error
    return decode(raw, encoding, str(path))


def _header_of(text: str) -> str:
    return next((line for line in _lines(text) if line.strip()), "")


def _lines(text: str) -> list[str]:
    # Not str.splitlines: it also breaks at characters that may stand inside a cell.
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def _unquoted(cell: str) -> str:
    text = cell.strip()
    if len(text) > 1 and text.startswith('"') and text.endswith('"'):
        return text[1:-1].replace('""', '"').strip()
    return text


def _check_header(path: Path, number: int, header: Sequence[str]) -> None:
    if len(header) == 1 and (separator := _separator(header[0])):
        msg = f"{path}, line {number}: the header has {separator} and no tab. Save the table tab-separated."
        raise InvalidBIDSError(msg)


def _line(path: Path, header: Sequence[str], number: int, cells: list[str]) -> Line:
    # A tab too many at the end of the header, or of a line.
    n_named = max((place for place, name in enumerate(header, start=1) if name), default=0)
    while len(cells) > n_named and not cells[-1]:
        cells.pop()
    if not n_named <= len(cells) <= len(header):
        msg = (
            f"{path}, line {number}: {len(cells)} cells, but the header has {n_named}. "
            "Write n/a where a value is missing."
        )
        raise InvalidBIDSError(msg)
    return Line({name: cell for name, cell in zip(header, cells, strict=False) if name}, number)
