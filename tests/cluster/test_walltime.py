"""Walltimes as schedulers read them, and what is left of one for a worker."""

from __future__ import annotations

import pytest

from blmm_bids.cluster.walltime import walltime_seconds, worker_lifetime
from blmm_bids.errors import UsageError


@pytest.mark.parametrize(
    ("text", "backend", "seconds"),
    [
        ("00:30:00", "slurm", 1800),
        ("1-12:00:00", "slurm", 129600),
        ("2-0", "slurm", 172800),
        ("90", "slurm", 5400),
        ("30:30", "slurm", 1830),
        ("00:30", "lsf", 1800),
        ("120", "lsf", 7200),
        ("3600", "sge", 3600),
        ("24:00:00", "pbs", 86400),
        ("1:00:00", "moab", 3600),
        ("02:00", "oar", 7200),
        ("2h", "slurm", 7200),
        ("1d 6h", "pbs", 108000),
    ],
)
def test_walltime_seconds__as_the_scheduler_reads_it(text, backend, seconds):
    assert walltime_seconds(text, backend) == seconds


def test_walltime_seconds__a_bare_number_of_yaml():
    assert walltime_seconds(1800, "sge") == 1800


@pytest.mark.parametrize("text", ["", "soon", "1:2:3:4", "-5", "3 parsecs"])
def test_walltime_seconds__says_what_it_wants(text):
    with pytest.raises(UsageError, match=r"jobqueue\.slurm\.walltime.*HH:MM:SS"):
        walltime_seconds(text, "slurm")


@pytest.mark.parametrize("walltime", [120, 600, 1800, 86400, 604800])
def test_worker_lifetime__ends_before_the_walltime_at_its_longest(walltime):
    lifetime, stagger = worker_lifetime(walltime)
    assert lifetime + stagger < walltime
    assert walltime - lifetime - stagger >= min(30, walltime / 4) - 1
    assert lifetime - stagger > walltime / 2
