"""Job scripts of every scheduler, and whole runs with commands that stand in for theirs."""

from __future__ import annotations

import contextlib
import logging
import os
import shlex
import signal
import socket
import ssl
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from distributed import Client

from blmm_bids.cluster import BACKENDS, ClusterOptions, open_cluster
from blmm_bids.cluster import container as container_module
from blmm_bids.cluster.certificates import write_certificates
from blmm_bids.cluster.dask_config import DASK_CONFIG, dask_settings, import_jobqueue
from blmm_bids.cluster.job_queue import render_job, run_directory
from blmm_bids.cluster.job_request import job_request
from blmm_bids.errors import TemporaryError, UsageError
from tests.cluster import fake_scheduler, tasks
from tests.cluster.mount_tables import write_tables

GB = 2**30
SCHEDULERS = [name for name in BACKENDS if name not in ("local", "external")]
# What a site's file says, as dask-jobqueue's documentation has it.
SITE = yaml.safe_load("""
jobqueue:
  slurm:   {cores: 4, memory: 16GB, queue: long, account: lab, walltime: '04:00:00',
            job-extra-directives: ['--qos=normal'], job-script-prologue: [module load python]}
  sge:     {cores: 4, memory: 16GB, queue: all.q, resource-spec: 'h_vmem=4G', walltime: '04:00:00',
            job-extra-directives: ['-pe smp 4']}
  pbs:     {cores: 4, memory: 16GB, queue: batch, account: lab, walltime: '04:00:00'}
  lsf:     {cores: 4, memory: 16GB, queue: normal, project: lab, walltime: '04:00', lsf-units: mb}
  htcondor: {cores: 4, memory: 16GB, disk: 2GB, job-extra-directives: {+Project: '"lab"'}}
  oar:     {cores: 4, memory: 16GB, queue: default, project: lab, walltime: '04:00:00',
            memory-per-core-property-name: memcore}
  moab:    {cores: 4, memory: 16GB, queue: batch, account: lab, walltime: '04:00:00'}
""")
DIRECTIVES = {
    "slurm": [
        "#SBATCH -J blmm-worker",
        "#SBATCH -e {work}/run-ID/logs/blmm-worker-%J.err",
        "#SBATCH -p long",
        "#SBATCH -A lab",
        "#SBATCH --cpus-per-task=4",
        "#SBATCH --mem=15G",
        "#SBATCH -t 04:00:00",
        "#SBATCH --qos=normal",
        "module load python",
    ],
    "sge": [
        "#$ -N blmm-worker",
        "#$ -q all.q",
        "#$ -l h_vmem=4G",
        "#$ -l h_rt=04:00:00",
        "#$ -o {work}/run-ID/logs/",
        "#$ -cwd",
        "#$ -pe smp 4",
        "#$ -S /bin/bash",
    ],
    "pbs": [
        "#PBS -q batch",
        "#PBS -A lab",
        "#PBS -l select=1:ncpus=4:mem=15GB",
        "#PBS -l walltime=04:00:00",
        "#PBS -o {work}/run-ID/logs/",
    ],
    "lsf": ["#BSUB -q normal", '#BSUB -P "lab"', "#BSUB -n 4", "#BSUB -M 16000", "#BSUB -W 04:00"],
    "htcondor": [
        "MY.DaskWorkerCores = 4",
        "MY.DaskWorkerMemory = 16000000000",
        "MY.DaskWorkerDisk = 2000000000",
        "LogDirectory = {work}/run-ID/logs",
        '+Project = "lab"',
        "Queue",
    ],
    "oar": [
        "#OAR -q default",
        "#OAR --project lab",
        "#OAR -l /nodes=1/core=4,walltime=04:00:00",
        "#OAR -p memcore>=3815",
    ],
    "moab": ["#PBS -q batch", "#PBS -A lab", "#PBS -l select=1:ncpus=4:mem=15GB"],
}


def render(backend, work_dir, config=SITE, **options):
    given = ClusterOptions(backend=backend, config=config, **options)
    import_jobqueue()
    with dask_settings(given.config, work_dir):
        return render_job(given, job_request(given), work_dir)


def worker_words(script):
    """The worker's command, as the shell of the job sees it."""
    line = next(line for line in script.splitlines() if "blmm_bids.cluster.worker" in line)
    if line.startswith("Arguments"):
        line = line.removeprefix("Arguments = \"-c '").removesuffix("'\"").replace("''", "'")
    return shlex.split(line)


def value_of(words, option):
    """The last one counts, as in dask's own command."""
    return words[len(words) - 1 - words[::-1].index(option) + 1]


@pytest.mark.parametrize("backend", SCHEDULERS)
def test_render_job__takes_a_site_file_unchanged(tmp_path, backend):
    lines = render(backend, tmp_path).splitlines()
    missing = [text for text in DIRECTIVES[backend] if text.format(work=tmp_path) not in lines]
    assert missing == [], "\n".join(lines)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("backend", SCHEDULERS)
def test_render_job__a_worker_is_one_processor(tmp_path, backend):
    words = worker_words(render(backend, tmp_path))
    assert words[0] == sys.executable or words[0] == "env"
    assert value_of(words, "--nworkers") == "4"
    assert value_of(words, "--nthreads") == "1"
    # 16 GB in decimal units, less what starts the workers.
    assert 3.5 * GB < int(value_of(words, "--memory-limit").removesuffix("B")) < 4e9
    assert value_of(words, "--tls-key") == f"{tmp_path}/run-ID/key.pem"
    assert value_of(words, "--dashboard-address") == "127.0.0.1:0"
    assert "--no-dashboard" in words


@pytest.mark.parametrize("backend", SCHEDULERS)
def test_render_job__workers_end_before_the_walltime(tmp_path, backend):
    words = worker_words(render(backend, tmp_path))
    if backend == "htcondor":
        assert "--lifetime" not in words
        return
    lifetime, stagger = (
        int(value_of(words, option).removesuffix("s")) for option in ("--lifetime", "--lifetime-stagger")
    )
    assert 3 * 3600 < lifetime + stagger < 4 * 3600


def test_render_job__a_lifetime_of_the_user_stays(tmp_path):
    config = {"jobqueue": {"slurm": {"worker-extra-args": ["--lifetime", "55m"]}}}
    words = worker_words(render("slurm", tmp_path, config))
    assert words.count("--lifetime") == 1
    assert value_of(words, "--lifetime") == "55m"


def test_render_job__the_command_line_wins(tmp_path):
    script = render("slurm", tmp_path, n_procs=2, mem_bytes=6 * GB)
    assert script.rstrip().endswith(f" ; touch {tmp_path}/run-ID/blmm-run-ID-0.ended")
    assert "#SBATCH --cpus-per-task=2" in script
    assert "#SBATCH --mem=6G" in script
    assert value_of(worker_words(script), "--nworkers") == "2"


def test_render_job__underscores_are_dashes(tmp_path):
    config = {"jobqueue": {"slurm": {"job_extra_directives": ["--qos=high"], "queue": "q"}}}
    assert "#SBATCH --qos=high" in render("slurm", tmp_path, config)


def test_render_job__is_what_a_run_submits(tmp_path, scheduler, work_dir):
    config = {"jobqueue": {"slurm": {"queue": "long", "log-directory": str(tmp_path / "said")}}}
    for given in (SITE, config):
        options = ClusterOptions(backend="slurm", config=given, n_workers=1, mem_bytes=2 * GB)
        with open_cluster(options, work_dir) as runner:
            list(runner.map(tasks.add, [1], label="item"))
            (run_dir,) = work_dir.glob("run-*")
            address = runner.client.scheduler.address
            submitted = (run_dir / f"blmm-{run_dir.name}-0.sh").read_text()
        shown = render("slurm", work_dir, given, n_workers=1, mem_bytes=2 * GB)
        assert shown == submitted.replace(run_dir.name, "run-ID").replace(address, "tls://SCHEDULER:PORT")


@pytest.fixture
def in_container(monkeypatch, tmp_path):
    """The process seems to run in a container with the work dir bound under another name."""
    tables = write_tables(
        tmp_path / "proc",
        f"1 0 0:5 / / rw - overlay overlay rw\n2 1 8:1 /etc/hosts /etc/hosts rw - ext4 /dev/sda rw\n"
        f"3 1 8:1 /host/work {tmp_path} rw - ext4 /dev/sda rw\n"
        "4 1 8:1 /host/data /data ro - ext4 /dev/sda rw\n",
    )
    environ = {"APPTAINER_CONTAINER": "/host/blmm.sif", "APPTAINER_BIND": f"/data,{tmp_path}"}
    found = container_module.current_container(environ, tables)
    monkeypatch.setattr("blmm_bids.cluster.job_queue.current_container", lambda: found)
    return found


CLEAN = {
    "slurm": ["#SBATCH --export=NONE", "#SBATCH --chdir=/host/work/w/run-ID"],
    "sge": ["#$ -wd /host/work/w/run-ID", "#$ -o /host/work/w/run-ID/logs/"],
    "pbs": ["#PBS -o /host/work/w/run-ID/logs/"],
    "lsf": ["#BSUB -env none", "#BSUB -cwd /host/work/w/run-ID"],
    "htcondor": ["LogDirectory = /host/work/w/run-ID/logs"],
    "oar": ["#OAR -d /host/work/w/run-ID"],
    "moab": ["#PBS -o /host/work/w/run-ID/logs/", "#PBS -d /host/work/w/run-ID"],
}


@pytest.mark.parametrize("backend", SCHEDULERS)
def test_render_job__enters_the_container_again(tmp_path, in_container, backend):
    work_dir = tmp_path / "w"
    script = render(backend, work_dir, paths=(Path("/data/faces"), tmp_path / "out"))
    assert [line for line in CLEAN[backend] if line not in script.splitlines()] == [], script
    assert "#$ -cwd" not in script
    words = worker_words(script)
    assert words[:8] == [
        *("apptainer", "exec", "--cleanenv", "--contain"),
        *("--bind", "/host/data:/data:ro", "--bind", f"/host/work:{tmp_path}"),
    ]
    assert "/host/blmm.sif" in words
    # Inside, paths are those of this container.
    assert value_of(words, "--tls-key") == f"{work_dir}/run-ID/key.pem"


@pytest.mark.parametrize("backend", SCHEDULERS)
def test_open_cluster__says_how_to_lend_the_client(tmp_path, in_container, monkeypatch, backend):
    monkeypatch.setenv("PATH", str(tmp_path))
    with (
        pytest.raises(
            UsageError, match=r"(?s)not in the container.*\n  --bind \S+\nto .*--submit-via ssh:HOST"
        ),
        open_cluster(ClusterOptions(backend=backend), tmp_path),
    ):
        pass


@pytest.mark.parametrize("backend", SCHEDULERS)
def test_open_cluster__says_where_the_client_is(tmp_path, monkeypatch, backend):
    monkeypatch.setenv("PATH", str(tmp_path))
    with (
        pytest.raises(UsageError, match=f"--cluster {backend}: .* is not on PATH.*login node"),
        open_cluster(ClusterOptions(backend=backend), tmp_path),
    ):
        pass


@pytest.mark.parametrize(
    "name", ["my work", "$work", "it's", '"', "a\ntouch b", "$(touch b)", "`touch b`", "a;b"]
)
def test_open_cluster__refuses_a_work_dir_that_a_script_cannot_hold(tmp_path, scheduler, name):
    work_dir = tmp_path / name
    work_dir.mkdir()
    with (
        pytest.raises(UsageError, match="job scripts cannot hold a path"),
        open_cluster(ClusterOptions(backend="slurm"), work_dir),
    ):
        pass


@pytest.fixture
def scheduler(tmp_path, monkeypatch, checkout):
    """All schedulers' commands; the directory of their records."""
    state = tmp_path / "scheduler"
    commands = fake_scheduler.install(state)
    monkeypatch.setenv("PATH", f"{commands}:{os.environ['PATH']}")
    monkeypatch.setenv(fake_scheduler.STATE, str(state))
    # Jobs import the functions of these tests.
    monkeypatch.setenv("PYTHONPATH", str(checkout))
    yield state
    assert fake_scheduler.all_end(state)


@pytest.fixture
def work_dir(tmp_path):
    path = tmp_path / "work"
    path.mkdir()
    return path


@pytest.mark.parametrize("backend", SCHEDULERS)
def test_open_cluster__runs_in_jobs(scheduler, work_dir, monkeypatch, tmp_path, backend):
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    handler = signal.getsignal(signal.SIGINT)
    options = ClusterOptions(backend=backend, n_workers=2, mem_bytes=2 * GB)
    with open_cluster(options, work_dir) as runner:
        assert dict(runner.map(tasks.add, range(20), label="item", shared=(100,))) == {
            index: index + 100 for index in range(20)
        }
        pids = {pid for _, pid in runner.map(tasks.process_id, range(20), label="item")}
        assert os.getpid() not in pids
    assert signal.getsignal(signal.SIGINT) is handler
    assert [path for path in home.rglob("*") if "dask" in path.name] == []
    assert not any(path.name.startswith("run-") for path in work_dir.iterdir())


def test_open_cluster__adapts_to_the_work(scheduler, work_dir, monkeypatch):
    monkeypatch.setenv("DASK_DISTRIBUTED__ADAPTIVE__INTERVAL", "300ms")
    with open_cluster(ClusterOptions(backend="slurm", adapt=(0, 2)), work_dir) as runner:
        assert runner.n_workers == 2
        time.sleep(1)
        assert fake_scheduler.job_ids(scheduler) == set()
        assert len(dict(runner.map(tasks.add, range(20), label="item"))) == 20
        deadline = time.monotonic() + 60
        while fake_scheduler.running(scheduler) and time.monotonic() < deadline:
            time.sleep(0.2)
        assert fake_scheduler.running(scheduler) == set()
        assert len(dict(runner.map(tasks.add, range(20), label="item"))) == 20


def test_open_cluster__runs_longer_than_its_jobs(scheduler, work_dir, monkeypatch):
    """Workers end in order, as before a walltime, again and again; that is no fault of what they run."""
    monkeypatch.setattr("blmm_bids.cluster.job_queue._RETRY_INTERVAL", 0.5)
    config = {"jobqueue": {"slurm": {"worker-extra-args": ["--lifetime", "2s"]}}}
    with open_cluster(ClusterOptions(backend="slurm", n_workers=2, config=config), work_dir) as runner:
        found = dict(runner.map(tasks.nap, range(16), label="block"))
    assert found == {index: index for index in range(16)}
    # Six seconds of work, of which a job has at most two.
    assert len(fake_scheduler.job_ids(scheduler)) >= 4


# bsub reads the script from its standard input.
@pytest.mark.parametrize("backend", ["slurm", "lsf"])
def test_open_cluster__submits_by_ssh(scheduler, work_dir, tmp_path, monkeypatch, backend):
    # The other machine's profile is what puts the commands on PATH there.
    (tmp_path / ".bash_profile").write_text(f"export PATH={scheduler / 'bin'}:$PATH\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    options = ClusterOptions(backend=backend, n_workers=1, submit_via="ssh:login1")
    with open_cluster(options, work_dir) as runner:
        assert dict(runner.map(tasks.add, range(3), label="item")) == {0: 0, 1: 1, 2: 2}
    assert (scheduler / "login1.ssh").exists()


@pytest.mark.parametrize("text", ["login1", "ssh:", "ssh:-oProxyCommand=x", "rsh:a"])
def test_open_cluster__submit_via_is_ssh(scheduler, work_dir, text):
    with (
        pytest.raises(UsageError, match=r"--submit-via.*wanted ssh:HOST"),
        open_cluster(ClusterOptions(backend="slurm", submit_via=text), work_dir),
    ):
        pass


def test_open_cluster__keeps_its_certificates_to_itself(scheduler, work_dir):
    old_mask = os.umask(0)
    try:
        with open_cluster(ClusterOptions(backend="slurm", n_workers=1), work_dir) as runner:
            list(runner.map(tasks.add, [1], label="item"))
            (run_dir,) = work_dir.glob("run-*")
            assert stat.S_IMODE(run_dir.stat().st_mode) == 0o700
            files = list(run_dir.glob("*.pem"))
            assert {path.name for path in files} == {"ca.pem", "certificate.pem", "key.pem"}
            assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    finally:
        os.umask(old_mask)


def _answers(address, certificate):
    """Whether a port says anything to a client with this certificate; None speaks plainly."""
    host, port = address.rpartition("/")[2].rsplit(":", 1)
    with contextlib.suppress(OSError), socket.create_connection((host, int(port)), timeout=30) as plain:
        if certificate is None:
            plain.sendall(b"GET /info HTTP/1.0\r\n\r\n")
            return bool(plain.recv(1))
        context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if certificate:
            context.load_cert_chain(*certificate)
        with context.wrap_socket(plain) as wrapped:
            # A scheduler or worker greets whom it lets in.
            return bool(wrapped.recv(1))
    return False


def test_open_cluster__refuses_strangers(scheduler, work_dir, tmp_path):
    other_dir = tmp_path / "other"
    other_dir.mkdir()
    other = write_certificates(other_dir)
    with open_cluster(ClusterOptions(backend="slurm", n_workers=1), work_dir) as runner:
        list(runner.map(tasks.add, [1], label="item"))
        ((worker, about),) = runner.client.scheduler_info()["workers"].items()
        addresses = [runner.client.scheduler.address, worker, about["nanny"]]
        (run_dir,) = work_dir.glob("run-*")
        for address in addresses:
            assert address.startswith("tls://")
            assert not _answers(address, None)
            assert not _answers(address, ())
            assert not _answers(address, (other.cert, other.key))
            assert _answers(address, (run_dir / "certificate.pem", run_dir / "key.pem"))
        with pytest.raises(OSError, match="TLS certificate does not match"):
            Client(addresses[0], security=other.security, timeout=5, set_as_default=False)


def _listening(pids):
    """Local addresses on which processes listen, of IPv4 and IPv6, as the kernel prints them."""
    inodes = set()
    for pid in pids:
        for entry in Path(f"/proc/{pid}/fd").glob("*"):
            try:
                inodes.add(str(entry.readlink()).removeprefix("socket:[").removesuffix("]"))
            except OSError:
                continue
    found = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                address, port = fields[1].split(":")
                found.append((address, int(port, 16)))
    return found


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="no /proc on this system")
def test_open_cluster__listens_for_strangers_nowhere(scheduler, work_dir):
    """Whatever is not on the loopback is a port of TLS; dashboards and metrics are on the loopback."""
    with open_cluster(ClusterOptions(backend="slurm", n_workers=1), work_dir) as runner:
        ((_, worker),) = runner.map(tasks.process_id, [0], label="item")
        nanny = int(Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split()[1])
        listening = _listening({os.getpid(), worker, nanny})
        open_ports = {port for address, port in listening if address not in ("0100007F", f"{1:032X}")}
        assert open_ports
        host = runner.client.scheduler.address.rpartition(":")[0]
        assert [port for port in open_ports if _answers(f"{host}:{port}", None)] == []
        assert [port for port in open_ports if _answers(f"{host}:{port}", ())] == []


def test_open_cluster__retries_items_of_lost_jobs(scheduler, work_dir, tmp_path, monkeypatch):
    monkeypatch.setenv("DASK_DISTRIBUTED__DEPLOY__LOST_WORKER_TIMEOUT", "1s")
    marks = tmp_path / "marks"
    marks.mkdir()
    with open_cluster(ClusterOptions(backend="slurm", n_workers=2), work_dir) as runner:
        found = dict(runner.map(tasks.die_once, range(8), label="block", shared=(str(marks),)))
    assert found == {index: index * 10 for index in range(8)}


def test_open_cluster__a_block_that_kills_workers_is_named(scheduler, work_dir, monkeypatch):
    monkeypatch.setenv("DASK_DISTRIBUTED__DEPLOY__LOST_WORKER_TIMEOUT", "1s")
    with (
        pytest.raises(TemporaryError, match="block 2: 3 workers died") as caught,
        open_cluster(ClusterOptions(backend="slurm", n_workers=2), work_dir) as runner,
    ):
        list(runner.map(tasks.die_always, range(4), label="block"))
    assert caught.value.exit_code == 75
    # What jobs said stays, certificates do not.
    (run_dir,) = work_dir.glob("run-*")
    assert list(run_dir.glob("*.pem")) == []
    assert (run_dir / "logs").is_dir()


def test_open_cluster__who_was_beside_a_killer_is_tried_alone(scheduler, work_dir, tmp_path, monkeypatch):
    """dask counts a death against all that a worker had; here one is enough for it to give up on each."""
    monkeypatch.setenv("DASK_DISTRIBUTED__DEPLOY__LOST_WORKER_TIMEOUT", "1s")
    monkeypatch.setitem(DASK_CONFIG, "distributed.scheduler.allowed-failures", 0)
    marks = tmp_path / "marks"
    marks.mkdir()
    with open_cluster(ClusterOptions(backend="slurm", n_workers=1), work_dir) as runner:
        items = [0, 1, 2, 3, 4]
        found = dict(runner.map(tasks.die_once, items, label="block", shared=(str(marks),)))
        assert found == {index: index * 10 for index in items}
        with pytest.raises(
            TemporaryError, match="block 1: 3 workers died while they had it and nothing else"
        ):
            list(runner.map(tasks.die_always, [7, 2, 8], label="block"))


@pytest.mark.parametrize(("backend", "program"), [("slurm", "sbatch"), ("lsf", "bsub")])
def test_open_cluster__says_what_the_scheduler_says(
    scheduler, work_dir, monkeypatch, caplog, backend, program
):
    monkeypatch.setattr("blmm_bids.cluster.jobs._REFUSAL_PATIENCE", 2.0)
    (scheduler / "refuse").touch()
    with (
        caplog.at_level(logging.WARNING),
        pytest.raises(UsageError, match=rf"(?s){program} takes no job: .*invalid account.*--cluster-config"),
        open_cluster(ClusterOptions(backend=backend, n_workers=2), work_dir) as runner,
    ):
        list(runner.map(tasks.add, range(4), label="block"))
    assert caplog.text.count("invalid account") == 1


def test_open_cluster__tries_again_after_a_refusal(scheduler, work_dir, monkeypatch):
    monkeypatch.setattr("blmm_bids.cluster.job_queue._RETRY_INTERVAL", 1.0)
    (scheduler / "refuse").touch()
    with open_cluster(ClusterOptions(backend="slurm", n_workers=1), work_dir) as runner:
        time.sleep(2)
        (scheduler / "refuse").unlink()
        assert dict(runner.map(tasks.add, range(4), label="block")) == {index: index for index in range(4)}


def test_open_cluster__gives_up_on_jobs_that_stay_pending(scheduler, work_dir):
    (scheduler / "hold").touch()
    options = ClusterOptions(backend="slurm", n_workers=1, worker_timeout=3)
    started = time.monotonic()
    with (
        pytest.raises(TemporaryError, match=r"no worker has come for \d+ s; run the same command") as caught,
        open_cluster(options, work_dir) as runner,
    ):
        list(runner.map(tasks.add, range(4), label="block"))
    assert caught.value.exit_code == 75
    assert time.monotonic() - started < 60


def test_open_cluster__says_what_jobs_say_that_end_at_once(scheduler, work_dir, monkeypatch):
    monkeypatch.setattr("blmm_bids.cluster.job_queue._RETRY_INTERVAL", 0.5)
    python = f"cd {work_dir}/run-*/logs; apptainer >said 2>&1; false"
    options = ClusterOptions(backend="slurm", n_workers=1, config={"jobqueue": {"slurm": {"python": python}}})
    with (
        pytest.raises(UsageError, match=r"(?s)3 jobs have ended without a worker.*apptainer: .*not found"),
        open_cluster(options, work_dir) as runner,
    ):
        list(runner.map(tasks.add, range(4), label="block"))


def test_import_jobqueue__leaves_no_trace(tmp_path, checkout):
    script = (
        "import signal, dask.config\n"
        "before = signal.getsignal(signal.SIGINT), dask.config.ensure_file\n"
        "from blmm_bids.cluster.dask_config import import_jobqueue\n"
        "import_jobqueue()\n"
        "assert (signal.getsignal(signal.SIGINT), dask.config.ensure_file) == before\n"
        "assert dask.config.get('jobqueue.slurm.walltime') == '00:30:00'\n"
    )
    environ = {**os.environ, "HOME": str(tmp_path), "PYTHONPATH": str(checkout)}
    subprocess.run([sys.executable, "-c", script], env=environ, check=True, timeout=60)
    assert list(tmp_path.rglob("jobqueue*")) == []


def test_run_directory__is_gone_afterwards(tmp_path):
    with run_directory(tmp_path) as run_dir:
        (run_dir / "key.pem").touch()
    assert list(tmp_path.iterdir()) == []
