"""Reading BIDS tables: tab-separated text with a header, ``n/a`` for what is missing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from blmm_bids.errors import InvalidBIDSError, MissingInputError, UsageError
from blmm_bids.regular_files import LARGEST_TABLE, read_regular

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

UTF_8: Final = "utf-8-sig"
_NAMES: Final = {UTF_8: "UTF-8"}
MISSING: Final = frozenset({"", "n/a", "nan"})


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a table; missing cells are None.

    Attributes
    ----------
    cells : mapping of str to (str or None)
    number : int
        Counted from 1, the header being line 1.
    """

    cells: Mapping[str, str | None]
    number: int


@dataclass(frozen=True)
class Tsv:
    """A table as text."""

    path: Path
    columns: tuple[str, ...]
    lines: tuple[Line, ...]


def read_tsv(path: Path, encoding: str = UTF_8) -> Tsv:
    """Read a table; a byte-order mark, any line ending and empty lines are accepted.

    Parameters
    ----------
    path : Path
    encoding : str
        Python's name of it, where the table is not in BIDS's UTF-8.

    Raises
    ------
    InvalidBIDSError
        Bytes of another encoding, no header, a column twice, or a line with another number of cells; the
        message names file and line.
    MissingInputError
        The file cannot be read.
    """
    numbered = [
        (number, line.split("\t"))
        for number, line in enumerate(_text_lines(path, encoding), start=1)
        if line.strip()
    ]
    if not numbered:
        msg = f"{path} is empty; a header line was expected."
        raise InvalidBIDSError(msg)
    header_number, header_cells = numbered[0]
    header = [_unquoted(cell) for cell in header_cells]
    _check_header(path, header_number, header)
    return Tsv(path, tuple(header), tuple(_line(path, header, number, row) for number, row in numbered[1:]))


def check_encoding(name: str) -> str:
    """Take the name of an encoding of text.

    Raises
    ------
    UsageError
        Python knows none of that name.
    """
    try:
        "".encode(name)
    except LookupError as error:
        msg = f"--table-encoding {name}: not an encoding of text; wanted utf-8, latin-1, cp1252, …"
        raise UsageError(msg) from error
    return name


def _text_lines(path: Path, encoding: str) -> list[str]:
    try:
        raw = read_regular(path, LARGEST_TABLE)
    except OSError as error:
        msg = f"{path} cannot be read ({error.strerror}). If it is a datalad link, run 'datalad get' on it."
        raise MissingInputError(msg) from error
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        msg = (
            f"{path}, line {line}: byte 0x{raw[error.start]:02x} is not {_NAMES.get(encoding, encoding)}. "
            "Save the file as UTF-8 (in a spreadsheet: 'Text, tab-separated, UTF-8'), or say what it is in: "
            "--table-encoding latin-1."
        )
        raise InvalidBIDSError(msg) from error
    # Not str.splitlines: it also breaks at characters that may stand inside a cell.
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def _unquoted(cell: str) -> str:
    text = cell.strip()
    if len(text) > 1 and text.startswith('"') and text.endswith('"'):
        return text[1:-1].replace('""', '"').strip()
    return text


def _check_header(path: Path, number: int, header: list[str]) -> None:
    if len(header) == 1 and "," in header[0]:
        msg = f"{path}, line {number}: the header has commas and no tab. Save the table tab-separated."
        raise InvalidBIDSError(msg)
    if "" in header:
        msg = f"{path}, line {number}: column {header.index('') + 1} has no name. Name it or remove it."
        raise InvalidBIDSError(msg)
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        msg = f"{path}, line {number}: column '{twice[0]}' is there twice. Rename or remove one."
        raise InvalidBIDSError(msg)


def _line(path: Path, header: list[str], number: int, row: list[str]) -> Line:
    cells = [_unquoted(cell) for cell in row]
    while len(cells) > len(header) and not cells[-1]:
        cells.pop()
    if len(cells) != len(header):
        msg = (
            f"{path}, line {number}: {len(cells)} cells, but the header has {len(header)}. "
            "Write n/a where a value is missing."
        )
        raise InvalidBIDSError(msg)
    values = [None if cell.casefold() in MISSING else cell for cell in cells]
    return Line(dict(zip(header, values, strict=True)), number)
