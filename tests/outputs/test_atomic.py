"""Arrays on disk: whole or absent; and readers that wait a moment for what another host has just written."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from blmm_bids.errors import StorageError
from blmm_bids.images.blocks import split_evenly
from blmm_bids.outputs.atomic import PAUSES, load_arrays, save_arrays
from blmm_bids.outputs.parts import is_part_done, open_part, write_part


@pytest.mark.parametrize("kind", ["arrays", "part"])
def test_readers__wait_for_a_file_that_a_listing_does_not_show_yet(tmp_path, kind):
    """As on a network file system whose cache still says that the name is not there."""
    path, hidden = tmp_path / "x", tmp_path / "hidden"
    if kind == "arrays":
        save_arrays(hidden, {"x": np.arange(3)})
    else:
        write_part(hidden, np.ones((2, 3), np.float32), split_evenly(3, 3), 0, "a" * 64)
        assert not is_part_done(path)
    threading.Timer(0.3, lambda: hidden.rename(path)).start()
    start = time.monotonic()
    if kind == "arrays":
        np.testing.assert_array_equal(load_arrays(path)["x"], np.arange(3))
    else:
        assert open_part(path, "a" * 64).n_obs == 2
    assert time.monotonic() - start < sum(PAUSES) + 1


def test_load_arrays__gives_up_on_what_never_comes(tmp_path):
    with pytest.raises(StorageError, match="not there; run again, it will be made anew"):
        load_arrays(tmp_path / "x")


def test_load_arrays__a_damaged_file_is_not_found_again(tmp_path):
    save_arrays(tmp_path / "x", {"x": np.arange(1000)})
    stored = (tmp_path / "x").read_bytes()
    (tmp_path / "x").write_bytes(stored[:1000] + b"\xff" + stored[1001:])
    with pytest.raises(StorageError, match="damaged"):
        load_arrays(tmp_path / "x")
    assert not (tmp_path / "x").exists()
