"""What the working directory remembers of the run before this one, and what is said of the difference."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from blmm_bids import __version__
from blmm_bids.images.content import content_identities
from blmm_bids.outputs.changes import FitRecord, find_changes, load_records, save_records
from blmm_bids.outputs.uris import input_uri
from blmm_bids.outputs.workdir import WorkDir, content_digest
from blmm_bids.stages.digests import array_digest, design_digest, mask_identities, rounded_digest
from blmm_bids.stages.records import Prepared
from blmm_bids.stats.model import FitOptions

LOGGER = logging.getLogger(__name__)


def fit_record(prepared: Prepared, formula: str) -> FitRecord:
    """Describe one fit as it is asked for now."""
    problem, work = prepared.problem, prepared.work
    contrasts = {contrast.name: [contrast.test, contrast.L.tolist()] for contrast in problem.contrasts}
    return FitRecord(
        images=dict(zip(map(str, problem.images), prepared.checked.identities, strict=True)),
        masks={str(path): identity for path, identity in mask_identities(problem.masks).items()},
        values=_values(prepared),
        model={
            **_model(problem.options, formula),
            "the values of the design digest": content_digest(design_digest(problem.design)),
            "the contrasts digest": content_digest(contrasts),
        },
        cut=(work.batch_obs, work.block_voxels),
    )


def _values(prepared: Prepared) -> dict[str, Any]:
    problem = prepared.problem
    return {
        "what 0 is": problem.rule.zeros,
        "the threshold of values": problem.rule.threshold,
        "the voxels of the mask digest": array_digest(prepared.voxels),
        "the images that a voxel needs": problem.min_images,
    }


def _model(options: FitOptions, formula: str) -> dict[str, Any]:
    return {
        "the formula": formula,
        **{field.name: getattr(options, field.name) for field in fields(FitOptions)},
        "the version of the software": __version__,
    }


def result_record(prepared: Prepared, formula: str, sources: Mapping[str, Path]) -> FitRecord:
    """Describe one fit for its output dataset: by content, so that it holds for copies on other machines too.

    Contrasts are not in it, for they change no other number.

    Parameters
    ----------
    prepared : Prepared
    formula : str
    sources : Mapping
        Roots of the datasets that images come from.
    """
    problem = prepared.problem
    masks = list(dict.fromkeys(path for paths in problem.masks for path in paths))
    identities = content_identities([*problem.images, *masks])
    return FitRecord(
        images=_by_name(problem.images, identities, sources),
        masks=_by_name(masks, identities, sources),
        values=_values(prepared),
        model={
            **_model(problem.options, formula),
            "the columns of the design": list(problem.design.fixef_names),
            "the values of the design digest": content_digest(rounded_digest(problem.design)),
        },
    )


def _by_name(
    paths: Sequence[Path], identities: Mapping[Path, str], sources: Mapping[str, Path]
) -> dict[str, str]:
    """Identity by place in the dataset, wherever that is; files of one name are numbered."""
    found: dict[str, str] = {}
    for path in paths:
        name = place = input_uri(path, sources).rpartition(":")[2]
        number = 1
        while name in found:
            number += 1
            name = f"{place} ({number})"
        found[name] = identities[path]
    return found


def note_cut(work_dir: WorkDir, title: str, prepared: Prepared) -> None:
    """Remember a cut made smaller, so that the next run begins with it."""
    records = load_records(work_dir.path)
    if title in records:
        cut = (prepared.work.batch_obs, prepared.work.block_voxels)
        save_records(work_dir.path, {**records, title: replace(records[title], cut=cut)})


def note_fits(work_dir: WorkDir, fits: Mapping[str, tuple[Prepared, str]]) -> None:
    """Log what changed since the earlier run there, and remember this one.

    What did not change is found again, what did is computed again; nothing here decides that.

    Parameters
    ----------
    work_dir : WorkDir
    fits : mapping of str to (Prepared, str)
        Fit and formula by title.

    Raises
    ------
    StorageError
        Disk full or not writable.
    """
    earlier = load_records(work_dir.path)
    records = {title: fit_record(prepared, formula) for title, (prepared, formula) in fits.items()}
    for title, record in records.items():
        if title not in earlier:
            continue
        if not (changes := find_changes(earlier[title], record)):
            LOGGER.info("%s: as in the earlier run in %s; it continues there", title, work_dir.path)
            continue
        prepared = fits[title][0]
        stage = work_dir.gather(prepared.digest)
        n_kept = sum(stage.is_part_done(index, digest) for index, digest in enumerate(prepared.batch_digests))
        LOGGER.warning(
            "%s: since the earlier run in %s, changed: %s; %d of %d batches of images are kept, the rest and "
            "all that depends on it is computed again",
            title,
            work_dir.path,
            "; ".join(changes.texts),
            n_kept,
            prepared.work.n_batches,
        )
    # Beside those of other models, whose working files are still there.
    save_records(work_dir.path, {**earlier, **records})
