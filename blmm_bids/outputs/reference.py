"""The outputs of config mode: the reference implementation's file names, orders and conventions.

All files of a run appear together at its end, and those of an earlier run are gone by then;
``inputs.yml`` comes last, so a directory without it is visibly not finished.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml
from numpy.typing import NDArray

from blmm_bids import __version__
from blmm_bids.config.reference import ReferenceConfig
from blmm_bids.errors import OutputError
from blmm_bids.outputs.files import write_text
from blmm_bids.outputs.maps import covering_blocks
from blmm_bids.outputs.outdir import MAP_PATTERNS, check_outdir, remove_stale
from blmm_bids.outputs.precision import NARROW, narrowed
from blmm_bids.outputs.volumes import Volumes, file_order, opened_volumes
from blmm_bids.stats.model import Contrast, Design, FloatArray, IntArray, Status

if TYPE_CHECKING:
    from blmm_bids.images.grid import Grid

BlockResult = Mapping[str, NDArray[Any]]
# Opens `inputs.yml`: tells our directories from the reference implementation's.
SIGNATURE = "# written by blmm_bids"
_FITTED = [status.value for status in Status if status.is_fitted]
_COMPARISON = ("blmm_vox_mask.nii", "blmm_vox_Chi2.nii", "blmm_vox_Chi2lp.nii")


@dataclass(frozen=True)
class ReferenceFile:
    """One output file of config mode.

    Attributes
    ----------
    name : str
        After ``blmm_vox_``.
    n_volumes : int
        Volumes of the file.
    dtype : str
        numpy's name of the type on disk; float32 becomes float64 if a value is beyond its range.
    select : callable
        Block results to (voxel, volume).
    """

    name: str
    n_volumes: int
    dtype: str
    select: Callable[[BlockResult], NDArray[Any]]

    @property
    def filename(self) -> str:
        """Name in ``outdir``."""
        return f"blmm_vox_{self.name}.nii"


def list_files(
    config: ReferenceConfig, design: Design, contrasts: Sequence[Contrast]
) -> tuple[ReferenceFile, ...]:
    """Files that a run writes, without ``inputs.yml``.

    Parameters
    ----------
    config : ReferenceConfig
        Its ``OutputCovB``, ``resms`` and ``minlog`` matter here.
    design : Design
        The model.
    contrasts : sequence of Contrast
        In the order of the block results; T volumes count T contrasts only, F volumes F contrasts only.
    """
    p = design.n_fixef
    n_vech = sum(len(term.vech_names) for term in design.terms)
    files = [
        ReferenceFile("mask", 1, "uint8", lambda block: np.ones(len(block["status"]), dtype=np.uint8)),
        ReferenceFile("n", 1, "int32", _of("n")),
        ReferenceFile("edf", 1, "float32", _of("edf")),
        ReferenceFile("beta", p, "float32", _of("beta")),
        ReferenceFile("sigma2", 1, "float32", _of("sigma2")),
        # Float64: a likelihood ratio is the small difference of two large numbers.
        ReferenceFile("llh", 1, "float64", _of("logLikelihood")),
    ]
    if n_vech:
        files.append(ReferenceFile("D", n_vech, "float32", _of("D")))
    if config.resms:
        files.append(ReferenceFile("resms", 1, "float32", _of("resms")))
    if config.output_cov_b:
        files.append(ReferenceFile("cov", p * p, "float32", _of("vcov")))
    largest = abs(config.minlog)
    names = {
        "t": {"con": "effect", "conSE": "se", "conT": "t", "conT_swedf": "dof", "conTlp": "logp"},
        "F": {"conF": "F", "conF_swedf": "dof", "conFlp": "logp", "conR2": "partialR2"},
    }
    for test, keys in names.items():
        places = [index for index, contrast in enumerate(contrasts) if contrast.test == test]
        if places:
            files += [
                ReferenceFile(name, len(places), "float32", _of_contrasts(places, key, largest))
                for name, key in keys.items()
            ]
    return tuple(files)


def write_reference_outputs(
    config: ReferenceConfig,
    design: Design,
    contrasts: Sequence[Contrast],
    grid: Grid,
    voxels: IntArray,
    blocks: Iterable[tuple[IntArray, BlockResult]],
) -> tuple[Path, ...]:
    """Write all files of a run into ``config.outdir``.

    Voxels that were not fitted are outside ``blmm_vox_mask`` and 0 in all files.

    Parameters
    ----------
    config, design, contrasts
        The run.
    grid : Grid
        Space of the images.
    voxels : (voxel,) int64
        Voxels tried: flat indices in C order, ascending.
    blocks : iterable of (voxel indices, results)
        In any order; together they must cover `voxels` exactly once.

    Returns
    -------
    tuple of Path
        The files, ``inputs.yml`` last.

    Raises
    ------
    OutputError, StorageError
        Nothing appears in ``outdir`` then.
    """
    check_outdir(config.outdir)
    files = list_files(config, design, contrasts)
    with ExitStack() as stack:
        volumes = [
            stack.enter_context(
                opened_volumes(config.outdir / file.filename, grid, file.n_volumes, file.dtype)
            )
            for file in files
        ]
        _fill(files, volumes, grid, voxels, blocks)
        return _publish(config.outdir, volumes, inputs_text(config), config.path)


def write_comparison(
    outdir: Path, grid: Grid, voxels: IntArray, maps: Mapping[str, FloatArray], notes: str
) -> tuple[Path, ...]:
    """Write the maps of a likelihood ratio test: ``blmm_vox_mask``, ``_Chi2`` and ``_Chi2lp``.

    Parameters
    ----------
    outdir : Path
        Made if need be.
    grid : Grid
        Space of both models.
    voxels : (voxel,) int64
        Voxels of both models.
    maps : Mapping
        ``chi2`` and ``logp`` at these voxels.
    notes : str
        What was compared, for ``inputs.yml`` (YAML).

    Raises
    ------
    OutputError
        The directory cannot be written, or holds the maps of a fit.
    """
    check_outdir(outdir)
    others = [path.name for pattern in MAP_PATTERNS for path in outdir.glob(pattern)]
    others = sorted(name for name in others if name not in _COMPARISON)
    if others:
        msg = (
            f"OUTDIR {outdir} holds the maps of a fit ({', '.join(others[:3])}{', …' * bool(others[3:])}); "
            "a comparison never replaces them; name another one"
        )
        raise OutputError(msg)
    values = {
        "mask": (np.ones(len(voxels), dtype=np.uint8), "uint8"),
        "Chi2": (maps["chi2"], "float64"),
        "Chi2lp": (maps["logp"], "float32"),
    }
    places = file_order(voxels, grid.shape)
    with ExitStack() as stack:
        volumes = []
        for name, (inside, dtype) in values.items():
            path = outdir / f"blmm_vox_{name}.nii"
            volumes.append(stack.enter_context(opened_volumes(path, grid, 1, dtype)))
            volumes[-1].values[0, places] = inside
        return _publish(outdir, volumes, f"{SIGNATURE} {__version__}\n{notes}", None)


def inputs_text(config: ReferenceConfig) -> str:
    """Text of ``inputs.yml``: the config with all defaults and absolute paths, readable as a config."""
    options = config.fit_options
    content: dict[str, Any] = {
        "Y_files": str(config.images_list),
        "X": str(config.design_file),
        "Z": [
            {f"f{number}": {"name": item.name, "factor": str(item.factor), "design": str(item.design)}}
            for number, item in enumerate(config.factors, start=1)
        ],
        "outdir": str(config.outdir),
        "contrasts": [
            {f"c{number}": {"name": item.name, "vector": _plain_vector(item.rows, item.test)}}
            for number, item in enumerate(config.contrasts, start=1)
        ],
        "MAXMEM": config.mem_bytes,
        "OutputCovB": config.output_cov_b,
        "minlog": config.minlog,
        "method": options.method,
        "tol": options.tol,
        "maxnit": options.max_iter,
        "resms": int(config.resms),
        "safeMode": int(options.safe_mode),
        "voxelBatching": int(config.voxel_batching),
        "maxnvb": config.max_voxel_batches,
        "clusterType": config.cluster_type,
        "reml": options.reml,
        "satterthwaite": options.satterthwaite,
    }
    optional = {
        "numNodes": config.n_nodes,
        "analysis_mask": config.analysis_mask and str(config.analysis_mask),
        "data_mask_files": config.masks_list and str(config.masks_list),
        "data_mask_thresh": config.data_mask_threshold,
    }
    content |= {name: value for name, value in optional.items() if value is not None}
    missingness = {"MinPercent": config.min_percent, "MinN": config.min_n}
    if any(value is not None for value in missingness.values()):
        content["Missingness"] = {name: value for name, value in missingness.items() if value is not None}
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, default_flow_style=None, width=10_000)
    return f"{SIGNATURE} {__version__}\n{text}"


def _of(key: str) -> Callable[[BlockResult], NDArray[Any]]:
    return lambda block: block[key].reshape(len(block["status"]), -1)


def _of_contrasts(places: Sequence[int], key: str, largest: float) -> Callable[[BlockResult], NDArray[Any]]:
    def select(block: BlockResult) -> NDArray[Any]:
        values = np.column_stack([block[f"c{place}_{key}"] for place in places])
        # The reference implementation's convention for p values of zero.
        return np.where(np.isposinf(values), largest, values) if key == "logp" else values

    return select


def _fill(
    files: Sequence[ReferenceFile],
    volumes: Sequence[Volumes],
    grid: Grid,
    voxels: IntArray,
    blocks: Iterable[tuple[IntArray, BlockResult]],
) -> None:
    for places, block in covering_blocks(voxels, blocks):
        fitted = np.isin(block["status"], _FITTED)
        inside = file_order(voxels[places][fitted], grid.shape)
        for file, target in zip(files, volumes, strict=True):
            values = file.select(block)[fitted].reshape(len(inside), file.n_volumes)
            stored = narrowed(values) if file.dtype == NARROW else values.astype(file.dtype)
            if stored.dtype.itemsize > target.values.dtype.itemsize:
                target.widen()
            target.values[:, inside] = stored.T


def _publish(
    outdir: Path, volumes: Sequence[Volumes], inputs: str, user_file: Path | None
) -> tuple[Path, ...]:
    """Exchange an earlier run's files for these."""
    remove_stale(outdir, user_file, tuple(volume.aside for volume in volumes))
    paths = [volume.publish() for volume in volumes]
    settings = outdir / "inputs.yml"
    if not settings.exists():
        write_text(settings, inputs)
    return (*paths, settings)


def _plain_vector(rows: Sequence[Sequence[float]], test: str) -> list[Any]:
    plain = [[int(weight) if weight == int(weight) else weight for weight in row] for row in rows]
    return plain[0] if test == "t" else plain
