"""Numbers and models read as words."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from blmm_bids.outputs.stored import StoredTerm
from blmm_bids.report.wording import duration_text, model_text, p_text, values_text, weights_text
from tests.outputs.synthetic import FactorLevels


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


def test_values_text__counts_levels_that_are_too_many_to_list():
    variable = FactorLevels("subject", "grouping", tuple(map(str, range(400))))
    assert values_text(variable) == "400 levels"


def test_values_text__hides_the_rounding_of_a_centred_mean():
    variable = FactorLevels("age", "numeric", minimum=-20.0, mean=3.8e-15, maximum=20.0)
    assert values_text(variable) == "-20 to 20, mean 0"


@pytest.mark.parametrize(
    ("columns", "fixed"), [(("Intercept", "time"), "an intercept and time"), (("time",), "time")]
)
def test_model_text__says_the_model_without_formulas(columns, fixed):
    fit = SimpleNamespace(
        maps=[SimpleNamespace(names={"RegressorName": name}) for name in columns],
        variables=(FactorLevels("time", "numeric"), FactorLevels("subject", "grouping")),
        terms=(StoredTerm("subject", ("Intercept", "time"), 4), StoredTerm("site", ("Intercept",), 2)),
    )
    assert model_text(fit) == (
        f"At each voxel the value of an image is modelled as a fixed part ({fixed}), plus a "
        "level and a slope of time of its own for each subject (which may be correlated), plus a level of "
        "its own for each site, plus noise."
    )


@pytest.mark.parametrize(
    ("p", "wanted"), [(0.03456, "0.0346"), (3.2e-9, "3.2e-09"), (0.0, "< 1e-300"), (float("nan"), "n/a")]
)
def test_p_text__is_short(p, wanted):
    assert p_text(p) == wanted
