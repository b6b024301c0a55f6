"""Series are kept block by block and read back map by map, whatever the cut."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from blmm_bids.images.blocks import split_evenly
from blmm_bids.images.reader import MissingRule
from blmm_bids.outputs.workdir import WorkDir
from blmm_bids.stages import FitTask, Fitted, Problem, records
from blmm_bids.stages.fit import slabs_of
from blmm_bids.stats.model import Design, FitOptions, RandomTerm

N_OBS, N_LEVELS, N_VOXELS = 30, 6, 50


def problem(*series):
    refs = np.arange(N_OBS) % N_LEVELS
    term = RandomTerm("subject", tuple("abcdef"), refs, np.ones((N_OBS, 2)), ("Intercept", "age"))
    design = Design(np.ones((N_OBS, 1)), ("Intercept",), (term,))
    return Problem(design, (), FitOptions(), (), (), None, MissingRule(), 3, series)


@pytest.mark.parametrize(
    ("series", "n_maps"), [((), {}), (("ranef",), {"ranef": 12}), (("residuals",), {"residuals": 30})]
)
def test_series_slabs__cover_every_map_once(series, n_maps, monkeypatch):
    for size in (1, 4 * N_VOXELS * 7, 10**9):
        monkeypatch.setattr(records, "SLAB_BYTES", size)
        slabs = problem(*series).series_slabs(N_VOXELS)
        assert {key: spans[-1].stop for key, spans in slabs.items()} == n_maps
        for spans in slabs.values():
            assert [span.start for span in spans[1:]] == [span.stop for span in spans[:-1]]
            assert max(span.size for span in spans) <= max(size // (4 * N_VOXELS), 1)


@pytest.mark.parametrize("n_together", [1, 5, 100])
@pytest.mark.parametrize("block_size", [1, 16, 50])
def test_slabs__give_back_what_the_blocks_kept(tmp_path, monkeypatch, n_together, block_size):
    monkeypatch.setattr(records, "SLAB_BYTES", 4 * 40 * n_together)
    rng = np.random.default_rng(1)
    keep = np.ones(N_VOXELS, dtype=bool)
    keep[[0, 3, 4, 17, 20, 21, 22, 23, 30, 49]] = False
    values = {"ranef": rng.normal(size=(N_VOXELS, 12)), "residuals": rng.normal(size=(N_VOXELS, N_OBS))}
    values["ranef"][1, 1] = 1e300
    blocks = split_evenly(N_VOXELS, block_size)
    stage = WorkDir.open(tmp_path / "work").fit("0" * 64)
    asked = problem("ranef", "residuals")
    slabs = asked.series_slabs(int(keep.sum()))
    task = FitTask(None, asked.options, (), (), stage, keep, slabs)
    for span in blocks:
        here = np.flatnonzero(keep[span.start : span.stop]) + span.start
        stage.save_result(span.index, {"status": np.zeros(here.size)})
        assert not task.is_done(span.index)
        for key, spans in slabs.items():
            stage.save_result(span.index, slabs_of(values[key][here], spans), kind=key)
        assert task.is_done(span.index)
    prepared = SimpleNamespace(problem=asked, work=SimpleNamespace(blocks=blocks))
    fitted = Fitted(prepared, None, stage, keep)
    for key, wanted in values.items():
        found = np.concatenate(list(fitted.slabs(key)))
        maps = wanted[keep].T
        rounded = np.where(maps > 1e299, 0, maps).astype(np.float32)
        np.testing.assert_array_equal(found, np.where(maps > 1e299, maps, rounded))
