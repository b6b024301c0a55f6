"""What the stages take and hand on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blmm_bids.images.blocks import Span, WorkPlan, split_evenly
from blmm_bids.images.grid import CheckedImages
from blmm_bids.images.reader import MissingRule
from blmm_bids.outputs.kept import KeptMatrix
from blmm_bids.outputs.workdir import StageDir
from blmm_bids.stats.model import Contrast, Design, FitOptions, IntArray
from blmm_bids.stats.plan import DesignPlan

# Maps of a series that the driver reads at one time; while one slab replaces another both are in memory.
SLAB_BYTES = 32 * 2**20
SERIES_ITEMSIZE = 4
# Results of a voxel that are single numbers, and the most that a contrast has.
N_SCALARS, N_CONTRAST_MAPS = 7, 9

BlockResult = dict[str, NDArray[Any]]


@dataclass(frozen=True, eq=False)
class Problem:
    """One fit, before any image is read.

    Attributes
    ----------
    design : Design
        A row an image.
    contrasts : tuple of Contrast
    options : FitOptions
    images : tuple of Path
    masks : tuple of tuple of Path
        The masks of each image; several are intersected.
    mask : (voxel,) bool or None
        Explicit mask over the whole grid, flat in C order.
    rule : MissingRule
        What counts as missing.
    min_images : int
        A voxel with fewer images is outside of the analysis mask.
    series : tuple of str
        Quantities with a map a level or an image to keep as well: ``ranef``, ``residuals``.
    """

    design: Design
    contrasts: tuple[Contrast, ...]
    options: FitOptions
    images: tuple[Path, ...]
    masks: tuple[tuple[Path, ...], ...]
    mask: NDArray[np.bool_] | None
    rule: MissingRule
    min_images: int
    series: tuple[str, ...] = ()

    def n_series_maps(self, key: str) -> int:
        """Count the maps that a series has."""
        return self.design.n_ranef if key == "ranef" else self.design.n_obs

    def series_slabs(self, n_voxels: int) -> dict[str, tuple[Span, ...]]:
        """Cut each series into maps that are kept and read together; series without a map are left out."""
        n_together = max(SLAB_BYTES // (SERIES_ITEMSIZE * max(n_voxels, 1)), 1)
        slabs = {key: split_evenly(self.n_series_maps(key), n_together) for key in self.series}
        return {key: spans for key, spans in slabs.items() if spans}


@dataclass(frozen=True, eq=False)
class Prepared:
    """A problem with its headers checked and its work cut up.

    Attributes
    ----------
    problem : Problem
    checked : CheckedImages
        Grid, type and identity of the images.
    voxels : (voxel,) int64
        Candidates for the analysis mask: flat, C order, ascending.
    plan : DesignPlan
        Design made ready.
    work : WorkPlan
        Batches and blocks.
    digest : str
        Hash of what all parts depend on.
    batch_digests : tuple of str
        Hash of what the part of each batch depends on.
    """

    problem: Problem
    checked: CheckedImages
    voxels: IntArray
    plan: DesignPlan
    work: WorkPlan
    digest: str
    batch_digests: tuple[str, ...]

    @property
    def results_bytes(self) -> int:
        """Bytes on disk of all results of the fit: block by block, and laid out map by map."""
        p, m = self.plan.n_fixef, self.plan.n_theta
        doubles = p + p * p + m + N_SCALARS + N_CONTRAST_MAPS * len(self.problem.contrasts)
        return 2 * 8 * doubles * self.voxels.size


@dataclass(frozen=True, eq=False)
class Gathered:
    """The parts of a problem.

    Attributes
    ----------
    stage : StageDir
    parts : tuple of Path
        One a batch, in the order of the images.
    counts : (voxel,) int64
        Images with a value at each candidate.
    images : dict of (obs,) arrays
        What each image held: ``n_present``, ``n_inf``, ``mean``, ``variance``, ``zero_share`` …
    warnings : tuple of str
        What the user should know of the images' values.
    """

    stage: StageDir
    parts: tuple[Path, ...]
    counts: IntArray
    images: dict[str, NDArray[Any]]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Fitted:
    """The results of a problem, a file a block.

    Attributes
    ----------
    prepared : Prepared
    gathered : Gathered
    stage : StageDir
    keep : (voxel,) bool
        Which candidates are in the analysis mask.
    """

    prepared: Prepared
    gathered: Gathered
    stage: StageDir
    keep: NDArray[np.bool_]

    @property
    def voxels(self) -> IntArray:
        """Analysis mask: flat, C order, ascending."""
        return self.prepared.voxels[self.keep]

    @property
    def spans(self) -> list[Span]:
        """Blocks of candidates with a voxel in the mask."""
        return [span for span in self.prepared.work.blocks if self.n_voxels(span)]

    def n_voxels(self, span: Span) -> int:
        """Count a block's voxels in the mask."""
        return int(self.keep[span.start : span.stop].sum())

    def block(self, span: Span, names: tuple[str, ...] | None = None) -> tuple[IntArray, BlockResult]:
        """Voxels of a block that are in the mask, and their results."""
        voxels = self.prepared.voxels[span.start : span.stop][self.keep[span.start : span.stop]]
        return voxels, self.stage.load_result(span.index, names)

    def blocks(self, names: tuple[str, ...] | None = None) -> Iterator[tuple[IntArray, BlockResult]]:
        """Voxels and results of every block, in order."""
        return (self.block(span, names) for span in self.spans)

    def slabs(self, key: str) -> Iterator[NDArray[np.floating]]:
        """Read a series' maps (map, voxel), one run after the other; float64 if some value needs it."""
        n_voxels = int(self.keep.sum())
        for slab in self.prepared.problem.series_slabs(n_voxels)[key]:
            values: NDArray[np.floating] = np.empty((slab.size, n_voxels), dtype=np.float32)
            first = 0
            for span in self.spans:
                name = slab_name(slab)
                part = self.stage.load_result(span.index, (name,), kind=key)[name]
                if part.dtype.itemsize > values.dtype.itemsize:
                    values = values.astype(part.dtype)
                values[:, first : first + part.shape[1]] = part
                first += part.shape[1]
            yield values


@dataclass(frozen=True, eq=False)
class FitTask:
    """What all blocks of a fit share.

    Attributes
    ----------
    plan, options, contrasts
        The model.
    parts : tuple of Path
    stage : StageDir
        Where results go.
    keep : (voxel,) bool
        Analysis mask among the candidates.
    slabs : Mapping
        Runs of maps of each series that is kept.
    """

    plan: DesignPlan
    options: FitOptions
    contrasts: tuple[Contrast, ...]
    parts: tuple[Path, ...]
    stage: StageDir
    keep: NDArray[np.bool_]
    slabs: Mapping[str, tuple[Span, ...]] = field(default_factory=dict)

    @cached_property
    def kept(self) -> KeptMatrix:
        """Memory for the values of a block, used again by the next."""
        return KeptMatrix()

    def is_done(self, block: int) -> bool:
        """Whether a block's results, and its part of every series, are there and whole."""
        kinds = ("block", *self.slabs)
        return all(self.stage.is_result_done(block, kind) for kind in kinds)


def slab_name(slab: Span) -> str:
    """Key of a run of maps among a block's results."""
    return f"maps{slab.index}"
