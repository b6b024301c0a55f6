"""The reference implementation's ``blmm_config.yml``, read without being rewritten."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import yaml

from blmm_bids.config.bounded_yaml import load_bounded_yaml
from blmm_bids.config.fields import Fields, shown
from blmm_bids.config.numbers import (
    parse_at_least_one,
    parse_bytes,
    parse_flag,
    parse_float,
    parse_not_negative,
    parse_positive,
    parse_share,
    parse_vector,
    parser_of,
)
from blmm_bids.config.text_files import read_path_list, read_text
from blmm_bids.errors import MissingInputError, ModelSpecError
from blmm_bids.stats.model import FitOptions, Method, Satterthwaite

# dask-jobqueue's words for its clusters, in small letters, and the two that need none.
CLUSTER_TYPES = ("local", "htcondor", "lsf", "moab", "oar", "pbs", "sge", "slurm", "external")
REQUIRED = ("Y_files", "X", "outdir", "contrasts")
FIELDS = (
    *REQUIRED, "Z", "analysis_mask", "data_mask_files", "data_mask_thresh", "Missingness", "MAXMEM",
    "OutputCovB", "minlog", "method", "tol", "maxnit", "resms", "safeMode", "voxelBatching", "maxnvb",
    "clusterType", "numNodes", "reml", "satterthwaite",
)  # fmt: skip
# What the reference implementation itself adds when it rewrites a user's file.
_IGNORED = ("q",)
_METHODS: tuple[Method, ...] = get_args(Method)
_SATTERTHWAITE: tuple[Satterthwaite, ...] = get_args(Satterthwaite)
_MISSINGNESS = {"minpercent": "MinPercent", "minn": "MinN"}


@dataclass(frozen=True)
class ReferenceFactor:
    """One entry of ``Z``: a random factor, its levels per image and its columns."""

    name: str
    factor: Path
    design: Path


@dataclass(frozen=True)
class ReferenceContrast:
    """One entry of ``contrasts``; a vector of one dimension is a T contrast, of two an F contrast."""

    name: str
    rows: tuple[tuple[float, ...], ...]
    test: Literal["t", "F"]


@dataclass(frozen=True)
class ReferenceConfig:
    """A ``blmm_config.yml`` with defaults filled in and all paths absolute.

    Attributes
    ----------
    path : Path
        The config file.
    images_list, images : Path, tuple of Path
        ``Y_files`` and what it lists.
    masks_list, masks : Path or None, tuple of Path
        ``data_mask_files`` and what it lists: one mask an image, or none at all.
    design_file : Path
        ``X``.
    factors : tuple of ReferenceFactor
        ``Z``; empty for a linear model.
    outdir : Path
    contrasts : tuple of ReferenceContrast
    analysis_mask : Path or None
    data_mask_threshold : float or None
        Values below are missing (``data_mask_thresh``).
    min_percent, min_n : float or None, int or None
        ``Missingness``: both must hold where both are given.
    mem_bytes : int
        ``MAXMEM``, for each worker.
    output_cov_b, resms : bool
        Whether ``blmm_vox_cov`` and ``blmm_vox_resms`` are written.
    minlog : float
        Its absolute value stands for an infinite -log10 p.
    fit_options : FitOptions
        ``method``, ``tol``, ``maxnit``, ``safeMode``, ``reml``, ``satterthwaite``.
    voxel_batching, max_voxel_batches : bool, int
        ``voxelBatching``, ``maxnvb``.
    cluster_type, n_nodes : str, int or None
        ``clusterType`` in small letters, ``numNodes``.
    """

    path: Path
    images_list: Path
    images: tuple[Path, ...]
    design_file: Path
    outdir: Path
    contrasts: tuple[ReferenceContrast, ...]
    factors: tuple[ReferenceFactor, ...] = ()
    masks_list: Path | None = None
    masks: tuple[Path, ...] = ()
    analysis_mask: Path | None = None
    data_mask_threshold: float | None = None
    min_percent: float | None = None
    min_n: int | None = None
    mem_bytes: int = 2**32
    output_cov_b: bool = True
    minlog: float = -323.306
    resms: bool = True
    fit_options: FitOptions = field(default_factory=FitOptions)
    voxel_batching: bool = False
    max_voxel_batches: int = 60
    cluster_type: str = "local"
    n_nodes: int | None = None


def read_reference_config(path: Path, *, lenient: bool = False) -> ReferenceConfig:
    """Read a ``blmm_config.yml``, or the ``inputs.yml`` of an earlier run.

    Parameters
    ----------
    path : Path
        The file; paths in it are relative to its directory.
    lenient : bool
        Pass over unknown fields, which the ``inputs.yml`` of other programs may have.

    Raises
    ------
    MissingInputError
        The file, or one that it names, does not exist.
    ModelSpecError
        Anything wrong in it, with the field and what was wanted.
    """
    path = Path(path).absolute()
    fields = Fields(path, _read_mapping(path), lenient=lenient)
    fields.refuse_unknown(FIELDS, _IGNORED)
    for name in REQUIRED:
        fields.require(name)
    masks_list = fields.path("data_mask_files")
    config = ReferenceConfig(
        path=path,
        images_list=(images_list := fields.required_path("Y_files")),
        images=read_path_list(images_list, "image"),
        design_file=fields.required_path("X"),
        outdir=fields.required_path("outdir"),
        contrasts=_read_contrasts(fields),
        factors=_read_factors(fields),
        masks_list=masks_list,
        masks=() if masks_list is None else read_path_list(masks_list, "mask"),
        analysis_mask=fields.path("analysis_mask"),
        data_mask_threshold=fields.read("data_mask_thresh", parse_float, None),
        **_read_missingness(fields),
        mem_bytes=fields.read("MAXMEM", parse_bytes, 2**32),
        output_cov_b=fields.read("OutputCovB", parse_flag, True),  # noqa: FBT003
        minlog=fields.read("minlog", parse_float, -323.306),
        resms=fields.read("resms", parse_flag, True),  # noqa: FBT003
        fit_options=_read_fit_options(fields),
        voxel_batching=fields.read("voxelBatching", parse_flag, False),  # noqa: FBT003
        max_voxel_batches=fields.read("maxnvb", parse_at_least_one, 60),
        cluster_type=fields.read("clusterType", _cluster_type, "local"),
        n_nodes=fields.read("numNodes", parse_at_least_one, None),
    )
    _check_masks(config)
    return config


def _read_mapping(path: Path) -> Mapping[str, Any]:
    if not path.exists():
        msg = f"{path}: there is no such config file; give the path of a blmm_config.yml"
        raise MissingInputError(msg)
    try:
        content = load_bounded_yaml(read_text(path))
    except yaml.YAMLError as error:
        msg = f"{path}: {' '.join(str(error).split())}"
        raise ModelSpecError(msg) from error
    if not isinstance(content, dict):
        msg = f"{path}: has no 'field: value' lines; wanted {', '.join(REQUIRED)}, ..."
        raise ModelSpecError(msg)
    return content


def _entries(fields: Fields, name: str, letter: str) -> list[tuple[str, Any]]:
    """Items of ``- c1: {...}`` lists, or of one mapping with the same keys."""
    value = fields.values.get(name)
    if value is None:
        return []
    items = [{key: item} for key, item in value.items()] if isinstance(value, dict) else value
    if not isinstance(items, list):
        raise fields.error(f"'{name}'", f"is not a list of {letter}1, {letter}2, ...")
    entries: list[tuple[str, Any]] = []
    for index, item in enumerate(items, start=1):
        key = f"{letter}{index}"
        if not isinstance(item, dict) or list(item) != [key]:
            found = ", ".join(map(str, item)) if isinstance(item, dict) else shown(item)
            raise fields.error(f"'{name}'", f"has '{found}' as its entry {index}; wanted '{key}:'")
        entries.append((key, item[key]))
    return entries


def _nested(fields: Fields, name: str, key: str, value: object, known: Sequence[str]) -> Fields:
    where = f"{fields.prefix}{name}, {key}: "
    if not isinstance(value, dict):
        raise fields.error(f"'{name}'", f"has nothing under '{key}'; wanted {', '.join(known)} there")
    nested = Fields(fields.file, value, where, lenient=fields.lenient)
    nested.refuse_unknown(known)
    return nested


def _read_factors(fields: Fields) -> tuple[ReferenceFactor, ...]:
    factors = []
    for key, value in _entries(fields, "Z", "f"):
        entry = _nested(fields, "Z", key, value, ("name", "factor", "design"))
        name = str(entry.values.get("name") or key)
        factors.append(ReferenceFactor(name, entry.required_path("factor"), entry.required_path("design")))
    return tuple(factors)


def _read_contrasts(fields: Fields) -> tuple[ReferenceContrast, ...]:
    contrasts = []
    for key, value in _entries(fields, "contrasts", "c"):
        entry = _nested(fields, "contrasts", key, value, ("name", "vector"))
        entry.require("vector")
        rows, test = entry.read("vector", parse_vector, None) or ((), "t")
        contrasts.append(ReferenceContrast(str(entry.values.get("name") or key), rows, test))
    return tuple(contrasts)


def _read_missingness(fields: Fields) -> dict[str, Any]:
    value = fields.values.get("Missingness")
    if value is None:
        return {}
    items = {}
    for item in value if isinstance(value, list) else [value]:
        if not isinstance(item, dict):
            raise fields.error("'Missingness'", "has nothing below it; wanted MinPercent, MinN or both")
        for key, number in item.items():
            name = _MISSINGNESS.get(str(key).lower(), str(key))
            if name in items:
                raise fields.error("'Missingness'", f"has '{name}' twice; remove one")
            items[name] = number
    nested = Fields(fields.file, items, "Missingness, ")
    nested.refuse_unknown(tuple(_MISSINGNESS.values()))
    return {
        "min_percent": nested.read("MinPercent", parse_share, None),
        "min_n": nested.read("MinN", parse_not_negative, None),
    }


def _read_fit_options(fields: Fields) -> FitOptions:
    return FitOptions(
        reml=fields.read("reml", parse_flag, True),  # noqa: FBT003
        method=fields.read("method", parser_of(_METHODS), "default"),
        tol=fields.read("tol", parse_positive, 1e-6),
        max_iter=fields.read("maxnit", parse_at_least_one, 10_000),
        satterthwaite=fields.read("satterthwaite", parser_of(_SATTERTHWAITE), "expected"),
        safe_mode=fields.read("safeMode", parse_flag, True),  # noqa: FBT003
    )


def _check_masks(config: ReferenceConfig) -> None:
    if config.masks_list is not None and len(config.masks) != len(config.images):
        msg = (
            f"{config.masks_list} lists {len(config.masks)} masks and {config.images_list} "
            f"{len(config.images)} images; the first mask belongs to the first image and so on: list one "
            "mask an image"
        )
        raise ModelSpecError(msg)


def _cluster_type(value: object) -> str:
    return parser_of(CLUSTER_TYPES)(str(value).strip().lower().removesuffix("cluster"))
