"""Commands of schedulers that cannot be had here: they print what theirs do, jobs are processes.

Installed under a scheduler's names by `install`; run by path, it is that command.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

# Command -> what it prints for a job.
SUBMIT = {
    "sbatch": "Submitted batch job {}",
    "qsub": "{}.server.example.org",
    "bsub": "Job <{}> is submitted to default queue <normal>.",
    "condor_submit": "Submitting job(s).\n1 job(s) submitted to cluster {}.",
    "oarsub": "[ADMISSION RULE] Modify resource description\nOAR_JOB_ID={}",
    "msub": "{}",
}
CANCEL = ("scancel", "qdel", "bkill", "condor_rm", "oardel", "canceljob")
STATE = "FAKE_SCHEDULER_STATE"


def install(directory: Path) -> Path:
    """Make commands below ``directory``/bin; the jobs' records are in ``directory``."""
    bin_directory = directory / "bin"
    bin_directory.mkdir(parents=True)
    for name in (*SUBMIT, *CANCEL, "ssh"):
        command = bin_directory / name
        command.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{__file__}" {name} "$@"\n')
        command.chmod(0o755)
    return bin_directory


def job_ids(directory: Path) -> set[str]:
    """Which jobs were submitted."""
    return {path.stem for path in directory.glob("*.submitted")}


def running(directory: Path) -> set[str]:
    """Which jobs still have a process."""
    return {job for job in job_ids(directory) if _signal(directory, job, 0)}


def all_end(directory: Path, seconds: float = 30) -> bool:
    """Whether no job has a process any more within this time."""
    deadline = time.monotonic() + seconds
    while running(directory):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True


def _signal(directory: Path, job: str, signum: int) -> bool:
    """Send a signal to all processes of a job; whether there are any."""
    try:
        os.killpg(int((directory / f"{job}.submitted").read_text()), signum)
    except ProcessLookupError:
        return False
    return True


def _script(name: str, arguments: list[str]) -> str:
    if name == "oarsub":
        return arguments[-1]
    text = (
        Path(arguments[-1]).read_text() if arguments and Path(arguments[-1]).is_file() else sys.stdin.read()
    )
    if name == "condor_submit":
        (quoted,) = re.findall(r"Arguments = \"-c '(.*)'\"", text)
        return quoted.replace("''", "'").replace('""', '"')
    return text


def main(name: str, arguments: list[str]) -> int:
    state = Path(os.environ[STATE])
    if name == "ssh":
        *_, host, line = arguments
        (state / f"{host}.ssh").touch()
        return subprocess.run(["sh", "-c", line], check=False).returncode
    if name in CANCEL:
        for job in arguments:
            _signal(state, job.partition(".")[0], signal.SIGTERM)
        return 0
    if (state / "refuse").exists():
        sys.stderr.write("error: invalid account\n")
        return 1
    script = "sleep 600" if (state / "hold").exists() else _script(name, arguments)
    number = 1 + len(job_ids(state))
    while True:
        try:
            record = (state / f"{number}.submitted").open("x")
            break
        except FileExistsError:
            number += 1
    with record, (state / f"{number}.out").open("w") as out:
        job = subprocess.Popen(
            ["bash", "-c", script], stdout=out, stderr=out, stdin=subprocess.DEVNULL, start_new_session=True
        )
        record.write(str(job.pid))
    sys.stdout.write(SUBMIT[name].format(number) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
