"""Gathering real images into parts."""

from __future__ import annotations

import os
import pickle

import nibabel as nib
import numpy as np
import pytest

from blmm_bids.errors import DataError, StorageError
from blmm_bids.images.blocks import split_evenly
from blmm_bids.images.header import read_header
from blmm_bids.images.reader import MissingRule
from blmm_bids.outputs.gather import GatherBatch, GatherTask, gather_part, read_summary, summary_path
from blmm_bids.outputs.parts import read_block

SHAPE = (4, 5, 6)
DTYPES = ("float32", "int16", "float64", "uint8", ">f4")


@pytest.fixture
def images(tmp_path):
    """Five images of several types with holes, the first three with masks."""
    rng = np.random.default_rng(0)
    paths, masks, expected = [], [], np.empty((5, 120))
    for obs, dtype in enumerate(DTYPES):
        data = rng.uniform(0, 90, SHAPE).astype(dtype)
        data[rng.random(SHAPE) < 0.2] = 0
        truth = data.astype(np.float64)
        if data.dtype.kind == "f":
            data[0, 0, obs], data[1, 1, obs] = np.nan, np.inf
            truth[0, 0, obs] = truth[1, 1, obs] = 0
        path = tmp_path / f"img {obs}.nii{'.gz' if obs % 2 else ''}"
        nib.save(nib.Nifti1Image(data, np.eye(4), dtype=data.dtype), path)
        own = ()
        if obs < 3:
            inside = rng.random(SHAPE) > 0.3
            own = (tmp_path / f"mask{obs}.nii.gz",)
            nib.save(nib.Nifti1Image(inside.astype(np.uint8), np.eye(4)), own[0])
            truth[~inside] = 0
        paths.append(path)
        masks.append(own)
        expected[obs] = np.where(truth == 0, np.nan, truth).ravel()
    return paths, masks, expected


def gather(directory, images, voxels, batch_obs, block_voxels, rule=None, *, one_worker=False):
    paths, masks, _ = images
    task = GatherTask(
        SHAPE, voxels, split_evenly(len(voxels), block_voxels), "float64", rule or MissingRule()
    )
    directory.mkdir()
    summaries, parts = [], []
    for span in split_evenly(5, batch_obs):
        part = directory / f"part-{span.index:05d}.blmm"
        chosen = paths[span.start : span.stop]
        identities = tuple(read_header(path).identity for path in chosen)
        batch = GatherBatch(
            part, span.start, tuple(chosen), tuple(masks[span.start : span.stop]), identities, "f" * 64
        )
        sent = task if one_worker else pickle.loads(pickle.dumps(task))
        summaries.append(gather_part(pickle.loads(pickle.dumps(batch)), sent))
        parts.append(part)
    values = np.concatenate([read_block(parts, block.index) for block in task.blocks])
    return values, summaries, parts


@pytest.mark.parametrize(("batch_obs", "block_voxels"), [(1, 7), (2, 60), (5, 1), (5, 60), (3, 120)])
def test_gather_part__any_cut_gives_the_same_matrix(tmp_path, images, batch_obs, block_voxels):
    voxels = np.flatnonzero(np.random.default_rng(9).random(120) > 0.5)
    values, summaries, parts = gather(tmp_path / "work", images, voxels, batch_obs, block_voxels)
    expected = images[2][:, voxels].T
    np.testing.assert_array_equal(values, expected)
    np.testing.assert_array_equal(sum(each.counts for each in summaries), (~np.isnan(expected)).sum(axis=1))
    means = np.concatenate([each.mean for each in summaries])
    np.testing.assert_allclose(means, np.nanmean(expected, axis=0), rtol=1e-12)
    variances = np.concatenate([each.variance for each in summaries])
    np.testing.assert_allclose(variances, np.nanvar(expected, axis=0), rtol=1e-10)
    again = read_summary(parts[-1])
    np.testing.assert_array_equal(again.counts, summaries[-1].counts)
    assert again.first_obs == summaries[-1].first_obs


def test_gather_part__nothing_of_the_batch_before_is_left(tmp_path, images):
    voxels = np.arange(120)
    apart, _, _ = gather(tmp_path / "apart", images, voxels, 2, 60)
    together, _, _ = gather(tmp_path / "together", images, voxels, 2, 60, one_worker=True)
    assert apart.tobytes() == together.tobytes()


def test_gather_part__counts_infinite_values(tmp_path, images):
    voxels = np.arange(120)
    _, summaries, _ = gather(tmp_path / "work", images, voxels, 5, 120)
    n_inf = summaries[0].n_inf
    assert n_inf[1] == n_inf[3] == 0
    assert n_inf[4] == 1


def test_gather_part__empty_image_has_no_mean(tmp_path, images):
    nib.save(nib.Nifti1Image(np.zeros(SHAPE, np.float32), np.eye(4)), images[0][0])
    _, summaries, _ = gather(tmp_path / "work", images, np.arange(120), 5, 120)
    assert summaries[0].n_present[0] == 0
    assert np.isnan(summaries[0].mean[0])


def test_gather_part__a_bad_image_leaves_no_part(tmp_path, images):
    images[0][1].write_bytes(images[0][1].read_bytes()[:-20])
    with pytest.raises(DataError, match="img 1"):
        gather(tmp_path / "work", images, np.arange(120), 5, 120)
    assert list((tmp_path / "work").iterdir()) == []


def test_gather_part__an_image_that_changes_meanwhile(tmp_path, images):
    paths, masks, _ = images
    task = GatherTask(SHAPE, np.arange(120), split_evenly(120, 60), "float64", MissingRule())
    identities = tuple(read_header(path).identity for path in paths)
    os.utime(paths[2], ns=(1, 1))
    batch = GatherBatch(tmp_path / "part.blmm", 0, tuple(paths), tuple(masks), identities, "f" * 64)
    with pytest.raises(DataError, match=r"img 2.*changed during the run"):
        gather_part(batch, task)
    assert not (tmp_path / "part.blmm").exists()


def test_read_summary__damaged(tmp_path, images):
    _, _, parts = gather(tmp_path / "work", images, np.arange(120), 5, 120)
    path = summary_path(parts[0])
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(StorageError, match="damaged"):
        read_summary(parts[0])
    assert not path.exists()
    with pytest.raises(StorageError, match="not there"):
        read_summary(parts[0])
