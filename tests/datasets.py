"""Builders of tiny BIDS trees with real images of 4 x 3 x 2 voxels.

`longitudinal` makes (masks of one of the three kinds, or none)::

    dataset_description.json                     DatasetType: derivative
    participants.tsv, participants.json          participant_id age sex site; site has Levels
    sub-01/sub-01_sessions.tsv                   session_id time age
    sub-01/ses-01/sub-01_ses-01_scans.tsv        filename motion
    sub-01/ses-01/func/sub-01_ses-01_task-nback_space-MNI_contrast-face_stat-effect_statmap.nii.gz
                                                 and with stat-variance
      masks="stem"                               ..._contrast-face_stat-effect_mask.nii.gz
      masks="sidecar"                            ..._statmap.json, whose Mask names masks/sub-01_mask.nii.gz
      masks="brain"                              sub-01_ses-01_task-nback_space-MNI_desc-brain_mask.nii.gz
    phenotype/iq.tsv                             participant_id score

`fitlins` makes node-runLevel/sub-01/..._run-1_..., node-subjectLevel/sub-01/... and
node-datasetLevel/... (no subject); `nilearn` what `save_glm_to_bids` writes, without a datatype folder;
`fmriprep` preprocessed series and masks in several spaces, with anat/ and func/.
"""

from __future__ import annotations

import json
import os
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import nibabel as nib
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SHAPE = (4, 3, 2)
AFFINE = np.diag([3.0, 3.0, 3.0, 1.0])


def shared_data() -> Path:
    """The folder of shared test data, which may be absent."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    return Path(os.environ.get("BLMM_SHARED_DATA", default))


def write_image(path: Path, values: np.ndarray | None = None, shape: Sequence[int] = SHAPE) -> Path:
    """Write a float32 image; without values, noise that depends on the file's name alone."""
    if values is None:
        values = np.random.default_rng(zlib.crc32(path.name.encode())).normal(size=shape)
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.Nifti1Image(np.asarray(values, dtype=np.float32), AFFINE).to_filename(path)
    return path


def write_mask(path: Path) -> Path:
    """Write a mask that leaves out the first voxel."""
    inside = np.ones(SHAPE, dtype=np.uint8)
    inside[0, 0, 0] = 0
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.Nifti1Image(inside, AFFINE).to_filename(path)
    return path


def write_text(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())
    return path


def write_json(path: Path, content: Mapping[str, Any]) -> Path:
    return write_text(path, json.dumps(content))


def write_tsv(path: Path, header: str, *lines: str) -> Path:
    """Write a table; cells are separated by blanks here and by tabs in the file."""
    return write_text(path, "".join("\t".join(line.split()) + "\n" for line in (header, *lines)))


def describe(root: Path, kind: str = "derivative", **more: Any) -> Path:
    """Write dataset_description.json."""
    content = {"Name": root.name, "BIDSVersion": "1.10.0", "DatasetType": kind, **more}
    if kind == "derivative":
        content.setdefault("GeneratedBy", [{"Name": "tests"}])
    write_json(root / "dataset_description.json", content)
    return root


def longitudinal(
    root: Path,
    subjects: Sequence[str] = ("01", "02", "03", "04"),
    sessions: Sequence[str] = ("01", "02", "03"),
    missing: Sequence[tuple[str, str]] = (("03", "02"), ("04", "03")),
    masks: Literal["stem", "sidecar", "brain", "none"] = "brain",
    contrasts: Sequence[str] = ("face",),
) -> Path:
    """Build the tree above; `missing` lists pairs of subject and session without images."""
    describe(root)
    people = [f"sub-{s} {20 + i}.5 {'MF'[i % 2]} {1 + i % 2}" for i, s in enumerate(subjects)]
    write_tsv(root / "participants.tsv", "participant_id age sex site", *people)
    write_json(root / "participants.json", {"site": {"Levels": {"1": "Bonn", "2": "Oxford"}}})
    write_tsv(
        root / "phenotype" / "iq.tsv", "participant_id score", *(f"sub-{s} 10{s[-1]}" for s in subjects)
    )
    for subject in subjects:
        lines = [f"ses-{each} {time} {20 + time}.25" for time, each in enumerate(sessions)]
        write_tsv(root / f"sub-{subject}" / f"sub-{subject}_sessions.tsv", "session_id time age", *lines)
        for session in sessions:
            if (subject, session) not in missing:
                _session(root, subject, session, masks, contrasts)
    return root


def _session(root: Path, subject: str, session: str, masks: str, contrasts: Sequence[str]) -> None:
    folder = root / f"sub-{subject}" / f"ses-{session}"
    scan = f"sub-{subject}_ses-{session}_task-nback"
    write_tsv(
        folder / f"sub-{subject}_ses-{session}_scans.tsv",
        "filename motion",
        f"func/{scan}_bold.nii.gz 0.{session}",
        f"anat/sub-{subject}_ses-{session}_T1w.nii.gz 9",
    )
    stem = f"{scan}_space-MNI"
    for contrast in contrasts:
        for stat in ("effect", "variance"):
            image = f"{stem}_contrast-{contrast}_stat-{stat}"
            write_image(folder / "func" / f"{image}_statmap.nii.gz")
            if masks == "stem":
                write_mask(folder / "func" / f"{image}_mask.nii.gz")
            if masks == "sidecar":
                write_json(
                    folder / "func" / f"{image}_statmap.json", {"Mask": f"masks/sub-{subject}_mask.nii.gz"}
                )
    if masks == "sidecar":
        write_mask(root / "masks" / f"sub-{subject}_mask.nii.gz")
    if masks == "brain":
        write_mask(folder / "func" / f"{stem}_desc-brain_mask.nii.gz")


def fitlins(root: Path, subjects: Sequence[str] = ("01", "02")) -> Path:
    """FitLins' output: a directory a node, no datatype folder."""
    describe(root, GeneratedBy=[{"Name": "fitlins"}])
    for subject in subjects:
        stem = f"sub-{subject}_task-stop"
        for run in ("1", "2"):
            name = f"{stem}_run-{run}_contrast-go_stat-effect_statmap.nii.gz"
            write_image(root / "node-runLevel" / f"sub-{subject}" / name)
        name = f"{stem}_contrast-go_stat-effect_statmap.nii.gz"
        write_image(root / "node-subjectLevel" / f"sub-{subject}" / name)
    write_image(root / "node-datasetLevel" / "task-stop_contrast-go_stat-effect_statmap.nii.gz")
    return root


def nilearn(root: Path, subjects: Sequence[str] = ("01", "02")) -> Path:
    """The files of nilearn's ``save_glm_to_bids`` that matter here."""
    describe(root, GeneratedBy=[{"Name": "nilearn"}])
    for subject in subjects:
        stem = root / f"sub-{subject}" / f"sub-{subject}_task-main"
        for stat in ("effect", "variance", "t", "z", "p"):
            write_image(Path(f"{stem}_contrast-aMinusB_stat-{stat}_statmap.nii.gz"))
        write_mask(Path(f"{stem}_mask.nii.gz"))
        write_json(Path(f"{stem}_statmap.json"), {"GeneratedBy": [{"Name": "nilearn"}]})
        write_tsv(Path(f"{stem}_design.tsv"), "a b", "1 0")
    return root


def fmriprep(root: Path, subjects: Sequence[str] = ("01", "02")) -> Path:
    """FMRIPrep's derivatives: native and MNI space, anat and func."""
    describe(root, GeneratedBy=[{"Name": "fMRIPrep"}])
    for subject in subjects:
        anat, func = root / f"sub-{subject}" / "anat", root / f"sub-{subject}" / "func"
        write_mask(anat / f"sub-{subject}_desc-brain_mask.nii.gz")
        write_mask(anat / f"sub-{subject}_space-MNI_desc-brain_mask.nii.gz")
        for space in ("_space-MNI", ""):
            write_mask(func / f"sub-{subject}_task-rest{space}_desc-brain_mask.nii.gz")
            write_image(func / f"sub-{subject}_task-rest{space}_desc-preproc_bold.nii.gz", shape=(*SHAPE, 2))
        write_text(
            root / f"sub-{subject}" / "figures" / f"sub-{subject}_task-rest_desc-carpet_bold.svg", "<svg/>"
        )
    write_text(root / "sourcedata" / "freesurfer" / "sub-01" / "mri" / "T1.mgz", "")
    return root
