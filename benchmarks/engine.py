"""CPU time and memory of the estimation engine, by design: ``python -m benchmarks.engine``.

Each design is measured in a process of its own, compiled kernels loaded beforehand: planning, the fit and
the maps of one T contrast and one F contrast of rank 3. Of several repeats the fastest counts. The
data come from memory; reading is measured by ``benchmarks.whole_run``.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.apart import run_apart
from benchmarks.machine import describe_machine
from benchmarks.memory import peak_memory, reset_peak, resident_memory
from benchmarks.simulate import N_FIXEF, Study, draw_values, load_kernels, make_design
from benchmarks.tables import markdown_table, number, replace_section
from blmm_bids.stats.fit import fit_voxels
from blmm_bids.stats.inference import contrast_maps
from blmm_bids.stats.model import Contrast, FitOptions, Status
from blmm_bids.stats.plan import make_plan

if TYPE_CHECKING:
    from collections.abc import Sequence

PER_VOXELS = 20_000
SEED = 1
REPEATS = 3
# Voxels are fitted at least so many side by side; fewer would be charged for idle lanes.
MIN_VOXELS = 8
DOCS = Path(__file__).resolve().parents[1] / "docs" / "performance.md"
CONTRASTS = (Contrast("time", np.eye(N_FIXEF)[1:2], "t"), Contrast("abc", np.eye(N_FIXEF)[2:5], "F"))


@dataclass(frozen=True)
class Case:
    """One row of the table.

    Attributes
    ----------
    name : str
        What stands in the first column.
    study : Study
    n_voxels : int
        Voxels timed at scale 1.
    reference : float or None
        CPU seconds per 20,000 voxels of the reference implementation, where known.
    target : float or None
        The same, aimed at.
    """

    name: str
    study: Study
    n_voxels: int
    reference: float | None
    target: float | None


CASES = (
    Case("50 subjects, intercept", Study(50), 20_000, 4.6, 0.3),
    Case(
        "50 subjects, intercept + slope, same times", Study(50, slope=True, own_times=False), 20_000, 123, 0.8
    ),
    Case("50 subjects, intercept + slope, own times", Study(50, slope=True), 20_000, 123, 0.8),
    Case("50 subjects x 10 sites, crossed", Study(50, n_sites=10), 20_000, 274, 1.2),
    Case("500 subjects, intercept", Study(500), 4_000, 55, None),
    Case(
        "500 subjects, intercept + slope, same times", Study(500, slope=True, own_times=False), 2_000, 1575, 8
    ),
    Case("500 subjects, intercept + slope, own times", Study(500, slope=True), 600, 1575, 8),
    Case("200 subjects x 10 sites, crossed", Study(200, n_sites=10), 2_000, 5560, 4),
    Case("500 subjects x 10 sites, crossed", Study(500, n_sites=10), 1_000, 64500, 10),
    Case("1,000 subjects x 20 sites, crossed", Study(1000, n_sites=20), 500, None, 20),
    Case("3,000 subjects x 200 sites, crossed", Study(3000, n_sites=200), 32, None, None),
    Case(
        "9,500 families / 11,800 subjects / 22 sites, 2 visits",
        Study(11_800, n_visits=2, n_sites=22, n_families=9_500),
        32,
        None,
        400,
    ),
)


@dataclass(frozen=True)
class Timing:
    """What one design took.

    Attributes
    ----------
    n_voxels : int
        Voxels timed.
    plan, fit, inference : float
        CPU seconds.
    iterations_mean, iterations_max : float
        Evaluations of the criterion, over the voxels.
    unconverged : int
        Voxels that stopped at the limit.
    memory : float
        Bytes at the peak beyond the data; NaN where the system does not tell.
    """

    n_voxels: int
    plan: float
    fit: float
    inference: float
    iterations_mean: float
    iterations_max: int
    unconverged: int
    memory: float

    def per_20k(self, seconds: float) -> float:
        """Seconds for all voxels timed, as seconds for 20,000."""
        return seconds * PER_VOXELS / self.n_voxels


def measure(study: Study, n_voxels: int, repeats: int) -> Timing:
    """Fit and test simulated voxels of a study, timed."""
    load_kernels()
    rng = np.random.default_rng(SEED)
    design = make_design(study, rng)
    values = draw_values(design, n_voxels, rng)
    reset_peak()
    before = resident_memory()
    times = []
    for _ in range(repeats):
        clock = [time.process_time()]
        plan = make_plan(design)
        clock.append(time.process_time())
        fit = fit_voxels(plan, values, FitOptions())
        clock.append(time.process_time())
        for contrast in CONTRASTS:
            contrast_maps(fit, contrast)
        clock.append(time.process_time())
        times.append(np.diff(clock))
    plan_seconds, fit_seconds, inference_seconds = np.min(times, axis=0)
    return Timing(
        n_voxels=n_voxels,
        plan=float(plan_seconds),
        fit=float(fit_seconds),
        inference=float(inference_seconds),
        iterations_mean=float(fit.n_iter.mean()),
        iterations_max=int(fit.n_iter.max()),
        unconverged=int((fit.status == Status.MAX_ITER).sum()),
        memory=peak_memory() - before,
    )


HEADER = (
    "design", "voxels timed", "evaluations, mean (max)", "plan, s", "fit, s", "inference, s", "total, s",
    "ms a voxel", "memory, MB", "reference, s", "reference / total", "target, s", "total / target",
)  # fmt: skip


def table_row(case: Case, timing: Timing) -> tuple[str, ...]:
    """One line of the table; fit, inference, total, reference and target are per 20,000 voxels."""
    fit, inference = timing.per_20k(timing.fit), timing.per_20k(timing.inference)
    total = fit + inference
    evaluations = f"{timing.iterations_mean:.1f} ({timing.iterations_max})"
    if timing.unconverged:
        evaluations += f", {timing.unconverged} stopped"
    return (
        case.name,
        f"{timing.n_voxels:,}",
        evaluations,
        number(timing.plan),
        number(fit),
        number(inference),
        number(total),
        number(1000 * total / PER_VOXELS),
        number(timing.memory / 2**20, 3),
        number(case.reference, 3),
        number(case.reference and case.reference / total, 3),
        number(case.target, 3),
        number(case.target and total / case.target),
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table, or put it into the docs too."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engine", description=__doc__)
    parser.add_argument(
        "--scale", type=float, default=1.0, help="times the voxels of each design (default 1)"
    )
    parser.add_argument("--repeats", type=int, default=REPEATS, help="of which the fastest counts")
    parser.add_argument("--only", default="", help="designs whose name has this text")
    parser.add_argument("--docs", action="store_true", help=f"put the table into docs/{DOCS.name} too")
    arguments = parser.parse_args(argv)
    rows = []
    for case in CASES:
        if arguments.only not in case.name:
            continue
        n_voxels = max(MIN_VOXELS, round(case.n_voxels * arguments.scale))
        rows.append(table_row(case, run_apart(measure, case.study, n_voxels, arguments.repeats)))
        print(f"{case.name}: {rows[-1][6]} s per 20,000 voxels", file=sys.stderr, flush=True)
    table = markdown_table(HEADER, rows)
    print(f"{describe_machine()}\n\n{table}")
    if arguments.docs:
        replace_section(DOCS, "engine", f"{describe_machine()}\n\n{table}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
