"""Read typed fields out of a parsed JSON or YAML object; every surprise is a `ModelSpecError`."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Any

from blmm_bids.design.columns import did_you_mean, enumerate_names
from blmm_bids.errors import ModelSpecError

MAX_WHOLE = 2**31 - 1
"""Largest count that is taken; it fits every integer further down."""

_JSON_WORDS: Mapping[type, str] = {
    dict: "an object",
    list: "a list",
    tuple: "a list",
    str: "text",
    bool: "true or false",
    int: "a number",
    float: "a number",
    type(None): "null",
}


def describe(value: object) -> str:
    """Write a value for a message: what kind it is and, where short, what it says."""
    word = next((word for kind, word in _JSON_WORDS.items() if isinstance(value, kind)), type(value).__name__)
    if isinstance(value, (dict, list, tuple)) or value is None:
        return word
    if isinstance(value, str):
        return f"{word}, '{printable(value)}'"
    # A huge whole number refuses to become text.
    shown = (
        f"{value:.6g}"
        if isinstance(value, float)
        else hex(value)
        if isinstance(value, int) and abs(value) > 2**63
        else str(value)
    )
    return f"{word}, {printable(shown.lower())}"


def printable(text: str, limit: int = 60) -> str:
    """Shorten text and escape what a terminal or a log cannot take."""
    shown = "".join(char if char.isprintable() else repr(char)[1:-1] for char in text[:limit])
    return shown + ("…" if len(text) > limit else "")


def wrong(where: str, wanted: str, value: object) -> ModelSpecError:
    """Make the error for a value of the wrong kind."""
    return ModelSpecError(f"model spec: {where} must be {wanted}; it is {describe(value)}")


def check_keys(
    block: Mapping[str, Any], known: Iterable[str], where: str, hints: Mapping[str, str] | None = None
) -> None:
    """Refuse keys that mean nothing here.

    Parameters
    ----------
    block : mapping
        Object of the spec.
    known : iterable of str
        Keys that it may have.
    where : str
        What the object is, for the message.
    hints : mapping of str to str, optional
        Sentences for keys that are often put in the wrong place.

    Raises
    ------
    ModelSpecError
        An unknown key, with the nearest known one.
    """
    names = list(known)
    for key in block:
        if key not in names:
            hint = (hints or {}).get(
                str(key)
            ) or f"(has {enumerate_names(names, 20)}){did_you_mean(str(key), names)}"
            msg = f"model spec: {where} has the unknown key '{printable(str(key))}' {hint}"
            raise ModelSpecError(msg)


def as_object(value: object, where: str) -> dict[str, Any]:
    """Return an object whose keys are all text."""
    if not isinstance(value, Mapping):
        raise wrong(where, "an object", value)
    for key in value:
        if not isinstance(key, str):
            raise wrong(f"each key of {where}", "text", key)
    return dict(value)


def as_list(value: object, where: str) -> list[Any]:
    """Return a list."""
    if not isinstance(value, Sequence) or isinstance(value, (str, bytes)):
        raise wrong(where, "a list", value)
    return list(value)


def as_text(value: object, where: str) -> str:
    """Return text that is not blank."""
    if not isinstance(value, str) or not value.strip():
        raise wrong(where, "text that is not empty", value)
    if any(unicodedata.category(char) in ("Cc", "Cs") and char not in "\t\r\n" for char in value):
        msg = f"model spec: {where} holds control characters or broken Unicode: '{printable(value)}'"
        raise ModelSpecError(msg)
    return value.strip()


def as_texts(value: object, where: str) -> tuple[str, ...]:
    """Return a list of different texts."""
    texts = tuple(as_text(item, f"each entry of {where}") for item in as_list(value, where))
    check_unique(texts, where)
    return texts


def as_labels(value: object, where: str) -> tuple[str, ...]:
    """Return one or several labels as text; numbers count as labels."""
    labels: list[str] = []
    for entry in value if isinstance(value, (list, tuple)) else [value]:
        if isinstance(entry, bool) or not isinstance(entry, (str, int, float)):
            raise wrong(where, "a label or a list of labels", entry)
        labels.append(as_text(entry, where) if isinstance(entry, str) else f"{as_number(entry, where):.15g}")
    if not labels:
        raise wrong(where, "a list with at least one label", value)
    return tuple(labels)


def as_flag(value: object, where: str) -> bool:
    """Return true or false; 0 and 1 are numbers."""
    if not isinstance(value, bool):
        raise wrong(where, "true or false", value)
    return value


def as_number(value: object, where: str, low: float = -math.inf, high: float = math.inf) -> float:
    """Return a finite number within bounds."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise wrong(where, "a number", value)
    try:
        number = float(value)
    except OverflowError as error:
        raise wrong(where, "a number that fits a double", "one too large") from error
    if not math.isfinite(number) or not low <= number <= high:
        bounds = f" from {low:g} to {high:g}" if math.isfinite(low) and math.isfinite(high) else ""
        bounds = bounds or (f" of at least {low:g}" if math.isfinite(low) else "")
        raise wrong(where, f"a finite number{bounds}", value)
    return number


def as_whole(value: object, where: str, low: int) -> int:
    """Return a whole number of at least `low`; 10.0 is 10, as YAML and JSON writers mix them."""
    number = as_number(value, where, low, MAX_WHOLE)
    if not number.is_integer():
        raise wrong(where, f"a whole number from {low} to {MAX_WHOLE}", value)
    return int(number)


def as_choice(value: object, where: str, choices: Collection[str]) -> str:
    """Return one of some words, whatever its case."""
    text = as_text(value, where)
    for choice in choices:
        if text.casefold() == choice.casefold():
            return choice
    msg = (
        f"model spec: {where} must be one of {', '.join(choices)}; it is "
        f"'{printable(text)}'{did_you_mean(text, choices)}"
    )
    raise ModelSpecError(msg)


def as_weight(value: object, where: str) -> float:
    """Return a weight: a number or a fraction in text, ``"1/3"``."""
    if not isinstance(value, str):
        return as_number(value, where)
    # Fraction would expand "1e999999999" digit by digit.
    if len(value) > 40 or "e" in value.casefold():
        raise wrong(where, "a number or a fraction such as '1/3'", value)
    try:
        number = float(Fraction(value.replace(" ", "")))
    except (ValueError, ZeroDivisionError, OverflowError) as error:
        raise wrong(where, "a number or a fraction such as '1/3'", value) from error
    return number


def check_unique(names: Sequence[str], where: str) -> None:
    """Refuse a list that says one thing twice."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            msg = f"model spec: {where} has '{name}' twice"
            raise ModelSpecError(msg)
        seen.add(name)
