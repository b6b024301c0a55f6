"""Both runners on real work; the cluster is a real local one, started once."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from distributed import Future

from blmm_bids.cluster import ClusterOptions, SynchronousRunner, open_cluster
from blmm_bids.cluster.dask_config import WORKER_ENVIRONMENT
from blmm_bids.errors import DataError, TemporaryError
from tests.cluster import tasks


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Two local workers, their home directory watched."""
    home = tmp_path_factory.mktemp("home")
    work = tmp_path_factory.mktemp("work dir")
    patch = pytest.MonkeyPatch()
    patch.setenv("HOME", str(home))
    handlers = [signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)]
    options = ClusterOptions(n_procs=2, mem_bytes=2 * 2**30, preload=("tests.cluster.tasks",))
    with open_cluster(options, work) as runner:
        yield runner
    patch.undo()
    assert [signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert list(home.iterdir()) == []


@pytest.fixture(params=["synchronous", "dask"])
def runner(request):
    return SynchronousRunner() if request.param == "synchronous" else request.getfixturevalue("cluster")


def test_map__yields_every_item_once(runner):
    found = dict(runner.map(tasks.add, range(30), label="item", shared=(100, 1000)))
    assert found == {index: index + 1100 for index in range(30)}
    assert list(runner.map(tasks.add, [], label="item")) == []


def test_map__our_errors_pass_unchanged(runner):
    with pytest.raises(DataError, match=r"^img_3\.nii\.gz: truncated$"):
        list(runner.map(tasks.refuse, range(10), label="batch"))
    assert len(list(runner.map(tasks.add, range(3), label="item"))) == 3


def test_map__other_errors_say_where(runner):
    with pytest.raises(ZeroDivisionError) as caught:
        list(runner.map(tasks.stumble, range(10), label="block"))
    assert caught.value.__notes__ == ["in block 3"]


def test_map__draws_items_as_workers_become_free(runner):
    drawn = []

    def items():
        for item in range(40):
            drawn.append(item)
            yield item

    results = runner.map(tasks.add, items(), label="item")
    next(results)
    assert len(drawn) <= 2 * runner.n_workers + 1
    results.close()
    assert len(drawn) < 40


def test_map__in_order_of_completion(cluster):
    order = [index for index, _ in cluster.map(tasks.slow, range(10), label="item")]
    assert sorted(order) == list(range(10))
    assert order[0] != 0


def test_map__uses_all_workers_and_no_thread_pools(cluster):
    pids = {pid for _, pid in cluster.map(tasks.process_id, range(20), label="item")}
    assert len(pids) == cluster.n_workers == 2
    assert os.getpid() not in pids


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="no /proc on this system")
def test_open_cluster__sets_the_environment_before_workers_start(cluster):
    found = dict(cluster.map(tasks.first_environment, list(WORKER_ENVIRONMENT), label="item"))
    assert [found[place] for place in range(len(found))] == list(WORKER_ENVIRONMENT.values())


def test_map__sends_large_shared_arguments(cluster, caplog):
    blob = b"x" * 20_000_000
    assert dict(cluster.map(tasks.count_bytes, range(4), label="item", shared=(blob,)))[3] == 20_000_003
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_map__retries_items_of_killed_workers(cluster, tmp_path):
    found = dict(cluster.map(tasks.die_once, range(8), label="block", shared=(str(tmp_path),)))
    assert found == {index: index * 10 for index in range(8)}
    assert {path.name for path in tmp_path.iterdir()} == {"died-1", "died-5"}


def test_map__gives_up_an_item_that_kills_workers(cluster):
    with pytest.raises(TemporaryError, match="block 2: 3 workers died") as caught:
        list(cluster.map(tasks.die_always, range(4), label="block"))
    assert caught.value.exit_code == 75
    assert len(list(cluster.map(tasks.add, range(5), label="item"))) == 5


def _start_endless_run(directory, checkout):
    """A main process of its own with two workers; prints the worker's id for each item."""
    script = directory / "endless.py"
    script.write_text(
        "from pathlib import Path\nfrom blmm_bids.cluster import ClusterOptions, open_cluster\n"
        "from tests.cluster.tasks import process_id\n"
        "if __name__ == '__main__':\n"
        "    try:\n"
        "        options = ClusterOptions(n_procs=2, mem_bytes=2**30)\n"
        f"        with open_cluster(options, Path({str(directory)!r})) as runner:\n"
        "            for index, pid in runner.map(process_id, iter(int, 1), label='item'):\n"
        "                print(pid, flush=True)\n"
        "    except KeyboardInterrupt as error:\n"
        "        print('interrupted', flush=True)\n"
        "        raise SystemExit(getattr(error, 'exit_code', 0)) from None\n"
    )
    return subprocess.Popen(
        [sys.executable, str(script)],
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": str(checkout)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, 75)])
def test_open_cluster__ends_soon_after_a_signal(tmp_path, checkout, signum, code):
    process = _start_endless_run(tmp_path, checkout)
    workers = {int(process.stdout.readline()) for _ in range(20)}
    # A terminal sends the signal to every process of the group, workers included.
    os.killpg(process.pid, signum)
    out, err = process.communicate(timeout=30)
    assert out.rstrip().endswith("interrupted"), err
    assert process.returncode == code
    assert not any(_is_alive(pid) for pid in workers)


def test_map__heeds_an_interrupt_that_python_drops(tmp_path, monkeypatch):
    """One that arrives while a future is deleted: what its handler raises there is only printed."""
    dropped = []
    delete = Future.__del__

    def interrupted(self):
        if not dropped and threading.current_thread() is threading.main_thread():
            signal.raise_signal(signal.SIGINT)
        delete(self)

    monkeypatch.setattr(sys, "unraisablehook", lambda hook: dropped.append(hook.exc_type))
    options = ClusterOptions(n_procs=2, mem_bytes=2 * 2**30)
    done = []

    def endless(runner):
        for index, _ in runner.map(tasks.add, iter(int, 1), label="item"):
            done.append(index)
            if len(done) == 10:
                monkeypatch.setattr(Future, "__del__", interrupted)

    with pytest.raises(KeyboardInterrupt), open_cluster(options, tmp_path) as runner:
        endless(runner)
    assert dropped == [KeyboardInterrupt]
    assert len(done) < 20


def _is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_open_cluster__workers_follow_a_killed_main_process(tmp_path, checkout):
    process = _start_endless_run(tmp_path, checkout)
    workers = {int(process.stdout.readline()) for _ in range(20)}
    process.kill()
    process.communicate(timeout=20)
    deadline = time.monotonic() + 15
    while any(_is_alive(pid) for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(_is_alive(pid) for pid in workers)
