"""The lock of a directory: held by one run, taken over from runs that are gone."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from dataclasses import asdict, replace

import pytest

from blmm_bids.errors import BusyError, OutputError
from blmm_bids.outputs.lock import LOCK_NAME, SILENCE, Holder, locked

HOLD = (
    "import sys, time\nfrom pathlib import Path\nfrom blmm_bids.outputs.lock import locked\n"
    "with locked(Path(sys.argv[1])):\n    print('held', flush=True)\n    time.sleep(60)\n"
)


@pytest.fixture
def other(tmp_path, checkout):
    """A process that holds the lock."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], cwd=checkout, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def leave(directory, **changes):
    """Leave a lock that is not this process's own."""
    holder = replace(Holder.own(), **changes)
    (directory / LOCK_NAME).write_text(json.dumps(asdict(holder)))
    return holder


def test_locked__refuses_while_another_run_is_alive(tmp_path, other):
    with pytest.raises(BusyError) as caught, locked(tmp_path):
        pass
    assert caught.value.exit_code == 69
    assert str(caught.value) == (
        f"{tmp_path}: another run is at work there (process {other.pid} on {socket.gethostname()}). Wait for "
        f"its end, or name another directory; if it is certain that it has ended, delete "
        f"{tmp_path}/{LOCK_NAME}"
    )
    assert [path.name for path in tmp_path.iterdir()] == [LOCK_NAME]


def test_locked__is_taken_over_from_a_killed_run(tmp_path, other):
    other.send_signal(signal.SIGKILL)
    other.wait()
    assert (tmp_path / LOCK_NAME).exists()
    with locked(tmp_path):
        assert Holder.read(tmp_path / LOCK_NAME).pid == os.getpid()
    assert list(tmp_path.iterdir()) == []


def test_locked__process_ids_are_used_again(tmp_path):
    if not Holder.own().started:
        pytest.skip("no /proc to tell when a process started")
    leave(tmp_path, started="1")
    with locked(tmp_path):
        pass
    leave(tmp_path)
    with pytest.raises(BusyError), locked(tmp_path):
        pass


def test_locked__other_hosts_count_while_they_touch_it(tmp_path):
    leave(tmp_path, host="elsewhere", pid=1)
    with pytest.raises(BusyError, match="process 1 on elsewhere"), locked(tmp_path):
        pass
    lock = tmp_path / LOCK_NAME
    silent = lock.stat().st_mtime - SILENCE - 5
    os.utime(lock, (silent, silent))
    with locked(tmp_path):
        assert Holder.read(lock).host == socket.gethostname()


def test_locked__another_host_by_its_name(tmp_path, checkout):
    """The same machine under another name: its processes count as out of sight, so silence alone tells."""
    command = ["unshare", "--uts", "sh", "-c", 'hostname other-host && exec "$0" "$@"']
    if shutil.which("unshare") is None or subprocess.run([*command, "true"], check=False).returncode:
        pytest.skip("only root may name a host, with unshare of util-linux")
    process = subprocess.Popen(
        [*command, sys.executable, "-c", HOLD, str(tmp_path)], cwd=checkout, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(BusyError, match=f"process {process.pid} on other-host"), locked(tmp_path):
            pass
    finally:
        process.kill()
        process.communicate()
    lock = tmp_path / LOCK_NAME
    with pytest.raises(BusyError, match="other-host"), locked(tmp_path):
        pass
    silent = lock.stat().st_mtime - SILENCE - 5
    os.utime(lock, (silent, silent))
    with locked(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


JUMPS = {"back": 1e7, "forward": -1e7}


@pytest.mark.parametrize("jump", JUMPS.values(), ids=JUMPS.keys())
def test_locked__clock_jumps_do_not_matter_on_one_host(tmp_path, other, jump):
    """Times of files are moved, as a clock that was set does to all that it wrote before."""
    lock = tmp_path / LOCK_NAME
    moved = lock.stat().st_mtime + jump
    os.utime(lock, (moved, moved))
    with pytest.raises(BusyError), locked(tmp_path):
        pass
    other.send_signal(signal.SIGKILL)
    other.wait()
    with locked(tmp_path):
        pass


@pytest.mark.parametrize("jump", JUMPS.values(), ids=JUMPS.keys())
def test_locked__a_claim_left_behind_before_the_clock_was_set(tmp_path, jump):
    leave(tmp_path, pid=2**22 + 1)
    claim = tmp_path / f"{LOCK_NAME}.claim"
    claim.touch()
    moved = claim.stat().st_mtime + jump
    os.utime(claim, (moved, moved))
    command = [sys.executable, "-c", HOLD.replace("sleep(60)", "sleep(0)"), str(tmp_path)]
    # A process, for what fails here does not end.
    subprocess.run(command, timeout=20, check=True)
    assert list(tmp_path.iterdir()) == []


def holder_text(pid):
    return json.dumps({"host": socket.gethostname(), "pid": pid, "started": "", "token": "x"})


NO_LOCKS = {
    "empty": "",
    "cut off": "{",
    "list": "[]",
    "keys": '{"host": 1}',
    "binary": "\x00\xff",
    "nested": "[" * 100_000,
    "nested inside": '{"host": ' + '{"a": ' * 100_000,
    "pid 0": holder_text(0),
    "pid -1": holder_text(-1),
    "pid of 40 digits": holder_text(int("9" * 40)),
    "pid infinite": holder_text(float("inf")),
    "pid text": holder_text("1" * 5000),
}


@pytest.mark.parametrize("content", NO_LOCKS.values(), ids=NO_LOCKS.keys())
def test_locked__a_lock_that_names_no_process_is_no_lock(tmp_path, content):
    (tmp_path / LOCK_NAME).write_bytes(content.encode("latin-1"))
    with locked(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_locked__one_alone_takes_a_stale_lock(tmp_path):
    leave(tmp_path, pid=2**22 + 1)
    inside, refused, start = [], [], threading.Barrier(8)

    def take():
        start.wait()
        try:
            with locked(tmp_path):
                inside.append(1)
                over.wait(5)
        except BusyError:
            refused.append(1)
        if len(refused) == 7:
            over.set()

    over = threading.Event()
    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(inside), len(refused)) == (1, 7)
    assert list(tmp_path.iterdir()) == []


def test_locked__says_where_it_cannot_be_written(tmp_path):
    with pytest.raises(OutputError, match=r"absent.*cannot be written"), locked(tmp_path / "absent"):
        pass
