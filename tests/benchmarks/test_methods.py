"""The table of estimation methods, at a tiny size."""

from __future__ import annotations

from benchmarks import methods
from tests.benchmarks.columns import read_tables


def test_main__prints_every_method(capsys, monkeypatch) -> None:
    monkeypatch.setattr(methods, "CASES", methods.CASES[:1])
    methods.main(["--scale", "0.002"])
    ((row,),) = read_tables(capsys.readouterr().out)
    assert tuple(row) == methods.HEADER
