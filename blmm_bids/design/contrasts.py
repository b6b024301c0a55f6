"""Turn contrasts as written into rows of weights over the design's columns."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from blmm_bids.design.columns import did_you_mean, enumerate_names
from blmm_bids.design.contrast_spec import ContrastSpec, DummySpec
from blmm_bids.design.formula import INTERCEPT
from blmm_bids.design.spellings import ColumnNames, known_name
from blmm_bids.errors import ModelSpecError
from blmm_bids.stats.model import Contrast

FloatArray = NDArray[np.float64]

MAX_DEPTH = 30
"""Deepest nesting of parentheses in an expression."""

_NUMBER = re.compile(r"(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d{1,3})?(?![\w.])")
_OPERATOR = re.compile(r"[-+*/]")
_WORD = re.compile(r"[\w.]+(?:\[[^\]]*\])?|\S")


def build_contrast(spec: ContrastSpec, names: ColumnNames) -> Contrast:
    """Resolve one contrast.

    Parameters
    ----------
    spec : ContrastSpec
        Conditions and weights, or an expression.
    names : ColumnNames
        Columns and terms of X.

    Returns
    -------
    Contrast
        T for one row, F for several or where asked for.

    Raises
    ------
    ModelSpecError
        A condition that is no column, a row of zeros, or rows that depend on each other.
    """
    test: Literal["t", "F"]
    where = f"contrast '{spec.name}'"
    if spec.expression:
        L, test = parse_expression_contrast(spec.expression, names, where)
        test = spec.test or test
    else:
        L = np.zeros((len(spec.weights), len(names.columns)))
        seen: dict[int, str] = {}
        means = names.level_means(spec.conditions)
        for index, condition in enumerate(spec.conditions):
            if condition in means:
                for name, share in means[condition].items():
                    L[:, names.columns.index(name)] += [share * row[index] for row in spec.weights]
                continue
            column = _column_index(condition, names, where)
            if (earlier := seen.setdefault(column, condition)) != condition:
                msg = (
                    f"{where} names the column '{names.columns[column]}' as '{earlier}' and as '{condition}'"
                )
                raise ModelSpecError(msg)
            L[:, column] += [row[index] for row in spec.weights]
        test = spec.test or ("t" if len(L) == 1 else "F")
    _check_rows(spec.name, L)
    return Contrast(spec.name, L, test)


def build_contrasts(
    specs: Iterable[ContrastSpec],
    dummy: DummySpec | None,
    names: ColumnNames,
    *,
    anova: bool = False,
) -> tuple[Contrast, ...]:
    """Resolve all contrasts of a node.

    Parameters
    ----------
    specs : iterable of ContrastSpec
        Explicit contrasts; they come first.
    dummy : DummySpec or None
        One contrast per column, named exactly as its column.
    names : ColumnNames
        As for `build_contrast`.
    anova : bool
        Add ``anova_<term>``, a marginal F per term but the intercept.

    Returns
    -------
    tuple of Contrast
        Names differ; a dummy contrast that repeats an explicit one is left out.

    Raises
    ------
    ModelSpecError
        As `build_contrast`, or two different contrasts of one name.
    """
    contrasts = [build_contrast(spec, names) for spec in specs]
    columns = names.columns
    identity = np.eye(len(columns))
    if dummy is not None:
        contrasts += [
            Contrast(columns[index], identity[[index]], dummy.test) for index in _dummy_columns(dummy, names)
        ]
    if anova:
        contrasts += [
            Contrast(f"anova_{term}", identity[[columns.index(name) for name in own]], "F")
            for term, own in names.terms.items()
            if own and term != INTERCEPT
        ]
    return tuple(_unique(contrasts))


def parse_expression_contrast(
    expression: str, names: ColumnNames, where: str
) -> tuple[FloatArray, Literal["t", "F"]]:
    """Read a linear expression over columns.

    Parameters
    ----------
    expression : str
        ``"sex[T.M] - 2*age"``; rows separated by ``;``; or a bare term's name for its joint F. A name that is
        both a column and a term is the column.
    names : ColumnNames
        As for `build_contrast`.
    where : str
        The contrast, for messages.

    Returns
    -------
    L : (contrast, fixef) float64
        Weights.
    test : {"t", "F"}
        F where there is a ``;`` or a term.

    Raises
    ------
    ModelSpecError
        Names that are no columns, products of columns, constants.
    """
    stripped = expression.strip().strip("`")
    columns = names.columns
    if stripped not in columns and (own := names.term(stripped)):
        return np.eye(len(columns))[[columns.index(name) for name in own]], "F"
    rows = [part for part in _split_rows(expression, columns) if part.strip()]
    if not rows:
        msg = f"{where} is empty"
        raise ModelSpecError(msg)
    L = np.vstack([_Linear(row, names, where).parse() for row in rows])
    return L, ("F" if len(rows) > 1 else "t")


def _column_index(condition: str, names: ColumnNames, where: str) -> int:
    if (column := names.find(condition, where)) is not None:
        return names.columns.index(column)
    known = enumerate_names(names.columns)
    msg = f"{where} names '{condition}', which is no column of the design (has {known})"
    if columns := names.term(condition):
        raise ModelSpecError(f"{msg}; the term '{condition}' has {enumerate_names(columns)}")
    raise ModelSpecError(msg + did_you_mean(condition, names.columns))


def _dummy_columns(dummy: DummySpec, names: ColumnNames) -> list[int]:
    if dummy.contrasts is None:
        return list(range(len(names.columns)))
    indices: list[int] = []
    for name in dummy.contrasts:
        columns = () if name in names.columns else names.term(name)
        indices += [_column_index(column, names, "DummyContrasts") for column in columns or (name,)]
    return list(dict.fromkeys(indices))


def _check_rows(name: str, L: FloatArray) -> None:
    if not np.isfinite(L).all():
        msg = f"contrast '{name}' has a weight that is not finite"
        raise ModelSpecError(msg)
    zero = np.flatnonzero(~L.any(axis=1))
    if len(zero):
        msg = f"contrast '{name}' has only zero weights" + (f" in row {zero[0] + 1}" if len(L) > 1 else "")
        raise ModelSpecError(msg)
    if np.linalg.matrix_rank(L / np.abs(L).max(axis=1, keepdims=True)) < len(L):
        msg = f"contrast '{name}' has rows that are linear combinations of others; remove the redundant ones"
        raise ModelSpecError(msg)


def _unique(contrasts: Iterable[Contrast]) -> Iterable[Contrast]:
    seen: dict[str, Contrast] = {}
    for contrast in contrasts:
        earlier = seen.setdefault(contrast.name, contrast)
        if earlier is contrast:
            yield contrast
        elif earlier.test != contrast.test or not np.array_equal(earlier.L, contrast.L):
            msg = f"two different contrasts are named '{contrast.name}'; rename the one in Contrasts"
            raise ModelSpecError(msg)


def _split_rows(expression: str, columns: Sequence[str]) -> list[str]:
    """Split at semicolons that are not part of a column's name."""
    rows, start, position = [], 0, 0
    while position < len(expression):
        name = known_name(expression, position, columns)
        if name:
            position += len(name)
            continue
        if expression[position] == ";":
            rows.append(expression[start:position])
            start = position + 1
        position += 1
    return [*rows, expression[start:]]


class _Linear:
    """Recursive descent over one row: sums, multiples and parentheses.

    A value is a vector over (1, columns): the constant's place is only for numbers inside products.
    """

    def __init__(self, text: str, names: ColumnNames, where: str) -> None:
        self.text, self.names, self.where = text, names, where
        self.position = 0
        self.depth = 0

    def parse(self) -> FloatArray:
        value = self._sum()
        if self._peek():
            raise self._error(f"expected + or - before '{self._word()}'")
        if not np.isfinite(value).all():
            raise self._error("has a weight that is not finite")
        if value[0] != 0:
            msg = f"adds the constant {value[0]:g}; the intercept's column is '{INTERCEPT}'"
            raise self._error(msg)
        return np.asarray(value[1:], dtype=np.float64)

    def _sum(self) -> FloatArray:
        value = self._product()
        while (sign := self._peek()) in ("+", "-"):
            self.position += 1
            right = self._product()
            value = value + right if sign == "+" else value - right
        return value

    def _product(self) -> FloatArray:
        value = self._atom()
        while (sign := self._peek()) in ("*", "/"):
            self.position += 1
            right = self._atom()
            if sign == "/" and (right[1:].any() or right[0] == 0):
                raise self._error("divides by a column or by zero")
            if value[1:].any() and right[1:].any():
                raise self._error("multiplies two columns; a contrast is linear")
            with np.errstate(all="ignore"):
                value = value / right[0] if sign == "/" else self._scaled(value, right)
        return value

    @staticmethod
    def _scaled(left: FloatArray, right: FloatArray) -> FloatArray:
        scaled = right * left[0] if right[1:].any() else left * right[0]
        return np.asarray(scaled, dtype=np.float64)

    def _atom(self) -> FloatArray:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise self._error("is nested too deeply")
        value = self._signed_atom()
        self.depth -= 1
        return value

    def _signed_atom(self) -> FloatArray:
        char = self._peek()
        value = np.zeros(len(self.names.columns) + 1)
        if found := self.names.match(self.text, self.position, self.where):
            length, column = found
            if self.text[self.position : self.position + length] == column:
                self._refuse_expression(column)
            self.position += length
            value[1 + self.names.columns.index(column)] = 1.0
            return value
        if match := _NUMBER.match(self.text, self.position):
            self.position = match.end()
            value[0] = float(match.group())
            return value
        if char in ("+", "-"):
            self.position += 1
            return self._atom() if char == "+" else -self._atom()
        if char == "(":
            self.position += 1
            value = self._sum()
            if self._peek() != ")":
                raise self._error("has a '(' that is never closed")
            self.position += 1
            return value
        if not char:
            raise self._error("ends where a column was expected")
        raise self._unknown(self._word())

    def _refuse_expression(self, name: str) -> None:
        """Refuse a column whose name is a number, or an expression over other columns."""
        others = [column for column in self.names.columns if column != name and not _NUMBER.fullmatch(column)]
        if not _NUMBER.fullmatch(name):
            if not _OPERATOR.search(name):
                return
            try:
                _Linear(name, ColumnNames(others, self.names.terms), "").parse()
            except ModelSpecError:
                return
        msg = f"uses '{name}', which is a column and reads as an expression too; rename the variable"
        raise self._error(msg)

    def _peek(self) -> str:
        while self.position < len(self.text) and self.text[self.position].isspace():
            self.position += 1
        return self.text[self.position : self.position + 1]

    def _word(self) -> str:
        match = _WORD.match(self.text, self.position)
        return match.group() if match else ""

    def _unknown(self, word: str) -> ModelSpecError:
        if own := self.names.term(word):
            return self._error(f"uses the term '{word}' in a sum; its columns are {enumerate_names(own)}")
        columns = self.names.columns
        known = f"(has {enumerate_names(columns)}){did_you_mean(word, columns)}"
        return self._error(f"uses '{word}', which is no column of the design {known}")

    def _error(self, message: str) -> ModelSpecError:
        return ModelSpecError(f"{self.where}: '{self.text.strip()}' {message}")
