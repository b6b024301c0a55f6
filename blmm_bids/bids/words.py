"""Words for a value that is missing: those that are, and those that look like it.

The same words count in every column. What only looks like one is neither a value nor missing until someone
says which: the user on the command line, or the table's JSON file.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

NUMBER: Final = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
NOT_AVAILABLE: Final = "n/a"
"""The word that BIDS has for it."""
MISSING: Final = frozenset({"", NOT_AVAILABLE, "na", "nan", "null", "#n/a"})
_LOOKS_MISSING: Final = frozenset(
    """
    unknown|unk|unkn|none|missing|miss|not available|not applicable|not known|not recorded|not collected|
    not reported|not provided|not tested|not measured|not assessed|not administered|not acquired|not done|
    no data|nodata|no answer|no response|no value|n.a.|n.a|n/d|n.d.|nd|n/k|nk|nil|undefined|undetermined|
    unspecified|unavailable|unreported|refused|declined|prefer not to say|prefer not to answer|
    don't know|dont know|do not know|tbd|tba|<na>|<nan>|<missing>|na/na|nan/nan|-nan|n\\a|nat|pd.na|
    #value!|#ref!|#div/0!|#name?|#num!|#null!|#wert!|#nv|#bezug!|missing value|missing data|empty|blank|void
    """.replace("\n", "")
    .replace("    ", "")
    .split("|")
)
_NO_LETTER: Final = re.compile(r"[\W_]+")
_SIGNS: Final = frozenset("+-\u2212\u2013")
# Repeated digits that questionnaires use beside their values; a lone -9 is plink's.
_CODE: Final = re.compile(r"-9|-(?:99+|88+|77+|66+|55+)|99+|88+|77+|666+|555+")


@dataclass(frozen=True)
class WordRules:
    """What the user said of words.

    Attributes
    ----------
    missing : frozenset of str
        Words that mean a missing value (``--missing-values``), as `plain` writes them.
    data : frozenset of str
        Words that are values although they do not look it (``--not-missing``).
    """

    missing: frozenset[str] = frozenset()
    data: frozenset[str] = frozenset()

    @classmethod
    def of(cls, missing: Iterable[str] = (), data: Iterable[str] = ()) -> WordRules:
        """Take words as they were written."""
        return cls(frozenset(map(plain, missing)), frozenset(map(plain, data)))


def plain(word: str) -> str:
    """Spell a word in one way: numbers by their value, text in lower case."""
    text = word.strip()
    return repr(float(text)) if NUMBER.fullmatch(text) else text.casefold()


def suspicious_words(words: Collection[str]) -> set[str]:
    """Words of text that look like missing values; ``+`` and ``-`` side by side are signs."""
    found = {
        word for word in words if word.casefold() in _LOOKS_MISSING or _NO_LETTER.fullmatch(word.strip())
    }
    signs = {word for word in found if word in _SIGNS}
    return found - signs if "+" in signs and len(signs) > 1 else found


def is_code(word: str) -> bool:
    """Whether a number is one of those that stand for a missing value in questionnaires (-999)."""
    return bool(NUMBER.fullmatch(word)) and float(word).is_integer() and _is_code(float(word))


def _is_code(value: float) -> bool:
    return abs(value) < 1e12 and bool(_CODE.fullmatch(str(int(value))))


def suspicious_codes(numbers: Mapping[str, float], lower: float | None, upper: float | None) -> set[str]:
    """Numbers that look like codes of a missing value, for they lie apart from the others.

    Parameters
    ----------
    numbers : mapping of str to float
        Each word of a column to its value.
    lower, upper : float or None
        ``Minimum`` and ``Maximum`` that the column is said to have: a number within them is a value.
    """
    codes = {word: value for word, value in numbers.items() if is_code(word)}
    others = [value for word, value in numbers.items() if word not in codes]
    if lower is not None or upper is not None:
        return {
            word
            for word, value in codes.items()
            if (lower is not None and value < lower) or (upper is not None and value > upper)
        }
    if not codes or not others:
        return set()
    low, high = min(others), max(others)
    are_whole = all(value.is_integer() for value in others)
    found = set()
    for word, value in codes.items():
        gap = max(low - value, value - high)
        if 0 < high - low < gap and (are_whole or abs(value) > 100):
            found.add(word)
        if low >= 0 > value and str(int(value)).strip("-9") == "" and (are_whole or value < -10):
            found.add(word)
    return found
