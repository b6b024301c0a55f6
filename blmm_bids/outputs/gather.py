"""Gather one batch of images into a part file; runs on a worker."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from blmm_bids.images.masks import image_mask
from blmm_bids.images.reader import MissingRule, VoxelReader, mark_missing
from blmm_bids.outputs.atomic import load_arrays, save_arrays
from blmm_bids.outputs.kept import KeptMatrix
from blmm_bids.outputs.parts import write_part

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from blmm_bids.images.blocks import Span

IMAGE_STATS = ("n_present", "n_inf", "mean", "variance", "minimum", "maximum")
# Voxels at which zeros are looked for: few enough to cost nothing, enough for shares to 0.1 %.
_MOST_SAMPLED = 16_384


@dataclass(frozen=True, eq=False)
class GatherBatch:
    """What a worker needs to gather one batch.

    Attributes
    ----------
    path : Path
        Of the part to write; its summary goes beside it.
    first_obs : int
        Place of the first image in the design.
    images : tuple of Path
        One an observation.
    masks : tuple of tuple of Path
        Each image's masks (their intersection counts); empty where it has none.
    identities : tuple of str
        What each image's header said when the run was planned.
    digest : str
        Hash of what the part's values depend on.
    """

    path: Path
    first_obs: int
    images: tuple[Path, ...]
    masks: tuple[tuple[Path, ...], ...]
    identities: tuple[str, ...]
    digest: str


@dataclass(frozen=True, eq=False)
class GatherTask:
    """What all batches of a gather share.

    Attributes
    ----------
    shape : tuple of int
        Of the images' grid.
    voxels : (voxel,) int64
        Candidate voxels, flat, C order.
    blocks : tuple of Span
        Blocks of candidate voxels.
    dtype : str
        ``float32`` or ``float64``, for all parts alike.
    rule : MissingRule
        What counts as missing.
    affine : (4, 4) float64, optional
        Of the images' grid, to which files stored with other axes are flipped.
    """

    shape: tuple[int, int, int]
    voxels: NDArray[np.int64]
    blocks: tuple[Span, ...]
    dtype: str
    rule: MissingRule
    affine: NDArray[np.float64] | None = None

    @cached_property
    def reader(self) -> VoxelReader:
        """Of the candidate voxels."""
        return VoxelReader(self.shape, self.voxels, self.affine)

    def matrix(self, n_obs: int) -> NDArray[np.floating[Any]]:
        """(obs, voxel) without values; the next one takes its place."""
        return self._kept.rows(n_obs, len(self.voxels), self.dtype)

    @cached_property
    def _kept(self) -> KeptMatrix:
        return KeptMatrix()


@dataclass(frozen=True, eq=False)
class GatherSummary:
    """What a batch held.

    Attributes
    ----------
    first_obs : int
        Place of the batch's first image in the design.
    counts : (voxel,) int32
        Images with a value, at each candidate voxel.
    n_present, n_inf : (obs,) int64
        Values of each image, and infinite values that count as missing.
    mean, variance, minimum, maximum : (obs,) float64
        Of each image's values; NaN without any. Variance with denominator n.
    zeros : (obs, byte) uint8
        Whether each image is 0, inside its masks, at the voxels of `sampled_voxels`; a bit each.
    """

    first_obs: int
    counts: NDArray[np.int32]
    n_present: NDArray[np.int64]
    n_inf: NDArray[np.int64]
    mean: NDArray[np.float64]
    variance: NDArray[np.float64]
    minimum: NDArray[np.float64]
    maximum: NDArray[np.float64]
    zeros: NDArray[np.uint8]


def sampled_voxels(n_voxels: int) -> NDArray[np.int64]:
    """Voxels, evenly spread over all candidates, at which zeros are counted."""
    n_sampled = min(n_voxels, _MOST_SAMPLED)
    return np.arange(n_sampled, dtype=np.int64) * n_voxels // max(n_sampled, 1)


def gather_part(batch: GatherBatch, task: GatherTask) -> GatherSummary:
    """Read a batch's images once and write them voxel-major.

    The summary is written before the part, so a part that exists has its summary.

    Raises
    ------
    DataError, MissingInputError
        Names the image that cannot be used.
    StorageError
        The part cannot be written.
    """
    reader, n_obs = task.reader, len(batch.images)
    values = task.matrix(n_obs)
    counts = np.zeros(len(task.voxels), dtype=np.int32)
    stats: dict[str, Any] = {
        name: np.zeros(n_obs, dtype=np.int64 if name.startswith("n_") else np.float64) for name in IMAGE_STATS
    }
    sampled = sampled_voxels(len(task.voxels))
    zeros = np.zeros((n_obs, -(-len(sampled) // 8)), dtype=np.uint8)
    mask_key: tuple[Path, ...] = ()
    inside: NDArray[np.bool_] | None = None
    for obs, (image, masks) in enumerate(zip(batch.images, batch.masks, strict=True)):
        # Neighbouring images often share their mask; one is kept, not all of them.
        if masks != mask_key:
            mask_key, inside = masks, image_mask(reader, masks) if masks else None
        row = values[obs]
        reader.read_into(row, image, batch.identities[obs])
        is_zero = row[sampled] == 0
        zeros[obs] = np.packbits(is_zero if inside is None else is_zero & inside[sampled])
        stats["n_inf"][obs] = mark_missing(row, task.rule, inside)
        present = ~np.isnan(row)
        counts += present
        _describe(row, present, stats, obs)
    summary = GatherSummary(batch.first_obs, counts, **stats, zeros=zeros)
    arrays = {"first_obs": np.int64(batch.first_obs), "counts": counts, "zeros": zeros, **stats}
    save_arrays(summary_path(batch.path), arrays)
    write_part(batch.path, values, task.blocks, batch.first_obs, batch.digest)
    return summary


def read_summary(part_path: Path) -> GatherSummary:
    """Summary of a part gathered earlier.

    Raises
    ------
    StorageError
        Absent or damaged.
    """
    arrays = load_arrays(summary_path(part_path), ("first_obs", "counts", "zeros", *IMAGE_STATS))
    stats: dict[str, Any] = {name: arrays[name] for name in ("zeros", *IMAGE_STATS)}
    return GatherSummary(int(arrays["first_obs"]), arrays["counts"], **stats)


def summary_path(part_path: Path) -> Path:
    """Where the summary of a part is."""
    return part_path.with_suffix(".npz")


def _describe(
    row: NDArray[np.floating[Any]], present: NDArray[np.bool_], stats: dict[str, NDArray[Any]], obs: int
) -> None:
    """Fill one image's numbers in."""
    kept = row[present]
    stats["n_present"][obs] = kept.size
    if not kept.size:
        for name in ("mean", "variance", "minimum", "maximum"):
            stats[name][obs] = np.nan
        return
    stats["minimum"][obs], stats["maximum"][obs] = kept.min(), kept.max()
    # Widened once, for numpy would do it in each sum, buffer by buffer.
    centred = kept.astype(np.float64)
    stats["mean"][obs] = mean = centred.mean()
    centred -= mean
    np.square(centred, out=centred)
    stats["variance"][obs] = centred.mean()
