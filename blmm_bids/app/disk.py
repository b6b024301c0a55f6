"""What a run costs on disk: said, and checked, before the work starts."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from blmm_bids.cluster import format_memory
from blmm_bids.errors import StorageError
from blmm_bids.outputs.series import series_costs, unit_series
from blmm_bids.outputs.workdir import stage_name

if TYPE_CHECKING:
    from blmm_bids.outputs.records import UnitOutputs
    from blmm_bids.stages import Prepared

LOGGER = logging.getLogger(__name__)
# A sidecar and its file system block.
SIDECAR_BYTES = 4096


def check_working_files(work_dir: Path, units: Sequence[Prepared], *, dry_run: bool = False) -> None:
    """Refuse what the disk of the working directory does not hold.

    Parameters
    ----------
    work_dir : Path
        It need not exist.
    units : sequence of Prepared
        All fits of the run; the parts of two that read the same values are the same files.
    dry_run : bool
        Warn rather than refuse.

    Raises
    ------
    StorageError
        Fewer bytes free than parts and results may take, those of an earlier run set off.
    """
    parts = {unit.digest: unit.work.disk_bytes for unit in units}
    needed = sum(parts.values()) + sum(unit.results_bytes for unit in units)
    free = shutil.disk_usage(_existing(work_dir)).free
    if free < needed:
        there = [path for digest in parts for path in work_dir.glob(f"{stage_name('gather', digest)}/part-*")]
        there += work_dir.glob("fit-*/block-*")
        needed -= sum(path.stat().st_size for path in there)
    if free >= needed:
        return
    msg = (
        f"{work_dir}: the working files may take {format_memory(needed)} more, {format_memory(free)} are "
        "free. Free space, or give a --work-dir on another disk"
    )
    if not dry_run:
        raise StorageError(msg)
    LOGGER.warning("%s", msg)


def announce_series(
    output_dir: Path, work_dir: Path, units: Sequence[UnitOutputs], *, dry_run: bool = False
) -> None:
    """Log how many files and bytes the series of all fits take, and refuse what the disk does not hold.

    Parameters
    ----------
    output_dir, work_dir : Path
        Where the maps go, and where their values wait; they need not exist.
    units : sequence of UnitOutputs
        The fits; their voxels are the candidates for the mask.
    dry_run : bool
        Warn rather than refuse.

    Raises
    ------
    StorageError
        Fewer bytes free than the maps, and on the same disk their values, may take.
    """
    n_files = n_bytes = 0
    for unit in units:
        for cost in series_costs(unit, len(unit.voxels)):
            labels = "".join(f", {name}-{label}" for name, label in unit.group.items())
            LOGGER.info(
                "node '%s'%s: %s adds %d maps with a sidecar each, up to %s before compression",
                unit.node,
                labels,
                cost.key,
                cost.n_maps,
                format_memory(cost.n_bytes),
            )
            n_files += 2 * cost.n_maps
            n_bytes += cost.n_bytes
    if not n_files:
        return
    shared = _existing(output_dir).stat().st_dev == _existing(work_dir).stat().st_dev
    needed = n_bytes + n_files // 2 * SIDECAR_BYTES + (n_bytes if shared else 0)
    free = shutil.disk_usage(_existing(output_dir)).free
    LOGGER.info(
        "in all %d files, up to %s in OUTPUT_DIR and as much in the working directory; "
        "%s are free in OUTPUT_DIR",
        n_files,
        format_memory(n_bytes),
        format_memory(free),
    )
    # A run that resumes has some of them already.
    if free >= needed or free + _present(output_dir, work_dir if shared else None, units) >= needed:
        return
    msg = (
        f"{output_dir}: the maps that --outputs adds may take {format_memory(needed)} there"
        f"{', working files included' if shared else ''}, {format_memory(free)} are free. Free space, ask "
        "for fewer outputs" + (", or give a --work-dir on another disk" if shared else "")
    )
    if not dry_run:
        raise StorageError(msg)
    LOGGER.warning("%s", msg)


def _existing(path: Path) -> Path:
    """Nearest directory that is there already."""
    return next(place for place in (path, *path.parents) if place.exists())


def _present(output_dir: Path, work_dir: Path | None, units: Iterable[UnitOutputs]) -> int:
    """Bytes of these series that an earlier run has written."""
    files: list[Path] = []
    for unit in units:
        series, directory = unit_series(unit), output_dir / f"node-{unit.label}"
        files += [directory / spec.filename for specs in series.values() for spec in specs]
        if work_dir is not None:
            files += [path for key in series for path in work_dir.glob(f"fit-*/{key}-*.npz")]
    return sum(path.stat().st_size for path in dict.fromkeys(files) if path.is_file())
