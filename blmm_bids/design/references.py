"""Reference levels: which level of a categorical variable the others are compared with.

A level that the user names becomes the first of its variable's, so that every term which codes the variable
sees it: alone, in interactions, in random effects, with ``C()`` or without.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from blmm_bids.design.columns import (
    Variables,
    categorical_values,
    did_you_mean,
    enumerate_names,
    is_categorical,
    label,
)
from blmm_bids.design.formula import CodedFactor, parse_formula
from blmm_bids.design.spec_fields import as_object, as_text, wrong
from blmm_bids.errors import ModelSpecError

if TYPE_CHECKING:
    import pandas as pd

    from blmm_bids.design.spec import NodeSpec

_OPTION = "--reference"


def parse_references(value: object, where: str) -> dict[str, str]:
    """Read ``Reference``, an object of variables and levels; empty where absent.

    Raises
    ------
    ModelSpecError
        No object, or a level that is neither text nor a number.
    """
    levels: dict[str, str] = {}
    for name, level in as_object(value if value is not None else {}, f"Reference in {where}").items():
        if isinstance(level, bool) or not isinstance(level, (str, int, float)):
            raise wrong(f"Reference of '{name}' in {where}", "the name of a level", level)
        levels[name.strip()] = (
            as_text(level, f"Reference of '{name}' in {where}") if isinstance(level, str) else label(level)
        )
    return levels


def parse_reference_options(texts: Iterable[str]) -> dict[str, str]:
    """Read each ``--reference VARIABLE=LEVEL``.

    Raises
    ------
    ModelSpecError
        No variable or no level, or two levels for one variable.
    """
    levels: dict[str, str] = {}
    for text in texts:
        name, _, level = (part.strip() for part in text.partition("="))
        if not (name and level):
            msg = f"{_OPTION} '{text}' must be VARIABLE=LEVEL, as in {_OPTION} session=pre"
            raise ModelSpecError(msg)
        if levels.setdefault(name, level) != level:
            msg = f"{_OPTION} gives '{name}' two levels, '{levels[name]}' and '{level}'; keep one"
            raise ModelSpecError(msg)
    return levels


def with_references(nodes: Sequence[NodeSpec], references: Mapping[str, str]) -> tuple[NodeSpec, ...]:
    """Give the command line's reference levels to the nodes whose models have the variables.

    Parameters
    ----------
    nodes : sequence of NodeSpec
    references : mapping of str to str
        From `parse_reference_options`; they win over the spec's.

    Raises
    ------
    ModelSpecError
        A variable that no node has.
    """
    used = [
        [name for text in (node.formula, *(bar.effects for bar in node.bars)) for name in _covariates(text)]
        + [name for name in references for entry in node.listed if fnmatch.fnmatchcase(name, str(entry))]
        for node in nodes
    ]
    everything = list(dict.fromkeys(name for names in used for name in names))
    for name in references:
        if name not in everything:
            msg = (
                f"{_OPTION} names '{name}', which is no variable of the model (has "
                f"{enumerate_names(everything)}){did_you_mean(name, everything)}"
            )
            raise ModelSpecError(msg)
    return tuple(
        replace(node, references={**node.references, **{n: references[n] for n in references if n in names}})
        for node, names in zip(nodes, used, strict=True)
    )


def _covariates(formula: str) -> tuple[str, ...]:
    return parse_formula(formula).covariates


def checked_references(
    references: Mapping[str, str],
    variables: Variables,
    covariates: Iterable[str],
    coded: Collection[str],
    replaced: Collection[str],
) -> dict[str, str]:
    """Check reference levels against the rows that are fitted.

    Parameters
    ----------
    references : mapping of str to str
        As the user wrote them.
    variables : Variables
        Columns over the rows that are fitted.
    covariates : iterable of str
        Variables of the fixed part and of the random effects.
    coded : collection of str
        Those of them that C() makes categories of.
    replaced : collection of str
        Inputs of Factor, which leaves indicators in their place.

    Returns
    -------
    dict of str to str
        The levels as the columns spell them (``"2"`` for ``"2.0"``).

    Raises
    ------
    ModelSpecError
        A name that is no categorical variable of the model, or a level that no image has.
    """
    columns: dict[str, pd.Series] = {name: variables[name] for name in dict.fromkeys(covariates)}
    categorical = [name for name, values in columns.items() if is_categorical(values) or name in coded]
    checked: dict[str, str] = {}
    for name, level in references.items():
        if name not in categorical:
            hint = did_you_mean(name, categorical)
            if name in replaced:
                hint = f"; Factor makes indicators of it: say RefLevel there, or use '{name}' as it is"
            elif name in columns:
                hint = f"; '{name}' enters as numbers: write C({name}) if they are labels"
            msg = (
                f"Reference ({_OPTION}) names '{name}', which is no categorical variable of the model (has "
                f"{enumerate_names(categorical)}){hint}"
            )
            raise ModelSpecError(msg)
        levels = [str(found) for found in categorical_values(columns[name]).cat.categories]
        spelt = next((found for found in (level, _whole(level)) if found in levels), None)
        if spelt is None:
            msg = (
                f"Reference ({_OPTION}) of '{name}' is '{level}', which no image that is fitted has (levels: "
                f"{enumerate_names(levels)}){did_you_mean(level, levels)}"
            )
            raise ModelSpecError(msg)
        checked[name] = spelt
    return checked


def _whole(level: str) -> str:
    """Write ``2.0`` as ``2``, the label that a column of numbers gives it."""
    try:
        return label(float(level))
    except (ValueError, OverflowError):
        return level


def reference_of(name: str, fixed: Iterable[CodedFactor], random: Iterable[CodedFactor]) -> str | None:
    """Name the level that a variable's other levels are compared with, as the fixed part has it.

    Parameters
    ----------
    name : str
        Variable.
    fixed, random : iterable of CodedFactor
        Factors of X and of the random effects, which count where X does not have the variable.

    Returns
    -------
    str or None
        None where each level has a column, or the coding compares with no level; several levels joined by
        "or" where terms differ.
    """
    coded = [each for each in fixed if each.variable == name]
    coded = coded or [each for each in random if each.variable == name]
    return " or ".join(dict.fromkeys(each.reference for each in coded if each.reference)) or None
