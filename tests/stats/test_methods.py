"""The Fisher scoring methods: a step against the textbook, and the optimum against the default's."""

from __future__ import annotations

from dataclasses import replace

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from blmm_bids.stats.fit import fit_voxels
from blmm_bids.stats.inference import t_maps
from blmm_bids.stats.kernels import criterion, finish, newton, scoring, search, semidefinite, small
from blmm_bids.stats.kernels.newton import allocate_small
from blmm_bids.stats.kernels.scoring import allocate_scoring, score_lanes
from blmm_bids.stats.kernels.search import IDLE, Rules
from blmm_bids.stats.kernels.semidefinite import GAP, allocate_program, minimise
from blmm_bids.stats.methods import UPDATES
from blmm_bids.stats.model import FitOptions, Status
from blmm_bids.stats.plan import make_plan
from tests.models import CLASSIC, classic_design, read_table
from tests.stats.brute import best_loglik, dense_fit, information, score
from tests.stats.designs import (
    balanced,
    draw,
    draw_all,
    factor_cases,
    make_design,
    make_term,
    random_design,
    slopes_design,
    subset,
    with_missing,
)
from tests.stats.workspace import Workspace

METHODS = [method for method in UPDATES if method != "default"]
EACH = pytest.mark.parametrize("method", METHODS)
CRITERIA = pytest.mark.parametrize("reml", [True, False], ids=["REML", "ML"])
# The bar on the log-likelihood.
SAME_OPTIMUM = 1e-6
ROUNDING = 1e-12
FITTED = (Status.CONVERGED, Status.SINGULAR)


def fit_both(plan, Y, method, **options):
    """By the default and by the method."""
    by_default = fit_voxels(plan, Y, FitOptions(**options))
    return by_default, fit_voxels(plan, Y, FitOptions(method=method, **options))


def gaps(plan, Y, method, **options):
    """Log-likelihood above the default's, where the method says that it converged."""
    by_default, fit = fit_both(plan, Y, method, **options)
    assert np.isin(fit.status, (*FITTED, Status.MAX_ITER)).all()
    return np.where(np.isin(fit.status, FITTED), fit.loglik - by_default.loglik, np.inf)


# One step ----------------------------------------------------------------------------------------


def textbook_step(design, y, D, method, reml):
    """D after one step from the profiled beta and sigma2; dense, in the user's own vech or vec D."""
    sigma2 = dense_fit(design, y, D, reml=reml).sigma2
    slope = score(design, y, D, sigma2, reml=reml)
    info = information(design, D, sigma2, restricted=reml)
    duplicate = duplication(design)
    if method.startswith("p"):
        # An off-diagonal element of vec D moves half of what that of vech D does.
        halves = np.linalg.pinv(duplicate)
        slope, info = halves.T @ slope, halves.T @ info @ halves
    if "SFS" in method:
        first = design.terms[0].n_effects
        own = 1 + np.arange(first**2 if method == "pSFS" else first * (first + 1) // 2)
        step = np.zeros_like(slope)
        step[own] = np.linalg.pinv(info[np.ix_(own, own)]) @ slope[own]
    else:
        step = np.linalg.pinv(info) @ slope
    if method.startswith("p"):
        step = np.linalg.pinv(duplicate) @ step
    return D + step[1:]


def duplication(design):
    """(sigma2, vec D_1, ...) of (sigma2, vech D_1, ...)."""
    blocks = [np.ones((1, 1))]
    for term in design.terms:
        q = term.n_effects
        columns, rows = np.triu_indices(q)
        block = np.zeros((q * q, rows.size))
        block[rows + q * columns, np.arange(rows.size)] = 1
        block[columns + q * rows, np.arange(rows.size)] = 1
        blocks.append(block)
    out = np.zeros((sum(b.shape[0] for b in blocks), sum(b.shape[1] for b in blocks)))
    row = col = 0
    for b in blocks:
        out[row : row + b.shape[0], col : col + b.shape[1]] = b
        row, col = row + b.shape[0], col + b.shape[1]
    return out


def crossed_design(rng):
    """Slopes over subjects, crossed with raters; the largest factor first, as it is eliminated."""
    design, _ = slopes_design(2)
    raters = make_term("rater", rng.permutation(np.arange(design.n_obs) % 5), np.ones(design.n_obs))
    return make_design(design.X, *design.terms, raters)


@EACH
@CRITERIA
@pytest.mark.parametrize("crossed", [False, True])
def test_methods__a_step_is_the_textbooks(method, reml, crossed):
    rng = np.random.default_rng(3)
    design = crossed_design(rng) if crossed else slopes_design(2)[0]
    Y = np.stack([draw(design, rng, "inside") for _ in range(40)])
    Y[20:, ::7] = np.nan
    plan = make_plan(design)
    start, after = (fit_voxels(plan, Y, FitOptions(method=method, reml=reml, max_iter=n)) for n in (1, 2))
    n_checked = 0
    for v, y in enumerate(Y):
        keep = np.isfinite(y)
        wanted = textbook_step(subset(design, keep), y[keep], start.D[v], method, reml)
        square = np.zeros((2, 2))
        square[np.triu_indices(2)] = wanted[:3]
        if np.linalg.eigvalsh(square, UPLO="U").min() <= 0 or (wanted[3:] <= 0).any():
            continue
        n_checked += 1
        np.testing.assert_allclose(after.D[v], wanted, rtol=1e-6, atol=1e-8)
    assert n_checked >= 4


# The optimum -------------------------------------------------------------------------------------


@EACH
@pytest.mark.parametrize("seed", range(12))
def test_methods__reach_the_defaults_optimum_on_random_designs(method, seed):
    rng = np.random.default_rng(seed)
    n_other = 0
    for _ in range(3):
        design = random_design(rng)
        Y = with_missing(draw_all(design, rng), rng)
        reml = bool(rng.integers(2))
        plan = make_plan(design)
        by_default, fit = fit_both(plan, Y, method, reml=reml)
        assert np.isin(fit.status, FITTED).all()
        for v in np.flatnonzero(fit.loglik < by_default.loglik - SAME_OPTIMUM):
            # 40 to 60 observations of up to three slopes: the likelihood may have several maxima.
            keep = np.isfinite(Y[v])
            near = best_loglik(subset(design, keep), Y[v][keep], reml=reml, near=fit.D[v])
            assert near < fit.loglik[v] + SAME_OPTIMUM, "not a maximum"
            n_other += 1
    assert n_other <= 1


@EACH
@CRITERIA
@pytest.mark.parametrize(
    ("factor", "noise"), [pytest.param(*case[1:], id=case[0]) for case in factor_cases()]
)
def test_methods__reach_the_defaults_optimum_on_and_near_the_boundary(method, reml, factor, noise):
    design, rng = slopes_design(len(factor))
    (term,) = design.terms
    b = rng.normal(size=(6, term.n_levels, len(factor))) @ factor.T
    Y = noise * rng.normal(size=(6, design.n_obs)) + np.einsum("oe,voe->vo", term.effects, b[:, term.refs])
    plan = make_plan(design)
    for each in (plan, replace(plan, passes=plan.passes[-1:])):
        assert gaps(each, Y, method, reml=reml).min() > -SAME_OPTIMUM


@EACH
@CRITERIA
@pytest.mark.parametrize("scale", [0.0, 1.0, 100.0])
def test_methods__reach_the_defaults_optimum_of_crossed_and_nested_factors(method, reml, scale):
    design, rng = slopes_design(2)
    subject, ones = design.terms[0].refs, np.ones(design.n_obs)
    for other in (make_term("site", subject // 4, ones), make_term("rater", np.arange(ones.size) % 5, ones)):
        b = scale * rng.normal(size=(10, 12, 2))
        Y = np.einsum("oe,voe->vo", design.terms[0].effects, b[:, subject])
        Y = with_missing(Y + rng.normal(size=Y.shape), rng, share=0.03)
        plan = make_plan(make_design(design.X, *design.terms, other))
        assert len(plan.passes) == 2
        for each in (plan, replace(plan, passes=plan.passes[1:])):
            assert gaps(each, Y, method, reml=reml).min() > -SAME_OPTIMUM


@EACH
@CRITERIA
@pytest.mark.parametrize("name", [name for name in CLASSIC if name != "insteval_crossed"])
def test_methods__converge_on_published_data(method, reml, name, shared_data):
    root = shared_data / "classic"
    design, y = classic_design(CLASSIC[name], read_table(root, CLASSIC[name].data))
    options = {"reml": reml, "satterthwaite": "observed"}
    by_default, fit = fit_both(make_plan(design), y[None], method, **options)
    np.testing.assert_array_equal(fit.status, by_default.status)
    np.testing.assert_allclose(fit.loglik, by_default.loglik, rtol=0, atol=SAME_OPTIMUM)
    # What follows from the optimum is computed there, not on the way to it.
    np.testing.assert_allclose(fit.vcov, by_default.vcov, rtol=1e-3, atol=1e-9)
    last = np.eye(design.n_fixef)[-1]
    np.testing.assert_allclose(t_maps(fit, last)["dof"], t_maps(by_default, last)["dof"], rtol=1e-2)


def faces(root):
    """36 real images: 12 subjects under 3 conditions; nearly two thousand voxels."""
    paths = sorted(root.glob("faces/sub-*/func/*_stat-effect_statmap.nii.gz"))
    Y = np.stack([np.asarray(nib.load(path).dataobj).ravel() for path in paths], axis=1)
    subject = np.unique([path.name.split("_")[0] for path in paths], return_inverse=True)[1]
    ones = np.ones(len(paths))
    X = np.column_stack([ones, *([basis in path.name for path in paths] for basis in ("temp", "disp"))])
    return make_design(X, make_term("subject", subject, ones)), Y[np.isfinite(Y).all(1) & (Y != 0).all(1)]


def sleepstudy(root):
    """18 subjects on 10 days; 30 voxels."""
    paths = sorted(root.glob("sleepstudy/sub-*/ses-*/func/*_statmap.nii.gz"))
    tables = {path: pd.read_csv(path, sep="\t") for path in root.glob("sleepstudy/sub-*/*_sessions.tsv")}
    days = {
        (path.parent.name, row.session_id): row.Days
        for path, rows in tables.items()
        for row in rows.itertuples()
    }
    names = [path.name.split("_") for path in paths]
    time = np.array([days[name[0], name[1]] for name in names], dtype=float)
    subject = np.unique([name[0] for name in names], return_inverse=True)[1]
    Y = np.stack([np.asarray(nib.load(path).dataobj).ravel() for path in paths], axis=1)
    X = np.column_stack([np.ones(time.size), time])
    return make_design(X, make_term("subject", subject, *X.T)), Y


@EACH
@CRITERIA
@pytest.mark.parametrize("dataset", [faces, sleepstudy])
def test_methods__converge_on_images(method, reml, dataset, shared_data):
    design, Y = dataset(shared_data)
    by_default, fit = fit_both(make_plan(design), Y, method, reml=reml)
    assert len(Y) >= 30
    np.testing.assert_array_equal(fit.status, by_default.status)
    np.testing.assert_allclose(fit.loglik, by_default.loglik, rtol=0, atol=SAME_OPTIMUM)


# The loop ----------------------------------------------------------------------------------------


@EACH
def test_methods__stop_at_max_iter_and_keep_the_best(method):
    design, rng = slopes_design(3)
    Y = draw_all(design, rng)
    plan = make_plan(design)
    best = fit_voxels(plan, Y, FitOptions()).loglik
    before = np.full(len(Y), -np.inf)
    for max_iter in range(1, 12):
        fit = fit_voxels(plan, Y, FitOptions(method=method, max_iter=max_iter))
        assert (fit.n_iter <= max_iter).all()
        assert np.isin(fit.status, (*FITTED, Status.MAX_ITER)).all()
        assert (fit.status == Status.MAX_ITER).any() or max_iter > 3
        # Steps that are worse are taken back.
        assert (fit.loglik >= before - 1e-9).all()
        assert (fit.loglik <= best + SAME_OPTIMUM).all()
        before = np.where(fit.status == Status.MAX_ITER, fit.loglik, -np.inf)


@EACH
def test_methods__do_not_depend_on_the_split_into_blocks(method):
    rng = np.random.default_rng(8)
    design = crossed_design(rng)
    Y = with_missing(np.concatenate([draw_all(design, rng) for _ in range(4)]), rng)
    plan, options = make_plan(design), FitOptions(method=method)
    whole = fit_voxels(plan, Y, options)
    for row in (0, 5, 23):
        alone = fit_voxels(plan, Y[row : row + 1], options)
        for name in ("loglik", "beta", "D", "eta_cov", "n_iter"):
            np.testing.assert_array_equal(getattr(alone, name)[0], getattr(whole, name)[row], err_msg=name)


@EACH
def test_methods__fit_without_random_terms_and_where_nothing_can_be_fitted(method):
    design = balanced(10)
    y = draw(design, np.random.default_rng(1), "inside")
    Y = np.stack([y, np.full_like(y, 3.0), design.X @ np.ones(design.n_fixef), np.full_like(y, np.nan)])
    for each in (design, make_design(design.X)):
        by_default, fit = fit_both(make_plan(each), Y, method)
        np.testing.assert_array_equal(fit.status, by_default.status)
        np.testing.assert_allclose(fit.loglik, by_default.loglik, rtol=0, atol=SAME_OPTIMUM)


@EACH
@pytest.mark.parametrize("bad", [1e300, -1e300, 1e-300])
def test_methods__end_on_extreme_values(method, bad):
    design = balanced(10)
    y = draw(design, np.random.default_rng(4), "inside")
    Y = np.stack([np.where(np.arange(y.size) == 3, bad, y), y * abs(bad)])
    fit = fit_voxels(make_plan(design), Y, FitOptions(method=method, max_iter=100))
    assert (fit.n_iter <= 100).all()


@pytest.fixture
def python_bodies(monkeypatch):
    """Kernels call the Python bodies of others: compiled, these have no way in from Python."""
    for module in (criterion, finish, newton, scoring, search, semidefinite, small):
        for name, value in vars(module).copy().items():
            if hasattr(value, "py_func"):
                monkeypatch.setattr(module, name, value.py_func)


@EACH
def test_score_lanes__halves_a_step_until_the_criterion_gets_better(method, python_bodies):
    design, rng = slopes_design(2)
    plan = make_plan(design)
    lanes = 8
    room, steps = allocate_small(plan.n_theta, plan.n_fixef), allocate_scoring(plan.n_theta, lanes)
    rules = Rules(True, 1e-6, 100, True, False, True, 1e-16, plan.log_det_R, **UPDATES[method]._asdict())
    y = draw(design, rng, "inside")
    space = Workspace(plan, np.tile(y, (lanes, 1)), rules)
    k, state = space.k, space.search
    state.phase[1:] = IDLE

    def matrix():
        factor = np.zeros((2, 2))
        factor[np.triu_indices(2)] = k.theta[:, 0]
        return factor.T @ factor

    def advance():
        score_lanes.py_func(plan.structure, plan.R_inv, rules, k, space.fl, state, room, steps, space.out)

    start = matrix()
    space.evaluate()
    advance()
    full = matrix()
    assert np.abs(full - start).max() > 0.1
    for share in (0.5, 0.25, 0.125):
        # Whatever the trial point is like, make it look worse.
        space.evaluate()
        k.value[0] = state.value[0] + 1.0
        k.rss[0] = max(k.rss[0], 1.0)
        advance()
        np.testing.assert_allclose(matrix(), start + share * (full - start), rtol=1e-9, atol=1e-12)
    best = state.value[0]
    space.evaluate()
    advance()
    assert state.value[0] < best
    assert state.radius[0] == 1.0


# The step that stays in the cone -----------------------------------------------------------------


def packed(matrix):
    columns, rows = np.triu_indices(len(matrix))
    return matrix[rows, columns] * np.where(rows == columns, 1, np.sqrt(2))


def unpacked(vector, q):
    columns, rows = np.triu_indices(q)
    out = np.zeros((q, q))
    out[rows, columns] = vector / np.where(rows == columns, 1, np.sqrt(2))
    return out + np.tril(out, -1).T


@pytest.mark.parametrize("pseudo", [False, True])
@pytest.mark.parametrize("sizes", [(1,), (2,), (3,), (1, 1, 1), (2, 1), (3, 2, 1)])
def test_minimise__meets_the_first_order_conditions(sizes, pseudo, python_bodies):
    rng = np.random.default_rng(sum(sizes))
    n = sum(q * (q + 1) // 2 for q in sizes)
    for _ in range(4):
        rotation = np.linalg.qr(rng.normal(size=(n, n)))[0]
        matrix = (rotation * np.geomspace(1, 30, n)) @ rotation.T
        slope = rng.normal(size=n) * 10
        roots = [rng.normal(size=(q, int(rng.integers(0, q + 1)))) for q in sizes]
        start = np.concatenate([packed(root @ root.T) for root in roots])
        program = allocate_program(n)
        program.matrix[:], program.slope[:], program.start[:] = matrix, slope, start
        gain, left = minimise.py_func(np.array(sizes), 0, len(sizes), pseudo, program)
        step = program.best - start
        assert gain == pytest.approx(-(slope @ step + step @ matrix @ step / 2), rel=1e-9, abs=1e-12)
        assert -ROUNDING * left <= left - gain <= 2 * GAP * left
        first, slack = 0, slope + matrix @ step
        for q in sizes:
            here = slice(first, first + q * (q + 1) // 2)
            point, multiplier = unpacked(program.best[here], q), unpacked(slack[here], q)
            assert np.linalg.eigvalsh(point).min() > -1e-12
            # The gap is half the residual's square in the inverse matrix, whose smallest eigenvalue is 1/30.
            assert np.linalg.eigvalsh(multiplier).min() > -np.sqrt(2 * 30 * 2 * GAP * left)
            first = here.stop


def test_minimise__pseudo_leaves_the_null_space_alone(python_bodies):
    matrix = np.array([[2.0, 2.0], [2.0, 2.0]])
    program = allocate_program(2)
    program.matrix[:], program.slope[:], program.start[:] = matrix, [-1.0, -0.5], [5.0, 5.0]
    minimise.py_func(np.array([1, 1]), 0, 2, True, program)
    np.testing.assert_allclose(program.best - 5, np.linalg.pinv(matrix) @ [1.0, 0.5], rtol=1e-9)
