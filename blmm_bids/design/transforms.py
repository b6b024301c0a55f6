"""Apply transformations to the observation table.

The names and arguments are those of pybids-transforms-v1. What differs from pybids: Filter and DropNA remove
whole rows, a product with a missing value is missing, and means are those of the rows present.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from blmm_bids.design.columns import (
    Variables,
    categorical_values,
    enumerate_names,
    group_codes,
    is_categorical,
    label,
    model_values,
)
from blmm_bids.design.instructions import ROW_WISE, Instruction
from blmm_bids.design.queries import parse_query, query_names, select_rows
from blmm_bids.errors import ModelSpecError


@dataclass(frozen=True, eq=False)
class Transformed:
    """A table after its transformations.

    Attributes
    ----------
    table : DataFrame
        Rows that remain, with the index of the table given.
    dropped : mapping of int to str
        Index of each row that was removed, to the reason.
    """

    table: pd.DataFrame
    dropped: Mapping[int, str]


def apply_instructions(
    instructions: Sequence[Instruction],
    table: pd.DataFrame,
    ambiguous: Mapping[str, tuple[str, ...]],
    *,
    drop_rows: bool,
) -> Transformed:
    """Run transformations over a table.

    Parameters
    ----------
    instructions : sequence of Instruction
        In order.
    table : DataFrame
        One row an observation; it is not changed.
    ambiguous : mapping of str to tuple of str
        Names found in several tables, to their qualified names.
    drop_rows : bool
        Whether Filter and DropNA remove rows; otherwise they are skipped.

    Returns
    -------
    Transformed
        With means and scales over the rows present at each instruction.

    Raises
    ------
    ModelSpecError
        Unknown variables, arithmetic on labels, a constant that is scaled.
    """
    table = table.copy(deep=False)
    dropped: dict[int, str] = {}
    for instruction in instructions:
        if instruction.name in ROW_WISE and not drop_rows:
            _expand_inputs(instruction, Variables(table, ambiguous))
            continue
        variables = Variables(table, ambiguous)
        inputs = _expand_inputs(instruction, variables)
        if instruction.name in ROW_WISE:
            keep, reason = _kept_rows(instruction, inputs, variables)
            dropped.update({int(row): reason for row in table.index[~keep]})
            table = table.loc[keep]
            continue
        removed, added = _APPLY[instruction.name](instruction, inputs, variables)
        table = table.drop(columns=[name for name in removed if name not in added])
        for name, values in added.items():
            table[name] = values.set_axis(table.index)
    return Transformed(table, dropped)


def input_columns(instructions: Sequence[Instruction]) -> tuple[str, ...]:
    """Columns that transformations read, those of queries included, wildcards left out."""
    names: list[str] = []
    for instruction in instructions:
        names += [name for name in instruction.inputs if not set(name) & set("*?")]
        if instruction.name == "Filter":
            names += query_names(*parse_query(instruction.arguments["Query"]))
    return tuple(dict.fromkeys(names))


def copied_columns(instructions: Sequence[Instruction]) -> dict[str, str]:
    """Columns that transformations make as they were, under another name -> the first name."""
    first: dict[str, str] = {}
    for instruction in instructions:
        if instruction.name in ("Copy", "Rename"):
            outputs = _output_names(instruction, instruction.inputs)
            for name, output in zip(instruction.inputs, outputs, strict=True):
                first[output] = first.get(name, name)
    return first


def replaced_words(instructions: Sequence[Instruction]) -> dict[str, frozenset[str]]:
    """Columns whose words transformations replace -> those words."""
    return {
        name: frozenset(map(str, instruction.arguments["Replace"]))
        for instruction in instructions
        if instruction.name == "Replace"
        for name in instruction.inputs
    }


_Change = tuple[Sequence[str], dict[str, pd.Series]]
"""Columns removed, and columns added or replaced."""


def _expand_inputs(instruction: Instruction, variables: Variables) -> list[str]:
    names: list[str] = []
    for entry in instruction.inputs:
        if ("*" in entry or "?" in entry) and entry not in variables:
            matching = [name for name in variables if fnmatch.fnmatchcase(str(name), entry)]
            if not matching:
                msg = (
                    f"transformation {instruction.name}: no variable matches '{entry}' (has "
                    f"{enumerate_names(list(variables))})"
                )
                raise ModelSpecError(msg)
            names.extend(matching)
        else:
            variables.require(entry, f"transformation {instruction.name}")
            names.append(entry)
    return list(dict.fromkeys(names))


def _kept_rows(instruction: Instruction, inputs: Sequence[str], variables: Variables) -> tuple[Any, str]:
    if instruction.name == "DropNA":
        keep = np.ones(variables.n_obs, dtype=bool)
        for name in inputs:
            keep &= variables[name].notna().to_numpy()
        return keep, f"DropNA: {' or '.join(inputs)} missing"
    query = instruction.arguments["Query"]
    tree, quoted = parse_query(query)
    for name in query_names(tree, quoted):
        variables.require(name, f"Filter '{query}'")
    return select_rows(tree, quoted, variables), f"Filter: not {query}"


def _output_names(instruction: Instruction, inputs: Sequence[str]) -> list[str]:
    """Name the results: one Output for each Input, or the inputs' names, between prefix and suffix."""
    arguments = instruction.arguments
    prefix, suffix = arguments.get("OutputPrefix", ""), arguments.get("OutputSuffix", "")
    return [f"{prefix}{name}{suffix}" for name in arguments.get("Output", inputs)]


def _numeric(instruction: Instruction, name: str, variables: Variables) -> pd.Series:
    values = variables[name]
    if is_categorical(values):
        msg = (
            f"transformation {instruction.name}: '{name}' holds labels; use Factor first, or another variable"
        )
        raise ModelSpecError(msg)
    return values


def _factor(instruction: Instruction, inputs: Sequence[str], variables: Variables) -> _Change:
    """Replace each variable by one indicator column a level."""
    arguments = instruction.arguments
    constraint = arguments.get("Constraint", "none")
    added: dict[str, pd.Series] = {}
    for name in inputs:
        values = categorical_values(variables[name])
        levels = list(values.cat.categories)
        reference = arguments.get("RefLevel", levels[0] if levels and constraint != "none" else None)
        if reference is not None and reference not in levels:
            msg = (
                f"transformation Factor: '{name}' has no level '{reference}' (has {enumerate_names(levels)})"
            )
            raise ModelSpecError(msg)
        missing = values.isna().to_numpy()
        for level in levels:
            if level == reference and len(levels) > 1:
                continue
            indicator = (values == level).to_numpy(dtype=np.float64)
            if constraint == "mean_zero":
                indicator[(values == reference).to_numpy()] = -1.0 / (len(levels) - 1)
            indicator[missing] = np.nan
            column = f"{name}{arguments.get('Sep', '.')}{level}"
            if column in added or (column in variables and column not in inputs):
                msg = (
                    f"transformation Factor: the column for level '{level}' of '{name}' would be '{column}', "
                    "which is there already; give another Sep, or rename the variable"
                )
                raise ModelSpecError(msg)
            added[column] = pd.Series(indicator)
    return inputs, added


def _scale(instruction: Instruction, inputs: Sequence[str], variables: Variables) -> _Change:
    """Demean and divide by the standard deviation (n - 1)."""
    arguments = instruction.arguments
    is_demeaned = instruction.name == "Demean" or arguments.get("Demean", True)
    is_rescaled = instruction.name == "Scale" and arguments.get("Rescale", True)
    fill = arguments.get("ReplaceNA", "off")
    added: dict[str, pd.Series] = {}
    for name, output in zip(inputs, _output_names(instruction, inputs), strict=True):
        values = _numeric(instruction, name, variables)
        if fill == "before":
            values = values.fillna(0.0)
        grouped = values.groupby(_groups(arguments, variables))
        scaled = values - grouped.transform("mean") if is_demeaned else values
        if is_rescaled:
            spread = grouped.transform("std")
            if not (spread[values.notna()] > 0).all() and fill != "after":
                msg = (
                    f"transformation Scale: '{name}' has one value, so it has no standard deviation to "
                    "divide by"
                )
                raise ModelSpecError(msg)
            scaled = (scaled / spread).replace([np.inf, -np.inf], np.nan)
        added[output] = scaled.fillna(0.0) if fill == "after" else scaled
    return (), added


def _groups(arguments: Mapping[str, Any], variables: Variables) -> NDArray[np.int64]:
    names = arguments.get("GroupBy", ())
    if not names:
        return np.zeros(variables.n_obs, dtype=np.int64)
    # A missing group is a group of its own here; its rows are dropped if the model uses the column.
    return group_codes(
        [variables[name].astype(object).where(variables[name].notna(), "n/a") for name in names]
    )[0]


def _copy(instruction: Instruction, inputs: Sequence[str], variables: Variables) -> _Change:
    added = {
        output: variables[name]
        for name, output in zip(inputs, _output_names(instruction, inputs), strict=True)
    }
    return (inputs if instruction.name == "Rename" else ()), added


def _replace(instruction: Instruction, inputs: Sequence[str], variables: Variables) -> _Change:
    """Exchange values; a column whose values then all are numbers is numeric."""
    mapping = instruction.arguments["Replace"]
    added: dict[str, pd.Series] = {}
    for name, output in zip(inputs, _output_names(instruction, inputs), strict=True):
        values = [
            value if pd.isna(value) else mapping.get(label(value), value)
            for value in variables[name].astype(object)
        ]
        is_numeric = all(value is None or isinstance(value, (int, float)) for value in values)
        added[output] = model_values(pd.Series(values, dtype=np.float64 if is_numeric else object), output)
    return (), added


def _product(instruction: Instruction, inputs: Sequence[str], variables: Variables) -> _Change:
    """Multiply variables; missing where any is (pybids skips the missing ones)."""
    columns = [_numeric(instruction, name, variables).to_numpy() for name in inputs]
    return (), {instruction.arguments["Output"][0]: pd.Series(np.prod(columns, axis=0))}


_APPLY: Mapping[str, Callable[[Instruction, Sequence[str], Variables], _Change]] = {
    "Factor": _factor,
    "Scale": _scale,
    "Demean": _scale,
    "Copy": _copy,
    "Rename": _copy,
    "Replace": _replace,
    "Product": _product,
}
