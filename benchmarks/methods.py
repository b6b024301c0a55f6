"""Evaluations and CPU time of the estimation methods, by design: ``python -m benchmarks.methods``.

One thread, fits alone, compiled kernels loaded beforehand; the methods take turns, and of several repeats
the fastest counts. Every voxel's log-likelihood is compared with the default's.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from benchmarks.apart import run_apart
from benchmarks.machine import describe_machine
from benchmarks.simulate import Study, draw_values, make_design
from benchmarks.tables import markdown_table, number, replace_section
from blmm_bids.stats.fit import fit_voxels
from blmm_bids.stats.methods import UPDATES
from blmm_bids.stats.model import FitOptions, Status
from blmm_bids.stats.plan import make_plan

if TYPE_CHECKING:
    from collections.abc import Sequence

SEED = 1
REPEATS = 3
DOCS = Path(__file__).resolve().parents[1] / "docs" / "statistics.md"


class Case(NamedTuple):
    """One row of the table; without random effects in the values where ``is_null``."""

    name: str
    study: Study
    n_voxels: int
    is_null: bool = False


CASES = (
    Case("50 subjects, intercept", Study(50), 4_000),
    Case("50 subjects, intercept, true D = 0", Study(50), 4_000, is_null=True),
    Case("50 subjects, intercept + slope, same times", Study(50, slope=True, own_times=False), 2_000),
    Case("50 subjects, intercept + slope, own times", Study(50, slope=True), 1_000),
    Case("50 subjects, intercept + slope, own times, true D = 0", Study(50, slope=True), 1_000, is_null=True),
    Case("50 subjects x 10 sites, crossed", Study(50, n_sites=10), 2_000),
    Case("200 subjects x 10 sites, crossed", Study(200, n_sites=10), 1_000),
    Case("500 subjects, intercept + slope, own times", Study(500, slope=True), 256),
    Case("1,000 subjects x 20 sites, crossed", Study(1000, n_sites=20), 256),
)
HEADER = ("design", "default, µs a voxel", *UPDATES, "not converged", "largest gap")


def table_row(case: Case, scale: float) -> tuple[str, ...]:
    """CPU time of the default; mean evaluations of each method, and its CPU time in the default's."""
    rng = np.random.default_rng(SEED)
    design = make_design(case.study, rng)
    truth = replace(design, terms=()) if case.is_null else design
    values = draw_values(truth, max(1, round(case.n_voxels * scale)), rng)
    plan = make_plan(design)
    fits = {method: fit_voxels(plan, values, FitOptions(method=method)) for method in UPDATES}
    seconds = dict.fromkeys(UPDATES, np.inf)
    for _ in range(REPEATS):
        for method in UPDATES:
            start = time.process_time()
            fit_voxels(plan, values, FitOptions(method=method))
            seconds[method] = min(seconds[method], time.process_time() - start)
    gap = max(float(np.abs(fit.loglik - fits["default"].loglik).max()) for fit in fits.values())
    return (
        case.name,
        number(1e6 * seconds["default"] / len(values)),
        *(
            f"{fit.n_iter.mean():.1f} ({seconds[method] / seconds['default']:.2f})"
            for method, fit in fits.items()
        ),
        str(sum(int((fit.status == Status.MAX_ITER).sum()) for fit in fits.values())),
        f"{gap:.0e}",
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table, or put it into the docs too."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.methods", description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="times the voxels of each design")
    parser.add_argument("--docs", action="store_true", help=f"put the table into docs/{DOCS.name} too")
    arguments = parser.parse_args(argv)
    rows = []
    for case in CASES:
        rows.append(run_apart(table_row, case, arguments.scale))
        print(f"{case.name}: done", file=sys.stderr, flush=True)
    text = f"{markdown_table(HEADER, rows)}\n\n{describe_machine()}"
    print(text)
    if arguments.docs:
        replace_section(DOCS, "methods", text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
