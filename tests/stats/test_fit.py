"""Estimates against the dense truth, a slow optimiser, separate fits, and under what must not matter."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from blmm_bids.errors import DataError
from blmm_bids.stats.fit import fit_voxels
from blmm_bids.stats.kernels.deletion import MOST_WAYS
from blmm_bids.stats.model import Design, Fit, FitOptions, RandomTerm, Status
from blmm_bids.stats.plan import make_plan
from tests.stats.brute import best_loglik, dense_fit
from tests.stats.designs import (
    TRUTHS,
    balanced,
    crossed_slopes,
    draw,
    draw_all,
    factor_cases,
    make_design,
    make_term,
    nested_design,
    random_design,
    slopes_design,
    subset,
    with_missing,
)

SEEDS = st.integers(0, 2**32 - 1)
EXAMPLES = settings(max_examples=20)
# Of the objective, times (1 + |l|).
LOGLIK_TOLERANCE = 1e-6
# The same formulas at the same D, in another order of arithmetic.
ALGEBRA = 1e-7
# Two searches that end by the same rule: the error of each is the square root of its tolerance at most.
TWO_SEARCHES = {"rtol": 1e-4, "atol": 1e-5}
# A Newton search takes about ten evaluations, a boundary or variances of 1e6 some tens.
MANY_ITERATIONS = 300
NAMES = [field.name for field in fields(Fit) if field.name != "plan"]


def part_of(fit, voxels):
    return Fit(plan=fit.plan, **{name: getattr(fit, name)[voxels] for name in NAMES})


def fit_design(design, Y, **options):
    return fit_voxels(make_plan(design), np.atleast_2d(Y), FitOptions(**options))


def assert_same_bits(a, b):
    for name in NAMES:
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)


def assert_same_estimates(a, b):
    """Objective first; then what the user sees."""
    gap = np.abs(a.loglik - b.loglik) / (1 + np.abs(a.loglik))
    assert np.nanmax(gap, initial=0) < LOGLIK_TOLERANCE, f"log-likelihoods differ by {gap}"
    stderr = np.sqrt(np.diagonal(a.vcov, axis1=1, axis2=2))
    np.testing.assert_allclose(a.beta / stderr, b.beta / stderr, **TWO_SEARCHES)
    for name in ("sigma2", "resms", "vcov"):
        x, y = getattr(a, name), getattr(b, name)
        np.testing.assert_allclose(
            x, y, rtol=1e-4, atol=1e-6 * np.nanmax(np.abs(x), initial=1e-300), err_msg=name
        )


# Every statistic at the estimated D --------------------------------------------------------------


@pytest.mark.parametrize("reml", [True, False], ids=["REML", "ML"])
@pytest.mark.parametrize("seed", range(10))
def test_fit_voxels__equals_the_dense_formulas(seed, reml):
    rng = np.random.default_rng(seed)
    design = random_design(rng)
    Y = with_missing(draw_all(design, rng), rng)
    fit = fit_design(design, Y, reml=reml)
    assert np.isin(fit.status, (Status.CONVERGED, Status.SINGULAR)).all()
    for v, y in enumerate(Y):
        keep = np.isfinite(y)
        truth = dense_fit(subset(design, keep), y[keep], fit.D[v], reml=reml)
        assert fit.n_obs[v] == keep.sum()
        assert fit.loglik[v] == pytest.approx(truth.loglik, rel=ALGEBRA), TRUTHS[v]
        np.testing.assert_allclose(fit.beta[v], truth.beta, rtol=ALGEBRA, atol=1e-7)
        np.testing.assert_allclose(fit.sigma2[v], truth.sigma2, rtol=1e-6)
        np.testing.assert_allclose(fit.vcov[v], truth.vcov, rtol=1e-6, atol=1e-6 * np.abs(truth.vcov).max())
        np.testing.assert_allclose(fit.resms[v], truth.resms, rtol=1e-6)


# The optimum -------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(36))
def test_fit_voxels__is_at_least_as_likely_as_a_slow_optimisers_fit(seed):
    rng = np.random.default_rng(1000 + seed)
    design = random_design(rng)
    truth = TRUTHS[seed % len(TRUTHS)]
    reml = bool(seed // len(TRUTHS) % 2)
    y = draw(design, rng, truth)
    fit = fit_design(design, y, reml=reml)
    best = best_loglik(design, y, reml=reml, n_starts=2, seed=seed)
    gap = fit.loglik[0] - best
    assert fit.status[0] in (Status.CONVERGED, Status.SINGULAR)
    assert gap > -LOGLIK_TOLERANCE * (1 + abs(best)), (
        f"{gap:.3e} from the best of scipy ({truth}, reml={reml})"
    )


@pytest.mark.parametrize(
    ("factor", "noise"), [pytest.param(*case[1:], id=case[0]) for case in factor_cases()]
)
@pytest.mark.parametrize("reml", [True, False], ids=["REML", "ML"])
def test_fit_voxels__finds_optima_on_and_near_the_boundary(factor, noise, reml):
    design, rng = slopes_design(len(factor))
    (term,) = design.terms
    b = rng.normal(size=(3, term.n_levels, len(factor))) @ factor.T
    noise_part = noise * rng.normal(size=(3, design.n_obs))
    Y = noise_part + np.einsum("oe,voe->vo", term.effects, b[:, term.refs])
    fit = fit_design(design, Y, reml=reml)
    assert fit.n_iter.max() < MANY_ITERATIONS
    for v, y in enumerate(Y):
        best = best_loglik(design, y, reml=reml, n_starts=2)
        gap = fit.loglik[v] - best
        assert gap > -LOGLIK_TOLERANCE * (1 + abs(best)), f"{gap:.3e} from the best of scipy"
        D = np.zeros_like(factor)
        D[np.triu_indices(len(factor))] = fit.D[v]
        smallest = np.linalg.eigvalsh(D, UPLO="U").min()
        assert smallest > -1e-10 * (1 + np.abs(D).max())


def test_fit_voxels__a_last_step_that_was_not_is_made_good():
    # A slope's variance so small that its optimum is on the boundary, or near it, or at neither: there a
    # search is now and then wrong about which step is its last one.
    rng = np.random.default_rng(20_21)
    subject, time = np.repeat(np.arange(50), 4), np.tile(np.arange(4.0), 50)
    one = np.ones(subject.size)
    design = make_design(np.column_stack([one, time]), make_term("subject", subject, one, time))
    effects = rng.normal(size=(6000, 2, 50)) * np.array([0.5, 0.15])[:, None]
    y = rng.normal(size=(6000, 200)) + effects[:, 0, subject] + effects[:, 1, subject] * time
    plan = make_plan(design)
    fit, scored = fit_voxels(plan, y, FitOptions()), fit_voxels(plan, y, FitOptions(method="FS"))
    assert np.isin(fit.status, (Status.CONVERGED, Status.SINGULAR)).all()
    assert (fit.loglik > scored.loglik - LOGLIK_TOLERANCE).all()
    assert fit.n_iter.max() < MANY_ITERATIONS


@pytest.mark.parametrize("scale", [0.0, 1.0, 10.0, 100.0])
@pytest.mark.parametrize("n_effects", [1, 2, 3])
def test_fit_voxels__folding_equal_levels_changes_rounding_only(n_effects, scale):
    design, rng = slopes_design(n_effects)
    site = make_term("site", design.terms[0].refs // 4, np.ones(design.n_obs))
    for terms in (design.terms, (*design.terms, site)):
        each = make_design(design.X, *terms)
        b = scale * rng.normal(size=(10, 12, n_effects))
        Y = np.einsum("oe,voe->vo", design.terms[0].effects, b[:, design.terms[0].refs])
        Y = with_missing(Y + rng.normal(size=Y.shape), rng, share=0.03)
        plan = make_plan(each)
        assert len(plan.passes) > 1
        assert_passes_agree(plan, Y)


@pytest.mark.parametrize("reml", [True, False], ids=["REML", "ML"])
@pytest.mark.parametrize("scale", [0.0, 1.0, 100.0])
@pytest.mark.parametrize("n_effects", [(1, 1), (1, 2), (2, 1), (2, 2), (3, 1)], ids=str)
def test_fit_voxels__folding_nested_terms_together_changes_rounding_only(n_effects, scale, reml):
    design, rng = nested_design(*n_effects)
    subject, family, _ = design.terms
    Y = rng.normal(size=(10, design.n_obs))
    for term in (subject, family):
        b = scale * rng.normal(size=(len(Y), term.n_levels, term.n_effects))
        Y += np.einsum("oe,voe->vo", term.effects, b[:, term.refs])
    Y = with_missing(Y, rng, share=0.03)
    plan = make_plan(design)
    assert [each.fold.part_sizes.size for each in plan.passes] == [2, 1, 1]
    assert_passes_agree(plan, Y, reml=reml)


def assert_passes_agree(plan, Y, **options):
    """Each way of going through the levels, where the voxels that one has no room for go to the next."""
    first, *others = (
        fit_voxels(replace(plan, passes=plan.passes[start:]), Y, FitOptions(**options))
        for start in range(len(plan.passes))
    )
    for other in others:
        np.testing.assert_array_equal(first.status, other.status)
        np.testing.assert_allclose(first.loglik, other.loglik, rtol=0, atol=1e-6)
        assert max(first.n_iter.max(), other.n_iter.max()) < MANY_ITERATIONS


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("reml", [True, False], ids=["REML", "ML"])
def test_fit_voxels__nested_terms_equal_the_dense_formulas_and_a_slow_optimiser(seed, reml):
    design, _ = nested_design(1, 1)
    rng = np.random.default_rng(seed)
    Y = with_missing(draw_all(design, rng), rng)
    fit = fit_design(design, Y, reml=reml, satterthwaite="observed")
    for v, y in enumerate(Y):
        keep = np.isfinite(y)
        present = subset(design, keep)
        truth = dense_fit(present, y[keep], fit.D[v], reml=reml)
        assert fit.loglik[v] == pytest.approx(truth.loglik, rel=ALGEBRA), TRUTHS[v]
        np.testing.assert_allclose(fit.beta[v], truth.beta, rtol=ALGEBRA, atol=1e-7)
        np.testing.assert_allclose(fit.vcov[v], truth.vcov, rtol=1e-6, atol=1e-6 * np.abs(truth.vcov).max())
    v = seed % len(Y)
    keep = np.isfinite(Y[v])
    best = best_loglik(subset(design, keep), Y[v][keep], reml=reml, n_starts=2, seed=seed)
    assert fit.loglik[v] - best > -LOGLIK_TOLERANCE * (1 + abs(best)), TRUTHS[v]


def test_fit_voxels__counts_the_levels_of_both_nested_terms():
    design, rng = nested_design(1, 1)
    subject, family, _ = design.terms
    n = subject.n_levels
    one_of_each = np.unique(subject.refs, return_index=True)[1] + np.arange(n) % 4
    Y = np.full((3, design.n_obs), np.nan)
    # One image a subject; two; and the images of one family.
    Y[0, one_of_each] = Y[1, one_of_each] = rng.normal(size=n)
    Y[1, one_of_each + 1] = rng.normal(size=n)
    alone = np.flatnonzero(family.refs == 1)
    Y[2, alone] = rng.normal(size=alone.size)
    fit = fit_design(design, Y, safe_mode=True)
    assert fit.status[0] == Status.SAFE_MODE
    assert fit.status[1] in (Status.CONVERGED, Status.SINGULAR)
    assert fit.status[2] == Status.ONE_LEVEL


def test_fit_voxels__does_not_mind_units_of_effects():
    design, rng = slopes_design(2)
    y = draw(design, rng, "inside")
    (term,) = design.terms
    in_years = np.column_stack([term.effects[:, 0], 2000 + term.effects[:, 1]])
    other = make_design(in_years, make_term("subject", term.refs, *in_years.T))
    a, b = fit_design(design, y), fit_design(other, y)
    assert a.loglik[0] == pytest.approx(b.loglik[0], rel=LOGLIK_TOLERANCE)
    assert a.sigma2[0] == pytest.approx(b.sigma2[0], rel=1e-5)
    np.testing.assert_allclose(a.beta[0, 1], b.beta[0, 1], rtol=1e-5)
    np.testing.assert_allclose(a.D[0, 2], b.D[0, 2], rtol=1e-4)


# Missing images ----------------------------------------------------------------------------------


def assert_equal_to_fits_of_the_rest(design, Y):
    whole = fit_design(design, Y)
    for v, y in enumerate(Y):
        keep = np.isfinite(y)
        alone = fit_design(subset(design, keep), y[keep])
        one = part_of(whole, slice(v, v + 1))
        assert one.status[0] == alone.status[0]
        assert_same_estimates(alone, one)


@EXAMPLES
@given(SEEDS)
def test_fit_voxels__missing_images_equal_a_fit_of_the_rest(seed):
    rng = np.random.default_rng(seed)
    design = random_design(rng)
    Y = draw(design, rng, "inside") + np.zeros((3, 1))
    Y[rng.random(Y.shape) < 0.15] = np.nan
    assert_equal_to_fits_of_the_rest(design, Y)


@pytest.mark.parametrize(
    "design",
    [
        balanced(14),
        slopes_design(2, 12, 4)[0],
        slopes_design(3)[0],
        crossed_slopes(),
        nested_design(1, 1)[0],
        nested_design(2, 1)[0],
    ],
    ids=["intercept", "slope", "quadratic", "crossed slopes", "families", "families and slopes"],
)
@pytest.mark.parametrize("per_level", [1, 2, 3])
def test_fit_voxels__levels_that_lack_images_equal_a_fit_of_the_rest(design, per_level):
    rng = np.random.default_rng(per_level)
    Y = draw(design, rng, "inside") + np.zeros((4, 1))
    first = design.terms[0]
    for y in Y:
        for level in rng.choice(len(first.levels), len(first.levels) // 2, replace=False):
            y[rng.choice(np.flatnonzero(first.refs == level), per_level, replace=False)] = np.nan
    assert_equal_to_fits_of_the_rest(design, Y)


def test_fit_voxels__any_number_of_kinds_of_levels_may_lack_images():
    # Each kind of subject has visits at times of its own: more ways from class to class than are kept.
    rng = np.random.default_rng(64)
    n_kinds, n_visits = 20, 4
    times = rng.normal(size=(n_kinds, n_visits))
    subject = np.repeat(np.arange(6 * n_kinds), n_visits)
    time = times[np.arange(6 * n_kinds) % n_kinds].ravel()
    one = np.ones(time.size)
    design = make_design(np.column_stack([one, time]), make_term("subject", subject, one, time))
    assert n_kinds * n_visits > MOST_WAYS
    Y = draw(design, rng, "inside") + np.zeros((32, 1))
    for y in Y:
        y[n_visits * rng.choice(6 * n_kinds, 8, replace=False) + rng.integers(0, n_visits, 8)] = np.nan
    assert_equal_to_fits_of_the_rest(design, Y)


# What must not matter ----------------------------------------------------------------------------


# The examples: levels that lose an image in more than one way, first lost by different voxels.
@EXAMPLES
@example(12)
@example(25)
@example(34)
@example(54)
@example(4390)
@given(SEEDS)
def test_fit_voxels__any_split_into_blocks_gives_the_same_bits(seed):
    rng = np.random.default_rng(seed)
    design = random_design(rng, n_obs=40)
    Y = with_missing(np.concatenate([draw_all(design, rng) for _ in range(7)]), rng)
    if rng.random() < 0.5:
        Y = Y.astype(np.float32)
    plan, options = make_plan(design), FitOptions(reml=bool(rng.integers(2)))
    whole = fit_voxels(plan, Y, options)
    cuts = np.sort(rng.choice(np.arange(1, len(Y)), size=4, replace=False))
    parts = [fit_voxels(plan, part, options) for part in np.split(Y, cuts)]
    glued = Fit(
        plan=plan, **{name: np.concatenate([getattr(part, name) for part in parts]) for name in NAMES}
    )
    assert_same_bits(whole, glued)
    row = int(rng.integers(len(Y)))
    alone = fit_voxels(plan, Y[row : row + 1], options)
    assert_same_bits(part_of(whole, slice(row, row + 1)), alone)
    order = rng.permutation(len(Y))
    assert_same_bits(part_of(whole, order), fit_voxels(plan, Y[order], options))


@EXAMPLES
@given(SEEDS)
def test_fit_voxels__order_of_observations_and_levels_does_not_matter(seed):
    rng = np.random.default_rng(seed)
    design = random_design(rng)
    Y = with_missing(np.stack([draw(design, rng, "inside"), draw(design, rng, "zero")]), rng)
    order = rng.permutation(design.n_obs)
    moved = subset(design, order)
    names = [rng.permutation(t.n_levels) for t in moved.terms]
    terms = [
        RandomTerm(t.group, t.levels, name[t.refs], t.effects, t.effect_names)
        for t, name in zip(moved.terms, names, strict=True)
    ]
    other = fit_design(Design(moved.X, moved.fixef_names, tuple(terms)), Y[:, order])
    assert_same_estimates(fit_design(design, Y), other)


@EXAMPLES
@given(SEEDS, st.integers(-40, 40))
def test_fit_voxels__powers_of_two_scale_exactly(seed, power):
    rng = np.random.default_rng(seed)
    design = random_design(rng)
    Y = with_missing(draw_all(design, rng), rng)
    scale = 2.0**power
    a, b = fit_design(design, Y), fit_design(design, Y * scale)
    np.testing.assert_array_equal(a.status, b.status)
    np.testing.assert_array_equal(a.n_iter, b.n_iter)
    np.testing.assert_array_equal(a.D, b.D)
    np.testing.assert_array_equal(a.beta * scale, b.beta)
    np.testing.assert_array_equal(a.sigma2 * scale**2, b.sigma2)
    np.testing.assert_array_equal(a.vcov * scale**2, b.vcov)
    shift = (a.n_obs - design.n_fixef) * np.log(scale)
    np.testing.assert_allclose(a.loglik - shift, b.loglik, rtol=1e-12, atol=1e-9)


@EXAMPLES
@given(SEEDS)
def test_fit_voxels__adding_what_x_explains_moves_beta_only(seed):
    rng = np.random.default_rng(seed)
    design = random_design(rng)
    Y = with_missing(np.stack([draw(design, rng, "inside"), draw(design, rng, "rank one")]), rng)
    gamma = rng.normal(size=design.n_fixef) * 100
    a, b = fit_design(design, Y), fit_design(design, Y + design.X @ gamma)
    shifted = Fit(
        plan=b.plan, **{name: b.beta - gamma if name == "beta" else getattr(b, name) for name in NAMES}
    )
    assert_same_estimates(a, shifted)
    np.testing.assert_allclose(a.D, b.D, rtol=1e-3, atol=1e-4)


def test_fit_voxels__a_mean_far_above_the_noise_costs_no_digits():
    design = balanced(20)
    y = draw(design, np.random.default_rng(5), "inside")
    a, b = fit_design(design, y), fit_design(design, y + 1e6)
    # 1e6 leaves ten digits of y.
    assert a.loglik[0] == pytest.approx(b.loglik[0], abs=1e-6)
    np.testing.assert_allclose(a.D, b.D, rtol=1e-6)


# Statuses ----------------------------------------------------------------------------------------


def status_design():
    """10 subjects of 3 visits, nested in 2 sites; age as a covariate."""
    subject = np.repeat(np.arange(10), 3)
    age = np.tile([0.0, 1.0, 3.0], 10) + 0.1 * subject
    X = np.column_stack([np.ones(30), age, subject % 2])
    return make_design(
        X, make_term("subject", subject, np.ones(30)), make_term("site", subject // 5, np.ones(30))
    )


def only(y, rows):
    kept = np.full_like(y, np.nan)
    kept[rows] = y[rows]
    return kept


def status_cases():
    design = status_design()
    y = np.random.default_rng(1).normal(size=30)
    subject = design.terms[0].refs
    first = subject < 5
    yield "fitted", y, (Status.CONVERGED, Status.SINGULAR)
    yield "constant", np.full(30, 4.5), (Status.CONSTANT,)
    yield "constant where present", only(np.full(30, 4.5), slice(0, 20)), (Status.CONSTANT,)
    yield "zero everywhere", np.zeros(30), (Status.CONSTANT,)
    yield "explained by X", 2 + 3 * design.X[:, 1], (Status.ZERO_RESIDUAL,)
    yield "all missing", np.full(30, np.nan), (Status.TOO_FEW_IMAGES,)
    yield "one image", only(y, [7]), (Status.TOO_FEW_IMAGES,)
    yield "two images", only(y, [7, 20]), (Status.TOO_FEW_IMAGES,)
    yield "as many images as fixed effects and one", only(y, [0, 4, 17, 20]), (Status.TOO_FEW_IMAGES,)
    yield "one sex left", only(y, subject % 2 == 0), (Status.RANK_DEFICIENT,)
    yield "one site left", only(y, first), (Status.ONE_LEVEL,)
    # A visit a subject: as many intercepts as images.
    yield "one visit a subject", only(y, np.arange(30) % 3 == subject % 3), (Status.SAFE_MODE,)


CASES = [pytest.param(y, wanted, id=name) for name, y, wanted in status_cases()]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("y", "wanted"), CASES)
def test_fit_voxels__says_how_a_voxel_ended(y, wanted, dtype):
    # A neighbour that can be fitted must not be disturbed.
    good = np.random.default_rng(2).normal(size=30)
    Y = np.stack([good, y, good]).astype(dtype)
    fit = fit_design(status_design(), Y)
    assert fit.status[1] in wanted, Status(fit.status[1]).name
    assert fit.n_obs[1] == np.isfinite(y).sum()
    assert np.isfinite(fit.beta[1]).all() == Status(int(fit.status[1])).is_fitted
    alone = fit_design(status_design(), Y[:1])
    for row in (0, 2):
        assert_same_bits(part_of(fit, slice(row, row + 1)), alone)
    if not Status(int(fit.status[1])).is_fitted:
        for name in ("beta", "vcov", "sigma2", "D", "loglik", "resms", "eta_cov", "vcov_grad"):
            assert np.isnan(getattr(fit, name)[1]).all(), name


def test_fit_voxels__safe_mode_can_be_turned_off():
    design = make_design(
        np.ones((12, 1)), make_term("subject", np.repeat(np.arange(6), 2), np.ones(12), np.tile([0, 1], 6))
    )
    y = np.random.default_rng(3).normal(size=12)
    assert fit_design(design, y).status[0] == Status.SAFE_MODE
    assert fit_design(design, y, safe_mode=False).status[0] != Status.SAFE_MODE


@pytest.mark.parametrize("max_iter", [1, 2, 3])
def test_fit_voxels__stops_at_max_iter_and_keeps_the_best(max_iter):
    design, rng = slopes_design(3)
    Y = draw_all(design, rng)
    fit = fit_design(design, Y, max_iter=max_iter)
    assert (fit.n_iter <= max_iter + 1).all()
    assert (fit.status == Status.MAX_ITER).any()
    assert np.isfinite(fit.beta).all()
    assert (fit.loglik <= fit_design(design, Y).loglik + 1e-9).all()


@pytest.mark.parametrize("bad", [1e300, -1e300, 1e-300])
def test_fit_voxels__ends_on_extreme_values(bad):
    design = balanced(10)
    y = draw(design, np.random.default_rng(4), "inside")
    fit = fit_design(design, np.stack([np.where(np.arange(y.size) == 3, bad, y), y * abs(bad)]), max_iter=100)
    assert (fit.n_iter <= 101).all()


def test_fit_voxels__no_voxel_and_no_random_term_are_fine():
    design = balanced(10)
    assert fit_design(design, np.zeros((0, design.n_obs))).beta.shape == (0, 3)
    linear = fit_design(make_design(design.X), np.zeros((0, design.n_obs)))
    assert linear.D.shape == (0, 0)


def test_fit_voxels__refuses_another_number_of_observations():
    with pytest.raises(DataError, match=r"40 along 'obs'"):
        fit_voxels(make_plan(balanced(10)), np.zeros((2, 39)), FitOptions())


def test_fit_voxels__float32_is_computed_in_double_precision():
    design = balanced(20)
    y = draw(design, np.random.default_rng(6), "inside").astype(np.float32)
    a, b = fit_design(design, y), fit_design(design, y.astype(np.float64))
    np.testing.assert_array_equal(a.loglik, b.loglik)
    np.testing.assert_array_equal(a.beta, b.beta)
