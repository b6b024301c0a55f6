"""The container that this process runs in, and how a job on another machine enters it again.

Inside, Apptainer tells the image's path and the targets of its binds, but not their sources: those
follow from the kernel's tables of mounts.
"""

from __future__ import annotations

import os
import shlex
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from blmm_bids.cluster.mounts import MountTables, read_tables
from blmm_bids.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

# Newer name first; Apptainer sets both.
_PROGRAMS = (("apptainer", "APPTAINER"), ("singularity", "SINGULARITY"))
# What a user may set where the sources cannot be told: as --bind takes it.
BIND_VARIABLE = "BLMM_BIND"
# Binds below these hold the scheduler's commands for this process; workers do without.
_SYSTEM = ("/bin", "/dev", "/etc", "/lib", "/lib64", "/proc", "/run", "/sbin", "/sys", "/usr", "/var")


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

    def shows(self, other: Bind) -> bool:
        """Whether it shows what another one does, at the same place."""
        if not other.target.is_relative_to(self.target) or other.read_only != self.read_only:
            return False
        return self.source / other.target.relative_to(self.target) == other.source

    def __str__(self) -> str:
        """Give it as ``--bind`` takes it."""
        if self.read_only:
            return f"{self.source}:{self.target}:ro"
        return str(self.source) if self.source == self.target else f"{self.source}:{self.target}"


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
    tables : MountTables
        What is mounted inside.
    home, cwd : PurePosixPath, optional
        Of this process; Apptainer binds both by itself.
    named : tuple of Bind
        Binds that the user has told.
    """

    program: str
    image: str
    targets: tuple[PurePosixPath, ...] = ()
    tables: MountTables = field(default_factory=MountTables)
    home: PurePosixPath | None = None
    cwd: PurePosixPath | None = None
    named: tuple[Bind, ...] = ()

    def bind(self, path: PurePosixPath) -> Bind:
        """Bind that shows a path of this container in another one.

        Raises
        ------
        UsageError
            The path is the container's own, or where it is on the host cannot be told.
        """
        for bind in self.named:
            if path.is_relative_to(bind.target):
                return Bind(bind.source / path.relative_to(bind.target), path, bind.read_only)
        mount = self.tables.mount_of(path)
        if mount is None:
            return Bind(path, path)
        if self.tables.is_own(mount):
            msg = (
                f"{path} is inside the container, where the jobs of workers do not see it; bind a directory "
                f"of the host: {self.program} run --bind {path} …"
            )
            raise UsageError(msg)
        source = self.tables.on_host(mount)
        if source is None:
            msg = (
                f"{path}: what {mount.target} is outside of this container cannot be told; say it: "
                f"{self.program} run --env {BIND_VARIABLE}=DIRECTORY:{mount.target} …"
            )
            raise UsageError(msg)
        return Bind(source / path.relative_to(mount.target), path, mount.read_only)

    def binds(self, paths: Iterable[Path]) -> tuple[Bind, ...]:
        """Binds of the data that this container was started with, and of further paths."""
        needed = {PurePosixPath(path) for path in paths}
        given = [target for target in self.targets if f"/{target.parts[1]}" not in _SYSTEM]
        binds = [self.bind(path) for path in needed]
        for target in (*given, *self._bound_by_itself(needed)):
            # What no path needs may still be where links of a dataset lead; or it may be of no concern.
            with suppress(UsageError):
                binds.append(self.bind(target))
        chosen: list[Bind] = []
        for bind in sorted(binds, key=lambda each: (len(each.target.parts), each.target)):
            around = [other for other in chosen if bind.target.is_relative_to(other.target)]
            if not (around and around[-1].shows(bind)):
                chosen.append(bind)
        return tuple(chosen)

    def _bound_by_itself(self, needed: Iterable[PurePosixPath]) -> list[PurePosixPath]:
        """Home, and the working directory if data are in it, where this container has the host's."""
        places = [self.home] if self.home else []
        if self.cwd and any(path.is_relative_to(self.cwd) for path in needed):
            places.append(self.cwd)
        return [place for place in places if self.tables.is_bound(place)]

    def host_path(self, path: Path) -> Path:
        """Path on the host of a path in the container."""
        return Path(self.bind(PurePosixPath(path)).source)

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
        # Nothing of a node's own: a link of the host in /tmp or at home would hide what is bound below it.
        words = [self.program, "exec", "--cleanenv", "--contain"]
        for bind in self.binds(paths):
            words += ["--bind", str(bind)]
        assignments = [f"{name}={value}" for name, value in environment.items()]
        words += [self.image, *(["env", *assignments] if assignments else []), *inner]
        return shlex.join(words)


def current_container(
    environ: Mapping[str, str] = os.environ, tables: MountTables | None = None
) -> Container | None:
    """Tell which container this process runs in, from what Apptainer and Singularity set.

    Parameters
    ----------
    environ : Mapping
        Environment variables.
    tables : MountTables, optional
        Those of this process by default.
    """
    for program, prefix in _PROGRAMS:
        image = environ.get(f"{prefix}_CONTAINER")
        if image:
            texts = environ.get(f"{prefix}_BIND", "").split(",")
            return Container(
                program,
                image,
                targets=tuple(PurePosixPath(text) for text in texts if text.startswith("/") and text != "/"),
                tables=read_tables() if tables is None else tables,
                home=PurePosixPath(environ["HOME"]) if environ.get("HOME") else None,
                cwd=PurePosixPath(Path.cwd()),
                named=tuple(_parse_binds(environ.get(BIND_VARIABLE, ""))),
            )
    return None


def _parse_binds(text: str) -> list[Bind]:
    """``SOURCE[:TARGET[:OPTIONS]]``, separated by commas."""
    binds = []
    for item in filter(None, text.split(",")):
        source, _, rest = item.partition(":")
        target, _, options = rest.partition(":")
        binds.append(Bind(PurePosixPath(source), PurePosixPath(target or source), options == "ro"))
    return binds
