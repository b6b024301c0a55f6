from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats

from blmm_bids.stats.tails import log_sf_chi2, log_sf_f, log_sf_t, z_from_log_sf, z_from_t

# Relative, in log p: ten digits of log10 p at any depth.
LOG_P_TOLERANCE = 1e-10

inf, nan = np.inf, np.nan


def read_reference():
    """Rows of tails_reference.csv, which make_tails_reference.py computed in high precision."""
    with (Path(__file__).parent / "tails_reference.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.parametrize("distribution", ["t", "f", "chi2"])
def test_log_sf__agrees_with_high_precision(distribution):
    rows = [row for row in read_reference() if row["distribution"] == distribution]
    columns = ["statistic", "df1", "df2"] if distribution == "f" else ["statistic", "df1"]
    arguments = [np.array([float(row[column]) for row in rows]) for column in columns]
    function = {"t": log_sf_t, "f": log_sf_f, "chi2": log_sf_chi2}[distribution]
    expected = np.array([float(row["log_p"]) for row in rows])
    assert len(rows) > 40
    assert expected.min() < np.log(10) * -3000
    np.testing.assert_allclose(function(*arguments), expected, rtol=LOG_P_TOLERANCE)


@pytest.mark.parametrize("df", [0.5, 2, 30, 1e5])
def test_log_sf_t__below_zero_is_the_complement(df):
    t = np.array([1e-12, 0.1, 1.0, 5.0, 20.0])
    expected = np.log1p(-np.exp(log_sf_t(t, df)))
    np.testing.assert_allclose(log_sf_t(-t, df), expected, rtol=1e-9)


@pytest.mark.parametrize("t", [-40.0, -3.0, 0.5, 8.0, 50.0, 1e4])
def test_log_sf_t__tends_to_the_normal(t):
    normal = special.log_ndtr(-t)
    assert log_sf_t(t, inf) == normal
    # The first correction is t^4 / df relative to p, hence t^2 / df relative to log p in the tail.
    size = t**2 if t > 0 else t**4
    for df in (1e12, 1e16, 1e20, 1e300):
        np.testing.assert_allclose(log_sf_t(t, df), normal, rtol=1e-13 + size / df)


@pytest.mark.parametrize(
    ("t", "df", "expected"),
    [
        (inf, 3, -inf),
        (-inf, 3, 0),
        (inf, inf, -inf),
        (-inf, inf, 0),
        (0, 3, np.log(0.5)),
        (nan, 3, nan),
        (1, nan, nan),
        (1, 0, nan),
        (1, -2, nan),
        (nan, inf, nan),
    ],
)
def test_log_sf_t__limits(t, df, expected):
    np.testing.assert_allclose(log_sf_t(t, df), expected, rtol=1e-15)


@pytest.mark.parametrize(
    ("f", "df1", "df2", "expected"),
    [
        (0, 2, 5, 0),
        (-1e-9, 2, 5, 0),
        (inf, 2, 5, -inf),
        (nan, 2, 5, nan),
        (3, nan, 5, nan),
        (3, 2, nan, nan),
        (3, 0, 5, nan),
        (3, 2, 0, nan),
        (3, inf, 5, nan),
        (inf, 2, inf, -inf),
        # Two df against infinity: P(chi2_2 > 2f) = exp(-f).
        (3, 2, inf, -3),
        (5000, 2, inf, -5000),
    ],
)
def test_log_sf_f__limits(f, df1, df2, expected):
    np.testing.assert_allclose(log_sf_f(f, df1, df2), expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("x", "df", "expected"),
    [
        (0, 3, 0),
        (-1, 3, 0),
        (inf, 3, -inf),
        (nan, 3, nan),
        (1, nan, nan),
        (1, -1, nan),
        (1, inf, nan),
        (0, 0, 0),
        (1e-9, 0, -inf),
        # Two df: exp(-x/2) exactly.
        (1e5, 2, -5e4),
    ],
)
def test_log_sf_chi2__limits(x, df, expected):
    np.testing.assert_allclose(log_sf_chi2(x, df), expected, rtol=1e-13)


@given(st.floats(0, 1e300), st.floats(0.1, 1e7))
def test_log_sf_f__one_numerator_df_is_two_sided_t(t, df):
    f = min(t, 1e150) ** 2
    two_sided = log_sf_t(np.sqrt(f), df) + np.log(2)
    np.testing.assert_allclose(log_sf_f(f, 1, df), two_sided, rtol=1e-9, atol=1e-14)


@given(st.floats(-30, 30), st.floats(0.3, 1e4))
def test_log_sf_t__equals_scipy_in_the_middle(t, df):
    np.testing.assert_allclose(log_sf_t(t, df), np.log(stats.t.sf(t, df)), rtol=1e-8, atol=1e-12)


def test_z_from_log_sf__inverts_the_normal():
    z = np.array([-37, -8, -1, -1e-3, 0, 0.5, 3, 37, 150, 1e4])
    np.testing.assert_allclose(z_from_log_sf(special.log_ndtr(-z)), z, rtol=1e-12, atol=1e-15)


def test_z_from_log_sf__limits():
    np.testing.assert_array_equal(z_from_log_sf([-inf, 0.0, nan]), [inf, -inf, nan])


@given(st.floats(0, 1e200), st.floats(0.5, 1e6) | st.just(inf))
def test_z_from_t__is_odd_and_has_the_tail(t, df):
    z = z_from_t(t, df)
    assert z_from_t(-t, df) == -z
    assert np.isfinite(z)
    np.testing.assert_allclose(special.log_ndtr(-z), log_sf_t(t, df), rtol=1e-9, atol=1e-12)


def test_log_sf_t__deep_tail_of_two_dfs():
    # P = 1/2 - t / (2 sqrt(2 + t^2)), which is 1 / (2 t^2) far out.
    t = np.array([1e125, 1e126, 1e140])
    np.testing.assert_allclose(log_sf_t(t, 2.0), -np.log(2.0) - 2 * np.log(t), rtol=1e-13)


def test_z_from_t__keeps_the_sign_of_infinity():
    np.testing.assert_array_equal(z_from_t([inf, -inf, nan, 2.0], [4, 4, 4, nan]), [inf, -inf, nan, nan])


def test_tails__bits_do_not_depend_on_the_block():
    rng = np.random.default_rng(0)
    statistic, df = rng.normal(size=999) * 10 ** rng.uniform(-2, 3, 999), rng.uniform(0.5, 500, 999)
    statistic[::50] = nan
    for function in (
        log_sf_t,
        z_from_t,
        lambda x, df: log_sf_f(np.abs(x), 3, df),
        lambda x, df: log_sf_chi2(np.abs(x), df),
    ):
        whole = function(statistic, df)
        for width in (1, 7, 16, 333):
            parts = [function(statistic[i : i + width], df[i : i + width]) for i in range(0, 999, width)]
            np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_tails__take_scalars_empty_and_strided_arrays():
    assert log_sf_t(2.0, 5).shape == ()
    assert log_sf_f([], 2, 5).shape == (0,)
    matrix = np.arange(12.0).reshape(3, 4)
    np.testing.assert_array_equal(log_sf_chi2(matrix[:, ::2], 3), log_sf_chi2(matrix, 3)[:, ::2])
