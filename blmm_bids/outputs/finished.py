"""Read finished runs back: what `compare` needs to know of each.

Three kinds of directory: a node of the BIDS App's output, an ``outdir`` of config mode (ours or the
reference implementation's), and an output directory of BLM-py, the linear-model sibling.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd

from blmm_bids.bids.names import build_name, parse_name, to_label
from blmm_bids.config.reference import read_reference_config
from blmm_bids.config.reference_design import read_design
from blmm_bids.errors import BlmmError, DataError, MissingInputError, UsageError
from blmm_bids.images.grid import Grid, read_grid
from blmm_bids.images.reader import read_volume
from blmm_bids.outputs.manifest import is_finished
from blmm_bids.outputs.naming import design_filename, joined_label
from blmm_bids.outputs.reference import SIGNATURE
from blmm_bids.regular_files import LARGEST_JSON, read_regular
from blmm_bids.stats.lrt import ComparedModel
from blmm_bids.stats.model import Design, FloatArray, IntArray, RandomTerm

if TYPE_CHECKING:
    from collections.abc import Mapping

Origin = Literal["blmm_bids", "BLMM", "BLM-py"]
# BLM-py stores float32 or float64; its two criteria differ by far more than rounding.
_CRITERION_TOLERANCE = 1e-4


@dataclass(frozen=True, eq=False)
class FinishedModel:
    """A model that was fitted, as its output directory tells.

    Attributes
    ----------
    model : ComparedModel
        Name, design and criterion.
    origin : {"blmm_bids", "BLMM", "BLM-py"}
        Which software wrote the directory.
    images : tuple of str
        Images in the order of the design's rows: paths, or BIDS URIs.
    masks : tuple of str
        Masks of each image, in the same order; empty strings where there is none.
    grid : Grid
        Space of the maps.
    voxels : (voxel,) int64
        Voxels with a fit: flat indices in C order, ascending.
    loglik, n_obs : (voxel,) float64
        Log-likelihood and number of images at these voxels.
    """

    model: ComparedModel
    origin: Origin
    images: tuple[str, ...]
    masks: tuple[str, ...]
    grid: Grid
    voxels: IntArray
    loglik: FloatArray
    n_obs: FloatArray


def read_finished(place: str | Path) -> FinishedModel:
    """Read a finished run.

    Parameters
    ----------
    place : str or Path
        A directory of config mode or of BLM-py; or an output directory of the BIDS App, with ``:NODE``
        where it holds several nodes, and ``:NODE:contrast-faces`` where the node holds several groups.

    Raises
    ------
    MissingInputError
        No such directory, or a file that it should have is absent.
    UsageError
        There is more than one model in it, or none.
    DataError
        A file cannot be read.
    """
    directory, node, part = split_place(str(place))
    if (directory / "blmm_vox_mask.nii").exists() or (directory / "blm_vox_mask.nii").exists():
        return _read_reference(directory)
    return _read_unit(_find_node(directory, node), part)


def split_place(place: str) -> tuple[Path, str, str]:
    """Directory, node and part of ``DIR:NODE:PART``; a directory whose own name has colons wins."""
    pieces = place.split(":")
    for n_path in range(len(pieces), 0, -1):
        path = Path(":".join(pieces[:n_path]))
        rest = pieces[n_path:]
        if path.is_dir() and len(rest) <= 2:
            node, part = [*rest, "", ""][:2]
            return path, node, part
    msg = f"'{place}': there is no such directory; name the output directory of a finished run"
    raise MissingInputError(msg)


# --- config mode and BLM-py ---


def _read_reference(directory: Path) -> FinishedModel:
    prefix = "blmm" if (directory / "blmm_vox_mask.nii").exists() else "blm"
    settings = directory / "inputs.yml"
    if not settings.is_file():
        msg = f"{directory}: has no inputs.yml, so the run did not finish; run it again"
        raise MissingInputError(msg)
    config = read_reference_config(settings, lenient=True)
    origin = _origin(prefix, settings)
    design = read_design(config)
    if origin == "BLM-py":
        design = Design(design.X, design.fixef_names)
    grid = read_grid(directory / f"{prefix}_vox_mask.nii")
    maps = {name: read_map(directory / f"{prefix}_vox_{name}.nii", grid) for name in ("mask", "llh", "n")}
    voxels = np.flatnonzero(maps["mask"] > 0)
    reml = config.fit_options.reml
    if origin == "BLM-py":
        _check_blm_criterion(directory, design.n_fixef, maps, voxels, grid)
        reml = False
    return FinishedModel(
        model=ComparedModel(directory.name, design, reml),
        origin=origin,
        images=tuple(str(path.resolve()) for path in config.images),
        masks=tuple(str(path.resolve()) for path in config.masks) or ("",) * len(config.images),
        grid=grid,
        voxels=voxels,
        loglik=maps["llh"][voxels],
        n_obs=maps["n"][voxels],
    )


def _origin(prefix: str, settings: Path) -> Origin:
    if prefix == "blm":
        return "BLM-py"
    with settings.open(encoding="utf-8", errors="replace") as stream:
        return "blmm_bids" if stream.readline().startswith(SIGNATURE) else "BLMM"


def _check_blm_criterion(
    directory: Path, n_fixef: int, maps: Mapping[str, FloatArray], voxels: IntArray, grid: Grid
) -> None:
    """Refuse log-likelihoods that are not the full ones, which the residual mean square gives."""
    path = directory / "blm_vox_resms.nii"
    if not path.exists():
        return
    resms, n_obs = read_map(path, grid)[voxels], maps["n"][voxels]
    usable = (resms > 0) & (n_obs > n_fixef)
    n_obs, loglik = n_obs[usable], maps["llh"][voxels][usable]
    sigma2 = resms[usable] * (n_obs - n_fixef) / n_obs
    expected = -0.5 * n_obs * (np.log(2 * np.pi * sigma2) + 1)
    if not np.all(np.abs(loglik - expected) <= _CRITERION_TOLERANCE * (1 + np.abs(expected))):
        msg = (
            f"{directory}: blm_vox_llh is not the full (ML) log-likelihood that blm_vox_resms implies; fit "
            "the linear model with blmm-fit (Z: []) instead"
        )
        raise DataError(msg)


# --- the BIDS App ---


def _find_node(directory: Path, node: str) -> Path:
    if directory.name.startswith("node-") and not node:
        return _checked(directory)
    nodes = sorted(path for path in directory.glob("node-*") if path.is_dir())
    if not nodes:
        msg = f"{directory}: holds no finished model (no blmm_vox_mask.nii, no node-* directory)"
        raise UsageError(msg)
    names = ", ".join(path.name.removeprefix("node-") for path in nodes)
    if not node and len(nodes) > 1:
        msg = f"{directory}: holds several models ({names}); say which, as '{directory}:{nodes[0].name[5:]}'"
        raise UsageError(msg)
    wanted = nodes[0].name if not node else f"node-{to_label(node)}"
    for path in nodes:
        if path.name == wanted:
            return _checked(path)
    msg = f"{directory}: has no model '{node}' (has {names})"
    raise UsageError(msg)


def _checked(node: Path) -> Path:
    """Refuse a node whose run did not finish."""
    if not is_finished(node.parent, node.name.removeprefix("node-")):
        msg = f"{node}: the run there did not finish; give its command again, it resumes"
        raise MissingInputError(msg)
    return node


def _read_unit(node: Path, part: str) -> FinishedModel:
    ending = "_stat-logLikelihood_statmap.nii.gz"
    found = sorted(node.glob(f"*{ending}"))
    bare = node / ending[1:]
    found += [bare] if bare.exists() else []
    if not found:
        msg = f"{node}: has no log-likelihood map; finish the run, with '--outputs default' or 'full'"
        raise MissingInputError(msg)
    chosen = [path for path in found if not part or part in path.name.split("_")]
    if len(chosen) != 1:
        names = ", ".join(path.name for path in found)
        msg = (
            f"{node}: holds {len(found)} fits ({names}), of which {len(chosen)} match '{part}'; name one by "
            "a part of its name, as DIR:NODE:contrast-faces"
        )
        raise UsageError(msg)
    path = chosen[0]
    parsed = parse_name(path.name)
    stem = {name: label for name, label in (parsed.entities if parsed else {}).items() if name != "stat"}
    grid = read_grid(path)
    analysis = {**stem, "desc": joined_label(stem.get("desc", ""), "analysis")}
    mask = read_map(node / build_name(analysis, "mask", ".nii.gz"), grid)
    n_obs = read_map(node / build_name({**stem, "stat": "n"}, "statmap", ".nii.gz"), grid)
    loglik = read_map(path, grid)
    voxels = np.flatnonzero((mask > 0) & np.isfinite(loglik))
    inputs = read_tsv(node / design_filename(stem, "inputs"))
    used = inputs[inputs["is_used"] == "true"]
    used = used.iloc[used["design_row"].astype(float).argsort(kind="stable").to_numpy()]
    return FinishedModel(
        model=ComparedModel(node.name.removeprefix("node-"), read_unit_design(node, stem), _is_reml(path)),
        origin="blmm_bids",
        images=tuple(used["image"]),
        masks=tuple("" if masks == "n/a" else masks for masks in used["masks"]),
        grid=grid,
        voxels=voxels,
        loglik=loglik[voxels],
        n_obs=n_obs[voxels],
    )


def read_unit_design(node: Path, stem: Mapping[str, str]) -> Design:
    """Design of one fit of a node, from its tables.

    Raises
    ------
    MissingInputError, DataError
        A table is missing or cannot be read.
    """
    table_path, random_path = (node / design_filename(stem, desc) for desc in ("", "random"))
    table = read_tsv(table_path)
    terms: list[RandomTerm] = []
    if random_path.exists():
        random = read_tsv(random_path)
        terms = [_read_term(rows, len(table)) for _, rows in random.groupby(random["term"].astype(int))]
    try:
        matrix = table.to_numpy(dtype=np.float64)
    except ValueError as error:
        msg = f"{table_path}: is not a table of numbers ({error}); run the model again"
        raise DataError(msg) from error
    return Design(matrix, tuple(map(str, table.columns)), tuple(terms))


def _read_term(rows: pd.DataFrame, n_obs: int) -> RandomTerm:
    """One random term from its long form."""
    n_effects = len(rows) // n_obs
    ordered = rows.iloc[rows["design_row"].astype(int).argsort(kind="stable").to_numpy()]
    labels = ordered["level"].to_numpy(dtype=str)[::n_effects]
    levels, refs = np.unique(labels, return_inverse=True)
    effects = ordered["value"].to_numpy(dtype=np.float64).reshape(n_obs, n_effects)
    names = tuple(ordered["effect"].iloc[:n_effects])
    return RandomTerm(
        str(rows["factor"].iloc[0]), tuple(levels.tolist()), refs.astype(np.int64), effects, names
    )


def _is_reml(path: Path) -> bool:
    sidecar = path.with_name(path.name.removesuffix(".nii.gz") + ".json")
    try:
        return bool(json.loads(read_regular(sidecar, LARGEST_JSON))["Method"] == "REML")
    except (OSError, ValueError, KeyError, TypeError) as error:
        msg = f"{sidecar}: does not say the Method (REML or ML); run the model again"
        raise DataError(msg) from error


def read_tsv(path: Path) -> pd.DataFrame:
    """Read a table of the output dataset, every cell as text.

    Raises
    ------
    MissingInputError, DataError
        The table is missing or cannot be read.
    """
    try:
        return pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False, quoting=3)
    except FileNotFoundError as error:
        msg = f"{path}: is missing, so the run did not finish; run it again"
        raise MissingInputError(msg) from error
    except (OSError, ValueError) as error:
        msg = f"{path}: cannot be read ({error}); run the model again"
        raise DataError(msg) from error


def read_map(path: Path, grid: Grid) -> FloatArray:
    """Values of a map in C order, after its grid was checked.

    Raises
    ------
    MissingInputError, DataError
        The map is missing, cannot be read, or has another shape.
    """
    if not path.exists():
        msg = f"{path}: is missing, so the run did not finish; run it again"
        raise MissingInputError(msg)
    try:
        values = read_volume(path)
    except BlmmError as error:
        msg = f"{path}: cannot be read ({error}); run the model again"
        raise DataError(msg) from error
    _check_shape(path, values.shape, grid.shape)
    return values.reshape(-1)


def _check_shape(path: Path, found: Sequence[int], wanted: Sequence[int]) -> None:
    if tuple(found) not in (tuple(wanted), (*wanted, 1)):
        msg = f"{path}: shape {tuple(found)} differs from {tuple(wanted)} of the other maps; run it again"
        raise DataError(msg)
