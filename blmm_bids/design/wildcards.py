"""Wildcards in X (``"group.*"`` after a Factor): which variables they stand for once the tables are known."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from dataclasses import replace

import pandas as pd

from blmm_bids.design.columns import Variables, enumerate_names
from blmm_bids.design.spec import NodeSpec, formula_of_x, is_wildcard
from blmm_bids.design.transforms import apply_instructions
from blmm_bids.errors import ModelSpecError


def expand_wildcards(
    node: NodeSpec, table: pd.DataFrame, ambiguous: Mapping[str, tuple[str, ...]]
) -> tuple[NodeSpec, list[str]]:
    """Write the variables that a node's X means by wildcards.

    Parameters
    ----------
    node : NodeSpec
    table : DataFrame
        One row an image.
    ambiguous : mapping of str to tuple of str
        Names found in several tables, to their qualified names.

    Returns
    -------
    NodeSpec
        With the formula of the expanded X.
    list of str
        What each wildcard was read as.

    Raises
    ------
    ModelSpecError
        A wildcard that no variable matches.
    """
    patterns = [name for name in node.listed if is_wildcard(name)]
    if not patterns:
        return node, []
    variables = Variables(
        apply_instructions(node.transformations, table, ambiguous, drop_rows=False).table, ambiguous
    )
    names = [str(name) for name in variables]
    listed: list[str | int] = []
    notices: list[str] = []
    for entry in node.listed:
        if entry not in patterns or entry in variables:
            listed.append(entry)
            continue
        found = fnmatch.filter(names, str(entry))
        if not found:
            msg = (
                f"model spec: X of node '{node.name}' has the wildcard '{entry}', which no variable matches "
                f"(has {enumerate_names(names)})"
            )
            raise ModelSpecError(msg)
        listed += found
        notices.append(f"'{entry}' in X of node '{node.name}' is {enumerate_names(found)}")
    return replace(node, formula=formula_of_x(list(dict.fromkeys(listed))), listed=()), notices
