"""Arrays on disk, whole or not at all: written aside, then renamed; never pickled."""

from __future__ import annotations

import zipfile
import zlib
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np

from blmm_bids.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray


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
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in (stored.files if names is None else names)}
    except FileNotFoundError as error:
        msg = f"{path}: not there; run again, it will be made anew"
        raise StorageError(msg) from error
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        msg = f"{path}: truncated or damaged ({error}); run again with --clean-workdir"
        raise StorageError(msg) from error


def is_whole(path: Path) -> bool:
    """Whether an ``.npz`` is there with its directory, which is written last."""
    return path.is_file() and zipfile.is_zipfile(path)
