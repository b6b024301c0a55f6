"""Whole runs on a real Slurm and a real Grid Engine of one machine: ``make test-cluster``.

The scripts that start them are kept outside the repository: `BLMM_INFRA` names their directory. Where they
or a scheduler's packages are absent its tests are skipped, or fail if `BLMM_REQUIRE_SCHEDULERS` names it.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.datasets import longitudinal, write_image, write_text
from tests.ssh_server import HOST, running_sshd

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.scheduler

CHECKOUT = Path(__file__).resolve().parents[1]
SHAPE = (64, 64, 20)
FORMULA = "1 + motion + (1 + motion | subject)"
PATIENCE = 400


@dataclass(frozen=True)
class RealScheduler:
    """A scheduler that runs.

    Attributes
    ----------
    name : str
        As in ``--cluster``.
    config : str
        dask-jobqueue's YAML.
    environ : dict
        What its commands need.
    listing, cancel : tuple of str
        Commands that print a job's id first in each line, and that end jobs.
    """

    name: str
    config: str
    environ: dict[str, str]
    listing: tuple[str, ...]
    cancel: tuple[str, ...]

    def jobs(self) -> list[str]:
        done = subprocess.run(
            self.listing, env=self.environ, capture_output=True, text=True, check=True, timeout=30
        )
        return [
            line.split()[0]
            for line in done.stdout.splitlines()
            if line.split()[:1] and line.split()[0].isdigit()
        ]

    def kill(self, *jobs: str) -> None:
        subprocess.run([*self.cancel, *jobs], env=self.environ, capture_output=True, check=False, timeout=30)


def _unavailable(name, reason):
    if name in os.environ.get("BLMM_REQUIRE_SCHEDULERS", "").split(","):
        pytest.fail(reason)
    pytest.skip(reason)


def _infra(name, *commands):
    script = f"{name}-up.sh"
    directory = Path(os.environ.get("BLMM_INFRA") or CHECKOUT.parent / "shared" / "infra")
    if not (directory / script).is_file():
        _unavailable(
            name, f"no {script} in {directory}; set BLMM_INFRA to the directory of the schedulers' scripts"
        )
    missing = [name for name in commands if shutil.which(name) is None]
    if missing:
        _unavailable(name, f"{', '.join(missing)} not installed; run {directory}/ci-deps.sh")
    return directory


@contextmanager
def _started(up, down, environ):
    done = subprocess.run(
        [up], env=environ, capture_output=True, text=True, check=False, timeout=120, stdin=subprocess.DEVNULL
    )
    try:
        assert done.returncode == 0, done.stdout + done.stderr
        yield
    finally:
        subprocess.run([down], env=environ, capture_output=True, check=False, timeout=120)


@contextmanager
def running_slurm(directory) -> Iterator[RealScheduler]:
    infra = _infra("slurm", "slurmctld", "slurmd", "munged", "sbatch")
    port = str(20000 + os.getpid() % 9000)
    environ = {**os.environ, "SLURM_CI": str(directory), "SLURM_CI_PORT": port, "NODES": "2", "CPUS": "2"}
    environ["SLURM_CONF"] = f"{directory}/etc/slurm.conf"
    config = "jobqueue: {slurm: {queue: ci, cores: 1, memory: 1GB, walltime: '00:20:00'}}\n"
    with _started(infra / "slurm-up.sh", infra / "slurm-down.sh", environ):
        yield RealScheduler("slurm", config, environ, ("squeue", "-h", "-o", "%i"), ("scancel",))


@contextmanager
def _sge(directory) -> Iterator[RealScheduler]:
    infra = _infra("sge", "sge_qmaster", "sge_execd", "qsub", "qstat")
    environ = {**os.environ, "SGE_ROOT": "/var/lib/gridengine", "SGE_CELL": "default"}
    config = (
        "jobqueue: {sge: {queue: ci.q, resource-spec: 'mem_free=100M', cores: 1, memory: 1GB, "
        "walltime: '00:20:00'}}\n"
    )
    with _started(infra / "sge-up.sh", infra / "sge-down.sh", environ):
        yield RealScheduler("sge", config, environ, ("qstat",), ("qdel",))


@pytest.fixture(scope="module", params=["slurm", "sge"])
def scheduler(request, tmp_path_factory):
    # The munge user has to reach its socket, and a socket's path is short.
    directory = Path(f"/tmp/blmm-{request.param}-{os.getpid()}")
    with {"slurm": running_slurm, "sge": _sge}[request.param](directory) as started:
        yield started
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Enough voxels that a run lasts some seconds on two workers."""
    root = tmp_path_factory.mktemp("study")
    subjects = [f"{number:02d}" for number in range(1, 21)]
    longitudinal(root, subjects, ("01", "02", "03", "04"), missing=(), masks="none")
    for path in root.rglob("*_stat-effect_statmap.nii.gz"):
        write_image(path, shape=SHAPE)
    for path in root.rglob("*_stat-variance_statmap.nii.gz"):
        path.unlink()
    return root


def command(dataset, out, *options):
    app = [sys.executable, str(CHECKOUT / "bids_app_run.py"), str(dataset), str(out), "group"]
    return [*app, "--formula", FORMULA, "-w", f"{out}_work", *map(str, options)]


@pytest.fixture(scope="module")
def expected(dataset, tmp_path_factory):
    """The files of the same run on this machine."""
    out = tmp_path_factory.mktemp("local") / "out"
    subprocess.run(command(dataset, out, "--nprocs", "2", "--quiet"), check=True, timeout=PATIENCE)
    return contents(out)


def contents(out):
    """Every file of the results but the logs and the page, which tell the command."""
    files = [path for path in (out / "node-group").rglob("*") if path.is_file()]
    assert len(files) > 20
    return {path.relative_to(out): path.read_bytes() for path in files}


@pytest.fixture
def start(scheduler, dataset, tmp_path):
    """Start a run on the scheduler; all its jobs are gone when the test ends."""
    write_text(tmp_path / "jobqueue.yaml", scheduler.config)
    started = []

    def run(*options, **environ):
        process = subprocess.Popen(
            command(
                dataset,
                tmp_path / "out",
                *("--cluster", scheduler.name, "--cluster-config", tmp_path / "jobqueue.yaml"),
                *("--n-workers", 2, *options),
            ),
            env={**scheduler.environ, "DASK_DISTRIBUTED__DEPLOY__LOST_WORKER_TIMEOUT": "2s", **environ},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            cwd=tmp_path,
        )
        started.append(process)
        return process

    yield run
    for process in started:
        if process.poll() is None:
            process.kill()
            process.communicate()
    assert gone(scheduler)


def gone(scheduler, seconds=15):
    """Whether the scheduler's list of jobs is empty within this time."""
    deadline = time.monotonic() + seconds
    while scheduler.jobs():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.3)
    return True


def until_fitting(process, work_dir):
    """Wait for the first blocks of results; the run is not over then."""
    deadline = time.monotonic() + PATIENCE
    while not list(work_dir.glob("fit-*/block-*.npz")):
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def finish(process):
    out, _ = process.communicate(timeout=PATIENCE)
    return process.returncode, out


def test_app__equals_the_local_run(scheduler, start, expected, tmp_path):
    code, log = finish(start())
    assert code == 0, log
    assert contents(tmp_path / "out") == expected


def test_app__submits_by_ssh(scheduler, start, expected, tmp_path):
    """The scheduler's commands are on PATH where sshd is, and fail here."""
    directory = tmp_path / "ssh"
    directory.mkdir()
    wanted = {name: value for name, value in scheduler.environ.items() if name.startswith(("SLURM_", "SGE_"))}
    with running_sshd(directory, wanted) as commands:
        for name in ("sbatch", "scancel", "qsub", "qdel"):
            (commands / name).write_text("#!/bin/sh\necho not from here >&2\nexit 1\n")
            (commands / name).chmod(0o755)
        code, log = finish(
            start("--submit-via", f"ssh:{HOST}", PATH=f"{commands}:{scheduler.environ['PATH']}")
        )
    assert code == 0, log
    assert contents(tmp_path / "out") == expected


@pytest.mark.parametrize("n_killed", [1, 2], ids=["one", "all"])
def test_app__killed_jobs_cost_nothing_but_time(scheduler, start, expected, tmp_path, n_killed):
    process = start()
    until_fitting(process, tmp_path / "out_work")
    jobs = scheduler.jobs()
    assert len(jobs) == 2
    scheduler.kill(*jobs[:n_killed])
    assert process.poll() is None
    code, log = finish(process)
    assert code == 0, log
    assert contents(tmp_path / "out") == expected


def test_app__gives_up_and_resumes(scheduler, start, expected, tmp_path):
    """Replacements come only after longer than the run waits for them."""
    process = start("--worker-timeout", "8", DASK_DISTRIBUTED__DEPLOY__LOST_WORKER_TIMEOUT="10m")
    until_fitting(process, tmp_path / "out_work")
    scheduler.kill(*scheduler.jobs())
    code, log = finish(process)
    assert code == 75, log
    assert "all workers were lost" in log
    assert gone(scheduler)
    code, log = finish(start())
    assert code == 0, log
    assert "kept from an earlier run" in log
    assert contents(tmp_path / "out") == expected


@pytest.mark.parametrize(("signum", "expect"), [(signal.SIGINT, 130), (signal.SIGTERM, 75)])
def test_app__a_signal_cancels_jobs_and_leaves_what_is_done(
    scheduler, start, expected, tmp_path, signum, expect
):
    process = start()
    until_fitting(process, tmp_path / "out_work")
    # A terminal sends Ctrl-C to all processes of the group, commands of the scheduler included.
    os.killpg(process.pid, signum)
    code, log = finish(process)
    assert code == expect, log
    assert gone(scheduler)
    assert list((tmp_path / "out_work").rglob("*.pem")) == []
    code, log = finish(start())
    assert code == 0, log
    assert "kept from an earlier run" in log
    assert contents(tmp_path / "out") == expected
