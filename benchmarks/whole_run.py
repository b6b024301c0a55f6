"""The whole BIDS App beside a plain parallel loop that only reads the same images.

`python -m benchmarks.whole_run` makes datasets of made-up scans (kept for the next time, some 10 GB) and
measures every case of the tables: with a warm page cache, `bids_app_run.py ... group` from nothing, and in
turn with it a pool of processes that runs np.asanyarray(nib.load(file).dataobj) and no more.

  python -m benchmarks.whole_run                              everything: most of an hour
  python -m benchmarks.whole_run --only memory --docs         one table, into the docs
  python -m benchmarks.whole_run --images 400 --mem 2G        a case of one's own
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.app_runs import CHECKOUT, Case, measure, measure_in_turn
from benchmarks.machine import describe_machine
from benchmarks.scale import work_ahead, worker_bytes
from benchmarks.tables import markdown_table, number, replace_section
from blmm_bids.cluster import format_memory, parse_memory

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from benchmarks.app_runs import Run

DOCS = CHECKOUT / "docs" / "performance.md"
FULL, MEDIUM, COARSE = "91x109x91", "45x54x45", "31x37x31"
CROSSED = ("(1 + time | subject)", "(1 + time + age + sex | session)")
# Times the loop, and seconds besides, that a run may take, by the number of images.
TARGETS = {1000: (1.5, 5.0), 4000: (1.5, 0.0)}
SCALE_IMAGES = (1_000, 10_000, 100_000)
SCALE_MEM = "2G"
CASES = (
    *(Case("ratio", n, FULL, repeats=2, with_loop=True) for n in TARGETS),
    *(Case("memory", 1_000, FULL, mem=mem) for mem in ("1G", "2G", "4G")),
    *(Case("memory", 10_000, COARSE, mem=mem) for mem in ("1G", "2G", "4G")),
    *(Case("processes", 1_000, MEDIUM, random=CROSSED, n_procs=n) for n in (1, 2)),
)
RATIO_HEADER = (
    "images", "loop, s", "app, s", "app / loop", "target, s", "start-up, s", "reading, s", "fitting, s",
    "writing, s", "report besides, s", "loop, CPU s", "app with report, CPU s",
)  # fmt: skip
MEMORY_HEADER = (
    "images",
    "voxels of an image",
    "--mem",
    "peak, MB",
    "share of --mem",
    "working files, MB",
    "app, s",
)
PROCESSES_HEADER = (
    "images",
    "random terms",
    "--nprocs",
    "app, s",
    "fitting, s",
    "app with report, CPU s",
    "whole, times faster",
    "fitting, times faster",
)
SCALE_HEADER = (
    "images", "voxels of an image", "in the mask", "kind", "working files, GB", "n x v x 4 bytes, GB",
    "memory a worker, MB", "CPU hours",
)  # fmt: skip


def ratio_table(runs: Sequence[Run]) -> str:
    """Lay out the app, its report apart, beside the plain loop."""
    rows = []
    for run in runs:
        if run.loop_wall is None or run.loop_cpu is None:
            continue
        times, seconds = TARGETS.get(run.case.n_images, (float("nan"), 0.0))
        stages = (run.stages[name] for name in ("start-up", "reading", "fitting", "writing", "report"))
        wall = run.wall_besides
        rows.append(
            (
                f"{run.case.n_images:,}",
                f"{run.loop_wall:.1f}",
                f"{wall:.1f}",
                f"{wall / run.loop_wall:.2f}",
                number(times * run.loop_wall + seconds, 3),
                *(f"{stage:.1f}" for stage in stages),
                f"{run.loop_cpu:.1f}",
                f"{run.cpu:.1f}",
            )
        )
    return markdown_table(RATIO_HEADER, rows)


def memory_table(runs: Sequence[Run]) -> str:
    """Peak of all processes together within ``--mem``."""
    rows = [
        (
            f"{run.case.n_images:,}",
            run.case.shape,
            run.case.mem,
            f"{run.peak_bytes / 2**20:.0f}",
            f"{run.peak_bytes / parse_memory(run.case.mem):.2f}",
            f"{run.disk_bytes / 2**20:,.0f}",
            f"{run.wall:.1f}",
        )
        for run in runs
    ]
    return markdown_table(MEMORY_HEADER, rows)


def processes_table(runs: Sequence[Run]) -> str:
    """One process beside several, the report apart."""
    alone = runs[0]
    rows = [
        (
            f"{run.case.n_images:,}",
            " + ".join(run.case.random).replace("|", r"\|"),
            str(run.case.n_procs),
            f"{run.wall_besides:.1f}",
            f"{run.stages['fitting']:.1f}",
            f"{run.cpu:.1f}",
            f"{alone.wall_besides / run.wall_besides:.2f}",
            f"{alone.stages['fitting'] / run.stages['fitting']:.2f}",
        )
        for run in runs
    ]
    return markdown_table(PROCESSES_HEADER, rows)


def scale_table(runs: Sequence[Run]) -> str:
    """Set beside the runs measured what other sizes take, from them and from the app's own arithmetic."""
    rows = []
    for measured in (run for run in runs if run.case.mem == SCALE_MEM):
        case, n_voxels = measured.case, measured.n_voxels
        for n_images in SCALE_IMAGES:
            work = work_ahead(n_images, n_voxels, case.shape, SCALE_MEM, case.n_procs)
            is_measured = n_images == case.n_images
            rows.append(
                (
                    f"{n_images:,}",
                    case.shape,
                    f"{n_voxels:,}",
                    "measured" if is_measured else "computed",
                    number((measured.disk_bytes if is_measured else work.disk_bytes) / 2**30, 3),
                    number(4 * n_images * n_voxels / 2**30, 3),
                    f"{worker_bytes(work) / 2**20:,.0f}",
                    number(measured.cpu * n_images / case.n_images / 3600, 2),
                )
            )
    return markdown_table(SCALE_HEADER, rows)


# What is measured, and the tables that are made of it.
TABLES: Mapping[str, Mapping[str, Callable[[Sequence[Run]], str]]] = {
    "ratio": {"ratio": ratio_table},
    "memory": {"memory": memory_table, "scale": scale_table},
    "processes": {"processes": processes_table},
}


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.whole_run",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.add_argument("--only", nargs="*", choices=TABLES, default=list(TABLES), help="what to measure")
    parser.add_argument("--docs", action="store_true", help=f"put the tables into docs/{DOCS.name} too")
    parser.add_argument("--directory", type=Path, default=Path("bench-out"), help="where everything goes")
    parser.add_argument("--images", type=int, help="a case of one's own, with so many images")
    parser.add_argument("--shape", default=FULL, help=f"its voxels along each axis (default {FULL})")
    parser.add_argument("--random", default="(1 | subject)", help='its random term (default "(1 | subject)")')
    parser.add_argument("--nprocs", type=int, default=os.cpu_count(), help="its processes, of both")
    parser.add_argument("--mem", default="", help="its --mem")
    parser.add_argument("--repeat", type=int, default=1, help="times that it is measured (default 1)")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, and print the tables or put them into the docs too."""
    options = parse(argv)
    if options.images:
        case = Case(
            "ratio", options.images, options.shape, (options.random,), options.nprocs, options.mem,
            repeats=options.repeat, with_loop=True,
        )  # fmt: skip
        run = measure(case, options.directory)
        print(ratio_table([run]))
        print(f"\npeak {format_memory(run.peak_bytes)}, working files {format_memory(run.disk_bytes)}")
        return 0
    for name in options.only:
        runs = measure_in_turn([case for case in CASES if case.group == name], options.directory)
        for run in runs:
            spent = f"{run.wall:.1f} s, {run.cpu:.1f} CPU s, peak {format_memory(run.peak_bytes)}"
            print(f"{run.case}: {spent}", file=sys.stderr, flush=True)
        for table, lay_out in TABLES[name].items():
            text = f"{describe_machine('nibabel', 'isal')}\n\n{lay_out(runs)}"
            print(f"\n{text}", flush=True)
            if options.docs:
                replace_section(DOCS, f"whole-run-{table}", text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
