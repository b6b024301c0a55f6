"""Where directories of a container are on its host."""

from __future__ import annotations

import os
from pathlib import PurePosixPath

import pytest

from blmm_bids.cluster.mounts import read_tables
from tests.cluster.mount_tables import write_tables

# The host has GPFS at /gpfs/fs1, and links: /scratch -> /gpfs/fs1/scratch, /home -> /export/home.
HOST = """
20 1 254:0 / / rw - ext4 /dev/vda rw
21 20 0:50 / /gpfs/fs1 rw - gpfs fs1 rw
22 20 254:7 / /export rw - xfs /dev/vdb rw
23 20 254:0 /srv/pool /pool rw - ext4 /dev/vda rw
24 20 0:51 /export/apps /apps rw - nfs server:/export rw
"""
INSIDE = """
92 80 0:41 / / rw - overlay overlay rw
93 92 254:0 /etc/hosts /etc/hosts rw - ext4 /dev/vda rw
"""


def place(tables, target):
    """Path on the host of a target of the container."""
    mount = tables.mount_of(PurePosixPath(target))
    assert str(mount.target) == target
    found = tables.on_host(mount)
    return found and str(found)


# device and root of the mount, its target; where the host has it, by its own table and without one
CASES = [
    # Bound under its own path.
    ("0:50 /proj/x", "/gpfs/fs1/proj/x", "/gpfs/fs1/proj/x", "/gpfs/fs1/proj/x"),
    # Under a path with a link in it.
    ("0:50 /scratch/ann", "/scratch/ann", "/gpfs/fs1/scratch/ann", "/scratch/ann"),
    ("0:50 /users/ann/s", "/home/ann/scratch", "/gpfs/fs1/users/ann/s", "/home/ann/scratch"),
    ("254:7 /home/ann", "/home/ann", "/export/home/ann", "/home/ann"),
    ("254:0 /work/shared/faces", "/tmp/link/shared/faces", "/work/shared/faces", "/work/shared/faces"),
    # Under another name; one that looks like its own is nothing to go by.
    ("0:50 /proj/x", "/data", "/gpfs/fs1/proj/x", None),
    ("0:50 /out", "/out", "/gpfs/fs1/out", None),
    ("254:0 /mnt/d", "/data", "/mnt/d", "/mnt/d"),
    # A whole file system.
    ("0:50 /", "/gpfs/fs1", "/gpfs/fs1", "/gpfs/fs1"),
    # The host itself binds: either of its paths will do.
    ("254:0 /srv/pool/a", "/pool/a", "/pool/a", "/srv/pool/a"),
    # What the host shows of a server's file system is not all of it.
    ("0:51 /export/apps/a", "/apps/a", "/apps/a", "/apps/a"),
]


@pytest.mark.parametrize(("what", "target", "seen", "guessed"), CASES)
def test_on_host__by_the_table_of_the_host_or_without(tmp_path, what, target, seen, guessed):
    inside = f"{INSIDE}97 92 {what} {target} rw - fs fs rw\n"
    assert place(write_tables(tmp_path / "a", inside, HOST), target) == seen
    assert place(write_tables(tmp_path / "b", inside), target) == guessed


def test_on_host__by_another_mount_of_the_same_file_system(tmp_path):
    inside = (
        f"{INSIDE}97 92 0:50 /proj/x /gpfs/fs1/proj/x rw - gpfs fs1 rw\n"
        "98 92 0:50 /scratch/ann /scratch/ann rw - gpfs fs1 rw\n99 92 0:50 /out /out rw - gpfs fs1 rw\n"
    )
    tables = write_tables(tmp_path / "proc", inside)
    assert place(tables, "/out") == "/gpfs/fs1/out"
    assert place(tables, "/scratch/ann") == "/gpfs/fs1/scratch/ann"


def test_on_host__a_file_system_that_the_process_outside_lacks(tmp_path):
    inside = f"{INSIDE}97 92 0:99 /ann /home/ann rw - nfs s rw\n"
    assert place(write_tables(tmp_path / "proc", inside, HOST), "/home/ann") == "/home/ann"


def test_mount_of__the_later_hides_the_earlier(tmp_path):
    inside = f"{INSIDE}97 92 0:50 /a /data rw - gpfs fs1 rw\n98 92 254:0 /mnt/d /data rw - ext4 /dev/vda rw\n"
    assert place(write_tables(tmp_path / "proc", inside), "/data") == "/mnt/d"


def test_read_tables__outside_is_another_table(tmp_path):
    assert write_tables(tmp_path / "a", INSIDE, INSIDE).outside == ()
    assert len(write_tables(tmp_path / "b", INSIDE, HOST).outside) == 5
    assert read_tables(proc=tmp_path / "nowhere").mounts == ()


@pytest.mark.skipif(not os.path.exists("/proc/self/mountinfo"), reason="no /proc on this system")  # noqa: PTH110
def test_read_tables__of_this_process():
    assert PurePosixPath("/") in {mount.target for mount in read_tables().mounts}
