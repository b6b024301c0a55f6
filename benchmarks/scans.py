"""A BIDS derivatives dataset of made-up scans, as large as wanted.

Smooth Gaussian fields inside an ellipsoid that differs a little between images, zero outside, float32, gzip
as nibabel writes it. A few hundred images are made and copied under as many names as are wanted; copies of
one image belong to different subjects.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np
from scipy.ndimage import gaussian_filter

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

N_VISITS = 4
# Share of each half axis of the volume that the brain takes: 25 % of the voxels.
BRAIN_SHARE = 0.786
# SD of the size of the images' own ellipsoids: about a tenth of the brain's voxels lack some images.
SIZE_SD = 0.008
SMOOTHNESS_MM = 4.0
FIELD_OF_VIEW_MM = (182.0, 218.0, 182.0)
SUBJECT_SD = 1.0
STEM = "task-rest_space-MNI152NLin2009cAsym"


@dataclass(frozen=True)
class Scans:
    """What to make.

    Attributes
    ----------
    n_images : int
        Files; four visits a subject.
    shape : tuple of int
        Voxels along each axis.
    n_distinct : int
        Images with values of their own; a multiple of the visits.
    seed : int
        Of the random numbers.
    """

    n_images: int
    shape: tuple[int, int, int] = (91, 109, 91)
    n_distinct: int = 200
    seed: int = 3

    @cached_property
    def affine(self) -> NDArray[np.float64]:
        """(4, 4) voxel indices to mm; the field of view is the same whatever the resolution."""
        zooms = np.divide(FIELD_OF_VIEW_MM, self.shape)
        matrix = np.diag([*zooms, 1.0])
        matrix[:3, 3] = (-90.0, -126.0, -72.0)
        return matrix

    @cached_property
    def radius(self) -> NDArray[np.float64]:
        """(x, y, z) distance from the centre, 1 at the faces of the volume."""
        axes = [np.linspace(-1, 1, n) for n in self.shape]
        x, y, z = np.meshgrid(*axes, indexing="ij", sparse=True)
        return np.asarray(np.sqrt(x**2 + y**2 + z**2))

    @property
    def brain(self) -> NDArray[np.bool_]:
        """(x, y, z) mask of the analysis."""
        return np.asarray(self.radius <= BRAIN_SHARE)


def write_scans(root: Path, scans: Scans) -> None:
    """Write the dataset, its mask as ``root/../mask.nii.gz`` and nothing else.

    Parameters
    ----------
    root : Path
        Directory to make; it must not exist.
    scans : Scans
    """
    rng = np.random.default_rng(scans.seed)
    root.mkdir(parents=True)
    _write_tables(root, scans, rng)
    _write_volume(root.parent / "mask.nii.gz", scans.brain.astype(np.uint8), scans)
    paths = image_paths(root, scans)
    n_distinct = min(scans.n_distinct, len(paths))
    for index, path in enumerate(paths[:n_distinct]):
        if index % N_VISITS == 0:
            subject = SUBJECT_SD * _field(rng, scans)
        inside = scans.radius <= BRAIN_SHARE * (1 + SIZE_SD * abs(rng.standard_normal()) - 2 * SIZE_SD)
        values = np.where(inside, 2.0 + subject + _field(rng, scans), 0.0)
        _write_volume(path, values.astype(np.float32), scans)
    for index, path in enumerate(paths[n_distinct:]):
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(paths[index % n_distinct], path)


def image_paths(root: Path, scans: Scans) -> list[Path]:
    """List the images, subject by subject."""
    paths = []
    for index in range(scans.n_images):
        subject, visit = divmod(index, N_VISITS)
        stem = f"sub-{subject + 1:05d}_ses-{visit + 1}"
        name = f"{stem}_{STEM}_stat-effect_statmap.nii.gz"
        paths.append(root / f"sub-{subject + 1:05d}" / f"ses-{visit + 1}" / "func" / name)
    return paths


def _field(rng: np.random.Generator, scans: Scans) -> NDArray[np.float32]:
    """(x, y, z) smooth field of mean 0 and variance about 1."""
    noise = rng.standard_normal(scans.shape, dtype=np.float32)
    smooth = gaussian_filter(noise, SMOOTHNESS_MM / float(scans.affine[0, 0]))
    return np.asarray(smooth / smooth.std())


def _write_volume(path: Path, values: NDArray[np.generic], scans: Scans) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(values, scans.affine)
    image.header.set_xyzt_units("mm")
    image.set_sform(scans.affine, code="mni")
    image.set_qform(scans.affine, code="mni")
    image.to_filename(path)


def _write_tables(root: Path, scans: Scans, rng: np.random.Generator) -> None:
    description = {
        "Name": "Made-up scans",
        "BIDSVersion": "1.10.0",
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "blmm-bids benchmarks"}],
    }
    (root / "dataset_description.json").write_text(json.dumps(description) + "\n", encoding="utf-8")
    participants = ["participant_id\tage\tsex\n"]
    for subject in range(-(-scans.n_images // N_VISITS)):
        label = f"sub-{subject + 1:05d}"
        participants.append(f"{label}\t{rng.uniform(20, 80):.1f}\t{'FM'[subject % 2]}\n")
        times = np.cumsum(rng.uniform(0.5, 1.5, N_VISITS))
        rows = "".join(f"ses-{visit + 1}\t{time:.2f}\n" for visit, time in enumerate(times))
        (root / label).mkdir()
        (root / label / f"{label}_sessions.tsv").write_text(f"session_id\ttime\n{rows}", encoding="utf-8")
    (root / "participants.tsv").write_text("".join(participants), encoding="utf-8")
