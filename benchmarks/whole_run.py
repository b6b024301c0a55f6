"""The whole BIDS App beside a plain parallel loop that only reads the same images.

Makes a dataset of made-up scans (kept for the next time), then measures in turn, with a warm page cache, a
pool of processes that runs np.asanyarray(nib.load(file).dataobj), and `bids_app_run.py ... group` with a
random intercept for each subject and as many processes. Linux only: memory is read from /proc.

  python benchmarks/whole_run.py                        1,000 images of 2 mm
  python benchmarks/whole_run.py --images 4000 --mem 2G
  python benchmarks/whole_run.py --images 10000 --shape 31x37x31
  python benchmarks/whole_run.py --images 200 --random '(1 + time | subject)' --no-loop --nprocs 1
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import re
import shutil
import sys
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.scans import Scans, image_paths, write_scans
from benchmarks.watching import Usage, run_watched

if TYPE_CHECKING:
    from collections.abc import Sequence

APP = Path(__file__).resolve().parent.parent / "bids_app_run.py"
MODEL: dict[str, Any] = {
    "Name": "whole run",
    "BIDSModelVersion": "1.0.0",
    "Input": {"task": ["rest"]},
    "Nodes": [
        {
            "Level": "Dataset",
            "Name": "group",
            "Model": {
                "Type": "glm",
                "X": [1, "time", "age", "sex"],
                "Software": {"blmm": {}},
            },
            "Contrasts": [
                {"Name": "time", "ConditionList": ["time"], "Weights": [1], "Test": "t"},
                {
                    "Name": "any",
                    "ConditionList": ["age", "sex[T.M]"],
                    "Weights": [[1, 0], [0, 1]],
                    "Test": "F",
                },
            ],
        }
    ],
}
# The moments between which the stages of the app lie, by what its log says then.
MARKS = {
    "start-up": r"  work: ",
    "reading": r"images read: (\d+) of \1\b",
    "fitting": r"voxels fitted: (\d+) of \1\b",
    "writing": r"done in ",
}
LOG_LINE = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d),(\d{3}) \w+ (.*)")


@dataclass(frozen=True)
class Loop:
    """The plain loop: seconds without the start of its processes, processor seconds with it."""

    wall: float
    cpu: float


def read_plainly(path: str) -> int:
    """Read one image as anybody would."""
    return int(np.asanyarray(nib.load(path).dataobj).size)  # type: ignore[attr-defined]


def loop(list_file: Path, n_procs: int) -> None:
    """Read all images of a list with a pool of processes; prints seconds."""
    paths = list_file.read_text(encoding="utf-8").splitlines()
    with multiprocessing.Pool(n_procs) as pool:
        pool.map(read_plainly, paths[:n_procs], chunksize=1)
        start = time.perf_counter()
        for _ in pool.imap_unordered(read_plainly, paths, chunksize=4):
            pass
        print(time.perf_counter() - start)
        pool.close()
        pool.join()


def measure_loop(list_file: Path, n_procs: int) -> Loop:
    """Run `loop` in a process of its own."""
    usage = run_watched([sys.executable, __file__, "--loop", str(list_file), "--nprocs", str(n_procs)])
    return Loop(float(usage.output.split()[-1]), usage.cpu)


def measure_app(root: Path, options: argparse.Namespace) -> tuple[Usage, dict[str, float]]:
    """Run the app from nothing, numba's cache apart; what it took, and seconds a stage."""
    for directory in (root / "out", root / "work"):
        shutil.rmtree(directory, ignore_errors=True)
    model = root / "model.json"
    MODEL["Nodes"][0]["Model"]["Software"]["blmm"]["RandomEffects"] = [options.random]
    model.write_text(json.dumps(MODEL), encoding="utf-8")
    command = [sys.executable, str(APP), str(root / "scans"), str(root / "out"), "group"]
    command += ["--model", str(model), "--work-dir", str(root / "work"), "--nprocs", str(options.nprocs)]
    command += ["--mask", str(root / "mask.nii.gz")] if options.mask == "file" else ["--mask", "none"]
    command += ["--mem", options.mem] if options.mem else []
    usage = run_watched([*command, *options.app_options])
    return usage, stage_seconds(root / "out" / "logs" / "blmm_bids.log", usage)


def stage_seconds(log: Path, usage: Usage) -> dict[str, float]:
    """Seconds of each stage, from the times in the app's log."""
    moments = [usage.started]
    lines = [match for line in log.read_text("utf-8").splitlines() if (match := LOG_LINE.match(line))]
    for pattern in MARKS.values():
        found = [match for match in lines if re.match(pattern, match[3])]
        when = datetime.strptime(found[-1][1], "%Y-%m-%d %H:%M:%S").timestamp()
        moments.append(when + int(found[-1][2]) / 1000)
    stages = {name: moments[i + 1] - moments[i] for i, name in enumerate(MARKS)}
    return stages | {"exit": usage.started + usage.wall - moments[-1]}


def dataset(options: argparse.Namespace) -> tuple[Path, list[Path]]:
    """Make the dataset unless it is there; its place and its images."""
    shape = tuple(int(n) for n in options.shape.split("x"))
    scans = Scans(options.images, (shape[0], shape[1], shape[2]), options.distinct)
    root = options.directory / f"{options.images}x{options.shape}"
    if not (root / "mask.nii.gz").exists() or not (root / "made").exists():
        shutil.rmtree(root, ignore_errors=True)
        print(f"making {options.images} images of {options.shape} in {root}", flush=True)
        write_scans(root / "scans", scans)
        (root / "made").touch()
    paths = image_paths(root / "scans", scans)
    (root / "list.txt").write_text("".join(f"{path}\n" for path in paths), encoding="utf-8")
    return root, paths


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--images", type=int, default=1000, help="images (default 1000)")
    parser.add_argument("--shape", default="91x109x91", help="voxels along each axis (default 91x109x91)")
    parser.add_argument("--distinct", type=int, default=200, help="images with values of their own (200)")
    parser.add_argument("--nprocs", type=int, default=os.cpu_count(), help="processes, of both")
    parser.add_argument("--mem", help="the app's --mem")
    parser.add_argument("--mask", choices=("file", "none"), default="file", help="the app's --mask")
    parser.add_argument("--random", default="(1 | subject)", help='random term (default "(1 | subject)")')
    parser.add_argument("--repeat", type=int, default=3, help="times that both are measured (default 3)")
    parser.add_argument("--no-loop", action="store_true", help="only the app")
    parser.add_argument("--directory", type=Path, default=Path("bench-out"), help="where everything goes")
    parser.add_argument("--loop", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("app_options", nargs="*", help="after --: further options of the app")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    options = parse(arguments)
    if options.loop:
        loop(options.loop, options.nprocs)
        return
    root, paths = dataset(options)
    n_bytes = sum(len(path.read_bytes()) for path in paths)  # which also warms the page cache
    print(f"{len(paths)} images, {n_bytes / 2**20:.0f} MB compressed, {options.nprocs} processes")
    walls: dict[str, list[float]] = {"loop": [], "app": []}
    cpus: dict[str, list[float]] = {"loop": [], "app": []}
    for _ in range(options.repeat):
        if not options.no_loop:
            plain = measure_loop(root / "list.txt", options.nprocs)
            walls["loop"].append(plain.wall)
            cpus["loop"].append(plain.cpu)
            print(f"loop  {plain.wall:7.1f} s  {plain.cpu:7.1f} s processor", flush=True)
        usage, stages = measure_app(root, options)
        walls["app"].append(usage.wall)
        cpus["app"].append(usage.cpu)
        parts = ", ".join(f"{name} {seconds:.1f}" for name, seconds in stages.items())
        print(
            f"app   {usage.wall:7.1f} s  {usage.cpu:7.1f} s processor  {usage.peak_bytes / 2**20:.0f} MB peak"
            f"  ({parts})",
            flush=True,
        )
    if not options.no_loop:
        print(f"least app / least loop: wall {min(walls['app']) / min(walls['loop']):.2f}", end="")
        print(f", processor {min(cpus['app']) / min(cpus['loop']):.2f}")


if __name__ == "__main__":
    main()
