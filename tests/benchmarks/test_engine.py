"""The table of designs, at a tiny size."""

from __future__ import annotations

from benchmarks import engine, whole_run
from tests.benchmarks.columns import read_tables


def test_main__prints_a_row_a_design(capsys) -> None:
    engine.main(["--scale", "0.001", "--repeats", "1", "--only", "50 subjects, intercept + slope, same"])
    ((row,),) = read_tables(capsys.readouterr().out)
    assert tuple(row) == engine.HEADER
    assert row["voxels timed"] == "20"
    assert float(row["fit, s"].replace(",", "")) > 0
    assert (row["reference, s"], row["target, s"]) == ("123", "0.8")


def test_docs__have_a_place_for_every_table(checkout) -> None:
    places = {
        "performance.md": (
            "engine",
            "patterns",
            "startup",
            "head-to-head",
            *(f"whole-run-{name}" for tables in whole_run.TABLES.values() for name in tables),
        ),
        "calibration.md": ("calibration", "coverage"),
    }
    for page, names in places.items():
        text = (checkout / "docs" / page).read_text(encoding="utf-8")
        for name in names:
            assert text.count(f"<!-- {name} -->\n") == text.count(f"<!-- /{name} -->\n") == 1
