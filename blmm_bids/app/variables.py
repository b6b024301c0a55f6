"""The observation table as a node's design needs it."""

from __future__ import annotations

import pandas as pd

from blmm_bids.bids.names import distinct_names
from blmm_bids.bids.nearby import advice_on_variable
from blmm_bids.bids.observations import Observations
from blmm_bids.config.settings import Settings
from blmm_bids.design.build import BuiltDesign, build_design
from blmm_bids.design.faults import Origin, TableFaults
from blmm_bids.design.spec import NodeSpec
from blmm_bids.errors import ModelSpecError, UnknownVariableError


def design_of(settings: Settings, node: NodeSpec, observations: Observations) -> BuiltDesign:
    """Build a node's design.

    Raises
    ------
    ModelSpecError, DataError
        As `build_design`; a variable that no table has is looked for in the datasets around.
    """
    table = with_qualified(node, observations)
    try:
        return build_design(node, table, observations.ambiguous, table_faults(observations))
    except UnknownVariableError as error:
        if settings.dataset.images_tsv is not None:
            # The variables are that table's own.
            raise
        advice = advice_on_variable(
            error.variable,
            observations.sources,
            settings.output_dir,
            has_tables=bool(observations.qualified),
        )
        if not advice:
            raise
        raise ModelSpecError(f"{error}{advice}") from error


def table_faults(observations: Observations) -> TableFaults:
    """Gather what is known of the columns, by rows of this table."""
    row_of = {path: row for row, path in enumerate(observations.paths)}
    unlisted = {
        name: [row_of[path] for path in paths if path in row_of]
        for name, paths in observations.unlisted.items()
    }
    suspects = {
        name: {row_of[path]: word for path, word in facts.suspects.items() if path in row_of}
        for name, facts in observations.facts.items()
        if facts.suspects
    }
    facts = observations.facts.items()
    return TableFaults(
        mixed=observations.mixed,
        unlisted=unlisted,
        images=distinct_names([path.as_posix() for path in observations.paths]),
        mismatches={name: each.mismatch for name, each in facts if each.mismatch},
        suspects=suspects,
        unusable=observations.unusable,
        unread=observations.unread,
        origins={name: Origin(each.table, each.reason) for name, each in facts},
        notices={name: each.notices for name, each in facts if each.notices},
    )


def with_qualified(node: NodeSpec, observations: Observations) -> pd.DataFrame:
    """Add a column under each qualified name (``participants.age``) that the node uses to the table."""
    table = observations.table
    used = f"{node.formula_text} {node.transformations}"
    aliases = {
        full: table[column]
        for full, column in observations.qualified.items()
        if full in used and full not in table.columns
    }
    return table.assign(**aliases) if aliases else table
