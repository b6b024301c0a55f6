"""How long the first fit waits for its kernels: ``python -m benchmarks.startup``.

A cold start compiles them into an empty cache; a warm one, the next process, loads them from there. Wall
and CPU seconds from the start of Python to the end of a fit of two voxels; for the whole app, whose two
workers compile side by side, wall seconds until all voxels of forty small images are fitted.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.app_runs import Case, dataset, read_log, run_app, stage_seconds
from benchmarks.machine import describe_machine
from benchmarks.tables import markdown_table, replace_section

if TYPE_CHECKING:
    from collections.abc import Sequence

CHECKOUT = Path(__file__).resolve().parents[1]
DOCS = CHECKOUT / "docs" / "performance.md"
FIT = """
import numpy as np
from benchmarks.simulate import Study, draw_values, make_design
from blmm_bids.stats.fit import fit_voxels
from blmm_bids.stats.model import FitOptions
from blmm_bids.stats.plan import make_plan
rng = np.random.default_rng(1)
design = make_design(Study(20, slope={slope}, own_times={own_times}), rng)
fit_voxels(make_plan(design), draw_values(design, 2, rng), FitOptions())
"""
# The two ways that a design may be fitted; a run whose voxels need both compiles both.
KINDS = {
    "subjects folded": {"slope": False, "own_times": False},
    "level by level": {"slope": True, "own_times": True},
}
HEADER = ("what", "start", "wall, s", "CPU, s")
APP = Case("start-up", 40, "12x14x12", n_procs=2)


def run_once(script: str, cache: str) -> tuple[float, float]:
    """Wall and CPU seconds of one process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    environment = {**os.environ, "NUMBA_CACHE_DIR": cache}
    subprocess.run([sys.executable, "-c", script], cwd=CHECKOUT, env=environment, check=True)
    wall = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def run_app_once(directory: Path, cache: str) -> float:
    """Wall seconds of the app until the last voxel is fitted."""
    root = dataset(APP, directory)
    usage = run_app(APP, root, {**os.environ, "NUMBA_CACHE_DIR": cache})
    stages = stage_seconds(read_log(root), usage)
    return stages["start-up"] + stages["reading"] + stages["fitting"]


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table, or put it into the docs too."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.startup", description=__doc__)
    parser.add_argument("--docs", action="store_true", help=f"put the table into docs/{DOCS.name} too")
    arguments = parser.parse_args(argv)
    rows = []
    for kind, study in KINDS.items():
        with tempfile.TemporaryDirectory() as cache:
            for start in ("cold", "warm"):
                wall, cpu = run_once(FIT.format(**study), cache)
                rows.append((kind, start, f"{wall:.1f}", f"{cpu:.1f}"))
    with tempfile.TemporaryDirectory() as directory, tempfile.TemporaryDirectory() as cache:
        for start in ("cold", "warm"):
            wall = run_app_once(Path(directory), cache)
            rows.append(("the app, two processes", start, f"{wall:.1f}", "-"))
    text = f"{describe_machine()}\n\n{markdown_table(HEADER, rows)}"
    print(text)
    if arguments.docs:
        replace_section(DOCS, "startup", text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
