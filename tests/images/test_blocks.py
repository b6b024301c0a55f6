"""The arithmetic of batches and blocks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blmm_bids.errors import UsageError
from blmm_bids.images.blocks import WorkSize, plan_work, split_evenly

GB = 2**30


@given(st.integers(0, 5000), st.integers(1, 700), st.sampled_from([1, 8, 64]))
def test_split_evenly__covers_in_order(total, size, multiple):
    spans = split_evenly(total, size, multiple)
    assert [span.index for span in spans] == list(range(len(spans)))
    assert [member for span in spans for member in range(span.start, span.stop)] == list(range(total))
    assert all(0 < span.size <= -(-size // multiple) * multiple for span in spans)
    assert all(span.size % multiple == 0 for span in spans[:-1])


@pytest.mark.parametrize("n_obs", [1, 36, 1000, 10_000, 100_000])
@pytest.mark.parametrize("itemsize", [4, 8])
@pytest.mark.parametrize("bytes_per_worker", [GB // 2, GB, 4 * GB, 64 * GB])
def test_plan_work__stays_inside_memory(n_obs, itemsize, bytes_per_worker):
    work = WorkSize(n_obs, 230_000, itemsize, 902_629 * itemsize)
    plan = plan_work(work, bytes_per_worker, 4)
    assert plan.gather_bytes <= bytes_per_worker
    assert plan.fit_bytes <= bytes_per_worker
    assert max(batch.size for batch in plan.batches) == plan.batch_obs
    assert max(block.size for block in plan.blocks) <= plan.block_voxels
    assert plan.batches[-1].stop == n_obs
    assert plan.blocks[-1].stop == 230_000
    assert plan.disk_bytes >= n_obs * 230_000 * itemsize
    assert plan.disk_bytes <= n_obs * 230_000 * itemsize * 1.6 + 1e7


def test_plan_work__keeps_files_few_and_workers_busy():
    plan = plan_work(WorkSize(4000, 230_000, 4, 3_610_868), 2 * GB, 2)
    assert 4 <= plan.n_batches <= 32
    assert plan.n_batches % 2 == 0
    assert plan.n_blocks >= 16


@pytest.mark.parametrize(("n_voxels", "n_workers"), [(222_517, 2), (230_000, 3), (215_131, 8)])
@pytest.mark.parametrize("bytes_per_worker", [GB // 2, 2 * GB])
def test_plan_work__gives_each_worker_as_many_blocks(n_voxels, n_workers, bytes_per_worker):
    plan = plan_work(WorkSize(1000, n_voxels, 4, 3_610_868), bytes_per_worker, n_workers)
    assert plan.n_blocks % n_workers == 0
    sizes = [block.size for block in plan.blocks]
    assert max(sizes) - min(sizes) <= 2 * 64


def test_plan_work__more_than_one_batch_for_few_images():
    assert plan_work(WorkSize(36, 1685, 4, 30_000), GB, 2).n_batches == 4
    assert plan_work(WorkSize(1, 1, 4, 30_000), GB, 2).n_batches == 1
    assert plan_work(WorkSize(1, 1, 4, 30_000), GB, 2).n_blocks == 1


@pytest.mark.parametrize("most", [1, 10, 64, 100, 5000])
def test_plan_work__honours_the_largest_block(most):
    plan = plan_work(WorkSize(20, 10_000, 4, 30_000), GB, 1, max_block_voxels=most)
    assert max(block.size for block in plan.blocks) <= most


def test_plan_work__says_how_much_memory_it_wants():
    work = WorkSize(1000, 10**8, 4, 4 * 10**8)
    with pytest.raises(UsageError, match=r"needs at least (\d+) MB") as caught:
        plan_work(work, GB, 8)
    wanted = int(str(caught.value).split("at least ")[1].split(" MB")[0]) * 2**20
    assert plan_work(work, wanted, 8).gather_bytes <= wanted
