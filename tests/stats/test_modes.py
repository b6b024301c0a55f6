from __future__ import annotations

import numpy as np
import pytest
from scipy import linalg

from blmm_bids.errors import DataError
from blmm_bids.stats.fit import fit_voxels
from blmm_bids.stats.model import Design, FitOptions, RandomTerm, Status
from blmm_bids.stats.modes import conditional_modes
from blmm_bids.stats.plan import make_plan
from tests.models import CLASSIC, classic_design, read_table

# Both sides solve the same equations at the same D; what is left is rounding in V^-1.
DENSE_TOLERANCE = 1e-9
# Four decimals are printed in lme4's documentation.
PRINTED = 5e-4


def dense_modes(design, y, D):
    """b = D Z'V^-1 (y - X beta) and y - X beta - Z b at one voxel, from dense matrices."""
    n_obs = design.n_obs
    Z, blocks, first = [], [], 0
    for term in design.terms:
        q = term.n_effects
        indicator = np.eye(term.n_levels)[term.refs]
        Z.append((indicator[:, :, None] * term.effects[:, None, :]).reshape(n_obs, -1))
        inner = np.zeros((q, q))
        inner[np.triu_indices(q)] = D[first : first + q * (q + 1) // 2]
        first += q * (q + 1) // 2
        blocks.append(np.kron(np.eye(term.n_levels), inner + np.triu(inner, 1).T))
    Z = np.hstack(Z) if Z else np.zeros((n_obs, 0))
    big = linalg.block_diag(*blocks) if blocks else np.zeros((0, 0))
    here = ~np.isnan(y)
    X, Zh = design.X[here], Z[here]
    V = np.eye(here.sum()) + Zh @ big @ Zh.T
    beta = np.linalg.solve(X.T @ np.linalg.solve(V, X), X.T @ np.linalg.solve(V, y[here]))
    b = big @ Zh.T @ np.linalg.solve(V, y[here] - X @ beta)
    return b, y - design.X @ beta - Z @ b


def bar(group, n_levels, refs, *columns):
    names = ("Intercept", "x", "w")[: len(columns)]
    levels = tuple(f"{group}{i}" for i in range(n_levels))
    return RandomTerm(group, levels, np.asarray(refs, dtype=np.int64), np.column_stack(columns), names)


def designs():
    rng = np.random.default_rng(3)
    n = 84
    x, w = rng.normal(size=n), 2000 + rng.uniform(0, 12, n)
    one = np.ones(n)
    X = np.column_stack([one, x, w - 2006])
    names = ("Intercept", "x", "w")
    few, many = rng.integers(0, 5, n), np.arange(n) % 12
    return {
        "intercepts": Design(X, names, (bar("subject", 12, many, one),)),
        "slopes": Design(X, names, (bar("subject", 12, many, one, x),)),
        "calendar years": Design(X, names, (bar("subject", 12, many, one, x, w),)),
        # The plan eliminates the factor with more levels first: here not the design's order.
        "crossed": Design(X, names, (bar("site", 5, few, one), bar("subject", 12, many, one, x))),
        "nested": Design(X, names, (bar("family", 4, many // 3, one), bar("subject", 12, many, one))),
        "linear model": Design(X, names, ()),
    }


def responses(design, seed, n_voxels=37):
    """Voxels with and without random effects, on several scales, some with missing images."""
    rng = np.random.default_rng(seed)
    y = rng.normal(size=(n_voxels, design.n_obs))
    for part in design.terms:
        b = rng.normal(size=(n_voxels, part.n_levels, part.n_effects)) * rng.gamma(1, 2, (n_voxels, 1, 1))
        b[::5] = 0
        centred = part.effects - np.where(np.ptp(part.effects, axis=0) > 0, part.effects.mean(axis=0), 0)
        y += np.einsum("voe,oe->vo", b[:, part.refs], centred)
    y = 100 + y * 10.0 ** rng.integers(-3, 4, (n_voxels, 1))
    y[1::3][rng.random(y[1::3].shape) < 0.2] = np.nan
    if design.terms:
        y[2:3, design.terms[-1].refs == 1] = np.nan
    return y


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("name", designs())
def test_conditional_modes__equals_dense_algebra(name, reml):
    design = designs()[name]
    y = responses(design, seed=len(name))
    plan = make_plan(design)
    fit = fit_voxels(plan, y, FitOptions(reml=reml))
    assert np.isin(fit.status, [Status.CONVERGED, Status.SINGULAR]).all()
    assert not design.terms or (fit.status == Status.SINGULAR).any()
    found = conditional_modes(plan, y, fit.D, fit.status)
    for voxel in range(len(y)):
        ranef, residuals = dense_modes(design, y[voxel], fit.D[voxel])
        scale = np.sqrt(fit.sigma2[voxel])
        if name == "calendar years":
            # The intercept's mode is at year 0: 2000 slopes of rounding.
            scale *= 1e3
        np.testing.assert_allclose(found.ranef[voxel] / scale, ranef / scale, atol=DENSE_TOLERANCE, rtol=1e-6)
        np.testing.assert_allclose(found.residuals[voxel] / scale, residuals / scale, atol=DENSE_TOLERANCE)


def test_conditional_modes__equals_lme4_for_sleepstudy(shared_data):
    design, y = classic_design(CLASSIC["sleepstudy_rs"], read_table(shared_data / "classic", "sleepstudy"))
    plan = make_plan(design)
    fit = fit_voxels(plan, y[None], FitOptions())
    found = conditional_modes(plan, y[None], fit.D, fit.status)
    ranef = dict(zip(design.terms[0].levels, found.ranef[0].reshape(-1, 2), strict=True))
    # ranef(lmer(Reaction ~ Days + (Days | Subject), sleepstudy))
    published = {
        "308": (2.2586, 9.1990),
        "309": (-40.3986, -8.6197),
        "310": (-38.9602, -5.4489),
        "372": (12.3145, 1.2840),
    }
    for level, wanted in published.items():
        np.testing.assert_allclose(ranef[level], wanted, atol=PRINTED)
    # residuals() are those of the fixed effects less each subject's own line.
    term = design.terms[0]
    lines = np.sum(term.effects * found.ranef[0].reshape(-1, 2)[term.refs], axis=1)
    fitted = design.X @ fit.beta[0] + lines
    np.testing.assert_allclose(found.residuals[0], y - fitted, atol=1e-8)


def test_conditional_modes__is_zero_where_a_level_has_no_image():
    design = designs()["crossed"]
    y = responses(design, seed=4)
    y[:, design.terms[1].refs == 3] = np.nan
    plan = make_plan(design)
    fit = fit_voxels(plan, y, FitOptions())
    found = conditional_modes(plan, y, fit.D, fit.status)
    np.testing.assert_array_equal(found.ranef[:, 5 + 2 * 3 : 5 + 2 * 4], 0)
    np.testing.assert_array_equal(np.isnan(found.residuals), np.isnan(y))


def test_conditional_modes__is_nan_where_nothing_was_fitted():
    design = designs()["slopes"]
    y = responses(design, seed=5)
    y[0], y[1, 4:], y[2] = 3.0, np.nan, design.X @ [1.0, 2.0, 3.0]
    plan = make_plan(design)
    fit = fit_voxels(plan, y, FitOptions())
    assert set(fit.status[:3]) == {Status.CONSTANT, Status.TOO_FEW_IMAGES, Status.ZERO_RESIDUAL}
    found = conditional_modes(plan, y, fit.D, fit.status)
    assert np.isnan(found.ranef[:3]).all()
    assert np.isnan(found.residuals[:3]).all()
    assert np.isfinite(found.ranef[3:]).all()


def test_conditional_modes__is_zero_where_every_variance_is_zero():
    design = designs()["slopes"]
    y = responses(design, seed=6)
    plan = make_plan(design)
    fit = fit_voxels(plan, y, FitOptions())
    found = conditional_modes(plan, y, np.zeros_like(fit.D), fit.status)
    np.testing.assert_array_equal(found.ranef, 0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_conditional_modes__gives_each_row_the_same_bits_in_any_block(dtype):
    design = designs()["crossed"]
    y = responses(design, seed=7, n_voxels=83).astype(dtype)
    plan = make_plan(design)
    fit = fit_voxels(plan, y, FitOptions())
    whole = conditional_modes(plan, y, fit.D, fit.status)
    for rows in (slice(0, 1), slice(5, 24), slice(40, 83)):
        part = conditional_modes(plan, y[rows], fit.D[rows], fit.status[rows])
        np.testing.assert_array_equal(part.ranef, whole.ranef[rows])
        np.testing.assert_array_equal(part.residuals, whole.residuals[rows])


def test_conditional_modes__follows_the_data_and_not_the_fixed_effects():
    design = designs()["crossed"]
    y = responses(design, seed=8)
    plan = make_plan(design)
    fit = fit_voxels(plan, y, FitOptions())
    plain = conditional_modes(plan, y, fit.D, fit.status)
    moved = conditional_modes(plan, 8 * y + design.X @ [5.0, -3.0, 1.0], fit.D, fit.status)
    scale = np.sqrt(fit.sigma2)[:, None]
    np.testing.assert_allclose(moved.ranef / scale, 8 * plain.ranef / scale, atol=1e-7)
    np.testing.assert_allclose(moved.residuals / scale, 8 * plain.residuals / scale, atol=1e-7)


def test_conditional_modes__refuses_another_designs_estimates():
    design = designs()["slopes"]
    plan = make_plan(design)
    y = responses(design, seed=9, n_voxels=2)
    with pytest.raises(DataError, match="along 'obs'"):
        conditional_modes(plan, y[:, 1:], np.zeros((2, 3)), np.zeros(2, np.int64))
    with pytest.raises(DataError, match="D has shape"):
        conditional_modes(plan, y, np.zeros((2, 2)), np.zeros(2, np.int64))
