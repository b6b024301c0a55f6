"""The options that say where workers run."""

from __future__ import annotations

import pytest

from blmm_bids.cli import app_parser, main, normalise
from blmm_bids.cli_cluster import cluster_options
from blmm_bids.errors import UsageError
from tests.datasets import longitudinal, write_text

GB = 2**30


def options_of(*arguments):
    args = app_parser().parse_args(normalise(["in", "out", "group", *arguments]))
    return cluster_options(args, args.cluster)


def test_cluster_options__by_default_this_machine():
    found = options_of()
    assert (found.backend, found.n_workers, found.adapt, found.config) == ("local", None, None, {})


def test_cluster_options__takes_all(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_text(tmp_path / "jobqueue.yaml", "jobqueue: {slurm: {queue: long}}\n")
    found = options_of(
        *("--cluster", "slurm", "--cluster_config", "jobqueue.yaml", "--n_workers", "12", "--nprocs", "4"),
        *("--mem", "8G", "--submit-via", "ssh:login1", "--worker-timeout", "600"),
        *("--scheduler-file", "scheduler.json", "--write-worker-script", "--dashboard"),
    )
    assert found.config == {"jobqueue": {"slurm": {"queue": "long"}}}
    assert (found.n_workers, found.n_procs, found.mem_bytes) == (12, 4, 8 * GB)
    assert (found.submit_via, found.worker_timeout) == ("ssh:login1", 600)
    assert found.scheduler_file == tmp_path / "scheduler.json"
    assert found.write_worker_script
    assert found.dashboard


def test_cluster_options__adapt():
    assert options_of("--adapt", "0:20").adapt == (0, 20)


@pytest.mark.parametrize("text", ["20", "a:b", "1:", ":2", "-1:2x", "1:2:3"])
def test_cluster_options__adapt_is_two_numbers(text):
    with pytest.raises(UsageError, match=r"--adapt.*MIN:MAX"):
        options_of(f"--adapt={text}")


def test_cluster_options__one_of_two_sizes():
    with pytest.raises(UsageError, match="not allowed with"):
        options_of("--adapt", "1:2", "--n-workers", "3")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--cluster", "slrum"), 64, "did you mean slurm"),
        (("--cluster", "slurm", "--cluster-config", "none.yaml"), 66, "none.yaml"),
        (("--cluster", "pbs", "--cluster-config", "jobqueue.yaml"), 64, "wanted a section jobqueue.pbs"),
        (("--cluster", "external"), 64, "--scheduler-file FILE"),
    ],
)
def test_main__refuses_before_the_first_image(tmp_path, monkeypatch, capsys, arguments, code, words):
    monkeypatch.chdir(tmp_path)
    write_text(tmp_path / "jobqueue.yaml", "jobqueue: {slurm: {queue: long}}\n")
    dataset = longitudinal(tmp_path / "in")
    formula = ("--formula", "1 + sex + (1 | subject)")
    assert main([str(dataset), str(tmp_path / "out"), "group", *formula, *arguments, "--dry-run"]) == code
    assert words in capsys.readouterr().err


def test_main__a_dry_run_shows_the_job(tmp_path, capsys):
    dataset = longitudinal(tmp_path / "in")
    arguments = ("--formula", "1 + sex + (1 | subject)", "--cluster", "sge", "--nprocs", "2", "--dry-run")
    assert main([str(dataset), str(tmp_path / "out"), "group", *arguments]) == 0
    shown = capsys.readouterr().err
    assert "#$ -N blmm-worker" in shown
    # Where a run has them.
    assert f"#$ -o {tmp_path}/out/.work/scratch/run-ID/logs" in shown
    assert "--nworkers 2" in shown
