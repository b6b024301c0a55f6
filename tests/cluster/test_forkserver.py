"""Workers that are copies of one process: what it imports, from where, and that it goes."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from blmm_bids.cluster import ClusterOptions, open_cluster, started_forkserver
from tests.cluster import tasks

GB = 2**30
CHECKOUT = Path(__file__).parents[2]
OPTIONS = ClusterOptions(n_procs=2, mem_bytes=2 * GB, preload=("tests.cluster.tasks",))

linux = pytest.mark.skipif(sys.platform != "linux", reason="workers start from nothing on this system")


def servers():
    """The fork servers among this process's children."""
    children = psutil.Process().children()
    return [child.pid for child in children if "multiprocessing.forkserver" in " ".join(child.cmdline())]


@linux
def test_started_forkserver__is_there_once_and_goes():
    with started_forkserver(OPTIONS) as is_outer, started_forkserver(OPTIONS) as is_inner:
        assert (is_outer, is_inner) == (True, True)
        assert len(servers()) == 1
    assert servers() == []


@pytest.mark.parametrize(
    "options",
    [
        ClusterOptions(n_procs=2, mem_bytes=2 * GB),
        ClusterOptions(n_procs=1, mem_bytes=2 * GB, preload=OPTIONS.preload),
        ClusterOptions(n_procs=0, preload=OPTIONS.preload),
        ClusterOptions(backend="slurm", preload=OPTIONS.preload),
    ],
    ids=["nothing to import", "one worker", "no worker", "workers elsewhere"],
)
def test_started_forkserver__only_for_workers_here(options):
    with started_forkserver(options) as is_started:
        assert not is_started
        assert servers() == []


@linux
def test_started_forkserver__leaves_the_environment_alone():
    before = dict(os.environ)
    with started_forkserver(OPTIONS):
        assert dict(os.environ) == before


@linux
def test_open_cluster__workers_are_copies_with_what_it_imported(tmp_path):
    with open_cluster(replace(OPTIONS, preload=("wave",)), tmp_path) as runner:
        found = dict(runner.map(tasks.parent_and_imports, ["wave"] * 4, label="item"))
        assert set(found.values()) == {(servers()[0], True)}


@linux
def test_open_cluster__takes_nothing_from_the_current_directory(tmp_path):
    """A server that did would import another copy of this package, or whatever has the name of a library."""
    for name in ("tests", "psutil", "distributed"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('imported from the current directory')\n")
    code = (
        f"import sys; sys.path[0] = {str(CHECKOUT)!r}\n"
        "from pathlib import Path\n"
        "from blmm_bids.cluster import ClusterOptions, open_cluster\n"
        "from tests.cluster import tasks\n"
        "if __name__ == '__main__':\n"
        f"    options = ClusterOptions(n_procs=2, mem_bytes=2 * {GB}, preload=('tests.cluster.tasks',))\n"
        "    with open_cluster(options, Path('scratch')) as runner:\n"
        "        print(dict(sorted(runner.map(tasks.add, [1, 2], label='item'))))\n"
    )
    (tmp_path / "scratch").mkdir()
    (tmp_path / "place").mkdir()
    script = tmp_path / "place" / "script.py"
    script.write_text(code)
    done = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.stdout.split() == ["{0:", "1,", "1:", "2}"], done.stderr
    assert done.stderr == ""


@linux
def test_open_cluster__without_a_place_for_the_socket_starts_workers_all_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(multiprocessing.util, "get_temp_dir", lambda: str(tmp_path / "absent"))
    with started_forkserver(OPTIONS) as is_started:
        assert not is_started
