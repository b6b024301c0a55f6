"""Containers entered again; the tables of mounts are those that Apptainer 1.4 leaves."""

from __future__ import annotations

import subprocess
from pathlib import Path, PurePosixPath

import pytest

from blmm_bids.cluster.container import current_container
from blmm_bids.errors import UsageError
from tests.cluster.mount_tables import write_tables

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
    tables = write_tables(tmp_path / "proc", MOUNTS)

    def make(**environ):
        return current_container({"APPTAINER_CONTAINER": IMAGE, "APPTAINER_BIND": BINDS, **environ}, tables)

    return make


def test_current_container__none_outside():
    assert current_container({"PATH": "/usr/bin"}) is None


@pytest.mark.parametrize(
    ("variables", "program"),
    [(("APPTAINER", "SINGULARITY"), "apptainer"), (("SINGULARITY",), "singularity")],
)
def test_current_container__either_program(variables, program):
    environ = {f"{name}_CONTAINER": IMAGE for name in variables}
    found = current_container(environ)
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


# `--containall`: no process outside is in sight; /tmp and home are the container's own, /out is /gpfs/out.
CONTAINED = """
92 80 0:41 / / rw - overlay overlay rw
93 92 254:0 /etc/hosts /etc/hosts rw - ext4 /dev/vda rw
94 92 0:70 /etc/passwd /etc/passwd rw - tmpfs tmpfs rw
95 92 0:70 /tmp /tmp rw - tmpfs tmpfs rw
96 92 0:70 /home/ann /home/ann rw - tmpfs tmpfs rw
97 92 0:50 /out /out rw - gpfs fs1 rw
98 92 254:0 /tmp/real/study /tmp/link/study ro - ext4 /dev/vda rw
"""


@pytest.mark.parametrize("path", ["/tmp/x", "/home/ann/out"])
def test_bind__refuses_what_a_contained_run_has_of_its_own(tmp_path, path):
    contained = current_container({"APPTAINER_CONTAINER": IMAGE}, write_tables(tmp_path / "proc", CONTAINED))
    with pytest.raises(UsageError, match=rf"{path} is inside the container.*--bind {path}"):
        contained.bind(PurePosixPath(path))


def test_bind__asks_for_what_it_cannot_tell(tmp_path):
    tables = write_tables(tmp_path / "proc", CONTAINED)
    contained = current_container({"APPTAINER_CONTAINER": IMAGE}, tables)
    with pytest.raises(UsageError, match=r"/out/a: what /out is .*--env BLMM_BIND=DIRECTORY:/out"):
        contained.bind(PurePosixPath("/out/a"))
    # It is no concern of a run that does not use it.
    contained = current_container({"APPTAINER_CONTAINER": IMAGE, "APPTAINER_BIND": "/out,/tmp/x"}, tables)
    assert [str(bind) for bind in contained.binds([Path("/tmp/link/study/sub-01")])] == [
        "/tmp/real/study/sub-01:/tmp/link/study/sub-01:ro"
    ]


def test_binds__a_bind_below_another_stays(tmp_path):
    tables = write_tables(
        tmp_path / "proc",
        MOUNTS
        + "125 122 0:50 /other /data/derivatives rw - nfs server:/export rw\n"
        + "126 122 0:50 /archive/my\\040faces/out /data/out rw - nfs server:/export rw\n",
    )
    environ = {"APPTAINER_CONTAINER": IMAGE, "APPTAINER_BIND": "/scratch/proj/study,/data,/data/derivatives"}
    found = current_container(environ, tables).binds([Path("/data/out"), Path("/data/sub-01")])
    assert [str(bind) for bind in found] == [
        "/scratch/archive/my faces:/data:ro",
        "/scratch/other:/data/derivatives",
        # In /data too, but not read-only.
        "/scratch/archive/my faces/out:/data/out",
        "/scratch/proj/study",
    ]


@pytest.mark.parametrize(
    ("home", "cwd", "bound"),
    [
        # Its kernels are compiled once for all.
        ("119 92 254:0 /home/ann /home/ann rw - ext4 /dev/vda rw", "/", ["/home/ann", "/lustre/a/study"]),
        # By a link of the host.
        (
            "119 92 0:50 /users/ann /home/ann rw - nfs server:/export rw",
            "/",
            ["/scratch/users/ann:/home/ann", "/lustre/a/study"],
        ),
        # What `--contain` makes, by itself and in a directory of the user's.
        ("119 92 0:70 /home/ann /home/ann rw - tmpfs tmpfs rw", "/", ["/lustre/a/study"]),
        ("119 92 254:0 /work/home /home/ann rw - ext4 /dev/vda rw", "/", ["/lustre/a/study"]),
        # Where links between datasets may lead.
        ("", "/lustre/a", ["/lustre/a"]),
        ("", "/lustre/b", ["/lustre/a/study"]),
    ],
)
def test_binds__what_apptainer_binds_by_itself(tmp_path, monkeypatch, home, cwd, bound):
    inside = f"""
92 80 0:41 / / rw - overlay overlay rw
93 92 254:0 /etc/hosts /etc/hosts rw - ext4 /dev/vda rw
94 92 0:70 /etc/passwd /etc/passwd rw - tmpfs tmpfs rw
95 92 254:0 /work/tmp /tmp rw - ext4 /dev/vda rw
96 92 0:61 /a /lustre/a rw - lustre mds:/fs rw
97 92 0:61 /b /lustre/b rw - lustre mds:/fs rw
98 92 0:50 /x /scratch/x rw - nfs server:/export rw
{home}
"""
    tables = write_tables(tmp_path / "proc", inside.rstrip() + "\n")
    monkeypatch.setattr("blmm_bids.cluster.container.Path.cwd", lambda: Path(cwd))
    found = current_container({"APPTAINER_CONTAINER": IMAGE, "HOME": "/home/ann"}, tables)
    assert [str(bind) for bind in found.binds([Path("/lustre/a/study")])] == bound


def test_command__enters_the_same_image(container):
    paths = [Path("/data/faces"), Path("/home/ann/out"), Path("/home/ann/out/work")]
    command = container().command(["/opt/app/bin/python"], {"NUMBA_CPU_NAME": "x86-64-v3"}, paths)
    # Split by a real shell: paths have blanks.
    script = f"apptainer() {{ printf '%s\\n' \"$@\"; }}; {command} -m blmm_bids.cluster.worker"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "exec",
        "--cleanenv",
        "--contain",
        *("--bind", "/scratch/archive/my faces:/data:ro"),
        *("--bind", "/home/ann/out"),
        *("--bind", "/scratch/proj/study"),
        IMAGE,
        *("env", "NUMBA_CPU_NAME=x86-64-v3", "/opt/app/bin/python", "-m", "blmm_bids.cluster.worker"),
    ]
