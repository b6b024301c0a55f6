"""Split a formula's text into tokens that know where they stand.

The bars and the fixed part are both read from these tokens, so that every error can point at the
character it is about.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Literal

from blmm_bids.errors import ModelSpecError

MAX_LENGTH = 20_000
"""Longer formulas are refused: parsers further down recurse, and no one writes such a formula."""

MAX_NESTING = 30
"""Deepest nesting of parentheses; far below Python's own recursion limit."""

TokenKind = Literal["name", "quoted", "number", "call", "braces", "operator", "open", "close"]

_OPERATOR = re.compile(r"\*\*|\|\||%in%|[-+*/:^|~]")
WORD = re.compile(r"[^\W\d][\w.]*")
NUMBER = re.compile(r"(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
_OPENERS = {"(": ")", "[": "]", "{": "}"}
OPERAND_KINDS = frozenset({"name", "quoted", "number", "call", "braces"})


@dataclass(frozen=True)
class Token:
    """One word of a formula.

    Attributes
    ----------
    kind : str
        ``call`` is a name with its parenthesised arguments, ``braces`` is ``{...}`` arithmetic,
        ``quoted`` a column name in backticks.
    text : str
        As written; without the backticks or braces for ``quoted`` and ``braces``.
    start, end : int
        Half-open range of characters in the formula.
    """

    kind: TokenKind
    text: str
    start: int
    end: int


def formula_error(formula: str, position: int, message: str) -> ModelSpecError:
    """Make an error that shows the formula with a caret under one character.

    Parameters
    ----------
    formula : str
        Text that is wrong.
    position : int
        Index of the character to point at.
    message : str
        What is wrong and what was wanted.

    Returns
    -------
    ModelSpecError
        To be raised by the caller.
    """
    window = 100
    start = max(0, min(position - window // 2, len(formula) - window))
    line = "".join(char if char.isprintable() else " " for char in formula[start : start + window])
    return ModelSpecError(f"{message}\n  {line}\n  {' ' * (position - start)}^")


class StandIns(dict[str, str]):
    """Identifiers that stand for names which Python could not read, or would read as another one.

    These are names in backticks, and names whose characters Python takes for others (``ﬁ`` for ``fi``).

    Parameters
    ----------
    source : str
        The whole text; no stand-in occurs in it.
    """

    def __init__(self, source: str) -> None:
        super().__init__()
        # Compared as Python will read it.
        read = unicodedata.normalize("NFKC", source)
        self._prefix = "_quoted_"
        while self._prefix in read:
            self._prefix = f"_{self._prefix}"

    def stand_in(self, name: str) -> str:
        """Return a new identifier for a name."""
        identifier = f"{self._prefix}{len(self)}_"
        self[identifier] = name
        return f" {identifier} "

    def word(self, word: str) -> str:
        """Return a name as Python will read it: itself, or a stand-in."""
        return word if unicodedata.normalize("NFKC", word) == word else self.stand_in(word)

    def written(self, text: str) -> str:
        """Put the names, in backticks, for their stand-ins."""
        for identifier, name in self.items():
            text = text.replace(identifier, f"`{name}`")
        return text


def tokenize(formula: str) -> list[Token]:
    """Split a formula into tokens.

    Parameters
    ----------
    formula : str
        Wilkinson formula, bars allowed.

    Returns
    -------
    list of Token
        In order; white space is left out.

    Raises
    ------
    ModelSpecError
        A character that no formula has, an unclosed parenthesis or quote, or a formula that is too long or
        too deeply nested.
    """
    if len(formula) > MAX_LENGTH:
        msg = f"formula has {len(formula)} characters; at most {MAX_LENGTH} are read"
        raise ModelSpecError(msg)
    tokens: list[Token] = []
    position = 0
    while position < len(formula):
        if formula[position].isspace():
            position += 1
            continue
        token = _next_token(formula, position)
        tokens.append(token)
        position = token.end
    _check_parentheses(formula, tokens)
    return tokens


def _next_token(formula: str, start: int) -> Token:
    char = formula[start]
    if char == "(":
        return Token("open", char, start, start + 1)
    if char == ")":
        return Token("close", char, start, start + 1)
    if char == "`":
        end = formula.find("`", start + 1)
        if end <= start + 1:
            raise formula_error(
                formula, start, "formula has a backtick without its closing backtick and a name"
            )
        return Token("quoted", formula[start + 1 : end], start, end + 1)
    if char == "{":
        end = _closing(formula, start)
        return Token("braces", formula[start + 1 : end - 1].strip(), start, end)
    if match := _OPERATOR.match(formula, start):
        return Token("operator", match.group(), start, match.end())
    if match := NUMBER.match(formula, start):
        return Token("number", match.group(), start, match.end())
    if match := WORD.match(formula, start):
        end = match.end()
        if formula.startswith("(", end):
            end = _closing(formula, end)
            return Token("call", formula[start:end], start, end)
        return Token("name", match.group(), start, end)
    if char == ".":
        raise formula_error(formula, start, "'.' for all variables is not taken; name the variables")
    raise formula_error(formula, start, f"formula has a {char!r} that is not part of any name or operator")


def _closing(formula: str, start: int) -> int:
    """Find the end of the bracket at `start`, over strings and nested brackets."""
    expected: list[str] = []
    position = start
    while position < len(formula):
        char = formula[position]
        if char in "'\"`":
            position = _string_end(formula, position)
            continue
        if char in _OPENERS:
            expected.append(_OPENERS[char])
            if len(expected) > MAX_NESTING:
                raise formula_error(
                    formula, position, f"formula is nested deeper than {MAX_NESTING} brackets"
                )
        elif char in ")]}":
            if char != expected.pop():
                raise formula_error(formula, position, f"formula has a {char!r} that closes nothing")
            if not expected:
                return position + 1
        position += 1
    raise formula_error(formula, start, f"formula has a {formula[start]!r} that is never closed")


def _string_end(formula: str, start: int) -> int:
    """Find the end of the string or quoted name at `start`; a backslash escapes in strings only."""
    quote = formula[start]
    position = start + 1
    while position < len(formula):
        if formula[position] == "\\" and quote != "`":
            position += 1
        elif formula[position] == quote:
            return position + 1
        position += 1
    raise formula_error(formula, start, "formula has a quote that is never closed")


def _check_parentheses(formula: str, tokens: list[Token]) -> None:
    opened: list[Token] = []
    for token in tokens:
        if token.kind == "open":
            opened.append(token)
            if len(opened) > MAX_NESTING:
                msg = f"formula is nested deeper than {MAX_NESTING} brackets"
                raise formula_error(formula, token.start, msg)
        elif token.kind == "close":
            if not opened:
                raise formula_error(formula, token.start, "formula has a ')' that closes nothing")
            opened.pop()
    if opened:
        raise formula_error(formula, opened[-1].start, "formula has a '(' that is never closed")
