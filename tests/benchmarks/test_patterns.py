"""The cost of missing images, at a tiny size."""

from __future__ import annotations

from benchmarks import patterns
from tests.benchmarks.columns import read_tables


def test_main__prints_a_row_a_design(capsys) -> None:
    patterns.main(["--scale", "0.001", "--repeats", "1", "--only", "50 subjects, intercept + slope, same"])
    ((row,),) = read_tables(capsys.readouterr().out)
    assert tuple(row) == patterns.HEADER
    assert float(row["own / all"]) > 0
