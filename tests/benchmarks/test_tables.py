"""Markdown tables and their place in a document."""

from __future__ import annotations

import pytest

from benchmarks import tables


def test_markdown_table__aligns_columns() -> None:
    table = tables.markdown_table(("design", "s"), [("a", "1.5"), ("longer name", "10")])
    assert table.splitlines() == [
        "| design      |   s |",
        "| ----------- | --: |",
        "| a           | 1.5 |",
        "| longer name |  10 |",
    ]


@pytest.mark.parametrize(
    ("value", "written"),
    [(None, "-"), (float("nan"), "-"), (0.0123, "0.012"), (1.26, "1.3"), (12.6, "13"), (64500.0, "64,500")],
)
def test_number__has_two_significant_digits(value, written) -> None:
    assert tables.number(value) == written


def test_replace_section__changes_what_is_between_the_marks(tmp_path) -> None:
    document = tmp_path / "page.md"
    document.write_text("before\n<!-- a -->\nold\n<!-- /a -->\nafter\n")
    for text in ("new", "newer"):
        tables.replace_section(document, "a", text)
        assert document.read_text() == f"before\n<!-- a -->\n\n{text}\n\n<!-- /a -->\nafter\n"


def test_replace_section__refuses_a_document_without_marks(tmp_path) -> None:
    document = tmp_path / "page.md"
    document.write_text("text\n")
    with pytest.raises(SystemExit, match="no place for a table"):
        tables.replace_section(document, "a", "new")
    assert document.read_text() == "text\n"
