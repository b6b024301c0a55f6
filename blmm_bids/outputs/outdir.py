"""``outdir`` of config mode: made, looked through before the work, and cleared of an earlier run's files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from blmm_bids.config.files import read_mapping
from blmm_bids.config.reference import ReferenceConfig
from blmm_bids.errors import BlmmError, OutputError

_SHOWN_FIELDS = 6
MAP_PATTERNS = ("blmm_vox_*.nii", "blmm_vox_*.nii.gz", "blmm_vox_*.img", "blmm_vox_*.hdr", "blmm_vox_*.dat")


def check_outdir(outdir: Path) -> None:
    """Make the output directory, or refuse it, before any work is done.

    Raises
    ------
    OutputError
        It is a file, or it cannot be made or written to.
    """
    probe = outdir / ".blmm_vox_probe.part"
    try:
        if outdir.exists() and not outdir.is_dir():
            msg = f"outdir '{outdir}' is a file; name a directory"
            raise OutputError(msg)
        outdir.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        msg = f"outdir '{outdir}' cannot be made or written to: {error.strerror}; choose another directory"
        raise OutputError(msg) from error


def check_overwriting(config: ReferenceConfig, inputs: str) -> str:
    """Say what of an earlier run is replaced once this one has its results; empty where there is nothing.

    Parameters
    ----------
    config : ReferenceConfig
        The run.
    inputs : str
        Text of its ``inputs.yml``.

    Raises
    ------
    OutputError
        One of the files that this run reads would go.
    """
    outdir = config.outdir
    maps = {path.resolve(): path for pattern in MAP_PATTERNS for path in outdir.glob(pattern)}
    settings = outdir / "inputs.yml"
    if settings.exists() and not _is_same_file(settings, config.path) and _fields(settings) is None:
        msg = f"{settings} is not of this software or BLMM and would be replaced; name another outdir"
        raise OutputError(msg)
    if not maps:
        return ""
    read = [*config.images, *config.masks, config.design_file]
    read += [path for factor in config.factors for path in (factor.factor, factor.design)]
    read += [path for path in (config.analysis_mask,) if path is not None]
    for path in read:
        if path.resolve() in maps:
            msg = (
                f"{config.path}: {path} is read and would be replaced by this run's own map; name another "
                "outdir, or copy the file elsewhere"
            )
            raise OutputError(msg)
    differs = _differing_fields(settings, inputs, config.path)
    return (
        f"outdir {outdir} holds {len(maps)} maps of an earlier run{differs}; they stay until this run has "
        "its results, and are replaced then. To keep them, name another outdir"
    )


def _differing_fields(settings: Path, now: str, user_file: Path) -> str:
    if _is_same_file(settings, user_file):
        return ""
    before, current = _fields(settings), yaml.safe_load(now)
    if before is None:
        return ", which did not finish"
    names = [name for name in dict.fromkeys([*before, *current]) if before.get(name) != current.get(name)]
    return f" of another config (other {', '.join(map(str, names[:_SHOWN_FIELDS]))})" if names else ""


def _fields(settings: Path) -> dict[str, Any] | None:
    """Fields of a config that a run has left; None where it is absent or is no such file."""
    try:
        content = read_mapping(settings, "config of an earlier run")
    except BlmmError:
        return None
    # Notes of a comparison have other fields.
    return dict(content) if {"Y_files", "smaller"} & set(content) else None


def remove_stale(outdir: Path, user_file: Path | None = None, parts: Sequence[Path] = ()) -> tuple[str, ...]:
    """Remove what an earlier run left in `outdir`, half-written files included.

    Parameters
    ----------
    outdir : Path
        The output directory.
    user_file : Path, optional
        The user's config file, which stays even where it is called ``inputs.yml``.
    parts : sequence of Path
        Half-written files that are this run's own.

    Returns
    -------
    tuple of str
        Names of the maps removed.

    Raises
    ------
    OutputError
        A file cannot be removed.
    """
    maps = sorted({path for pattern in MAP_PATTERNS for path in outdir.glob(pattern)})
    settings = outdir / "inputs.yml"
    is_ours = user_file is None or not _is_same_file(settings, user_file)
    # First, so that an interrupted removal leaves a directory that is visibly not finished.
    stale_parts = set(outdir.glob(".blmm_vox_*.part")) - set(parts)
    for path in [*([settings] if is_ours else []), *maps, *sorted(stale_parts)]:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            msg = f"'{path}' of an earlier run cannot be removed: {error.strerror}; remove it yourself"
            raise OutputError(msg) from error
    return tuple(path.name for path in maps)


def _is_same_file(first: Path, second: Path) -> bool:
    try:
        return first.samefile(second)
    except OSError:
        return False
