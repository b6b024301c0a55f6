"""The page of each node: one HTML file that opens offline."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from jinja2 import Environment, StrictUndefined

from blmm_bids.outputs.files import write_text
from blmm_bids.report.view import page_view

if TYPE_CHECKING:
    from blmm_bids.outputs.records import RunOutputs, UnitResult

_TEMPLATE = "page.html.jinja"


def write_reports(run: RunOutputs, results: Sequence[UnitResult]) -> list[Path]:
    """Write ``node-<Name>.html`` for each node.

    Parameters
    ----------
    run : RunOutputs
        The run.
    results : sequence of UnitResult
        All its fits, from the writer; those of one node share a page.

    Returns
    -------
    list of Path
        One page a node, in the order of the fits.
    """
    nodes = dict.fromkeys(result.unit.label for result in results)
    return [
        write_text(
            run.output_dir / f"node-{node}.html",
            render_page(run, [result for result in results if result.unit.label == node]),
        )
        for node in nodes
    ]


def render_page(run: RunOutputs, results: Sequence[UnitResult]) -> str:
    """Make the HTML of one node's page; all that comes from the user is escaped."""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    source = files("blmm_bids.report").joinpath(_TEMPLATE).read_text(encoding="utf-8")
    return environment.from_string(source).render(page_view(run, results)) + "\n"
