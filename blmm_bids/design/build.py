"""Turn a node of the model spec and a table of observations into a design.

Which rows stay is decided once, in this order: rows with a missing value in a variable that the model uses
go, then those that Filter and DropNA remove. Only then are the transformations run again, over the rows that
stay, so that every mean and every scale is that of the images that are fitted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from blmm_bids.design import checks
from blmm_bids.design.bars import Bar
from blmm_bids.design.columns import (
    Variables,
    categorical_values,
    enumerate_names,
    group_codes,
    is_categorical,
)
from blmm_bids.design.contrasts import build_contrasts
from blmm_bids.design.faults import Origin, TableFaults
from blmm_bids.design.formula import (
    INTERCEPT,
    ModelMatrix,
    ParsedFormula,
    model_matrix,
    parse_formula,
)
from blmm_bids.design.inside import check_inside
from blmm_bids.design.label_like import label_like_warnings
from blmm_bids.design.references import checked_references, reference_of
from blmm_bids.design.spec import NodeSpec
from blmm_bids.design.spellings import ColumnNames
from blmm_bids.design.transforms import apply_instructions, copied_columns, input_columns, replaced_words
from blmm_bids.design.variables import VariableInfo
from blmm_bids.errors import DataError, ModelSpecError
from blmm_bids.stats.model import Contrast, Design, RandomTerm


@dataclass(frozen=True, eq=False)
class BuiltDesign:
    """A design and how it came about.

    Attributes
    ----------
    design : Design
        X and the random terms.
    rows : tuple of int
        Positions of the table's rows that are used, in order.
    dropped : tuple of (int, str)
        Position and reason of each row that is not.
    contrasts : tuple of Contrast
        Explicit, dummy and anova contrasts.
    variables : tuple of VariableInfo
        Every variable of the model.
    warnings : tuple of str
        What the user should look at.
    notices : tuple of str
        What was guessed of the tables that are used: of the table, not of this fit.
    formula_text : str
        The model as one lme4-like line.
    fixef_terms : mapping of str to tuple of str
        Term of the fixed part to its columns.
    """

    design: Design
    rows: tuple[int, ...]
    dropped: tuple[tuple[int, str], ...]
    contrasts: tuple[Contrast, ...]
    variables: tuple[VariableInfo, ...]
    warnings: tuple[str, ...]
    formula_text: str
    fixef_terms: Mapping[str, tuple[str, ...]]
    notices: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class _Rows:
    """Rows that are fitted, with the variables as the model sees them, and all columns that were read."""

    variables: Variables
    rows: tuple[int, ...]
    dropped: tuple[tuple[int, str], ...]
    n_missing: Mapping[str, int]
    read: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class _Parts:
    """A node's formulas, parsed."""

    fixed: ParsedFormula
    bars: tuple[tuple[Bar, ParsedFormula], ...]

    @property
    def used(self) -> tuple[str, ...]:
        """Every column that the model reads."""
        names = list(self.fixed.variables)
        for bar, effects in self.bars:
            names += [*effects.variables, *bar.group_names]
        return tuple(dict.fromkeys(names))

    @property
    def taken(self) -> tuple[str, ...]:
        """Every column that enters X or a random effect."""
        names = list(self.fixed.covariates)
        for _, effects in self.bars:
            names += effects.covariates
        return tuple(dict.fromkeys(names))

    @property
    def covariates(self) -> tuple[str, ...]:
        """Every column that the model takes as it is, neither coded by C() nor a grouping factor."""
        return tuple(name for name in self.taken if name not in self.coded)

    @property
    def plain(self) -> frozenset[str]:
        """Columns of the fixed part that no function takes."""
        factors = self.fixed.factors.values()
        inside = {name for each in factors if not isinstance(each, str) for name in each.variables}
        return frozenset(each for each in factors if isinstance(each, str)) - inside

    @property
    def slopes(self) -> frozenset[str]:
        """Columns that have a random slope."""
        return frozenset(name for _, effects in self.bars for name in effects.covariates)

    @property
    def dates(self) -> frozenset[str]:
        """Columns that days() and years() make numbers of."""
        return self.fixed.dates.union(*(effects.dates for _, effects in self.bars))

    @property
    def coded(self) -> frozenset[str]:
        """Columns that C() makes categories of."""
        return frozenset(
            factor.variables[0]
            for formula in (self.fixed, *(effects for _, effects in self.bars))
            for factor in formula.factors.values()
            if not isinstance(factor, str) and factor.text.startswith("C(") and factor.variables
        )


def build_design(
    node: NodeSpec,
    table: pd.DataFrame,
    ambiguous: Mapping[str, tuple[str, ...]] | None = None,
    faults: TableFaults | None = None,
) -> BuiltDesign:
    """Build and check the design of one node, before any image is read.

    Parameters
    ----------
    node : NodeSpec
        The model.
    table : DataFrame
        One row an image: entities and covariates. It is not changed.
    ambiguous : mapping of str to tuple of str, optional
        Names found in several tables, to the qualified names that are columns.
    faults : TableFaults, optional
        What is wrong with columns; it is refused where the model uses them.

    Returns
    -------
    BuiltDesign
        Design of the rows that have every variable of the model.

    Raises
    ------
    ModelSpecError
        Unknown or ambiguous names, contrasts that name no column, functions with wrong arguments.
    DataError
        A design that cannot be fitted: rank, levels, too few images; a covariate of numbers and text, an
        image without a line in a table that the model needs.

    Notes
    -----
    1. Missing values, Filter and DropNA decide the rows. 2. Transformations, X and the random terms are
    computed over them. 3. Checks. 4. Contrasts.
    """
    ambiguous, faults = ambiguous or {}, faults or TableFaults()
    table = table.reset_index(drop=True)
    parts = _Parts(parse_formula(node.formula), tuple((bar, parse_formula(bar.effects)) for bar in node.bars))
    if node.response and (node.response in table.columns or node.response in ambiguous):
        msg = (
            f"the left side '{node.response}' of the formula is a variable; the images are the "
            "response: remove it"
        )
        raise ModelSpecError(msg)

    _refuse_alike([bar for bar, _ in parts.bars])

    # 1. Rows.
    replaced = replaced_words(node.transformations)
    first = copied_columns(node.transformations)
    faults.refuse_mixed(first.get(name, name) for name in parts.covariates if name not in replaced)
    fitted = _fitted_rows(node, parts, table, ambiguous, faults)
    still_text = [name for name in parts.covariates if is_categorical(fitted.variables[name])]
    faults.refuse_mixed(name for name in still_text if name in replaced)
    n_obs = len(fitted.rows)

    # 2. Columns.
    matrix = model_matrix(parts.fixed, fitted.variables, n_obs)
    random = [
        (bar, effects) for bar, formula in parts.bars for effects in _effects(bar, formula, fitted.variables)
    ]
    terms = tuple(_random_term(bar, effects, fitted.variables) for bar, effects in random)

    # 3. Checks.
    warnings = _check(node, parts, fitted, matrix, terms)

    # 4. Contrasts.
    names = ColumnNames(matrix.columns, matrix.terms, matrix.coded)
    contrasts = build_contrasts(node.contrasts, node.dummy_contrasts, names, anova=node.options.anova)
    return BuiltDesign(
        design=Design(matrix.values, matrix.columns, terms),
        rows=fitted.rows,
        dropped=fitted.dropped,
        contrasts=contrasts,
        variables=tuple(
            _describe_variables(parts, fitted, faults, matrix, [effects for _, effects in random])
        ),
        warnings=tuple(warnings),
        formula_text=node.formula_text,
        fixef_terms=matrix.terms,
        notices=(*faults.said_of(fitted.read), *names.notices),
    )


def _refuse_alike(bars: Sequence[Bar]) -> None:
    """Refuse a grouping column that is named as the interaction of others, ``a:b`` beside ``a`` and ``b``."""
    columns: dict[str, tuple[str, ...]] = {}
    for bar in bars:
        group = ":".join(bar.group_names)
        if columns.setdefault(group, bar.group_names) != bar.group_names:
            msg = f"two grouping factors would be named '{group}'; rename the column that is named so"
            raise ModelSpecError(msg)


def _fitted_rows(
    node: NodeSpec,
    parts: _Parts,
    table: pd.DataFrame,
    ambiguous: Mapping[str, tuple[str, ...]],
    faults: TableFaults,
) -> _Rows:
    """Decide the rows, then run the transformations over them."""
    if table.empty:
        msg = "no image is left to fit"
        raise DataError(msg)
    instructions, used = node.transformations, parts.used
    read = tuple(dict.fromkeys([*used, *input_columns(instructions)]))
    known = {*map(str, table.columns), *ambiguous}
    faults.refuse_unusable(read, known)
    everything = apply_instructions(instructions, table, ambiguous, drop_rows=False).table
    faults.refuse_absent(used, known.union(map(str, everything.columns)))
    missing = _missing(used, Variables(everything, ambiguous))
    inputs = [name for instruction in instructions for name in instruction.inputs]
    faults.refuse_unlisted(dict.fromkeys([*used, *inputs]), missing)
    reasons = {row: f"{enumerate_names(names)} missing" for row, names in missing.items()}
    complete = table.drop(index=list(reasons))
    if len(complete):
        reasons |= apply_instructions(instructions, complete, ambiguous, drop_rows=True).dropped
    rows = tuple(row for row in range(len(table)) if row not in reasons)
    faults.refuse_suspects(read, table, set(rows), replaced_words(instructions))
    n_missing = {name: sum(name in names for names in missing.values()) for name in used}
    if not rows:
        counts = enumerate_names([f"{name} in {count}" for name, count in n_missing.items() if count])
        filtered = len(reasons) - len(missing)
        msg = (
            f"no image is left: of {len(table)}, variables are missing ({counts}) and Filter or DropNA "
            f"removed {filtered}"
        )
        raise DataError(msg)
    kept = apply_instructions(instructions, table.loc[list(rows)], ambiguous, drop_rows=False).table
    variables = Variables(kept, ambiguous)
    if again := _missing(used, variables):
        names = sorted({name for names in again.values() for name in names})
        msg = (
            f"variable {enumerate_names(names)} is missing after the transformations of the rows that "
            "are fitted"
        )
        raise DataError(msg)
    if node.references:
        factors = {name for each in instructions if each.name == "Factor" for name in each.inputs}
        references = checked_references(
            node.references, variables, parts.taken, parts.coded, factors - set(parts.used)
        )
        variables = Variables(kept, ambiguous, references)
    return _Rows(variables, rows, tuple(sorted(reasons.items())), n_missing, read)


def _missing(used: Iterable[str], variables: Variables) -> dict[int, list[str]]:
    """List the variables that each row lacks."""
    missing: dict[int, list[str]] = {}
    for name in used:
        for row in np.flatnonzero(variables[name].isna().to_numpy()):
            missing.setdefault(int(row), []).append(name)
    return missing


def _effects(bar: Bar, effects: ParsedFormula, variables: Variables) -> Iterable[ModelMatrix]:
    """Compute the effects of a bar, those of each formula term apart where the bar is ``||``."""
    formulas = [effects]
    if not bar.correlated:
        # As lme4's expandDoubleVert: each term alone, so a categorical gets all its levels' columns.
        formulas = [
            ParsedFormula(effects.text, (term,), {name: effects.factors[name] for name in term})
            for term in effects.terms
        ]
    return [model_matrix(formula, variables, variables.n_obs) for formula in formulas]


def _random_term(bar: Bar, effects: ModelMatrix, variables: Variables) -> RandomTerm:
    refs, levels = group_codes([variables[name] for name in bar.group_names])
    return RandomTerm(":".join(bar.group_names), levels, refs, effects.values, effects.columns)


def _check(
    node: NodeSpec, parts: _Parts, fitted: _Rows, matrix: ModelMatrix, terms: Sequence[RandomTerm]
) -> list[str]:
    """Run every check; return the warnings."""
    covariates = parts.fixed.covariates
    warnings = checks.check_variables(fitted.variables, covariates, has_intercept=INTERCEPT in matrix.columns)
    checks.check_fixed(matrix)
    warnings += checks.check_terms(terms, len(fitted.rows), safe_mode=node.options.safe_mode)
    warnings += check_inside(matrix, terms)
    groups = [bar.group_names for bar, _ in parts.bars]
    warnings += checks.lone_level_warnings(fitted.variables, covariates, groups)
    warnings += checks.unsplit_warnings(fitted.variables, covariates, parts.fixed.splits, groups)
    warnings += label_like_warnings(fitted.variables, parts.covariates, parts.plain, parts.slopes)
    return warnings


def _describe_variables(
    parts: _Parts, fitted: _Rows, faults: TableFaults, fixed: ModelMatrix, random: Sequence[ModelMatrix]
) -> Iterable[VariableInfo]:
    covariates = {*parts.taken, *parts.dates}
    for name in parts.used:
        values = fitted.variables[name]
        n_missing = fitted.n_missing[name]
        origin = faults.origins.get(name, Origin("", "made by a transformation"))
        info = VariableInfo(name, "numeric", n_missing=n_missing, reason=origin.reason, table=origin.table)
        if name in parts.dates:
            ordered = sorted(map(str, values))
            yield replace(info, kind="date", levels=(ordered[0], ordered[-1]))
            continue
        if name in covariates and name not in parts.coded and not is_categorical(values):
            numbers = values.to_numpy()
            low, mean, high = float(numbers.min()), float(numbers.mean()), float(numbers.max())
            yield replace(info, minimum=low, mean=mean, maximum=high)
            continue
        labels = categorical_values(values)
        levels = tuple(str(level) for level in labels.cat.categories)
        counts = tuple(int(count) for count in labels.value_counts().reindex(levels))
        info = replace(info, levels=levels, counts=counts)
        if name in covariates:
            reason = "C() in the formula" if name in parts.coded else origin.reason
            reference = reference_of(name, fixed.coded, [each for part in random for each in part.coded])
            yield replace(info, kind="categorical", reference=reference, reason=reason)
        else:
            yield replace(info, kind="grouping", reason="grouping factor")
