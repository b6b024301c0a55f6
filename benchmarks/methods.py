"""Evaluations and CPU time of each estimation method: ``python -m benchmarks.methods``.

One core, fits alone, kernels compiled beforehand; of several repeats, in which the methods take turns, the
fastest counts. Every voxel's log-likelihood is compared with the default's.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from blmm_bids.stats.fit import fit_voxels
from blmm_bids.stats.methods import UPDATES
from blmm_bids.stats.model import Design, FitOptions, RandomTerm, Status
from blmm_bids.stats.plan import make_plan

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from blmm_bids.stats.model import FloatArray

N_VISITS = 4
REPEATS = 2
SEED = 1
# Share of the voxels that miss images, and images that these miss.
INCOMPLETE, N_MISSING = 0.1, 2


class Case(NamedTuple):
    """Subjects with an intercept or a slope too, at shared or own times, crossed with sites or not.

    ``sd`` is that of the random effects, the residual's being 1.
    """

    name: str
    n_voxels: int
    n_subjects: int
    sd: float = 0.7
    slope: bool = False
    own_times: bool = False
    n_sites: int = 0


CASES = (
    Case("50 subjects, intercept", 4000, 50),
    Case("50 subjects, intercept, true D = 0", 4000, 50, sd=0.0),
    Case("50 subjects, intercept + slope", 4000, 50, slope=True),
    Case("50 subjects, intercept + slope, own times", 1000, 50, slope=True, own_times=True),
    Case("50 subjects x 10 sites, crossed", 2000, 50, n_sites=10),
    Case("200 subjects x 10 sites, crossed", 1000, 200, n_sites=10),
    Case("200 subjects, intercept + slope, own times", 200, 200, slope=True, own_times=True),
)


def simulate(case: Case, rng: np.random.Generator) -> tuple[Design, FloatArray]:
    """Design with five fixed effects, and (voxel, obs) values, NaN where missing."""
    subject = np.repeat(np.arange(case.n_subjects), N_VISITS)
    visit = np.tile(np.arange(N_VISITS, dtype=float), case.n_subjects)
    if case.own_times:
        visit += rng.normal(0, 0.2, visit.size)
    covariates = rng.normal(size=(case.n_subjects, 3))[subject]
    ones = np.ones(visit.size)
    terms = [_term("subject", subject, np.column_stack([ones, visit][: 1 + case.slope]))]
    if case.n_sites:
        site = rng.permutation(np.arange(visit.size) % case.n_sites)
        terms.append(_term("site", site, ones[:, None]))
    values = rng.normal(size=(case.n_voxels, visit.size))
    for term in terms:
        b = case.sd * rng.normal(size=(case.n_voxels, term.n_levels, term.n_effects))
        values += np.einsum("oe,voe->vo", term.effects, b[:, term.refs])
    for row in values[rng.random(case.n_voxels) < INCOMPLETE]:
        row[rng.choice(visit.size, N_MISSING, replace=False)] = np.nan
    columns = np.column_stack([ones, visit, covariates])
    return Design(columns, ("1", "visit", "a", "b", "c"), tuple(terms)), values


def _term(group: str, refs: NDArray[np.int64], effects: FloatArray) -> RandomTerm:
    levels = tuple(f"{group}{i}" for i in range(int(refs.max()) + 1))
    return RandomTerm(group, levels, refs, effects, ("1", "visit")[: effects.shape[1]])


def measure(case: Case) -> str:
    """Row of the table: CPU time of the default; evaluations, and CPU time in that unit, of each method."""
    design, values = simulate(case, np.random.default_rng(SEED))
    plan = make_plan(design)
    fits = {method: fit_voxels(plan, values, FitOptions(method=method)) for method in UPDATES}
    seconds = dict.fromkeys(UPDATES, np.inf)
    for _ in range(REPEATS):
        for method in UPDATES:
            start = time.process_time()
            fit_voxels(plan, values, FitOptions(method=method))
            seconds[method] = min(seconds[method], time.process_time() - start)
    cells = [case.name, f"{1e6 * seconds['default'] / case.n_voxels:,.0f}"]
    cells += [
        f"{fit.n_iter.mean():.1f} ({seconds[method] / seconds['default']:.2f})"
        for method, fit in fits.items()
    ]
    unfinished = sum(int((fit.status == Status.MAX_ITER).sum()) for fit in fits.values())
    gap = max(np.abs(fit.loglik - fits["default"].loglik).max() for fit in fits.values())
    return f"| {' | '.join([*cells, str(unfinished), f'{gap:.0e}'])} |"


def main() -> int:
    """Print a row for each design."""
    header = ["design", "us a voxel", *UPDATES, "not converged", "largest gap"]
    sys.stdout.write(f"| {' | '.join(header)} |\n|---|{'--:|' * (len(header) - 1)}\n")
    for case in CASES:
        sys.stdout.write(f"{measure(case)}\n")
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
