"""The files of a dataset: a walk with ``os.scandir``, or the index that pybids keeps in a database."""

from __future__ import annotations

import os
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from blmm_bids.bids.formats import ADVICE, IMAGE_EXTENSIONS, counted, image_format, is_read
from blmm_bids.bids.names import (
    CONFIG_FILE,
    DIRECTORY_KEYS,
    LONG_NAME,
    ParsedName,
    datatype_folders,
    parse_name,
)
from blmm_bids.errors import InvalidBIDSError, MissingInputError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

SKIPPED_DIRECTORIES: Final = frozenset({"sourcedata", "code", "derivatives"})
# What is a file by its name: a directory that is named so is refused where it is read.
_FILE_EXTENSIONS: Final = (*IMAGE_EXTENSIONS, ".tsv", ".json")


@dataclass(frozen=True, slots=True)
class BidsFile:
    """One file of a dataset.

    Attributes
    ----------
    folder, name : str
        Where the file lies, and its name; `path` joins them.
    root : Path
        Root of the dataset that it was found in.
    entities : mapping of str to str
        Long entity name to label, those of ``sub-``, ``ses-`` and ``node-`` directories included.
    suffix, extension : str
    datatype : str or None
        The datatype folder (``func``) that the file lies in, if any.
    """

    folder: str
    name: str
    root: Path
    entities: Mapping[str, str]
    suffix: str
    extension: str
    datatype: str | None

    @property
    def path(self) -> Path:
        """The file, made on demand: most files of a dataset are listed and never looked at."""
        return Path(self.folder, self.name)


@dataclass(frozen=True)
class Listing:
    """All files of one dataset whose names follow BIDS, sorted by path, and what went wrong on the way."""

    root: Path
    files: tuple[BidsFile, ...]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Directory:
    path: str
    entities: Mapping[str, str]
    datatype: str | None

    def child(self, name: str) -> _Directory:
        key, dash, label = name.partition("-")
        entities = self.entities
        if dash and key in DIRECTORY_KEYS and parse_name(f"{name}_x"):
            entities = {**entities, LONG_NAME[key]: label}
        datatype = name if name in datatype_folders() else self.datatype
        return _Directory(f"{self.path}{os.sep}{name}", entities, datatype)


class _Collector:
    """Turns names into `BidsFile` and counts those that cannot be."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.files: list[BidsFile] = []
        self._unnamed: list[str] = []
        self._unread: list[tuple[str, str]] = []
        self._misplaced: list[str] = []

    def add(self, directory: _Directory, name: str) -> None:
        parsed = parse_name(name)
        ending = image_format(name)
        if ending is not None:
            self._note_unnamed(f"{directory.path}/{name}", ending, parsed)
        if parsed is None:
            return
        entities = {**directory.entities, **parsed.entities}
        if any(entities[key] != label for key, label in directory.entities.items()):
            self._misplaced.append(f"{directory.path}/{name}")
        self.files.append(
            BidsFile(
                directory.path, name, self.root, entities, parsed.suffix, parsed.extension, directory.datatype
            )
        )

    def _note_unnamed(self, path: str, ending: str, parsed: ParsedName | None) -> None:
        if not is_read(ending):
            # AFNI puts the view where BIDS has the suffix: statmap+tlrc.
            if parsed is None or not parsed.entities or ending.startswith(".BRIK"):
                self._unread.append((ending, path))
        elif parsed is None or parsed.extension != ending:
            # A name without an entity may still be used: its folder may say whose it is.
            self._unnamed.append(path)

    def warnings(self) -> Iterator[str]:
        if self._unnamed:
            yield (
                f"{len(self._unnamed)} image file(s) of {self.root} have names that do not follow BIDS "
                f"and are not used (to use them, list them in a table: --images TABLE.tsv), the first being "
                f"{min(self._unnamed)}"
            )
        if self._unread:
            endings, paths = zip(*self._unread, strict=True)
            yield (
                f"{len(paths)} image file(s) of {self.root} have names that do not follow BIDS and are of "
                f"formats that are not read, {counted(endings)}, the first being {min(paths)}: {ADVICE}"
            )
        if self._misplaced:
            yield (
                f"{len(self._misplaced)} file(s) of {self.root} lie in the folder of another subject or "
                f"session than their names say (the names count), the first being {self._misplaced[0]}"
            )

    def listing(self, more_warnings: Iterable[str] = ()) -> Listing:
        files = tuple(sorted(self.files, key=lambda file: (file.folder, file.name)))
        return Listing(self.root, files, (*more_warnings, *self.warnings()))


def _is_skipped(name: str) -> bool:
    return name.startswith(".") or name in SKIPPED_DIRECTORIES


def walk_dataset(root: Path, exclude: Collection[Path] = ()) -> Listing:
    """List the files of a dataset.

    Hidden directories, ``sourcedata``, ``code`` and nested ``derivatives`` are skipped. Links to
    directories are followed once each, after all real directories, so that loops end.

    Parameters
    ----------
    root : Path
    exclude : collection of Path
        Directories that are datasets of their own and listed apart.

    Returns
    -------
    Listing
        Directories that cannot be read are named in its warnings.

    Raises
    ------
    MissingInputError
        A directory of a subject, session or node cannot be read: its images would be left out in silence.
    """
    collector = _Collector(root)
    warnings: list[str] = []
    # Roots that contain this one do not matter; those inside it, and only those, are met on the way.
    seen = {identity for path in exclude if (identity := _identity(str(path)))}
    seen.discard(_identity(str(root)) or (0, 0))
    real: deque[_Directory] = deque([_Directory(str(root), {}, None)])
    linked: deque[_Directory] = deque()
    while real or linked:
        directory = real.popleft() if real else linked.popleft()
        identity = _identity(directory.path)
        if identity in seen:
            continue
        if identity is not None:
            seen.add(identity)
        try:
            with os.scandir(directory.path) as entries:
                for entry in entries:
                    _sort_entry(entry, directory, collector, real, linked)
        except OSError as error:
            if directory.entities:
                raise MissingInputError(_unreadable(directory, error)) from error
            warnings.append(f"{directory.path} cannot be read ({error.strerror}): what it holds is not used")
    return collector.listing(warnings)


def _unreadable(directory: _Directory, error: OSError) -> str:
    about = " ".join(f"{name} {label}" for name, label in directory.entities.items())
    return (
        f"{directory.path} cannot be read ({error.strerror}), and by its name it holds images of {about}. "
        "Mend its permissions, or use a copy of the dataset without it."
    )


def _identity(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)  # noqa: PTH116
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _sort_entry(
    entry: os.DirEntry[str],
    directory: _Directory,
    collector: _Collector,
    real: deque[_Directory],
    linked: deque[_Directory],
) -> None:
    try:
        is_directory = entry.is_dir()
    except OSError:  # a link to itself is neither
        is_directory = False
    # A directory by the name of a file is listed as one, so that whoever wants to read it says what it is.
    if not is_directory or entry.name.endswith(_FILE_EXTENSIONS):
        if not entry.name.startswith("."):
            collector.add(directory, entry.name)
    elif not _is_skipped(entry.name):
        (linked if entry.is_symlink() else real).append(directory.child(entry.name))


def _parse_path(collector: _Collector, relative: Path) -> None:
    *folders, name = relative.parts
    if any(_is_skipped(folder) for folder in folders):
        return
    directory = _Directory(str(collector.root), {}, None)
    for folder in folders:
        directory = directory.child(folder)
    collector.add(directory, name)


def list_database(database_dir: Path, roots: Mapping[str, Path]) -> list[Listing]:
    """List the files of datasets from a pybids database.

    A database is made where there is none yet: in `database_dir` for the first dataset, in its folder of
    the dataset's name for the others. Names are parsed here, so that databases made without this
    project's entities serve as well.

    Parameters
    ----------
    database_dir : Path
        The directory given to ``BIDSLayout(database_path=...)``.
    roots : mapping of str to Path
        Name -> root directory, BIDS_DIR (whose name is empty) first.

    Returns
    -------
    list of Listing
        In the order of `roots`.

    Raises
    ------
    InvalidBIDSError
        A database cannot be opened, or describes another dataset.
    """
    known: dict[Path, list[Path]] = {}
    listings = []
    for name, root in roots.items():
        if root.resolve() not in known:
            known.update(_indexed_files(database_dir / name, root))
        collector = _Collector(root)
        for relative in known[root.resolve()]:
            _parse_path(collector, relative)
        listings.append(collector.listing())
    return listings


def _indexed_files(database_dir: Path, root: Path) -> dict[Path, list[Path]]:
    """Paths, relative to the root, of all files that a database has, by resolved root."""
    from bids.layout import BIDSLayout, BIDSLayoutIndexer
    from bids.layout.models import BIDSFile

    advice = f"Remove {database_dir} to have it made again, or leave out --bids-database-dir."
    found: dict[Path, list[Path]] = {}
    try:
        layout = BIDSLayout(
            root,
            validate=False,
            database_path=database_dir,
            config=["bids", "derivatives", str(CONFIG_FILE)],
            indexer=BIDSLayoutIndexer(validate=False, index_metadata=False),
        )
        for each in (layout, *layout.derivatives.values()):
            paths = each.session.query(BIDSFile.path)
            found[Path(each.root).resolve()] = [Path(path).relative_to(each.root) for (path,) in paths]
    except Exception as error:
        msg = f"pybids cannot open its database in {database_dir}: {error}. {advice}"
        raise InvalidBIDSError(msg) from error
    if root.resolve() not in found:
        msg = f"The pybids database in {database_dir} describes {layout.root}, not {root}. {advice}"
        raise InvalidBIDSError(msg)
    return found
