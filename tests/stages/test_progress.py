"""Progress says how far a stage is, how fast, and with what."""

from __future__ import annotations

import logging

import pytest

from blmm_bids.stages import progress
from blmm_bids.stages.progress import TICK, Progress


class Collector(logging.Handler):
    """Keeps records, also where an earlier test has cut the logger off from pytest's."""

    def __init__(self):
        super().__init__()
        self.records = []

    def emit(self, record):
        self.records.append(record)


@pytest.fixture
def collected(monkeypatch):
    handler = Collector()
    monkeypatch.setattr(progress.LOGGER, "handlers", [handler])
    monkeypatch.setattr(progress.LOGGER, "level", TICK)
    return handler.records


def test_progress__ends_with_a_line_and_ticks_in_between(collected, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    counted = Progress("voxels fitted", 100, 20, 3)
    for seconds, count in ((0.1, 10), (1.0, 10), (10.0, 30), (0.1, 30)):
        now[0] += seconds
        counted.add(count)
    kept, tick, line, last = collected
    assert kept.getMessage() == "voxels fitted: 20 of 100 kept from an earlier run"
    assert (tick.levelno, tick.standing.done) == (TICK, 40)
    assert line.levelno == logging.INFO
    assert line.standing.left > 0
    assert last.getMessage().startswith("voxels fitted: 100 of 100, 7.143 a second, 0 s left, 3 workers, ")
    assert last.standing.is_done
