"""Memory that is used again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray


class KeptMatrix:
    """Memory of a matrix, taken anew only where it is too small.

    Given back after each use, that of large matrices comes from the system page by page each time, which
    takes longer than to fill it.
    """

    def __init__(self) -> None:
        self._memory = np.empty(0, dtype=np.uint8)

    def rows(self, n_rows: int, n_columns: int, dtype: DTypeLike) -> NDArray[Any]:
        """(row, column) C-contiguous, with whatever values; in the place of the one before."""
        n_bytes = n_rows * n_columns * np.dtype(dtype).itemsize
        if n_bytes > self._memory.size:
            # Never both at one time.
            self._memory = np.empty(0, dtype=np.uint8)
            self._memory = np.empty(n_bytes, dtype=np.uint8)
        return self._memory[:n_bytes].view(dtype).reshape(n_rows, n_columns)
