"""What a user's file says of a scheduler: what is wrong is one message, before anything is submitted."""

from __future__ import annotations

import pytest

from blmm_bids.cli import main
from blmm_bids.cluster import BACKENDS, ClusterOptions, open_cluster, plan_cluster
from blmm_bids.errors import UsageError
from tests.cluster import fake_scheduler
from tests.cluster.test_job_queue import scheduler, work_dir  # noqa: F401
from tests.datasets import longitudinal, write_text

JOB_QUEUES = [name for name in BACKENDS if name not in ("local", "external")]
WRONG = [
    ({"corez": 3}, "nothing reads 'corez'; did you mean cores?"),
    ({"job_extra_directive": []}, "nothing reads 'job_extra_directive'; did you mean job-extra-directives?"),
    ({"wall-time": "1:00:00"}, "nothing reads 'wall-time'; did you mean walltime?"),
    ({"scheduler-options": {"prot": 8786}}, "nothing reads 'prot'; did you mean port?"),
    ({"scheduler_options": 8786}, "scheduler-options: 8786; wanted a mapping"),
    ({"interface": "ib0"}, "'ib0' is not a valid network interface"),
    ({"scheduler-options": {"interface": "ib9"}}, "'ib9' is not a valid network interface"),
]


@pytest.mark.parametrize("backend", [*JOB_QUEUES, "external"])
@pytest.mark.parametrize(("section", "words"), WRONG, ids=[str(section) for section, _ in WRONG])
def test_plan_cluster__names_what_is_wrong(tmp_path, backend, section, words):
    if (backend, *section) in {("htcondor", "wall-time"), ("external", "job_extra_directive")}:
        words = "nothing reads "
    config = {"jobqueue": {backend: section}}
    options = ClusterOptions(backend=backend, config=config, scheduler_file=tmp_path / "s.json")
    with pytest.raises(UsageError) as caught:
        plan_cluster(options, tmp_path)
    assert words in str(caught.value)
    assert f"jobqueue.{backend}" in str(caught.value)


def test_plan_cluster__tells_the_interface_of_jobs_from_its_own(tmp_path):
    section = {"interface": "ib0", "scheduler-options": {"interface": "lo", "dashboard-address": ":8787"}}
    options = ClusterOptions(backend="slurm", config={"jobqueue": {"slurm": section}})
    assert plan_cluster(options, tmp_path).n_workers == 4
    with pytest.raises(UsageError, match=r"scheduler-options: \{interface: NAME\}"):
        plan_cluster(
            ClusterOptions(backend="slurm", config={"jobqueue": {"slurm": {"interface": "ib0"}}}), tmp_path
        )


REFUSED = [
    {"scheduler-options": {"protocol": "carrier-pigeon://"}},
    {"scheduler-options": {"host": "no.such.host.invalid"}},
    {"scheduler-options": {"port": "many"}},
    {"death-timeout": ["x"], "scheduler-options": {"dashboard_address": "there:is:none"}},
]


@pytest.mark.parametrize("section", REFUSED, ids=str)
def test_open_cluster__says_in_one_message_what_dask_refuses(scheduler, work_dir, section):  # noqa: F811
    options = ClusterOptions(backend="slurm", config={"jobqueue": {"slurm": section}}, n_workers=1)
    with pytest.raises(UsageError) as caught, open_cluster(options, work_dir):
        pass
    assert str(caught.value).startswith("--cluster slurm: dask does not start: ")
    assert len(str(caught.value).splitlines()) == 2
    assert fake_scheduler.job_ids(scheduler) == set()


@pytest.mark.parametrize("dry", [(), ("--dry-run",)])
def test_app__is_one_message_and_64(tmp_path, scheduler, capsys, dry):  # noqa: F811
    data = longitudinal(tmp_path / "data")
    file = write_text(tmp_path / "jobqueue.yaml", "jobqueue: {slurm: {cores: 2, interface: ib0}}\n")
    arguments = ["--formula", "1 + time + (1 | subject)", "--cluster", "slurm", "--cluster-config", str(file)]
    assert main([str(data), str(tmp_path / "out"), "group", *arguments, *dry]) == 64
    error = capsys.readouterr().err
    assert "Traceback" not in error
    assert "jobqueue.slurm.interface: on this machine, 'ib0' is not a valid network interface" in error
