"""What missing images cost: ``python -m benchmarks.patterns``.

The same designs with all images at all voxels, and with a twentieth of them missing at each voxel, other
ones at each, so that no two voxels share their products. Fits of both take turns in one process.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.apart import run_apart
from benchmarks.engine import CASES, MIN_VOXELS, REPEATS, SEED
from benchmarks.machine import describe_machine
from benchmarks.simulate import Study, draw_values, load_kernels, make_design
from benchmarks.tables import markdown_table, number, replace_section
from blmm_bids.stats.fit import fit_voxels
from blmm_bids.stats.model import FitOptions
from blmm_bids.stats.plan import make_plan

if TYPE_CHECKING:
    from collections.abc import Sequence

DOCS = Path(__file__).resolve().parents[1] / "docs" / "performance.md"
HEADER = ("design", "all images, ms a voxel", "own images, ms a voxel", "own / all")
# The largest designs take minutes each, for the same answer.
MOST_SUBJECTS = 1_000


def measure(study: Study, n_voxels: int, repeats: int) -> tuple[float, float]:
    """CPU seconds of a fit of voxels that have all images, and of voxels that each lack others."""
    load_kernels()
    rng = np.random.default_rng(SEED)
    design = make_design(study, rng)
    plan = make_plan(design)
    values = [draw_values(design, n_voxels, rng, incomplete) for incomplete in (0.0, 1.0)]
    times = np.zeros((repeats, 2))
    for repeat in range(repeats):
        for kind in range(2):
            start = time.process_time()
            fit_voxels(plan, values[kind], FitOptions())
            times[repeat, kind] = time.process_time() - start
    whole, own = times.min(axis=0)
    return float(whole), float(own)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table, or put it into the docs too."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.patterns", description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="times the voxels of each design")
    parser.add_argument("--repeats", type=int, default=REPEATS, help="of which the fastest counts")
    parser.add_argument("--only", default="", help="designs whose name has this text")
    parser.add_argument("--docs", action="store_true", help=f"put the table into docs/{DOCS.name} too")
    arguments = parser.parse_args(argv)
    rows = []
    for case in CASES:
        if arguments.only not in case.name or case.study.n_subjects > MOST_SUBJECTS:
            continue
        n_voxels = max(MIN_VOXELS, round(case.n_voxels * arguments.scale / 2))
        whole, own = run_apart(measure, case.study, n_voxels, arguments.repeats)
        rows.append(
            (case.name, number(1000 * whole / n_voxels), number(1000 * own / n_voxels), f"{own / whole:.2f}")
        )
    text = f"{describe_machine()}\n\n{markdown_table(HEADER, rows)}"
    print(text)
    if arguments.docs:
        replace_section(DOCS, "patterns", text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
