"""Tables of mounts as the kernel shows them, written for tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blmm_bids.cluster.mounts import MountTables, read_tables

if TYPE_CHECKING:
    from pathlib import Path


def write_tables(proc: Path, inside: str, outside: str = "") -> MountTables:
    """Make a process and, if it has a table, its parent outside of the container; what is read of them."""
    (proc / "self").mkdir(parents=True)
    (proc / "self" / "mountinfo").write_text(inside.lstrip())
    (proc / "self" / "stat").write_text(f"77 (a (b) c) S {1 if outside else 0} 1 1\n")
    if outside:
        (proc / "1").mkdir()
        (proc / "1" / "mountinfo").write_text(outside.lstrip())
        (proc / "1" / "stat").write_text("1 (systemd) S 0 1 1\n")
    return read_tables(proc=proc)
