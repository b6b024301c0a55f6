"""Containers entered again; the tables of mounts are those that Apptainer 1.4 leaves."""

from __future__ import annotations

import subprocess
from pathlib import Path, PurePosixPath

import pytest

from blmm_bids.cluster.container import current_container
from blmm_bids.errors import UsageError

IMAGE = "/images/blmm bids.sif"
# A local disk, and a shared file system that the host has at /scratch; /data was bound from elsewhere.
MOUNTS = r"""
92 80 0:41 / / rw,nodev,relatime unbindable - fuse.fuse-overlayfs fuse-overlayfs rw
116 92 0:38 / /tmp rw,nosuid shared:1 - tmpfs tmpfs rw
118 92 254:0 /etc/hosts /etc/hosts rw,nosuid,nodev - ext4 /dev/vda rw
119 92 254:0 /home/ann /home/ann rw,nosuid,nodev - ext4 /dev/vda rw
121 92 0:50 /proj/study /scratch/proj/study rw,nosuid - nfs server:/export rw
122 92 0:50 /archive/my\040faces /data ro,nosuid - nfs server:/export rw
123 92 254:0 /usr/bin/sbatch /usr/bin/sbatch ro,nosuid,nodev - ext4 /dev/vda rw
124 92 0:61 / /lustre rw,nosuid - lustre mds:/fs rw
"""
BINDS = "/scratch/proj/study,/data,/usr/bin/sbatch"


@pytest.fixture
def container(tmp_path):
    (tmp_path / "mountinfo").write_text(MOUNTS.lstrip())

    def make(**environ):
        return current_container(
            {"APPTAINER_CONTAINER": IMAGE, "APPTAINER_BIND": BINDS, **environ}, tmp_path / "mountinfo"
        )

    return make


def test_current_container__none_outside():
    assert current_container({"PATH": "/usr/bin"}) is None


@pytest.mark.parametrize(
    ("variables", "program"),
    [(("APPTAINER", "SINGULARITY"), "apptainer"), (("SINGULARITY",), "singularity")],
)
def test_current_container__either_program(tmp_path, variables, program):
    environ = {f"{name}_CONTAINER": IMAGE for name in variables}
    found = current_container(environ, tmp_path / "none")
    assert found is not None
    assert (found.program, found.image) == (program, IMAGE)


@pytest.mark.parametrize(
    ("path", "bind"),
    [
        ("/scratch/proj/study/out", "/scratch/proj/study/out"),
        ("/data", "/scratch/archive/my faces:/data:ro"),
        ("/data/sub-01", "/scratch/archive/my faces/sub-01:/data/sub-01:ro"),
        ("/home/ann/model.json", "/home/ann/model.json"),
        ("/tmp/x", "/tmp/x"),
        ("/lustre/a", "/lustre/a"),
    ],
)
def test_bind__has_the_source_of_the_host(container, path, bind):
    assert str(container().bind(PurePosixPath(path))) == bind


def test_bind__the_user_may_tell(container):
    told = container(BLMM_BIND="/gpfs/faces:/data:ro,/gpfs/home")
    assert str(told.bind(PurePosixPath("/data/sub-01"))) == "/gpfs/faces/sub-01:/data/sub-01:ro"
    assert told.host_path(Path("/gpfs/home/x")) == Path("/gpfs/home/x")


def test_bind__refuses_what_only_this_container_has(container):
    with pytest.raises(UsageError, match=r"/opt/out is inside the container.*--bind /opt/out"):
        container().bind(PurePosixPath("/opt/out"))


def test_command__enters_the_same_image(container):
    paths = [Path("/data/faces"), Path("/home/ann/out"), Path("/home/ann/out/work")]
    command = container().command(["/opt/app/bin/python"], {"NUMBA_CPU_NAME": "x86-64-v3"}, paths)
    # Split by a real shell: paths have blanks.
    script = f"apptainer() {{ printf '%s\\n' \"$@\"; }}; {command} -m blmm_bids.cluster.worker"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "exec",
        "--cleanenv",
        *("--bind", "/scratch/proj/study"),
        *("--bind", "/scratch/archive/my faces:/data:ro"),
        *("--bind", "/home/ann/out"),
        IMAGE,
        *("env", "NUMBA_CPU_NAME=x86-64-v3", "/opt/app/bin/python", "-m", "blmm_bids.cluster.worker"),
    ]


def test_seen_as__takes_one_path_for_another(container):
    seen = container().seen_as(Path("/tmp/render"), Path("/data/work"))
    assert seen.host_path(Path("/tmp/render/logs")) == Path("/scratch/archive/my faces/work/logs")
