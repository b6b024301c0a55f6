"""The dashboard is there where it is asked for, and made when it is looked at."""

from __future__ import annotations

import socket
import sys
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from blmm_bids.cluster import ClusterOptions, open_cluster
from blmm_bids.cluster.dashboard import dashboard_settings

pytest.importorskip("bokeh")


def test_await_dashboard__is_made_at_the_first_visit(tmp_path):
    loaded = "distributed.dashboard.scheduler" in sys.modules
    with open_cluster(ClusterOptions(n_procs=2, mem_bytes=2 * 2**30, dashboard=True), tmp_path) as runner:
        assert runner.dashboard is not None
        with urlopen(runner.dashboard.replace("status", "health"), timeout=30) as page:
            assert page.read() == b"ok"
        assert ("distributed.dashboard.scheduler" in sys.modules) == loaded
        for _ in range(2):
            with urlopen(runner.dashboard, timeout=30) as page:
                assert b"bokeh" in page.read()
        assert "distributed.dashboard.scheduler" in sys.modules


def test_open_cluster__serves_no_pages_unasked(tmp_path):
    with open_cluster(ClusterOptions(n_procs=2, mem_bytes=2 * 2**30), tmp_path) as runner:
        assert runner.dashboard is None
        ports = {runner.client.cluster.scheduler.http_server.port}
        ports |= set(runner.client.run(_http_port).values())
        assert len(ports) == 3
        for port in ports:
            for page in ("status", "health", "metrics", "info/main/workers.html", "json/counts.json"):
                with pytest.raises(HTTPError, match="404"):
                    urlopen(f"http://127.0.0.1:{port}/{page}", timeout=30)


def _http_port(dask_worker):
    return dask_worker.http_server.port


ADDRESSES = [
    (None, False, (False, "127.0.0.1:0")),
    (None, True, (True, "127.0.0.1:0")),
    (":8787", False, (True, "127.0.0.1:8787")),
    (8787, False, (True, "127.0.0.1:8787")),
    ("localhost:8787", False, (True, "localhost:8787")),
    ("0.0.0.0:8787", False, (True, "0.0.0.0:8787")),
    ("tcp://10.0.0.7:8787", True, (True, "10.0.0.7:8787")),
]


@pytest.mark.parametrize(("address", "asked", "expected"), ADDRESSES)
def test_dashboard_settings__listen_here_unless_a_host_is_named(address, asked, expected):
    given = {} if address is None else {"dashboard_address": address}
    found = dashboard_settings(given, asked=asked)
    assert (found["dashboard"], found["dashboard_address"]) == expected


@pytest.mark.parametrize(("host", "is_open"), [("", False), ("0.0.0.0", True)])
def test_open_cluster__says_who_sees_the_dashboard(tmp_path, caplog, host, is_open):
    port = _free_port()
    section = {"scheduler-options": {"dashboard_address": f"{host}:{port}"}}
    options = ClusterOptions(
        backend="external", config={"jobqueue": {"external": section}}, scheduler_file=tmp_path / "s.json"
    )
    with caplog.at_level("INFO", logger="blmm_bids"), open_cluster(options, tmp_path) as runner:
        bound = runner.client.cluster.scheduler.http_server.address
        assert bound == (host or "127.0.0.1")
        assert runner.dashboard == f"http://{socket.gethostname() if is_open else '127.0.0.1'}:{port}/status"
    assert ("whoever reaches port" in caplog.text) == is_open


def _free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]
