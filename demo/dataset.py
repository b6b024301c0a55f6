"""Make the demo's dataset: a BIDS derivatives tree of a longitudinal study.

    dataset/
        dataset_description.json  README  participants.tsv  participants.json  sessions.json
        sub-01/
            sub-01_sessions.tsv
            ses-1/func/
                sub-01_ses-1_task-nback_space-MNI152NLin2009cAsym_contrast-load_stat-effect_statmap.nii.gz
                sub-01_ses-1_task-nback_space-MNI152NLin2009cAsym_desc-brain_mask.nii.gz

Each subject has one to four visits, about a year apart, and belongs to one of seven sites. One
subject's age is unknown, so that the run has something to drop.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np

from demo import brain

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

SEED = 7
COLUMNS = ("time", "age", "sex[T.M]")
SITES = ("aachen", "bern", "cardiff", "dublin", "ghent", "leuven", "oslo")
N_SUBJECTS = 41
VISIT_SHARES = (0.10, 0.20, 0.30, 0.40)  # of the subjects with 1, 2, 3 and 4 visits

# SDs, in the images' units (and per year).
RESIDUAL_SD = 1.0
SUBJECT_SD = 1.0
SLOPE_SD = 0.25
SUBJECT_SLOPE_CORRELATION = 0.3
SITE_SD = 0.4
MEAN_EFFECT = 2.0


@dataclass(frozen=True)
class Subject:
    """One participant and the visits made.

    Attributes
    ----------
    label : str
        Without ``sub-``.
    age : float
        Years at baseline.
    age_is_known : bool
        Whether participants.tsv says so.
    sex, site : str
        As in participants.tsv.
    times : tuple of float
        Years since baseline, one a visit.
    """

    label: str
    age: float
    age_is_known: bool
    sex: str
    site: str
    times: tuple[float, ...]


def draw_subjects(rng: np.random.Generator, n_subjects: int = N_SUBJECTS) -> tuple[Subject, ...]:
    """Draw who takes part and when they come."""
    n_visits = rng.choice(np.arange(1, 5), size=n_subjects, p=VISIT_SHARES)
    subjects = []
    for index in range(n_subjects):
        gaps = rng.normal(1.0, 0.12, size=n_visits[index] - 1)
        times = np.round(np.concatenate([[0.0], np.cumsum(gaps)]), 2)
        subjects.append(
            Subject(
                label=f"{index + 1:02d}",
                age=round(float(rng.uniform(25, 75)), 1),
                age_is_known=index != n_subjects - 1,
                sex="FM"[index % 2],
                site=SITES[int(rng.integers(len(SITES)))],
                times=tuple(float(time) for time in times),
            )
        )
    return tuple(subjects)


def write_dataset(root: Path, seed: int = SEED) -> tuple[Subject, ...]:
    """Write the whole tree; the same seed gives the same values.

    Parameters
    ----------
    root : Path
        Directory to make; it must not exist.
    seed : int
        Of the random numbers.

    Returns
    -------
    tuple of Subject
        Who is in it.
    """
    rng = np.random.default_rng(seed)
    root.mkdir(parents=True)
    subjects = draw_subjects(rng)
    _write_tables(root, subjects)
    _write_images(root, subjects, rng)
    return subjects


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _write_rows(path: Path, rows: Sequence[tuple[str, ...]]) -> None:
    path.write_text("".join("\t".join(row) + "\n" for row in rows), encoding="utf-8")


def _write_tables(root: Path, subjects: tuple[Subject, ...]) -> None:
    """Write everything but the images."""
    _write_json(
        root / "dataset_description.json",
        {
            "Name": "A made-up longitudinal study",
            "BIDSVersion": "1.10.0",
            "DatasetType": "derivative",
            "License": "CC0",
            "GeneratedBy": [{"Name": "blmm-bids demo", "Description": "Random fields with planted effects"}],
        },
    )
    (root / "README").write_text(
        "Images of random numbers with effects planted in a few spheres. No person was scanned.\n",
        encoding="utf-8",
    )
    _write_json(
        root / "participants.json",
        {
            "age": {"Description": "Age at baseline", "Units": "year"},
            "sex": {"Description": "Sex", "Levels": {"F": "female", "M": "male"}},
            "site": {"Description": "Scanner site", "Levels": {site: site.title() for site in SITES}},
        },
    )
    _write_json(root / "sessions.json", {"time": {"Description": "Time since baseline", "Units": "year"}})
    rows = [("participant_id", "age", "sex", "site")]
    for subject in subjects:
        age = str(subject.age) if subject.age_is_known else "n/a"
        rows.append((f"sub-{subject.label}", age, subject.sex, subject.site))
        visits = [(f"ses-{visit}", str(time)) for visit, time in enumerate(subject.times, start=1)]
        directory = root / f"sub-{subject.label}"
        directory.mkdir()
        _write_rows(directory / f"sub-{subject.label}_sessions.tsv", [("session_id", "time"), *visits])
    _write_rows(root / "participants.tsv", rows)


def _write_images(root: Path, subjects: tuple[Subject, ...], rng: np.random.Generator) -> None:
    """Write an effect map and a brain mask for each visit: fixed + subject + site + residual."""
    mask = brain.brain_mask()
    planted = brain.planted_effects(COLUMNS)
    mean_age = float(np.mean([subject.age for subject in subjects]))
    site_fields = {site: SITE_SD * brain.random_field(rng) for site in SITES}
    # Nowhere else do subjects differ in their slopes, so that singular fits occur as in real data.
    slope_sd = SLOPE_SD * (brain.coordinates()[..., 1] < 0)
    for subject in subjects:
        level, other = brain.random_field(rng), brain.random_field(rng)
        correlation = SUBJECT_SLOPE_CORRELATION
        slope = correlation * level + np.sqrt(1 - correlation**2) * other
        for visit, time in enumerate(subject.times, start=1):
            values = (
                MEAN_EFFECT
                + planted["time"] * time
                + planted["age"] * (subject.age - mean_age)
                + planted["sex[T.M]"] * (subject.sex == "M")
                + SUBJECT_SD * level
                + slope_sd * slope * time
                + site_fields[subject.site]
                + RESIDUAL_SD * brain.random_field(rng)
            )
            _write_visit(root, subject.label, visit, values, mask & brain.signal_present(rng), rng)


def _write_visit(
    root: Path,
    label: str,
    visit: int,
    values: NDArray[np.float64],
    present: NDArray[np.bool_],
    rng: np.random.Generator,
) -> None:
    """Write one visit's map, zero outside its mask and not a number at a few voxels, and that mask."""
    values = np.where(present, values, 0.0)
    values[present & (rng.random(values.shape) < 0.001)] = np.nan
    directory = root / f"sub-{label}" / f"ses-{visit}" / "func"
    directory.mkdir(parents=True)
    stem = f"sub-{label}_ses-{visit}_task-nback_space-MNI152NLin2009cAsym"
    write_volume(directory / f"{stem}_contrast-load_stat-effect_statmap.nii.gz", values.astype(np.float32))
    write_volume(directory / f"{stem}_desc-brain_mask.nii.gz", present.astype(np.uint8))


def write_volume(path: Path, values: NDArray[Any]) -> None:
    """Write an array on the demo's grid as NIfTI-1."""
    image = nib.Nifti1Image(values, brain.affine())
    image.header.set_xyzt_units("mm")
    image.set_sform(brain.affine(), code="mni")
    image.set_qform(brain.affine(), code="mni")
    image.to_filename(path)
