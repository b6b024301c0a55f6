"""Arrays and JSON on disk, whole or not at all: written aside, then renamed; never pickled."""

from __future__ import annotations

import json
import os
import time
import zipfile
import zlib
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import uuid4

import numpy as np

from blmm_bids.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray


Result = TypeVar("Result")
# Seconds between attempts.
PAUSES = (0.1, 0.4, 1.5)
ASIDE_SUFFIX = ".tmp"
WRITE_ADVICE = "Free space, or give another --work-dir, and run again"


def aside_of(path: Path) -> Path:
    """Name a file beside ``path`` to write first; no two writers, on any host, share it."""
    return path.with_name(f".{path.name}.{uuid4().hex}{ASIDE_SUFFIX}")


def save_arrays(path: Path, arrays: Mapping[str, Any]) -> None:
    """Write named arrays as an uncompressed ``.npz``.

    Raises
    ------
    StorageError
        Disk full or not writable.
    """
    named: dict[str, Any] = {name: np.asarray(array) for name, array in arrays.items()}
    for name, array in named.items():
        if array.dtype.hasobject:
            msg = f"array '{name}' for {path.name} holds Python objects; only numbers and text are stored"
            raise TypeError(msg)
    aside = aside_of(path)
    try:
        with aside.open("wb") as file:
            np.savez(file, **named)
        aside.replace(path)
    except OSError as error:
        msg = f"{path}: writing failed ({error.strerror or error}). {WRITE_ADVICE}"
        raise StorageError(msg) from error
    finally:
        aside.unlink(missing_ok=True)


def write_json_aside(path: Path, content: object) -> None:
    """Write JSON for this software's own use.

    Raises
    ------
    StorageError
        Disk full or not writable.
    """
    aside = aside_of(path)
    try:
        aside.write_text(json.dumps(content) + "\n", encoding="utf-8")
        aside.replace(path)
    except OSError as error:
        msg = f"{path}: writing failed ({error.strerror or error}). {WRITE_ADVICE}"
        raise StorageError(msg) from error
    finally:
        aside.unlink(missing_ok=True)


def load_arrays(path: Path, names: Sequence[str] | None = None) -> dict[str, NDArray[Any]]:
    """Read named arrays back, checksums included.

    Parameters
    ----------
    path : Path
        Written by `save_arrays`.
    names : sequence of str, optional
        Only these; all by default.

    Raises
    ------
    StorageError
        Absent, truncated or damaged, or without one of the names.
    """
    try:
        return patiently(lambda: _load_now(path, names), path)
    except FileNotFoundError as error:
        msg = f"{path}: not there; run again, it will be made anew"
        raise StorageError(msg) from error
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        if not isinstance(error, OSError):
            discard(path)
        msg = f"{path}: truncated or damaged ({error}); run again, it will be made anew"
        raise StorageError(msg) from error


def _load_now(path: Path, names: Sequence[str] | None) -> dict[str, NDArray[Any]]:
    with np.load(path, allow_pickle=False) as stored:
        return {name: stored[name] for name in (stored.files if names is None else names)}


def patiently(read: Callable[[], Result], path: Path) -> Result:
    """Read a file that is known to be there: what another host has just written may take a moment to appear.

    Raises
    ------
    FileNotFoundError
        Still not there after the last of `PAUSES`.
    """
    for pause in PAUSES:
        try:
            return read()
        except FileNotFoundError:
            time.sleep(pause)
            # Reading the directory makes a network file system ask its server again.
            with suppress(OSError), os.scandir(path.parent) as entries:
                any(entries)
    return read()


def discard(path: Path) -> None:
    """Delete a damaged file, so that the next run makes it anew instead of finding it again."""
    with suppress(OSError):
        path.unlink()


def is_whole(path: Path) -> bool:
    """Whether an ``.npz`` is there with its directory, which is written last."""
    return path.is_file() and zipfile.is_zipfile(path)
