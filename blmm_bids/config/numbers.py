"""Numbers as config files have them: int, float, text, or arithmetic such as ``2**32``.

Arithmetic is read as a syntax tree of which only numbers and five operators are known; nothing is
ever evaluated as code.
"""

from __future__ import annotations

import ast
import json
import math
import operator
import re
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeVar

W = TypeVar("W", bound=str)

_MAX_LENGTH = 200
_MAX_EXPONENT = 200
# Beyond any memory size or threshold, and far below where integers get slow.
_MAX_SIZE = 1e60

_OPERATORS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}
_VECTOR = "a list of weights, one a column of X (T), or a list of such lists (F)"
_WORDS = {
    "true": True,
    "yes": True,
    "on": True,
    "1": True,
    "false": False,
    "no": False,
    "off": False,
    "0": False,
}


def parse_number(value: object) -> float | int:
    """Read a number.

    Parameters
    ----------
    value : object
        int, float, or text with a number or with arithmetic of ``+ - * / **`` and parentheses.

    Returns
    -------
    float or int
        An int where the text or the arithmetic gives one.

    Raises
    ------
    ValueError
        Anything else, NaN and infinity included; the text says why.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        msg = "is not a number"
        raise ValueError(msg)
    number = _parse_text(value.strip()) if isinstance(value, str) else value
    if not _is_finite(number):
        msg = "is not a finite number"
        raise ValueError(msg)
    return number


def parse_whole(value: object) -> int:
    """Read a whole number, ``10.0`` and ``"10"`` included; otherwise as `parse_number`."""
    number = parse_number(value)
    if number != int(number):
        msg = "is not a whole number"
        raise ValueError(msg)
    return int(number)


def parse_flag(value: object) -> bool:
    """Read true or false, as a word, 0 or 1; raises ``ValueError`` otherwise."""
    word = str(int(value)) if isinstance(value, int | float) and value in (0, 1) else str(value)
    try:
        return _WORDS[word.strip().lower()]
    except KeyError:
        msg = "is neither true nor false (1 or 0)"
        raise ValueError(msg) from None


def parse_share(value: object) -> float:
    """Read a share between 0 and 1, or a percentage with its sign; raises ``ValueError`` otherwise."""
    percent = isinstance(value, str) and value.strip().endswith("%")
    share = float(parse_number(str(value).strip()[:-1] if percent else value)) / (100 if percent else 1)
    if not 0 <= share <= 1:
        msg = "is not a share between 0 and 1 (0.5), nor a percentage with its sign ('50%')"
        raise ValueError(msg)
    return share


def parse_float(value: object) -> float:
    """Read a number as a float."""
    return float(parse_number(value))


def parse_positive(value: object) -> float:
    """Read a number above 0."""
    number = parse_float(value)
    if number <= 0:
        msg = "is not above 0"
        raise ValueError(msg)
    return number


def parse_at_least_one(value: object) -> int:
    """Read a whole number, 1 or more."""
    number = parse_whole(value)
    if number < 1:
        msg = "is below 1"
        raise ValueError(msg)
    return number


def parse_not_negative(value: object) -> int:
    """Read a whole number, 0 or more."""
    number = parse_whole(value)
    if number < 0:
        msg = "is below 0"
        raise ValueError(msg)
    return number


def parse_bytes(value: object) -> int:
    """Read a number of bytes, arithmetic included; a fraction of a byte is cut."""
    number = int(parse_number(value))
    if number < 1:
        msg = "is not a number of bytes"
        raise ValueError(msg)
    return number


def parser_of(choices: Sequence[W]) -> Callable[[object], W]:
    """Make a parser that takes one of some words."""

    def parse(value: object) -> W:
        for choice in choices:
            if choice == str(value).strip():
                return choice
        msg = f"is not one of {', '.join(choices)}"
        raise ValueError(msg)

    return parse


def parse_vector(value: object) -> tuple[tuple[tuple[float, ...], ...], Literal["t", "F"]]:
    """Read contrast weights, as lists or as text with commas or blanks.

    Returns
    -------
    tuple
        Rows of weights, and the test that the vector's shape says: ``t`` for one dimension, ``F`` for two.
    """
    if isinstance(value, str):
        value = _parse_vector_text(value)
    if not isinstance(value, list) or not value:
        msg = f"is not {_VECTOR}"
        raise ValueError(msg)
    nested = [isinstance(row, list) for row in value]
    if any(nested) and not all(nested):
        msg = "mixes numbers and lists"
        raise ValueError(msg)
    lists = value if nested[0] else [value]
    rows = tuple(tuple(float(parse_number(weight)) for weight in row) for row in lists)
    if len({len(row) for row in rows}) > 1 or not rows[0]:
        msg = "has rows of different lengths"
        raise ValueError(msg)
    return rows, "F" if nested[0] else "t"


def _parse_vector_text(text: str) -> object:
    """Read a vector in quotes, with commas or blanks between its weights."""
    joined = re.sub(r"\s*,\s*|\s+", ",", text.strip())
    joined = re.sub(r"\[,+", "[", re.sub(r",+\]", "]", joined)).replace("][", "],[")
    try:
        return json.loads(joined)
    except (ValueError, RecursionError):
        msg = f"is not {_VECTOR}"
        raise ValueError(msg) from None


def _is_finite(number: float) -> bool:
    try:
        return math.isfinite(number)
    except OverflowError:
        return False


def _parse_text(text: str) -> float | int:
    if len(text) > _MAX_LENGTH:
        msg = "is too long for a number"
        raise ValueError(msg)
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        msg = "is not a number"
        raise ValueError(msg) from None
    return _reduce(tree.body)


def _reduce(node: ast.expr) -> float | int:
    """Value of a syntax tree of numbers."""
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        return _bounded(node.value)  # type: ignore[arg-type]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        number = _reduce(node.operand)
        return -number if isinstance(node.op, ast.USub) else number
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        left, right = _reduce(node.left), _reduce(node.right)
        if isinstance(node.op, ast.Pow) and abs(right) > _MAX_EXPONENT:
            msg = "has an exponent that is too large"
            raise ValueError(msg)
        try:
            return _bounded(_OPERATORS[type(node.op)](left, right))
        except ArithmeticError:
            msg = "divides by zero or is too large"
            raise ValueError(msg) from None
    msg = "is not a number, nor arithmetic of numbers with + - * / **"
    raise ValueError(msg)


def _bounded(number: float) -> float | int:
    # A negative base with a broken exponent gives a complex number.
    if isinstance(number, complex) or not abs(number) <= _MAX_SIZE:
        msg = "is too large, or not a number"
        raise ValueError(msg)
    return number
