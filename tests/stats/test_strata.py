"""The fewest degrees of freedom that a contrast can have: counted, and against dense ranks."""

from __future__ import annotations

import numpy as np
import pytest

from blmm_bids.stats.fit import fit_voxels
from blmm_bids.stats.inference import f_maps, t_maps
from blmm_bids.stats.model import FitOptions, Status
from blmm_bids.stats.plan import make_plan
from tests.stats.brute import containment_df
from tests.stats.designs import balanced, draw_all, make_design, make_term, random_design, slopes_design


def two_scanners():
    """18 subjects of ten images, of which the last ten images are another scanner's."""
    subject = np.repeat(np.arange(18), 10)
    days = np.tile(np.arange(10.0), 18)
    scanner = (np.arange(180) >= 170).astype(np.int64)
    one = np.ones(180)
    return make_design(
        np.column_stack([one, days]),
        make_term("subject", subject, one, days),
        make_term("scanner", scanner, one),
    )


def floor(design, *rows):
    strata = make_plan(design).strata
    n_obs = np.array([design.n_obs])
    bounds = strata.bounds(np.zeros((1, design.n_obs)), n_obs)
    return strata.floor_of(np.atleast_2d(rows) @ make_plan(design).R_inv, bounds, n_obs)[0]


@pytest.mark.parametrize(
    ("design", "row", "wanted"),
    [
        (balanced(), [0, 1, 0], 47),
        (slopes_design(2, 12, 6)[0], [0, 1], 11),
        (two_scanners(), [1, 0], 1),
        # Five levels' images at the same times: time rests on no level.
        (make_design(np.column_stack([np.ones(20), np.tile([-1.0, 1.0], 10)]),
                     make_term("g", np.repeat(np.arange(5), 4), np.ones(20))), [0, 1], 20 - 2 - 4),
        # Twelve subjects in three sites, group varies between subjects within sites.
        (make_design(np.column_stack([np.ones(48), np.repeat(np.arange(12) >= 6, 4)]),
                     make_term("subject", np.repeat(np.arange(12), 4), np.ones(48)),
                     make_term("site", np.repeat(np.arange(12) % 3, 4), np.ones(48))), [0, 1], 12 - 3 - 1),
    ],
)  # fmt: skip
def test_floor_of__is_levels_less_what_is_constant_within_them(design, row, wanted):
    assert floor(design, row) == wanted


@pytest.mark.parametrize("seed", range(12))
def test_floor_of__equals_dense_ranks(seed):
    rng = np.random.default_rng(seed)
    design = random_design(rng)
    for n_rows in range(1, design.n_fixef + 1):
        rows = rng.normal(size=(n_rows, design.n_fixef))
        assert floor(design, *rows) == containment_df(design, rows)


@pytest.mark.parametrize("choice", ["expected", "ml-expected", "observed"])
def test_t_maps__no_dof_is_below_the_stratums(choice):
    design = two_scanners()
    rng = np.random.default_rng(0)
    Y = draw_all(design, rng)
    Y = np.vstack([Y, rng.normal(size=(30, 180)) + 300])
    fit = fit_voxels(make_plan(design), Y, FitOptions(satterthwaite=choice))
    alone = (fit.D[:, 3] == 0) & (fit.status == Status.SINGULAR)
    assert alone.sum() > 5
    assert (t_maps(fit, np.array([1.0, 0]))["dof"][alone] >= 1).all()
    assert (f_maps(fit, np.eye(2))["dof"][alone] >= 1).all()


@pytest.mark.parametrize("seed", range(4))
def test_bounds__with_missing_images_are_below_those_of_the_images_present(seed):
    rng = np.random.default_rng(seed)
    design = random_design(rng, n_obs=40)
    plan = make_plan(design)
    Y = np.zeros((8, 40))
    Y[rng.random(Y.shape) < 0.2] = np.nan
    bounds = plan.strata.bounds(Y, (~np.isnan(Y)).sum(axis=1))
    assert (bounds >= 1).all()
    for y, bound in zip(Y, bounds, strict=True):
        X = design.X[~np.isnan(y)]
        strata = [(term, effect) for term in design.terms for effect in term.effects.T]
        for (term, effect), least in zip(strata, bound, strict=False):
            Z = ((term.refs[:, None] == np.arange(term.n_levels)) * effect[:, None])[~np.isnan(y)]
            df = np.linalg.matrix_rank(np.hstack([X, Z])) - np.linalg.matrix_rank(X)
            assert least <= max(df, 1)
