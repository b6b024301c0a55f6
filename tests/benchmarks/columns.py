"""What a printed markdown table says."""

from __future__ import annotations

import re


def read_tables(text):
    """Each table as a list of rows, dicts by column."""
    tables, table = [], []
    for line in [*text.splitlines(), ""]:
        if line.startswith("|"):
            table.append([cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip("|"))])
        elif table:
            header, _, *rows = table
            tables.append([dict(zip(header, row, strict=True)) for row in rows])
            table = []
    return tables
