"""What the page says is what happened."""

from __future__ import annotations

import pytest

from blmm_bids.outputs.write import write_unit
from blmm_bids.report.view import (
    advice,
    duration_text,
    page_view,
    status_rows,
    values_text,
    weights_text,
)
from blmm_bids.stats.model import FitOptions, Status
from tests.outputs.synthetic import FactorLevels, blocks, design, run, unit


@pytest.mark.parametrize(
    ("names", "weights", "wanted"),
    [
        (("age",), (1,), "age"),
        (("age", "time"), (-1, 2), "-age + 2 * time"),
        (("a", "b", "c"), (0.5, 0, -1), "0.5 * a - c"),
        ((), (), "0"),
    ],
)
def test_weights_text__reads_as_a_sum(names, weights, wanted):
    assert weights_text(names, weights) == wanted


@pytest.mark.parametrize(
    ("seconds", "wanted"), [(None, ""), (4.2, "4 s"), (62, "1 min 2 s"), (3 * 3600 + 61, "3 h 1 min")]
)
def test_duration_text__is_short(seconds, wanted):
    assert duration_text(seconds) == wanted


@pytest.mark.parametrize(
    ("counts", "wanted"),
    [
        ({0: 10}, "ended well"),
        ({3: 10}, "No voxel was fitted"),
        ({}, "No voxel was fitted"),
        ({0: 4, 1: 6}, "60 % of the fitted voxels are singular"),
        ({0: 90, 2: 10}, "10.0 % of the fitted voxels stopped"),
    ],
)
def test_advice__says_what_to_make_of_the_statuses(counts, wanted):
    assert wanted in advice(counts)[0]


def test_values_text__counts_levels_that_are_too_many_to_list():
    variable = FactorLevels("subject", "grouping", tuple(map(str, range(400))))
    assert values_text(variable) == "400 levels"


def test_status_rows__share_and_explain():
    rows = status_rows({0: 19, 3: 1})
    assert [row["share"] for row in rows] == ["95.0 %", "5.0 %"]
    assert rows[1]["sentence"] == Status.TOO_FEW_IMAGES.sentence


def test_page_view__counts_images_voxels_and_levels(tmp_path):
    made, ran = unit(tmp_path), run(tmp_path / "out", tmp_path)
    view = page_view(ran, [write_unit(ran, made, blocks(made), tmp_path / "work")])
    fit = view["units"][0]
    assert (fit["n_images"], fit["n_left_out"], fit["n_voxels"], fit["n_fitted"]) == (12, 2, 20, 19)
    assert fit["reasons"] == [("age is missing", 1), ("not chosen", 1)]
    assert fit["factors"][0]["sizes"] == [{"n_images": 3, "n_levels": 4}]
    assert [row["summary"] for row in fit["variables"]] == ["20 to 23, mean 21.5", "F (6), M (6)"]
    assert fit["contrasts"][1]["weights"] == ["age", "sex[T.M]"]
    assert view["command"] == "bids_app_run.py '<in>' out group"


def test_page_view__describes_linear_models_and_named_methods(tmp_path):
    ran = run(tmp_path / "out", tmp_path)
    linear = unit(tmp_path, design=design(terms=False), contrasts=())
    scored = unit(tmp_path, fit_options=FitOptions(reml=False, method="pSFS"), group={"contrast": "b"})
    results = [write_unit(ran, made, blocks(made), tmp_path / "work") for made in (linear, scored)]
    fits = page_view(ran, results)["units"]
    assert "linear model" in fits[0]["estimator"]
    assert fits[1]["estimator"] == "maximum likelihood (ML) by pSFS"
