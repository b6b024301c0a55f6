"""Random terms inside the span of the fixed effects: found in the design, and at single voxels."""

from __future__ import annotations

import numpy as np
import pytest

from blmm_bids.stats.fit import fit_voxels
from blmm_bids.stats.flatness import inside_fixed
from blmm_bids.stats.inference import t_maps
from blmm_bids.stats.model import FitOptions, Status
from blmm_bids.stats.plan import make_plan
from tests.stats.designs import make_design, make_term

SUBJECT = np.repeat(np.arange(6), 4)
SITE = SUBJECT // 2
TIME = np.tile(np.arange(4.0), 6)
ONE = np.ones(24)
SITES = (SITE[:, None] == np.arange(3)).astype(float)
SUBJECTS = (SUBJECT[:, None] == np.arange(6)).astype(float)
FIRST = (SUBJECT == 0).astype(float)

INSIDE = [
    ("site", SITES, make_term("g", SITE, ONE), [True], [True] * 3),
    ("site's slope", SITES, make_term("g", SITE, ONE, TIME), [True, False], [True] * 3),
    ("in ns", SITES, make_term("g", SITE, ONE, 1e9 * TIME), [True, False], [True] * 3),
    ("all", np.hstack([SUBJECTS, SUBJECTS * TIME[:, None]]), make_term("g", SUBJECT, ONE, TIME), [True] * 2,
     [True] * 6),
    ("two levels are one covariate", np.column_stack([ONE, SITE == 0]),
     make_term("g", (SITE == 0).astype(int), ONE), [True], [True] * 2),
    ("nested", SITES, make_term("g", SUBJECT, ONE), [False], [False] * 6),
    ("two levels", ONE[:, None], make_term("g", SUBJECT % 2, ONE), [False], [False] * 2),
    ("one subject", np.column_stack([ONE, FIRST]), make_term("g", SUBJECT, ONE), [False],
     [True] + [False] * 5),
]  # fmt: skip


@pytest.mark.parametrize(("X", "term", "effects", "levels"), [case[1:] for case in INSIDE],
                         ids=[case[0] for case in INSIDE])  # fmt: skip
def test_inside_fixed__finds_effects_and_levels(X, term, effects, levels):
    found = inside_fixed(np.linalg.qr(X)[0], term)
    assert found.effects.tolist() == effects
    assert found.levels.tolist() == levels


@pytest.mark.parametrize("method", ["default", "FS"])
def test_fit_voxels__missing_images_that_put_a_term_inside_x_are_a_status(method):
    rng = np.random.default_rng(3)
    # Groups are sites 0 and 1 against 2: without 1, or without 0, group and site are one.
    design = make_design(np.column_stack([ONE, SITE == 2, TIME]), make_term("site", SITE, ONE))
    Y = rng.normal(size=(6, 24)) + rng.normal(size=(6, 3))[:, SITE]
    Y[1, SITE == 1] = np.nan
    Y[2, SITE == 0] = np.nan
    Y[3, np.flatnonzero(SITE == 1)[1:]] = np.nan
    Y[4, 3] = np.nan
    fit = fit_voxels(make_plan(design), Y, FitOptions(method=method))
    assert (fit.status == Status.RANDOM_IN_FIXED).tolist() == [False, True, True, False, False, False]
    lost = fit.status == Status.RANDOM_IN_FIXED
    for values in (fit.beta, fit.vcov, fit.sigma2, fit.D, fit.loglik, t_maps(fit, np.eye(3)[1])["dof"]):
        assert np.isnan(values[lost]).all()
        assert np.isfinite(values[~lost]).all()


def test_fit_voxels__two_subjects_left_are_told_from_a_covariate_by_nothing():
    rng = np.random.default_rng(4)
    age = rng.normal(size=6)[SUBJECT]
    design = make_design(np.column_stack([ONE, age]), make_term("subject", SUBJECT, ONE))
    Y = rng.normal(size=(3, 24))
    Y[0, SUBJECT > 1] = np.nan
    Y[1, SUBJECT > 2] = np.nan
    fit = fit_voxels(make_plan(design), Y, FitOptions())
    assert fit.status[0] == Status.RANDOM_IN_FIXED
    assert fit.status[1].item() in (Status.CONVERGED, Status.SINGULAR)
