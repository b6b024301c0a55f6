"""Markdown tables, printed and put into the docs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lay out rows of text, one line each; all columns but the first to the right."""
    widths = [max(len(line[i]) for line in (header, *rows)) for i in range(len(header))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    lines = [
        [
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        for line in (header, *rows)
    ]
    lines.insert(1, rule)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def number(value: float | None, digits: int = 2) -> str:
    """Write a value with so many significant digits, thousands with commas; a dash where there is none."""
    if value is None or math.isnan(value):
        return "-"
    if abs(value) >= 10 ** (digits - 1):
        return f"{value:,.0f}"
    return f"{value:.{digits}g}"


def replace_section(document: Path, name: str, text: str) -> None:
    """Put text between ``<!-- name -->`` and ``<!-- /name -->`` of a document.

    Raises
    ------
    SystemExit
        The document lacks the marks.
    """
    content = document.read_text(encoding="utf-8")
    start, stop = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    before, found, rest = content.partition(start)
    _, found_stop, after = rest.partition(stop)
    if not found or not found_stop:
        msg = f"{document} has no place for a table between '{start.strip()}' and '{stop}'; add both lines"
        raise SystemExit(msg)
    document.write_text(f"{before}{start}\n{text}\n\n{stop}{after}", encoding="utf-8")
