"""False discovery rates over the voxels of a map."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from blmm_bids.stats.model import FloatArray

if TYPE_CHECKING:
    from blmm_bids.outputs.registry import Adjustment


def q_values(log_p: FloatArray, adjustment: Adjustment) -> FloatArray:
    """Least false discovery rate at which each voxel would be among the discoveries.

    Parameters
    ----------
    log_p : (voxel,)
        -log10 p; NaN where there is no test, which then does not count as one.
    adjustment : {"bh", "by"}
        Benjamini and Hochberg (1995), valid for independent and positively dependent tests; or Benjamini and
        Yekutieli (2001), valid under any dependence.

    Returns
    -------
    (voxel,)
        q, NaN where `log_p` is.
    """
    q = np.full(log_p.shape, np.nan)
    tested = ~np.isnan(log_p)
    if tested.any():
        # Takes most of a second to load; a run without contrasts needs none of it.
        from scipy.stats import false_discovery_control

        p = np.minimum(10.0 ** -log_p[tested], 1.0)
        q[tested] = false_discovery_control(p, method=adjustment)
    return q
