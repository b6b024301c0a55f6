"""Tables of mounts: what the directories of a container are on its host.

The kernel tells, of each mount, the file system and the directory in it that is seen, but not where the host
has that file system. A process outside of the container has a table that does; without a view of one it
follows from mounts that have the host's own path.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_ESCAPE = re.compile(r"\\([0-7]{3})")
_ROOT = PurePosixPath("/")
_TMP = PurePosixPath("/tmp")  # noqa: S108
# Apptainer shows this file of the host under its own path, and makes those anew on a file system of its own,
# which also has what is at /tmp and at home in a contained run.
_OF_THE_HOST = PurePosixPath("/etc/hosts")
_MADE_ANEW = tuple(map(PurePosixPath, ("/etc/passwd", "/etc/group", "/etc/resolv.conf")))


@dataclass(frozen=True)
class Mount:
    """A line of a table: the directory ``root`` of a file system is seen at ``target``.

    Attributes
    ----------
    device : str
        The file system's number, the same in all tables of a machine.
    root, target : PurePosixPath
    read_only : bool
    """

    device: str
    root: PurePosixPath
    target: PurePosixPath
    read_only: bool

    @property
    def mounted_at(self) -> PurePosixPath | None:
        """Where the host has the file system, if the mount has the host's own path."""
        n_own = len(self.root.parts) - 1
        if n_own and self.target.parts[-n_own:] == self.root.parts[1:]:
            return PurePosixPath(*self.target.parts[:-n_own])
        return None


@dataclass(frozen=True)
class MountTables:
    """What this process sees, and what a process outside of its container does.

    Attributes
    ----------
    mounts : tuple of Mount
        In their order: of two at one place the later hides the earlier.
    outside : tuple of Mount
        Empty where no such process is in sight.
    """

    mounts: tuple[Mount, ...] = ()
    outside: tuple[Mount, ...] = ()

    def mount_of(self, path: PurePosixPath) -> Mount | None:
        """Mount that shows a path of the container."""
        return _covering(self.mounts, path)

    def is_own(self, mount: Mount) -> bool:
        """Whether a mount shows something that only this container has."""
        made = {each.device for each in self.mounts if each.target in _MADE_ANEW and each.root == each.target}
        return mount.target == _ROOT or mount.device in made - self._devices_at_root()

    def is_bound(self, place: PurePosixPath) -> bool:
        """Whether a directory of the host is seen at a place, and none that was made for a contained run."""
        mount, tmp = self.mount_of(place), self.mount_of(_TMP)
        if mount is None or tmp is None or mount.target != place or self.is_own(mount):
            return False
        # `--workdir` makes a home and a tmp side by side.
        made = (tmp.device, tmp.root) == (mount.device, mount.root.parent / _TMP.name)
        return mount.root == mount.target or not made

    def on_host(self, mount: Mount) -> PurePosixPath | None:
        """Path on the host of what a mount shows; None where the tables do not tell."""
        if (found := self._found_outside(mount)) is not None:
            return found
        places = self._places(mount.device)
        if places and mount.mounted_at not in places:
            # The deepest: a shallower one may be there by a symbolic link of the host.
            return max(places, key=lambda place: len(place.parts)) / mount.root.relative_to(_ROOT)
        # /data is most likely another directory's name; /scratch/ann/study is its own.
        is_renamed = mount.root != _ROOT and len(mount.target.parts) == 2
        return None if is_renamed and not places else mount.target

    def _found_outside(self, mount: Mount) -> PurePosixPath | None:
        there = _covering(self.outside, mount.target)
        if there is not None and _place_of(there, mount) == mount.target:
            return mount.target
        # The least of a file system that the host shows may be a view of a part of it.
        found = (place for each in self.outside if (place := _place_of(each, mount)) is not None)
        return min(found, key=lambda place: len(place.parts), default=None)

    def _places(self, device: str) -> set[PurePosixPath]:
        """Where the host may have a file system, by the container's own table."""
        if device in self._devices_at_root():
            return {_ROOT}
        at = {mount.mounted_at for mount in self.mounts if mount.device == device}
        # /out:/out of /gpfs/out looks like a path of the root file system.
        return {place for place in at if place not in (None, _ROOT)}

    def _devices_at_root(self) -> set[str]:
        return {mount.device for mount in self.mounts if mount.target == mount.root == _OF_THE_HOST}


def _covering(mounts: Iterable[Mount], path: PurePosixPath) -> Mount | None:
    covering = [mount for mount in mounts if path.is_relative_to(mount.target)]
    return max(reversed(covering), key=lambda each: len(each.target.parts), default=None)


def _place_of(there: Mount, mount: Mount) -> PurePosixPath | None:
    """Where a mount of the host shows what another one does in the container."""
    if there.device != mount.device or not mount.root.is_relative_to(there.root):
        return None
    return there.target / mount.root.relative_to(there.root)


def read_tables(pid: int | str = "self", proc: Path = Path("/proc")) -> MountTables:
    """Read the tables of a process and of its outermost ancestor in sight.

    Parameters
    ----------
    pid : int or "self"
    proc : Path
        Where the kernel tells about processes.
    """
    mounts = outside = _read_mounts(proc / str(pid) / "mountinfo")
    with suppress(OSError, ValueError):
        while (pid := _parent(proc / str(pid) / "stat")) > 0:
            outside = _read_mounts(proc / str(pid) / "mountinfo") or outside
    return MountTables(mounts, () if outside == mounts else outside)


def _parent(stat: Path) -> int:
    # The second field is a name in brackets that may hold anything.
    return int(stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[1])


def _read_mounts(path: Path) -> tuple[Mount, ...]:
    try:
        lines = path.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return ()
    return tuple(_parse(line.split(" ")) for line in lines)


def _parse(fields: Sequence[str]) -> Mount:
    plain = [_ESCAPE.sub(lambda match: chr(int(match[1], 8)), field) for field in fields[:6]]
    _, _, device, root, target, options = plain
    return Mount(device, PurePosixPath(root), PurePosixPath(target), "ro" in options.split(","))
