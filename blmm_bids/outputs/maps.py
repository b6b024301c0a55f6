"""Block results to volumes: assembled voxel by voxel on disk, written map by map."""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from blmm_bids.errors import OutputError, StorageError
from blmm_bids.outputs.derived import BlockResult, with_derived
from blmm_bids.outputs.discovery import q_values
from blmm_bids.outputs.nifti import write_volume
from blmm_bids.outputs.precision import dtype_for
from blmm_bids.outputs.registry import Scope
from blmm_bids.stats.model import FloatArray, IntArray

if TYPE_CHECKING:
    from blmm_bids.images.grid import Grid
    from blmm_bids.outputs.naming import MapSpec
    from blmm_bids.outputs.summary import Tally
    from blmm_bids.stats.model import Contrast, RandomTerm

Blocks = Iterable[tuple[IntArray, BlockResult]]
# Voxels of all volumes that threads compress at one time: four of 2 mm, one of 1 mm.
_THREADS_VOXELS = 4_000_000


@contextmanager
def scratch_array(directory: Path, shape: tuple[int, int]) -> Iterator[FloatArray]:
    """Float64 array in an unnamed file of `directory`, gone when the body ends.

    With `_release` it keeps the driver's memory at one map whatever the number of maps and voxels.
    """
    with ExitStack() as stack:
        try:
            directory.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context(tempfile.TemporaryFile(dir=directory))
            # A memory map over a hole kills the process when the disk fills up; reserved space cannot.
            if hasattr(os, "posix_fallocate") and all(shape):
                os.posix_fallocate(file.fileno(), 0, 8 * shape[0] * shape[1])
        except OSError as error:
            msg = f"no room for the maps in '{directory}': {error.strerror}; choose another work directory"
            raise StorageError(msg) from error
        yield np.memmap(file, dtype=np.float64, mode="r+", shape=shape) if all(shape) else np.empty(shape)


def covering_blocks(voxels: IntArray, blocks: Blocks) -> Iterator[tuple[IntArray, BlockResult]]:
    """Yield the places of each block's voxels among `voxels`, and its results; every voxel once.

    Parameters
    ----------
    voxels : (voxel,) int64
        Ascending flat indices.
    blocks : iterable of (voxel indices, results)
        In any order.

    Raises
    ------
    OutputError
        A voxel comes twice, is not among `voxels`, or has not come when the blocks end.
    """
    covered = np.zeros(len(voxels), dtype=bool)
    for indices, block in blocks:
        places = np.searchsorted(voxels, indices)
        if np.any(places >= len(voxels)) or np.any(voxels[places] != indices) or np.any(covered[places]):
            msg = "a block holds voxels of another block, or none of the mask's; clean the work directory"
            raise OutputError(msg)
        covered[places] = True
        yield places, block
    if not covered.all():
        msg = f"{int((~covered).sum())} of {len(voxels)} voxels have no result; run the same command again"
        raise OutputError(msg)


def gather_maps(
    specs: Sequence[MapSpec],
    voxels: IntArray,
    blocks: Blocks,
    terms: Sequence[RandomTerm],
    values: FloatArray,
    tally: Tally,
) -> None:
    """Lay the block results out map by map.

    Parameters
    ----------
    specs : sequence of MapSpec
        The maps wanted; a mask takes no room.
    voxels : (voxel,) int64
        Analysis mask as ascending flat indices.
    blocks : iterable of (voxel indices, results)
        In any order; together they must cover `voxels`.
    terms : sequence of RandomTerm
        Random terms of the fit.
    values : (map, voxel) float64
        Filled in place.
    tally : Tally
        Counts what the report shows on the way.

    Raises
    ------
    OutputError
        The blocks do not cover the voxels exactly once.
    """
    for places, block in covering_blocks(voxels, blocks):
        results = with_derived(block, terms)
        for values_of_map, spec in zip(values, _computed(specs), strict=True):
            values_of_map[places] = _column(results, spec)
        tally.add(results)
        _release(values)
    # What needs every voxel at once comes last.
    for values_of_map, spec in zip(values, _computed(specs), strict=True):
        if spec.quantity.adjustment is not None:
            values_of_map[:] = q_values(values_of_map, spec.quantity.adjustment)


def write_maps(
    directory: Path,
    specs: Sequence[MapSpec],
    grid: Grid,
    voxels: IntArray,
    values: FloatArray,
    n_threads: int = 1,
) -> list[Path]:
    """Write the maps that `gather_maps` laid out.

    Outside the analysis mask they are 0; inside, voxels without an answer are NaN (integers say so in the
    status map).

    Parameters
    ----------
    directory : Path
        Where they go.
    specs, voxels, values
        As in `gather_maps`.
    grid : Grid
        Of the volumes.
    n_threads : int
        Maps to compress at one time, where they are not large.

    Returns
    -------
    list of Path
        One file a spec, in their order.
    """
    rows: dict[str, FloatArray] = dict(zip((spec.filename for spec in _computed(specs)), values, strict=True))
    dofs = {spec.contrast: rows[spec.filename] for spec in specs if spec.quantity.name == "dof"}

    def write(spec: MapSpec) -> Path:
        inside = rows.get(spec.filename, np.ones(len(voxels)))
        path = write_volume(
            directory / spec.filename,
            volume_of(inside, voxels, grid.shape, spec.quantity.dtype),
            grid,
            intent=_intent(spec, dofs),
            intent_name=spec.quantity.name,
        )
        _release(values)
        return path

    # Compressing leaves the interpreter to others; each thread holds some copies of its volume.
    with ThreadPoolExecutor(max(min(n_threads, _THREADS_VOXELS // grid.n_voxels), 1)) as pool:
        return list(pool.map(write, specs))


def _release(values: FloatArray) -> None:
    """Give the memory of a scratch array back; its values stay in the file."""
    mapped: object = values.base
    if isinstance(mapped, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)


def volume_of(
    inside: NDArray[np.floating], voxels: IntArray, shape: tuple[int, int, int], dtype: str
) -> NDArray[np.generic]:
    """Volume with the values at the voxels and 0 elsewhere; float64 if a value is beyond float32."""
    volume = np.zeros(shape, dtype=dtype_for(inside, dtype))
    volume.reshape(-1)[voxels] = inside.astype(volume.dtype)
    return volume


def _computed(specs: Sequence[MapSpec]) -> list[MapSpec]:
    return [spec for spec in specs if spec.quantity.scope is not Scope.MASK]


def n_computed(specs: Sequence[MapSpec]) -> int:
    """Count the maps that have a row in the scratch array."""
    return len(_computed(specs))


def _column(results: Mapping[str, NDArray[np.generic]], spec: MapSpec) -> NDArray[np.generic]:
    try:
        values = results[spec.key]
    except KeyError:
        msg = f"the fit gave no '{spec.key}', which '{spec.filename}' needs"
        raise OutputError(msg) from None
    return values if spec.column is None else values.reshape(len(values), -1)[:, spec.column]


def _intent(spec: MapSpec, dofs: Mapping[Contrast | None, FloatArray]) -> tuple[str, tuple[float, ...]]:
    # NIfTI has room for one dof a file, and viewers turn t into p with it. With Satterthwaite the dof differ
    # between voxels: then no intent is better than a wrong one, and the dof map and the z map say the rest.
    intent = spec.quantity.intent
    if intent not in ("t test", "f test"):
        return intent, ()
    dof = dofs.get(spec.contrast, np.empty(0))
    finite = dof[np.isfinite(dof)]
    if finite.size == 0 or np.ptp(finite) > 0:
        return "none", ()
    if intent == "t test":
        return intent, (float(finite[0]),)
    return intent, (float(spec.names["NumeratorDegreesOfFreedom"]), float(finite[0]))
