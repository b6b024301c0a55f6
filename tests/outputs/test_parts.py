"""Part files: whatever the cut, the same matrix comes back; damage is found."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blmm_bids.errors import StorageError
from blmm_bids.images.blocks import split_evenly
from blmm_bids.outputs.parts import PART_FORMAT, is_part_done, open_part, read_block, write_part

DIGEST = "d" * 64


def matrix(n_obs, n_voxels, dtype, density, seed):
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(n_obs, n_voxels)).astype(dtype)
    values[rng.random(values.shape) > density] = np.nan
    values[:, rng.random(n_voxels) > density] = np.nan
    return values


def write_all(directory, values, batch_obs, blocks):
    paths = []
    for batch in split_evenly(values.shape[0], batch_obs):
        path = directory / f"part-{batch.index}"
        write_part(path, values[batch.start : batch.stop], blocks, batch.start, DIGEST)
        paths.append(path)
    return paths


@given(
    n_obs=st.integers(1, 12),
    n_voxels=st.integers(1, 90),
    batch_obs=st.integers(1, 12),
    block_voxels=st.integers(1, 90),
    dtype=st.sampled_from([np.float32, np.float64]),
    density=st.sampled_from([0.0, 0.3, 0.9, 1.0]),
    seed=st.integers(0, 10),
)
def test_read_block__equals_the_matrix_for_any_cut(
    tmp_path_factory, n_obs, n_voxels, batch_obs, block_voxels, dtype, density, seed
):
    values = matrix(n_obs, n_voxels, dtype, density, seed)
    blocks = split_evenly(n_voxels, block_voxels)
    paths = write_all(tmp_path_factory.mktemp("parts"), values, batch_obs, blocks)
    keep = np.random.default_rng(seed).random(n_voxels) > 0.4
    for block in blocks:
        expected = values[:, block.start : block.stop].T
        whole = read_block(paths[::-1], block.index)
        assert whole.dtype == dtype
        assert whole.flags.c_contiguous
        np.testing.assert_array_equal(whole, expected)
        kept = keep[block.start : block.stop]
        np.testing.assert_array_equal(read_block(paths, block.index, kept), expected[kept])


def test_write_part__keeps_every_bit(tmp_path):
    values = np.array([[1e-45, -0.0, np.finfo(np.float32).max]], np.float32)
    write_part(tmp_path / "p", values, split_evenly(3, 3), 0, DIGEST)
    assert read_block([tmp_path / "p"], 0).tobytes() == np.ascontiguousarray(values.T).tobytes()


def test_write_part__absent_voxels_cost_a_bit(tmp_path):
    values = np.full((50, 80_000), np.nan, np.float32)
    values[:, :10] = 1
    write_part(tmp_path / "p", values, split_evenly(80_000, 8000), 0, DIGEST)
    assert (tmp_path / "p").stat().st_size < 80_000 / 8 + 10 * 50 * 4 + 1000


def test_write_part__leaves_only_the_part(tmp_path):
    write_all(tmp_path, matrix(4, 10, np.float32, 1, 0), 2, split_evenly(10, 5))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["part-0", "part-1"]


def test_write_part__unwritable_directory(tmp_path):
    with pytest.raises(StorageError, match="--work-dir"):
        write_part(tmp_path / "absent" / "p", matrix(2, 2, np.float32, 1, 0), split_evenly(2, 2), 0, DIGEST)


@pytest.fixture
def parts(tmp_path):
    values = matrix(6, 40, np.float32, 0.9, 3)
    return write_all(tmp_path, values, 3, split_evenly(40, 10))


@pytest.mark.parametrize("kept", [0, 7, 50, 200, -1])
def test_open_part__names_a_truncated_part(parts, kept):
    parts[1].write_bytes(parts[1].read_bytes()[:kept])
    assert not is_part_done(parts[1], DIGEST)
    with pytest.raises(StorageError, match="part-1"):
        read_block(parts, 0)


def test_open_part__every_flipped_byte_is_found(parts):
    whole = parts[1].read_bytes()
    for position in range(0, len(whole), 7):
        broken = bytearray(whole)
        broken[position] ^= 0x10
        parts[1].write_bytes(broken)
        with pytest.raises(StorageError, match="part-1"):
            [read_block(parts, block) for block in range(4)]


def test_open_part__truncated_after_opening(parts):
    opened = [open_part(path, DIGEST) for path in parts]
    parts[1].write_bytes(parts[1].read_bytes()[:-4])
    with pytest.raises(StorageError, match="block 3 is truncated"):
        read_block(opened, 3)


def test_open_part__refuses_other_inputs_and_formats(parts):
    assert is_part_done(parts[0], DIGEST)
    with pytest.raises(StorageError, match="other inputs"):
        open_part(parts[0], "e" * 64)
    content = bytearray(parts[0].read_bytes())
    content[8] = PART_FORMAT + 1
    parts[0].write_bytes(content)
    with pytest.raises(StorageError, match=f"part format {PART_FORMAT + 1}"):
        open_part(parts[0])


def test_read_block__misses_no_part(parts):
    with pytest.raises(StorageError, match="does not follow"):
        read_block(parts[1:], 0)
    with pytest.raises(StorageError, match="does not follow"):
        read_block([*parts, parts[1]], 0)
    with pytest.raises(StorageError, match="no part"):
        read_block([], 0)
    parts[0].unlink()
    with pytest.raises(StorageError, match="part-0"):
        read_block(parts, 0)


def test_read_block__refuses_parts_of_other_blocks(tmp_path, parts):
    write_part(parts[1], matrix(3, 40, np.float32, 1, 0), split_evenly(40, 20), 3, DIGEST)
    with pytest.raises(StorageError, match="other blocks"):
        read_block(parts, 0)
