"""Other software on the same voxels: seconds and log-likelihoods, REML.

Each function takes ``(design, values)``, values complete, and raises `AbsentError` with the reason where it
can't take part.
"""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.lmer import fit_with_r, missing_r, random_formula

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from blmm_bids.stats.model import Design, FloatArray


class AbsentError(Exception):
    """A peer can't take part; the message says why."""


@dataclass(frozen=True, eq=False)
class PeerFits:
    """What a peer made of some voxels.

    Attributes
    ----------
    seconds : float
        CPU seconds a voxel.
    loglik : (voxel,)
        Restricted log-likelihood; NaN where it gave up.
    unconverged : int or None
        Voxels that it says it did not converge at, given up ones among them; None where it does not say.
    """

    seconds: float
    loglik: FloatArray
    unconverged: int | None


def fit_lme4(design: Design, values: NDArray[np.floating]) -> PeerFits:
    """Fit with the formula parsed once, and without lme4's check of derivatives at the end."""
    reason = missing_r("refit")
    if reason is not None:
        raise AbsentError(reason)
    found = fit_with_r(design, values, "refit")
    return PeerFits(float(found[:, 0].mean()), found[:, 1], None)


def fit_lme_python(design: Design, values: NDArray[np.floating]) -> PeerFits:
    """Fit with prepared matrices, the package's own way for many responses."""
    lme_python, polars = _module("lme_python"), _module("polars")
    columns: dict[str, Any] = dict(zip(design.fixef_names[1:], design.X.T[1:], strict=True))
    columns |= {term.group: [term.levels[ref] for ref in term.refs] for term in design.terms}
    formula = f"y ~ {' + '.join(design.fixef_names[1:])} + {random_formula(design)}"
    prepared = lme_python.prepare_lmer(formula, polars.DataFrame({"y": values[0].astype(float), **columns}))
    loglik = np.full(len(values), np.nan)
    unconverged = 0
    start = time.process_time()
    for voxel, y in enumerate(values.astype(float)):
        fit = prepared.fit(y, reml=True)
        loglik[voxel] = fit.log_likelihood
        unconverged += not fit.converged
    return PeerFits((time.process_time() - start) / len(values), loglik, unconverged)


def fit_statsmodels(design: Design, values: NDArray[np.floating]) -> PeerFits:
    """Fit MixedLM with its default optimisers; one grouping factor only."""
    if len(design.terms) > 1:
        msg = "since MixedLM takes crossed factors only as one dense group of all images"
        raise AbsentError(msg)
    (term,) = design.terms
    mixed_lm = _module("statsmodels.regression.mixed_linear_model").MixedLM
    loglik = np.full(len(values), np.nan)
    unconverged = 0
    start = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for voxel, y in enumerate(values.astype(float)):
            try:
                fit = mixed_lm(y, design.X, term.refs, term.effects).fit(reml=True)
            except np.linalg.LinAlgError:
                unconverged += 1
                continue
            loglik[voxel] = fit.llf
            unconverged += not fit.converged
    return PeerFits((time.process_time() - start) / len(values), loglik, unconverged)


def _module(name: str) -> Any:  # noqa: ANN401
    try:
        return import_module(name)
    except ImportError as error:
        package = name.partition(".")[0].replace("_", "-")
        msg = f"{package} is not installed (make bench does; or pip install blmm-bids[bench])"
        raise AbsentError(msg) from error


PEERS = {"lme4": fit_lme4, "lme-python": fit_lme_python, "statsmodels MixedLM": fit_statsmodels}
