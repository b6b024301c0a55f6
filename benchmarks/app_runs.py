"""Runs of the whole BIDS App on made-up scans, measured from outside.

Linux only: memory is read from ``/proc``.
"""

from __future__ import annotations

import compileall
import json
import re
import shutil
import sys
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.scans import Scans, image_paths, write_scans
from benchmarks.watching import Usage, run_watched

if TYPE_CHECKING:
    from collections.abc import Sequence

CHECKOUT = Path(__file__).resolve().parents[1]
APP = CHECKOUT / "bids_app_run.py"
X = [1, "time", "age", "sex"]
CONTRASTS: list[dict[str, Any]] = [
    {"Name": "time", "ConditionList": ["time"], "Weights": [1], "Test": "t"},
    {"Name": "any", "ConditionList": ["age", "sex[T.M]"], "Weights": [[1, 0], [0, 1]], "Test": "F"},
]
# The moments between which the stages of the app lie, by what its log says then.
MARKS = {
    "start-up": r"  work: ",
    "reading": r"images read: (\d+) of \1\b",
    "fitting": r"voxels fitted: (\d+) of \1\b",
    "writing": r".*: \d+ maps in ",
    "report": r"done in ",
}
LOG_LINE = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d),(\d{3}) \w+ (.*)")
WORK_LINE = re.compile(r"  work: (\d+) candidate voxels in .*, (\S+ [MG]B) a worker")


@dataclass(frozen=True)
class Case:
    """What is run.

    Attributes
    ----------
    group : str
        The table that it is for.
    n_images : int
        Four a subject.
    shape : str
        Voxels along each axis.
    random : tuple of str
        Random terms.
    n_procs : int
        Of the app, and of the plain loop beside it.
    mem : str
        The app's ``--mem``; empty for its default.
    repeats : int
        Times that it is measured; the least counts.
    with_loop : bool
        Whether the plain loop is measured in turn with it.
    n_distinct : int
        Images with values of their own.
    """

    group: str
    n_images: int
    shape: str
    random: tuple[str, ...] = ("(1 | subject)",)
    n_procs: int = 2
    mem: str = ""
    repeats: int = 1
    with_loop: bool = False
    n_distinct: int = 200


@dataclass(frozen=True)
class Run:
    """What a case took.

    Attributes
    ----------
    case : Case
    wall, cpu : float
        Seconds; the least of the repeats, each for itself, the report apart for ``wall``.
    peak_bytes : int
        Largest memory of all processes together, over the repeats.
    stages : dict
        Seconds of each stage in the repeat with the least wall time.
    n_voxels : int
        Candidates for the mask.
    worker_memory : str
        Memory a worker that the app announced.
    disk_bytes : int
        Working files at the end.
    loop_wall, loop_cpu : float or None
        Of the plain loop.
    """

    case: Case
    wall: float
    cpu: float
    peak_bytes: int
    stages: dict[str, float]
    n_voxels: int
    worker_memory: str
    disk_bytes: int
    loop_wall: float | None = None
    loop_cpu: float | None = None

    @property
    def wall_besides(self) -> float:
        """Seconds of all but the report."""
        return self.wall - self.stages["report"]


def measure(case: Case, directory: Path) -> Run:
    """Measure one case; see `measure_in_turn`."""
    return measure_in_turn([case], directory)[0]


def measure_in_turn(cases: Sequence[Case], directory: Path) -> list[Run]:
    """Make the datasets unless they are there, warm the page cache, and run the app, in turn with the loop.

    Parameters
    ----------
    cases : sequence of Case
        They take turns, too, so that what else the machine does meets all of them alike.
    directory : Path
        Where everything goes.

    Returns
    -------
    list of Run
        One a case.
    """
    # As an installation has it, whether this environment lets processes write any or not.
    compileall.compile_dir(CHECKOUT / "blmm_bids", quiet=2)
    roots = [dataset(case, directory) for case in cases]
    repeats: list[list[Run]] = [[] for _ in cases]
    for repeat in range(max(case.repeats for case in cases)):
        for case, root, runs in zip(cases, roots, repeats, strict=True):
            if repeat < case.repeats:
                runs.append(_run_once(case, root))
    return [_least(runs) for runs in repeats]


def _run_once(case: Case, root: Path) -> Run:
    loop_wall = loop_cpu = None
    if case.with_loop:
        command = [sys.executable, "-m", "benchmarks.plain_loop", str(root / "list.txt"), str(case.n_procs)]
        loop = run_watched(command)
        loop_wall, loop_cpu = float(loop.output.split()[-1]), loop.cpu
    usage = run_app(case, root)
    log = read_log(root)
    work = next(match for _, text in log if (match := WORK_LINE.match(text)))
    return Run(
        case,
        wall=usage.wall,
        cpu=usage.cpu,
        peak_bytes=usage.peak_bytes,
        stages=stage_seconds(log, usage),
        n_voxels=int(work[1]),
        worker_memory=work[2],
        disk_bytes=sum(path.stat().st_size for path in (root / "work").rglob("*") if path.is_file()),
        loop_wall=loop_wall,
        loop_cpu=loop_cpu,
    )


def _least(runs: Sequence[Run]) -> Run:
    """Take the run with the least wall time, report apart, with the least and the largest of all repeats."""
    best = min(runs, key=lambda run: run.wall_besides)
    return replace(
        best,
        cpu=min(run.cpu for run in runs),
        peak_bytes=max(run.peak_bytes for run in runs),
        loop_wall=min((run.loop_wall for run in runs if run.loop_wall is not None), default=None),
        loop_cpu=min((run.loop_cpu for run in runs if run.loop_cpu is not None), default=None),
    )


def dataset(case: Case, directory: Path) -> Path:
    """Make the dataset of a case unless it is there, and read it once; its place."""
    x, y, z = (int(n) for n in case.shape.split("x"))
    scans = Scans(case.n_images, (x, y, z), case.n_distinct)
    root = directory.absolute() / f"{case.n_images}x{case.shape}"
    if not (root / "made").exists():
        shutil.rmtree(root, ignore_errors=True)
        print(f"making {case.n_images} images of {case.shape} in {root}", file=sys.stderr, flush=True)
        write_scans(root / "scans", scans)
        (root / "made").touch()
    paths = image_paths(root / "scans", scans)
    (root / "list.txt").write_text("".join(f"{path}\n" for path in paths), encoding="utf-8")
    for path in paths:
        path.read_bytes()
    return root


def run_app(case: Case, root: Path, environment: dict[str, str] | None = None) -> Usage:
    """Run the app from nothing, numba's cache apart."""
    for place in (root / "out", root / "work"):
        shutil.rmtree(place, ignore_errors=True)
    model = root / "model.json"
    model.write_text(json.dumps(model_spec(case.random)), encoding="utf-8")
    command = [sys.executable, str(APP), str(root / "scans"), str(root / "out"), "group"]
    command += ["--model", str(model), "--work-dir", str(root / "work"), "--nprocs", str(case.n_procs)]
    command += ["--mask", str(root / "mask.nii.gz"), *(["--mem", case.mem] if case.mem else [])]
    return run_watched(command, environment)


def model_spec(random: Sequence[str]) -> dict[str, Any]:
    """BIDS Stats Model with these random terms."""
    model = {"Type": "glm", "X": X, "Software": {"blmm": {"RandomEffects": list(random)}}}
    node = {"Level": "Dataset", "Name": "group", "Model": model, "Contrasts": CONTRASTS}
    return {
        "Name": "whole run",
        "BIDSModelVersion": "1.0.0",
        "Input": {"task": ["rest"]},
        "Nodes": [node],
    }


def read_log(root: Path) -> list[tuple[float, str]]:
    """Seconds since the epoch and text of each line of the app's log."""
    lines = (root / "out" / "logs" / "blmm_bids.log").read_text("utf-8").splitlines()
    return [
        (datetime.strptime(match[1], "%Y-%m-%d %H:%M:%S").timestamp() + int(match[2]) / 1000, match[3])
        for line in lines
        if (match := LOG_LINE.match(line))
    ]


def stage_seconds(log: list[tuple[float, str]], usage: Usage) -> dict[str, float]:
    """Seconds of each stage, from the times in the app's log."""
    last = (max(when for when, text in log if re.match(pattern, text)) for pattern in MARKS.values())
    moments = [usage.started, *last]
    stages = {name: moments[i + 1] - moments[i] for i, name in enumerate(MARKS)}
    return stages | {"exit": usage.started + usage.wall - moments[-1]}
