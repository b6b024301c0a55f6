"""The criterion, its score and its Hessian, against dense algebra and finite differences."""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blmm_bids.stats.kernels.search import Rules
from blmm_bids.stats.kernels.small import cholesky, cholesky_solve, jacobi_eigh
from blmm_bids.stats.model import Design, RandomTerm
from blmm_bids.stats.plan import make_plan
from tests.stats.brute import dense_fit, factors_of
from tests.stats.designs import draw, make_design, make_term, random_design
from tests.stats.workspace import Workspace

SEEDS = st.integers(0, 2**32 - 1)
EXAMPLES = settings(max_examples=30)
# Two exact ways of computing the same number.
ALGEBRA = 1e-9
# Central differences of step 1e-4 on numbers of order 1 to 1000, Richardson-extrapolated.
DIFFERENCES = 1e-6
LANES = 8
PATHS = pytest.mark.parametrize("by_class", [False, True], ids=["level by level", "by classes"])


class Loaded:
    """One voxel's statistics in every lane, and its criterion as a function of theta."""

    def __init__(self, design, y, *, reml=True, by_class=False):
        self.design, self.y, self.reml = design, y, reml
        self.plan = plan = make_plan(design)
        n = int(np.isfinite(y).sum())
        self.nu = n - design.n_fixef if reml else n
        rules = Rules(reml, 1e-6, 100, False, False, True, 0.0, plan.log_det_R)
        room = Workspace(plan, np.tile(y, (LANES, 1)), rules, which_pass=0 if by_class else -1)
        assert room.n_loaded == LANES
        self.k, self.evaluate, self.scale = room.k, room.evaluate, room.search.scale[0]

    def __call__(self, theta):
        """Deviance in the last lane; `slopes` look at the first."""
        self.k.theta[:] = np.asarray(theta)[:, None]
        self.evaluate()
        return self.k.value[LANES - 1]

    def slopes(self, theta):
        """Gradient and Hessian by the kernels."""
        self(theta)
        lower = np.tril(self.k.hess[:, :, 0])
        return self.k.grad[:, 0].copy(), lower + np.tril(lower, -1).T

    def loglik(self, theta):
        """Log-likelihood in units of the data."""
        constant = self.nu * (1 + np.log(2 * np.pi / self.nu)) + 2 * self.nu * np.log(self.scale[0])
        return -(self(theta) + constant + 2 * self.reml * self.plan.log_det_R) / 2


def random_problem(seed, *, by_class=False):
    rng = np.random.default_rng(seed)
    design = foldable_design(rng) if by_class else random_design(rng, n_obs=40)
    y = draw(design, rng, "inside")
    y[rng.permutation(y.size)[: rng.integers(6)]] = np.nan
    problem = Loaded(design, y, reml=bool(rng.integers(2)), by_class=by_class)
    theta = rng.normal(size=problem.plan.n_theta)
    # Saddle points and boundaries belong to the domain.
    theta[rng.random(theta.size) < 0.15] = 0.0
    return problem, theta


def foldable_design(rng):
    """Subjects seen at the same visits, alone, nested in sites or crossed with raters."""
    n_visits = int(rng.integers(2, 5))
    subject = np.repeat(np.arange(14), n_visits)
    time = np.tile(np.arange(n_visits) - 1.0, 14)
    one = np.ones(subject.size)
    X = np.column_stack([one, time, *rng.normal(size=(int(rng.integers(0, 2)), subject.size))])
    slopes = [time, time**2][: int(rng.integers(0, min(3, n_visits)))]
    others = [
        make_term("site", subject // 4, one, *([time] if rng.random() < 0.5 else [])),
        make_term("rater", rng.permutation(np.arange(subject.size) % 3), one),
    ]
    return make_design(X, make_term("subject", subject, one, *slopes), *others[: int(rng.integers(0, 3))])


def on_the_users_scale(problem, theta):
    """D (vech, terms in the design's order) of conditioned factors in elimination order."""
    plan = problem.plan
    ordered = Design(
        problem.design.X, problem.design.fixef_names, tuple(problem.design.terms[k] for k in plan.term_order)
    )
    blocks = {}
    for k, rotation, factor in zip(plan.term_order, plan.rotations, factors_of(theta, ordered), strict=True):
        half = rotation @ factor
        blocks[k] = (half @ half.T)[np.triu_indices(len(half))]
    return np.concatenate([blocks[k] for k in sorted(blocks)])


def present(design, y):
    """The design and data of the rows that have a value."""
    keep = np.isfinite(y)
    terms = [
        RandomTerm(t.group, t.levels, t.refs[keep], t.effects[keep], t.effect_names) for t in design.terms
    ]
    return Design(design.X[keep], design.fixef_names, tuple(terms)), y[keep]


def derivative(function, theta, step=1e-4):
    """Richardson-extrapolated central differences along each theta."""
    rows = []
    for direction in np.eye(theta.size) * step:
        near = (function(theta + direction) - function(theta - direction)) / (2 * step)
        far = (function(theta + 2 * direction) - function(theta - 2 * direction)) / (4 * step)
        rows.append((4 * near - far) / 3)
    return np.array(rows)


@PATHS
@EXAMPLES
@given(seed=SEEDS)
def test_evaluate__value_is_the_dense_likelihood(seed, by_class):
    problem, theta = random_problem(seed, by_class=by_class)
    D = on_the_users_scale(problem, theta)
    wanted = dense_fit(*present(problem.design, problem.y), D, reml=problem.reml).loglik
    assert problem.loglik(theta) == pytest.approx(wanted, rel=ALGEBRA)


@PATHS
@EXAMPLES
@given(seed=SEEDS)
def test_evaluate__score_and_hessian_are_finite_differences(seed, by_class):
    problem, theta = random_problem(seed, by_class=by_class)
    grad, hess = problem.slopes(theta)
    scale = 1 + np.abs(grad).max()
    np.testing.assert_allclose(grad / scale, derivative(problem, theta) / scale, atol=DIFFERENCES)
    columns = derivative(lambda at: problem.slopes(at)[0], theta)
    scale = 1 + np.abs(hess).max()
    np.testing.assert_allclose(hess / scale, columns / scale, atol=DIFFERENCES)


@PATHS
@EXAMPLES
@given(seed=SEEDS)
def test_evaluate__tangents_of_the_border_are_finite_differences(seed, by_class):
    problem, theta = random_problem(seed, by_class=by_class)

    def border(at):
        problem(at)
        return np.append(problem.k.border[:, 0], problem.k.rss[0])

    problem(theta)
    tangents = np.column_stack([problem.k.d_border[:, :, 0], problem.k.d_rss[:, 0]])
    scale = 1 + np.abs(tangents).max()
    np.testing.assert_allclose(tangents / scale, derivative(border, theta) / scale, atol=DIFFERENCES)


@PATHS
def test_evaluate__lanes_do_not_see_each_other(by_class):
    problem, theta = random_problem(3, by_class=by_class)
    alone = problem(theta), problem.k.grad[:, LANES - 1].copy()
    problem.k.theta[:] = 17.0
    problem.k.theta[:, 1] = theta
    problem.evaluate()
    assert problem.k.value[1] == alone[0]
    np.testing.assert_array_equal(problem.k.grad[:, 1], alone[1])


# Compiled, these have no way in from Python.
@pytest.mark.parametrize("scale", [1.0, 1e-150, 1e120])
def test_jacobi_eigh__equals_lapack(scale):
    rng = np.random.default_rng(1)
    for size in (1, 2, 3, 6):
        a = rng.normal(size=(size, size))
        a = (a + a.T) * scale
        work, vectors = a.copy(), np.zeros((size, size))
        with inner_functions(jacobi_eigh):
            jacobi_eigh.py_func(work, size, vectors)
        np.testing.assert_allclose(
            np.sort(np.diag(work)), np.linalg.eigvalsh(a), rtol=1e-10, atol=1e-12 * scale
        )
        np.testing.assert_allclose(vectors @ np.diag(np.diag(work)) @ vectors.T, a, atol=1e-12 * scale * size)


def test_cholesky__solves_and_says_when_it_cannot():
    root = np.random.default_rng(2).normal(size=(5, 3))
    a = root.T @ root
    factor, x = a.copy(), np.array([1.0, -2.0, 3.0])
    assert cholesky.py_func(factor, 3, 1e-10)
    cholesky_solve.py_func(factor, 3, x)
    np.testing.assert_allclose(a @ x, [1.0, -2.0, 3.0], rtol=1e-12)
    root[:, 2] = root[:, 0] - root[:, 1]
    assert not cholesky.py_func(root.T @ root, 3, 1e-10)
    assert not cholesky.py_func(np.full((1, 1), np.nan), 1, 0.0)


@contextmanager
def inner_functions(function):
    """Let a kernel's Python body call the Python bodies of the kernels it names."""
    names = function.py_func.__globals__
    compiled = {
        name: names[name]
        for name in function.py_func.__code__.co_names
        if hasattr(names.get(name), "py_func")
    }
    names.update({name: kernel.py_func for name, kernel in compiled.items()})
    try:
        yield
    finally:
        names.update(compiled)
