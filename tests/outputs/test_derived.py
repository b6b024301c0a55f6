"""Standard deviations, correlations and intraclass correlations agree with their definitions."""

from __future__ import annotations

import numpy as np

from blmm_bids.outputs.derived import varcorr, with_derived
from blmm_bids.stats.model import RandomTerm


def term(group, names):
    return RandomTerm(group, ("a", "b"), np.array([0, 1]), np.ones((2, len(names))), names)


def test_varcorr__equals_the_covariance_matrix_taken_apart():
    rng = np.random.default_rng(3)
    root = rng.normal(size=(3, 3))
    covariance = root @ root.T
    rows, columns = [0, 1, 2, 1, 2, 2], [0, 0, 0, 1, 1, 2]
    D = np.hstack([covariance[rows, columns], [0.25]])[None]
    found = varcorr(D, np.array([4.0]), [term("g", ("a", "b", "c")), term("h", ("Intercept",))])[0]
    deviations = np.sqrt(np.diag(covariance))
    correlations = covariance / np.outer(deviations, deviations)
    wanted = [2 * deviations[r] if r == c else correlations[r, c] for r, c in zip(rows, columns, strict=True)]
    np.testing.assert_allclose(found, [*wanted, 1.0])


def test_varcorr__has_no_correlation_with_an_effect_that_does_not_vary():
    found = varcorr(np.array([[0.0, 0.0, 2.0]]), np.array([1.0]), [term("g", ("a", "b"))])[0]
    assert found[0] == 0
    assert np.isnan(found[1])
    assert found[2] == np.sqrt(2)


def test_with_derived__shares_the_variance_among_crossed_intercepts():
    terms = [term("subject", ("Intercept",)), term("site", ("Intercept",))]
    found = with_derived({"D": np.array([[2.0, 1.0]]), "sigma2": np.array([3.0])}, terms)
    np.testing.assert_allclose(found["icc"], [[0.5, 0.25]])
    assert "icc" not in with_derived({"D": np.ones((1, 3)), "sigma2": np.ones(1)}, [term("g", ("a", "b"))])
    assert with_derived({"sigma2": np.ones(1)}, ()).keys() == {"sigma2"}
