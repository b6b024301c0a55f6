"""Charts place what they show where it belongs."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from blmm_bids.report.charts import MAX_POINTS, bar_chart, count_chart, histogram, quantile_plot, scatter


def test_histogram__has_a_bar_for_each_bin_with_values():
    chart = histogram(np.array([0.0, 0.1, 0.2, 1.0, np.nan]), "t", "x", "y", n_bins=2)
    left, top, right, bottom = chart.frame
    assert [bar.text for bar in chart.bars] == ["0 to 0.5: 3", "0.5 to 1: 1"]
    assert chart.bars[0].height == pytest.approx(3 * chart.bars[1].height, abs=0.1)
    assert all(bar.y + bar.height == pytest.approx(bottom, abs=0.1) for bar in chart.bars)
    assert all(left <= bar.x and bar.x + bar.width <= right and bar.y >= top for bar in chart.bars)


@pytest.mark.parametrize("values", [[], [np.nan, np.inf]])
def test_charts__of_nothing_are_none(values):
    nothing = np.array(values)
    assert histogram(nothing, "t", "x", "y") is None
    assert quantile_plot(np.full(2, np.nan), "t") is None
    assert scatter(nothing, nothing, [""] * 2, [""] * 2, "t", ("x", "y")) is None


def test_histogram__of_one_value_has_room():
    chart = histogram(np.full(3, 7.0), "t", "x", "y")
    assert sum(int(bar.text.rsplit(" ", 1)[1]) for bar in chart.bars) == 3


def test_histogram__expected_curve_holds_as_many_as_there_are_values():
    values = norm.ppf((np.arange(5000) + 0.5) / 5000)
    chart = histogram(values, "t", "z", "voxels", n_bins=60, density=norm.pdf)
    (curve,) = chart.curves
    heights = [float(pair.split(",")[1]) for pair in curve.points.split()]
    highest_bar = min(bar.y for bar in chart.bars)
    assert min(heights) == pytest.approx(highest_bar, abs=6)
    assert curve.kind == "expected"


def test_count_chart__keeps_the_room_of_numbers_that_do_not_occur():
    chart = count_chart(np.array([3.0, 3, 7]), "t", "images", "voxels")
    assert [text for _, text in chart.x.ticks] == ["3", "4", "5", "6", "7"]
    assert [bar.text for bar in chart.bars if bar.height] == ["3: 2", "7: 1"]
    assert len(count_chart(np.array([1.0, 900]), "t", "images", "voxels").bars) == 2
    assert count_chart(np.zeros(0), "t", "images", "voxels") is None


def test_bar_chart__counts_have_whole_ticks():
    chart = bar_chart([("1", 1), ("2", 2)], "t", "images", "levels")
    assert {text for _, text in chart.y.ticks} <= {"0", "1", "2"}
    assert [text for _, text in chart.x.ticks] == ["1", "2"]


def test_scatter__puts_larger_values_to_the_right_and_up():
    chart = scatter(
        np.array([0.0, 1, np.nan]), np.array([5.0, 9, 1]), "abc", ["", "flagged", ""], "t", ("x", "y")
    )
    first, second = chart.points
    assert first.x < second.x
    assert first.y > second.y
    assert (second.text, second.kind) == ("b", "flagged")


def test_quantile_plot__of_uniform_p_follows_the_diagonal_and_stays_small():
    log_p = -np.log10((np.arange(100_000) + 0.5) / 100_000)
    chart = quantile_plot(log_p, "t")
    assert len(chart.points) <= 300
    for point in chart.points:
        expected, observed = (float(word.strip(",")) for word in point.text.split() if word[0].isdigit())
        assert observed == pytest.approx(expected, abs=0.35)


def test_scatter__of_very_many_keeps_the_marked_ones():
    n = 10 * MAX_POINTS
    kinds = ["flagged" if row % 1000 == 7 else "" for row in range(n)]
    values = np.arange(float(n))
    chart = scatter(values, values, [""] * n, kinds, "t", ("x", "y"))
    assert len(chart.points) <= MAX_POINTS + kinds.count("flagged")
    assert sum(point.kind == "flagged" for point in chart.points) == kinds.count("flagged")
