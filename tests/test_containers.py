"""The images: what their recipes say, and what the scripts in ``containers/`` find when they run them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections import ChainMap
from pathlib import Path

import pytest

from blmm_bids import __version__
from tests.test_schedulers import running_slurm

CHECKOUT = Path(__file__).resolve().parents[1]
# Building compiles every kernel twice over.
BUILD_SECONDS = 3600


@pytest.fixture(scope="session")
def faces(shared_data, tmp_path_factory):
    """Environment of every script: what is fitted, and where the first of them leaves its bare run."""
    bare = tmp_path_factory.mktemp("bare") / "out"
    return {"PYTHON": sys.executable, "DATASET": str(shared_data / "faces"), "BARE": str(bare)}


@pytest.fixture(scope="session")
def image(tmp_path_factory):
    """Environment of the scripts for Apptainer: where the first of them leaves the image."""
    return {"IMAGE": os.environ.get("IMAGE") or str(tmp_path_factory.mktemp("image") / "blmm-bids.sif")}


def run_script(name, *environs):
    """Run a test script; it says itself what is wrong."""
    done = subprocess.run(
        ["bash", CHECKOUT / "containers" / name],
        env=dict(ChainMap(*environs, os.environ)),
        capture_output=True,
        text=True,
        check=False,
        timeout=BUILD_SECONDS,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert done.stdout.endswith("passed\n")


def without_registry(directory, *programs):
    """Make base images where there is no registry; the directory of the scripts for it."""
    infra = Path(os.environ.get("BLMM_INFRA") or CHECKOUT.parent / "shared" / "infra")
    if os.getuid():
        pytest.skip("wanted docker or apptainer with a registry, or root, who makes base images without one")
    if not (infra / "base-image.sh").is_file():
        pytest.skip(
            f"no base-image.sh in {infra}; set BLMM_INFRA to the directory of the containers' scripts"
        )
    missing = [name for name in programs if shutil.which(name) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)}: not installed; run {infra}/ci-deps.sh or apptainer-get.sh there")
    map_users_of_root()
    subprocess.run([infra / "base-image.sh"], check=True, capture_output=True, timeout=600)
    # pip's settings and certificates are lent to the build, and stay out of the image.
    certificates = os.environ.get("PIP_CERT", "/etc/ssl/certs/ca-certificates.crt")
    shutil.copy(certificates, directory / "ca.crt")
    (directory / "pip.conf").write_text("[global]\ncert = /run/lend/ca.crt\ntimeout = 180\n")
    return infra


def map_users_of_root(*files):
    """Let root map users into a container of its own, which a fresh machine does not."""
    line = "root:1000000:65536"
    for file in files or (Path("/etc/subuid"), Path("/etc/subgid")):
        there = file.read_text(encoding="utf-8") if file.exists() else ""
        if any(each.startswith(("root:", "0:")) for each in there.splitlines()):
            continue
        try:
            file.write_text(f"{there.rstrip()}\n{line}\n".lstrip(), encoding="utf-8")
        except OSError as error:
            pytest.skip(f"{file}: {error.strerror}; add the line {line} to it")


def buildah():
    """Buildah and its store, as the scripts have it."""
    store = os.environ.get("STORE", "/tmp/ctr")
    driver = os.environ.get("DRIVER", "overlay")
    return f"buildah --root {store}/root --runroot {store}/run --storage-driver {driver}"


def docker_answers():
    """Whether there is a daemon behind the client."""
    return (
        shutil.which("docker") is not None
        and subprocess.run(["docker", "info"], check=False, capture_output=True, timeout=60).returncode == 0
    )


@pytest.fixture
def docker(tmp_path):
    """Environment of the script: docker, what the user names, or buildah and podman."""
    if os.environ.get("DOCKER_BUILD") or docker_answers():
        return {}
    infra = without_registry(tmp_path, "buildah", "podman", "runc", "mmdebstrap")
    build = f"{buildah()} bud --layers --isolation chroot --pull-never -v {tmp_path}:/run/lend:ro"
    build += f" -v {tmp_path}/pip.conf:/etc/pip.conf:ro"
    return {"DOCKER_BUILD": build, "DOCKER_RUN": str(infra / "podman-run.sh"), "TEMPLATES": "none"}


@pytest.fixture
def apptainer(tmp_path):
    """Environment of the script: apptainer, what the user names, or one without a registry."""
    if os.environ.get("APPTAINER_BUILD") or (os.getuid() and shutil.which("apptainer")):
        return {}
    program = shutil.which("apptainer") or "/opt/apptainer/usr/bin/apptainer"
    without_registry(tmp_path, "buildah", "mmdebstrap", program)
    base = tmp_path / "base.tar"
    push = f"{buildah()} push docker.io/library/debian:bookworm-slim docker-archive:{base}:base:latest"
    subprocess.run(push.split(), check=True, capture_output=True, timeout=600)
    build = f"{program} build --fakeroot --bind {tmp_path}:/mnt"
    return {
        "APPTAINER": program,
        "APPTAINER_BUILD": f"{build} --build-arg BOOTSTRAP=docker-archive --build-arg FROM={base}",
        # Root without all of its capabilities has to take the way of other users.
        "APPTAINER_OPTIONS": "--userns",
        "APPTAINERENV_PIP_CERT": "/mnt/ca.crt",
        "TEMPLATES": "none",
    }


def definition_section(name):
    """Text of a section of Singularity.def."""
    text = (CHECKOUT / "Singularity.def").read_text(encoding="utf-8")
    return text.split(f"\n%{name}\n")[1].split("\n%")[0]


@pytest.mark.parametrize(
    ("recipe", "pattern"), [("Dockerfile", r"^ARG VERSION=(.*)$"), ("Singularity.def", r"^ +VERSION=(.*)$")]
)
def test_recipe__has_the_package_s_version(recipe, pattern):
    text = (CHECKOUT / recipe).read_text(encoding="utf-8")
    assert re.findall(pattern, text, flags=re.MULTILINE) == [__version__]


def test_recipes__have_the_same_environment():
    docker = (CHECKOUT / "Dockerfile").read_text(encoding="utf-8")
    apptainer = (
        (CHECKOUT / "Singularity.def").read_text(encoding="utf-8").split("%environment")[1].split("%")[0]
    )
    for name in ("BLMM_KERNEL_CACHE", "TEMPLATEFLOW_HOME", "TEMPLATEFLOW_AUTOUPDATE", "LC_ALL"):
        values = [re.findall(rf"\b{name}=(\S+)", text) for text in (docker, apptainer)]
        assert values[0] == values[1], name
        assert len(values[0]) == 1, name


def test_recipes__copy_files_that_are_there():
    lines = (
        (CHECKOUT / "Singularity.def")
        .read_text(encoding="utf-8")
        .split("%files")[1]
        .split("%")[0]
        .split("\n")
    )
    sources = [line.split()[0] for line in lines if line.strip()]
    assert [source for source in sources if not (CHECKOUT / source).exists()] == []
    ignored = (CHECKOUT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert {f"!{source}" for source in sources} == {line for line in ignored if line.startswith("!")}


@pytest.mark.parametrize(
    ("there", "expected"),
    [
        (None, "root:1000000:65536\n"),
        ("", "root:1000000:65536\n"),
        ("ann:100000:65536\n", "ann:100000:65536\nroot:1000000:65536\n"),
        ("ann:100000:65536\nroot:500000:65536\n", "ann:100000:65536\nroot:500000:65536\n"),
    ],
)
def test_map_users_of_root__adds_what_is_missing(tmp_path, there, expected):
    file = tmp_path / "subuid"
    if there is not None:
        file.write_text(there)
    for _ in range(2):
        map_users_of_root(file)
        assert file.read_text() == expected


@pytest.mark.container
def test_docker__maps_are_the_bare_run_s(faces, docker):
    run_script("test-docker.sh", faces, docker)


@pytest.mark.container
def test_apptainer__maps_are_the_bare_run_s(faces, apptainer, image):
    run_script("test-apptainer.sh", faces, apptainer, image)


@pytest.mark.container
def test_slurm__workers_in_jobs_enter_the_image(faces, apptainer, image):
    program = shutil.which(apptainer.get("APPTAINER", "apptainer"))
    prologue = f"export PATH={Path(program).parent}:$PATH"
    if not os.getuid():
        prologue += " APPTAINER_USERNS=1"
    directory = Path(f"/tmp/blmm-image-{os.getpid()}")
    with running_slurm(directory) as slurm:
        run_script("test-slurm.sh", {"JOB_PROLOGUE": prologue}, faces, apptainer, image, slurm.environ)
    shutil.rmtree(directory, ignore_errors=True)
