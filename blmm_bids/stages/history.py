"""What the working directory remembers of the run before this one, and what is said of the difference."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import fields, replace

from blmm_bids import __version__
from blmm_bids.outputs.changes import FitRecord, find_changes, load_records, save_records
from blmm_bids.outputs.workdir import WorkDir, content_digest
from blmm_bids.stages.digests import array_digest, design_digest, mask_identities
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
        values={
            "what 0 is": problem.rule.zeros,
            "the threshold of values": problem.rule.threshold,
            "the voxels of the mask digest": array_digest(prepared.voxels),
            "the images that a voxel needs": problem.min_images,
        },
        model={
            "the formula": formula,
            "the values of the design digest": content_digest(design_digest(problem.design)),
            "the contrasts digest": content_digest(contrasts),
            **{field.name: getattr(problem.options, field.name) for field in fields(FitOptions)},
            "the version of the software": __version__,
        },
        cut=(work.batch_obs, work.block_voxels),
    )


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
    save_records(work_dir.path, records)
