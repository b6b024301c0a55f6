"""A scheduler's section of ``--cluster-config`` and of dask's own files, looked through before its use."""

from __future__ import annotations

import inspect
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import dask.config
from distributed import Scheduler
from distributed.utils import get_ip_interface

from blmm_bids.cluster.schedulers import SCHEDULERS
from blmm_bids.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from blmm_bids.cluster.options import ClusterOptions

# What dask-jobqueue reads besides the keys that its own file shows, and what there is for other schedulers.
_HIDDEN_KEYS = {"header-skip", "shared-temp-directory"}
_EXTERNAL_KEYS = {"cores", "memory", "walltime", "interface", "worker-extra-args", "scheduler-options"}


def job_setting(backend: str, name: str) -> Any:  # noqa: ANN401
    """Value in dask-jobqueue's configuration of a scheduler; None where it is not set."""
    return dask.config.get(f"jobqueue.{backend}.{name}", None)


def scheduler_settings(backend: str) -> dict[str, Any]:
    """Give what the user says of dask's scheduler, as arguments of it."""
    given = job_setting(backend, "scheduler-options") or {}
    return {str(name).replace("-", "_"): value for name, value in given.items() if value is not None}


def check_section(options: ClusterOptions) -> None:
    """Refuse a file for another scheduler, a key that nothing reads, and an interface that is not there.

    Raises
    ------
    UsageError
        Names the key or interface, and the nearest that there is.
    """
    backend = options.backend
    _check_presence(options)
    section = dask.config.get(f"jobqueue.{backend}", None) or {}
    own_keys = _HIDDEN_KEYS.union(*_default_keys(backend)) if backend in SCHEDULERS else _EXTERNAL_KEYS
    _check_names(f"jobqueue.{backend}", section, own_keys)
    given = job_setting(backend, "scheduler-options")
    if given is not None and not isinstance(given, dict):
        msg = f"jobqueue.{backend}.scheduler-options: {given!r}; wanted a mapping, as in {{port: 8786}}"
        raise UsageError(msg)
    parameters = set(inspect.signature(Scheduler.__init__).parameters) - {"self", "kwargs"}
    _check_names(f"jobqueue.{backend}.scheduler-options", given or {}, {_dashed(name) for name in parameters})
    _check_interface(backend)


def _check_presence(options: ClusterOptions) -> None:
    sections = options.config.get("jobqueue")
    wanted = options.backend in SCHEDULERS and bool(options.config)
    if wanted and not (isinstance(sections, dict) and isinstance(sections.get(options.backend), dict)):
        found = ", ".join(f"jobqueue.{name}" for name in sections) if isinstance(sections, dict) else None
        msg = (
            f"--cluster-config: has {found or ', '.join(map(str, options.config))}; wanted a section "
            f"jobqueue.{options.backend}, as dask-jobqueue has it"
        )
        raise UsageError(msg)


def _default_keys(backend: str) -> list[set[str]]:
    """Keys of a scheduler in the file that dask-jobqueue brings along."""
    sections = (given.get("jobqueue", {}).get(backend) for given in dask.config.defaults)
    return [{_dashed(name) for name in section} for section in sections if isinstance(section, dict)]


def _check_names(place: str, given: Mapping[str, Any], known: Iterable[str]) -> None:
    names = sorted(known)
    for name in given:
        if _dashed(name) in names:
            continue
        close = get_close_matches(_dashed(name), names, n=1)
        guess = f"; did you mean {close[0]}?" if close else f"; there is {', '.join(names)}"
        msg = f"{place}: nothing reads '{name}'{guess}"
        raise UsageError(msg)


def _dashed(name: object) -> str:
    return str(name).replace("_", "-")


def _check_interface(backend: str) -> None:
    """Look for where the scheduler, which runs in this process, is to listen."""
    of_jobs, own = job_setting(backend, "interface"), scheduler_settings(backend)
    name = own.get("interface", None if "host" in own else of_jobs)
    if not name:
        return
    try:
        get_ip_interface(name)
    except (ValueError, TypeError) as error:
        key = "scheduler-options" if "interface" in own else "interface"
        advice = "" if "interface" in own else (
            f". Where jobs have {name} and this machine has not, name its own beside it: "
            "scheduler-options: {interface: NAME}"
        )  # fmt: skip
        msg = f"jobqueue.{backend}.{key}: on this machine, {' '.join(str(error).split())}{advice}"
        raise UsageError(msg) from error
