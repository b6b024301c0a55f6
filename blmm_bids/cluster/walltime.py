"""How long a job may live, and a worker inside it."""

from __future__ import annotations

import re

from blmm_bids.errors import UsageError

# Of a walltime: the spread of the ends of workers that started together, and what is left to finish.
_STAGGER = 0.1
_MARGIN = 0.1
_LEAST_MARGIN = 30.0
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_WITH_UNITS = re.compile(r"(\d+)\s*(s|m|h|d)\w*", re.ASCII)
_CLOCK = re.compile(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", re.ASCII)
# What the last number means where there is no third: LSF has no seconds, Slurm's bare number is minutes.
_BARE_UNIT = {"slurm": 60, "lsf": 60}
_PAIR_UNIT = {"slurm": 1, "lsf": 60, "sge": 1, "pbs": 1, "moab": 1, "oar": 60}


def walltime_seconds(text: str | float, backend: str) -> float:
    """Seconds of a walltime as the scheduler of that name reads it.

    Parameters
    ----------
    text : str or number
        ``D-HH:MM:SS``, ``HH:MM:SS``, two fields, one, or ``2h``.
    backend : str

    Raises
    ------
    UsageError
        Not a time.
    """
    text = str(text).strip()
    units = _WITH_UNITS.findall(text)
    if units and not _WITH_UNITS.sub("", text).strip():
        return float(sum(int(number) * _UNITS[unit] for number, unit in units))
    match = _CLOCK.fullmatch(text)
    if match is None:
        msg = f"jobqueue.{backend}.walltime: {text!r} is not a time; wanted HH:MM:SS, as in '04:00:00'"
        raise UsageError(msg)
    days, *fields = match.groups()
    numbers = [int(number) for number in fields if number is not None]
    if days is not None:
        # Slurm's days go with hours first.
        scales = [3600, 60, 1][: len(numbers)]
    elif len(numbers) == 1:
        scales = [_BARE_UNIT.get(backend, 1)]
    elif len(numbers) == 2:
        last = _PAIR_UNIT.get(backend, 1)
        scales = [60 * last, last]
    else:
        scales = [3600, 60, 1]
    seconds = sum(number * scale for number, scale in zip(numbers, scales, strict=True))
    return float(int(days or 0) * _UNITS["d"] + seconds)


def worker_lifetime(walltime: float) -> tuple[int, int]:
    """Seconds after which a worker ends in order, and by how much that may vary.

    Both together stay below the walltime, so that a worker hands back its work before it is killed, and
    workers that started at one time do not leave at one time.
    """
    stagger = _STAGGER * walltime
    margin = max(_MARGIN * walltime, min(_LEAST_MARGIN, walltime / 4))
    return max(int(walltime - margin - stagger), 1), int(stagger)
