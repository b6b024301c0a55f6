"""Text that looks like numbers or dates: ``20,5``, ``024Y``, ``89+``, ``2019-03-01``."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import date
from typing import Final

from blmm_bids.bids.words import NUMBER

_NUM: Final = r"[+-]?(?:\d+(?:[.,]\d+)?|[.,]\d+)"
_UNIT: Final = (
    r"(?i:years?|yrs?|y\.?o\.?|months?|mos?|weeks?|wks?|days?|hours?|hrs?|min(?:ute)?s?|secs?|seconds?|ms|kg|mg|ml|"
    r"lbs?|cm|mm|hz|°c|%)|[ymwdhsg]|Y"
)
_AGE_UNITS: Final = {"Y": "years", "M": "months", "W": "weeks", "D": "days"}


@dataclass(frozen=True)
class Likeness:
    """What a word looks like.

    Attributes
    ----------
    kind : str
        ``numbers``, ``dates`` or ``times of day``.
    remedy : callable
        From the word to what to write instead; ``{name}`` stands for its column.
    is_sure : bool
        Whether hardly any label looks like it.
    """

    kind: str
    remedy: Callable[[str], str]
    is_sure: bool


def _plain_number(word: str) -> str:
    found = re.search(r"[+-]?\d*[.,]?\d+", word)
    return f"write the number alone, as in {found[0].replace(',', '.') if found else 20}"


_NUMBERS: Final = Likeness("numbers", lambda _: "write plain numbers", is_sure=False)


def _days(word: str) -> str:
    form = "" if re.match(r"\d{4}", word) else "write them as 2019-03-31; then "
    return form + "days({name}) and years({name}, by=subject) give the time since the first"


DATES: Final = Likeness("dates", _days, is_sure=True)
_LIKENESSES: Final[tuple[tuple[re.Pattern[str], Likeness], ...]] = tuple(
    (re.compile(pattern), likeness)
    for pattern, likeness in (
        (
            r"\d{4}[-/]\d{1,2}[-/]\d{1,2}(?:[T ]\d{1,2}:\d{2}(?::\d{2}(?:\.\d+)?)?(?:Z|[+-]\d{2}:?\d{2})?)?",
            DATES,
        ),
        (r"\d{4}\d{2}\d{2}T\d{6}(?:\.\d+)?Z?", DATES),
        (r"\d{1,2}([./-])\d{1,2}\1\d{2,4}(?:[T ]\d{1,2}:\d{2}.*)?", DATES),
        (r"\d{1,2}[- .][A-Za-z]{3,9}\.?[- .,]+\d{2,4}|(?:19|20)\d{2}-(?:0\d|1[0-2])", DATES),
        (
            r"\d{1,2}:\d{2}(?::\d{2}(?:\.\d+)?)?",
            Likeness("times of day", lambda _: "write hours as numbers, 13.5", is_sure=True),
        ),
        (
            r"[+-]?\d*,\d+",
            Likeness(
                "numbers",
                lambda word: f"write the decimals with a point, {word.replace(',', '.')}",
                is_sure=True,
            ),
        ),
        (
            r"\d{3}[YMWDymwd]",
            Likeness(
                "numbers",
                lambda word: f"write {int(word[:3])}, the {_AGE_UNITS[word[3].upper()]} alone",
                is_sure=True,
            ),
        ),
        (
            r"[+-]?\d{1,3}(?:(?:[ '\u2019.\u00a0\u202f]\d{3})+(?:[.,]\d+)?|(?:,\d{3})+\.\d+|(?:,\d{3}){2,})",
            Likeness(
                "numbers",
                lambda word: f"write the digits without gaps, {re.sub(r'[^0-9]', '', word)}",
                is_sure=True,
            ),
        ),
        (
            rf"[<>≤≥~≈]=?\s*{_NUM}\s*(?:{_UNIT})?|{_NUM}\s*(?:{_UNIT})?\s*\+",
            Likeness("numbers", _plain_number, is_sure=True),
        ),
        (rf"{_NUM}\s*(?:{_UNIT})\.?", Likeness("numbers", _plain_number, is_sure=False)),
        (rf"{_NUM}\s*(?:-|\u2013|\.\.|to)\s*{_NUM}(?:\s*(?:{_UNIT}))?|{_NUM}\s*/\s*{_NUM}", _NUMBERS),
        (r"'[+-]?\d+(?:[.,]\d+)?'?|\u2212\d+(?:[.,]\d+)?|[+-]?(?i:inf(?:inity)?)", _NUMBERS),
    )
)


def likeness(word: str) -> Likeness | None:
    """Say what a word that is no number looks like; None for a label."""
    return next((each for pattern, each in _LIKENESSES if pattern.fullmatch(word)), None)


def likeness_of(words: Collection[str]) -> tuple[str, Likeness | None]:
    """Say what a column of text looks like: its first word that is no label, and what that looks like.

    All words must look like numbers or dates, or half of them be sure to.
    """
    found = {word: like for word in words if (like := likeness(word)) is not None}
    n_sure = sum(like.is_sure for like in found.values())
    if found and (len(found) == len(words) or 2 * n_sure >= len(words)):
        return next(iter(found.items()))
    return "", None


def are_dates(words: Collection[str]) -> bool:
    """Whether numbers are dates without dashes, ``20190301``, all of them."""
    return bool(words) and all(_is_date(word) for word in words)


def _is_date(word: str) -> bool:
    if not re.fullmatch(r"(19|20)\d{6}", word) or not NUMBER.fullmatch(word):
        return False
    try:
        date(int(word[:4]), int(word[4:6]), int(word[6:]))
    except ValueError:
        return False
    return True
