"""Faults injected into whole runs: processes killed, disks filled, memory bounded. `make test-faults`.

Every storm ends with a run that is left in peace; its maps, tables and sidecars must equal, bit for bit,
those of a run that nothing ever happened to.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from blmm_bids.cluster import ClusterOptions, open_cluster
from blmm_bids.cluster.dask_config import MAX_LOST_WORKERS
from blmm_bids.outputs.lock import LOCK_NAME
from blmm_bids.outputs.manifest import is_finished
from tests.datasets import AFFINE, longitudinal

pytestmark = [
    pytest.mark.faults,
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc to find a run's processes"),
]

# A stage and a kind of process.
KILLS = int(os.environ.get("BLMM_TEST_KILLS", "8"))
STAGES = ("starting", "gathering", "fitting", "writing")
SHAPE = (24, 20, 12)
EFFECTS = "*stat-effect_statmap.nii.gz"
MODEL = ("--formula", "1 + time + (1 + time | subject)", "--outputs", "default,ranef")
PATIENCE = 120.0


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Ten subjects of three sessions with images large enough that each stage takes a while."""
    root = longitudinal(
        tmp_path_factory.mktemp("faults") / "data",
        subjects=tuple(f"{n:02d}" for n in range(1, 11)),
        sessions=("01", "02", "03", "04"),
        missing=(),
        masks="none",
    )
    rng = np.random.default_rng(3)
    for path in sorted(root.rglob(EFFECTS)):
        nib.Nifti1Image(rng.normal(size=SHAPE).astype(np.float32), AFFINE).to_filename(path)
    return root


def command(data, place):
    return [
        *(sys.executable, "-m", "blmm_bids", str(data), str(place / "out"), "group", *MODEL),
        *("--work-dir", str(place / "work"), "--nprocs", "2", "--mem", "3G"),
    ]


def start(arguments, place):
    place.mkdir(exist_ok=True)
    with (place / "stderr").open("a") as log:
        return subprocess.Popen(arguments, stderr=log, stdout=log, start_new_session=True)


def content(place):
    """Bytes of all that the nodes hold."""
    return {
        path.relative_to(place).as_posix(): path.read_bytes()
        for path in sorted((place / "out").glob("node-*/*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def undisturbed(data, tmp_path_factory):
    place = tmp_path_factory.mktemp("undisturbed")
    assert start(command(data, place), place).wait(PATIENCE) == 0, (place / "stderr").read_text()
    return content(place)


def stage_of(place):
    """How far a run is, by what lies on disk."""
    if list((place / "out").glob("node-*/*")):
        return "writing"
    if list((place / "work").glob("fit-*/block-*.npz")):
        return "fitting"
    if list((place / "work").glob("gather-*/part-*")):
        return "gathering"
    return "starting"


def descendants(pid):
    """Processes below one, from /proc."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
    found, waiting = [], [pid]
    while waiting:
        here = waiting.pop()
        children = [child for child, parent in parents.items() if parent == here]
        found += children
        waiting += children
    return found


def workers_of(pid):
    """The worker processes of a run: copies of its fork server, which is a child of the run itself."""
    found = []
    for child in descendants(pid):
        try:
            line = Path(f"/proc/{child}/cmdline").read_bytes()
            parent = int(Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if b"multiprocessing.forkserver" in line and parent != pid:
            found.append(child)
    return found


def wait_until(condition, process, seconds=PATIENCE):
    """Whether it came true before the process ended."""
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        if condition():
            return True
        if process.poll() is not None:
            return False
        time.sleep(0.005)
    return False


def finish(data, place, undisturbed):
    """Leave a run in peace, and compare."""
    process = start(command(data, place), place)
    assert process.wait(PATIENCE) == 0, (place / "stderr").read_text()[-4000:]
    compare(place, undisturbed)


def compare(place, undisturbed):
    """A finished run equals one that nothing happened to, and has tidied up."""
    found = content(place)
    assert found.keys() == undisturbed.keys()
    assert [name for name, stored in found.items() if stored != undisturbed[name]] == []
    assert is_finished(place / "out")
    assert not list(place.rglob(LOCK_NAME))
    assert not [path for path in place.rglob(".*") if path.suffix in (".tmp", ".part")]


def is_at(place, stage):
    """Whether a run has come as far as a stage."""
    return STAGES.index(stage_of(place)) >= STAGES.index(stage)


@pytest.mark.parametrize("stage", STAGES)
def test_run__main_process_killed_at_any_moment(data, undisturbed, tmp_path, stage):
    """The scheduler of local workers is a thread of the main process, and dies with it."""
    chance = random.Random(f"main {stage}")
    kills: Counter[str] = Counter()
    place, number = tmp_path / "0", 0
    while sum(kills.values()) < KILLS:
        number += 1
        process = start(command(data, place), place)
        wait_until(lambda: is_at(place, stage), process)  # noqa: B023
        time.sleep(chance.uniform(0.0, 3.0 if stage == "starting" else 0.2))
        if process.poll() is None:
            kills[stage_of(place)] += 1
            process.kill()
            process.wait()
            # Maps that are there are whole, and the list says that the run is not.
            assert not is_finished(place / "out")
        # Mostly one kill after the other, and a run in peace now and then: from there it begins anew.
        if process.returncode == 0 or number % 3 == 0:
            finish(data, place, undisturbed)
            place = tmp_path / str(number)
        assert number < 4 * KILLS, "the runs end before they can be killed"
    if place.exists():
        finish(data, place, undisturbed)
    print(f"\n{sum(kills.values())} kills of the main process: {dict(kills)}")  # noqa: T201


@pytest.mark.parametrize("stage", STAGES[:3])
def test_run__workers_killed_at_any_moment(data, undisturbed, tmp_path, stage):
    chance = random.Random(f"worker {stage}")
    kills: Counter[str] = Counter()
    number = 0
    while sum(kills.values()) < KILLS:
        number += 1
        place = tmp_path / str(number)
        process = start(command(data, place), place)
        wait_until(lambda: len(workers_of(process.pid)) == 2, process)  # noqa: B023
        wait_until(lambda: is_at(place, stage), process)  # noqa: B023
        time.sleep(chance.uniform(0.0, 1.0 if stage == "starting" else 0.1))
        victims = workers_of(process.pid)
        if process.poll() is None and victims:
            with suppress(ProcessLookupError):
                os.kill(chance.choice(victims), signal.SIGKILL)
                kills[stage_of(place)] += 1
        # One worker lost is made good in the run itself; at worst it says that it may be run again.
        code = process.wait(PATIENCE)
        assert code in (0, 75), (place / "stderr").read_text()[-4000:]
        if code == 0:
            compare(place, undisturbed)
        else:
            finish(data, place, undisturbed)
        shutil.rmtree(place)
        assert number < 4 * KILLS, "the runs end before a worker can be killed"
    print(f"\n{sum(kills.values())} kills of a worker: {dict(kills)}")  # noqa: T201


@pytest.mark.parametrize("seconds", [0.3, 1.1, 2.2, 3.7, 5.3, 7.9])
def test_run__terminated_while_kernels_are_compiled(data, undisturbed, tmp_path, seconds):
    """A signal that arrives in one of LLVM's callbacks ends the run as any other: 75, and run again."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "kernels")}
    place = tmp_path / "place"
    place.mkdir()
    arguments = [*command(data, place)[:-4], "--nprocs", "1"]
    with (place / "stderr").open("w") as log:
        process = subprocess.Popen(arguments, stderr=log, env=environment, start_new_session=True)
    wait_until(lambda: is_at(place, "gathering"), process)
    time.sleep(seconds)
    if process.poll() is None:
        process.terminate()
    code = process.wait(PATIENCE)
    message = (place / "stderr").read_text()
    assert code in (0, 75), message
    assert "Traceback" not in message, message
    finish(data, place, undisturbed)


@pytest.mark.parametrize("stage", STAGES[1:3])
def test_run__a_worker_is_stopped_for_a_while(data, undisturbed, tmp_path, stage):
    """As a scheduler does that suspends jobs, or a machine that sleeps: the run waits for it."""
    place = tmp_path / "place"
    process = start(command(data, place), place)
    wait_until(lambda: len(workers_of(process.pid)) == 2 and is_at(place, stage), process)
    stopped = workers_of(process.pid)[:1]
    for pid in stopped:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
    time.sleep(10)
    for pid in stopped:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
    assert process.wait(PATIENCE) == 0, (place / "stderr").read_text()[-4000:]
    compare(place, undisturbed)


# Storage -----------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path):
    """Mount a file system of a size, as root."""
    mounted = []

    def mount(name, megabytes):
        place = tmp_path / name
        place.mkdir()
        arguments = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(place)]
        if os.geteuid() or subprocess.run(arguments, capture_output=True, check=False).returncode:
            pytest.skip("only root may mount a small disk")
        mounted.append(place)
        return place

    yield mount
    for place in mounted:
        subprocess.run(["umount", str(place)], check=True)


@pytest.mark.parametrize("full", ["work", "out"])
@pytest.mark.parametrize("kilobytes_left", [0, 60, 900])
def test_run__disk_fills_up(data, undisturbed, tmp_path, small_disk, full, kilobytes_left):
    """Refused, or stopped in the middle; once there is room again it resumes."""
    place = tmp_path / "place"
    place.mkdir()
    disk = small_disk("disk", 40)
    (place / full).symlink_to(disk)
    hog = disk / "hog"
    free = shutil.disk_usage(disk).free
    with hog.open("wb") as file:
        file.write(bytes(max(free - kilobytes_left * 1024, 0)))
    process = start(command(data, place), place)
    code = process.wait(PATIENCE)
    message = (place / "stderr").read_text()
    assert "Traceback" not in message, message
    if code:
        assert code == 74 if kilobytes_left else code in (73, 74), message
        assert "error: " in message
        assert not is_finished(place / "out")
    for image in place.glob("out/node-*/*.nii.gz"):
        np.asarray(nib.load(image).dataobj)
    hog.unlink()
    finish(data, place, undisturbed)


def test_run__disk_fills_up_after_the_check(data, undisturbed, tmp_path, small_disk):
    """Another user takes the room while the run is at work."""
    place = tmp_path / "place"
    place.mkdir()
    disk = small_disk("disk", 60)
    (place / "work").symlink_to(disk)
    process = start(command(data, place), place)
    wait_until(lambda: bool(list(disk.glob("gather-*/part-*"))), process)
    with (disk / "hog").open("wb", buffering=0) as file:
        try:
            while file.write(bytes(2**20)):
                pass
        except OSError:
            pass
    code = process.wait(PATIENCE)
    message = (place / "stderr").read_text()
    assert code in (0, 74), message
    assert "Traceback" not in message
    (disk / "hog").unlink()
    finish(data, place, undisturbed)


# Memory ------------------------------------------------------------------------------------------


def test_fit__a_worker_at_its_memory_limit_gets_smaller_pieces(tmp_path, caplog):
    """Blocks planned for far more memory than the workers have; the limit is dask's own, in real bytes."""
    from tests.stages.oversized import oversized_fit

    fitted, fit_blocks, expected = oversized_fit(tmp_path)
    options = ClusterOptions(n_procs=2, mem_bytes=1000 * 2**20)
    with (
        open_cluster(options, tmp_path / "scratch") as runner,
        caplog.at_level("WARNING", logger="blmm_bids"),
    ):
        done = [span.index for span in fit_blocks(runner, fitted)]
    assert sorted(done) == [span.index for span in fitted.spans]
    said = [record.getMessage() for record in caplog.records]
    assert any(f"{MAX_LOST_WORKERS} workers died" in text and "pieces a block" in text for text in said)
    for span in fitted.spans:
        for name, values in expected(span).items():
            np.testing.assert_array_equal(fitted.stage.load_result(span.index, (name,))[name], values)


# A scheduler of its own ---------------------------------------------------------------------------


@pytest.fixture
def dask_cluster(tmp_path, checkout):
    """Start a scheduler and two workers with dask's own commands; all end with the test."""
    processes = []

    def launch(file):
        environment = {
            **os.environ,
            "PYTHONPATH": str(checkout),
            "DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "5s",
        }
        file.unlink(missing_ok=True)
        commands = [["scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard"]]
        commands += [
            ["worker", "--nthreads", "1", "--memory-limit", "1500MB", "--no-dashboard",
             "--death-timeout", "15", "--local-directory", str(tmp_path / "dask")]
            for _ in range(2)
        ]  # fmt: skip
        started = [
            subprocess.Popen(
                [sys.executable, "-m", "dask", *arguments, "--scheduler-file", str(file)],
                env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
            )
            for arguments in commands
        ]  # fmt: skip
        processes.extend(started)
        assert wait_until(lambda: file.exists() and file.read_text().rstrip().endswith("}"), started[0])
        return started[0]

    yield launch
    for process in processes:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.mark.parametrize("stage", STAGES[:3])
def test_run__scheduler_killed_at_any_moment(data, undisturbed, tmp_path, dask_cluster, stage):
    """A scheduler that others started dies; the run says that it may be given again, and it resumes."""
    chance = random.Random(f"scheduler {stage}")
    kills: Counter[str] = Counter()
    place, number, file = tmp_path / "0", 0, tmp_path / "scheduler.json"
    while sum(kills.values()) < max(KILLS // 4, 1):
        number += 1
        scheduler = dask_cluster(file)
        external = ["--cluster", "external", "--scheduler-file", str(file), "--n-workers", "2"]
        process = start([*command(data, place)[:-4], *external], place)
        said = place / "stderr"
        wait_until(lambda: "workers at tcp://" in said.read_text() and is_at(place, stage), process)  # noqa: B023
        time.sleep(chance.uniform(0.0, 1.0 if stage == "starting" else 0.2))
        reached = stage_of(place)
        if process.poll() is None:
            scheduler.kill()
            kills[reached] += 1
        assert process.wait(PATIENCE) in (0, 75), said.read_text()[-4000:]
        finish(data, place, undisturbed)
        place = tmp_path / str(number)
        assert number < 4 * KILLS, "the runs end before the scheduler can be killed"
    print(f"\n{sum(kills.values())} kills of the scheduler: {dict(kills)}")  # noqa: T201
