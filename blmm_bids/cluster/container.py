"""The container that this process runs in, and how a job on another machine enters it again.

Inside, Apptainer tells the image's path and the targets of its binds, but not their sources: those
follow from the kernel's table of mounts, where a file system is also known by what it was mounted on.
"""

from __future__ import annotations

import os
import re
import shlex
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from blmm_bids.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

# Newer name first; Apptainer sets both.
_PROGRAMS = (("apptainer", "APPTAINER"), ("singularity", "SINGULARITY"))
# What a user may set where the sources cannot be told: as --bind takes it.
BIND_VARIABLE = "BLMM_BIND"
# Binds below these hold the scheduler's commands for this process; workers do without.
_SYSTEM = ("/bin", "/dev", "/etc", "/lib", "/lib64", "/proc", "/run", "/sbin", "/sys", "/usr", "/var")
_ESCAPE = re.compile(r"\\([0-7]{3})")
_ROOT = PurePosixPath("/")


@dataclass(frozen=True)
class Bind:
    """A path of the host as the container sees it.

    Attributes
    ----------
    source : PurePosixPath
        On the host.
    target : PurePosixPath
        In the container.
    read_only : bool
    """

    source: PurePosixPath
    target: PurePosixPath
    read_only: bool = False

    def __str__(self) -> str:
        """Give it as ``--bind`` takes it."""
        if self.read_only:
            return f"{self.source}:{self.target}:ro"
        return str(self.source) if self.source == self.target else f"{self.source}:{self.target}"


@dataclass(frozen=True)
class _Mount:
    """A line of the table of mounts: the directory ``root`` of a file system is seen at ``target``."""

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
class Container:
    """An Apptainer or Singularity container.

    Attributes
    ----------
    program : {"apptainer", "singularity"}
    image : str
        Path of the image on the host.
    targets : tuple of PurePosixPath
        What was bound when it was started.
    mounts : tuple
        The table of mounts inside.
    named : tuple of Bind
        Binds that the user has told.
    """

    program: str
    image: str
    targets: tuple[PurePosixPath, ...] = ()
    mounts: tuple[_Mount, ...] = ()
    named: tuple[Bind, ...] = field(default=())

    def bind(self, path: PurePosixPath) -> Bind:
        """Bind that shows a path of this container in another one.

        Raises
        ------
        UsageError
            The path is the image's own.
        """
        for bind in self.named:
            if path.is_relative_to(bind.target):
                return Bind(bind.source / path.relative_to(bind.target), path, bind.read_only)
        covering = [mount for mount in self.mounts if path.is_relative_to(mount.target)]
        # Of two at one place the later hides the earlier.
        mount = max(reversed(covering), key=lambda each: len(each.target.parts), default=None)
        if mount is None:
            return Bind(path, path)
        if mount.target == _ROOT:
            msg = (
                f"{path} is inside the container, where the jobs of workers do not see it; bind a directory "
                f"of the host: {self.program} run --bind {path} …"
            )
            raise UsageError(msg)
        below = path.relative_to(mount.target)
        hosts = {each.device: place for each in self.mounts if (place := each.mounted_at) is not None}
        source = mount.target
        if mount.mounted_at is None and mount.device in hosts:
            source = hosts[mount.device] / mount.root.relative_to(_ROOT)
        return Bind(source / below, path, mount.read_only)

    def binds(self, paths: Iterable[Path]) -> tuple[Bind, ...]:
        """Binds of the data that this container was started with, and of further paths."""
        wanted = [target for target in self.targets if f"/{target.parts[1]}" not in _SYSTEM]
        wanted += [PurePosixPath(path) for path in paths]
        chosen: list[PurePosixPath] = []
        for path in wanted:
            if not any(path.is_relative_to(other) for other in chosen):
                chosen.append(path)
        return tuple(self.bind(path) for path in chosen)

    def host_path(self, path: Path) -> Path:
        """Path on the host of a path in the container."""
        return Path(self.bind(PurePosixPath(path)).source)

    def seen_as(self, path: Path, other: Path) -> Container:
        """Take a path of this container for another one."""
        bind = Bind(self.bind(PurePosixPath(other)).source, PurePosixPath(path))
        return replace(self, named=(bind, *self.named))

    def command(self, inner: Sequence[str], environment: Mapping[str, str], paths: Iterable[Path]) -> str:
        """Shell words that run a program of the image on another machine.

        Parameters
        ----------
        inner : sequence of str
            The program and its arguments.
        environment : Mapping
            Variables for it; the job's own stay outside.
        paths : iterable of Path
            What it has to see besides the binds of this container.
        """
        words = [self.program, "exec", "--cleanenv"]
        for bind in self.binds(paths):
            words += ["--bind", str(bind)]
        assignments = [f"{name}={value}" for name, value in environment.items()]
        words += [self.image, *(["env", *assignments] if assignments else []), *inner]
        return shlex.join(words)


def current_container(
    environ: Mapping[str, str] = os.environ, mountinfo: Path = Path("/proc/self/mountinfo")
) -> Container | None:
    """Tell which container this process runs in, from what Apptainer and Singularity set.

    Parameters
    ----------
    environ : Mapping
        Environment variables.
    mountinfo : Path
        The kernel's table of mounts.
    """
    for program, prefix in _PROGRAMS:
        image = environ.get(f"{prefix}_CONTAINER")
        if image:
            texts = environ.get(f"{prefix}_BIND", "").split(",")
            targets = [PurePosixPath(text) for text in texts if text.startswith("/") and text != "/"]
            named = tuple(_parse_binds(environ.get(BIND_VARIABLE, "")))
            return Container(program, image, tuple(targets), _read_mounts(mountinfo), named)
    return None


def _read_mounts(path: Path) -> tuple[_Mount, ...]:
    try:
        lines = path.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return ()
    mounts = []
    for line in lines:
        fields = [_ESCAPE.sub(lambda match: chr(int(match[1], 8)), field) for field in line.split(" ")]
        root, target, options = fields[3:6]
        read_only = "ro" in options.split(",")
        mounts.append(_Mount(fields[2], PurePosixPath(root), PurePosixPath(target), read_only))
    return tuple(mounts)


def _parse_binds(text: str) -> list[Bind]:
    """``SOURCE[:TARGET[:OPTIONS]]``, separated by commas."""
    binds = []
    for item in filter(None, text.split(",")):
        source, _, rest = item.partition(":")
        target, _, options = rest.partition(":")
        binds.append(Bind(PurePosixPath(source), PurePosixPath(target or source), options == "ro"))
    return binds
