"""What a working directory knows of the run that filled it, and what differs now.

Parts and results are found by hashes alone; this record only says in words why some are not found.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from blmm_bids.outputs.atomic import write_json_aside
from blmm_bids.regular_files import LARGEST_TABLE, read_regular

RECORD = "blmm_runs.json"
_SHOWN = 3


@dataclass(frozen=True)
class FitRecord:
    """One fit as it was asked for.

    Attributes
    ----------
    images, masks : mapping of str to str
        Path of each file to its identity: size, time of change, checksum of the header.
    values : mapping
        What the values read depend on besides: missing values, the analysis mask.
    model : mapping
        What the fit depends on besides: formula, design, contrasts, options.
    cut : (int, int)
        Images a batch and voxels a block.
    """

    images: Mapping[str, str]
    masks: Mapping[str, str]
    values: Mapping[str, Any]
    model: Mapping[str, Any]
    cut: tuple[int, int] = (0, 0)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> FitRecord:
        """Rebuild one that `save_records` wrote."""
        images, masks, values, model = (
            dict(content[name]) for name in ("images", "masks", "values", "model")
        )
        batch, block = content["cut"]
        return cls(images, masks, values, model, (int(batch), int(block)))


@dataclass(frozen=True)
class Changes:
    """What differs between two records of a fit.

    Attributes
    ----------
    texts : tuple of str
        What changed, a phrase each; empty where nothing did.
    """

    texts: tuple[str, ...] = field(default=())

    def __bool__(self) -> bool:
        """Whether anything differs."""
        return bool(self.texts)


def load_records(work_dir: Path) -> dict[str, FitRecord]:
    """Fits of the earlier run, by title; none where the record is absent or cannot be read."""
    try:
        content = json.loads(read_regular(work_dir / RECORD, LARGEST_TABLE))
        return {title: FitRecord.from_json(fit) for title, fit in content.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def save_records(work_dir: Path, records: Mapping[str, FitRecord]) -> None:
    """Write the fits of this run in place of the earlier one's.

    Raises
    ------
    StorageError
        Disk full or not writable.
    """
    write_json_aside(work_dir / RECORD, {title: asdict(record) for title, record in records.items()})


def find_changes(before: FitRecord, now: FitRecord) -> Changes:
    """Say what changed, images first."""
    texts = [
        *_changed_files("image", before.images, now.images),
        *_changed_files("mask", before.masks, now.masks),
        *_changed_values(before.values, now.values),
        *_changed_values(before.model, now.model),
    ]
    if not texts and before.cut != now.cut:
        texts.append(
            f"the cut into batches of {before.cut[0]} images and blocks of {before.cut[1]} voxels "
            f"(now {now.cut[0]} and {now.cut[1]}: another --mem or --nprocs)"
        )
    return Changes(tuple(texts))


def _changed_files(kind: str, before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    groups = {
        "changed on disk": [path for path in now if path in before and before[path] != now[path]],
        "new": [path for path in now if path not in before],
        "no longer used": [path for path in before if path not in now],
    }
    return [f"{_count(kind, paths)} {what} ({_names(paths)})" for what, paths in groups.items() if paths]


def _changed_values(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    texts = []
    for name in dict.fromkeys([*before, *now]):
        old, new = before.get(name), now.get(name)
        if old == new:
            continue
        short = (
            all(isinstance(value, str | int | float | None) for value in (old, new)) and "digest" not in name
        )
        texts.append(f"{name} ('{old}' before, now '{new}')" if short else name.removesuffix(" digest"))
    return texts


def _count(kind: str, paths: Sequence[str]) -> str:
    return f"{len(paths)} {kind}{'s' if len(paths) > 1 else ''}"


def _names(paths: Sequence[str]) -> str:
    shown = ", ".join(Path(path).name for path in paths[:_SHOWN])
    return shown + (", …" if len(paths) > _SHOWN else "")
