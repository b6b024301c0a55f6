"""The table of backends, and what importing them costs."""

from __future__ import annotations

import subprocess
import sys

import pytest

from blmm_bids.cluster import BACKENDS, ClusterOptions, open_cluster, plan_cluster
from blmm_bids.errors import UsageError

GB = 2**30


@pytest.mark.parametrize(
    ("backend", "words"), [("slrum", "did you mean slurm"), ("xyz", "wanted one of local")]
)
def test_open_cluster__unknown_backend(tmp_path, backend, words):
    with pytest.raises(UsageError, match=words), open_cluster(ClusterOptions(backend=backend), tmp_path):
        pass


@pytest.mark.parametrize("backend", BACKENDS)
def test_plan_cluster__starts_nothing(tmp_path, backend):
    options = ClusterOptions(
        backend=backend, n_procs=2, mem_bytes=4 * GB, scheduler_file=tmp_path / "scheduler.json"
    )
    planned = plan_cluster(options, tmp_path)
    assert planned.n_workers == (2 if backend == "local" else 4)
    assert GB < planned.bytes_per_worker < 2 * GB
    assert list(tmp_path.iterdir()) == []


def test_cluster__imports_dask_only_to_run():
    code = (
        "import sys; from pathlib import Path; import blmm_bids.cluster as c\n"
        "with c.open_cluster(c.ClusterOptions(n_procs=1), Path('.')) as runner:\n"
        "    assert [r for r in runner.map(abs, [-1], label='item')] == [(0, 1)]\n"
        "sys.exit(bool({'dask', 'dask_jobqueue', 'distributed', 'numpy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
