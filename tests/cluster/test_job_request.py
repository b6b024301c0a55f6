"""What a job asks for."""

from __future__ import annotations

import pytest

from blmm_bids.cluster import ClusterOptions
from blmm_bids.cluster.dask_config import dask_settings, import_jobqueue
from blmm_bids.cluster.job_request import NANNY_BYTES, job_request
from blmm_bids.errors import UsageError

GB = 2**30


@pytest.fixture
def request_of(tmp_path):
    import_jobqueue()

    def make(section=None, **options):
        config = {"jobqueue": {"slurm": section or {}}}
        with dask_settings(config, tmp_path):
            return job_request(ClusterOptions(backend="slurm", **options))

    return make


def test_job_request__without_anything(request_of):
    found = request_of()
    assert (found.cores, found.mem_bytes, found.n_processes) == (1, 4 * GB, 1)
    assert (found.fewest, found.most) == (4, 4)
    assert found.bytes_per_worker == 4 * GB - NANNY_BYTES


@pytest.mark.parametrize(
    ("n_workers", "adapt", "bounds"),
    [(1, None, (8, 8)), (8, None, (8, 8)), (9, None, (16, 16)), (None, (0, 20), (0, 24))],
)
def test_job_request__whole_jobs(request_of, n_workers, adapt, bounds):
    found = request_of({"cores": 8, "memory": "32 GiB"}, n_workers=n_workers, adapt=adapt)
    assert (found.fewest, found.most) == bounds
    assert found.n_processes == 8
    assert found.n_processes * found.bytes_per_worker <= 32 * GB - NANNY_BYTES


def test_job_request__few_bytes_mean_few_workers(request_of):
    found = request_of({"cores": 16, "memory": "1 GiB"})
    assert found.n_processes == 2


def test_job_request__the_command_line_wins(request_of):
    found = request_of({"cores": 16, "memory": "64GB", "processes": 4}, n_procs=2, mem_bytes=3 * GB)
    assert (found.cores, found.mem_bytes, found.n_processes) == (2, 3 * GB, 2)


@pytest.mark.parametrize(
    ("section", "options", "words"),
    [
        ({"memory": "100 MiB"}, {}, "do not hold a worker"),
        ({"memory": "much"}, {}, "jobqueue.slurm.memory.*'16GB'"),
        ({"cores": 0}, {}, "at least 1"),
        ({"cores": "many"}, {}, "at least 1"),
        ({"walltime": "long"}, {}, "HH:MM:SS"),
        ({}, {"n_workers": 0}, "--n-workers 0"),
        ({}, {"adapt": (3, 2)}, "--adapt 3:2"),
        ({}, {"adapt": (0, 0)}, "--adapt 0:0"),
        ({}, {"adapt": (1, 2), "n_workers": 3}, "give one of them"),
    ],
)
def test_job_request__says_what_it_wants(request_of, section, options, words):
    with pytest.raises(UsageError, match=words):
        request_of(section, **options)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"jobqueue": {"pbs": {"cores": 1}}}, "has jobqueue.pbs; wanted a section jobqueue.slurm"),
        ({"slurm": {"cores": 1}}, "has slurm; wanted a section jobqueue.slurm"),
        ({"jobqueue": {"slurm": None}}, "wanted a section jobqueue.slurm"),
    ],
)
def test_job_request__wants_the_schedulers_section(config, words):
    with pytest.raises(UsageError, match=words):
        job_request(ClusterOptions(backend="slurm", config=config))
