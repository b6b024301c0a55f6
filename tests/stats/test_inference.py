"""T and F statistics with their dfs: dense truth, textbook designs, ordinary least squares, far tails."""

from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm
from scipy import stats

from blmm_bids.stats.fit import fit_voxels
from blmm_bids.stats.inference import contrast_maps, denominator_df, f_maps, t_maps
from blmm_bids.stats.model import Contrast, FitOptions, Status
from blmm_bids.stats.plan import make_plan
from tests.stats.brute import (
    containment_df,
    fai_cornelius,
    information,
    observed_information,
    orthonormal_rows,
    satterthwaite_df,
    vcov_gradient,
)
from tests.stats.designs import balanced, draw, draw_all, make_design, make_term, random_design

# The same formulas in other coordinates. A boundary D is raised by 1e-6 of the conditioned effects' scale.
EXPECTED_DF = 1e-4
# Finite differences of the log-likelihood, at an optimum that two searches know to 1e-4.
OBSERVED_DF = 2e-3
TEXTBOOK_DF = 1e-4


def fit_design(design, Y, **options):
    return fit_voxels(make_plan(design), np.atleast_2d(Y), FitOptions(**options))


def dense_inference(design, y, fit, v, choice, *, reml):
    """vcov's gradient and the covariance of eta at the fitted values."""
    D, sigma2 = fit.D[v], fit.sigma2[v]
    if choice == "observed":
        inner = observed_information(design, y, D, sigma2, reml=reml)
    else:
        inner = information(design, D, sigma2, restricted=reml and choice == "expected")
    return vcov_gradient(design, D, sigma2), np.linalg.inv(inner)


def interior_voxels(design, fit):
    """Voxels whose D is well inside: finite differences must not step over the edge."""
    for v in np.flatnonzero(fit.status == Status.CONVERGED):
        first, inside = 0, True
        for term in design.terms:
            q = term.n_effects
            D = np.zeros((q, q))
            D[np.triu_indices(q)] = fit.D[v, first : first + q * (q + 1) // 2]
            first += q * (q + 1) // 2
            values = np.linalg.eigvalsh(D, UPLO="U")
            inside &= bool(values.min() > 0.05 * max(values.max(), 0.2))
        if inside:
            yield v


@pytest.mark.parametrize("reml", [True, False], ids=["REML", "ML"])
@pytest.mark.parametrize("choice", ["expected", "ml-expected", "observed"])
@pytest.mark.parametrize("seed", range(8))
def test_satterthwaite__equals_the_dense_formulas(seed, choice, reml):
    rng = np.random.default_rng(seed)
    design = random_design(rng, max_terms=2)
    Y = draw_all(design, rng)
    fit = fit_design(design, Y, reml=reml, satterthwaite=choice)
    voxels = list(interior_voxels(design, fit)) if choice == "observed" else range(len(Y))
    L = rng.normal(size=(min(2, design.n_fixef), design.n_fixef))
    t, f = t_maps(fit, L[0]), f_maps(fit, L)
    tolerance = OBSERVED_DF if choice == "observed" else EXPECTED_DF
    # X has covariates, whose units the df of F must not depend on.
    rows = orthonormal_rows(L, design) if design.n_fixef > 1 else L
    floors = [0, 0] if choice == "observed" else [containment_df(design, L[:1]), containment_df(design, L)]
    for v in voxels:
        gradient, eta_cov = dense_inference(design, Y[v], fit, v, choice, reml=reml)
        df = satterthwaite_df(L[0], fit.vcov[v], gradient, eta_cov)
        if choice != "observed":
            df = max(df, floors[0])
        assert t["dof"][v] == pytest.approx(df, rel=tolerance), fit.D[v]
        assert t["variance"][v] == pytest.approx(L[0] @ fit.vcov[v] @ L[0], rel=1e-9)
        assert t["t"][v] == pytest.approx(L[0] @ fit.beta[v] / np.sqrt(t["variance"][v]), rel=1e-9)
        F, df2, r2 = fai_cornelius(rows, fit.beta[v], fit.vcov[v], gradient, eta_cov, floors[1])
        assert f["F"][v] == pytest.approx(F, rel=1e-7)
        assert f["dof"][v] == pytest.approx(df2, rel=10 * tolerance)
        assert f["partialR2"][v] == pytest.approx(r2, rel=10 * tolerance)


# Balanced designs have dfs that one can count ----------------------------------------------------


def balanced_voxels(design, n_voxels=60):
    """D from 0 to 5, with voxels whose estimate is zero."""
    rng = np.random.default_rng(7)
    subject = design.terms[0].refs
    sds = np.linspace(0, np.sqrt(5), n_voxels)
    return np.stack([rng.normal(size=subject.size) + sd * rng.normal(size=50)[subject] for sd in sds])


@pytest.mark.parametrize("reml", [True, False], ids=["REML", "ML"])
@pytest.mark.parametrize(("choice", "textbook"), [("expected", 47.0), ("ml-expected", 50.0)])
def test_satterthwaite__balanced_designs_give_the_textbook_df(choice, textbook, reml):
    design = balanced()
    fit = fit_design(design, balanced_voxels(design), satterthwaite=choice, reml=reml)
    assert (fit.D[:, 0] == 0).any() or (fit.D[:, 0] < 1e-8).any()
    assert fit.D[:, 0].max() > 3
    # The expected information is that of the criterion that was maximised.
    wanted = textbook if reml else 50.0
    rng = np.random.default_rng(8)
    for weights in (*np.eye(3), rng.normal(size=3)):
        np.testing.assert_allclose(t_maps(fit, weights)["dof"], wanted, rtol=TEXTBOOK_DF)
    # Rows of one stratum have one df, so F's is the same.
    for rows in (np.eye(3)[1:], rng.normal(size=(2, 3)), np.eye(3)):
        np.testing.assert_allclose(f_maps(fit, rows)["dof"], wanted, rtol=TEXTBOOK_DF)


def test_satterthwaite__within_subject_df_is_the_residuals():
    between = balanced()
    subject = between.terms[0].refs
    visit = np.tile([-1.5, -0.5, 0.5, 1.5], 50)
    design = make_design(np.column_stack([between.X, visit]), *between.terms)
    fit = fit_design(design, balanced_voxels(between))
    within = t_maps(fit, np.array([0, 0, 0, 1.0]))["dof"]
    np.testing.assert_allclose(within, subject.size - 50 - 1, rtol=TEXTBOOK_DF)
    np.testing.assert_allclose(t_maps(fit, np.array([0, 1.0, 0, 0]))["dof"], 47, rtol=TEXTBOOK_DF)


# Without random terms it is the linear model -----------------------------------------------------


@pytest.mark.parametrize("choice", ["expected", "ml-expected", "observed"])
def test_contrast_maps__no_random_terms_equal_statsmodels_ols(choice):
    rng = np.random.default_rng(9)
    X = np.column_stack([np.ones(25), rng.normal(size=(25, 2)) + 50])
    Y = rng.normal(size=(4, 25)) + X @ [1.0, 0.1, -0.3]
    Y[1, [3, 7]] = np.nan
    design = make_design(X)
    fit = fit_design(design, Y, satterthwaite=choice)
    ml = fit_design(design, Y, satterthwaite=choice, reml=False)
    L = np.array([[0, 1.0, 0], [0, 1.0, -2.0]])
    t, f = (contrast_maps(fit, Contrast("c", rows, test)) for rows, test in ((L[1:], "t"), (L, "F")))
    assert (fit.status == Status.CONVERGED).all()
    for v, y in enumerate(Y):
        keep = np.isfinite(y)
        ols = sm.OLS(y[keep], X[keep]).fit()
        np.testing.assert_allclose(fit.beta[v], ols.params, rtol=1e-8)
        np.testing.assert_allclose(fit.vcov[v], ols.cov_params(), rtol=1e-8)
        assert fit.sigma2[v] == pytest.approx(ols.mse_resid, rel=1e-10)
        assert fit.resms[v] == pytest.approx(ols.mse_resid, rel=1e-10)
        assert ml.loglik[v] == pytest.approx(ols.llf, rel=1e-10)
        one, joint = ols.t_test(L[1]), ols.f_test(L)
        assert t["t"][v] == pytest.approx(one.tvalue.item(), rel=1e-8)
        assert t["se"][v] == pytest.approx(one.sd.item(), rel=1e-8)
        assert f["F"][v] == pytest.approx(float(joint.fvalue), rel=1e-7)
        # The information of ML counts n where the residual has n - p.
        if choice != "ml-expected":
            assert 10 ** -t["logp2"][v] == pytest.approx(one.pvalue.item(), rel=1e-6)
            assert f["p"][v] == pytest.approx(float(joint.pvalue), rel=1e-6)
            assert t["dof"][v] == pytest.approx(ols.df_resid, rel=1e-9)
            assert f["dof"][v] == pytest.approx(ols.df_resid, rel=1e-9)


# What must not matter, and edges -----------------------------------------------------------------


def test_f_maps__does_not_mind_how_l_is_written():
    rng = np.random.default_rng(10)
    design = random_design(np.random.default_rng(4))
    X = np.column_stack([np.ones(design.n_obs), rng.normal(size=(design.n_obs, 2))])
    design = make_design(X, *design.terms)
    fit = fit_design(design, draw_all(design, rng))
    L = rng.normal(size=(2, 3))
    rotation = np.linalg.qr(rng.normal(size=(2, 2)))[0]
    plain, rotated, scaled = (f_maps(fit, rows) for rows in (L, rotation @ L, np.diag([1.0, 7.0]) @ L))
    redundant = f_maps(fit, np.vstack([L, L[0] + L[1]]))
    for other in (rotated, scaled, redundant):
        np.testing.assert_allclose(other["F"], plain["F"], rtol=1e-8)
    np.testing.assert_allclose(rotated["dof"], plain["dof"], rtol=1e-6)
    one, t = f_maps(fit, L[:1]), t_maps(fit, L[0])
    np.testing.assert_allclose(one["F"], t["t"] ** 2, rtol=1e-10)
    np.testing.assert_allclose(one["dof"], t["dof"], rtol=1e-10)
    np.testing.assert_allclose(one["logp"], t["logp2"], rtol=1e-8)


@pytest.mark.parametrize(
    ("one_row", "wanted"),
    [
        ([10.0, 10.0], 10.0),
        ([10.0, 10.0 + 1e-9], 10.0),
        ([2.0, 50.0], 2.0),
        ([1.5, 50.0], 2.0),
        # E = 10/8 + 20/18; df = 2E/(E - 2).
        ([10.0, 20.0], 2 * (10 / 8 + 20 / 18) / (10 / 8 + 20 / 18 - 2)),
    ],
)
def test_denominator_df__combines_as_fai_and_cornelius_do(one_row, wanted):
    assert denominator_df(np.array([one_row]))[0] == pytest.approx(wanted, rel=1e-9)


def test_t_maps__tails_stay_finite_and_signed():
    design = balanced()
    y = draw(design, np.random.default_rng(11), "zero")
    Y = y + np.array([0.0, 50.0, -50.0, 1e8])[:, None]
    t = t_maps(fit_design(design, Y), np.array([1.0, 0, 0]))
    assert np.isfinite(np.stack(list(t.values()))).all()
    np.testing.assert_allclose(
        t["logp"][:2], -stats.t.logsf(t["t"][:2], t["dof"][:2]) / np.log(10), rtol=1e-6
    )
    assert t["logp"][3] > 300
    assert t["logp"][2] == pytest.approx(0, abs=1e-12)
    assert (np.sign(t["z"]) == np.sign(t["t"])).all()
    assert (np.diff(t["z"][[2, 0, 1, 3]]) > 0).all()


def test_contrast_maps__are_nan_where_nothing_was_fitted():
    design = balanced(10)
    Y = np.stack([draw(design, np.random.default_rng(12), "inside"), np.full(design.n_obs, np.nan)])
    fit = fit_design(design, Y)
    for test, L in (("t", np.eye(3)[:1]), ("F", np.eye(3)[1:])):
        for name, values in contrast_maps(fit, Contrast("c", L, test)).items():
            assert np.isfinite(values[0]), name
            assert np.isnan(values[1]), name


def test_contrast_maps__bits_do_not_depend_on_the_block():
    rng = np.random.default_rng(13)
    design = random_design(np.random.default_rng(6))
    design = make_design(
        np.column_stack([np.ones(design.n_obs), rng.normal(size=(design.n_obs, 2))]), *design.terms
    )
    Y = np.concatenate([draw_all(design, rng) for _ in range(5)])
    plan, L = make_plan(design), rng.normal(size=(2, 3))
    for test, rows in (("t", L[:1]), ("F", L)):
        contrast = Contrast("c", rows, test)
        whole = contrast_maps(fit_voxels(plan, Y, FitOptions()), contrast)
        parts = [
            contrast_maps(fit_voxels(plan, part, FitOptions()), contrast) for part in np.split(Y, [1, 4, 17])
        ]
        for name, values in whole.items():
            np.testing.assert_array_equal(
                values, np.concatenate([part[name] for part in parts]), err_msg=name
            )


def test_satterthwaite__unidentified_variances_give_a_df_or_nan_but_never_a_wrong_number():
    # Two factors with the same levels: only the sum of their variances is known.
    subject = np.repeat(np.arange(20), 3)
    term = make_term("subject", subject, np.ones(60))
    design = make_design(np.ones((60, 1)), term, make_term("twin", subject, np.ones(60)))
    y = draw(design, np.random.default_rng(14), "inside")
    single = fit_design(make_design(np.ones((60, 1)), term), y)
    double = fit_design(design, y)
    assert double.loglik[0] == pytest.approx(single.loglik[0], rel=1e-7)
    wanted = t_maps(single, np.ones(1))["dof"][0]
    df = t_maps(double, np.ones(1))["dof"][0]
    # The gradient lies in the information's range: the df is that of the sum.
    assert df == pytest.approx(wanted, rel=1e-3)
