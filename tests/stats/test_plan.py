from __future__ import annotations

import pickle

import numpy as np
import pytest

from blmm_bids.errors import DataError
from blmm_bids.stats.plan import WIDTH, make_plan
from tests.stats.designs import make_design, make_term, random_design

# Products of a few dozen rounded numbers.
ROUNDING = 1e-12
SUBJECT = np.repeat(np.arange(8), 3)
N_OBS = SUBJECT.size
ONE = np.ones(N_OBS)
YEAR = 2000.0 + np.tile([0.0, 1.5, 4.0], 8)


def test_make_plan__orthonormalises_x_and_can_go_back():
    X = np.column_stack([ONE, YEAR, YEAR**2 / 1e3])
    plan = make_plan(make_design(X))
    np.testing.assert_allclose(plan.Q.T @ plan.Q, np.eye(3), atol=ROUNDING)
    np.testing.assert_allclose(X @ plan.R_inv, plan.Q, atol=1e-6)
    assert plan.log_det_R == pytest.approx(np.log(np.linalg.svd(X)[1]).sum(), abs=1e-6)


def test_make_plan__conditions_the_effects_of_a_term():
    plan = make_plan(make_design(ONE[:, None], make_term("subject", SUBJECT, ONE, YEAR)))
    np.testing.assert_allclose(plan.effects.T @ plan.effects / N_OBS, np.eye(2), atol=1e-9)
    (rotation,) = plan.rotations
    assert rotation[0, 1] == 0
    np.testing.assert_allclose(np.column_stack([ONE, YEAR]) @ rotation, plan.effects, atol=1e-9)


def test_make_plan__eliminates_the_term_with_most_levels_first():
    site = SUBJECT % 2
    design = make_design(ONE[:, None], make_term("site", site, ONE), make_term("subject", SUBJECT, ONE, YEAR))
    plan = make_plan(design)
    assert plan.term_order == (1, 0)
    assert plan.n_levels.tolist() == [8, 2]
    assert plan.n_theta == 4
    assert plan.structure.obs_cols[:, 1].tolist() == (16 + site).tolist()


@pytest.mark.parametrize("seed", range(12))
def test_make_plan__pattern_of_the_factor_covers_its_fill(seed):
    rng = np.random.default_rng(seed)
    design = random_design(rng)
    plan = make_plan(design)
    s = plan.structure
    n_ranef = design.n_ranef
    Z = np.zeros((design.n_obs, n_ranef))
    first = 0
    for k, each in enumerate(plan.term_order):
        for e in range(design.terms[each].n_effects):
            Z[np.arange(design.n_obs), s.obs_cols[:, k] + e] = plan.effects[:, first + e]
        first += design.terms[each].n_effects
    factor = np.linalg.cholesky(Z.T @ Z + np.eye(n_ranef))
    for column in range(n_ranef):
        rows = s.row_idx[s.col_ptr[column] : s.col_ptr[column + 1]]
        assert (np.diff(rows) > 0).all()
        needed = column + 1 + np.flatnonzero(np.abs(factor[column + 1 :, column]) > ROUNDING)
        assert set(needed) <= set(rows)
        assert rows[-design.n_fixef - 1 :].tolist() == list(range(n_ranef, n_ranef + design.n_fixef + 1))


def test_make_plan__one_factor_of_intercepts_has_no_fill():
    plan = make_plan(make_design(ONE[:, None], make_term("subject", SUBJECT, ONE)))
    # Each of 8 columns meets only X and y; X meets y.
    assert plan.structure.row_idx.size == 8 * 2 + 1


def test_make_plan__survives_a_pickle():
    plan = make_plan(make_design(ONE[:, None], make_term("subject", SUBJECT, ONE)))
    copy = pickle.loads(pickle.dumps(plan))
    np.testing.assert_array_equal(copy.structure.row_idx, plan.structure.row_idx)
    np.testing.assert_array_equal(copy.Q, plan.Q)
    assert [each.lanes for each in copy.passes] == [each.lanes for each in plan.passes]
    assert min(each.lanes for each in plan.passes) >= WIDTH
    assert copy.work_bytes > 0


@pytest.mark.parametrize(
    ("X", "terms", "words"),
    [
        (np.column_stack([ONE, YEAR, YEAR - 2 * ONE]), (), r"x0, x1, x2.*linearly dependent"),
        (ONE[:, None], (make_term("subject", SUBJECT, YEAR, 3 * YEAR),), r"'subject'.*linearly dependent"),
        (ONE[:, None], (make_term("subject", SUBJECT, 0 * ONE),), r"'subject'.*linearly dependent"),
    ],
    ids=["X", "effects", "an effect of zeros"],
)
@pytest.mark.filterwarnings("ignore:invalid value")
def test_make_plan__refuses_dependent_columns(X, terms, words):
    with pytest.raises(DataError, match=words):
        make_plan(make_design(X, *terms))
