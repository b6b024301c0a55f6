"""The start of a fit; the cold one is left to the benchmark."""

from __future__ import annotations

import os

from benchmarks import startup


def test_run_once__times_a_fit() -> None:
    for study in startup.KINDS.values():
        wall, cpu = startup.run_once(startup.FIT.format(**study), os.environ["NUMBA_CACHE_DIR"])
        assert wall > 0
        assert cpu > 0


def test_run_app_once__times_a_run_to_its_last_voxel(tmp_path) -> None:
    before = os.environ["NUMBA_CACHE_DIR"]
    assert startup.run_app_once(tmp_path, before) > 0
    assert os.environ["NUMBA_CACHE_DIR"] == before
