"""The table of backends, and what importing them costs."""

from __future__ import annotations

import subprocess
import sys

import pytest

from blmm_bids.cluster import BACKENDS, ClusterOptions, open_cluster
from blmm_bids.errors import UsageError


@pytest.mark.parametrize("backend", [name for name in BACKENDS if name != "local"])
def test_open_cluster__names_backends_to_come(tmp_path, backend):
    with (
        pytest.raises(UsageError, match=f"--cluster {backend}: comes with the cluster backends"),
        open_cluster(ClusterOptions(backend=backend), tmp_path),
    ):
        pass


@pytest.mark.parametrize(
    ("backend", "words"), [("slrum", "did you mean slurm"), ("xyz", "wanted one of local")]
)
def test_open_cluster__unknown_backend(tmp_path, backend, words):
    with pytest.raises(UsageError, match=words), open_cluster(ClusterOptions(backend=backend), tmp_path):
        pass


def test_cluster__imports_dask_only_to_run():
    code = (
        "import sys; from pathlib import Path; import blmm_bids.cluster as c\n"
        "with c.open_cluster(c.ClusterOptions(n_procs=1), Path('.')) as runner:\n"
        "    assert [r for r in runner.map(abs, [-1], label='item')] == [(0, 1)]\n"
        "sys.exit(bool({'dask', 'distributed', 'numpy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
