"""The whole app beside the plain loop, at a tiny size, and the arithmetic of larger runs."""

from __future__ import annotations

from dataclasses import replace

from benchmarks import whole_run
from benchmarks.app_runs import Case, Run
from benchmarks.scale import work_ahead, worker_bytes
from tests.benchmarks.columns import read_tables

TINY = "12x14x12"
N_IMAGES = 40
# Of five numbers printed with one decimal.
ROUNDING = 0.25


def test_main__measures_the_app_beside_the_loop(capsys, tmp_path, monkeypatch) -> None:
    case = Case("ratio", N_IMAGES, TINY, n_procs=1, mem="1G", with_loop=True, n_distinct=8)
    monkeypatch.setattr(whole_run, "CASES", (case,))
    whole_run.main(["--only", "ratio", "--directory", str(tmp_path)])
    ((row,),) = read_tables(capsys.readouterr().out)
    assert tuple(row) == whole_run.RATIO_HEADER
    stages = ("start-up, s", "reading, s", "fitting, s", "writing, s")
    assert 0 < sum(float(row[stage]) for stage in stages) <= float(row["app, s"]) + ROUNDING


def test_main__two_processes_take_turns_with_one(capsys, tmp_path, monkeypatch) -> None:
    one = Case("processes", N_IMAGES, TINY, n_procs=1, mem="1G", n_distinct=8, repeats=2)
    monkeypatch.setattr(whole_run, "CASES", (one, replace(one, n_procs=2)))
    whole_run.main(["--only", "processes", "--directory", str(tmp_path)])
    (rows,) = read_tables(capsys.readouterr().out)
    assert [row["--nprocs"] for row in rows] == ["1", "2"]
    assert rows[0]["whole, times faster"] == "1.00"


def test_main__measures_memory_and_computes_larger_runs(capsys, tmp_path, monkeypatch) -> None:
    case = Case("memory", N_IMAGES, TINY, mem=whole_run.SCALE_MEM, n_distinct=8)
    monkeypatch.setattr(whole_run, "CASES", (case,))
    whole_run.main(["--only", "memory", "--directory", str(tmp_path)])
    (row,), scale = read_tables(capsys.readouterr().out)
    assert 0 < float(row["share of --mem"]) < 1
    assert [row["images"] for row in scale] == [f"{n:,}" for n in whole_run.SCALE_IMAGES]


def test_scale_table__tells_measured_from_computed() -> None:
    case = Case("memory", 10_000, TINY, mem=whole_run.SCALE_MEM)
    run = Run(case, 30.0, 36.0, 2**29, {}, 400, "300 MB", 2**30)
    (rows,) = read_tables(whole_run.scale_table([replace(run, case=replace(case, mem="1G")), run]))
    assert [(row["images"], row["kind"]) for row in rows] == [
        ("1,000", "computed"), ("10,000", "measured"), ("100,000", "computed"),
    ]  # fmt: skip
    assert [float(row["CPU hours"]) for row in rows] == [0.001, 0.01, 0.1]
    assert float(rows[1]["working files, GB"]) == 1.0


def test_work_ahead__is_the_app_s_own_cut_of_the_work() -> None:
    work = work_ahead(N_IMAGES, 400, TINY, "1G", 2)
    assert (work.n_obs, work.n_voxels) == (N_IMAGES, 400)
    assert work.disk_bytes >= N_IMAGES * 400 * 4
    assert worker_bytes(work) <= work.bytes_per_worker
