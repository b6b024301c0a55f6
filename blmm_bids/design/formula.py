"""Turn a formula without bars into a model matrix.

formulaic expands the terms and codes the categories. It never sees an expression: functions and
arithmetic are computed by `expressions`, and formulaic looks their values up by a stand-in, so that its own
evaluation of Python has nothing to evaluate, and no column of a table can have a name that means something
to it. Column names are formulaic's, with the stand-ins taken back.
"""

from __future__ import annotations

import ast
import math
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from formulaic import Formula
from formulaic.errors import FormulaicError
from formulaic.materializers import PandasMaterializer
from formulaic.materializers.types import FactorValues
from formulaic.parser import DefaultFormulaParser
from formulaic.parser.types import ASTNode, Factor, Term
from numpy.typing import NDArray

from blmm_bids.design.columns import categorical_values, is_categorical
from blmm_bids.design.expressions import Expression, evaluate, parse_expression
from blmm_bids.design.tokens import OPERAND_KINDS, Token, formula_error, tokenize
from blmm_bids.errors import ModelSpecError

INTERCEPT = "Intercept"
"""formulaic's name for the constant column."""

MAX_TERMS = 2_000
"""Most terms that a formula may expand into; ``(a + b + …) ** 20`` would not end."""

_STAND_IN = re.compile(r"\bf(\d+)_\b")
MAX_COLUMNS = 200
"""Most columns of a matrix: work grows with their cube, the maps of covariances with their square."""

# Of the private use area, since a stand-in lies among levels' labels in formulaic's names of columns.
_LOOKED_UP = re.compile("\ue000(\\d+)\ue001")


@dataclass(frozen=True, eq=False)
class ParsedFormula:
    """A formula whose every factor is on the allow-list.

    Attributes
    ----------
    text : str
        As written.
    terms : tuple of tuple of str
        Factor names of each term, by degree; the empty tuple is the intercept.
    factors : mapping of str to (Expression or str)
        Factor name to its expression, or to its column's name.
    """

    text: str
    terms: tuple[tuple[str, ...], ...]
    factors: Mapping[str, Expression | str]

    @property
    def variables(self) -> tuple[str, ...]:
        """Columns that the formula reads, in order, grouping columns of ``by=`` included."""
        names: list[str] = []
        for factor in self.factors.values():
            names.extend((factor,) if isinstance(factor, str) else factor.variables)
        return tuple(dict.fromkeys(names))

    @property
    def covariates(self) -> tuple[str, ...]:
        """Columns that enter the matrix: all but those that only stand in ``by=``."""
        by = {group for _, group in self.splits}
        direct = {factor for factor in self.factors.values() if isinstance(factor, str)}
        return tuple(name for name in self.variables if name not in by or name in direct)

    @property
    def splits(self) -> frozenset[tuple[str, str]]:
        """Pairs (column, grouping column) that are split within and between."""
        return frozenset(
            pair
            for factor in self.factors.values()
            if isinstance(factor, Expression)
            for pair in factor.split_by
        )


@dataclass(frozen=True, eq=False)
class ModelMatrix:
    """A model matrix with its names.

    Attributes
    ----------
    values : (obs, column) float64
        The matrix.
    columns : tuple of str
        formulaic's names, verbatim.
    terms : mapping of str to tuple of str
        Term name (``"age:sex"``; ``"Intercept"``) to the names of its columns.
    """

    values: NDArray[np.float64]
    columns: tuple[str, ...]
    terms: Mapping[str, tuple[str, ...]]


def parse_formula(text: str) -> ParsedFormula:
    """Read and check a formula without bars.

    Parameters
    ----------
    text : str
        Wilkinson formula: ``+ - * / : ** %in%``, names, listed functions, ``{arithmetic}``.

    Returns
    -------
    ParsedFormula
        With its terms expanded; no table is needed.

    Raises
    ------
    ModelSpecError
        A formula that cannot be read, or that has anything not on the allow-list.
    """
    factors: dict[str, Expression | str] = {}
    stand_ins: dict[str, str] = {}
    parts: list[str] = []
    previous: Token | None = None
    for token in tokenize(text):
        _check_place(text, token, previous)
        previous = token
        if token.kind in ("name", "quoted", "call", "braces"):
            name, factor = _factor(text, token)
            _refuse_taken(text, token, name, factor, factors.get(name))
            factors[name] = factor
            # Underscores at the end keep f1_ from being a prefix of f10_.
            parts.append(stand_ins.setdefault(name, f"f{len(stand_ins)}_"))
        else:
            parts.append(token.text)
    if previous is not None and previous.kind == "operator":
        raise formula_error(text, previous.start, f"a variable is missing after '{previous.text}'")
    terms = _expand(text, " ".join(parts), list(stand_ins))
    used = {name for term in terms for name in term}
    return ParsedFormula(text, terms, {name: factor for name, factor in factors.items() if name in used})


def model_matrix(formula: ParsedFormula, columns: Mapping[str, pd.Series], n_obs: int) -> ModelMatrix:
    """Compute a formula over the rows of a table.

    Parameters
    ----------
    formula : ParsedFormula
        From `parse_formula`.
    columns : mapping of str to Series
        Columns by name, without missing values, indexed from 0: formulaic aligns on the index.
    n_obs : int
        Number of rows.

    Returns
    -------
    ModelMatrix
        Treatment coding with the first level as reference unless ``C`` says otherwise; structurally of full
        rank, as formulaic makes it.

    Raises
    ------
    ModelSpecError
        A variable that is absent, wrong arguments, or values that are not finite.
    """
    stand_ins = {name: f"\ue000{index}\ue001" for index, name in enumerate(formula.factors)}
    values = {
        stand_ins[name]: columns[factor]
        if isinstance(factor, str)
        else _spread(evaluate(factor, columns), n_obs, name)
        for name, factor in formula.factors.items()
    }
    _check_size(formula, {name: values[stand_ins[name]] for name in formula.factors})
    terms = [
        Term(
            [Factor(stand_ins[name], eval_method="lookup") for name in term]
            or [Factor("1", eval_method="literal")]
        )
        for term in formula.terms
    ]
    try:
        with warnings.catch_warnings(action="ignore"):
            matrix = PandasMaterializer(
                pd.DataFrame(index=pd.RangeIndex(n_obs)), context=values
            ).get_model_matrix(Formula(terms, _ordering="none"), na_action="ignore", output="numpy")
    except (FormulaicError, ValueError, TypeError, KeyError, np.linalg.LinAlgError) as error:
        msg = f"formula '{formula.text}' cannot be computed: {_as_written(_one_line(error), formula)}"
        raise ModelSpecError(msg) from error
    structure = [
        (":".join(term) or INTERCEPT, tuple(_as_written(str(name), formula) for name in part.columns))
        for term, part in zip(formula.terms, matrix.model_spec.structure, strict=True)
    ]
    _check_unique(formula, structure)
    names = tuple(name for _, part in structure for name in part)
    X = np.ascontiguousarray(matrix, dtype=np.float64).reshape(n_obs, len(names))
    _check_finite(formula, X, names)
    return ModelMatrix(X, names, dict(structure))


def _check_size(formula: ParsedFormula, values: Mapping[str, object]) -> None:
    """Refuse categories of very many levels before any column is made of them."""
    levels = {}
    for name, value in values.items():
        inner = value.__wrapped__ if isinstance(value, FactorValues) else value
        if isinstance(inner, pd.Series) and is_categorical(inner):
            levels[name] = len(categorical_values(inner).cat.categories)
    n_columns = sum(math.prod(max(levels.get(name, 2) - 1, 1) for name in term) for term in formula.terms)
    if n_columns > MAX_COLUMNS:
        largest = max(levels, key=levels.__getitem__, default="")
        hint = f" ('{largest}' has {levels[largest]} levels)" if largest else ""
        grouping = formula.factors.get(largest)
        instead = f"make it a grouping factor, (1 | {largest}), or " if isinstance(grouping, str) else ""
        msg = (
            f"formula '{formula.text[:200]}' makes {n_columns} columns or more{hint}; at most {MAX_COLUMNS} "
            f"are fitted: {instead}merge levels"
        )
        raise ModelSpecError(msg)


def _as_written(text: str, formula: ParsedFormula) -> str:
    """Put the factors' names for their stand-ins."""
    names = tuple(formula.factors)
    return _LOOKED_UP.sub(lambda match: names[int(match.group(1))], text)


def _refuse_taken(
    text: str, token: Token, name: str, factor: Expression | str, other: Expression | str | None
) -> None:
    """Refuse a variable whose name is that of the constant or of something that the formula computes."""
    if name == INTERCEPT:
        msg = f"'{INTERCEPT}' is the name of the constant's column; rename the variable, or write 1"
        raise formula_error(text, token.start, msg)
    if other is not None and isinstance(other, str) != isinstance(factor, str):
        msg = f"'{name}' is a variable's name and a term that is computed; rename the variable"
        raise formula_error(text, token.start, msg)


def _check_unique(formula: ParsedFormula, structure: Sequence[tuple[str, tuple[str, ...]]]) -> None:
    """Refuse variables whose names are those of other terms or of other terms' columns."""
    owners: dict[str, str] = {}
    for term, columns in structure:
        # A term of one number is named as its column.
        for name in dict.fromkeys((term, *columns)):
            other = owners.setdefault(name, term)
            if other is not term or columns.count(name) > 1:
                msg = (
                    f"formula '{formula.text}': '{name}' would be the name of two things, of the term "
                    f"'{other}' and of the term '{term}'; rename the variable (or the level) that is named so"
                )
                raise ModelSpecError(msg)


def _factor(text: str, token: Token) -> tuple[str, Expression | str]:
    if token.kind in ("name", "quoted"):
        if "`" in token.text or (token.kind == "name" and token.text.endswith(".")):
            raise formula_error(text, token.start, f"'{token.text}' is no column name")
        return token.text, token.text
    expression = parse_expression(text, token)
    if token.kind == "braces" and isinstance(expression.body, ast.Name | ast.Attribute):
        return expression.variables[0], expression.variables[0]
    return expression.text, expression


def _check_place(text: str, token: Token, previous: Token | None) -> None:
    """Refuse what formulaic would read in another way than lme4, or refuse without a position."""
    if token.kind == "number" and token.text not in ("0", "1"):
        is_power = previous is not None and previous.text in ("**", "^")
        if not (is_power and token.text.isdigit()):
            msg = "the only numbers in a formula are 0 and 1, and powers; put arithmetic in I(...)"
            raise formula_error(text, token.start, msg)
    if token.kind == "operator" and token.text in ("|", "||", "~"):
        raise formula_error(text, token.start, f"a '{token.text}' cannot stand here")
    follows_operand = previous is not None and (previous.kind in OPERAND_KINDS or previous.kind == "close")
    if (token.kind in OPERAND_KINDS or token.kind == "open") and follows_operand:
        raise formula_error(text, token.start, "an operator such as '+' is missing before this")
    is_binary = token.kind == "close" or (token.kind == "operator" and token.text not in "+-")
    if is_binary and not follows_operand:
        raise formula_error(text, token.start, f"a variable is missing before '{token.text}'")


def _expand(text: str, stand_in_text: str, names: list[str]) -> tuple[tuple[str, ...], ...]:
    """Let formulaic's parser expand the operators over stand-in names."""
    parser = DefaultFormulaParser(feature_flags=set())
    try:
        tree = parser.get_ast(stand_in_text or "1")
        if _count_terms(tree) > MAX_TERMS:
            msg = f"formula '{text[:100]}' expands into more than {MAX_TERMS} terms"
            raise ModelSpecError(msg)
        expanded = Formula(stand_in_text or "1", _parser=parser)
    except (
        FormulaicError, SyntaxError, RecursionError, TypeError, ValueError, AttributeError, StopIteration,
    ) as error:  # fmt: skip
        reason = _STAND_IN.sub(lambda match: names[int(match.group(1))], _one_line(error))
        msg = f"formula '{text[:200]}' cannot be read: {reason}"
        raise ModelSpecError(msg) from error
    terms: list[tuple[str, ...]] = []
    for term in expanded:
        stand_ins = (_STAND_IN.fullmatch(factor.expr) for factor in term.factors)
        terms.append(tuple(names[int(match.group(1))] for match in stand_ins if match))
    return tuple(dict.fromkeys(terms))


def _count_terms(node: object) -> int:
    """Bound the number of terms that an operator tree expands into."""
    if not isinstance(node, ASTNode):
        return 1
    symbol = node.operator.symbol
    if symbol in ("**", "^") and len(node.args) == 2:
        if isinstance(node.args[1], ASTNode):
            # None that the parser takes, but it works it out before it says so.
            return max(_count_terms(arg) for arg in node.args)
        exponent = _whole(str(node.args[1]))
        # A bound beyond the limit is as good as the exact count, and cannot overflow. An exponent beyond it
        # is as bad: the parser forms all factors of the product before it finds that they are the same.
        if exponent > MAX_TERMS:
            return exponent
        return int(min(float(_count_terms(node.args[0])) ** min(exponent, 64), 1e9))
    counts = [_count_terms(arg) for arg in node.args]
    if len(counts) < 2:
        return sum(counts)
    if symbol == ":":
        return int(min(float(counts[0]) * counts[1], 1e9))
    if symbol == "*":
        return int(min(float(counts[0]) * counts[1] + sum(counts), 1e9))
    return sum(counts)


def _whole(text: str) -> int:
    """Read an exponent; 1 for what is none, which the parser refuses."""
    try:
        return int(text)
    except ValueError:
        return 1


def _spread(value: object, n_obs: int, name: str) -> object:
    """Repeat a scalar over the rows, and refuse anything that has not one row an observation."""
    if isinstance(value, (FactorValues, pd.Series)):
        return value
    if isinstance(value, (int, float, np.floating)):
        return np.full(n_obs, float(value))
    if not isinstance(value, np.ndarray) or len(value) != n_obs:
        msg = f"formula term '{name}' has not one number for each of the {n_obs} rows"
        raise ModelSpecError(msg)
    return value


def _check_finite(formula: ParsedFormula, X: NDArray[np.float64], names: tuple[str, ...]) -> None:
    bad = np.flatnonzero(~np.isfinite(X).all(axis=0))
    if len(bad):
        n_rows = int((~np.isfinite(X[:, bad[0]])).sum())
        msg = (
            f"formula '{formula.text}': column '{names[bad[0]]}' is not finite in {n_rows} rows; "
            "look for the logarithm or root of a negative number, a division by zero or an overflow"
        )
        raise ModelSpecError(msg)


def _one_line(error: BaseException) -> str:
    return re.sub(r"\x1b\[[0-9;]*m|[⧛⧚]", "", " ".join(str(error).split())) or type(error).__name__
