"""Jobs submitted by a real ssh to a real sshd, whose login shell has stand-ins for a scheduler's commands."""

from __future__ import annotations

import os

import pytest

from blmm_bids.cluster import ClusterOptions, open_cluster
from blmm_bids.errors import UsageError
from tests.cluster import fake_scheduler, tasks
from tests.ssh_server import HOST, running_sshd


@pytest.fixture
def submit_host(tmp_path, monkeypatch, checkout):
    """A machine with a scheduler's commands on the PATH of its login shell alone; their records."""
    state = tmp_path / "scheduler"
    commands = fake_scheduler.install(state)
    # Its own ssh is none of the other machine's.
    (commands / "ssh").unlink()
    home = tmp_path / "home"
    home.mkdir()
    (home / ".bash_profile").write_text(f"export PATH={commands}:$PATH\n")
    environ = {"HOME": str(home), fake_scheduler.STATE: str(state), "PYTHONPATH": str(checkout)}
    directory = tmp_path / "ssh"
    directory.mkdir()
    with running_sshd(directory, environ) as client:
        monkeypatch.setenv("PATH", f"{client}:{os.environ['PATH']}")
        monkeypatch.setenv("PYTHONPATH", str(checkout))
        yield state
        assert fake_scheduler.all_end(state)


# bsub reads the script from its standard input, qsub is given its path.
@pytest.mark.parametrize("backend", ["lsf", "pbs"])
def test_open_cluster__submits_and_cancels_by_ssh(submit_host, tmp_path, backend):
    work_dir = tmp_path / "work"
    work_dir.mkdir()
    options = ClusterOptions(backend=backend, n_workers=2, submit_via=f"ssh:{HOST}")
    with open_cluster(options, work_dir) as runner:
        assert dict(runner.map(tasks.add, range(6), label="item")) == {index: index for index in range(6)}
        assert fake_scheduler.running(submit_host)
    assert len(fake_scheduler.job_ids(submit_host)) >= 2


def test_open_cluster__says_what_ssh_says(submit_host, tmp_path, monkeypatch):
    monkeypatch.setattr("blmm_bids.cluster.jobs._REFUSAL_PATIENCE", 0.0)
    options = ClusterOptions(backend="slurm", n_workers=1, submit_via="ssh:nowhere.invalid")
    with (
        pytest.raises(UsageError, match=r"(?s)sbatch takes no job: .*Could not resolve hostname"),
        open_cluster(options, tmp_path) as runner,
    ):
        list(runner.map(tasks.add, range(2), label="item"))
