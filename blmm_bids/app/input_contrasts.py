"""Input contrasts that a node names like variables: what each image is a map of.

A contrast of the lower level is a label of the images (``contrast-wordGtPseudo``). Where ``X`` names it, it
is a column that is 1 for the images of this contrast; where ``DummyContrasts`` names it, it chooses images.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from blmm_bids.bids.levels import folded
from blmm_bids.bids.observations import Observations
from blmm_bids.design.columns import enumerate_names
from blmm_bids.design.formula import parse_formula
from blmm_bids.design.spec import NodeSpec
from blmm_bids.errors import ModelSpecError

ENTITY = "contrast"
Labels = Sequence[str | None]


def name_input_contrasts(node: NodeSpec, observations: Observations) -> tuple[NodeSpec, Observations]:
    """Resolve names of input contrasts in a node's X, Formula and DummyContrasts.

    Parameters
    ----------
    node : NodeSpec
    observations : Observations

    Returns
    -------
    NodeSpec
        Without the dummy contrasts that only chose images.
    Observations
        The images that are read, with an indicator column for each input contrast that the model names, and
        with notices of both.

    Raises
    ------
    ModelSpecError
        The model names input contrasts, and GroupBy makes a fit of each contrast.
    """
    if ENTITY not in observations.table.columns:
        return node, observations
    labels = observations.labels(ENTITY)
    columns = _match(_variables(node), observations.table.columns, labels)
    if columns:
        return node, _with_columns(node, observations, columns, labels)
    return _chosen_by_dummies(node, observations, labels)


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
        for spelling in (folded, _condition):
            near = {label for label in exact if spelling(label) == spelling(name)}
            if len(near) == 1:
                found[name] = near.pop()
                break
    return found


def _condition(name: str) -> str:
    """Without the column of events.tsv that conditions come from: bidspm leaves it out, FitLins does not."""
    return folded(name).removeprefix("trialtype")


def _with_columns(
    node: NodeSpec, observations: Observations, columns: Mapping[str, str], labels: Labels
) -> Observations:
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
    has_intercept = () in parse_formula(node.formula).terms
    rows = [row for row, label in enumerate(labels) if has_intercept or label in wanted]
    notices = [f"{shown} in the model: 1 for the images of this input contrast, 0 for others"]
    if len(rows) < len(labels):
        others = sorted({label or "(none)" for label in labels} - wanted)
        notices.append(
            f"{len(labels) - len(rows)} images of other input contrasts ({enumerate_names(others)}) are "
            "not used"
        )
    added = {
        name: np.array([labels[row] == label for row in rows], dtype=np.float64)
        for name, label in columns.items()
    }
    kept = _noted(node, observations.take(rows), notices)
    return replace(kept, table=kept.table.assign(**added))


def _chosen_by_dummies(
    node: NodeSpec, observations: Observations, labels: Labels
) -> tuple[NodeSpec, Observations]:
    """Names in DummyContrasts that are input contrasts choose images, as in bidspm."""
    dummy = node.dummy_contrasts
    if dummy is None or dummy.contrasts is None or ENTITY not in node.group_by:
        return node, observations
    columns = {*map(str, observations.table.columns), *_variables(node), "Intercept", "intercept"}
    chosen = _match(dummy.contrasts, columns, labels)
    others = [name for name in dummy.contrasts if name not in chosen and name not in columns]
    # Beside other columns than the intercept, a name that is no input contrast may be one of theirs.
    if not (chosen and not others) and not (_is_intercept_only(node) and (chosen or others)):
        return node, observations
    there = enumerate_names(sorted({label for label in labels if label}))
    if not chosen:
        msg = (
            f"model spec: DummyContrasts of node '{node.name}' names {enumerate_names(others)}: no column of "
            f"its model, and no input contrast of the images (there is {there}). Remove Contrasts for all of "
            "them"
        )
        raise ModelSpecError(msg)
    wanted = set(chosen.values())
    rows = [row for row, label in enumerate(labels) if label in wanted]
    notices = [
        f"DummyContrasts chooses the input contrasts {enumerate_names(list(chosen))}: "
        f"{len(labels) - len(rows)} images of others are not used"
    ]
    if others:
        notices.append(f"no image has the input contrast {enumerate_names(others)} (there is {there})")
    kept = _noted(node, observations.take(rows), notices)
    return replace(node, dummy_contrasts=replace(dummy, contrasts=None)), kept


def _noted(node: NodeSpec, observations: Observations, notices: Iterable[str]) -> Observations:
    told = (f"node '{node.name}': {notice}" for notice in notices)
    return replace(observations, warnings=(*observations.warnings, *told))


def _is_intercept_only(node: NodeSpec) -> bool:
    return parse_formula(node.formula).terms == ((),)
