"""Covariates: participants, sessions, scans and phenotype tables, joined to the images.

Every line of a table carries the entities that it is about. It belongs to an image where all entities
that both have are equal; where several lines belong to one image, they must agree on a column's value.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from blmm_bids.bids.described import Description, describe_columns
from blmm_bids.bids.encodings import BY_BYTES
from blmm_bids.bids.keys import ENTITY_OF, find_keys, is_missing, telling_columns
from blmm_bids.bids.names import parse_name
from blmm_bids.bids.roots import read_json
from blmm_bids.bids.tsv import Tsv, read_header, read_tsv
from blmm_bids.errors import BlmmError, InvalidBIDSError, MissingInputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from blmm_bids.bids.keys import Keys
    from blmm_bids.bids.layout import BidsFile, Listing

_KEY_OF: Final = {"sessions": "session_id", "scans": "filename"}
_NO_ENTITIES: Final[Mapping[str, str]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table.

    Attributes
    ----------
    entities : mapping of str to str
        What the line is about.
    values : mapping of str to str
        Text of each column, keys excluded.
    is_scan : bool
        Whether it is a line of scans.tsv.
    datatype : str or None
        Folder of the file that a line of scans.tsv names.
    where : str
        File and line, for messages.
    """

    entities: Mapping[str, str]
    values: Mapping[str, str]
    where: str
    is_scan: bool = False
    datatype: str | None = None


@dataclass(frozen=True)
class Fault:
    """What keeps columns from being read; it matters only where the model uses one of them.

    Attributes
    ----------
    error : BlmmError
        To be raised there.
    columns : tuple of str
        As far as the header can be read.
    entities : mapping of str to str
        What the file is about: it says nothing of other images.
    is_whole : bool
        Whether all columns of the file are concerned, so that it gives no line.
    """

    error: BlmmError
    columns: tuple[str, ...]
    entities: Mapping[str, str] = field(default_factory=dict)
    is_whole: bool = True


@dataclass(frozen=True)
class Table:
    """All files of one kind (``sessions``), line by line.

    Attributes
    ----------
    name : str
        Qualifies the columns: ``sessions.age``.
    rows : tuple of Row
    about : mapping of str to Description
        What JSON sidecars say of columns.
    notices : tuple of str
        What was guessed in reading it, for those who use it.
    faults : tuple of Fault
    telling : tuple of str
        Columns that tell several lines of one participant apart, where nothing else does.
    """

    name: str
    rows: tuple[Row, ...]
    about: Mapping[str, Description] = field(default_factory=dict)
    notices: tuple[str, ...] = ()
    faults: tuple[Fault, ...] = ()
    telling: tuple[str, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns, keys excluded, in order of appearance."""
        return tuple(dict.fromkeys(name for row in self.rows for name in row.values))


@dataclass
class _Files:
    """What is collected for one table while its files are read."""

    encoding: str = BY_BYTES
    rows: list[Row] = field(default_factory=list)
    about: dict[str, Description] = field(default_factory=dict)
    sidecars: set[Path] = field(default_factory=set)
    notices: list[str] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    telling: list[str] = field(default_factory=list)


def read_tables(
    listings: Sequence[Listing], participants_tsv: Path | None = None, encoding: str = BY_BYTES
) -> tuple[Table, ...]:
    """Read all tables of some datasets.

    What is wrong with a file is kept as a fault of its table: no run ends for a table that it does not use.

    Parameters
    ----------
    listings : sequence of Listing
    participants_tsv : Path, optional
        Read in place of the datasets' own participants.tsv.
    encoding : str
        Of all tables; ``"auto"``: the bytes say it.

    Returns
    -------
    tuple of Table
        ``participants``, ``sessions``, ``scans``, then one per phenotype file, those without a line left out.

    Raises
    ------
    MissingInputError
        `participants_tsv` does not exist.
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
        Table(
            name,
            tuple(files.rows),
            files.about,
            tuple(files.notices),
            tuple(files.faults),
            tuple(dict.fromkeys(files.telling)),
        )
        for name in dict.fromkeys(order)
        if (files := found.get(name)) is not None and (files.rows or files.faults)
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
    try:
        tsv = read_tsv(path, files.encoding)
        keys = find_keys(tsv, key)
    except BlmmError as error:
        files.faults.append(Fault(error, read_header(path, files.encoding), entities))
        return
    _describe(files, sidecars, tsv.columns)
    for name in tsv.twice:
        msg = f"{path}: column '{name}' is there twice. Rename or remove one."
        files.faults.append(Fault(InvalidBIDSError(msg), (name,), entities, is_whole=False))
    files.rows.extend(
        _scans_rows(tsv, keys, entities) if key == "filename" else _keyed_rows(tsv, keys, entities)
    )
    files.notices += [*([tsv.notice] if tsv.notice else []), *keys.notices]
    files.telling += _telling(tsv, keys)


def _describe(files: _Files, sidecars: Iterable[Path], columns: tuple[str, ...]) -> None:
    for sidecar in sidecars:
        # The one at the root describes the tables of all subjects.
        if sidecar in files.sidecars or not sidecar.exists():
            continue
        files.sidecars.add(sidecar)
        try:
            files.about.update(describe_columns(read_json(sidecar), sidecar.name))
        except BlmmError as error:
            files.faults.append(Fault(error, columns))


def _telling(tsv: Tsv, keys: Keys) -> list[str]:
    labels = [tuple(line.cells[column] for column in keys.columns.values()) for line in tsv.lines]
    counts = Counter(labels)
    repeated = [line for line, about in zip(tsv.lines, labels, strict=True) if counts[about] > 1]
    return telling_columns(repeated, keys.columns)


def _keyed_rows(tsv: Tsv, keys: Keys, entities: Mapping[str, str]) -> list[Row]:
    rows: list[Row] = []
    for line in tsv.lines:
        about = {
            entity: label.removeprefix(prefix)
            for name, (entity, prefix) in ENTITY_OF.items()
            if name in keys.columns and not is_missing(label := line.cells[keys.columns[name]])
        }
        values = {name: cell for name, cell in line.cells.items() if name not in keys.columns.values()}
        # A spreadsheet's empty lines are about nobody.
        if about:
            rows.append(Row({**entities, **about}, values, f"{tsv.path}, line {line.number}"))
    return rows


def _scans_rows(tsv: Tsv, keys: Keys, entities: Mapping[str, str]) -> list[Row]:
    key = keys.columns["filename"]
    rows: list[Row] = []
    for line in tsv.lines:
        folder, _, name = line.cells[key].replace("\\", "/").rstrip("/").rpartition("/")
        parsed = parse_name(name)
        # A reference image is taken together with its run, but a little earlier: its times would never agree.
        if parsed is None or parsed.suffix == "sbref":
            continue
        rows.append(
            Row(
                {**entities, **parsed.entities},
                {column: value for column, value in line.cells.items() if column != key},
                f"{tsv.path}, line {line.number}",
                is_scan=True,
                datatype=folder.rpartition("/")[2] or None,
            )
        )
    return rows
