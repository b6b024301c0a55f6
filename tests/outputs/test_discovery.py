"""False discovery rates are those of the definition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.multitest import multipletests

from blmm_bids.outputs.discovery import q_values

# p goes through a power of ten and back.
RELATIVE = 1e-12


@pytest.mark.parametrize(("ours", "theirs"), [("bh", "fdr_bh"), ("by", "fdr_by")])
@given(log_p=st.lists(st.floats(0, 300), min_size=1, max_size=40))
def test_q_values__equal_statsmodels(ours, theirs, log_p):
    log_p = np.array(log_p)
    wanted = multipletests(10.0**-log_p, method=theirs)[1]
    np.testing.assert_allclose(q_values(log_p, ours), wanted, rtol=RELATIVE)


def test_q_values__count_only_what_was_tested():
    log_p = np.array([3.0, np.nan, 1.0, np.inf])
    q = q_values(log_p, "bh")
    assert np.isnan(q[1])
    np.testing.assert_allclose(q[[0, 2, 3]], [0.0015, 0.1, 0.0], rtol=RELATIVE)
    assert np.isnan(q_values(np.array([np.nan]), "by")).all()


def test_q_values__brute_force():
    rng = np.random.default_rng(3)
    p = rng.uniform(size=30)
    wanted = [min(p[p >= p[i]] * 30 / np.array([(p <= x).sum() for x in p[p >= p[i]]])) for i in range(30)]
    np.testing.assert_allclose(q_values(-np.log10(p), "bh"), np.minimum(wanted, 1), rtol=RELATIVE)
