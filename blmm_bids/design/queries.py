"""The query of a Filter transformation: comparisons joined by and, or, not; never evaluated as Python."""

from __future__ import annotations

import ast
import operator
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from blmm_bids.design.columns import is_categorical, label
from blmm_bids.design.tokens import StandIns
from blmm_bids.errors import ModelSpecError

BoolArray = NDArray[np.bool_]

MAX_QUERY = 2_000
"""Longest query; Python's parser recurses over it."""

_ORDER: Mapping[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_WORDS = {"&": " and ", "&&": " and ", "|": " or ", "||": " or ", "~": " not ", "!": " not "}
_PIECES = re.compile(r"""'[^'\\]*'|"[^"\\]*"|`[^`]+`|&&|\|\||!=|[&|~!]|[^\W\d][\w.]*""")


def parse_query(query: str) -> tuple[ast.expr, Mapping[str, str]]:
    """Read and check a query.

    Parameters
    ----------
    query : str
        For instance ``"age > 18 and site in ['A', 'B']"``; ``&``, ``|`` and ``~`` are taken too, and names in
        backticks.

    Returns
    -------
    tree : ast.expr
        For `select_rows`.
    quoted : mapping of str to str
        Stand-in identifiers to names that were in backticks.

    Raises
    ------
    ModelSpecError
        Anything but comparisons of columns, numbers and text.
    """
    if len(query) > MAX_QUERY:
        msg = f"Filter query has {len(query)} characters; at most {MAX_QUERY} are read"
        raise ModelSpecError(msg)
    quoted = StandIns(query)

    def replace(match: re.Match[str]) -> str:
        piece = match.group()
        if piece.startswith("`"):
            return quoted.stand_in(piece[1:-1])
        return piece if piece[0] in "'\"" else quoted.word(_WORDS.get(piece, piece))

    try:
        with warnings.catch_warnings(action="ignore"):
            tree = ast.parse(_PIECES.sub(replace, query).strip(), mode="eval").body
        _check_condition(tree, query)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        msg = f"Filter query '{query[:200]}' cannot be read; write for instance \"age > 18 and site == 'A'\""
        raise ModelSpecError(msg) from error
    return tree, quoted


def query_names(tree: ast.expr, quoted: Mapping[str, str]) -> tuple[str, ...]:
    """Return the columns that a query reads, in order."""
    return tuple(dict.fromkeys(_names(tree, quoted)))


def select_rows(tree: ast.expr, quoted: Mapping[str, str], columns: Mapping[str, pd.Series]) -> BoolArray:
    """Apply a query to a table.

    Parameters
    ----------
    tree, quoted
        From `parse_query`.
    columns : mapping of str to Series
        Columns by name.

    Returns
    -------
    (obs,) bool
        True where the query holds; a comparison with a missing value does not, except ``!=``.

    Raises
    ------
    ModelSpecError
        An order asked of labels, text compared with numbers, or an unknown column.
    """
    if isinstance(tree, ast.BoolOp):
        parts = [select_rows(value, quoted, columns) for value in tree.values]
        combined = (
            np.logical_and.reduce(parts) if isinstance(tree.op, ast.And) else np.logical_or.reduce(parts)
        )
        return np.asarray(combined, dtype=bool)
    if isinstance(tree, ast.UnaryOp):
        return ~select_rows(tree.operand, quoted, columns)
    if not isinstance(tree, ast.Compare):
        msg = "a Filter query is made of comparisons"
        raise ModelSpecError(msg)
    operands = [_operand(node, quoted, columns) for node in (tree.left, *tree.comparators)]
    results = [
        _compare(left, comparison, right)
        for left, comparison, right in zip(operands, tree.ops, operands[1:], strict=False)
    ]
    return np.asarray(np.logical_and.reduce(results), dtype=bool)


def _check_condition(tree: ast.AST, query: str) -> None:
    if isinstance(tree, ast.BoolOp):
        for value in tree.values:
            _check_condition(value, query)
    elif isinstance(tree, ast.UnaryOp) and isinstance(tree.op, ast.Not):
        _check_condition(tree.operand, query)
    elif isinstance(tree, ast.Compare) and all(type(op) in {*_ORDER, ast.In, ast.NotIn} for op in tree.ops):
        for node in (tree.left, *tree.comparators):
            _check_operand(node, query)
        if not any(
            True for node in (tree.left, *tree.comparators) if isinstance(node, ast.Name | ast.Attribute)
        ):
            msg = f"Filter query '{query[:200]}' compares no column"
            raise ModelSpecError(msg)
    else:
        msg = f"Filter query '{query[:200]}' may only hold comparisons joined by and, or, not"
        raise ModelSpecError(msg)


def _check_operand(node: ast.AST, query: str) -> None:
    is_list = isinstance(node, ast.List | ast.Tuple | ast.Set)
    elements = node.elts if isinstance(node, ast.List | ast.Tuple | ast.Set) else [node]
    for element in elements:
        if isinstance(element, ast.UnaryOp) and isinstance(element.op, ast.USub):
            element = element.operand
        is_value = isinstance(element, ast.Constant) and isinstance(element.value, (int, float, str))
        is_name = (
            not is_list and isinstance(element, ast.Name | ast.Attribute) and _dotted(element, {}) is not None
        )
        if not (is_value or is_name):
            msg = f"Filter query '{query[:200]}' may only compare columns, numbers and text"
            raise ModelSpecError(msg)


def _dotted(node: ast.expr, quoted: Mapping[str, str]) -> str | None:
    if isinstance(node, ast.Name):
        return quoted.get(node.id, node.id)
    if isinstance(node, ast.Attribute) and (owner := _dotted(node.value, {})):
        return f"{owner}.{node.attr}"
    return None


def _names(tree: ast.AST, quoted: Mapping[str, str]) -> Iterator[str]:
    if isinstance(tree, ast.Name | ast.Attribute):
        yield _dotted(tree, quoted) or ""
        return
    for child in ast.iter_child_nodes(tree):
        yield from _names(child, quoted)


def _operand(node: ast.expr, quoted: Mapping[str, str], columns: Mapping[str, pd.Series]) -> object:
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.UnaryOp) and isinstance(node.operand, ast.Constant):
        if isinstance(node.operand.value, str):
            msg = "a Filter query has a '-' before text"
            raise ModelSpecError(msg)
        return -node.operand.value  # type: ignore[operator]
    if isinstance(node, ast.List | ast.Tuple | ast.Set):
        return [_operand(element, quoted, columns) for element in node.elts]
    return columns[_dotted(node, quoted) or ""]


def _compare(left: object, comparison: ast.cmpop, right: object) -> BoolArray:
    if isinstance(comparison, ast.In | ast.NotIn):
        if not (isinstance(left, pd.Series) and isinstance(right, list)):
            msg = "'in' of a Filter query takes a column and a list, as in site in ['A', 'B']"
            raise ModelSpecError(msg)
        wanted = {label(item) for item in right}
        found = np.asarray(left.map(label, na_action="ignore").isin(wanted), dtype=bool)
        return ~found if isinstance(comparison, ast.NotIn) else found
    if isinstance(left, list) or isinstance(right, list):
        msg = "a list of a Filter query goes with 'in'"
        raise ModelSpecError(msg)
    labelled = [item for item in (left, right) if isinstance(item, pd.Series) and is_categorical(item)]
    compare = _ORDER[type(comparison)]
    if not labelled:
        if isinstance(left, str) or isinstance(right, str):
            name = next(item.name for item in (left, right) if isinstance(item, pd.Series))
            msg = f"Filter compares '{name}', which is numeric, with text"
            raise ModelSpecError(msg)
        return _filled(compare(_as_number(left), _as_number(right)), _size(left, right))
    if not isinstance(comparison, ast.Eq | ast.NotEq):
        msg = f"Filter asks for an order of '{labelled[0].name}', which holds labels; use ==, != or in"
        raise ModelSpecError(msg)
    return _filled(compare(_as_labels(left), _as_labels(right)), _size(left, right))


def _as_labels(item: object) -> object:
    if isinstance(item, pd.Series):
        return item.map(label, na_action="ignore").astype(object).to_numpy()
    return label(item)


def _as_number(item: object) -> object:
    """Integers that no column holds as floats, which compare with all of them."""
    if isinstance(item, int) and abs(item) >= 2**63:
        try:
            return float(item)
        except OverflowError:
            return np.inf if item > 0 else -np.inf
    return item


def _size(left: object, right: object) -> int:
    return next(len(item) for item in (left, right) if isinstance(item, pd.Series))


def _filled(result: object, n_obs: int) -> BoolArray:
    return np.broadcast_to(np.asarray(result, dtype=bool), (n_obs,)).copy()
