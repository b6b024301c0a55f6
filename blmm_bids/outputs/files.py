"""Output files that are either whole or absent: written beside their place, then renamed."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import date
from pathlib import Path, PurePath
from typing import Any, BinaryIO

from blmm_bids.errors import OutputError, StorageError

# File systems take 255 bytes, of which a file that is written aside needs some more than its name has.
PART_SUFFIX = ".part"
LONGEST_NAME = 255 - len(".") - len(".4194304") - len(PART_SUFFIX)
_OUT_OF_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EIO)


@contextmanager
def opened_aside(path: Path) -> Iterator[BinaryIO]:
    """Open a file beside `path` for writing, and rename it to `path` when the body ends well.

    Parameters
    ----------
    path : Path
        Where the file shall be; its directory is made if need be.

    Yields
    ------
    BinaryIO
        The open file.

    Raises
    ------
    OutputError
        The directory or the file cannot be created.
    StorageError
        The disk is full, a quota is reached, or the device fails.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}{PART_SUFFIX}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with aside.open("wb") as file:
                yield file
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)
    except OSError as error:
        kind = StorageError if error.errno in _OUT_OF_SPACE else OutputError
        msg = f"cannot write '{path}': {error.strerror}; free space or choose another output directory"
        raise kind(msg) from error


def write_text(path: Path, text: str) -> Path:
    """Write `text` to `path` in UTF-8 with the line ends that it has, atomically."""
    with opened_aside(path) as file:
        file.write(text.encode("utf-8"))
    return path


def write_json(path: Path, content: Mapping[str, Any]) -> Path:
    """Write `content` to `path` as indented JSON in the key order given, atomically.

    Paths, and the dates that YAML has and JSON has not, become text. Not-a-number has no JSON spelling; it
    raises ``ValueError`` here rather than making a file that other programs refuse.
    """
    return write_text(path, json_text(content))


def json_text(content: Mapping[str, Any]) -> str:
    """Text of the file that `write_json` writes."""
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False, default=_as_text) + "\n"


def _as_text(value: object) -> str:
    if isinstance(value, PurePath):
        return value.as_posix()
    if isinstance(value, date):
        return value.isoformat()
    msg = f"JSON has no {type(value).__name__}"
    raise TypeError(msg)
