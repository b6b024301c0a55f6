"""The working directory: where parts and block results wait until the maps are written.

::

    WORK/blmm_workdir.json          format version
    WORK/blmm_runs.json             what the last run was asked for
    WORK/.blmm_lock.json            while a run is at work
    WORK/gather-<digest>/           part-00000.blmm and .npz, one a batch of images
    WORK/fit-<digest>/              block-00000.npz, one a block of voxels; ranef- and residuals-00000.npz
    WORK/scratch/                   of the cluster; holds nothing worth keeping

A stage's directory carries the hash of what its content depends on, and a part the hash of its images'
identities besides, so what was made from other inputs or options is never looked at; an image that changed
costs the part that it is in. Files appear by renaming, so one that is there is whole.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import shutil
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from blmm_bids.errors import OutputError, StorageError
from blmm_bids.outputs.atomic import ASIDE_SUFFIX, is_whole, load_arrays, save_arrays, write_json_aside
from blmm_bids.outputs.changes import RECORD, load_records, save_records
from blmm_bids.outputs.lock import LOCK_NAME, locked
from blmm_bids.outputs.parts import is_part_done
from blmm_bids.regular_files import LARGEST_JSON, read_regular

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from contextlib import AbstractContextManager
    from pathlib import Path

    from numpy.typing import NDArray

LOGGER = logging.getLogger(__name__)
WORKDIR_FORMAT = 1
_MARK = "blmm_workdir.json"
_SCRATCH = "scratch"
_PRIVATE = 0o700
_ELSEWHERE = "give another --work-dir"
_DIGEST_LENGTH = 16
_STAGE_NAME = re.compile(rf"(gather|fit)-[0-9a-f]{{{_DIGEST_LENGTH}}}")


def content_digest(content: object) -> str:
    """SHA-256 of JSON-able content, the same whatever the order of keys."""
    text = json.dumps(content, sort_keys=True, ensure_ascii=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def stage_name(stage: str, digest: str) -> str:
    """Name of the directory of a stage (``gather`` or ``fit``) whose content has this digest."""
    return f"{stage}-{digest[:_DIGEST_LENGTH]}"


@dataclass(frozen=True)
class StageDir:
    """One stage's files.

    Attributes
    ----------
    path : Path
        The directory.
    digest : str
        Hash of what the content depends on.
    """

    path: Path
    digest: str

    def part(self, batch: int) -> Path:
        """Name the part file of a batch of images."""
        return self.path / f"part-{batch:05d}.blmm"

    def is_part_done(self, batch: int, digest: str) -> bool:
        """Whether the part of these images and its summary are there and whole."""
        path = self.part(batch)
        return is_part_done(path, digest) and is_whole(path.with_suffix(".npz"))

    def result(self, block: int, kind: str = "block") -> Path:
        """Name the result file of a block of voxels; a kind of results may have its own."""
        return self.path / f"{kind}-{block:05d}.npz"

    def is_result_done(self, block: int, kind: str = "block") -> bool:
        """Whether a block's results are there and whole."""
        return is_whole(self.result(block, kind))

    def save_result(self, block: int, arrays: Mapping[str, NDArray[Any]], kind: str = "block") -> None:
        """Write a block's results, aside first.

        Raises
        ------
        StorageError
            Disk full or not writable.
        """
        save_arrays(self.result(block, kind), arrays)

    def load_result(
        self, block: int, names: tuple[str, ...] | None = None, kind: str = "block"
    ) -> dict[str, NDArray[Any]]:
        """Read a block's results, all or only those named.

        Raises
        ------
        StorageError
            Absent or damaged.
        """
        return load_arrays(self.result(block, kind), names)


def scratch_dir(path: Path) -> Path:
    """Where a working directory has the cluster's own files."""
    return path / _SCRATCH


@dataclass(frozen=True)
class WorkDir:
    """A working directory of this format version.

    Attributes
    ----------
    path : Path
        Absolute.
    resume : bool
        Whether stages that an earlier run left are used; else each is emptied at its first use.
    used : set of str
        Names of this run's stages.
    """

    path: Path
    resume: bool = True
    used: set[str] = field(default_factory=set, compare=False)

    @classmethod
    def open(cls, path: Path, *, resume: bool = True) -> WorkDir:
        """Make the directory, or check one made earlier.

        Raises
        ------
        OutputError
            It cannot be created, holds something else, or is of another format version.
        """
        path = path.absolute()
        mark = path / _MARK
        try:
            path.mkdir(mode=_PRIVATE, parents=True, exist_ok=True)
            if mark.exists():
                _check_mark(mark)
            else:
                _refuse_foreign(path)
                write_json_aside(mark, {"format": WORKDIR_FORMAT})
        except OSError as error:
            msg = f"{path}: cannot be the working directory ({error.strerror or error}); {_ELSEWHERE}"
            raise OutputError(msg) from error
        return cls(path, resume)

    def locked(self) -> AbstractContextManager[None]:
        """Keep other runs out while the body runs; raises as `outputs.lock.locked`."""
        return locked(self.path)

    @property
    def has_stages(self) -> bool:
        """Whether there are parts or results in it."""
        return any(_STAGE_NAME.fullmatch(entry.name) for entry in self.path.iterdir())

    @property
    def has_jobs(self) -> bool:
        """Whether job scripts or logs of jobs are kept in it."""
        return bool(_kept_jobs(self.path / _SCRATCH))

    @property
    def scratch(self) -> Path:
        """Directory for the cluster's own files."""
        return _make_private(scratch_dir(self.path))

    def gather(self, digest: str) -> StageDir:
        """Directory of the parts made from these inputs, masks and rules."""
        return self._stage("gather", digest)

    def fit(self, digest: str) -> StageDir:
        """Directory of the results of this design and these options on these parts."""
        return self._stage("fit", digest)

    def _stage(self, stage: str, digest: str) -> StageDir:
        path = self.path / stage_name(stage, digest)
        if not self.resume and path.name not in self.used and path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        self.used.add(path.name)
        return StageDir(_make_private(path), digest)

    def free_bytes(self) -> int:
        """Bytes that this user may still write there."""
        return shutil.disk_usage(self.path).free

    def require_space(self, n_bytes: int) -> None:
        """Refuse to start what the disk does not hold.

        Raises
        ------
        StorageError
            Fewer bytes free.
        """
        free = self.free_bytes()
        if free < n_bytes:
            msg = (
                f"{self.path}: {n_bytes / 2**30:.1f} GB are needed for the working files, "
                f"{free / 2**30:.1f} GB are free. Free space, or give another --work-dir"
            )
            raise StorageError(msg)

    def sweep(self, *, keep_jobs: bool = False) -> None:
        """Delete what killed runs and workers left half-written; needs the lock, and no worker at work.

        Parameters
        ----------
        keep_jobs : bool
            Keep job scripts and what jobs said: an error's message may point at them.
        """
        for entry in self.path.iterdir():
            if _STAGE_NAME.fullmatch(entry.name):
                for aside in entry.glob(f".*{ASIDE_SUFFIX}"):
                    # Nothing depends on it, and it must not hide why a run ends.
                    with suppress(OSError):
                        aside.unlink()
        kept = _kept_jobs(self.path / _SCRATCH) if keep_jobs else set()
        if not kept:
            shutil.rmtree(self.path / _SCRATCH, ignore_errors=True)
            return
        for entry in (self.path / _SCRATCH).iterdir():
            if entry.is_dir() and entry not in kept:
                shutil.rmtree(entry, ignore_errors=True)

    def remove(self, titles: Iterable[str] = ()) -> None:
        """Delete what this run made, and the directory where nothing else is left.

        What other models' runs have left is hours of work: it stays, with its record.

        Parameters
        ----------
        titles : iterable of str
            Fits of this run in the record.

        Raises
        ------
        StorageError
            Something cannot be deleted.
        """
        try:
            for name in (*self.used, _SCRATCH):
                if (self.path / name).is_dir() and not (self.path / name).is_symlink():
                    shutil.rmtree(self.path / name)
        except OSError as error:
            msg = f"{self.path}: working files cannot be deleted ({error}); {_ELSEWHERE}"
            raise StorageError(msg) from error
        if self.has_stages:
            gone = set(titles)
            records = {title: each for title, each in load_records(self.path).items() if title not in gone}
            save_records(self.path, records)
            LOGGER.info("%s: working files of other runs stay there", self.path)
            return
        for name in (RECORD, _MARK, LOCK_NAME):
            (self.path / name).unlink(missing_ok=True)
        if not any(self.path.iterdir()):
            self.path.rmdir()


def _kept_jobs(scratch: Path) -> set[Path]:
    """Directories of runs with a job script or a log; their keys are deleted."""
    kept = set()
    for run_dir in scratch.glob("run-*"):
        for key in run_dir.glob("*.pem"):
            with suppress(OSError):
                key.unlink()
        if any(path.is_file() for path in run_dir.rglob("*")):
            kept.add(run_dir)
    return kept


def _check_mark(mark: Path) -> None:
    try:
        version = json.loads(read_regular(mark, LARGEST_JSON)).get("format")
    except (ValueError, AttributeError, RecursionError):
        version = None
    if version != WORKDIR_FORMAT:
        msg = (
            f"{mark.parent}: a working directory of format {version}, this version uses {WORKDIR_FORMAT}. "
            "Give another --work-dir, or delete this one"
        )
        raise OutputError(msg)


def _refuse_foreign(path: Path) -> None:
    """Keep out of an unmarked directory with stages in it: another version's, or a damaged one."""
    for entry in path.iterdir():
        if _STAGE_NAME.fullmatch(entry.name):
            msg = f"{path}: holds {entry.name} but no {_MARK}; give another --work-dir, or delete this one"
            raise OutputError(msg)


def _make_private(path: Path) -> Path:
    try:
        path.mkdir(mode=_PRIVATE, exist_ok=True)
    except OSError as error:
        msg = f"{path}: cannot be created ({error.strerror or error}); {_ELSEWHERE}"
        raise OutputError(msg) from error
    return path
