"""The plain files that a ``blmm_config.yml`` names: lists of paths, matrices and factors without header."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from blmm_bids.errors import DataError, MissingInputError
from blmm_bids.regular_files import LARGEST_TABLE, read_regular
from blmm_bids.stats.model import FloatArray

_MISSING = ("", "nan", "na", "n/a", "none", "null", "inf", "-inf", "+inf", "infinity")


def read_text(path: Path) -> str:
    """Text of a file in UTF-8, with or without a byte order mark.

    Raises
    ------
    MissingInputError
        It does not exist or cannot be read.
    DataError
        It is not text, or too large to be what it should be.
    """
    try:
        return read_regular(path, LARGEST_TABLE).decode("utf-8-sig")
    except OSError as error:
        msg = f"{path}: cannot be read: {error.strerror}; check the path in the config file"
        raise MissingInputError(msg) from error
    except UnicodeDecodeError as error:
        msg = f"{path}: is not text in UTF-8 (byte {error.start}); save it as plain text"
        raise DataError(msg) from error


def path_beside(file: Path, text: str) -> Path:
    """Path that `text` means in a file: relative to its directory, ``~`` is the home directory."""
    # pathlib's expanduser raises for a user who does not exist; this one leaves the name alone.
    return file.parent / os.path.expanduser(text)  # noqa: PTH111


def read_path_list(path: Path, what: str) -> tuple[Path, ...]:
    """Paths of a list, one a line; relative ones are relative to the list.

    Parameters
    ----------
    path : Path
        The list. Blank lines at its end are fine.
    what : str
        What the paths are of, for messages.

    Raises
    ------
    MissingInputError, DataError
        As `read_text`; no path, a blank line in the middle, the same image twice.
    """
    lines = _lines(path)
    if not lines:
        msg = f"{path}: lists no {what}; write one path a line"
        raise DataError(msg)
    paths = tuple(path_beside(path, line) for line in lines)
    if what == "image" and len(set(paths)) < len(paths):
        first: dict[Path, int] = {}
        for number, item in enumerate(paths, start=1):
            if (other := first.setdefault(item, number)) != number:
                msg = f"{path}: lines {other} and {number} are the same image, {item}; list each image once"
                raise DataError(msg)
    return paths


def read_matrix(path: Path, n_rows: int) -> FloatArray:
    """Read a matrix of numbers without header.

    Parameters
    ----------
    path : Path
        Values between commas, semicolons, tabs or blanks.
    n_rows : int
        Number of images.

    Returns
    -------
    (n_rows, column) float64

    Raises
    ------
    MissingInputError, DataError
        As `read_text`; a header line, a value that is not a number, rows of different lengths, too
        many or too few rows. The message names file and line.
    """
    rows = [_split(line) for line in _lines(path)]
    parsed = [[_number(cell) for cell in row] for row in rows]
    for line, (row, values) in enumerate(zip(rows, parsed, strict=True), start=1):
        bad = [cell for cell, value in zip(row, values, strict=True) if value is None]
        if bad:
            raise DataError(_bad_cell(path, line, bad[0], all(value is None for value in values)))
        if len(row) != len(rows[0]):
            msg = f"{path}, line {line}: {len(row)} values; line 1 has {len(rows[0])}; each needs as many"
            raise DataError(msg)
    _check_rows(path, rows, n_rows)
    return np.array(parsed, dtype=np.float64)


def read_factor(path: Path, n_rows: int) -> tuple[str, ...]:
    """Read a factor: the level of each image, as a number or a label, without header.

    Parameters
    ----------
    path : Path
        One value a line.
    n_rows : int
        Number of images.

    Returns
    -------
    tuple of str
        Labels; whole numbers in one spelling (``1`` for ``1.0``).

    Raises
    ------
    MissingInputError, DataError
        As `read_text`; several columns, a missing value, a header line, too many or too few rows.
    """
    rows = [_split_label(line) for line in _lines(path)]
    for line, row in enumerate(rows, start=1):
        if len(row) != 1:
            msg = f"{path}, line {line}: {len(row)} values; a factor has one, the level of the image"
            raise DataError(msg)
        if row[0].lower() in _MISSING:
            msg = f"{path}, line {line}: the level is missing ('{row[0]}'); each image needs one"
            raise DataError(msg)
    numbers = [_number(row[0]) for row in rows]
    if len(rows) > 1 and numbers[0] is None and all(number is not None for number in numbers[1:]):
        raise DataError(_bad_cell(path, 1, rows[0][0], is_header=True))
    _check_rows(path, rows, n_rows)
    return tuple(
        row[0] if number is None or number != int(number) else str(int(number))
        for row, number in zip(rows, numbers, strict=True)
    )


def order_levels(labels: Sequence[str]) -> tuple[str, ...]:
    """Distinct labels: by value where all are numbers, else by spelling."""
    distinct = set(labels)
    if all(_number(label) is not None for label in distinct):
        return tuple(sorted(distinct, key=float))
    return tuple(sorted(distinct))


def _lines(path: Path) -> list[str]:
    """Lines without blank ones at the end."""
    lines = [line.strip() for line in re.split(r"\r\n|\n|\r", read_text(path))]
    while lines and not lines[-1]:
        lines.pop()
    for number, line in enumerate(lines, start=1):
        if not line:
            msg = f"{path}, line {number}: is blank and others follow; remove it: lines go with images"
            raise DataError(msg)
        if "\0" in line:
            msg = f"{path}, line {number}: is not text; is it the right file?"
            raise DataError(msg)
    return lines


def _split(line: str) -> list[str]:
    for separator in (",", ";", "\t"):
        if separator in line:
            return [cell.strip().strip("\"'") for cell in line.split(separator)]
    if line[0] in "\"'":
        return [line.strip("\"'")]
    return line.split()


def _split_label(line: str) -> list[str]:
    """Cells of a factor's line; a label may have blanks in it, several numbers are several cells."""
    cells = _split(line)
    is_label = not any(separator in line for separator in ",;\t") and None in map(_number, cells)
    return [line.strip("\"'")] if is_label else cells


def _number(cell: str) -> float | None:
    """Finite number of a cell, else None."""
    # Underscores and words are numbers to Python, not to people.
    if not re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", cell):
        return None
    number = float(cell)
    return number if np.isfinite(number) else None


def _bad_cell(path: Path, line: int, cell: str, is_header: bool) -> str:  # noqa: FBT001
    if line == 1 and is_header and cell.lower() not in _MISSING:
        return f"{path}, line 1: '{cell}' looks like a header; these files have none: remove the line"
    if cell.lower() in _MISSING:
        return f"{path}, line {line}: a value is missing ('{cell}'); leave the image out of all files"
    return f"{path}, line {line}: '{cell}' is not a number; code text as columns of numbers"


def _check_rows(path: Path, rows: Sequence[Sequence[str]], n_rows: int) -> None:
    if len(rows) == n_rows:
        return
    msg = f"{path}: {len(rows)} rows and {n_rows} images in Y_files; wanted one row an image, no header"
    if len(rows) == n_rows + 1:
        msg += f" (is the first line, '{','.join(rows[0])}', a header?)"
    raise DataError(msg)
