"""Opening what the user names: regular files alone, and never more of them than was asked for.

A named pipe would be waited for until somebody writes, a device may never end, and a sparse file of a few
bytes on disk may hold terabytes of zeros.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import IO, TYPE_CHECKING

from blmm_bids.errors import DataError, MissingInputError

if TYPE_CHECKING:
    from pathlib import Path

# A table of 100,000 images and 100 columns is 200 MB of text at most, and a sidecar is a page.
LARGEST_TABLE = 1_000_000_000
LARGEST_JSON = 100_000_000
_KINDS = (
    (stat.S_ISFIFO, "a named pipe (FIFO)"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def open_regular(path: Path) -> IO[bytes]:
    """Open a file for reading, unbuffered; links are followed.

    Raises
    ------
    MissingInputError
        It is a named pipe, a socket or a device.
    OSError
        As `open` raises; for a directory, too.
    """
    # Before it is opened: that alone rewinds a tape.
    _refuse(path, path.stat().st_mode)
    # It may have been replaced since, by what an ordinary `open` would wait for.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        _refuse(path, os.fstat(descriptor).st_mode)
    except BaseException:
        os.close(descriptor)
        raise
    return open(descriptor, "rb", buffering=0)  # noqa: PTH123


def read_regular(path: Path, largest: int) -> bytes:
    """Read all of a file that is no larger than it may be.

    Parameters
    ----------
    path : Path
    largest : int
        Bytes that a file of its kind has at most.

    Raises
    ------
    DataError
        It is larger.
    MissingInputError, OSError
        As `open_regular`.
    """
    # Its size says so at once; but that of a file of /proc is always 0.
    if path.stat().st_size <= largest:
        content = read_at_most(path, largest + 1)
        if len(content) <= largest:
            return content
    msg = f"{path}: larger than {largest // 10**6} MB; is it the right file?"
    raise DataError(msg)


def read_at_most(path: Path, n_bytes: int) -> bytes:
    """Read the first bytes of a file, all of a shorter one; raises as `open_regular`."""
    with open_regular(path) as file:
        # A read of so many bytes sets aside as many, which is too much where the file is short.
        n_bytes = min(n_bytes, max(os.fstat(file.fileno()).st_size + 1, 2**16))
        pieces = []
        while n_bytes > 0 and (piece := file.read(n_bytes)):
            pieces.append(piece)
            n_bytes -= len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _refuse(path: Path, mode: int) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    for is_kind, name in _KINDS:
        if is_kind(mode):
            msg = f"{path}: is {name}, which is not read; copy what it gives into a file, and name that"
            raise MissingInputError(msg)
