"""The study of the demo's intervals, at a tiny size."""

from __future__ import annotations

from benchmarks import coverage
from tests.benchmarks.columns import read_tables


def test_main__prints_every_effect(capsys, monkeypatch) -> None:
    monkeypatch.setattr(coverage, "CASES", coverage.CASES[:1])
    coverage.main(["--designs", "1", "--voxels", "10"])
    (rows,) = read_tables(capsys.readouterr().out)
    assert tuple(rows[0]) == coverage.HEADER
    assert [row["effect"] for row in rows] == list(coverage.TESTED)
