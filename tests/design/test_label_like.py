"""Numbers that look like labels: where a model that takes them as quantities says so."""

from __future__ import annotations

import numpy as np
import pytest

from tests.design.tables import built, longitudinal

N_SUBJECTS, N_VISITS = 36, 4
RNG = np.random.default_rng(3)


def between(values):
    return np.repeat(values, N_VISITS)


def within(values):
    return np.tile(values, N_SUBJECTS)


THREE = np.arange(N_SUBJECTS) % 3
TABLE = longitudinal(N_SUBJECTS, N_VISITS).assign(
    x=between(RNG.permutation(THREE) + 1.0),
    site=between(THREE + 1.0),
    siteID=between(THREE * 100 + 101.0),
    data_collection_center=between(np.arange(N_SUBJECTS) % 12 * 3 + 2.0),
    ScannerNo=within([1.0, 3.0, 7.0, 3.0]),
    group=between(RNG.permutation(THREE) - 1.0),
    kind=between(THREE * 1.0),
    flag=between(THREE % 2 * 1.0),
    pair=between(RNG.permutation(THREE) % 2 + 1.0),
    cohort=between(np.linspace(0, 1, 3)[THREE]),
    family=between(np.arange(N_SUBJECTS) * 1.0),
    visit=within([1.0, 2.0, 3.0, 4.0]),
    wave_number=within([1.0, 2.0, 3.0, 4.0]),
    y=within([1.0, 2.0, 3.0, 4.0]),
    education=between(RNG.permutation(np.arange(N_SUBJECTS) % 5) + 12.0),
    grade=between(THREE + 1.0),
    n_children=between(RNG.permutation(THREE) + 1.0),
    years=between(np.arange(N_SUBJECTS) + 20.0),
    centered_age=between(THREE + 1.0),
)

# formula -> the variables that are warned of
CASES = [
    ("site", {"site": (3, "1, 2, 3")}),
    ("siteID", {"siteID": (3, "101, 201, 301")}),
    ("x", {"x": (3, "1, 2, 3")}),
    ("x * age", {"x": (3, "1, 2, 3")}),
    ("group + site", {"group": (3, "-1, 0, 1"), "site": (3, "1, 2, 3")}),
    ("ScannerNo", {"ScannerNo": (3, "1, 3, 7")}),
    ("center(site)", {"site": (3, "1, 2, 3")}),
    ("1 + (1 + ScannerNo | subject)", {"ScannerNo": (3, "1, 3, 7")}),
    ("data_collection_center", {"data_collection_center": (12, "2, 5, 8")}),
    # Labels already, a difference of two, or fractions.
    ("C(site) + C(x)", {}),
    ("1 + (1 | site)", {}),
    ("center(age, by=site)", {}),
    ("flag + pair", {}),
    ("cohort", {}),
    # Quantities.
    ("visit", {}),
    ("y", {}),
    ("y + (1 + y | subject)", {}),
    ("wave_number + age + years + education", {}),
    ("grade + n_children", {}),
    ("kind", {}),
    ("poly(x, 2)", {}),
    ("x + I(x**2)", {}),
    ("centered_age", {}),
    ("family", {}),
]


@pytest.mark.parametrize(("formula", "warned"), CASES)
def test_build_design__warns_of_numbers_that_look_like_labels(formula, warned):
    text = formula if "|" in formula else f"{formula} + (1 | subject)"
    found = [warning for warning in built(text, TABLE).warnings if "enters as one slope" in warning]
    assert len(found) == len(warned)
    for warning, (name, (n, values)) in zip(found, warned.items(), strict=True):
        assert warning.startswith(f"'{name}' enters as one slope: its {n} values are {values}")
        assert warning.endswith(f"; write C({name}) in the formula if they are labels")


def test_build_design__quotes_a_name_that_is_no_plain_name():
    table = TABLE.rename(columns={"site": "scan site"})
    (warning,) = built("`scan site` + (1 | subject)", table).warnings
    assert warning.endswith("write C(`scan site`) in the formula if they are labels")
