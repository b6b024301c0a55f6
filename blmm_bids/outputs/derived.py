"""Maps that follow from others: standard deviations, correlations, intraclass correlations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from blmm_bids.outputs.naming import is_intercept_model
from blmm_bids.stats.model import FloatArray, RandomTerm

BlockResult = Mapping[str, NDArray[np.generic]]


def with_derived(block: BlockResult, terms: Sequence[RandomTerm]) -> dict[str, NDArray[np.generic]]:
    """Add ``varcorr`` and, for intercept models, ``icc`` to the results of one block."""
    results = dict(block)
    if terms and "D" in block and "sigma2" in block:
        D = np.asarray(block["D"], dtype=np.float64)  # noqa: N806
        results["varcorr"] = varcorr(D, np.asarray(block["sigma2"], dtype=np.float64), terms)
        if is_intercept_model(terms):
            results["icc"] = D / (1 + D.sum(axis=1, keepdims=True))
    return results


def varcorr(D: FloatArray, sigma2: FloatArray, terms: Sequence[RandomTerm]) -> FloatArray:  # noqa: N803
    """Turn relative covariances into standard deviations and correlations, as lme4's ``VarCorr`` does.

    Parameters
    ----------
    D : (voxel, vech)
        Covariances relative to sigma2.
    sigma2 : (voxel,)
        Residual variance.
    terms : sequence of RandomTerm
        Random terms in the order of `D`.

    Returns
    -------
    (voxel, vech)
        ``sqrt(sigma2 D_aa)`` on the diagonal, ``D_ab / sqrt(D_aa D_bb)`` off it; a correlation with an
        effect of variance zero is NaN.
    """
    result = np.full(D.shape, np.nan)
    start = 0
    for term in terms:
        n_effects = term.n_effects
        pairs = [(row, column) for column in range(n_effects) for row in range(column, n_effects)]
        variance = {row: D[:, start + i] for i, (row, column) in enumerate(pairs) if row == column}
        for i, (row, column) in enumerate(pairs):
            if row == column:
                result[:, start + i] = np.sqrt(sigma2 * np.maximum(variance[row], 0))
                continue
            scale = np.sqrt(np.maximum(variance[row] * variance[column], 0))
            np.divide(D[:, start + i], scale, out=result[:, start + i], where=scale > 0)
        start += len(pairs)
    return result
