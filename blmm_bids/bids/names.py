"""BIDS entities and file names: what a name says, and how a name is built.

The entities and the characters of their labels come from pybids' own configuration files and from
``config/blmm.json``, read as JSON: importing pybids takes longer than walking a large dataset.
Long names are pybids' (``subject``, ``acquisition``, ``res``), since model specs are written in them.
"""

from __future__ import annotations

import importlib.util
import json
import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from blmm_bids.errors import ModelSpecError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

CONFIG_FILE: Final = Path(__file__).parent / "config" / "blmm.json"

_LABEL: Final = re.compile(r"[0-9a-zA-Z+]+")
_ENTITY_PATTERN: Final = re.compile(r"([a-zA-Z]+)-\((.+?)\)")
_NAME: Final = re.compile(r"(?P<stem>[^.]+)(?P<extension>\.[^/\\]+)?")

# The schema's order (rules/entities), pybids' older derivatives entities put where they are used.
# fmt: off
_SCHEMA_ORDER: Final = (
    "sub", "tpl", "ses", "cohort", "sample", "task", "tracksys", "acq", "nuc", "voi", "ce", "trc",
    "stain", "rec", "dir", "run", "mod", "echo", "flip", "inv", "mt", "part", "proc", "hemi", "space",
    "split", "recording", "chunk", "atlas", "roi", "seg", "scale", "res", "den", "label", "model",
    "subset", "from", "to", "mode",
)
# fmt: on
_OUR_ORDER: Final = ("contrast", "param", "desc", "stat")

# Directories may carry these entities for the files in them; all others belong to file names.
DIRECTORY_KEYS: Final = ("sub", "ses", "node")

# What the BIDS schema and older tools call an entity that pybids names otherwise.
ALIASES: Final[Mapping[str, str]] = {
    "resolution": "res",
    "density": "den",
    "description": "desc",
    "hemisphere": "hemi",
    "inversion": "inv",
    "mtransfer": "mt",
    "processing": "proc",
    "stain": "staining",
    "participant": "subject",
    "participant_id": "subject",
    "participant_label": "subject",
    "session_id": "session",
}


@dataclass(frozen=True, slots=True)
class EntityRule:
    """One entity of the configuration: its long name and the labels it may carry."""

    name: str
    key: str
    label: re.Pattern[str]

    @property
    def is_index(self) -> bool:
        """Whether labels are counts (``run-01``), for which ``1`` and ``01`` are the same."""
        return self.label.pattern in {r"\d+", "[0-9]+"}


@dataclass(frozen=True, slots=True)
class ParsedName:
    """What a BIDS file name says.

    Attributes
    ----------
    entities : dict of str to str
        Long entity name to label, in the order of the name.
    suffix : str
    extension : str
        With its dot, from the first dot on (``.nii.gz``); empty where there is none.
    """

    entities: dict[str, str]
    suffix: str
    extension: str


def _pybids_config_files() -> tuple[Path, ...]:
    spec = importlib.util.find_spec("bids")
    if spec is None or spec.origin is None:
        msg = "pybids is not installed beside blmm_bids; install it with 'pip install pybids'"
        raise ModuleNotFoundError(msg)
    folder = Path(spec.origin).parent / "layout" / "config"
    return folder / "bids.json", folder / "derivatives.json"


@lru_cache(maxsize=1)
def entity_rules() -> dict[str, EntityRule]:
    """Every known entity by its short key, from pybids' configuration and ours."""
    rules: dict[str, EntityRule] = {}
    for file in (*_pybids_config_files(), CONFIG_FILE):
        config = json.loads(file.read_text(encoding="utf-8"))
        for entity in config["entities"]:
            found = _ENTITY_PATTERN.search(entity["pattern"])
            if found:
                key, label = found.groups()
                rules[key] = EntityRule(entity["name"], key, re.compile(label))
    return rules


@lru_cache(maxsize=1)
def datatype_folders() -> frozenset[str]:
    """Names of datatype folders (``anat``, ``func`` ...), from pybids' configuration."""
    config = json.loads(_pybids_config_files()[0].read_text(encoding="utf-8"))
    pattern: str = next(entity["pattern"] for entity in config["entities"] if entity["name"] == "datatype")
    return frozenset(re.findall(r"[a-z]+", pattern))


def _ordered_keys(known: Iterable[str]) -> tuple[str, ...]:
    listed = {*_SCHEMA_ORDER, *_OUR_ORDER}
    others = sorted(key for key in known if key not in listed and key != "node")
    return (*_SCHEMA_ORDER, *others, *_OUR_ORDER)


LONG_NAME: Final[Mapping[str, str]] = {key: rule.name for key, rule in entity_rules().items()}
SHORT_NAME: Final[Mapping[str, str]] = {name: key for key, name in LONG_NAME.items()}
ENTITY_ORDER: Final[tuple[str, ...]] = _ordered_keys(LONG_NAME)
INDEX_ENTITIES: Final = frozenset(rule.name for rule in entity_rules().values() if rule.is_index)

_RANK: Final = {LONG_NAME.get(key, key): rank for rank, key in enumerate(ENTITY_ORDER)}


def long_name(name: str) -> str:
    """Translate a short key (``ses``) or the schema's name (``resolution``) to the long name used here."""
    return ALIASES.get(name) or LONG_NAME.get(name, name)


def entity_rank(name: str) -> tuple[int, str]:
    """Sort key of a long entity name: the order in file names, unknown entities last."""
    return _RANK.get(name, len(_RANK)), name


@lru_cache(maxsize=65536)
def _parse_entity(chunk: str) -> tuple[str, str] | None:
    key, dash, label = chunk.partition("-")
    if not dash or not key.isalnum() or not _LABEL.fullmatch(label):
        return None
    rule = entity_rules().get(key)
    if rule is None:
        return key, label
    return (rule.name, label) if rule.label.fullmatch(label) else None


def parse_name(filename: str) -> ParsedName | None:
    """Take a BIDS file name apart.

    Parameters
    ----------
    filename : str
        A name without its directory.

    Returns
    -------
    ParsedName or None
        None where the name does not follow BIDS. Entities that the configuration does not know are
        kept under their own key.
    """
    found = _NAME.fullmatch(filename)
    if found is None:
        return None
    *chunks, suffix = found["stem"].split("_")
    if not _LABEL.fullmatch(suffix):
        return None
    entities: dict[str, str] = {}
    for chunk in chunks:
        entity = _parse_entity(chunk)
        if entity is None or entity[0] in entities:
            return None
        entities[entity[0]] = entity[1]
    return ParsedName(entities, suffix, found["extension"] or "")


def build_name(entities: Mapping[str, str], suffix: str, extension: str) -> str:
    """Build a file name with its entities in BIDS order.

    Parameters
    ----------
    entities : mapping of str to str
        Entities by long or short name.
    suffix, extension : str
        The extension with its dot.

    Raises
    ------
    ModelSpecError
        A label has characters that BIDS does not allow.
    """
    by_name = {long_name(name): label for name, label in entities.items()}
    for name, label in by_name.items():
        if not _LABEL.fullmatch(label):
            msg = (
                f"{name} '{label}' cannot be part of a BIDS file name: letters, digits and '+' only. "
                f"'{to_label(label)}' would do."
            )
            raise ModelSpecError(msg)
    ordered = sorted(by_name, key=_name_rank)
    chunks = [f"{SHORT_NAME.get(name, name)}-{by_name[name]}" for name in ordered]
    return "_".join([*chunks, suffix]) + extension


def _name_rank(name: str) -> tuple[float, str]:
    """Place of an entity in a name: those that BIDS does not know stand before what the outputs are of."""
    return float(_RANK.get(name, _RANK["contrast"] - 0.5)), name


def to_label(text: str) -> str:
    """Turn any text into a BIDS label, words joined in camelCase.

    ``sex[T.M]`` becomes ``sexTM``, ``age:group`` becomes ``ageGroup``; a text that is a label already
    stays as it is. Two texts may give the same label: see `unique_labels`.

    Raises
    ------
    ModelSpecError
        The text has no letter or digit.
    """
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    words: list[str] = re.findall(r"[0-9a-zA-Z+]+", plain)
    first, *rest = words or [""]
    label = first + "".join(word[0].upper() + word[1:] for word in rest)
    if not label.strip("+"):
        msg = f"'{text}' has no ASCII letter or digit, so it cannot name a file. Give it another name."
        raise ModelSpecError(msg)
    return label


def unique_labels(names: Iterable[str]) -> dict[str, str]:
    """Label of each name.

    Raises
    ------
    ModelSpecError
        Two names give the same label, so their files would overwrite each other.
    """
    owner: dict[str, str] = {}
    for name in names:
        other = owner.setdefault(to_label(name), name)
        if other != name:
            msg = (
                f"'{other}' and '{name}' would both be written as '{to_label(name)}' "
                "(BIDS labels hold letters, digits and '+' only). Rename one of them."
            )
            raise ModelSpecError(msg)
    return {name: label for label, name in owner.items()}


def distinct_names(paths: Sequence[str]) -> list[str]:
    """File names, and where several files have one name, the folders that tell them apart.

    Parameters
    ----------
    paths : sequence of str
        Paths with ``/``, or BIDS URIs.
    """
    names = [path.rpartition("/")[2] for path in paths]
    if len(set(names)) == len(names):
        return names
    parts = [path.split("/") for path in paths]
    levels = zip(*parts, strict=False)
    n_shared = next((depth for depth, found in enumerate(levels) if len(set(found)) > 1), 0)
    return ["/".join(each[n_shared:]) for each in parts]


def bids_uri(path: Path, root: Path, dataset_name: str = "") -> str:
    """BIDS URI of a file: ``bids:<dataset name>:<path from the dataset's root>``."""
    relative = quote(path.relative_to(root).as_posix(), safe="/+")
    return f"bids:{dataset_name}:{relative}"
