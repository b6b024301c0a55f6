"""One run at a time in a directory: a lock file that says who holds it, and a heartbeat.

A lock whose run is gone is taken over: on the same host where no process has its id and start; of another
host, whose processes cannot be seen, where the file has not been touched for `SILENCE` seconds.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from blmm_bids.errors import BusyError, OutputError
from blmm_bids.outputs.atomic import aside_of
from blmm_bids.regular_files import LARGEST_JSON, read_regular

if TYPE_CHECKING:
    from collections.abc import Iterator

LOCK_NAME = ".blmm_lock.json"
HEARTBEAT = 30.0
# Far longer than a file server's pauses and its caches of attributes.
SILENCE = 900.0
# Removing a stale lock takes milliseconds; who claims to do it for longer was killed.
CLAIM_SECONDS, CLAIM_POLL = 10.0, 0.02


@dataclass(frozen=True)
class Holder:
    """Who holds a lock.

    Attributes
    ----------
    host : str
    pid : int
    started : str
        The process's start in the kernel's clock, for ids are used again; empty where that is not known.
    token : str
        Tells two locks of one process apart.
    """

    host: str
    pid: int
    started: str
    token: str

    @classmethod
    def own(cls) -> Holder:
        """Describe this process."""
        pid = os.getpid()
        return cls(socket.gethostname(), pid, _start_of(pid), uuid4().hex)

    @classmethod
    def read(cls, path: Path) -> Holder | None:
        """Read a lock; None where it is gone, was cut off while it was written, or names no process."""
        try:
            content = json.loads(read_regular(path, LARGEST_JSON))
            holder = cls(*(kind(content[name]) for name, kind in _FIELDS.items()))
        except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
            return None
        # Other numbers are no process's: 0 and those below stand for groups, which are always there.
        return holder if 0 < holder.pid <= _LARGEST_PID else None


# As the kernel's pid_t has it.
_LARGEST_PID = 2**31 - 1
_FIELDS = {"host": str, "pid": int, "started": str, "token": str}


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold the lock of a directory while the body runs.

    Parameters
    ----------
    directory : Path
        It must exist.

    Raises
    ------
    BusyError
        A run that is alive holds it; names its host and process.
    OutputError
        The lock cannot be written.
    """
    path = directory / LOCK_NAME
    own = Holder.own()
    try:
        _take(path, own)
    except OSError as error:
        msg = f"{path}: cannot be written ({error.strerror or error}); name another directory"
        raise OutputError(msg) from error
    over = threading.Event()
    beat = threading.Thread(target=_beat, args=(path, own, over), name="heartbeat", daemon=True)
    beat.start()
    try:
        yield
    finally:
        over.set()
        beat.join(timeout=1.0)
        # The directory may be gone by now, and the lock with it.
        if Holder.read(path) == own:
            with suppress(OSError):
                path.unlink()


def _take(path: Path, own: Holder) -> None:
    """Create the lock; or replace one whose run is gone."""
    aside = aside_of(path)
    aside.write_text(json.dumps(asdict(own)), encoding="utf-8")
    try:
        while True:
            try:
                # Unlike O_EXCL, a link never shows a lock that is not yet written.
                os.link(aside, path)
            except FileExistsError:
                found = Holder.read(path)
                if found is not None and is_alive(path, found):
                    raise BusyError(_refusal(path, found)) from None
                _remove_stale(path, aside, found)
            except OSError:
                # Some file systems have no links.
                _take_exclusively(path, own)
                return
            else:
                return
    finally:
        aside.unlink(missing_ok=True)


def _remove_stale(path: Path, aside: Path, found: Holder | None) -> None:
    """Remove a lock whose run is gone, unless another has taken its place by now.

    Of several runs that find it stale, one at a time may remove a lock, and looks again before it does.
    """
    claim = path.with_name(f"{path.name}.claim")
    try:
        os.link(aside, claim)
    except FileExistsError:
        # One from the future is older still: the clock was put back since.
        if abs(_silence(claim)) > CLAIM_SECONDS:
            claim.unlink(missing_ok=True)
        time.sleep(CLAIM_POLL)
        return
    try:
        if Holder.read(path) == found:
            path.unlink(missing_ok=True)
    finally:
        claim.unlink(missing_ok=True)


def _take_exclusively(path: Path, own: Holder) -> None:
    found = Holder.read(path)
    if found is not None and is_alive(path, found):
        raise BusyError(_refusal(path, found))
    path.unlink(missing_ok=True)
    with path.open("x", encoding="utf-8") as file:
        file.write(json.dumps(asdict(own)))


def is_alive(path: Path, holder: Holder) -> bool:
    """Whether the run that holds a lock may still be there.

    Parameters
    ----------
    path : Path
        The lock.
    holder : Holder
        What it says.
    """
    if holder.host != socket.gethostname():
        return _silence(path) < SILENCE
    try:
        os.kill(holder.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return not holder.started or _start_of(holder.pid) in ("", holder.started)


def _silence(path: Path) -> float:
    """Seconds since a lock was touched, by the file system's own clock."""
    probe = aside_of(path)
    try:
        probe.touch()
        return probe.stat().st_mtime - path.stat().st_mtime
    except FileNotFoundError:
        return float("inf")
    finally:
        probe.unlink(missing_ok=True)


def _beat(path: Path, own: Holder, over: threading.Event) -> None:
    while not over.wait(HEARTBEAT):
        if Holder.read(path) == own:
            with suppress(OSError):
                os.utime(path)


def _start_of(pid: int) -> str:
    """Field 22 of Linux's ``/proc/PID/stat``; the name before it may hold blanks and parentheses."""
    try:
        return (
            Path(f"/proc/{pid}/stat")
            .read_text(encoding="ascii", errors="replace")
            .rpartition(")")[2]
            .split()[19]
        )
    except (OSError, IndexError):
        return ""


def _refusal(path: Path, holder: Holder) -> str:
    return (
        f"{path.parent}: another run is at work there (process {holder.pid} on {holder.host}). Wait for its "
        f"end, or name another directory; if it is certain that it has ended, delete {path}"
    )
