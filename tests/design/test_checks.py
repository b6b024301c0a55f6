"""Designs that cannot be fitted are refused by name; doubtful ones draw warnings."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest

from blmm_bids.errors import DataError, ModelSpecError
from tests.design import tables
from tests.design.tables import frame, longitudinal

TABLE = longitudinal()


def built(formula, table=TABLE, ambiguous=None, **model):
    return tables.built(formula, table, ambiguous, **model)


REFUSED = [
    ("agee", TABLE, ModelSpecError, "formula uses 'agee', absent from the tables .* did you mean 'age'"),
    ("1 + (1 | subjekt)", TABLE, ModelSpecError, "did you mean 'subject'"),
    ("1 + (agee | subject)", TABLE, ModelSpecError, "did you mean 'age'"),
    ("time ~ age", TABLE, ModelSpecError, "the left side 'time' of the formula is a variable"),
    ("x", frame(x=5.0), DataError, "covariate 'x' has no variance: it is 5 in all 12 images"),
    ("g", frame(g="a"), DataError, "variable 'g' has one level, 'a', in all 12 images"),
    ("1 + (1 | g)", frame(g="a"), DataError, "grouping factor 'g' has one level, 'a'"),
    (
        "1 + (1 | g)",
        frame(g=list("abcdefghijkl")),
        DataError,
        r"'g' has as many levels as there are images \(12\)",
    ),
    ("1 + (1 | subject/session)", TABLE, DataError, "'subject:session' has as many levels"),
    (
        "x + (1 + x + I(x**2) | subject)",
        frame(),
        DataError,
        "has 12 effects and there are 12 images.*set SafeMode to false",
    ),
    ("iq + (1 + iq | subject)", TABLE, DataError, "random slope of 'iq' over 'subject' cannot be estimated"),
    ("1 + (1 + sex | subject)", TABLE, DataError, r"random slope of 'sex\[T.M\]' over 'subject'"),
    (
        "x + y",
        frame(y=2 * frame()["x"] + 3),
        DataError,
        "(y is a linear combination of Intercept, x)|(x is .* y)",
    ),
    (
        "x + y + z",
        frame(y=np.arange(12) ** 2, z=frame()["x"] - np.arange(12) ** 2),
        DataError,
        "linear combination",
    ),
    (
        "x + center(x, by=subject) + mean(x, by=subject)",
        frame(),
        DataError,
        "linear combination of Intercept",
    ),
    ("0 + sex + iq + I(2*iq)", TABLE, DataError, "linear combination of"),
    ("center(iq, by=subject)", TABLE, DataError, r"column center\(iq, by=subject\) of the design is zero"),
    (
        "g*h",
        frame(g=list("ab") * 6, h=["a"] * 6 + list("bcbcbc")),
        DataError,
        "collinear|zero for every image",
    ),
    ("g*h", frame(g=list("aabb") * 3, h=list("ccdd") * 3), DataError, "collinear|zero for every image"),
    ("poly(x, 11)", frame(), DataError, "12 images are used for 12 fixed effects"),
    ("x + g", frame(4, g=list("abab")).iloc[:4], DataError, "4 images are used for 3 fixed effects"),
    ("g + x", frame(g=list("abcdefghijkl")), DataError, "collinear"),
    ("0", TABLE, DataError, "no fixed effect"),
    (
        "1 + (1 | subject) + (time | subject)",
        TABLE,
        DataError,
        "random intercept of 'subject' is in two terms",
    ),
    (
        "1 + (0 + time | subject) + (0 + time + motion | subject)",
        TABLE,
        DataError,
        "slope of 'time' of 'subject'",
    ),
    (
        "1 + (1 | subject) + (1 | sex:subject)",
        TABLE,
        DataError,
        "'subject' and 'sex:subject', which group the images alike",
    ),
    ("x", frame(x=np.nan), DataError, r"no image is left: of 12, variables are missing \(x in 12\)"),
    ("x", frame().iloc[:0], DataError, "no image is left"),
    ("x", frame(x=1j), DataError, "complex"),
]


@pytest.mark.parametrize(("formula", "table", "error", "message"), REFUSED)
def test_build_design__refuses_with_names(formula, table, error, message):
    with pytest.raises(error, match=message) as found:
        built(formula, table)
    assert found.value.exit_code == (64 if error is ModelSpecError else 65)


def test_build_design__slopes_with_as_many_effects_as_images_are_a_warning_without_safe_mode():
    table = TABLE[TABLE["time"] < 2]
    with pytest.raises(DataError, match="SafeMode"):
        built("time + (time | subject)", table)
    (warning,) = built("time + (time | subject)", table, SafeMode=False).warnings
    assert "24 effects and there are 24 images" in warning


WARNINGS = [
    (
        "age + (1 | subject)",
        ["'age' varies both within and between levels of subject: .*center\\(age, by=subject\\)"],
    ),
    ("scale(age) + (1 | subject)", ["'age' varies both"]),
    ("center(age, by=subject) + mean(age, by=subject) + (1 | subject)", []),
    ("time + iq + sex + (1 + time | subject)", []),
    ("age", []),
    ("scanner + (1 | subject)", []),
]


@pytest.mark.parametrize(("formula", "messages"), WARNINGS)
def test_build_design__warns_of_covariates_that_vary_both_ways(formula, messages):
    found = built(formula).warnings
    assert len(found) == len(messages)
    for warning, message in zip(found, messages, strict=True):
        assert re.search(message, warning)


def test_build_design__warns_of_a_level_with_one_image():
    assert built("g", frame(g=["a"] * 6 + ["b"] * 5 + ["c"])).warnings == ("one image only has g c",)


def test_build_design__calendar_years_and_their_powers_have_full_rank():
    year = 2000 + np.arange(40) % 11 + 0.25 * (np.arange(40) % 4)
    found = built(
        "year + I(year**2) + I(year**3)", pd.DataFrame({"year": year, "subject": np.arange(40) // 4})
    )
    assert found.design.n_fixef == 4


def test_build_design__a_constant_may_stand_for_the_intercept():
    found = built("0 + ones + x", frame(ones=1.0))
    assert found.design.fixef_names == ("ones", "x")
