"""Likelihood ratio test between two finished runs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import PurePath

import numpy as np
import yaml

from blmm_bids.errors import DataError
from blmm_bids.outputs.finished import FinishedModel
from blmm_bids.stats.lrt import Mixture, compare_models, lrt_maps
from blmm_bids.stats.model import Design, FloatArray, IntArray, RandomTerm

# How far a corner of the volume may be off, mm: rounding in float32 headers is about 1e-5.
AFFINE_TOLERANCE = 1e-3


@dataclass(frozen=True, eq=False)
class Comparison:
    """Outcome of a likelihood ratio test over voxels.

    Attributes
    ----------
    smaller, larger : FinishedModel
        In the right order, whatever order they were given in.
    mixture : Mixture
        Null distribution.
    voxels : (voxel,) int64
        Voxels that both models have: flat indices in C order, ascending.
    maps : dict
        ``chi2`` and ``logp``, (voxel,) each; NaN where the models were fitted to different images.
    notices : tuple of str
        What the user should know.
    """

    smaller: FinishedModel
    larger: FinishedModel
    mixture: Mixture
    voxels: IntArray
    maps: dict[str, FloatArray]
    notices: tuple[str, ...]

    @property
    def notes(self) -> str:
        """What was compared, as YAML."""
        content = {
            "smaller": self.smaller.model.name,
            "larger": self.larger.model.name,
            "criterion": "REML" if self.larger.model.reml else "ML",
            "added": self.mixture.added,
            "distribution": self.mixture.formula,
            "notices": list(self.notices),
        }
        return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=10_000)


def compare_finished(first: FinishedModel, second: FinishedModel) -> Comparison:
    """Test what one finished model adds to the other.

    Parameters
    ----------
    first, second : FinishedModel
        In either order; a notice says so where the larger came first.

    Raises
    ------
    DataError
        The runs have different grids, images or image masks, or log-likelihoods of different definitions.
    ModelSpecError
        From `compare_models`: the models are not nested in a way that has a known null distribution.
    """
    _check_grids(first, second)
    second = _aligned(first, second)
    _check_origins(first, second)
    mixture = compare_models(first.model, second.model)
    voxels, at_first, at_second = np.intersect1d(
        first.voxels, second.voxels, assume_unique=True, return_indices=True
    )
    same_images = first.n_obs[at_first] == second.n_obs[at_second]
    loglik = np.where(same_images, first.loglik[at_first], np.nan)
    maps = lrt_maps(loglik, second.loglik[at_second], mixture)
    smaller, larger = (second, first) if mixture.swapped else (first, second)
    notices = []
    if mixture.swapped:
        notices.append(f"'{larger.model.name}' is the larger model; the two were exchanged")
    n_other = int((~same_images).sum())
    if n_other:
        notices.append(f"{n_other} of {len(voxels)} voxels were fitted to different images and are NaN")
    if not len(voxels):
        notices.append("the masks of the two models have no voxel in common")
    return Comparison(smaller, larger, mixture, voxels, maps, tuple(notices))


def _check_grids(first: FinishedModel, second: FinishedModel) -> None:
    if first.grid.shape != second.grid.shape or first.grid.distance(second.grid.affine) > AFFINE_TOLERANCE:
        msg = (
            f"{_pair(first, second)}: their maps lie on different grids ({first.grid.shape} and "
            f"{second.grid.shape}, or other affines); fit both to the same images"
        )
        raise DataError(msg)


def _check_origins(first: FinishedModel, second: FinishedModel) -> None:
    """Refuse REML criteria that differ by a constant between programs."""
    if first.model.reml and second.model.reml and first.origin != second.origin:
        msg = (
            f"{_pair(first, second)}: one was fitted by {first.origin}, the other by {second.origin}, whose "
            "REML log-likelihoods differ by a constant; fit both with the same program"
        )
        raise DataError(msg)


def _aligned(first: FinishedModel, second: FinishedModel) -> FinishedModel:
    """Bring `second` to the images' order of `first`, or refuse."""
    keys, others = _image_keys(first, second)
    if len(set(keys)) < len(keys) or len(keys) != len(others) or set(keys) != set(others):
        only = sorted(set(keys) ^ set(others))
        example = f", for example '{only[0]}' is in one only" if only else ""
        msg = (
            f"{_pair(first, second)}: they were fitted to different images ({len(keys)} and "
            f"{len(others)}{example}); fit both to the same images"
        )
        raise DataError(msg)
    place = {key: index for index, key in enumerate(others)}
    order = np.array([place[key] for key in keys], dtype=np.int64)
    aligned = replace(
        second,
        model=replace(second.model, design=_reordered(second.model.design, order)),
        images=tuple(second.images[index] for index in order),
        masks=tuple(second.masks[index] for index in order),
    )
    if _is_uri(first.images[0]) == _is_uri(second.images[0]) and first.masks != aligned.masks:
        msg = f"{_pair(first, second)}: their images have different masks; fit both with the same image masks"
        raise DataError(msg)
    return aligned


def _image_keys(first: FinishedModel, second: FinishedModel) -> tuple[list[str], list[str]]:
    """Name the images of either side in words that both sides have."""
    if not first.images or _is_uri(first.images[0]) == _is_uri(second.images[0]):
        return list(first.images), list(second.images)
    # One side has URIs within a dataset, the other paths on this machine: the file name is what both have.
    return [PurePath(image).name for image in first.images], [PurePath(image).name for image in second.images]


def _is_uri(image: str) -> bool:
    return image.startswith("bids:")


def _reordered(design: Design, order: IntArray) -> Design:
    terms = tuple(
        RandomTerm(term.group, term.levels, term.refs[order], term.effects[order], term.effect_names)
        for term in design.terms
    )
    return Design(design.X[order], design.fixef_names, terms)


def _pair(first: FinishedModel, second: FinishedModel) -> str:
    return f"cannot compare '{first.model.name}' with '{second.model.name}'"
