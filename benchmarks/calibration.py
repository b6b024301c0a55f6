"""Whether p values keep their promise in small unbalanced studies: ``python -m benchmarks.calibration``.

Under the null the share of p values below 0.05 should be 5 %. Each cell draws designs anew (subjects
with 1 to 5 visits, a continuous and a binary covariate of the subject, time and one more that changes
within subjects), fits voxels without any effect, and counts. A T test is counted with its two-sided p.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from benchmarks.apart import run_apart
from benchmarks.lmer import fit_with_r, missing_r
from benchmarks.machine import describe_machine
from benchmarks.simulate import make_term
from benchmarks.tables import markdown_table, replace_section
from blmm_bids.stats.fit import fit_voxels
from blmm_bids.stats.inference import contrast_maps
from blmm_bids.stats.model import Contrast, Design, FitOptions
from blmm_bids.stats.plan import make_plan

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from blmm_bids.stats.model import Fit, FloatArray, Satterthwaite

DOCS = Path(__file__).resolve().parents[1] / "docs" / "calibration.md"
ALPHAS = (0.05, 0.01, 0.001)
CHOICES: tuple[Satterthwaite, ...] = ("expected", "ml-expected", "observed")
NAIVE = "n - p"
LMERTEST = "lmerTest"
SAME_VOXELS = "observed, the same voxels"
FIXEF = ("intercept", "time", "state", "group", "age")
TESTS = {
    "T within (time)": ("time",),
    "T between (group)": ("group",),
    "F within (time, state)": ("time", "state"),
    "F between (group, age)": ("group", "age"),
}
VISITS = (1, 5)
N_SITES = 5
VOXELS_A_DESIGN = 1_000
SEED = 20


@dataclass(frozen=True)
class Truth:
    """Standard deviations of the random effects, relative to the residual's.

    Attributes
    ----------
    name : str
    subject, time, site : float
        Of subjects' intercepts, of their slopes (independent), of sites.
    """

    name: str
    subject: float
    time: float
    site: float


TRUTHS = (Truth("D = 0", 0, 0, 0), Truth("small D", 0.4, 0.2, 0.2), Truth("large D", 1.5, 0.7, 0.7))
MODELS = ("intercept", "intercept + slope", "crossed with sites")
SIZES = (10, 20, 30)


@dataclass(frozen=True)
class Cell:
    """A model, a number of subjects and a truth."""

    model: str
    n_subjects: int
    truth: Truth


CELLS = tuple(Cell(*combination) for combination in itertools.product(MODELS, SIZES, TRUTHS))


def draw_design(cell: Cell, rng: np.random.Generator) -> Design:
    """Draw an unbalanced study."""
    while True:
        n_visits = rng.integers(VISITS[0], VISITS[1] + 1, cell.n_subjects)
        subject = np.repeat(np.arange(cell.n_subjects), n_visits)
        time = np.concatenate([np.arange(n) + rng.normal(0, 0.2, n) for n in n_visits])
        group = (np.arange(cell.n_subjects) % 2)[subject]
        age = rng.normal(size=cell.n_subjects)[subject]
        site = rng.integers(0, N_SITES, subject.size)
        # Fewer images of a kind than a slope or a site needs would be refused, not tested.
        if subject.size > 2 * cell.n_subjects + len(FIXEF) and np.unique(site).size == N_SITES:
            break
    X = np.column_stack([np.ones(subject.size), time, rng.normal(size=subject.size), group, age])
    has_slope = cell.model == "intercept + slope"
    terms = [make_term("subject", subject, X[:, : 1 + has_slope])]
    if cell.model == "crossed with sites":
        terms.append(make_term("site", site))
    return Design(X, FIXEF, tuple(terms))


def draw_null(design: Design, truth: Truth, n_voxels: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """(voxel, obs) values with random effects and no fixed ones."""
    values = rng.normal(size=(n_voxels, design.n_obs))
    for term in design.terms:
        sds = [truth.site] if term.group == "site" else [truth.subject, truth.time]
        for j in range(term.n_effects):
            b = rng.normal(0, 1, (n_voxels, term.n_levels)) * sds[j]
            values += b[:, term.refs] * term.effects[:, j]
    return values.astype(np.float32)


def p_values(fit: Fit) -> dict[str, tuple[FloatArray, FloatArray]]:
    """P values of each test by the fit's degrees of freedom, and by n - p."""
    naive = (fit.n_obs - len(FIXEF)).astype(float)
    found = {}
    for name, columns in TESTS.items():
        rows = np.eye(len(FIXEF))[[FIXEF.index(column) for column in columns]]
        if name.startswith("T"):
            maps = contrast_maps(fit, Contrast(name, rows, "t"))
            found[name] = (10.0 ** -maps["logp2"], 2 * np.asarray(stats.t.sf(np.abs(maps["t"]), naive)))
        else:
            maps = contrast_maps(fit, Contrast(name, rows, "F"))
            found[name] = (maps["p"], np.asarray(stats.f.sf(maps["F"], len(rows), naive)))
    return found


@dataclass
class Count:
    """Hits of one test by one method.

    Attributes
    ----------
    hits : (alpha,)
        P values below each of `ALPHAS`.
    n : int
        P values.
    n_none : int
        Voxels without one.
    """

    hits: NDArray[np.int64]
    n: int = 0
    n_none: int = 0

    def add(self, p: FloatArray) -> None:
        """Count the p values of some voxels."""
        known = p[np.isfinite(p)]
        self.hits += np.array([(known < alpha).sum() for alpha in ALPHAS])
        self.n += known.size
        self.n_none += p.size - known.size

    def rates(self) -> FloatArray:
        """Shares of hits, one an alpha."""
        return self.hits / self.n if self.n else np.full(len(ALPHAS), np.nan)


Counts = dict[tuple[str, str], Count]


def count_cell(cell: Cell, n_voxels: int, n_lmertest: int, seed: int) -> Counts:
    """Fit a cell's voxels and count.

    Parameters
    ----------
    cell : Cell
    n_voxels : int
        In all, `VOXELS_A_DESIGN` of them a design.
    n_lmertest : int
        Of these, how many lmerTest gets too; the same share of each design.
    seed : int

    Returns
    -------
    dict
        By test and method; ``observed`` on lmerTest's voxels is a method of its own.
    """
    rng = np.random.default_rng(seed)
    methods = [*CHOICES, NAIVE, *([LMERTEST, SAME_VOXELS] if n_lmertest else [])]
    counts = {key: Count(np.zeros(len(ALPHAS), np.int64)) for key in itertools.product(TESTS, methods)}
    n_designs = -(-n_voxels // VOXELS_A_DESIGN)
    for index in range(n_designs):
        design = draw_design(cell, rng)
        size = min(VOXELS_A_DESIGN, n_voxels - index * VOXELS_A_DESIGN)
        values = draw_null(design, cell.truth, size, rng)
        plan = make_plan(design)
        subset = range(index, n_lmertest, n_designs)
        by_r = fit_with_r(design, values[: len(subset)], "test") if subset else np.zeros((0, 10))
        for choice in CHOICES:
            tests = p_values(fit_voxels(plan, values, FitOptions(satterthwaite=choice)))
            for number, (name, (p, naive)) in enumerate(tests.items()):
                counts[name, choice].add(p)
                if choice == "observed" and subset:
                    counts[name, LMERTEST].add(by_r[:, 2 + 2 * number])
                    counts[name, SAME_VOXELS].add(p[: len(subset)])
                if choice == CHOICES[0]:
                    counts[name, NAIVE].add(naive)
    return counts


DETAIL_HEADER = ("model", "subjects", "truth", "test", *CHOICES, NAIVE, LMERTEST, SAME_VOXELS)
SUMMARY_HEADER = (
    "method",
    "p below",
    "mean, %",
    "lowest, %",
    "highest, %",
    "too often",
    "too rarely",
    "error",
)


def detail_rows(results: dict[Cell, Counts]) -> list[tuple[str, ...]]:
    """One line a cell and test: per cent of p values below each of `ALPHAS`."""
    rows = []
    for cell, counts in results.items():
        for test in TESTS:
            found = [counts.get((test, method)) for method in DETAIL_HEADER[4:]]
            shares = [" / ".join(f"{100 * rate:.2f}" for rate in c.rates()) if c else "-" for c in found]
            rows.append((cell.model, str(cell.n_subjects), cell.truth.name, test, *shares))
    return rows


def summary_rows(results: dict[Cell, Counts]) -> list[tuple[str, ...]]:
    """One line a method and level, over all cells and tests.

    ``error`` is the mean of ``|rate - alpha| / alpha``, and the sum of its two parts before it: how much
    more, and how much less, often than promised.
    """
    rows = []
    for method in (*CHOICES, NAIVE):
        rates = np.array([counts[test, method].rates() for counts in results.values() for test in TESTS])
        for alpha, column in zip(ALPHAS, rates.T, strict=True):
            off = column / alpha - 1
            shares = (column.mean(), column.min(), column.max())
            parts = (np.maximum(off, 0).mean(), np.maximum(-off, 0).mean(), np.abs(off).mean())
            rows.append(
                (method, f"{alpha:g}", *(f"{100 * x:.2f}" for x in shares), *(f"{x:.2f}" for x in parts))
            )
    return rows


def standard_errors(n: int) -> str:
    """Monte-Carlo standard errors, in per cent, of shares that are as promised."""
    return " / ".join(f"{100 * np.sqrt(alpha * (1 - alpha) / n):.2g}" for alpha in ALPHAS)


def report(results: dict[Cell, Counts], n_voxels: int, n_lmertest: int, note: str) -> str:
    """Lay out the tables with what they were made from."""
    took_part = f"{n_lmertest:,} of them in some cells, standard errors {standard_errors(n_lmertest)} %"
    lines = [
        describe_machine("scipy"),
        "",
        f"{n_voxels:,} voxels a cell, {VOXELS_A_DESIGN:,} a design; Monte-Carlo standard errors"
        f" {standard_errors(n_voxels)} % at p < {' / '.join(f'{alpha:g}' for alpha in ALPHAS)}.",
        f"lmerTest: {note or took_part}.",
        "",
        markdown_table(SUMMARY_HEADER, summary_rows(results)),
        "",
        markdown_table(DETAIL_HEADER, detail_rows(results)),
    ]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the tables, or put them into the docs too."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.calibration", description=__doc__)
    parser.add_argument("--voxels", type=int, default=2_000, help="voxels a cell (the docs: 50,000)")
    parser.add_argument(
        "--lmertest", type=int, default=0, help="of which lmerTest gets so many (the docs: 1,000)"
    )
    parser.add_argument("--lmertest-subjects", type=int, default=20, help="in cells with so many subjects")
    parser.add_argument("--docs", action="store_true", help=f"put the tables into docs/{DOCS.name} too")
    arguments = parser.parse_args(argv)
    note = missing_r("test") if arguments.lmertest else "left out"
    results = {}
    for number, cell in enumerate(CELLS):
        takes_part = note is None and cell.n_subjects == arguments.lmertest_subjects
        n_lmertest = arguments.lmertest if takes_part else 0
        results[cell] = run_apart(count_cell, cell, arguments.voxels, n_lmertest, SEED + number)
        print(f"{number + 1} of {len(CELLS)} cells", file=sys.stderr, flush=True)
    text = report(results, arguments.voxels, arguments.lmertest, note or "")
    print(text)
    if arguments.docs:
        replace_section(DOCS, "calibration", text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
