from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from blmm_bids.design.dates import day_numbers
from blmm_bids.errors import ModelSpecError
from tests.design.tables import built

DATES = ["2019-03-01", "2019-03-11", "2020-03-01", "2020-03-01", "2020-03-02", "2020-03-06"]
SINCE_FIRST = [0, 10, 366, 366, 367, 371]
WITHIN = [0, 10, 366, 0, 1, 5]


def visits(dates=DATES, n=2):
    """Pairs of subjects with the same three dates each."""
    return pd.DataFrame(
        {
            "subject": [f"{repeat}{row // 3}" for repeat in range(n) for row in range(6)],
            "when": list(dates) * n,
            "x": np.random.default_rng(3).normal(size=6 * n),
        }
    )


@pytest.mark.parametrize(
    ("term", "values"),
    [
        ("days(when)", SINCE_FIRST),
        ("days(when, by=subject)", WITHIN),
        ("years(when)", np.array(SINCE_FIRST) / 365.25),
        ("years(when, by=subject)", np.array(WITHIN) / 365.25),
        ("{days(when) / 7}", np.array(SINCE_FIRST) / 7),
        ("center(days(when), by=subject)", np.array(WITHIN) - np.repeat([376 / 3, 2], 3)),
    ],
)
def test_build_design__dates_are_times_since_the_first(term, values):
    found = built(f"{term} + (1 | subject)", visits())
    assert found.design.fixef_names[0] == "Intercept"
    np.testing.assert_allclose(found.design.X[:, 1], [*values, *values], atol=1e-12)
    (variable,) = (each for each in found.variables if each.name == "when")
    assert (variable.kind, variable.levels) == ("date", ("2019-03-01", "2020-03-06"))
    assert not any("when" in text for text in found.warnings)


def test_build_design__dates_in_random_slopes():
    found = built("years(when, by=subject) + (1 + years(when, by=subject) | subject)", visits())
    np.testing.assert_allclose(found.design.terms[0].effects[:6, 1], np.array(WITHIN) / 365.25)


def test_build_design__the_first_date_is_that_of_the_rows_that_are_fitted():
    table = visits()
    table.loc[0, "when"] = None
    found = built("days(when, by=subject) + (1 | subject)", table)
    assert found.dropped == ((0, "when missing"),)
    assert found.design.X[:2, 1].tolist() == [0, 356]


@pytest.mark.parametrize(
    ("word", "same"),
    [
        ("2019-03-01T12:00:00", "2019-03-01 12:00"),
        ("2019-03-01T12:00:00.000000", "2019-03-01T12:00:00"),
        ("2019-03-01T12:00:00Z", "2019-03-01T13:00:00+01:00"),
        ("2019/3/1", "2019-03-01"),
        ("20190301", "2019-03-01"),
        ("1899-03-01", "1899-03-01T00:00:00"),
    ],
)
def test_day_numbers__spellings_of_a_moment(word, same):
    first, second = day_numbers(pd.Series([word, same], name="when"), "days")
    assert first == second


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (["2019-03-01", "soon"], "'when' has 'soon', no date; days"),
        (["01.03.2019"], "'when' has '01.03.2019', no date"),
        (["12:30:00"], "a time of day without its date"),
        (["2019-02-30"], "no date"),
        (["2019-03-01T12:00:00Z", "2019-03-01T12:00:00"], "with a zone .* and without"),
        ([1.0, 2.0], "holds numbers"),
    ],
)
def test_day_numbers__refuses_what_is_no_date(values, said):
    with pytest.raises(ModelSpecError, match=said):
        day_numbers(pd.Series(values, name="when"), "days")


def test_build_design__days_of_what_is_no_column():
    with pytest.raises(ModelSpecError, match="must be a column of dates"):
        built("days(x + 1)", visits())
    with pytest.raises(ModelSpecError, match="by= takes a grouping variable"):
        built("days(when, by=3)", visits())
