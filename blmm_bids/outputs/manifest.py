"""Which files of OUTPUT_DIR belong to a finished run: an older result is never mixed with a newer one.

``logs/outputs.json`` lists the files of the run that wrote it, ``Finished`` last. Before the first map of a
run is written, all files that an earlier run listed are deleted and the list says that it is not finished;
so whatever moment a run is killed at, the maps there are all of one run, and a whole result says so.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from blmm_bids.errors import OutputError
from blmm_bids.outputs.files import PART_SUFFIX, write_json

LOGGER = logging.getLogger(__name__)
MANIFEST = PurePosixPath("logs/outputs.json")
# Only what lies here, or matches this, is ever deleted.
_OURS = ("node-*/*", "node-*/figures/*", "figures/*", "node-*.html", "code/model-*_smdl.json")


@dataclass
class Manifest:
    """The files of a run under way.

    Attributes
    ----------
    output_dir : Path
        Root of the output dataset.
    planned : tuple of Path
        Maps that the run will write.
    """

    output_dir: Path
    planned: tuple[Path, ...]
    _begun: bool = field(default=False, init=False)
    _files: set[Path] = field(default_factory=set, init=False)

    @property
    def path(self) -> Path:
        """Where the list is."""
        return self.output_dir / MANIFEST

    def begin(self) -> bool:
        """Delete what an earlier run wrote, before the first file of this run.

        Returns
        -------
        bool
            False where that was done before.

        Raises
        ------
        OutputError
            A file cannot be deleted, or the list not be written.
        """
        if self._begun:
            return False
        earlier = read_manifest(self.output_dir)
        stale = [
            path for name in earlier.get("Files", ()) if (path := _ours(self.output_dir, name)) is not None
        ]
        # The list first: a kill in the middle must leave a directory that is visibly not finished.
        self._write({*stale, *self.planned}, finished=False)
        removed = 0
        # Nobody else writes here: half-written files are those of a run that was killed.
        for path in [*stale, *self.output_dir.glob(f"node-*/.*{PART_SUFFIX}")]:
            try:
                removed += path.is_file()
                path.unlink(missing_ok=True)
            except OSError as error:
                msg = (
                    f"{path} of an earlier run cannot be deleted ({error.strerror}); delete it, or name "
                    "another OUTPUT_DIR"
                )
                raise OutputError(msg) from error
        if removed:
            LOGGER.info("deleted %d files of an earlier run in %s", removed, self.output_dir)
        self._begun = True
        return True

    def add(self, files: Iterable[Path]) -> None:
        """Note files that the run has written."""
        self._files.update(files)

    def finish(self, failures: Iterable[str] = ()) -> None:
        """Mark the run as finished, with the files that it wrote; `failures` are fits that have none."""
        self._write({path for path in self._files if path.exists()}, finished=True, failures=failures)

    def _write(self, files: Iterable[Path], *, finished: bool, failures: Iterable[str] = ()) -> None:
        names = sorted(path.relative_to(self.output_dir).as_posix() for path in set(files))
        write_json(self.path, {"Finished": finished, "Failures": list(failures), "Files": names})


def read_manifest(output_dir: Path) -> dict[str, Any]:
    """Read the list of an output dataset; empty where there is none that can be read."""
    try:
        content = json.loads((output_dir / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) and isinstance(content.get("Files"), list) else {}


def is_finished(output_dir: Path) -> bool:
    """Whether the run that wrote the maps came to its end."""
    return read_manifest(output_dir).get("Finished") is True


def _ours(output_dir: Path, name: object) -> Path | None:
    """Path of a listed file, None where it is not one that a run writes."""
    if not isinstance(name, str) or ".." in PurePosixPath(name).parts:
        return None
    if not any(PurePosixPath(name).match(pattern) for pattern in _OURS) or name.startswith("/"):
        return None
    path = output_dir / name
    # A directory that is a link leads out of OUTPUT_DIR.
    inside = path.parent.resolve().is_relative_to(output_dir.resolve())
    return path if inside else None
