"""Evaluate the arithmetic and the functions of a formula, and nothing else.

An expression is parsed by `ast` and walked here node by node: names are columns, calls go to the
functions listed in `FUNCTIONS`. Nothing is ever compiled or handed to `eval`, so an expression has no
way to reach Python's objects.
"""

from __future__ import annotations

import ast
import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from blmm_bids.design import functions
from blmm_bids.design.columns import did_you_mean, is_categorical
from blmm_bids.design.tokens import NUMBER, WORD, StandIns, Token, formula_error
from blmm_bids.errors import ModelSpecError

_OPERATORS: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: np.add,
    ast.Sub: np.subtract,
    ast.Mult: np.multiply,
    ast.Div: np.divide,
    ast.Pow: np.power,
}
_MAX_LITERAL = 1e6
"""Bound on integer arguments such as degrees and knots, far above any use."""


@dataclass(frozen=True, eq=False)
class Expression:
    """A checked expression.

    Attributes
    ----------
    text : str
        Normalised text, the name that formulaic would give its column: ``"poly(age, 2)"``.
    variables : tuple of str
        Columns that it reads, in order.
    split_by : tuple of (str, str)
        Pairs of a column and a grouping column for each ``center(x, by=g)`` or ``mean(x, by=g)``.
    dates : frozenset of str
        Columns that it reads in ``days()`` or ``years()`` alone.
    body : ast.expr
        The tree that `evaluate` walks.
    quoted : mapping of str to str
        Stand-in identifiers to names that were in backticks.
    """

    text: str
    variables: tuple[str, ...]
    split_by: tuple[tuple[str, str], ...]
    body: ast.expr
    quoted: Mapping[str, str]
    dates: frozenset[str] = frozenset()


def parse_expression(formula: str, token: Token) -> Expression:
    """Check one ``call`` or ``braces`` token of a formula against the allow-list.

    Parameters
    ----------
    formula : str
        The whole formula, for messages.
    token : Token
        Token of kind ``call`` or ``braces``.

    Returns
    -------
    Expression
        Ready for `evaluate`.

    Raises
    ------
    ModelSpecError
        Anything but names, numbers, strings, ``+ - * / **`` and calls of listed functions.
    """
    source, quoted = _replace_quoted(token.text)
    try:
        with warnings.catch_warnings(action="ignore"):
            body = ast.parse(source.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        msg = f"formula has '{token.text}', which cannot be read"
        raise formula_error(formula, token.start, msg) from error
    try:
        _check(body, quoted)
        text = quoted.written(ast.unparse(body).replace("\n", " "))
        variables = tuple(dict.fromkeys(_variables(body, quoted)))
        splits = tuple(_splits(body, quoted))
        return Expression(text, variables, splits, body, quoted, _dates(body, quoted))
    except ModelSpecError as error:
        raise formula_error(formula, token.start, str(error)) from error
    except RecursionError as error:
        raise formula_error(formula, token.start, "formula is nested too deeply here") from error


def evaluate(expression: Expression, columns: Mapping[str, pd.Series]) -> object:
    """Compute an expression over the rows of a table.

    Parameters
    ----------
    expression : Expression
        From `parse_expression`.
    columns : mapping of str to Series
        Columns by name.

    Returns
    -------
    array, Series or formulaic.materializers.types.FactorValues
        One value or one row of columns an observation.

    Raises
    ------
    ModelSpecError
        Wrong arguments, arithmetic on labels, or an unknown column.
    """
    try:
        with np.errstate(all="ignore"):
            value = _value(expression.body, columns, expression.quoted)
    except ModelSpecError as error:
        msg = f"formula term '{expression.text}': {error}"
        raise ModelSpecError(msg) from error
    except (
        TypeError,
        ValueError,
        KeyError,
        IndexError,
        ArithmeticError,
        AttributeError,
        MemoryError,
    ) as error:
        msg = f"formula term '{expression.text}' cannot be computed: {error}"
        raise ModelSpecError(msg) from error
    if isinstance(value, (functions.Coding, str, list)):
        msg = f"formula term '{expression.text}' is no variable"
        raise ModelSpecError(msg)
    return value


def _replace_quoted(source: str) -> tuple[str, StandIns]:
    """Put stand-in identifiers for names in backticks, outside of strings."""
    quoted = StandIns(source)
    parts: list[str] = []
    position = 0
    while position < len(source):
        char = source[position]
        end = position + 1
        if match := NUMBER.match(source, position) or WORD.match(source, position):
            parts.append(quoted.word(match.group()))
            position = match.end()
            continue
        if char in "'\"`":
            while end < len(source) and source[end] != char:
                end += 2 if source[end] == "\\" and char != "`" else 1
            end += 1
        parts.append(quoted.stand_in(source[position + 1 : end - 1]) if char == "`" else source[position:end])
        position = end
    return "".join(parts), quoted


def _column_name(node: ast.expr, quoted: Mapping[str, str]) -> str | None:
    """Read ``age``, ``sessions.age`` or a quoted name; None where the node is none of these."""
    if isinstance(node, ast.Name):
        return quoted.get(node.id, node.id)
    if isinstance(node, ast.Attribute):
        owner = _column_name(node.value, {})
        return f"{owner}.{node.attr}" if owner else None
    return None


def _is_coding(node: ast.expr) -> bool:
    """Whether a name is that of a coding; in backticks it is a column's."""
    return _column_name(node, {}) in functions.CODINGS


def _check(node: ast.AST, quoted: Mapping[str, str]) -> None:
    """Refuse every node that is not listed here."""
    if isinstance(node, ast.Constant):
        if not isinstance(node.value, (bool, int, float, str)) and node.value is not None:
            msg = f"{type(node.value).__name__} values are not taken in a formula"
            raise ModelSpecError(msg)
        _check_number(node.value)
    elif isinstance(node, ast.Name | ast.Attribute):
        name = _column_name(node, quoted)
        if name is None or (not isinstance(node, ast.Name) and "__" in name):
            msg = "attributes are not taken in a formula; a dot only qualifies a column, as in sessions.age"
            raise ModelSpecError(msg)
    elif isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        _check(node.left, quoted)
        _check(node.right, quoted)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        _check(node.operand, quoted)
    elif isinstance(node, ast.List | ast.Tuple):
        for element in node.elts:
            _check(element, quoted)
    elif isinstance(node, ast.Call):
        _check_call(node, quoted)
    else:
        msg = f"a formula has names, numbers, + - * / ** and calls of listed functions, no {_kind(node)}"
        raise ModelSpecError(msg)


def _check_number(value: object) -> None:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if isinstance(value, float) and not math.isfinite(value):
            msg = "a number in the formula is not finite"
            raise ModelSpecError(msg)
        if isinstance(value, int) and abs(value) > 2**53:
            msg = "a whole number in the formula is beyond 2**53; write it with an exponent, as in 1e18"
            raise ModelSpecError(msg)


def _kind(node: ast.AST) -> str:
    words = {"Lambda": "lambda", "Subscript": "[]", "Compare": "comparison", "IfExp": "if"}
    name = type(node).__name__
    if name.endswith("Comp") or name == "GeneratorExp":
        return "comprehension"
    return words.get(name, name)


def _check_call(node: ast.Call, quoted: Mapping[str, str]) -> None:
    name = _column_name(node.func, {})
    if name is None or name not in functions.FUNCTIONS:
        shown = name or ast.unparse(node.func)
        bare = shown.rpartition(".")[2]
        hint = f"; write {bare}" if bare in functions.FUNCTIONS else did_you_mean(shown, functions.FUNCTIONS)
        known = ", ".join(sorted(functions.FUNCTIONS))
        msg = f"function '{shown}' is not one of those that a formula may use{hint} (has {known})"
        raise ModelSpecError(msg)
    allowed = functions.FUNCTIONS[name].keywords
    for keyword in node.keywords:
        if keyword.arg is None or keyword.arg not in allowed:
            msg = f"{name}() has no argument '{keyword.arg}'{did_you_mean(str(keyword.arg), allowed)}"
            raise ModelSpecError(msg)
        _check(keyword.value, quoted)
    for argument in node.args:
        if isinstance(argument, ast.Starred):
            msg = "arguments with a star are not taken in a formula"
            raise ModelSpecError(msg)
        _check(argument, quoted)


def _variables(node: ast.AST, quoted: Mapping[str, str]) -> Iterator[str]:
    """Yield the columns that a checked tree reads."""
    if isinstance(node, ast.Name | ast.Attribute):
        name = _column_name(node, quoted)
        if name is not None and not _is_coding(node):
            yield name
    elif isinstance(node, ast.Call):
        for argument in (*node.args, *(keyword.value for keyword in node.keywords)):
            yield from _variables(argument, quoted)
    else:
        for child in ast.iter_child_nodes(node):
            yield from _variables(child, quoted)


def _splits(body: ast.expr, quoted: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield (column, grouping column) of every within/between split."""
    for node in ast.walk(body):
        if isinstance(node, ast.Call):
            by = [keyword.value for keyword in node.keywords if keyword.arg == "by"]
            for column in (name for argument in node.args for name in _variables(argument, quoted)):
                yield from ((column, group) for value in by for group in _variables(value, quoted))


def _dates(body: ast.expr, quoted: Mapping[str, str]) -> frozenset[str]:
    """Columns that stand in the first place of days() or years(), and nowhere else."""
    found = [
        name
        for node in ast.walk(body)
        if isinstance(node, ast.Call)
        and _column_name(node.func, {}) in functions.DATE_FUNCTIONS
        and node.args
        for name in _variables(node.args[0], quoted)
    ]
    read = list(_variables(body, quoted))
    return frozenset(name for name in found if read.count(name) == found.count(name))


def _value(node: ast.AST, columns: Mapping[str, pd.Series], quoted: Mapping[str, str]) -> object:
    """Walk a checked tree."""
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Name | ast.Attribute):
        if _is_coding(node):
            return functions.CODINGS[_column_name(node, {}) or ""]()
        return columns[_column_name(node, quoted) or ""]
    if isinstance(node, ast.List | ast.Tuple):
        return [_value(element, columns, quoted) for element in node.elts]
    if isinstance(node, ast.UnaryOp):
        operand = _value(node.operand, columns, quoted)
        if isinstance(operand, (int, float)):
            return -operand if isinstance(node.op, ast.USub) else operand
        return np.multiply(-1.0 if isinstance(node.op, ast.USub) else 1.0, _number(operand))
    if isinstance(node, ast.BinOp):
        left = _number(_value(node.left, columns, quoted))
        right = _number(_value(node.right, columns, quoted))
        return _OPERATORS[type(node.op)](left, right)
    if isinstance(node, ast.Call):
        arguments = [_value(argument, columns, quoted) for argument in node.args]
        keywords = {str(keyword.arg): _value(keyword.value, columns, quoted) for keyword in node.keywords}
        for value in (*arguments, *keywords.values()):
            if isinstance(value, int) and abs(value) > _MAX_LITERAL:
                msg = f"the argument {value} is too large"
                raise ModelSpecError(msg)
        return functions.FUNCTIONS[_column_name(node.func, {}) or ""].call(*arguments, **keywords)
    msg = f"{type(node).__name__} is not taken in a formula"
    raise ModelSpecError(msg)


def _number(value: object) -> NDArray[np.float64] | np.floating:
    """Return an operand of arithmetic as float64; floats overflow to inf where integers would not end."""
    if isinstance(value, pd.Series):
        if is_categorical(value):
            msg = f"'{value.name}' holds labels; arithmetic takes numbers"
            raise ModelSpecError(msg)
        return value.to_numpy(dtype=np.float64)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return np.float64(value)
    if isinstance(value, (np.ndarray, np.floating)) and value.ndim < 2:
        return value
    hint = f"; a column of that name is written `{value}`" if isinstance(value, bool | None) else ""
    msg = f"arithmetic takes numbers and numeric columns{hint}"
    raise ModelSpecError(msg)
