"""Leverage is the hat matrix's diagonal, and odd images are found."""

from __future__ import annotations

import numpy as np

from blmm_bids.report.images import far_from_median, hat_values, short_names


def test_hat_values__are_the_diagonal_of_the_projection():
    X = np.column_stack([np.ones(9), np.arange(9.0), np.random.default_rng(1).normal(size=9)])
    wanted = np.diag(X @ np.linalg.inv(X.T @ X) @ X.T)
    np.testing.assert_allclose(hat_values(X), wanted, rtol=1e-10)


def test_far_from_median__finds_the_odd_one_and_survives_missing_and_equal_values():
    values = np.array([1.0, 1.1, 0.9, 1.05, np.nan, 9.0])
    assert far_from_median(values).tolist() == [False] * 5 + [True]
    assert not far_from_median(np.full(4, np.nan)).any()
    assert not far_from_median(np.full(4, 2.0)).any()


def test_short_names__leave_out_what_is_the_same():
    names = [f"sub-0{s}_ses-{e}_task-nback_stat-effect_statmap.nii.gz" for s in (1, 2) for e in (1, 2)]
    assert short_names(names)[:2] == ["subject 01 session 1", "subject 01 session 2"]
    assert short_names(["a.nii", "b.nii"]) == ["a.nii", "b.nii"]
    assert short_names(names[:1] * 2) == names[:1] * 2
