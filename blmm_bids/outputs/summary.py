"""Counts over all voxels, made while the blocks pass by."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from blmm_bids.outputs.derived import BlockResult
from blmm_bids.outputs.records import ContrastSummary
from blmm_bids.stats.model import Contrast, IntArray

_SMALL_LOG_P = 3.0


class Tally:
    """Running counts of one fit.

    Parameters
    ----------
    contrasts : sequence of Contrast
        In the order of the block results.
    """

    def __init__(self, contrasts: Sequence[Contrast]) -> None:
        self._contrasts = tuple(contrasts)
        self._statuses: Counter[int] = Counter()
        self._largest = [float("nan")] * len(contrasts)
        self._n_voxels = [0] * len(contrasts)
        self._n_small_p = [0] * len(contrasts)
        self._n_missing: IntArray | None = None

    def add(self, block: BlockResult) -> None:
        """Count one block."""
        codes, counts = np.unique(np.asarray(block["status"], dtype=np.int64), return_counts=True)
        self._statuses.update(dict(zip(codes.tolist(), counts.tolist(), strict=True)))
        for index, contrast in enumerate(self._contrasts):
            self._add_contrast(index, contrast, block)
        if "missing" in block:
            missing = np.asarray(block["missing"], dtype=np.int64)
            self._n_missing = missing if self._n_missing is None else self._n_missing + missing

    def _add_contrast(self, index: int, contrast: Contrast, block: BlockResult) -> None:
        statistic = np.abs(np.asarray(block[f"c{index}_{contrast.test}"], dtype=np.float64))
        answered = ~np.isnan(statistic)
        self._n_voxels[index] += int(answered.sum())
        if answered.any():
            self._largest[index] = float(np.fmax(self._largest[index], statistic[answered].max()))
        log_p = block.get(f"c{index}_logp2" if contrast.test == "t" else f"c{index}_logp")
        if log_p is not None:
            self._n_small_p[index] += int((np.asarray(log_p, dtype=np.float64) > _SMALL_LOG_P).sum())

    @property
    def status_counts(self) -> dict[int, int]:
        """Voxels by status code, ascending."""
        return dict(sorted(self._statuses.items()))

    @property
    def n_missing(self) -> IntArray | None:
        """(obs,) voxels without a value in each image; None where the blocks do not say."""
        return self._n_missing

    @property
    def contrasts(self) -> tuple[ContrastSummary, ...]:
        """One summary a contrast."""
        return tuple(
            ContrastSummary(contrast.name, contrast.test, largest, n_voxels, n_small_p)
            for contrast, largest, n_voxels, n_small_p in zip(
                self._contrasts, self._largest, self._n_voxels, self._n_small_p, strict=True
            )
        )
