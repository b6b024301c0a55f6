"""The comparison with other software, at a tiny size and with whoever is installed."""

from __future__ import annotations

from benchmarks import head_to_head
from benchmarks.head_to_head import Match
from benchmarks.peers import PEERS
from benchmarks.simulate import Study
from tests.benchmarks.columns import read_tables

# Log-likelihoods of a random intercept, which every peer finds: what optimisers leave undone, at most.
SAME_OPTIMUM = 1e-2


def test_main__prints_every_peer_or_why_not(capsys, monkeypatch) -> None:
    monkeypatch.setattr(head_to_head, "MATCHES", (Match("tiny", Study(12), 4, 2),))
    head_to_head.main([])
    printed = capsys.readouterr().out
    (rows,) = read_tables(printed)
    assert rows[0]["software"] == head_to_head.OURS
    for row in rows:
        assert tuple(row) == head_to_head.HEADER
    found = {row["software"]: row for row in rows[1:]}
    for peer in PEERS:
        assert peer in found or f"tiny: {peer} left out, " in printed
    for row in found.values():
        assert float(row["theirs higher by up to"]) < SAME_OPTIMUM
