"""Input contrasts that a node names like variables: what each image is a map of.

A contrast of the lower level is a label of the images (``contrast-wordGtPseudo``). Where ``X`` names it, it
is a column that is 1 for the images of this contrast; where ``DummyContrasts`` names it, it chooses images.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from blmm_bids.design.columns import enumerate_names
from blmm_bids.design.formula import parse_formula
from blmm_bids.design.spec import NodeSpec
from blmm_bids.errors import ModelSpecError

ENTITY = "contrast"


@dataclass(frozen=True, eq=False)
class NamedContrasts:
    """A node and its table once input contrasts are resolved.

    Attributes
    ----------
    node : NodeSpec
        Without the dummy contrasts that only chose images.
    table : DataFrame
        With an indicator column for each input contrast that the model names.
    rows : tuple of int
        Rows of the table given that are read; `table` has these.
    notices : tuple of str
    """

    node: NodeSpec
    table: pd.DataFrame
    rows: tuple[int, ...]
    notices: tuple[str, ...] = ()


def name_input_contrasts(node: NodeSpec, table: pd.DataFrame) -> NamedContrasts:
    """Resolve names of input contrasts in a node's X, Formula and DummyContrasts.

    Parameters
    ----------
    node : NodeSpec
    table : DataFrame
        One row an image, with a column ``contrast`` where the images have one.

    Returns
    -------
    NamedContrasts

    Raises
    ------
    ModelSpecError
        The model names input contrasts, and GroupBy makes a fit of each contrast.
    """
    everything = NamedContrasts(node, table, tuple(range(len(table))))
    if ENTITY not in table.columns:
        return everything
    labels = [None if pd.isna(label) else str(label) for label in table[ENTITY]]
    parsed = parse_formula(node.formula)
    columns = _match(_variables(node), table.columns, labels)
    if columns:
        return _with_columns(everything, columns, labels, has_intercept=() in parsed.terms)
    return _chosen_by_dummies(everything, labels)


def _variables(node: NodeSpec) -> list[str]:
    parsed = [parse_formula(node.formula), *(parse_formula(bar.effects) for bar in node.bars)]
    names = [name for formula in parsed for name in formula.variables]
    names += [name for instruction in node.transformations for name in instruction.inputs]
    return list(dict.fromkeys(names))


def _match(names: Iterable[str], known: Iterable[str], labels: Iterable[str | None]) -> dict[str, str]:
    """Labels of those names that are no columns; each software writes contrasts in its own way."""
    columns = set(known)
    exact = {label for label in labels if label}
    found: dict[str, str] = {}
    for name in names:
        if name in columns:
            continue
        if name in exact:
            found[name] = name
            continue
        for spelling in (_letters, _condition):
            near = {label for label in exact if spelling(label) == spelling(name)}
            if len(near) == 1:
                found[name] = near.pop()
                break
    return found


def _letters(name: str) -> str:
    return re.sub(r"[^0-9a-z]", "", name.casefold())


def _condition(name: str) -> str:
    """Without the column of events.tsv that conditions come from: bidspm leaves it out, FitLins does not."""
    return _letters(name).removeprefix("trialtype")


def _with_columns(
    given: NamedContrasts, columns: Mapping[str, str], labels: list[str | None], *, has_intercept: bool
) -> NamedContrasts:
    node, table = given.node, given.table
    shown = enumerate_names(list(columns))
    if ENTITY in node.group_by:
        msg = (
            f"model spec: the model of node '{node.name}' names the input contrast {shown}, and its GroupBy "
            "has 'contrast', so that each fit has the images of one contrast and the column would be 1, or "
            '0, for all of them. Write "GroupBy": [] for one model of these contrasts, or "X": [1] for a fit '
            "of each"
        )
        raise ModelSpecError(msg)
    wanted = set(columns.values())
    rows = [row for row, label in enumerate(labels) if has_intercept or label in wanted]
    added = {
        name: np.array([float(labels[row] == label) for row in rows], dtype=np.float64)
        for name, label in columns.items()
    }
    notices = [f"{shown} in the model: 1 for the images of this input contrast, 0 for others"]
    if len(rows) < len(table):
        others = sorted({label or "(none)" for label in labels} - wanted)
        notices.append(
            f"{len(table) - len(rows)} images of other input contrasts ({enumerate_names(others)}) are "
            "not used"
        )
    kept = table.iloc[rows].reset_index(drop=True).assign(**added)
    return NamedContrasts(node, kept, tuple(rows), tuple(notices))


def _chosen_by_dummies(given: NamedContrasts, labels: list[str | None]) -> NamedContrasts:
    """Names in DummyContrasts that are input contrasts choose images, as in bidspm."""
    node, dummy = given.node, given.node.dummy_contrasts
    if dummy is None or dummy.contrasts is None or ENTITY not in node.group_by:
        return given
    columns = {*map(str, given.table.columns), *_variables(node), "Intercept", "intercept"}
    chosen = _match(dummy.contrasts, columns, labels)
    others = [name for name in dummy.contrasts if name not in chosen and name not in columns]
    # Beside other columns than the intercept, a name that is no input contrast may be one of theirs.
    if not (chosen and not others) and not (_is_intercept_only(node) and (chosen or others)):
        return given
    there = enumerate_names(sorted({label for label in labels if label}))
    if not chosen:
        msg = (
            f"model spec: DummyContrasts of node '{node.name}' names {enumerate_names(others)}: no column of "
            f"its model, and no input contrast of the images (there is {there}). Remove Contrasts for all of "
            "them"
        )
        raise ModelSpecError(msg)
    rows = [row for row, label in enumerate(labels) if label in set(chosen.values())]
    notices = [
        f"DummyContrasts chooses the input contrasts {enumerate_names(list(chosen))}: "
        f"{len(labels) - len(rows)} images of others are not used"
    ]
    if others:
        notices.append(f"no image has the input contrast {enumerate_names(others)} (there is {there})")
    kept = given.table.iloc[rows].reset_index(drop=True)
    return NamedContrasts(
        replace(node, dummy_contrasts=replace(dummy, contrasts=None)), kept, tuple(rows), tuple(notices)
    )


def _is_intercept_only(node: NodeSpec) -> bool:
    return parse_formula(node.formula).terms == ((),)
