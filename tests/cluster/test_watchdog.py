"""When workers are given up; time is a number here."""

from __future__ import annotations

import pytest

from blmm_bids.cluster.watchdog import LOSS_TIMEOUT, PENDING_TIMEOUT, Load, Watchdog

GONE, IDLE, BUSY = Load(0, 0), Load(2, 0), Load(2, 4)


def verdicts(watchdog, *looks):
    return [watchdog.judge(load, now) for now, load in looks]


def test_judge__waits_long_for_the_first_worker():
    early, late = verdicts(Watchdog(), (0, GONE), (PENDING_TIMEOUT + 1, GONE))
    assert early is None
    assert late == f"no worker has come for {PENDING_TIMEOUT + 1:.0f} s"


def test_judge__waits_less_after_a_loss():
    looks = [(0, BUSY), (10, GONE), (LOSS_TIMEOUT, GONE), (LOSS_TIMEOUT + 1, GONE)]
    *before, after = verdicts(Watchdog(), *looks)
    assert before == [None] * 3
    assert after is not None
    assert "all workers were lost" in after


def test_begin__another_map_knows_that_there_were_workers():
    watchdog = Watchdog()
    watchdog.judge(BUSY, 0)
    watchdog.begin()
    assert verdicts(watchdog, (PENDING_TIMEOUT, GONE), (PENDING_TIMEOUT + LOSS_TIMEOUT, GONE)) == [None, None]
    assert watchdog.judge(GONE, PENDING_TIMEOUT + LOSS_TIMEOUT + 1) is not None


def test_judge__workers_that_were_there_before_it_are_lost():
    early, late = verdicts(Watchdog(had_workers=True), (0, GONE), (LOSS_TIMEOUT + 1, GONE))
    assert early is None
    assert late is not None
    assert "all workers were lost" in late


def test_judge__a_worker_that_comes_back_starts_the_clock_again():
    looks = [(0, BUSY), (100, GONE), (110, BUSY), (220, GONE)]
    assert verdicts(Watchdog(), *looks) == [None] * 4


def test_judge__a_long_task_is_no_reason():
    assert verdicts(Watchdog(), (0, BUSY), (10 * PENDING_TIMEOUT, BUSY)) == [None, None]


def test_judge__nothing_runs_while_workers_are_there():
    *before, after = verdicts(Watchdog(), (0, BUSY), (5, IDLE), (100, IDLE), (LOSS_TIMEOUT + 1, IDLE))
    assert before == [None] * 3
    assert after is not None
    assert "nothing has run or finished" in after


@pytest.mark.parametrize("start", [GONE, BUSY])
def test_judge__one_timeout_for_both(start):
    watchdog = Watchdog(timeout=600)
    assert verdicts(watchdog, (0, start), (599, GONE)) == [None, None]
    assert watchdog.judge(GONE, 601) is not None


def test_progress__starts_the_clocks_again():
    watchdog = Watchdog()
    watchdog.judge(IDLE, 0)
    watchdog.progress(LOSS_TIMEOUT)
    assert watchdog.judge(IDLE, LOSS_TIMEOUT + 1) is None
    assert watchdog.judge(GONE, 2 * LOSS_TIMEOUT + 2) is not None
