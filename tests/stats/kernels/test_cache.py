"""Compiled kernels are kept where nobody else can plant any, and what is wrong with the files ends no run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from blmm_bids.stats.kernels import cache_folder
from blmm_bids.stats.kernels.cache_folder import cache_name, find_cache_folder, say_where, settled_cache
from tests.datasets import longitudinal

CHECKOUT = Path(__file__).resolve().parents[3]
OTHER = 23456
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root makes files of another user")


@pytest.fixture
def places(monkeypatch, caplog):
    """A home and a temporary directory of their own, below directories that only root changes."""
    for name in ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME", cache_folder.CACHE_FOLDER):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(cache_folder, "_said", [])
    caplog.set_level("WARNING", logger="blmm_bids")
    with tempfile.TemporaryDirectory(dir=Path.home()) as folder:
        root = Path(folder).resolve()
        root.chmod(0o755)
        for name, mode in (("home", 0o755), ("tmp", 0o1777)):
            (root / name).mkdir()
            (root / name).chmod(mode)
        monkeypatch.setenv("HOME", str(root / "home"))
        monkeypatch.setattr(tempfile, "tempdir", str(root / "tmp"))
        yield root


def found(places, **arguments):
    folder = find_cache_folder(**arguments)
    say_where()
    assert folder.stat().st_uid == os.geteuid()
    assert not folder.stat().st_mode & 0o022
    return folder.relative_to(places)


CACHE = Path("home/.cache") / cache_name()
TEMPORARY = Path(f"tmp/blmm-bids-{os.getuid()}") / cache_name()


@pytest.mark.parametrize("umask", [0o002, 0o022, 0o077, 0o000])
def test_find_cache_folder__is_private_whatever_the_umask(places, caplog, umask):
    before = os.umask(umask)
    try:
        assert found(places) == CACHE
    finally:
        os.umask(before)
    assert (places / "home/.cache").stat().st_mode & 0o077 == 0
    assert found(places) == CACHE
    assert caplog.text == ""


def closed_home(places):
    (places / "home/.cache").write_text("a file in its place")


def others_write(places):
    (places / "home/.cache").mkdir()
    (places / "home/.cache").chmod(0o777)


def group_writes(places):
    (places / "home/.cache").mkdir()
    os.chown(places / "home/.cache", -1, OTHER)
    (places / "home/.cache").chmod(0o775)


def of_another(places):
    (places / "home/.cache").mkdir()
    os.chown(places / "home/.cache", OTHER, OTHER)


def planted(places):
    (places / CACHE).mkdir(parents=True)
    os.chown(places / CACHE, OTHER, OTHER)


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (closed_home, "Not a directory"),
        (others_write, "others may write to"),
        pytest.param(group_writes, "others may write to", marks=as_root),
        pytest.param(of_another, "is another user's", marks=as_root),
        pytest.param(planted, "is another user's", marks=as_root),
    ],
)
def test_find_cache_folder__goes_where_nobody_else_can_plant(places, caplog, spoil, why):
    spoil(places)
    assert found(places) == TEMPORARY
    assert why in caplog.text
    # And again, in what is there by now.
    assert found(places) == TEMPORARY


def planted_parent(places):
    parent = (places / TEMPORARY).parent
    parent.mkdir()
    os.chown(parent, OTHER, OTHER)
    parent.chmod(0o777)


def planted_link(places):
    (places / "tmp/elsewhere").mkdir()
    os.chown(places / "tmp/elsewhere", OTHER, OTHER)
    (places / TEMPORARY).parent.symlink_to(places / "tmp/elsewhere")


@as_root
@pytest.mark.parametrize("spoil", [planted_parent, planted_link])
def test_find_cache_folder__takes_a_new_one_where_somebody_was_first(places, caplog, spoil):
    closed_home(places)
    spoil(places)
    folder = found(places)
    assert folder.parent == Path("tmp")
    assert folder.name.startswith(cache_name())
    assert "is another user's" in caplog.text
    (places / "study").mkdir()
    assert found(places, spare=places / "study" / "out" / ".work").parent == Path("study")


def test_find_cache_folder__leaves_a_full_disk(places, caplog, monkeypatch):
    monkeypatch.setattr(cache_folder, "_ROOM", 2**60)
    assert found(places).parent == Path("tmp")
    assert caplog.text.count("its disk is full") == 2


def test_settled_cache__is_for_what_is_started_inside(places, monkeypatch):
    with settled_cache():
        folder = find_cache_folder()
        monkeypatch.setenv("HOME", "/nowhere")
        assert find_cache_folder() == folder
    assert find_cache_folder() != folder


def test_find_cache_folder__of_the_user_may_be_everybodys(places, monkeypatch, caplog):
    (places / "shared").mkdir()
    (places / "shared").chmod(0o777)
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(places / "shared"))
    assert find_cache_folder() == places / "shared" / cache_name()
    say_where()
    assert caplog.text == ""


# Files -------------------------------------------------------------------------------------------

FIT = """
import logging
logging.basicConfig(level="WARNING")
import numpy as np
from blmm_bids.stats.fit import fit_voxels
from blmm_bids.stats.model import FitOptions
from blmm_bids.stats.plan import make_plan
from tests.stats.designs import random_design
plan = make_plan(random_design(np.random.default_rng(2)))
fit = fit_voxels(plan, np.random.default_rng(1).normal(size=(3, plan.n_obs)), FitOptions())
from blmm_bids.stats.kernels.folding import evaluate
print(float(np.sum(fit.loglik)), sum(evaluate.stats.cache_misses.values()))
"""


# As another user, who can still read what this Python consists of.
AS_OTHER = ["setpriv", "--reuid", str(OTHER), "--regid", str(OTHER), "--clear-groups"]
AS_OTHER += ["--inh-caps", "+dac_read_search", "--ambient-caps", "+dac_read_search"]


def fit(cache, *before, **more):
    variables = {name: value for name, value in os.environ.items() if name != cache_folder.CACHE_FOLDER}
    done = subprocess.run(
        [*before, sys.executable, "-c", FIT],
        env={**variables, "NUMBA_CACHE_DIR": str(cache), "PYTHONPATH": str(CHECKOUT), **more},
        capture_output=True, text=True, check=False, timeout=300, cwd="/",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    total, misses = done.stdout.split()
    return total, int(misses), done.stderr


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder), fit(folder)[0]


DAMAGE = {
    "truncated index": ("*.nbi", lambda content: content[: len(content) // 2]),
    "empty index": ("*.nbi", lambda content: b""),
    "another index": ("*.nbi", lambda content: b"\\x80\\x04hello"),
    "truncated kernel": ("*.nbc", lambda content: content[: len(content) // 2]),
    "empty kernel": ("*.nbc", lambda content: b""),
    "zeros for a kernel": ("*.nbc", lambda content: bytes(len(content))),
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", DAMAGE)
def test_fit__compiles_damaged_kernels_anew(cache, fault):
    folder, expected = cache
    pattern, change = DAMAGE[fault]
    damaged = list(folder.rglob(f"*evaluate{pattern}"))
    for path in damaged:
        path.write_bytes(change(path.read_bytes()))
    assert damaged
    total, misses, said = fit(folder)
    assert (total, misses) == (expected, 1)
    assert "Traceback" not in said
    assert fit(folder)[:2] == (expected, 0)


@as_root
@pytest.mark.skipif(shutil.which("setpriv") is None, reason="wanted setpriv, of util-linux")
def test_fit__reads_what_another_user_has_compiled(cache):
    """Of a shared folder that this user cannot write to: nothing is compiled, and nothing fails."""
    folder, expected = cache
    with tempfile.TemporaryDirectory() as home:
        os.chown(home, OTHER, OTHER)
        total, misses, said = fit(folder, *AS_OTHER, HOME=home)
        assert list(Path(home).rglob("*.nbi"))
    assert (total, misses) == (expected, 0)
    assert "not in" in said
    assert "is not writable" in said


@pytest.mark.parametrize("n_procs", ["1", "2"])
def test_app__says_once_where_kernels_are_kept(tmp_path, n_procs):
    data = longitudinal(tmp_path / "data")
    (tmp_path / "home").write_text("")
    variables = {name: value for name, value in os.environ.items() if name != cache_folder.CACHE_FOLDER}
    arguments = [str(data), str(tmp_path / "out"), "group", "--formula", "1 + time + (1 | subject)"]
    done = subprocess.run(
        [sys.executable, "-m", "blmm_bids", *arguments, "--nprocs", n_procs],
        env={**variables, "NUMBA_CACHE_DIR": str(tmp_path / "home"), "PYTHONPATH": str(CHECKOUT),
             "XDG_CACHE_HOME": os.environ["NUMBA_CACHE_DIR"]},
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("compiled kernels are kept in ") == 1
    assert "Not a directory" in done.stderr
