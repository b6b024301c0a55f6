"""``logs/results.json``: the runs of an output dataset, written and read back.

The file has each run with the fits that are still its own: a run replaces those that it made again and leaves
all others. The report, the methods text and the tables of clusters are made from this file and the dataset
alone, so that they can be made again at any time.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blmm_bids.errors import DataError, MissingInputError
from blmm_bids.outputs.files import write_json
from blmm_bids.outputs.stored import (
    StoredContrast,
    StoredFit,
    StoredMap,
    StoredRun,
    StoredSeries,
    StoredTerm,
    StoredVariable,
    software_versions,
    stored_fit,
)
from blmm_bids.regular_files import LARGEST_TABLE, read_regular
from blmm_bids.stats.thresholds import Threshold

if TYPE_CHECKING:
    from blmm_bids.outputs.records import RunOutputs, UnitResult

RESULTS_FILE = "logs/results.json"
_FORMAT = 2
# One run alone.
_FIRST_FORMAT = 1
_ADVICE = "run the model again"
# What a run of this app makes: no separator, no parent.
_PLAIN_NAME = re.compile(r"[0-9a-zA-Z+_-][0-9a-zA-Z+_.-]*")
_DIRECTORY = re.compile(r"node-[0-9a-zA-Z+]+")
_SETTINGS = re.compile(r"logs/settings[0-9]*\.json")
_LABEL = re.compile(r"[0-9a-zA-Z+]+")


def store_results(run: RunOutputs, results: Sequence[UnitResult], settings_file: str = "") -> Path:
    """Write ``logs/results.json``: this run beside those whose fits it leaves.

    Parameters
    ----------
    run : RunOutputs
        The run.
    results : sequence of UnitResult
        Its fits. Maps of the same fit that are there and were not written now stay listed.
    settings_file : str
        Where its settings are, below the dataset's root.

    Returns
    -------
    Path
        The file.
    """
    earlier = _stored_runs(run.output_dir)
    fits = [stored_fit(run, result) for result in results]
    before = {_key(fit): fit for each in earlier for fit in each.fits}
    fits = [_with_kept_maps(run.output_dir, fit, before.get(_key(fit))) for fit in fits]
    mine = {_key(fit) for fit in fits}
    kept = [replace(each, fits=tuple(fit for fit in each.fits if _key(fit) not in mine)) for each in earlier]
    own = StoredRun(
        root=run.output_dir,
        name=run.name,
        description=run.description,
        version=run.version,
        command=run.command,
        warnings=run.warnings,
        software=software_versions(),
        elapsed=run.elapsed,
        threshold=run.threshold,
        fits=tuple(fits),
        settings_file=settings_file,
    )
    return write_runs(run.output_dir, [*(each for each in kept if each.fits), own])


def write_runs(root: Path, runs: Sequence[StoredRun]) -> Path:
    """Write ``logs/results.json`` with these runs and no other."""
    entries = []
    for run in runs:
        content = asdict(run)
        fits = content.pop("fits")
        del content["root"]
        entries.append({"Run": content, "Fits": fits})
    return write_json(root / RESULTS_FILE, {"Format": _FORMAT, "Runs": entries})


def _key(fit: StoredFit) -> tuple[str, tuple[tuple[str, str], ...]]:
    return fit.directory.casefold(), tuple(sorted(fit.group.items()))


def _stored_runs(root: Path) -> tuple[StoredRun, ...]:
    """Read the runs; none where there is no file that can be read."""
    try:
        return read_results(root)
    except (MissingInputError, DataError):
        return ()


def _with_kept_maps(root: Path, fit: StoredFit, earlier: StoredFit | None) -> StoredFit:
    if earlier is None:
        return fit
    directory, written = root / fit.directory, {each.file for each in fit.maps}
    maps = [each for each in earlier.maps if each.file not in written and (directory / each.file).is_file()]
    names = {each.name for each in fit.series}
    series = [
        each for each in earlier.series if each.name not in names and (directory / each.first).is_file()
    ]
    return replace(fit, maps=(*fit.maps, *maps), series=(*fit.series, *series))


def read_results(root: Path) -> tuple[StoredRun, ...]:
    """Read what `store_results` wrote.

    Parameters
    ----------
    root : Path
        The output dataset.

    Returns
    -------
    tuple of StoredRun
        In the order in which they came to their ends.

    Raises
    ------
    MissingInputError
        The directory has no finished run of this app.
    DataError
        The file is damaged, leads out of the dataset, or is of another version of this software.
    """
    path = root / RESULTS_FILE
    try:
        content = json.loads(read_regular(path, LARGEST_TABLE))
    except FileNotFoundError as error:
        msg = f"{root}: has no {RESULTS_FILE}, so no finished run of this app is there; {_ADVICE}"
        raise MissingInputError(msg) from error
    except (OSError, ValueError) as error:
        msg = f"{path}: cannot be read ({error}); {_ADVICE}"
        raise DataError(msg) from error
    except RecursionError as error:
        msg = f"{path}: is damaged (nested too deeply); {_ADVICE}"
        raise DataError(msg) from error
    try:
        if content["Format"] not in (_FIRST_FORMAT, _FORMAT):
            msg = f"{path}: of format {content['Format']}, this version reads {_FORMAT}; {_ADVICE}"
            raise DataError(msg)
        entries = [content] if content["Format"] == _FIRST_FORMAT else content["Runs"]
        runs = tuple(_read_run(root, each) for each in entries)
        for fit in (fit for run in runs for fit in run.fits):
            _check_inside(path, fit)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        msg = f"{path}: is damaged ({error!r}); {_ADVICE}"
        raise DataError(msg) from error
    return runs


def _read_run(root: Path, content: Mapping[str, Any]) -> StoredRun:
    fits = tuple(_read_fit(each) for each in content["Fits"])
    run = dict(content["Run"])
    run |= {name: tuple(run[name]) for name in ("command", "warnings")}
    threshold = Threshold(**run.pop("threshold"))
    if not _SETTINGS.fullmatch(run.get("settings_file", "")):
        run["settings_file"] = ""
    return StoredRun(root=root, fits=fits, threshold=threshold, **run)


def _check_inside(path: Path, fit: StoredFit) -> None:
    """Refuse names that lead elsewhere: the dataset may come from anyone."""
    files = [fit.directory, *(each.file for each in fit.maps), *fit.tables]
    files += [name for each in fit.series for name in (each.first, each.last)]
    wrong = [name for name in files if not _PLAIN_NAME.fullmatch(name)]
    wrong += [label for label in fit.stem.values() if not _LABEL.fullmatch(label)]
    if not wrong and _DIRECTORY.fullmatch(fit.directory):
        return
    name = (wrong or [fit.directory])[0]
    msg = f"{path}: names '{name}', which leads elsewhere; nothing was written. {_ADVICE}"
    raise DataError(msg)


def _read_fit(content: Mapping[str, Any]) -> StoredFit:
    nested: dict[str, Any] = {
        "terms": tuple(
            StoredTerm(**{**each, "effect_names": tuple(each["effect_names"])}) for each in content["terms"]
        ),
        "contrasts": tuple(StoredContrast(**each) for each in content["contrasts"]),
        "variables": tuple(
            StoredVariable(**{**each, "levels": tuple(each["levels"]), "counts": tuple(each["counts"])})
            for each in content["variables"]
        ),
        "maps": tuple(StoredMap(**each) for each in content["maps"]),
        "series": tuple(StoredSeries(**each) for each in content["series"]),
        "tables": tuple(content["tables"]),
        "warnings": tuple(content["warnings"]),
        "without_images": tuple(content.get("without_images", ())),
        "notes": tuple(content.get("notes", ())),
        "status_counts": {int(code): count for code, count in content["status_counts"].items()},
    }
    return StoredFit(**{**content, **nested})
