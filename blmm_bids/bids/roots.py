"""Which directories are read: BIDS_DIR and derivatives, checked for being BIDS datasets."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlparse

from blmm_bids.errors import InvalidBIDSError, MissingInputError, UsageError
from blmm_bids.regular_files import LARGEST_JSON, read_regular

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

DESCRIPTION = "dataset_description.json"


@dataclass(frozen=True)
class Root:
    """One dataset that is read.

    Attributes
    ----------
    name : str
        Its name in BIDS URIs; empty for BIDS_DIR itself.
    path : Path
    has_images : bool
        False for a raw dataset, which gives tables only.
    links : mapping of str to str
        ``DatasetLinks`` of its description.
    """

    name: str
    path: Path
    has_images: bool
    links: Mapping[str, str]

    def linked_path(self, name: str) -> Path | None:
        """Directory of a dataset that ``DatasetLinks`` names; None for remote ones and unknown names."""
        link = self.links.get(name)
        if link is None:
            return None
        parts = urlparse(link)
        if parts.scheme not in {"", "file"}:
            return None
        return self.path / unquote(parts.path)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises
    ------
    InvalidBIDSError
        The file is no JSON object; the message says where it breaks.
    MissingInputError
        The file cannot be read.
    """
    try:
        found = json.loads(read_regular(path, LARGEST_JSON).decode("utf-8-sig"))
    except json.JSONDecodeError as error:
        msg = f"{path}, line {error.lineno}: not valid JSON ({error.msg}). Correct the file."
        raise InvalidBIDSError(msg) from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        msg = f"{path}, line {line}: not UTF-8 text. Save the file as UTF-8."
        raise InvalidBIDSError(msg) from error
    except OSError as error:
        msg = f"{path} cannot be read ({error.strerror}). If it is a datalad link, run 'datalad get' on it."
        raise MissingInputError(msg) from error
    except (ValueError, RecursionError) as error:
        # Numbers of thousands of digits, brackets nested as deep.
        msg = f"{path}: no JSON that can be read ({error}). Correct the file."
        raise InvalidBIDSError(msg) from error
    if not isinstance(found, dict):
        msg = f"{path} holds a JSON {type(found).__name__}, but an object ({{...}}) was expected."
        raise InvalidBIDSError(msg)
    return found


def find_roots(
    bids_dir: Path, derivatives: Sequence[tuple[str | None, Path]], *, skip_validation: bool = False
) -> tuple[Root, ...]:
    """Check BIDS_DIR and the derivatives named on the command line.

    Parameters
    ----------
    bids_dir : Path
    derivatives : sequence of (name or None, Path)
    skip_validation : bool
        Accept datasets without a description, and search a raw BIDS_DIR for images too.

    Returns
    -------
    tuple of Root
        BIDS_DIR first.

    Raises
    ------
    InvalidBIDSError
        A dataset has no usable ``dataset_description.json``, or BIDS_DIR is raw and no derivatives are named.
    MissingInputError
        A directory does not exist.
    UsageError
        Two derivatives have the same name.
    """
    # Workers may run in another directory.
    bids_dir = bids_dir.absolute()
    description = _read_description(bids_dir, "BIDS_DIR", skip_validation=skip_validation)
    is_raw = _is_raw(description)
    if is_raw and not derivatives and not skip_validation:
        raise InvalidBIDSError(_raw_message(bids_dir))
    roots = [Root("", bids_dir, not is_raw or not derivatives, _links(description))]
    for given, path in ((name, path.absolute()) for name, path in derivatives):
        description = _read_description(path, "The derivatives", skip_validation=skip_validation)
        name = _dataset_name(given, path, [root.name for root in roots])
        if any(_same(path, root.path) for root in roots):
            if _same(path, bids_dir):
                roots[0] = Root("", bids_dir, has_images=True, links=roots[0].links)
            continue
        roots.append(Root(name, path, has_images=True, links=_links(description)))
    return tuple(roots)


def _links(description: Mapping[str, Any]) -> dict[str, str]:
    links = description.get("DatasetLinks")
    if not isinstance(links, dict):
        return {}
    return {name: link for name, link in links.items() if isinstance(link, str)}


def _same(first: Path, second: Path) -> bool:
    return first.resolve() == second.resolve()


def _dataset_name(given: str | None, path: Path, taken: Sequence[str]) -> str:
    if given and given in taken:
        msg = f"--derivatives names '{given}' twice. Give each directory a name of its own."
        raise UsageError(msg)
    name = given or path.resolve().name
    number = 2
    unique = name
    while unique in taken:
        unique = f"{name}{number}"
        number += 1
    return unique


def _is_raw(description: Mapping[str, Any]) -> bool:
    if not description:
        return False
    # Descriptions from before BIDS 1.4 have no DatasetType; derivatives had a pipeline's name instead.
    is_derivative = "GeneratedBy" in description or "PipelineDescription" in description
    kind = description.get("DatasetType", "derivative" if is_derivative else "raw")
    return bool(kind != "derivative")


def _raw_message(bids_dir: Path) -> str:
    found = _datasets_below(bids_dir / "derivatives")
    example = found[0] if found else "DERIVATIVES_DIR"
    listed = f" Found there: {', '.join(str(path) for path in found)}." if found else ""
    return (
        f"{bids_dir} is a raw dataset, and images are read from derivatives. Name them: "
        f"--derivatives {example}.{listed} If {bids_dir} does hold derivatives, say "
        f'\'"DatasetType": "derivative"\' in its {DESCRIPTION}, or use --skip-bids-validation.'
    )


def _datasets_below(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(child for child in folder.iterdir() if (child / DESCRIPTION).is_file())


def _read_description(path: Path, role: str, *, skip_validation: bool) -> dict[str, Any]:
    if not path.exists():
        msg = f"{role}: {path} does not exist. Check the path (inside a container: is it mounted?)."
        raise MissingInputError(msg)
    if not path.is_dir():
        msg = f"{role}: {path} is a file, but a directory was expected."
        raise MissingInputError(msg)
    try:
        with os.scandir(path):
            pass
    except OSError as error:
        msg = f"{role}: {path} cannot be read ({error.strerror}). Check its permissions."
        raise MissingInputError(msg) from error
    file = path / DESCRIPTION
    if file.exists():
        return read_json(file)
    if skip_validation:
        return {}
    below = _datasets_below(path)
    hint = f" These are datasets: {', '.join(str(child) for child in below)}." if below else ""
    msg = (
        f"{role}: {path} has no {DESCRIPTION}, so it is not a BIDS dataset.{hint} "
        "Give a dataset's root, add the file, or use --skip-bids-validation."
    )
    raise InvalidBIDSError(msg)
