"""Where a variable may be that no table has which is read: the datasets around those that were named.

Maps often lie in ``BIDS/derivatives/NAME`` and covariates in ``BIDS/participants.tsv``. Only the tables of
the datasets that are named are read, so the message has to say which one to name.
"""

from __future__ import annotations

import shlex
from itertools import chain, islice
from typing import TYPE_CHECKING, Final

from blmm_bids.bids.roots import DESCRIPTION, Root, read_json
from blmm_bids.errors import BlmmError, MissingInputError
from blmm_bids.regular_files import open_regular

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_LEVELS: Final = 3
_SUBJECTS: Final = 5
"""Subjects whose tables are looked at: this is advice, and all of them have the same columns."""
_HEADER_BYTES: Final = 65_536


def advice_on_variable(name: str, sources: Mapping[str, Path], output_dir: Path, *, has_tables: bool) -> str:
    """Say where a variable is that no table has.

    Parameters
    ----------
    name : str
        Variable as the formula has it.
    sources : mapping of str to Path
        Datasets that are read; ``""`` is BIDS_DIR.
    output_dir : Path
        For the command line that is advised.
    has_tables : bool
        Whether any table was read.

    Returns
    -------
    str
        To be put after the error's message; empty where there is nothing to say.
    """
    column = name.rpartition(".")[2]
    for root in _datasets_around(sources):
        table = next((path for path in _tables(root) if column in _columns(path)), None)
        if table is None:
            continue
        if not (root / DESCRIPTION).is_file() and table.name == "participants.tsv":
            return f". {table} has it, and is not read: add --participants-tsv {shlex.quote(str(table))}"
        command = _command(root, output_dir, *sources.values())
        undescribed = "" if (root / DESCRIPTION).is_file() else f" (after adding its {DESCRIPTION})"
        return f". {table} has it, and is not read: make its dataset BIDS_DIR{undescribed}: {command}"
    if has_tables:
        return ""
    maps = next(iter(sources.values()))
    return (
        f". {maps} has no participants.tsv, sessions.tsv, scans.tsv or phenotype/*.tsv: where the tables are "
        f"in another dataset, make that one BIDS_DIR: {_command('RAW_DATASET', output_dir, maps)}"
    )


def _command(bids_dir: Path | str, output_dir: Path, *derivatives: Path) -> str:
    first, out, *others = (shlex.quote(str(path)) for path in (bids_dir, output_dir, *derivatives))
    return f"bids_app_run.py {first} {out} group -d {' '.join(others)} …"


def _datasets_around(sources: Mapping[str, Path]) -> Iterator[Path]:
    """Folders above the datasets, nearest first, then those that their descriptions link to."""
    read = {path.resolve() for path in sources.values()}
    found: dict[Path, None] = {}
    for source in sources.values():
        found.update(dict.fromkeys(islice(source.resolve().parents, _LEVELS)))
    for source in sources.values():
        found.update(dict.fromkeys(_linked(source)))
    yield from (path for path in found if path not in read and path.is_dir())


def _linked(dataset: Path) -> Iterator[Path]:
    try:
        links = read_json(dataset / DESCRIPTION).get("DatasetLinks")
    except BlmmError:
        return
    if isinstance(links, dict):
        root = Root(
            "", dataset, has_images=False, links={k: v for k, v in links.items() if isinstance(v, str)}
        )
        paths = (root.linked_path(name) for name in root.links)
        yield from (path.resolve() for path in paths if path is not None)


def _tables(root: Path) -> Iterator[Path]:
    """Tables of a dataset that may have covariates, those of the first subjects only."""
    yield root / "participants.tsv"
    yield from sorted((root / "phenotype").glob("[!.]*.tsv"))
    for subject in islice(root.glob("sub-*"), _SUBJECTS):
        yield from chain(subject.glob("*_sessions.tsv"), subject.glob("*_scans.tsv"))
        yield from subject.glob("ses-*/*_scans.tsv")


def _columns(table: Path) -> list[str]:
    """Columns of a table by its header alone; none where it cannot be read."""
    try:
        with open_regular(table) as file:
            raw = file.read(_HEADER_BYTES)
    except (OSError, MissingInputError):
        return []
    text = raw.decode("utf-16" if b"\0" in raw else "utf-8-sig", errors="replace")
    header = text.partition("\n")[0]
    return [cell.strip().strip('"') for cell in header.split("\t")]
