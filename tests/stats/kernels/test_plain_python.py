"""Kernels as plain Python functions: breakpoints and coverage see the very arithmetic that is compiled."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np

from blmm_bids.stats.fit import fit_voxels
from blmm_bids.stats.model import Fit, FitOptions, Status
from blmm_bids.stats.plan import make_plan
from tests.stats.designs import balanced, draw, make_design, make_term, slopes_design, with_missing

CHECKOUT = Path(__file__).parents[3]
NAMES = [field.name for field in fields(Fit) if field.name != "plan"]
# Compiled, a product and a sum may be one operation, which rounds once: some units in the last place.
SAME = 1e-12
# Where a variance is zero, the inverse of an information that is all but singular magnifies them.
SAME_INVERSE = 1e-9


def small_fits():
    """Name and fit of a design of each kind, complete and with missing images."""
    rng = np.random.default_rng(3)
    subject, visit = np.divmod(np.arange(32), 4)
    ones = np.ones(subject.size)
    X = np.column_stack([ones, visit - 1.0])
    within = make_term("subject", subject, ones)
    cases = {
        "intercept": (balanced(8, 3), {}),
        "slopes": (slopes_design(2, 6, 4)[0], {}),
        "crossed": (make_design(X, within, make_term("rater", rng.integers(0, 4, subject.size), ones)), {}),
        "nested": (make_design(X, within, make_term("family", subject // 2, ones)), {"reml": False}),
        "scoring": (balanced(8, 3), {"method": "FS"}),
    }
    for name, (design, options) in cases.items():
        Y = with_missing(np.stack([draw(design, rng, truth) for truth in ("inside", "zero")]), rng, 0.2)
        yield name, fit_voxels(make_plan(design), Y, FitOptions(**options))


def save_fits(path):
    arrays = {f"{name}.{part}": getattr(fit, part) for name, fit in small_fits() for part in NAMES}
    # Whether what was called was a function of Python's.
    from blmm_bids.stats.kernels.search import advance_lanes

    np.savez(path, is_plain=type(advance_lanes) is type(save_fits), **arrays)


def test_kernels__give_the_same_fits_without_compilation(tmp_path):
    path = tmp_path / "plain.npz"
    script = f"from tests.stats.kernels.test_plain_python import save_fits; save_fits({str(path)!r})"
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=CHECKOUT,
        env={**os.environ, "NUMBA_DISABLE_JIT": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    plain = np.load(path)
    assert plain["is_plain"]
    for name, fit in small_fits():
        assert np.isfinite(fit.loglik).all(), name
        assert fit.status[0] == Status.CONVERGED, name
        np.testing.assert_allclose(plain[f"{name}.loglik"], fit.loglik, rtol=SAME, err_msg=name)
        for part in NAMES:
            ours = getattr(fit, part)
            # A variance of zero is whatever is nothing beside the residual variance.
            scale = fit.sigma2 if part == "D" else np.abs(ours)
            rtol = SAME_INVERSE if part == "eta_cov" else SAME
            np.testing.assert_allclose(
                plain[f"{name}.{part}"],
                ours,
                rtol=rtol,
                atol=rtol * np.nanmax(scale, initial=0.0),
                err_msg=f"{name}: {part}",
            )
