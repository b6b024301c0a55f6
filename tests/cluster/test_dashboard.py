"""The dashboard is made when it is looked at."""

from __future__ import annotations

import sys
from urllib.request import urlopen

import pytest

from blmm_bids.cluster import ClusterOptions, open_cluster

pytest.importorskip("bokeh")


def test_await_dashboard__is_made_at_the_first_visit(tmp_path):
    loaded = "distributed.dashboard.scheduler" in sys.modules
    with open_cluster(ClusterOptions(n_procs=2, mem_bytes=2 * 2**30), tmp_path) as runner:
        assert runner.dashboard is not None
        with urlopen(runner.dashboard.replace("status", "health"), timeout=30) as page:
            assert page.read() == b"ok"
        assert ("distributed.dashboard.scheduler" in sys.modules) == loaded
        for _ in range(2):
            with urlopen(runner.dashboard, timeout=30) as page:
                assert b"bokeh" in page.read()
        assert "distributed.dashboard.scheduler" in sys.modules
