"""Processors and memory that this process may use, limits of containers and schedulers included."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# Left to the system and to page cache.
_SHARE = 0.9
# cgroup v1 writes "no limit" as the largest page-aligned number.
_UNLIMITED = 2**60
# Processors of a job on its node: Slurm's, Grid Engine's, PBS Pro's, Torque's, LSF's.
_GRANTED = ("SLURM_CPUS_PER_TASK", "NSLOTS", "NCPUS", "PBS_NP", "LSB_DJOB_NUMPROC")


def usable_cpus(root: Path = Path("/"), environ: Mapping[str, str] = os.environ) -> int:
    """Processors of this process: affinity, cgroup quota and what a scheduler grants, the least of them.

    Parameters
    ----------
    root : Path
        Where ``proc`` and ``sys`` are.
    environ : mapping
        Environment variables.
    """
    counts = [len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1]
    counts += [max(int(quota), 1) for quota in _cpu_quotas(root)]
    granted = [environ.get(name, "") for name in _GRANTED]
    counts += [int(count) for count in granted if count.isdecimal() and int(count) > 0]
    return min(counts)


def usable_memory(root: Path = Path("/"), environ: Mapping[str, str] = os.environ) -> int:
    """90 % of the memory available, or of what the cgroup or the Slurm job allows, in bytes."""
    amounts = [_available_memory(root)]
    amounts += [limit for limit in _memory_limits(root) if limit < _UNLIMITED]
    amounts += _slurm_memory(environ)
    return int(_SHARE * min(amounts))


def used_memory() -> int:
    """Bytes that this process and its children hold; of workers on other machines nothing is known."""
    import psutil

    this = psutil.Process()
    total = 0
    for process in (this, *this.children(recursive=True)):
        # A worker may end while it is looked at.
        with suppress(psutil.Error):
            total += process.memory_info().rss
    return total


def _available_memory(root: Path) -> int:
    for line in _lines(root / "proc/meminfo"):
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _slurm_memory(environ: Mapping[str, str]) -> list[int]:
    """Slurm's allowance on this node, given in MB; 0 is all of it."""
    per_node, per_cpu = environ.get("SLURM_MEM_PER_NODE", ""), environ.get("SLURM_MEM_PER_CPU", "")
    cpus = environ.get("SLURM_CPUS_ON_NODE", "")
    amounts = []
    if per_node.isdecimal():
        amounts.append(int(per_node) * 2**20)
    if per_cpu.isdecimal() and cpus.isdecimal():
        amounts.append(int(per_cpu) * int(cpus) * 2**20)
    return [amount for amount in amounts if amount > 0]


def _cpu_quotas(root: Path) -> Iterator[float]:
    for directory in _cgroup_directories(root, ""):
        for line in _lines(directory / "cpu.max"):
            quota, _, period = line.partition(" ")
            if quota.isdecimal() and period.isdecimal() and int(period) > 0:
                yield int(quota) / int(period)
    for directory in _cgroup_directories(root, "cpu"):
        quota_us = _number(directory / "cpu.cfs_quota_us")
        period_us = _number(directory / "cpu.cfs_period_us")
        if quota_us is not None and period_us and quota_us > 0:
            yield quota_us / period_us


def _memory_limits(root: Path) -> Iterator[int]:
    for controller, name in (("", "memory.max"), ("memory", "memory.limit_in_bytes")):
        for directory in _cgroup_directories(root, controller):
            limit = _number(directory / name)
            if limit is not None and limit > 0:
                yield limit


def _cgroup_directories(root: Path, controller: str) -> Iterator[Path]:
    """Yield the process's own group and its ancestors: version 2 for "", else a controller of version 1.

    Inside a container the path may be the host's and not exist; its existing ancestors count then.
    """
    for line in _lines(root / "proc/self/cgroup"):
        number, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        wanted = number == "0" and not controllers if not controller else controller in controllers.split(",")
        if not wanted:
            continue
        mount = root / "sys/fs/cgroup" / (controllers if controller else "")
        if controller and not mount.is_dir():
            mount = root / "sys/fs/cgroup" / controller
        inner = Path(group.strip("/"))
        if ".." in inner.parts:
            inner = Path()
        yield from (mount / level for level in (inner, *inner.parents))


def _number(path: Path) -> int | None:
    for line in _lines(path):
        try:
            return int(line)
        except ValueError:
            return None
    return None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return []
