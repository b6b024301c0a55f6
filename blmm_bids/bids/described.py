"""What a table's JSON file says of a column: its levels, its words for missing values, its range."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from blmm_bids.bids.words import NOT_AVAILABLE, NUMBER, is_code, plain

if TYPE_CHECKING:
    from collections.abc import Mapping

_MISSING_KEYS: Final = frozenset({"missingvalues", "missingvalue", "missingvaluecodes", "missing"})
# Descriptions of a level that say that there is no value, whatever the level's word.
_SAYS_MISSING: Final = re.compile(
    r"(?:data |values? )?(?:is |are |was |were )?"
    r"(?:missing|n/?a|nan|null|unavailable|no (?:data|value|answer|response)|"
    r"not (?:available|applicable|recorded|collected|measured|acquired|assessed|administered|done|tested))"
    r"(?: (?:data|values?|codes?|information))?"
)
# Those that only say so of a code (999): a level called "unknown" is one that somebody declared.
_SAYS_NO_ANSWER: Final = re.compile(
    r".*\b(?:missing|unknown|not known|don'?t know|do not know|refused?|declined?|not? answer|not? response|"
    r"not (?:\w+ )?(?:available|applicable|administered|asked|sure|given|done)|n/?a)\b.*"
)
# Those that say so of any number (9): nobody means a level of its own by it. "0: none" is a value.
_SAYS_UNKNOWN: Final = re.compile(
    r"(?:unknown|not known|unspecified|undetermined|not reported|unreported|don'?t know|do not know|refused|"
    r"declined|(?:refused|declined|prefers? not) to (?:answer|say))"
)


@dataclass(frozen=True)
class Description:
    """A column as its JSON file describes it.

    Attributes
    ----------
    source : str
        Name of the file.
    levels : tuple of str
        Labels that are values; those that mean a missing value are not among them.
    missing : mapping of str to str
        Words that mean a missing value, as `plain` writes them -> the key that says so.
    lower, upper : float or None
        ``Minimum`` and ``Maximum``.
    names_missing : bool
        Whether it has ``MissingValues``, so that no other word needs to be suspected.
    """

    source: str = ""
    levels: tuple[str, ...] = ()
    missing: Mapping[str, str] = field(default_factory=dict)
    lower: float | None = None
    upper: float | None = None
    names_missing: bool = False


def describe_columns(content: Mapping[str, Any], source: str) -> dict[str, Description]:
    """Read the descriptions in a JSON file.

    Parameters
    ----------
    content : mapping
        The file's object.
    source : str
        Its name.
    """
    for_all = [
        word
        for key, value in content.items()
        if _is_missing_key(key) and not isinstance(value, dict)
        for word in _words(value)
    ]
    return {
        name: _described(about, for_all, source) for name, about in content.items() if isinstance(about, dict)
    }


def _described(about: Mapping[str, Any], for_all: list[str], source: str) -> Description:
    named = [value for key, value in about.items() if _is_missing_key(key)]
    words = [*for_all, *(word for value in named for word in _words(value))]
    missing = {plain(word): "MissingValues" for word in words}
    levels = _levels(about.get("Levels"))
    missing |= {
        plain(label): "Levels" for label, text in levels.items() if _says_missing(label, text.casefold())
    }
    return Description(
        source,
        tuple(label for label in levels if plain(label) not in missing),
        missing,
        _number(about.get("Minimum")),
        _number(about.get("Maximum")),
        names_missing=bool(named),
    )


def _is_missing_key(key: str) -> bool:
    return re.sub(r"[^a-z]", "", key.casefold()) in _MISSING_KEYS


def _words(value: object) -> list[str]:
    """``-999``, ``"-999"``, ``"-999, -888"``, ``["-999", "unknown"]`` or ``{"-999": "not collected"}``."""
    if isinstance(value, dict):
        return [str(key) for key in value]
    if isinstance(value, list):
        return [word for each in value for word in _words(each)]
    if isinstance(value, str):
        return [value, *(part.strip() for part in re.split(r"[,;]", value) if part.strip())]
    return [] if value is None else [str(value)]


def _levels(value: object) -> dict[str, str]:
    if isinstance(value, dict):
        return {str(label): _text(about) for label, about in value.items()}
    if isinstance(value, list):
        return {str(label): "" for label in value}
    return {}


def _text(about: object) -> str:
    """Text of a level, which may be an object with a description and a URL."""
    if isinstance(about, dict):
        about = about.get("Description", "")
    return about.strip(" .") if isinstance(about, str) else ""


def _says_missing(label: str, text: str) -> bool:
    if plain(label) == NOT_AVAILABLE or _SAYS_MISSING.fullmatch(text):
        return True
    if NUMBER.fullmatch(label.strip()) and _SAYS_UNKNOWN.fullmatch(text):
        return True
    return is_code(label) and bool(_SAYS_NO_ANSWER.fullmatch(text))


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
