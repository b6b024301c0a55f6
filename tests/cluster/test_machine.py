"""Processors and memory under the limits of containers and schedulers."""

from __future__ import annotations

import os

import pytest

from blmm_bids.cluster import machine
from blmm_bids.cluster.machine import usable_cpus, usable_memory

GB = 2**30
PLENTY = f"MemTotal: 999999999 kB\nMemAvailable: {100 * GB // 1024} kB\n"


@pytest.fixture(autouse=True)
def sixteen_processors(monkeypatch):
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda pid: set(range(16)), raising=False)


def tree(root, files):
    for name, content in {"proc/meminfo": PLENTY, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


V2 = {"proc/self/cgroup": "0::/a/b\n"}
V1 = {"proc/self/cgroup": "4:memory:/docker/x\n3:cpu,cpuacct:/docker/x\n0::/\n"}

CASES = {
    "no cgroup": ({}, {}, 16, 100),
    "v2": (
        {**V2, "sys/fs/cgroup/a/b/cpu.max": "350000 100000\n", "sys/fs/cgroup/a/b/memory.max": f"{8 * GB}\n"},
        {},
        3,
        8,
    ),
    "v2 unlimited": (
        {**V2, "sys/fs/cgroup/a/b/cpu.max": "max 100000", "sys/fs/cgroup/a/b/memory.max": "max"},
        {},
        16,
        100,
    ),
    "v2 limit of the parent": (
        {**V2, "sys/fs/cgroup/a/cpu.max": "200000 100000", "sys/fs/cgroup/a/memory.max": f"{4 * GB}"},
        {},
        2,
        4,
    ),
    "v2 in a container": (
        {
            "proc/self/cgroup": "0::/../../x",
            "sys/fs/cgroup/cpu.max": "50000 100000",
            "sys/fs/cgroup/memory.max": f"{GB}",
        },
        {},
        1,
        1,
    ),
    "v1": (
        {
            **V1,
            "sys/fs/cgroup/memory/docker/x/memory.limit_in_bytes": f"{6 * GB}",
            "sys/fs/cgroup/cpu,cpuacct/docker/x/cpu.cfs_quota_us": "400000",
            "sys/fs/cgroup/cpu,cpuacct/docker/x/cpu.cfs_period_us": "100000",
        },
        {},
        4,
        6,
    ),
    "v1 in a container": (
        {
            **V1,
            "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{5 * GB}",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "500000",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
        },
        {},
        5,
        5,
    ),
    "v1 unlimited": (
        {
            **V1,
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
        },
        {},
        16,
        100,
    ),
    "slurm": ({}, {"SLURM_CPUS_PER_TASK": "6", "SLURM_MEM_PER_NODE": "10240"}, 6, 10),
    "grid engine": ({}, {"NSLOTS": "6"}, 6, 100),
    "pbs pro": ({}, {"NCPUS": "5"}, 5, 100),
    "torque": ({}, {"PBS_NP": "4"}, 4, 100),
    "lsf": ({}, {"LSB_DJOB_NUMPROC": "3"}, 3, 100),
    "the least": ({}, {"NSLOTS": "7", "SLURM_CPUS_PER_TASK": "2", "NCPUS": "", "PBS_NP": "-1"}, 2, 100),
    "slurm per processor": ({}, {"SLURM_MEM_PER_CPU": "1024", "SLURM_CPUS_ON_NODE": "4"}, 16, 4),
    "slurm nonsense": ({}, {"SLURM_CPUS_PER_TASK": "many", "SLURM_MEM_PER_NODE": "0"}, 16, 100),
    "garbage": (
        {"proc/self/cgroup": "what\n0::/\n", "sys/fs/cgroup/cpu.max": "", "sys/fs/cgroup/memory.max": "x"},
        {},
        16,
        100,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_usable__is_the_least_limit(tmp_path, case):
    files, environ, n_cpus, gigabytes = CASES[case]
    root = tree(tmp_path, files)
    assert usable_cpus(root, environ) == n_cpus
    assert usable_memory(root, environ) == int(0.9 * gigabytes * GB)


def test_usable_memory__without_proc(tmp_path):
    assert 0 < usable_memory(tmp_path, {}) <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
