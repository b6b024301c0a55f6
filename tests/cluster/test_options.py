"""How a machine is divided."""

from __future__ import annotations

import pytest

from blmm_bids.cluster import ClusterOptions, local_resources
from blmm_bids.cluster import options as options_module
from blmm_bids.errors import UsageError

GB = 2**30


@pytest.mark.parametrize(("n_procs", "mem"), [(1, GB), (2, GB), (4, 4 * GB), (64, 64 * GB)])
def test_local_resources__shares_stay_inside_the_total(n_procs, mem):
    resources = local_resources(ClusterOptions(n_procs=n_procs, mem_bytes=mem))
    assert resources.n_workers == n_procs
    assert resources.mem_bytes == mem
    assert 0 < resources.n_workers * resources.bytes_per_worker < mem


def test_local_resources__few_bytes_mean_few_workers(monkeypatch):
    monkeypatch.setattr(options_module, "usable_cpus", lambda: 32)
    assert local_resources(ClusterOptions(mem_bytes=GB)).n_workers == 2
    assert local_resources(ClusterOptions(mem_bytes=64 * GB)).n_workers == 32
    assert local_resources(ClusterOptions(mem_bytes=GB // 2)).n_workers == 1


def test_local_resources__uses_what_the_machine_has(monkeypatch):
    monkeypatch.setattr(options_module, "usable_cpus", lambda: 4)
    monkeypatch.setattr(options_module, "usable_memory", lambda: 8 * GB)
    resources = local_resources(ClusterOptions())
    assert (resources.n_workers, resources.mem_bytes) == (4, 8 * GB)


@pytest.mark.parametrize("options", [ClusterOptions(n_procs=0), ClusterOptions(n_procs=-1, mem_bytes=GB)])
def test_local_resources__wants_a_process(options):
    with pytest.raises(UsageError, match="at least 1"):
        local_resources(options)


def test_local_resources__too_little_memory():
    with pytest.raises(UsageError, match="raise --mem"):
        local_resources(ClusterOptions(n_procs=2, mem_bytes=100 * 2**20))
