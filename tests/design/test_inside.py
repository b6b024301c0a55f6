"""A factor that is fixed and random is refused before the fit, by both names; single levels are named."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from blmm_bids.errors import DataError
from tests.design import tables

N_SITES, PER_SITE, N_VISITS = 4, 3, 3


def table(**columns):
    subject = np.repeat(np.arange(N_SITES * PER_SITE), N_VISITS)
    found = pd.DataFrame({"subject": [f"{i:02d}" for i in subject]})
    found["site"] = [f"S{i // PER_SITE}" for i in subject]
    found["time"] = np.tile(np.arange(N_VISITS) * 1.0, N_SITES * PER_SITE)
    found["age"] = np.random.default_rng(1).normal(size=N_SITES * PER_SITE)[subject] + 40
    found["wave"] = np.where(found["time"] > 0, "b", "a")
    found["late"] = (found["time"] > 0) * 1.0
    return found.assign(**columns)


REFUSED = [
    ("1 + site + (1 | site)", "(1 | site)", "'site'"),
    ("0 + site + (1 | site)", "(1 | site)", "'site'"),
    ("age + C(site, contr.sum) + (1 | site)", "(1 | site)", "'C(site, contr.sum)'"),
    ("site + (1 | site/subject)", "(1 | site)", "'site'"),
    (
        "site + time + (1 + time | site)",
        "part (1 | site) of the random term (1 + time | site)",
        "(0 + time | site)",
    ),
    ("site * time + (1 + time | site)", "(1 + time | site)", "'site + time + site:time'"),
    ("C(subject) * time + (time | subject)", "(1 + time | subject)", "C(subject)"),
    ("C(subject) + time + (time | subject)", "(1 | subject)", "(0 + time | subject)"),
    ("site:time + site + (0 + time | site)", "(0 + time | site)", "site:time"),
    # Two levels are a covariate of two values.
    ("late + (1 | wave) + (1 | subject)", "(1 | wave)", "'late'"),
    ("site * wave + (1 | site:wave)", "(1 | site:wave)", "site"),
]


@pytest.mark.parametrize(("formula", "random", "fixed"), REFUSED)
def test_check_inside__names_both(formula, random, fixed):
    with pytest.raises(DataError, match="lies inside the fixed effects") as error:
        tables.built(formula, table())
    assert random in str(error.value)
    assert fixed in str(error.value)


@pytest.mark.parametrize(
    "formula",
    [
        "site + (1 | subject)",
        "site * time + (1 + time | subject)",
        "site + time + (0 + time | site)",
        "time + (1 | site/subject)",
        "time + (1 | wave) + (1 | subject)",
        "site + wave + (1 | site:wave)",
    ],
)
def test_check_inside__leaves_what_can_be_told_apart(formula):
    assert not any("lie inside" in warning for warning in tables.built(formula, table()).warnings)


def test_check_inside__warns_of_levels_that_are_inside():
    site = [f"S{min(int(name) // 2, 5)}" for name in table()["subject"]]
    alone = np.where(np.array(site) == "S5", np.where(table()["subject"] == "11", "S6", "S5"), site)
    found = tables.built("time + site + (1 | subject)", table(site=alone)).warnings
    (said,) = [warning for warning in found if "lie inside the fixed effects" in warning]
    assert said.startswith("2 of 12 levels of 'subject'")
    assert said.endswith("10, 11")
