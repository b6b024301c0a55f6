"""What a file holds, told apart by little reading: the same for a copy of it on another machine."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from blmm_bids.errors import MissingInputError
from blmm_bids.regular_files import open_regular

_GZIP = b"\x1f\x8b"
# Ends of a gzip file have the checksum and the size of what is inside.
_END = 4096
_SAMPLES, _SAMPLE = 32, 4096
_THREADS = 8
_PAIRS = {".img": ".hdr", ".hdr": ".img"}


def content_identities(paths: Sequence[Path]) -> dict[Path, str]:
    """Identity of the content of each file, whatever its name, its place and its times.

    Of compressed files it has the size and the checksum that stands at the end, of others the size and a
    sample: all that another processing of the same images changes.

    Raises
    ------
    MissingInputError
        A file cannot be read.
    """
    distinct = list(dict.fromkeys(paths))
    with ThreadPoolExecutor(_THREADS) as pool:
        return dict(zip(distinct, pool.map(_identity, distinct), strict=True))


def _identity(path: Path) -> str:
    other = path.with_suffix(_PAIRS[path.suffix]) if path.suffix in _PAIRS else None
    try:
        both = [_of_file(path)] + ([_of_file(other)] if other is not None and other.exists() else [])
    except OSError as error:
        msg = f"{path}: cannot be read ({error.strerror or error})"
        raise MissingInputError(msg) from error
    return "+".join(both)


def _of_file(path: Path) -> str:
    digest = hashlib.sha256()
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        starts = [0, max(size - _END, 0)]
        if file.read(len(_GZIP)) != _GZIP:
            starts += [size * number // _SAMPLES for number in range(1, _SAMPLES)]
        for start in starts:
            file.seek(start)
            digest.update(file.read(_SAMPLE))
    return f"{size}-{digest.hexdigest()[:16]}"
