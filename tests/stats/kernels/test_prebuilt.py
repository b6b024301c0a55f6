"""Kernels compiled beforehand: for which processors, and how a run comes by them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from blmm_bids.stats.kernels import prebuilt

CHECKOUT = Path(__file__).resolve().parents[3]
HASWELL = "flags\t\t: fpu sse4_2 movbe f16c fma avx avx2 bmi1 bmi2\n"
# Every kernel that a user can ask for, on values of either precision.
FIT_ALL = """
import numpy as np
from blmm_bids.stats.fit import fit_voxels
from blmm_bids.stats.methods import UPDATES
from blmm_bids.stats.model import FitOptions
from blmm_bids.stats.modes import conditional_modes
from blmm_bids.stats.plan import make_plan
from tests.stats.designs import random_design
plan = make_plan(random_design(np.random.default_rng(2)))
for dtype in ("float32", "float64"):
    y = np.random.default_rng(1).normal(size=(3, plan.n_obs)).astype(dtype)
    for method in UPDATES:
        fit = fit_voxels(plan, y, FitOptions(method=method))
    conditional_modes(plan, y, fit.D, fit.status)
"""


@pytest.mark.parametrize(
    ("environ", "machine", "cpu_info", "expected"),
    [
        ({"BLMM_KERNEL_CACHE": "/opt"}, "x86_64", HASWELL, ("x86-64-v3", "")),
        ({}, "x86_64", HASWELL, (None, None)),
        ({"BLMM_KERNEL_CACHE": "/opt"}, "aarch64", HASWELL, (None, None)),
        ({"BLMM_KERNEL_CACHE": "/opt"}, "x86_64", "flags : sse4_2 avx\n", (None, None)),
        ({"BLMM_KERNEL_CACHE": "/opt"}, "x86_64", None, (None, None)),
        ({"BLMM_KERNEL_CACHE": "/opt", "NUMBA_CPU_NAME": "generic"}, "x86_64", HASWELL, ("generic", None)),
        (
            {"BLMM_KERNEL_CACHE": "/opt", "NUMBA_CPU_FEATURES": "+avx"},
            "x86_64",
            HASWELL,
            ("x86-64-v3", "+avx"),
        ),
    ],
    ids=["image", "no image", "ARM", "old processor", "no /proc", "the user's choice", "the user's features"],
)
def test_choose_processor__takes_the_portable_one_where_kernels_are_prebuilt(
    monkeypatch, tmp_path, environ, machine, cpu_info, expected
):
    for name in ("BLMM_KERNEL_CACHE", "NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES"):
        # Set first, so that what is set below is taken back at the end.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(prebuilt.platform, "machine", lambda: machine)
    if cpu_info is not None:
        (tmp_path / "cpuinfo").write_text(f"processor : 0\n{cpu_info}")
    prebuilt.choose_processor(tmp_path / "cpuinfo")
    assert (os.environ.get("NUMBA_CPU_NAME"), os.environ.get("NUMBA_CPU_FEATURES")) == expected


def test_link_prebuilt__links_what_is_of_the_same_sources_and_leaves_what_is_there(monkeypatch, tmp_path):
    here = prebuilt.cache_name()
    image, folder = tmp_path / "image", tmp_path / "home" / here
    for name in (f"{here}/kernels_1/f.nbi", f"{here}/kernels_1/g.nbi", "numba-other/kernels_1/h.nbi"):
        (image / name).parent.mkdir(parents=True, exist_ok=True)
        (image / name).write_text("image")
    (folder / "kernels_1").mkdir(parents=True)
    (folder / "kernels_1" / "g.nbi").write_text("own")
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.setenv("BLMM_KERNEL_CACHE", str(image))
    for _ in range(2):
        prebuilt.link_prebuilt(folder)
    assert {path.name: path.read_text() for path in folder.rglob("*.nbi")} == {
        "f.nbi": "image",
        "g.nbi": "own",
    }
    assert (folder / "kernels_1" / "f.nbi").is_symlink()


def test_link_prebuilt__does_nothing_to_the_image_itself(monkeypatch, tmp_path):
    (tmp_path / prebuilt.cache_name() / "kernels_1").mkdir(parents=True)
    kernel = tmp_path / prebuilt.cache_name() / "kernels_1" / "f.nbi"
    kernel.write_text("image")
    monkeypatch.setenv("BLMM_KERNEL_CACHE", str(tmp_path))
    prebuilt.link_prebuilt(tmp_path / prebuilt.cache_name())
    assert not kernel.is_symlink()


@pytest.mark.slow
def test_compile_all__leaves_nothing_to_compile(tmp_path):
    environ = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"}
    environ |= {"BLMM_KERNEL_CACHE": str(tmp_path / "image"), "PYTHONPATH": str(CHECKOUT)}
    for cache, command in (
        (tmp_path / "image", ["-m", "blmm_bids.stats.compile_all"]),
        (tmp_path / "user", ["-c", FIT_ALL]),
    ):
        own = {**environ, "XDG_CACHE_HOME": str(cache)}
        subprocess.run([sys.executable, *command], env=own, check=True, timeout=1800)
    files = [path for path in (tmp_path / "user").rglob("*") if not path.is_dir()]
    assert files
    assert [path.name for path in files if not path.is_symlink()] == []
