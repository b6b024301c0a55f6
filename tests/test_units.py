"""Units and origins of covariates change no statistic, no df and no status."""

from __future__ import annotations

import numpy as np
import pytest

from blmm_bids.stats.fit import fit_voxels
from blmm_bids.stats.inference import contrast_maps
from blmm_bids.stats.model import Contrast, FitOptions
from blmm_bids.stats.plan import make_plan
from tests.stats.designs import make_design, make_term

N_SUBJECTS, N_VISITS = 15, 4
SUBJECT = np.repeat(np.arange(N_SUBJECTS), N_VISITS)
ONE = np.ones(SUBJECT.size)
UNITS = [
    (1e-6, 0),
    (1e3, 0),
    (1e9, 0),
    (1.0, 1e3),
    (86400, 1.6e9),
    (8.64e7, 1.6e12),
    (1.0, 1.6e9),
    (1e-6, 1e3),
]


def data():
    rng = np.random.default_rng(1)
    time = rng.normal(size=SUBJECT.size) * 0.3 + np.tile(np.arange(N_VISITS), N_SUBJECTS)
    sex, age = (np.arange(N_SUBJECTS) % 2)[SUBJECT], rng.normal(size=N_SUBJECTS)[SUBJECT]
    b = rng.normal(size=(N_SUBJECTS, 2))[SUBJECT]
    Y = [k * time / 2 + 0.3 * (k * b[:, 0] + (k > 2) * time * b[:, 1]) for k in range(6)]
    Y = np.stack(Y) + rng.normal(size=(6, SUBJECT.size))
    Y[3, 5] = Y[4, 1] = Y[4, 2] = np.nan
    return time, sex, age, Y


def fit_in(scale, origin, slopes):
    """Fit with time in another unit, and all maps of contrasts that mean the same in each."""
    time, sex, age, Y = data()
    x = time * scale + origin
    effects = [ONE, x] if slopes else [ONE]
    X = np.column_stack([ONE, x, sex, age, x * sex])
    fit = fit_voxels(make_plan(make_design(X, make_term("s", SUBJECT, *effects))), Y, FitOptions())
    rows = np.eye(5)
    # The mean, and the difference of the sexes, at time 1.
    mean, sexes = np.array([1, scale + origin, 0, 0, 0]), np.array([0, 0, 1, 0, scale + origin])
    tests = [rows[1], rows[3], rows[4], mean, sexes]
    tests += [rows[[1, 3]], rows[[1, 4, 3]], *(np.vstack(pair) for pair in ((mean, rows[1]), (mean, sexes)))]
    maps = [contrast_maps(fit, Contrast("c", np.atleast_2d(L), "t" if L.ndim == 1 else "F")) for L in tests]
    return fit, [(each.get("t", each.get("F")), each["dof"]) for each in maps]


@pytest.mark.parametrize("slopes", [False, True])
@pytest.mark.parametrize(("scale", "origin"), UNITS)
def test_contrast_maps__do_not_depend_on_a_covariates_unit(scale, origin, slopes):
    natural, wanted = fit_in(1.0, 0.0, slopes)
    fit, found = fit_in(scale, origin, slopes)
    np.testing.assert_array_equal(fit.status, natural.status)
    for (statistic, dof), (right, right_dof) in zip(found, wanted, strict=True):
        np.testing.assert_allclose(statistic, right, rtol=1e-4)
        np.testing.assert_allclose(dof, right_dof, rtol=1e-4)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_fit_voxels__a_slope_of_no_variance_is_singular_in_any_unit(scale):
    rng = np.random.default_rng(2)
    time = np.tile(np.arange(N_VISITS) - 1.5, N_SUBJECTS)
    Y = rng.normal(size=(20, SUBJECT.size)) + 2 * rng.normal(size=(20, N_SUBJECTS))[:, SUBJECT]
    X, x = np.column_stack([ONE, scale * time]), scale * time
    terms = make_term("s", SUBJECT, ONE), make_term("s", SUBJECT, x)
    statuses = fit_voxels(make_plan(make_design(X, *terms)), Y, FitOptions()).status
    terms = make_term("s", SUBJECT, ONE), make_term("s", SUBJECT, time)
    natural = fit_voxels(make_plan(make_design(X, *terms)), Y, FitOptions()).status
    assert set(natural.tolist()) == {0, 1}
    np.testing.assert_array_equal(statuses, natural)


def test_f_maps__of_the_intercept_and_a_covariate_far_from_zero():
    """An ordinary linear model, where F is that of the residual sums of squares."""
    rng = np.random.default_rng(3)
    seconds = 1.6e9 + rng.normal(size=40) * 1e3
    y = rng.normal(size=40) + 0.5
    design = make_design(np.column_stack([np.ones(40), seconds]))
    fit = fit_voxels(make_plan(design), y[None], FitOptions())
    maps = contrast_maps(fit, Contrast("both", np.eye(2), "F"))
    centred = np.column_stack([np.ones(40), (seconds - 1.6e9) / 1e3])
    rss = ((y - centred @ np.linalg.lstsq(centred, y)[0]) ** 2).sum()
    assert maps["F"][0] == pytest.approx(((y**2).sum() - rss) / 2 / (rss / 38), rel=1e-6)
    assert maps["dof"][0] == pytest.approx(38)
