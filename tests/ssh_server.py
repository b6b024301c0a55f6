"""An sshd of this user on a port of its own, and an ssh that finds it under the name ``login1``."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

HOST = "login1"
_SSHD = shutil.which("sshd") or "/usr/sbin/sshd"
# Where sshd of root goes before it knows the user.
_EMPTY = Path("/run/sshd")
_SERVER = """
ListenAddress 127.0.0.1:{port}
HostKey {directory}/host_key
AuthorizedKeysFile {directory}/key.pub
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
SetEnv {environ}
"""
_CLIENT = """
Host {host}
  HostName 127.0.0.1
  Port {port}
  IdentityFile {directory}/key
  UserKnownHostsFile {directory}/known_hosts
  StrictHostKeyChecking accept-new
"""


@contextmanager
def running_sshd(directory: Path, environ: Mapping[str, str]) -> Iterator[Path]:
    """Start it until the context ends.

    Parameters
    ----------
    directory : Path
        Empty; keys and settings go there.
    environ : Mapping
        Variables of those who log in.

    Yields
    ------
    Path
        Directory of the ssh.
    """
    client = shutil.which("ssh")
    if client is None or not Path(_SSHD).exists():
        pytest.skip("wanted ssh and sshd (Debian: openssh-client, openssh-server)")
    if not os.getuid():
        _EMPTY.mkdir(exist_ok=True)
    for name in ("host_key", "key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", directory / name], check=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assignments = " ".join(f'{name}="{value}"' for name, value in environ.items())
    (directory / "sshd_config").write_text(
        _SERVER.format(port=port, directory=directory, environ=assignments)
    )
    (directory / "config").write_text(_CLIENT.format(port=port, directory=directory, host=HOST))
    commands = directory / "bin"
    commands.mkdir()
    (commands / "ssh").write_text(f'#!/bin/sh\nexec {client} -F {directory}/config "$@"\n')
    (commands / "ssh").chmod(0o755)
    with (directory / "log").open("w") as log:
        server = subprocess.Popen([_SSHD, "-D", "-e", "-f", directory / "sshd_config"], stderr=log)
    try:
        _wait_for(server, port, directory / "log")
        yield commands
    finally:
        server.terminate()
        server.wait(timeout=10)


def _wait_for(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + 20
    while True:
        assert server.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
