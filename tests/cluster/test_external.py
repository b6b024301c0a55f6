"""Schedulers that others start workers for; here the tests do."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
import time

import pytest

from blmm_bids.cluster import ClusterOptions, open_cluster, plan_cluster
from blmm_bids.errors import OutputError, TemporaryError, UsageError
from tests.cluster import tasks

GB = 2**30


@pytest.fixture
def options(tmp_path):
    return ClusterOptions(
        backend="external",
        n_workers=2,
        mem_bytes=GB,
        scheduler_file=tmp_path / "scheduler.json",
        write_worker_script=True,
    )


@pytest.fixture
def work_dir(tmp_path):
    path = tmp_path / "work dir"
    path.mkdir()
    return path


def test_open_cluster__the_script_starts_workers(options, work_dir, tmp_path, checkout, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(checkout))
    script = tmp_path / "scheduler_worker.sh"
    with open_cluster(options, work_dir) as runner:
        assert stat.S_IMODE(options.scheduler_file.stat().st_mode) == 0o600
        assert stat.S_IMODE(script.stat().st_mode) == 0o700
        assert json.loads(options.scheduler_file.read_text())["address"].startswith("tls://")
        workers = [subprocess.Popen([script], stderr=subprocess.DEVNULL, cwd="/") for _ in range(2)]
        assert dict(runner.map(tasks.add, range(6), label="item")) == {index: index for index in range(6)}
        runner.client.wait_for_workers(2, timeout=60)
    assert [worker.wait(60) for worker in workers] == [0, 0]
    assert not options.scheduler_file.exists()
    assert list(work_dir.rglob("*.pem")) == []


def test_open_cluster__the_script_says_how_to_submit_it(options, work_dir, tmp_path):
    with open_cluster(options, work_dir):
        text = (tmp_path / "scheduler_worker.sh").read_text()
    assert f"sbatch --array=1-2 --cpus-per-task=1 --mem=1024M --time=04:00:00 {tmp_path}" in text
    assert subprocess.run(["bash", "-n"], input=text, text=True, check=False).returncode == 0


@pytest.fixture
def dask_scheduler(tmp_path, checkout):
    """A scheduler of dask's own command, with one worker of two threads."""
    file = tmp_path / "theirs.json"
    environ = {**os.environ, "PYTHONPATH": str(checkout)}
    python = [sys.executable, "-m"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": environ, "cwd": tmp_path}
    processes = [
        subprocess.Popen(
            [
                *python,
                "distributed.cli.dask_scheduler",
                *("--host", "127.0.0.1", "--port", "0"),
                *("--dashboard-address", "127.0.0.1:0", "--scheduler-file", str(file)),
            ],
            **quiet,
        )
    ]
    deadline = time.monotonic() + 60
    while not file.exists() or not file.read_text().rstrip().endswith("}"):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    processes.append(
        subprocess.Popen(
            [
                *python,
                "distributed.cli.dask_worker",
                *("--scheduler-file", str(file), "--nthreads", "2"),
                *("--memory-limit", "3GiB", "--dashboard-address", "127.0.0.1:0", "--no-nanny"),
            ],
            **quiet,
        )
    )
    yield file
    for process in reversed(processes):
        process.terminate()
        process.wait(30)


def test_open_cluster__uses_a_scheduler_that_is_there(dask_scheduler, work_dir):
    options = ClusterOptions(backend="external", scheduler_file=dask_scheduler)
    with open_cluster(options, work_dir) as runner:
        assert (runner.n_workers, runner.bytes_per_worker) == (2, 3 * GB // 2)
        assert dict(runner.map(tasks.add, range(6), label="item")) == {index: index for index in range(6)}
    # It is not ours to stop.
    assert dask_scheduler.exists()
    with open_cluster(options, work_dir) as runner:
        assert dict(runner.map(tasks.add, [1], label="item")) == {0: 1}


def test_open_cluster__wants_a_file(work_dir):
    with (
        pytest.raises(UsageError, match="--scheduler-file FILE"),
        open_cluster(ClusterOptions(backend="external"), work_dir),
    ):
        pass


@pytest.mark.parametrize("text", ["", "[]", "{}", "tcp://here"])
def test_open_cluster__refuses_another_file(options, work_dir, text):
    options.scheduler_file.write_text(text)
    with pytest.raises(UsageError, match="dask scheduler"), open_cluster(options, work_dir):
        pass
    assert options.scheduler_file.read_text() == text


def test_open_cluster__nobody_answers(options, work_dir, monkeypatch):
    monkeypatch.setattr("blmm_bids.cluster.external._CONNECT_TIMEOUT", 2)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    options.scheduler_file.write_text(json.dumps({"address": f"tcp://127.0.0.1:{port}"}))
    with pytest.raises(TemporaryError, match="delete the file"), open_cluster(options, work_dir):
        pass


def test_open_cluster__a_file_that_cannot_be(work_dir, tmp_path):
    options = ClusterOptions(backend="external", scheduler_file=tmp_path / "none" / "scheduler.json")
    with pytest.raises(OutputError, match="another --scheduler-file"), open_cluster(options, work_dir):
        pass


@pytest.mark.parametrize("name", ["my work", "it's", "a\ntouch b", "$(touch b)", "`touch b`"])
def test_plan_cluster__refuses_a_path_that_the_worker_script_cannot_hold(tmp_path, name):
    options = ClusterOptions(
        backend="external", scheduler_file=tmp_path / name / "s.json", write_worker_script=True
    )
    with pytest.raises(UsageError, match="cannot hold a path"):
        plan_cluster(options, tmp_path)
