"""Covariates: participants, sessions, scans and phenotype tables, joined to the images.

Every line of a table carries the entities that it is about. It belongs to an image where all entities
that both have are equal; where several lines belong to one image, they must agree on a column's value.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from blmm_bids.bids.names import parse_name
from blmm_bids.bids.roots import read_json
from blmm_bids.bids.tsv import UTF_8, Tsv, read_tsv
from blmm_bids.errors import InvalidBIDSError, MissingInputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from blmm_bids.bids.layout import BidsFile, Listing

_KEY_COLUMNS: Final = {"participant_id": ("subject", "sub-"), "session_id": ("session", "ses-")}
_KEY_OF: Final = {"sessions": "session_id", "scans": "filename"}
_NO_ENTITIES: Final[Mapping[str, str]] = MappingProxyType({})
_NUMBER: Final = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table.

    Attributes
    ----------
    entities : mapping of str to str
        What the line is about.
    values : mapping of str to (str or None)
        Text of each column, keys excluded.
    is_scan : bool
        Whether it is a line of scans.tsv.
    datatype : str or None
        Folder of the file that a line of scans.tsv names.
    where : str
        File and line, for messages.
    """

    entities: Mapping[str, str]
    values: Mapping[str, str | None]
    where: str
    is_scan: bool = False
    datatype: str | None = None


@dataclass(frozen=True)
class Table:
    """All files of one kind (``sessions``), line by line.

    Attributes
    ----------
    name : str
        Qualifies the columns: ``sessions.age``.
    rows : tuple of Row
    described : frozenset of str
        Columns that have ``Levels`` in a JSON sidecar.
    warnings : tuple of str
    """

    name: str
    rows: tuple[Row, ...]
    described: frozenset[str] = frozenset()
    warnings: tuple[str, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns, keys excluded, in order of appearance."""
        return tuple(dict.fromkeys(name for row in self.rows for name in row.values))


@dataclass
class _Files:
    """What is collected for one table while its files are read."""

    encoding: str = UTF_8
    rows: list[Row] = field(default_factory=list)
    described: set[str] = field(default_factory=set)
    sidecars: set[Path] = field(default_factory=set)
    warnings: list[str] = field(default_factory=list)


def read_tables(
    listings: Sequence[Listing], participants_tsv: Path | None = None, encoding: str = UTF_8
) -> tuple[Table, ...]:
    """Read all tables of some datasets.

    Parameters
    ----------
    listings : sequence of Listing
    participants_tsv : Path, optional
        Read in place of the datasets' own participants.tsv.
    encoding : str
        Of all tables.

    Returns
    -------
    tuple of Table
        ``participants``, ``sessions``, ``scans``, then one per phenotype file, those without a line left out.

    Raises
    ------
    InvalidBIDSError
        A file is malformed, lacks its key column, or has two lines for one key.
    MissingInputError
        `participants_tsv` does not exist, or a table cannot be read.
    """
    found: dict[str, _Files] = defaultdict(lambda: _Files(encoding))
    if participants_tsv is not None:
        if not participants_tsv.exists():
            msg = f"--participants-tsv: {participants_tsv} does not exist. Check the path."
            raise MissingInputError(msg)
        sidecars = [listing.root / "participants.json" for listing in listings]
        sidecars.append(participants_tsv.with_suffix(".json"))
        _add_file(found["participants"], participants_tsv, sidecars, "participant_id")
    for listing in listings:
        root = listing.root
        top = root / "participants.tsv"
        if participants_tsv is None and (top.exists() or top.is_symlink()):
            _add_file(found["participants"], top, [root / "participants.json"], "participant_id")
        for file in listing.files:
            if file.extension == ".tsv" and file.suffix in _KEY_OF:
                key = _KEY_OF[file.suffix]
                _add_file(found[file.suffix], file.path, _sidecars(file), key, file.entities)
        for path in sorted((root / "phenotype").glob("[!.]*.tsv")):
            _add_file(found[path.stem], path, [path.with_suffix(".json")], "participant_id")
    order = ["participants", "sessions", "scans", *sorted(found)]
    return tuple(
        Table(name, tuple(found[name].rows), frozenset(found[name].described), tuple(found[name].warnings))
        for name in dict.fromkeys(order)
        if name in found and found[name].rows
    )


def _sidecars(file: BidsFile) -> list[Path]:
    """JSON files that may describe a sessions or scans table, by the inheritance principle."""
    folders = []
    for folder in file.path.parents:
        folders.append(folder)
        if folder == file.root:
            break
    names = {f"{file.suffix}.json", file.path.with_suffix(".json").name}
    return [folder / name for folder in reversed(folders) for name in sorted(names)]


def _add_file(
    files: _Files, path: Path, sidecars: Iterable[Path], key: str, entities: Mapping[str, str] = _NO_ENTITIES
) -> None:
    tsv = read_tsv(path, files.encoding)
    _check_keys(tsv, key)
    rows = _scans_rows(tsv, entities) if key == "filename" else _keyed_rows(tsv, entities)
    files.rows.extend(rows)
    for sidecar in sidecars:
        # The one at the root describes the tables of all subjects.
        if sidecar not in files.sidecars and sidecar.exists():
            files.sidecars.add(sidecar)
            described = read_json(sidecar)
            files.described.update(
                name for name, about in described.items() if isinstance(about, dict) and "Levels" in about
            )


def _check_keys(tsv: Tsv, key: str) -> None:
    """Every line has its key, and no two lines have the same keys."""
    if key not in tsv.columns:
        msg = f"{tsv.path} has no column '{key}' (it has {', '.join(tsv.columns)}). Add or rename it."
        raise InvalidBIDSError(msg)
    keys = [name for name in ("filename", *_KEY_COLUMNS) if name in tsv.columns]
    if key == "filename":
        keys = [key]
    line_of: dict[tuple[str | None, ...], int] = {}
    for line in tsv.lines:
        if line.cells[key] is None:
            msg = f"{tsv.path}, line {line.number}: '{key}' is missing. Fill it in or remove the line."
            raise InvalidBIDSError(msg)
        labels = tuple(line.cells[name] for name in keys)
        first = line_of.setdefault(labels, line.number)
        if first != line.number:
            named = " ".join(label for label in labels if label)
            msg = f"{tsv.path}: lines {first} and {line.number} are both about {named}. Remove one of them."
            raise InvalidBIDSError(msg)


def _keyed_rows(tsv: Tsv, entities: Mapping[str, str]) -> list[Row]:
    keys = {name: rule for name, rule in _KEY_COLUMNS.items() if name in tsv.columns}
    rows: list[Row] = []
    for line in tsv.lines:
        about = {
            entity: label.removeprefix(prefix)
            for name, (entity, prefix) in keys.items()
            if (label := line.cells[name]) is not None
        }
        values = {name: value for name, value in line.cells.items() if name not in keys}
        rows.append(Row({**entities, **about}, values, f"{tsv.path}, line {line.number}"))
    return rows


def _scans_rows(tsv: Tsv, entities: Mapping[str, str]) -> list[Row]:
    rows: list[Row] = []
    for line in tsv.lines:
        folder, _, name = (line.cells["filename"] or "").rstrip("/").rpartition("/")
        parsed = parse_name(name)
        # A reference image is taken together with its run, but a little earlier: its times would never agree.
        if parsed is None or parsed.suffix == "sbref":
            continue
        rows.append(
            Row(
                {**entities, **parsed.entities},
                {column: value for column, value in line.cells.items() if column != "filename"},
                f"{tsv.path}, line {line.number}",
                is_scan=True,
                datatype=folder.rpartition("/")[2] or None,
            )
        )
    return rows
