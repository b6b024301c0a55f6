"""What OUTPUT_DIR holds: which models, what each was fitted to, and which files are whose.

``logs/outputs.json`` has an entry for each fit (a node in one of its groups) with its files and a record of
its model and data. A fit that is given again with the same model and data writes its files anew, and those
that it does not write stay. Only where replacement was asked for are the files of the earlier fit deleted,
just before the first of the new ones; the entry says meanwhile that the fit is not finished. So whatever
moment a run is killed at, the maps of a fit are all of one model, and a whole result says so.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from blmm_bids.errors import OutputError
from blmm_bids.outputs.changes import FitRecord
from blmm_bids.outputs.files import PART_SUFFIX, write_json
from blmm_bids.outputs.ownership import is_ours
from blmm_bids.regular_files import LARGEST_TABLE, read_regular

LOGGER = logging.getLogger(__name__)
MANIFEST = PurePosixPath("logs/outputs.json")
# Only what lies here, or matches this, is ever deleted.
_OURS = ("node-*/*", "node-*/figures/*", "node-*.html")
# Of an output dataset of ours also where no list has them.
_UNLISTED = (
    "logs/results.json",
    "logs/blmm_bids.log",
    *(f"logs/CITATION.{end}" for end in ("md", "html", "bib")),
)
Group = tuple[tuple[str, str], ...]


def fit_key(label: str, group: Mapping[str, str]) -> tuple[str, Group]:
    """Key of a fit: file systems that ignore case have one directory for two spellings of a label."""
    return label.casefold(), tuple(sorted(group.items()))


@dataclass(frozen=True)
class FitEntry:
    """One fit in the list: a node in one of its groups.

    Attributes
    ----------
    label, node : str
        ``<label>`` of ``node-<label>``, and the node's name.
    group : Mapping
        Labels of the GroupBy entities.
    files : tuple of str
        Below the dataset's root.
    finished : bool
        Whether the run that wrote them came to its end.
    record : FitRecord or None
        Model and data; None where an earlier version kept no record.
    contrasts : Mapping
        By name: the test, and the rows of weights.
    """

    label: str
    node: str
    group: Mapping[str, str]
    files: tuple[str, ...] = ()
    finished: bool = False
    record: FitRecord | None = None
    contrasts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, Group]:
        """What tells it apart from other fits."""
        return fit_key(self.label, self.group)

    @property
    def formula(self) -> str:
        """The model in one line; empty where an earlier version kept no record."""
        return "" if self.record is None else str(self.record.model.get("the formula", ""))


@dataclass(frozen=True)
class Listing:
    """What ``logs/outputs.json`` says.

    Attributes
    ----------
    fits : tuple of FitEntry
    shared : Mapping
        Files that are of a node as a whole, by its label: its page, figures, settings, model file.
    files : tuple of str
        All other files that runs wrote.
    """

    fits: tuple[FitEntry, ...] = ()
    shared: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    files: tuple[str, ...] = ()

    @property
    def all_files(self) -> frozenset[str]:
        """Every file that a run wrote."""
        of_fits = (name for fit in self.fits for name in fit.files)
        of_nodes = (name for names in self.shared.values() for name in names)
        return frozenset([*self.files, *of_fits, *of_nodes])

    def fit(self, key: tuple[str, Group]) -> FitEntry | None:
        """Find the entry of a fit."""
        return next((fit for fit in self.fits if fit.key == key), None)


@dataclass
class Manifest:
    """The list of an output dataset while a run is under way.

    Attributes
    ----------
    output_dir : Path
        Root of the output dataset.
    planned : tuple of FitEntry
        The fits of the run with the files that they will write.
    replaced : frozenset
        Keys of earlier fits, of the run's nodes, whose files go first.
    """

    output_dir: Path
    planned: tuple[FitEntry, ...]
    replaced: frozenset[tuple[str, Group]] = frozenset()
    listing: Listing = field(init=False)
    _begun: set[tuple[str, Group]] = field(default_factory=set, init=False)
    _written: dict[tuple[str, Group], set[str]] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        """Start from what is there."""
        self.listing = read_listing(self.output_dir)

    @property
    def has_begun(self) -> bool:
        """Whether a fit of the run has begun to write."""
        return bool(self._begun)

    def begin(self, key: tuple[str, Group]) -> None:
        """Mark a fit as under way, and delete the files of an earlier one that it was asked to replace.

        Raises
        ------
        OutputError
            A file cannot be deleted, or the list not be written.
        """
        if key in self._begun:
            return
        planned = next(fit for fit in self.planned if fit.key == key)
        gone = self._stale(planned)
        # Pictures and comparisons of the node are of the model that is replaced too.
        names = [name for fit in gone for name in fit.files]
        names += self.listing.shared.get(planned.label, ()) if gone else ()
        stale = [path for name in names if (path := own_path(self.output_dir, name)) is not None]
        earlier = self.listing.fit(key)
        # The list first: a kill in the middle must leave a directory that is visibly not finished.
        self._put(planned, {*planned.files, *(earlier.files if earlier else ())}, finished=False)
        self._write()
        # Nobody else writes here: half-written files are those of a run that was killed.
        half = self.output_dir.glob(f"node-{planned.label}/.*{PART_SUFFIX}")
        removed = 0
        for path in [*stale, *half]:
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
            LOGGER.info("deleted %d files of the earlier model of node '%s'", removed, planned.node)
        others = tuple(fit for fit in self.listing.fits if fit.key == key or fit not in gone)
        self.listing = replace(self.listing, fits=others)
        self._begun.add(key)

    def _stale(self, planned: FitEntry) -> list[FitEntry]:
        """Earlier fits that this one replaces: its own, and those of another GroupBy of its node."""
        keys = {fit.key for fit in self.planned} - {planned.key}
        return [
            fit
            for fit in self.listing.fits
            if fit.key in self.replaced and fit.key[0] == planned.key[0] and fit.key not in keys
        ]

    def note(self, key: tuple[str, Group], files: Iterable[Path]) -> None:
        """Note files that a fit has written."""
        self._written.setdefault(key, set()).update(self._names(files))

    def share(self, label: str, files: Iterable[Path]) -> None:
        """Note files of a node as a whole."""
        names = {*self.listing.shared.get(label, ()), *self._names(files)}
        self.listing = replace(self.listing, shared={**self.listing.shared, label: tuple(sorted(names))})

    def add(self, files: Iterable[Path]) -> None:
        """Note files of the dataset as a whole."""
        names = sorted({*self.listing.files, *self._names(files)})
        self.listing = replace(self.listing, files=tuple(names))

    def finish(self, keys: Iterable[tuple[str, Group]], failures: Iterable[str] = ()) -> None:
        """Mark fits as finished, with what is there of them and of earlier runs of the same model.

        Parameters
        ----------
        keys : iterable of keys
            Fits that have their results.
        failures : iterable of str
            What went wrong besides.
        """
        for key in keys:
            planned = next(fit for fit in self.planned if fit.key == key)
            earlier = self.listing.fit(key)
            names = {*self._written.get(key, ()), *(earlier.files if earlier else ())}
            self._put(planned, self._present(names), finished=True)
        there = {label: self._present(names) for label, names in self.listing.shared.items()}
        self.listing = replace(self.listing, shared=there, files=self._present(self.listing.files))
        self._write(failures)

    def _present(self, names: Iterable[str]) -> tuple[str, ...]:
        return tuple(sorted(name for name in names if (self.output_dir / name).exists()))

    def _put(self, planned: FitEntry, files: Iterable[str], *, finished: bool) -> None:
        entry = replace(planned, files=tuple(sorted(files)), finished=finished)
        others = [fit for fit in self.listing.fits if fit.key != planned.key]
        self.listing = replace(self.listing, fits=(*others, entry))

    def _names(self, files: Iterable[Path]) -> list[str]:
        return [path.relative_to(self.output_dir).as_posix() for path in files]

    def _write(self, failures: Iterable[str] = ()) -> None:
        fits = [
            {
                "Label": fit.label,
                "Node": fit.node,
                "Group": dict(fit.group),
                "Finished": fit.finished,
                "Record": None if fit.record is None else asdict(fit.record),
                "Contrasts": dict(fit.contrasts),
                "Files": list(fit.files),
            }
            for fit in self.listing.fits
        ]
        content = {
            "Finished": all(fit.finished for fit in self.listing.fits),
            "Failures": list(failures),
            "Files": sorted(self.listing.all_files),
            "Shared": {label: list(names) for label, names in self.listing.shared.items()},
            "Fits": fits,
        }
        write_json(self.output_dir / MANIFEST, content)


def read_manifest(output_dir: Path) -> dict[str, Any]:
    """Read the list of an output dataset as it is; empty where there is none that can be read."""
    try:
        content = json.loads(read_regular(output_dir / MANIFEST, LARGEST_TABLE))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) and isinstance(content.get("Files"), list) else {}


def read_listing(output_dir: Path) -> Listing:
    """Read what an output dataset holds; nothing where there is no list that can be read.

    A list of an earlier version has files alone: they are one fit of each node, without a record.
    """
    content = read_manifest(output_dir)
    files = _texts(content.get("Files"))
    if not content:
        return Listing(files=_UNLISTED) if is_ours(output_dir) else Listing()
    if not isinstance(content.get("Fits"), list):
        return _earlier_version(files, finished=content.get("Finished") is True)
    try:
        fits = tuple(_read_fit(each) for each in content["Fits"])
        shared = {label: _texts(names) for label, names in content["Shared"].items()}
    except (KeyError, TypeError, ValueError, AttributeError):
        return _earlier_version(files, finished=False)
    taken = Listing(fits, shared).all_files
    return Listing(fits, shared, tuple(name for name in files if name not in taken))


def _earlier_version(files: Sequence[str], *, finished: bool) -> Listing:
    by_label: dict[str, list[str]] = {}
    others: list[str] = list(_UNLISTED)
    for name in files:
        label = PurePosixPath(name).parts[0].removeprefix("node-").removesuffix(".html")
        (by_label.setdefault(label, []) if name.startswith("node-") else others).append(name)
    fits = [FitEntry(label, label, {}, tuple(names), finished) for label, names in by_label.items()]
    return Listing(tuple(fits), {}, tuple(others))


def _read_fit(content: Mapping[str, Any]) -> FitEntry:
    record = content["Record"]
    return FitEntry(
        str(content["Label"]),
        str(content["Node"]),
        {str(name): str(label) for name, label in content["Group"].items()},
        _texts(content["Files"]),
        content["Finished"] is True,
        None if record is None else FitRecord.from_json(record),
        dict(content["Contrasts"]),
    )


def _texts(values: object) -> tuple[str, ...]:
    """Names that stay inside, of a list that may hold anything."""
    names = values if isinstance(values, list) else ()
    return tuple(
        name
        for name in names
        if isinstance(name, str)
        and name
        and not name.startswith("/")
        and ".." not in PurePosixPath(name).parts
    )


def is_finished(output_dir: Path, label: str = "") -> bool:
    """Whether all runs that wrote maps came to their end; or that of one node."""
    fits = read_listing(output_dir).fits
    if label:
        return all(fit.finished for fit in fits if fit.label == label)
    return read_manifest(output_dir).get("Finished") is True and all(fit.finished for fit in fits)


def foreign_files(output_dir: Path, names: Iterable[str]) -> list[str]:
    """Those of these files that are there and that no run of this software wrote."""
    ours = read_listing(output_dir).all_files
    return [name for name in names if name not in ours and os.path.lexists(output_dir / name)]


def own_path(output_dir: Path, name: str) -> Path | None:
    """Path of a listed file, None where it is not one that a run writes."""
    pure = PurePosixPath(name)
    if not name.startswith("node-") or not any(pure.match(pattern) for pattern in _OURS):
        return None
    path = output_dir / name
    # A directory that is a link leads out of OUTPUT_DIR.
    inside = path.parent.resolve().is_relative_to(output_dir.resolve())
    return path if inside else None
