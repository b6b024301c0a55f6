"""What the cells of a column are: numbers, labels or missing, and why."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from blmm_bids.bids.described import Description
from blmm_bids.bids.likenesses import DATES, Likeness, are_dates, likeness, likeness_of
from blmm_bids.bids.words import (
    MISSING,
    NOT_AVAILABLE,
    NUMBER,
    WordRules,
    is_code,
    plain,
    suspicious_codes,
    suspicious_words,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

_SHOWN = 4


@dataclass(frozen=True)
class Cells:
    """A column as text.

    Attributes
    ----------
    table, name : str
    texts : sequence of (str or None)
        Line by line; None where a file of the table has no such column.
    where : sequence of str
        File and line of each.
    """

    table: str
    name: str
    texts: Sequence[str | None]
    where: Sequence[str]

    def first(self, word: str) -> str:
        """File and line in which a word stands first."""
        return self.where[list(self.texts).index(word)]


@dataclass(frozen=True)
class Values:
    """A column with its type.

    Attributes
    ----------
    values : list of (float or str or None)
        Line by line.
    is_categorical : bool
    reason : str
        Why it has its type: ``numbers``, ``text``, ``Levels in participants.json``.
    mixture : str
        Why it can be a covariate only where the formula makes a category of it; empty where it can. The
        name that the model has for the column is to be put for ``{name}``.
    suspects : mapping of int to (str, str)
        Lines with a word that looks like a missing value -> the word, and what to say of it.
    notices : tuple of str
        Which words were read as missing, and how often, ``n/a`` aside; labels that differ in capitals alone.
    """

    values: list[float | str | None]
    is_categorical: bool
    reason: str
    mixture: str = ""
    suspects: Mapping[int, tuple[str, str]] = field(default_factory=dict)
    notices: tuple[str, ...] = ()


def read_values(cells: Cells, about: Description, rules: WordRules) -> Values:
    """Tell a column's type.

    Parameters
    ----------
    cells : Cells
    about : Description
        What its JSON file says.
    rules : WordRules
        What the user says.
    """
    counts = Counter(text for text in cells.texts if text is not None)
    missing = {word: why for word in counts if (why := _why_missing(word, about, rules)) is not None}
    filled = [word for word in counts if word not in missing]
    numbers = {word: float(word) for word in filled if NUMBER.fullmatch(word)}
    is_declared = _is_declared(filled, about.levels)
    suspects = {
        word: _said(cells, word, counts[word], about)
        for word in _suspects(filled, numbers, about, is_declared=is_declared)
        if plain(word) not in rules.data
    }
    reason, mixture = f"Levels in {about.source}", ""
    if not is_declared:
        reason, mixture = _kind(cells, {word: counts[word] for word in filled if word not in suspects})
    is_categorical = reason != "numbers"
    typed: dict[str | None, float | str | None] = {
        word: word if is_categorical else numbers.get(word) for word in filled
    }
    doubtful = {
        line: (text, suspects[text])
        for line, text in enumerate(cells.texts)
        if text is not None and text in suspects
    }
    values = [typed.get(text) for text in cells.texts]
    notices = _notices(cells, missing, counts)
    if reason == "text":
        notices += _alike_notices(cells, filled)
    return Values(values, is_categorical, reason, mixture, doubtful, notices)


def _why_missing(word: str, about: Description, rules: WordRules) -> str | None:
    """Say why a word is missing: empty for what needs no saying, None where it is not."""
    key = plain(word)
    if key == NOT_AVAILABLE:
        return ""
    if key in rules.data:
        return None
    if key in rules.missing:
        return "--missing-values"
    if key in about.missing:
        return f"{about.missing[key]} in {about.source}"
    if word in about.levels:
        return None
    return "BIDS writes n/a" if key in MISSING else None


def _is_declared(filled: Collection[str], levels: Collection[str]) -> bool:
    """Whether the levels are this column's: a template's, or a range, names none of its values."""
    if not levels or not filled:
        return bool(levels)
    return bool(set(filled) & set(levels)) or bool({plain(word) for word in filled} & set(map(plain, levels)))


def _suspects(
    filled: Sequence[str], numbers: Mapping[str, float], about: Description, *, is_declared: bool
) -> set[str]:
    """Words that look like missing values, and that nobody declared to be values."""
    text = suspicious_words([word for word in filled if word not in numbers])
    if is_declared:
        return (text | {word for word in numbers if is_code(word)}) - set(about.levels)
    if about.names_missing:
        return text
    if len(text) + len(numbers) < len(filled) and all(map(is_code, numbers)):
        # The only numbers among labels.
        return text | set(numbers)
    return text | suspicious_codes(numbers, about.lower, about.upper)


def _kind(cells: Cells, counts: Mapping[str, int]) -> tuple[str, str]:
    """Say why a column has its type, and why it is no category that anybody meant.

    Parameters
    ----------
    cells : Cells
    counts : mapping of str to int
        Its values, without those that look like missing ones, and how often each occurs.
    """
    odd = [word for word in counts if not NUMBER.fullmatch(word)]
    if not odd:
        if are_dates(counts):
            return "dates", _alike(cells, next(iter(counts)), DATES)
        return "numbers", ""
    if len(odd) == len(counts):
        word, like = likeness_of(odd)
        if like is None:
            return "text", ""
        return "dates" if like.kind == "dates" else "text", _alike(cells, word, like)
    n_odd, first = sum(counts[word] for word in odd), odd[0]
    like = likeness(first)
    remedy = f"{like.remedy(first)}; " if like is not None else ""
    return "text", (
        f"'{cells.name}' in {cells.table} is categorical, for {n_odd} of {sum(counts.values())} values are "
        f"no numbers, the first being '{first}' ({cells.first(first)}); {remedy}write n/a where a value is "
        "missing, correct it"
    )


def _alike(cells: Cells, word: str, like: Likeness) -> str:
    return (
        f"'{cells.name}' in {cells.table} is text that looks like {like.kind}, the first being '{word}' "
        f"({cells.first(word)}); {like.remedy(word)}"
    )


def _said(cells: Cells, word: str, count: int, about: Description) -> str:
    lines = "1 line" if count == 1 else f"{count} lines"
    file = about.source or "the table's JSON file"
    return (
        f"'{cells.name}' in {cells.table} has '{word}' in {lines}, the first being {cells.first(word)}: it "
        f"looks like a missing value. If it is one: --missing-values '{word}', 'MissingValues' of the column "
        f"in {file}, or n/a in its place; if it is a value: --not-missing '{word}', or 'Levels' in {file}"
    )


def _notices(cells: Cells, missing: Mapping[str, str], counts: Mapping[str, int]) -> tuple[str, ...]:
    told = {word: why for word, why in missing.items() if why}
    if not told:
        return ()
    shown = ", ".join(f"{_quoted(word)} ({counts[word]})" for word in list(told)[:_SHOWN])
    more = f" and {len(told) - _SHOWN} more" if len(told) > _SHOWN else ""
    reasons = "; ".join(dict.fromkeys(told.values()))
    return (f"'{cells.name}' in {cells.table}: {shown}{more} read as missing ({reasons})",)


def _alike_notices(cells: Cells, labels: Sequence[str]) -> tuple[str, ...]:
    spellings: dict[str, list[str]] = {}
    for each in labels:
        spellings.setdefault(" ".join(each.casefold().split()), []).append(each)
    alike = [" and ".join(map(_quoted, found)) for found in spellings.values() if len(found) > 1]
    if not alike:
        return ()
    return (
        f"'{cells.name}' in {cells.table} has labels that differ in capitals or blanks alone, and count as "
        f"different levels: {', '.join(alike[:_SHOWN])}",
    )


def _quoted(word: str) -> str:
    return f"'{word}'" if word else "empty cells"
