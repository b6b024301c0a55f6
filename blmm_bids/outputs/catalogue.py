"""The registry of outputs as tables for the docs: ``python -m blmm_bids.outputs.catalogue FILE.md``."""

from __future__ import annotations

import sys
from pathlib import Path

from blmm_bids.outputs.registry import QUANTITIES, Quantity, Scope

START, END = "<!-- registry -->", "<!-- end of registry -->"
_HEAD = ("| name after the stem | what it holds | units | type | from `--outputs` |", "|---|---|---|---|---|")
_PLACES = {
    Scope.MASK: ("One a fit", "contrast-<in>_desc-{name}_mask"),
    Scope.FIT: ("One a fit", "contrast-<in>_stat-{name}_statmap"),
    Scope.FIXEF: ("One a fixed effect", "contrast-<in>_param-<regressor>_stat-{name}_statmap"),
    Scope.FIXEF_PAIR: ("One a pair of fixed effects", "contrast-<in>_param-<a>+<b>_stat-{name}_statmap"),
    Scope.VECH: (
        "One a variance and covariance of a random term",
        "contrast-<in>_param-<factor>+<effect>+<effect>_stat-{name}_statmap",
    ),
    Scope.FACTOR: ("One a random factor", "contrast-<in>_param-<factor>_stat-{name}_statmap"),
    Scope.MODE: (
        "One a level and random effect (`--outputs …,ranef`)",
        "contrast-<in>_param-<factor>+<effect>+<level>_stat-{name}_statmap",
    ),
    Scope.IMAGE: ("One an image (`--outputs …,residuals`)", "<image>_stat-{name}_statmap"),
    Scope.T: ("One a T contrast", "contrast-<In><Name>_stat-{name}_statmap"),
    Scope.F: ("One an F contrast", "contrast-<In><Name>_stat-{name}_statmap"),
    Scope.COMPARISON: (
        "One a comparison of two models",
        "contrast-<in>_desc-<large>Vs<small>_stat-{name}_statmap",
    ),
}


def catalogue() -> str:
    """Markdown tables of all quantities, a section for each kind of thing that there is one map of."""
    parts = []
    for heading in dict.fromkeys(heading for heading, _ in _PLACES.values()):
        rows = [_row(entry) for entry in QUANTITIES if _PLACES[entry.scope][0] == heading]
        head = [
            "| name after the stem | what it holds | units | type | from `--outputs` |",
            "|---|---|---|---|---|",
        ]
        parts.append("\n".join([f"### {heading}", "", *head, *rows]))
    return "\n\n".join(parts)


def renewed(text: str) -> str:
    """Replace what is between the two marks of a page by the tables.

    Raises
    ------
    ValueError
        The page lacks a mark.
    """
    before, _, rest = text.partition(START)
    _, mark, after = rest.partition(END)
    if not mark:
        msg = f"the page has no '{START}' followed by '{END}'"
        raise ValueError(msg)
    return f"{before}{START}\n\n{catalogue()}\n\n{END}{after}"


def _row(quantity: Quantity) -> str:
    name = _PLACES[quantity.scope][1].format(name=quantity.name)
    # `ranef` and `residuals` are asked for by their own words, whatever the level.
    level = f"`{quantity.switch}`" if quantity.switch in ("ranef", "residuals") else quantity.level
    description = quantity.description.replace("|", r"\|")
    return f"| `{name}` | {description} | {quantity.units} | {quantity.dtype} | {level} |"


def main(path: Path) -> None:
    """Renew the tables in a page."""
    path.write_text(renewed(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
