"""Which encoding a text is in, told by its bytes."""

from __future__ import annotations

import codecs
from typing import Final

from blmm_bids.errors import InvalidBIDSError, UsageError

BY_BYTES: Final = "auto"
"""The encoding's name that has the bytes say it."""

# UTF-32's mark begins with UTF-16's.
_MARKS: Final = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_NAMES: Final = {"utf-8": "UTF-8", "cp1252": "UTF-8 nor Windows' cp1252"}
# What spreadsheets of Western Europe write; Latin-1 is the same but for control characters.
_FALLBACK: Final = "cp1252"


def check_encoding(name: str) -> str:
    """Take the name of an encoding of text.

    Raises
    ------
    UsageError
        Python knows none of that name.
    """
    if name == BY_BYTES:
        return name
    try:
        "".encode(name)
    except LookupError as error:
        msg = f"--table-encoding {name}: not an encoding of text; wanted utf-8, latin-1, cp1252, …"
        raise UsageError(msg) from error
    return name


def decode(raw: bytes, encoding: str, where: str) -> tuple[str, str]:
    """Decode a table.

    Parameters
    ----------
    raw : bytes
    encoding : str
        ``"auto"`` tells it by the bytes: their mark, else UTF-16 where every other byte is zero, else UTF-8,
        else cp1252.
    where : str
        The file, for messages.

    Returns
    -------
    text : str
    notice : str
        What was guessed; empty where the bytes say it themselves.

    Raises
    ------
    InvalidBIDSError
        The bytes are not of the encoding; the message names the line.
    """
    found = _told_by_bytes(raw) if encoding == BY_BYTES else encoding
    try:
        text = raw.decode(found)
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        msg = (
            f"{where}, line {line}: byte 0x{raw[error.start]:02x} is not {_NAMES.get(found, found)}. "
            "Save the file as UTF-8 (in a spreadsheet: 'Text, tab-separated, UTF-8'), or say what it is in: "
            "--table-encoding latin-1."
        )
        raise InvalidBIDSError(msg) from error
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        msg = f"{where}, line {line}: a zero byte, so this is no text. Save the table as UTF-8 text."
        raise InvalidBIDSError(msg)
    # Python's "utf-8" keeps the mark.
    text = text.removeprefix("\ufeff")
    if found != _FALLBACK or encoding != BY_BYTES:
        return text, ""
    number, line_text = next(
        (number, line) for number, line in enumerate(text.split("\n"), start=1) if not line.isascii()
    )
    shown = line_text.strip().replace("\t", " ")[:60]
    return text, (
        f"{where} is not in UTF-8 and was read as cp1252 (line {number}: '{shown}'); "
        "--table-encoding NAME says another"
    )


def _told_by_bytes(raw: bytes) -> str:
    for mark, encoding in _MARKS:
        if raw.startswith(mark):
            return encoding
    zeros = raw[:4096]
    for offset, encoding in ((1, "utf-16-le"), (0, "utf-16-be")):
        here, other = zeros[offset::2].count(0), zeros[1 - offset :: 2].count(0)
        if here > len(zeros) // 4 and not other:
            return encoding
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        return _FALLBACK
    return "utf-8"
