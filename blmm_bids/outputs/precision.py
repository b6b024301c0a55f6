"""Which type a map needs on disk: float32, unless that would lose what some voxel holds.

Variances of data at 1e-23, sums of squares of data at 1e20 and q values far in the tail are beyond float32.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

NARROW, WIDE = "float32", "float64"
_RANGE = np.finfo(np.float32)


def beyond_narrow(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Finite values, not zero, that float32 would make infinite or zero or take the digits of."""
    size = np.abs(values)
    return np.asarray(np.isfinite(size) & (size != 0) & ((size > _RANGE.max) | (size < _RANGE.tiny)))


def dtype_for(values: NDArray[Any], dtype: str) -> str:
    """Type on disk of a map with these values, for which ``dtype`` is the usual one."""
    return WIDE if dtype == NARROW and beyond_narrow(values).any() else dtype


def narrowed(values: NDArray[Any]) -> NDArray[Any]:
    """Round to float32 what it holds.

    Returns
    -------
    float32 or float64
        float64 where some value is beyond; the others are rounded there too. Values that are put together
        from such pieces are the same whatever the pieces.
    """
    beyond = beyond_narrow(values)
    if not beyond.any():
        return np.asarray(values, dtype=NARROW)
    return np.where(beyond, values, np.where(beyond, 0.0, values).astype(NARROW))
