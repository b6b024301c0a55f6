"""Where compiled kernels are kept: whoever can write there runs code as this user, so nobody else may.

In order: ``NUMBA_CACHE_DIR``, at the user's word; ``XDG_CACHE_HOME`` or ``~/.cache``; the user's own folder
in the temporary directory; and a new folder that ends with the process, where the run's working files are if
there is room. A folder serves if it is this user's own and has room, and no one else can put another one in
its place.
"""

from __future__ import annotations

import atexit
import grp
import hashlib
import logging
import os
import pwd
import shutil
import stat
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Iterator

LOGGER = logging.getLogger(__name__)
# What the main process has settled on, for processes that it starts.
CACHE_FOLDER = "BLMM_CACHE_FOLDER"
_PRIVATE = 0o700
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
# All kernels of one processor take some 6 MB; a disk that is nearly full is left to others.
_ROOM = 32 * 2**20
_said: list[str] = []


class _UnfitError(Exception):
    """Why a folder does not serve."""


def cache_name() -> str:
    """Name of a folder, keyed by the kernels' source.

    numba looks at a kernel's own file when it decides whether a cached build is stale, not at the
    files of the kernels that it calls; the hash of all of them is what makes the cache true.
    """
    digest = hashlib.sha256()
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    return f"blmm-bids-numba-{digest.hexdigest()[:16]}"


@contextmanager
def settled_cache(spare: Path | None = None) -> Iterator[None]:
    """Choose the folder for this process and those that it starts on this machine until the context ends.

    Parameters
    ----------
    spare : Path, optional
        Where there is room if nothing else has it: a run's working directory, or what it will be in.
    """
    before = os.environ.get(CACHE_FOLDER)
    os.environ[CACHE_FOLDER] = str(find_cache_folder(spare))
    try:
        yield
    finally:
        if before is None:
            del os.environ[CACHE_FOLDER]
        else:
            os.environ[CACHE_FOLDER] = before


def find_cache_folder(spare: Path | None = None) -> Path:
    """Find or make a folder for compiled kernels, or the one that is settled on; see `settled_cache`."""
    name = cache_name()
    settled = os.environ.get(CACHE_FOLDER)
    if settled and Path(settled).name.startswith(name) and os.access(settled, os.W_OK | os.X_OK):
        return Path(settled)
    shared = os.environ.get("NUMBA_CACHE_DIR")
    makers = [(shared, _make_shared)]
    makers += [(root, _make_private) for root in (_own_cache(), _in_temporary())]
    refusals = []
    for root, make in makers:
        if not root:
            continue
        try:
            folder = make(_path(root) / name)
        except OSError as error:
            refusals.append(f"{root} ({error.strerror or error})")
        except _UnfitError as error:
            refusals.append(f"{root} ({error})")
        else:
            break
    else:
        folder = _make_anew(name, spare)
    if refusals:
        _said.append(f"compiled kernels are kept in {folder}, not in {', '.join(refusals)}")
    return folder


def say_where() -> None:
    """Say once, where it is heard, that the folder is not where it is expected."""
    while _said:
        LOGGER.warning("%s", _said.pop())


def _make_anew(name: str, spare: Path | None) -> Path:
    """Make a private folder that ends with this process."""
    near = next((path for path in (spare, *spare.parents) if path.is_dir()), None) if spare else None
    try:
        if near is not None:
            near = near.resolve()
            for path in (near, *near.parents):
                _check_parent(path)
            _check_room(near)
    except (OSError, _UnfitError):
        near = None
    folder = Path(tempfile.mkdtemp(prefix=name, dir=near))
    atexit.register(_remove, folder, os.getpid())
    return folder


def _path(text: str) -> Path:
    # pathlib's expanduser raises where there is no home.
    return Path(os.path.abspath(os.path.expanduser(text)))  # noqa: PTH100, PTH111


def _own_cache() -> str:
    return os.environ.get("XDG_CACHE_HOME") or "~/.cache"


def _in_temporary() -> str:
    return f"{tempfile.gettempdir()}/blmm-bids-{os.getuid()}"


def _make_shared(folder: Path) -> Path:
    """Take a folder that the user names, whoever else uses it."""
    folder.mkdir(parents=True, exist_ok=True)
    for place in (folder, *filter(Path.is_dir, folder.iterdir())):
        # Somebody else's is read by way of `link_prebuilt`.
        if not os.access(place, os.W_OK | os.X_OK):
            _refuse("is not writable")
    _check_room(folder)
    return folder


def _make_private(folder: Path) -> Path:
    """Make a folder below directories that nobody else can change; its real path."""
    # What is checked is what is used: no link is followed after this.
    folder = folder.parent.resolve() / folder.name
    missing = [path for path in (folder, *folder.parents) if not _is_there(path)]
    for path in reversed(missing):
        # Not `parents=True`, which leaves their modes to the umask.
        with suppress(FileExistsError):
            path.mkdir(mode=_PRIVATE)
    for path in reversed(folder.parents):
        _check_parent(path)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode):
        _refuse(f"{folder} is no directory")
    if found.st_uid != os.geteuid():
        _refuse(f"{folder} is another user's")
    if found.st_mode & _OTHERS_WRITE:
        _refuse(f"others may write to {folder}")
    if not os.access(folder, os.W_OK | os.X_OK):
        _refuse("is not writable")
    _check_room(folder)
    return folder


def _is_there(path: Path) -> bool:
    try:
        path.lstat()
    except FileNotFoundError:
        return False
    return True


def _check_parent(path: Path) -> None:
    """Look for who could put another folder in the place of what is in this one."""
    found = path.lstat()
    if stat.S_ISLNK(found.st_mode):
        _refuse(f"{path} is a link")
    if found.st_uid not in {0, os.geteuid(), *_unknown_users()}:
        _refuse(f"{path} is another user's")
    is_sticky = bool(found.st_mode & stat.S_ISVTX)
    others = found.st_mode & _OTHERS_WRITE
    if others == stat.S_IWGRP and _is_private_group(found.st_gid):
        others = 0
    if others and not is_sticky:
        _refuse(f"others may write to {path}")


def _is_private_group(gid: int) -> bool:
    """Whether it is the group that has a user's name and nobody else, as many systems make one a user."""
    try:
        group, user = grp.getgrgid(gid), pwd.getpwuid(os.geteuid())
    except KeyError:
        return False
    return group.gr_name == user.pw_name and not set(group.gr_mem) - {user.pw_name}


def _unknown_users() -> set[int]:
    """Root of the host, in a container that does not know it: all that it does not know are one there."""
    try:
        whole = Path("/proc/self/uid_map").read_text(encoding="ascii").split() == ["0", "0", str(2**32 - 1)]
        return set() if whole else {int(Path("/proc/sys/kernel/overflowuid").read_text(encoding="ascii"))}
    except (OSError, ValueError):
        return set()


def _check_room(folder: Path) -> None:
    if shutil.disk_usage(folder).free < _ROOM:
        _refuse("its disk is full")
    # A quota, or a disk without inodes, shows only like this.
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(bytes(4096))


def _refuse(why: str) -> NoReturn:
    raise _UnfitError(why)


def _remove(folder: Path, pid: int) -> None:
    # A copy of the process that made it still has its exit handlers.
    if os.getpid() == pid:
        shutil.rmtree(folder, ignore_errors=True)
