"""Why the demo's 95 % intervals hold less: ``python -m benchmarks.coverage``.

The demo's subjects, visits and variances are drawn again and again with independent voxels. Beside what the
engine gives stand two yardsticks: the standard deviation that the estimate has when the true V is known
(GLS), and the share of intervals made with it.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.apart import run_apart
from benchmarks.machine import describe_machine
from benchmarks.simulate import make_term
from benchmarks.tables import markdown_table, replace_section
from blmm_bids.stats.fit import fit_voxels
from blmm_bids.stats.inference import contrast_maps
from blmm_bids.stats.model import Contrast, Design, FitOptions
from blmm_bids.stats.plan import make_plan
from demo import dataset

if TYPE_CHECKING:
    from collections.abc import Sequence

    from blmm_bids.stats.model import FloatArray

DOCS = Path(__file__).resolve().parents[1] / "docs" / "calibration.md"
FIXEF = ("intercept", "time", "age", "sex")
TESTED = FIXEF[1:]
ALPHA = 0.05
NORMAL_BOUND = 1.959964
VOXELS_A_DESIGN = 2_000
SEED = 30


@dataclass(frozen=True)
class Case:
    """One study like the demo's.

    Attributes
    ----------
    name : str
    n_subjects : int
    slopes, sites : bool
        Whether subjects differ in their slopes, and sites at all, in truth and in the model.
    """

    name: str
    n_subjects: int = dataset.N_SUBJECTS
    slopes: bool = True
    sites: bool = True


CASES = (
    Case("the demo"),
    Case("without sites", sites=False),
    Case("without slopes", slopes=False),
    Case("without either", slopes=False, sites=False),
    Case("81 subjects", 81),
    Case("161 subjects", 161),
)
HEADER = (
    "study", "effect", "held by the interval", "median df", "SD of estimate / GLS", "SE / GLS",
    "held with V known",
)  # fmt: skip


def draw_design(case: Case, rng: np.random.Generator) -> Design:
    """Draw the demo's subjects: each at one site, with one to four visits."""
    subjects = dataset.draw_subjects(rng, case.n_subjects)
    subject = np.repeat(np.arange(len(subjects)), [len(one.times) for one in subjects])
    time = np.concatenate([one.times for one in subjects])
    age = np.array([one.age for one in subjects])
    sex = np.array([one.sex == "M" for one in subjects], dtype=float)
    X = np.column_stack([np.ones(time.size), time, (age - age.mean())[subject], sex[subject]])
    terms = [make_term("subject", subject, X[:, : 1 + case.slopes])]
    if case.sites:
        site = np.unique([one.site for one in subjects], return_inverse=True)[1]
        terms.append(make_term("site", site[subject]))
    return Design(X, FIXEF, tuple(terms))


def true_factors(case: Case) -> list[FloatArray]:
    """Cholesky factor of each term's covariance, the residual's SD being 1."""
    rho = dataset.SUBJECT_SLOPE_CORRELATION
    subject = dataset.SUBJECT_SD * np.eye(1)
    if case.slopes:
        slope = dataset.SLOPE_SD
        subject = np.array([[dataset.SUBJECT_SD, 0], [slope * rho, slope * np.sqrt(1 - rho**2)]])
    return [subject, dataset.SITE_SD * np.eye(1)][: 1 + case.sites]


def measure_design(case: Case, n_voxels: int, seed: int) -> FloatArray:
    """(effect, column of the table) for one draw of subjects."""
    rng = np.random.default_rng(seed)
    design = draw_design(case, rng)
    values = rng.normal(size=(n_voxels, design.n_obs))
    covariance = np.eye(design.n_obs)
    for term, factor in zip(design.terms, true_factors(case), strict=True):
        b = rng.normal(size=(n_voxels, term.n_levels, term.n_effects)) @ factor.T
        values += np.einsum("oe,voe->vo", term.effects, b[:, term.refs])
        effects = term.effects @ factor
        covariance += (term.refs[:, None] == term.refs) * (effects @ effects.T)
    weighted = np.linalg.solve(covariance, design.X)
    known = np.linalg.inv(design.X.T @ weighted)
    by_gls = values @ weighted @ known
    fit = fit_voxels(make_plan(design), values.astype(np.float32), FitOptions())
    rows = []
    for name in TESTED:
        column = FIXEF.index(name)
        maps = contrast_maps(fit, Contrast(name, np.eye(len(FIXEF))[[column]], "t"))
        sd = np.sqrt(known[column, column])
        rows.append(
            (
                np.mean(10.0 ** -maps["logp2"] > ALPHA),
                np.median(maps["dof"]),
                np.std(maps["effect"]) / sd,
                np.sqrt(np.mean(maps["variance"])) / sd,
                np.mean(np.abs(by_gls[:, column]) < NORMAL_BOUND * sd),
            )
        )
    return np.array(rows)


def measure(case: Case, n_designs: int, n_voxels: int) -> FloatArray:
    """(effect, column of the table), means over draws of subjects."""
    draws = [measure_design(case, n_voxels, SEED + i) for i in range(n_designs)]
    return np.asarray(np.mean(draws, axis=0))


def table_rows(case: Case, measured: FloatArray) -> list[tuple[str, ...]]:
    """Lines of one study."""
    return [
        (case.name, effect, f"{held:.1%}", f"{dof:.0f}", f"{spread:.3f}", f"{se:.3f}", f"{known:.1%}")
        for effect, (held, dof, spread, se, known) in zip(TESTED, measured, strict=True)
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table, or put it into the docs too."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.coverage", description=__doc__)
    parser.add_argument("--designs", type=int, default=20, help="draws of subjects (default 20)")
    parser.add_argument("--voxels", type=int, default=VOXELS_A_DESIGN, help="voxels of each")
    parser.add_argument("--docs", action="store_true", help=f"put the table into docs/{DOCS.name} too")
    arguments = parser.parse_args(argv)
    rows = []
    for case in CASES:
        rows += table_rows(case, run_apart(measure, case, arguments.designs, arguments.voxels))
        print(f"{case.name}: done", file=sys.stderr, flush=True)
    n_intervals = arguments.designs * arguments.voxels
    error = 100 * np.sqrt(ALPHA * (1 - ALPHA) / n_intervals)
    caption = f"{n_intervals:,} intervals a line, Monte-Carlo standard error {error:.2f} % (subjects aside)."
    text = f"{describe_machine()}\n\n{caption}\n\n{markdown_table(HEADER, rows)}"
    print(text)
    if arguments.docs:
        replace_section(DOCS, "coverage", text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
