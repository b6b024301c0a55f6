"""Longitudinal studies with a known truth: designs, and values at many voxels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from blmm_bids.stats.fit import fit_voxels
from blmm_bids.stats.model import Design, FitOptions, RandomTerm
from blmm_bids.stats.plan import make_plan

if TYPE_CHECKING:
    from numpy.typing import NDArray

N_FIXEF = 5
# Share of the voxels with missing images, and of the images that are missing there.
INCOMPLETE_VOXELS = 0.1
MISSING_IMAGES = 0.05
# Spread of the visits around their dates where each subject has times of its own.
VISIT_JITTER = 0.2
# Largest SDs of the random effects, relative to the residual's; a voxel's are uniform below them.
LARGEST_SD = {"subject": 1.5, "time": 0.7, "family": 1.0, "site": 1.0}


@dataclass(frozen=True)
class Study:
    """Who was scanned, when and where.

    Attributes
    ----------
    n_subjects, n_visits : int
        Each subject has this many visits.
    slope : bool
        Whether subjects have a slope over time besides their intercept.
    own_times : bool
        Whether each subject has visit times of its own, or all share them.
    n_sites : int
        Sites; 0 for none. Each visit is at a site drawn at random, unless there are families.
    n_families : int
        Families; 0 for none. Subjects are then nested in families and families in sites.
    """

    n_subjects: int
    n_visits: int = 4
    slope: bool = False
    own_times: bool = True
    n_sites: int = 0
    n_families: int = 0


def make_design(study: Study, rng: np.random.Generator) -> Design:
    """Intercept, time and three covariates of the subject; the study's random terms."""
    subject = np.repeat(np.arange(study.n_subjects), study.n_visits)
    time = np.tile(np.arange(study.n_visits, dtype=float), study.n_subjects)
    if study.own_times:
        time += rng.normal(0, VISIT_JITTER, time.size)
    covariates = rng.normal(size=(study.n_subjects, N_FIXEF - 2))[subject]
    X = np.column_stack([np.ones(time.size), time, covariates])
    effects = np.column_stack([np.ones(time.size), time][: 1 + study.slope])
    terms = [make_term("subject", subject, effects)]
    family_of_subject = np.sort(
        np.concatenate(
            [
                np.arange(study.n_families),
                rng.integers(0, max(study.n_families, 1), max(study.n_subjects - study.n_families, 0)),
            ]
        )
    )
    if study.n_families:
        terms.append(make_term("family", family_of_subject[subject]))
        site_of_family = _all_levels(rng, study.n_sites, study.n_families)
        terms.append(make_term("site", site_of_family[family_of_subject[subject]]))
    elif study.n_sites:
        terms.append(make_term("site", _all_levels(rng, study.n_sites, time.size)))
    return Design(X, ("intercept", "time", "a", "b", "c"), tuple(terms))


def _all_levels(rng: np.random.Generator, n_levels: int, size: int) -> NDArray[np.int64]:
    """Levels drawn at random, each at least once."""
    levels = np.concatenate([np.arange(n_levels), rng.integers(0, n_levels, size - n_levels)])
    return rng.permutation(levels)


def make_term(group: str, refs: NDArray[np.int64], effects: NDArray[np.float64] | None = None) -> RandomTerm:
    """Random term of the given columns, or of an intercept."""
    effects = np.ones((refs.size, 1)) if effects is None else effects
    levels = tuple(f"{group}{i}" for i in range(int(refs.max()) + 1))
    return RandomTerm(group, levels, refs, effects, ("intercept", "time")[: effects.shape[1]])


def draw_values(
    design: Design, n_voxels: int, rng: np.random.Generator, incomplete: float = INCOMPLETE_VOXELS
) -> NDArray[np.float32]:
    """(voxel, obs) values under the null, NaN where missing.

    Parameters
    ----------
    design : Design
        From `make_design`.
    n_voxels : int
    rng : numpy.random.Generator
    incomplete : float
        Share of the voxels with images missing, each other ones.
    """
    values = rng.standard_normal((n_voxels, design.n_obs), dtype=np.float32)
    for term in design.terms:
        for j, effect in enumerate(term.effect_names):
            largest = LARGEST_SD["time" if effect == "time" else term.group]
            sd = rng.uniform(0, largest, (n_voxels, 1)).astype(np.float32)
            b = rng.standard_normal((n_voxels, term.n_levels), dtype=np.float32) * sd
            values += b[:, term.refs] * term.effects[:, j].astype(np.float32)
    n_missing = max(1, round(MISSING_IMAGES * design.n_obs))
    for voxel in np.flatnonzero(rng.uniform(size=n_voxels) < incomplete):
        values[voxel, rng.choice(design.n_obs, n_missing, replace=False)] = np.nan
    return values


def load_kernels() -> None:
    """Fit a design whose subjects fold and one whose subjects do not: the kernels of all designs."""
    rng = np.random.default_rng(0)
    for study in (Study(20, own_times=False), Study(20, slope=True)):
        design = make_design(study, rng)
        fit_voxels(make_plan(design), draw_values(design, 2, rng, incomplete=0.5), FitOptions())
