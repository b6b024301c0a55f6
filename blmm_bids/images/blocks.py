"""How the work is cut: images into batches, voxels into blocks, under a memory budget.

Pure arithmetic. The cut never changes a result, only what is in memory at one time.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from blmm_bids.errors import UsageError

# A worker before its first task: interpreter, numpy, scipy, nibabel, numba, distributed.
WORKER_BASE_BYTES = 220 * 2**20
# What allocators keep for themselves and what this arithmetic forgets.
_SAFETY = 0.85
# Larger matrices gain nothing, and an interrupted batch is lost whole.
_MAX_BATCH_BYTES = 128 * 2**20
_MAX_BLOCK_VOXELS = 16_384
# Kernels run this many voxels side by side; ragged blocks would waste lanes.
_LANES = 64
# Finishing together needs a few units of work a worker.
_BATCHES_PER_WORKER = 2
_BLOCKS_PER_WORKER = 8
# At its end a stage waits for half a block on average; with few workers that is much of all.
_LEAST_BLOCKS = 32
_INDEX_BYTES = 8


@dataclass(frozen=True)
class Span:
    """A run of images (a batch) or of candidate voxels (a block).

    Attributes
    ----------
    index : int
        Place among its siblings.
    start, stop : int
        Half-open range.
    """

    index: int
    start: int
    stop: int

    @property
    def size(self) -> int:
        """Number of members."""
        return self.stop - self.start


def split_evenly(total: int, size: int, multiple: int = 1) -> tuple[Span, ...]:
    """Cut ``range(total)`` into the fewest spans of at most ``size``, of nearly equal length.

    Parameters
    ----------
    total : int
        Number of members; none give no span.
    size : int
        Longest span wanted; rounded up to ``multiple``.
    multiple : int
        Every span but the last has a multiple of this length.
    """
    if total <= 0:
        return ()
    n_units, units = _ceil(total, multiple), _ceil(max(size, 1), multiple)
    n_spans = _ceil(n_units, units)
    bounds = [min(index * n_units // n_spans * multiple, total) for index in range(n_spans + 1)]
    return tuple(Span(index, bounds[index], bounds[index + 1]) for index in range(n_spans))


@dataclass(frozen=True)
class WorkPlan:
    """The work summary: what is cut how, and what it costs.

    Attributes
    ----------
    n_obs, n_voxels : int
        Images and candidate voxels.
    itemsize : int
        Bytes of a value: 4, or 8 where an image is float64.
    batch_obs, block_voxels : int
        Largest batch and block.
    bytes_per_worker : int
        The budget, interpreter included.
    gather_bytes, fit_bytes : int
        Expected peak of a worker in each stage, interpreter included.
    disk_bytes : int
        Upper bound of the part files.
    """

    n_obs: int
    n_voxels: int
    itemsize: int
    batch_obs: int
    block_voxels: int
    bytes_per_worker: int
    gather_bytes: int
    fit_bytes: int
    disk_bytes: int

    @cached_property
    def batches(self) -> tuple[Span, ...]:
        """Runs of images, in order."""
        return split_evenly(self.n_obs, self.batch_obs)

    @cached_property
    def blocks(self) -> tuple[Span, ...]:
        """Runs of candidate voxels, in order."""
        return split_evenly(self.n_voxels, self.block_voxels, _LANES if self.block_voxels >= _LANES else 1)

    @property
    def n_batches(self) -> int:
        """Number of part files."""
        return len(self.batches)

    @property
    def n_blocks(self) -> int:
        """Number of voxel blocks."""
        return len(self.blocks)


@dataclass(frozen=True)
class WorkSize:
    """What there is to do.

    Attributes
    ----------
    n_obs, n_voxels : int
        Images and candidate voxels.
    itemsize : int
        Bytes of a value, 4 or 8.
    max_stored_bytes : int
        Size of the largest image once inflated.
    fit_bytes_per_voxel : int
        What fitting needs a voxel besides its data; ask the ``stats`` room.
    n_orientations : int
        In how many ways the images are stored: each has its own table of places on disk.
    """

    n_obs: int
    n_voxels: int
    itemsize: int
    max_stored_bytes: int
    fit_bytes_per_voxel: int = 4096
    n_orientations: int = 1


def plan_work(
    work: WorkSize,
    bytes_per_worker: int,
    n_workers: int,
    max_block_voxels: int | None = None,
    earlier_cut: tuple[int, int] | None = None,
) -> WorkPlan:
    """Choose batches and blocks so that a worker stays inside its budget.

    Parameters
    ----------
    work : WorkSize
        Images, voxels and their sizes.
    bytes_per_worker : int
        Everything a worker process may use.
    n_workers : int
        How many share the work.
    max_block_voxels : int, optional
        Never more voxels a block than this (config mode's ``maxnvb``).
    earlier_cut : (int, int), optional
        Images a batch and voxels a block of an earlier run: kept where they fit, so that it can be resumed
        on a machine with other memory free.

    Raises
    ------
    UsageError
        The budget does not hold one image and one small block; says how much would.
    """
    spare = int((bytes_per_worker - WORKER_BASE_BYTES) * _SAFETY)
    gather_fixed, per_obs = _gather_fixed_bytes(work), _gather_obs_bytes(work)
    per_voxel = _fit_voxel_bytes(work)
    needed = max(gather_fixed + per_obs, min(_LANES, work.n_voxels) * per_voxel)
    if spare < needed:
        wanted = WORKER_BASE_BYTES + int(needed / _SAFETY)
        msg = (
            f"each worker has {_megabytes(bytes_per_worker)} MB of memory and needs at least "
            f"{_megabytes(wanted)} MB for {work.n_obs} images of {work.n_voxels} candidate voxels. "
            "Raise --mem, lower --nprocs, or give a smaller mask"
        )
        raise UsageError(msg)
    batch_obs = _batch_obs(work, (spare - gather_fixed) // per_obs, n_workers)
    longest = min(spare // per_voxel, max_block_voxels or _MAX_BLOCK_VOXELS, _MAX_BLOCK_VOXELS)
    block_voxels = _block_voxels(work, longest, n_workers)
    if earlier_cut is not None and min(earlier_cut) > 0:
        earlier_obs, earlier_voxels = earlier_cut
        if gather_fixed + earlier_obs * per_obs <= spare and earlier_voxels * per_voxel <= spare:
            batch_obs, block_voxels = min(earlier_obs, work.n_obs), earlier_voxels
    return WorkPlan(
        n_obs=work.n_obs,
        n_voxels=work.n_voxels,
        itemsize=work.itemsize,
        batch_obs=batch_obs,
        block_voxels=block_voxels,
        bytes_per_worker=bytes_per_worker,
        gather_bytes=WORKER_BASE_BYTES + gather_fixed + batch_obs * per_obs,
        fit_bytes=WORKER_BASE_BYTES + min(block_voxels, work.n_voxels) * per_voxel,
        disk_bytes=_disk_bytes(work, batch_obs, block_voxels),
    )


def _batch_obs(work: WorkSize, affordable: int, n_workers: int) -> int:
    """Images a batch: what memory affords, but enough batches to keep every worker busy."""
    useful = max(_MAX_BATCH_BYTES // max(work.n_voxels * work.itemsize, 1), 1)
    n_batches = max(_ceil(work.n_obs, min(affordable, useful)), _BATCHES_PER_WORKER * n_workers)
    n_batches = _ceil(n_batches, n_workers) * n_workers
    return _ceil(work.n_obs, min(n_batches, work.n_obs))


def _block_voxels(work: WorkSize, longest: int, n_workers: int) -> int:
    """Voxels a block, in whole lanes: as many blocks for one worker as for another, and a few for each."""
    if longest < _LANES:
        return longest
    n_units = _ceil(work.n_voxels, _LANES)
    n_blocks = max(_ceil(n_units, longest // _LANES), _BLOCKS_PER_WORKER * n_workers, _LEAST_BLOCKS)
    n_blocks = _ceil(n_blocks, n_workers) * n_workers
    return _ceil(n_units, n_blocks) * _LANES


def _gather_fixed_bytes(work: WorkSize) -> int:
    """Gathering, whatever the batch: an image stored and inflated, indices, one image's values, masks."""
    n_indices = 2 + work.n_orientations
    return 2 * work.max_stored_bytes + work.n_voxels * (n_indices * _INDEX_BYTES + 3 * work.itemsize + 8)


def _gather_obs_bytes(work: WorkSize) -> int:
    """Gathering, an image of the batch: its row, and its share of a block being turned round."""
    return (work.n_voxels + 2 * min(_MAX_BLOCK_VOXELS, work.n_voxels)) * work.itemsize


def _fit_voxel_bytes(work: WorkSize) -> int:
    """Fitting, a voxel: its data, as much again for the part being read, and float64 in the kernels."""
    return work.n_obs * (2 * work.itemsize + 16) + work.fit_bytes_per_voxel


def _disk_bytes(work: WorkSize, batch_obs: int, block_voxels: int) -> int:
    n_batches, n_blocks = _ceil(work.n_obs, batch_obs), _ceil(work.n_voxels, block_voxels)
    bitmaps = n_batches * (work.n_voxels // 8 + 64 * (n_blocks + 4))
    counts = n_batches * 4 * work.n_voxels
    return work.n_obs * work.n_voxels * work.itemsize + bitmaps + counts


def _ceil(numerator: int, denominator: int) -> int:
    return -(-numerator // denominator)


def _megabytes(n_bytes: int) -> int:
    return _ceil(n_bytes, 2**20)
