"""The calibration study, at a tiny size."""

from __future__ import annotations

import numpy as np

from benchmarks import calibration
from tests.benchmarks.columns import read_tables


def test_main__prints_rates_of_every_method(capsys, monkeypatch) -> None:
    monkeypatch.setattr(calibration, "CELLS", calibration.CELLS[:1])
    calibration.main(["--voxels", "20", "--lmertest", "2", "--lmertest-subjects", "10"])
    summary, detail = read_tables(capsys.readouterr().out)
    assert tuple(summary[0]) == calibration.SUMMARY_HEADER
    assert [row["method"] for row in summary[::3]] == [*calibration.CHOICES, calibration.NAIVE]
    assert tuple(detail[0]) == calibration.DETAIL_HEADER
    assert [row["test"] for row in detail] == list(calibration.TESTS)
    for row in detail:
        assert len(row["expected"].split(" / ")) == len(calibration.ALPHAS)


def test_count__leaves_out_voxels_without_a_p_value() -> None:
    count = calibration.Count(np.zeros(3, np.int64))
    count.add(np.array([0.04, 0.005, 0.0001, 0.5, np.nan]))
    assert (count.n, count.n_none) == (4, 1)
    assert count.rates().tolist() == [0.75, 0.5, 0.25]


def test_draw_null__has_the_variance_of_the_truth() -> None:
    rng = np.random.default_rng(1)
    cell = calibration.CELLS[-1]
    design = calibration.draw_design(cell, rng)
    values = calibration.draw_null(design, cell.truth, 4000, rng)
    expected = 1 + cell.truth.subject**2 + cell.truth.site**2
    np.testing.assert_allclose(values.var(), expected, rtol=0.02)
