"""A small run with made-up results, written by the real writer.

Twelve images of four subjects in three sessions on a 5 x 4 x 3 grid; the analysis mask has 20 voxels. The
first voxel of the mask has too few images, all others are fitted.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from blmm_bids.images.grid import Grid
from blmm_bids.outputs.records import RunOutputs, UnitOutputs
from blmm_bids.outputs.registry import OutputOptions
from blmm_bids.stats.model import Contrast, Design, FitOptions, RandomTerm, Status

AFFINE = np.array([[-3.0, 0, 0, 6], [0, 3, 0, -9], [0, 0, 4, -8], [0, 0, 0, 1]])
SHAPE = (5, 4, 3)
VOXELS = np.arange(0, 60, 3, dtype=np.int64)
SUBJECTS = ("01", "02", "03", "04")
SESSIONS = ("1", "2", "3")


@dataclass(frozen=True)
class FactorLevels:
    name: str
    kind: str
    levels: tuple[str, ...] = ()
    reference: str | None = None
    counts: tuple[int, ...] = ()
    n_missing: int = 0
    minimum: float | None = None
    mean: float | None = None
    maximum: float | None = None
    reason: str = ""
    table: str = ""


def design(*, slopes: bool = True, terms: bool = True) -> Design:
    age = np.tile([20.0, 21.5, 23.0], len(SUBJECTS))
    sex = np.repeat([0.0, 1.0, 0.0, 1.0], len(SESSIONS))
    X = np.column_stack([np.ones(12), age, sex])
    refs = np.repeat(np.arange(4), 3)
    effects = X[:, :2] if slopes else X[:, :1]
    names = ("Intercept", "age") if slopes else ("Intercept",)
    subject = RandomTerm("subject", SUBJECTS, refs, effects, names)
    return Design(X, ("Intercept", "age", "sex[T.M]"), (subject,) if terms else ())


def contrasts() -> tuple[Contrast, ...]:
    return (
        Contrast("age effect", np.array([[0.0, 1, 0]]), "t"),
        Contrast("any", np.array([[0.0, 1, 0], [0, 0, 1]]), "F"),
    )


def unit(root: Path, **changes: object) -> UnitOutputs:
    rows = [(subject, session) for subject in SUBJECTS for session in SESSIONS]
    table = pd.DataFrame(
        {
            "subject": [subject for subject, _ in rows] + ["05"],
            "session": [session for _, session in rows] + ["1"],
            "run": 1,
            "age": [*np.tile([20.0, 21.5, 23.0], 4), np.nan],
            "sex": pd.Categorical([*np.repeat(["F", "M", "F", "M"], 3), "M"]),
            "comment": ["a\ttab", *["<b>plain</b>"] * 12],
        }
    )
    paths = tuple(
        root / f"sub-{s}" / f"ses-{e}" / "func" / f"sub-{s}_ses-{e}_task-nback_stat-effect_statmap.nii.gz"
        for s, e in zip(table["subject"], table["session"], strict=True)
    )
    plain = UnitOutputs(
        node="group model",
        formula="y ~ 1 + age + sex + (1 + age | subject)",
        design=design(),
        contrasts=contrasts(),
        fit_options=FitOptions(),
        output_options=OutputOptions(),
        grid=Grid(SHAPE, AFFINE, (3.0, 3.0, 4.0), sform_code=4, qform_code=4),
        voxels=VOXELS,
        table=table,
        paths=paths,
        masks=((root / "sub-01" / "m_mask.nii.gz", root / "b_mask.nii.gz"), *[()] * 12),
        rows=tuple(range(12)),
        dropped=((12, "age is missing"),),
        excluded=pd.DataFrame({"path": [root / "sub-06" / "x_statmap.nii.gz"], "reason": ["not chosen"]}),
        constant_entities={"task": "nback", "space": "MNI152NLin2009cAsym", "stat": "effect", "run": "1"},
        group={"contrast": "faces"},
        n_missing=np.arange(12, dtype=np.int64),
        image_stats={"mean": np.linspace(1, 2, 12), "variance": np.full(12, 4.0)},
        variables=(
            FactorLevels(
                "age",
                "numeric",
                n_missing=1,
                minimum=20.0,
                mean=21.5,
                maximum=23.0,
                reason="numbers",
                table="sessions",
            ),
            FactorLevels("sex", "categorical", ("F", "M"), "F", (6, 6)),
        ),
        warnings=("age varies within and between subjects <script>alert(1)</script>",),
    )
    return replace(plain, **changes)


def run(output_dir: Path, root: Path, **changes: object) -> RunOutputs:
    plain = RunOutputs(
        output_dir=output_dir,
        name="growth study",
        settings={"formula": "y ~ 1 + age", "nprocs": 2},
        model_spec={"Name": "growth study", "BIDSModelVersion": "1.0.0"},
        sources={"": root},
        command=("bids_app_run.py", "<in>", "out", "group"),
        elapsed=62.0,
    )
    return replace(plain, **changes)


def results(unit: UnitOutputs, seed: int = 1) -> dict[str, np.ndarray]:
    """Results of all voxels, in the block results' layout."""
    rng = np.random.default_rng(seed)
    n_voxels, n_fixef = len(unit.voxels), unit.design.n_fixef
    n_vech = sum(len(term.vech_names) for term in unit.design.terms)
    root = rng.normal(size=(n_voxels, n_fixef, n_fixef))
    found = {
        "n": np.full(n_voxels, unit.design.n_obs),
        "edf": np.full(n_voxels, float(unit.design.n_obs - n_fixef)),
        "iterations": rng.integers(1, 9, n_voxels),
        "status": np.full(n_voxels, int(Status.CONVERGED)),
        "beta": rng.normal(size=(n_voxels, n_fixef)),
        "D": np.abs(rng.normal(size=(n_voxels, n_vech))),
        "vcov": root @ root.transpose(0, 2, 1),
    }
    for name in ("sigma2", "resms", "logLikelihood", "mean"):
        found[name] = rng.gamma(2, size=n_voxels)
    for index, contrast in enumerate(unit.contrasts):
        names = ("effect", "variance", "se", "t", "dof", "z", "logp", "p", "logp2")
        if contrast.test == "F":
            names = ("F", "dof", "z", "logp", "p", "partialR2")
        found |= {f"c{index}_{name}": rng.gamma(2, size=n_voxels) for name in names}
    found["status"][0], found["n"][0], found["iterations"][0] = Status.TOO_FEW_IMAGES, 2, 0
    for name, values in found.items():
        if name not in ("n", "edf", "iterations", "status"):
            values[0] = np.nan
    return found


def blocks(unit: UnitOutputs, size: int = 7, seed: int = 1):
    """The same results in blocks of `size` voxels, the last block first."""
    found = results(unit, seed)
    starts = range(0, len(unit.voxels), size)
    for start in reversed(starts):
        part = slice(start, start + size)
        yield unit.voxels[part], {name: values[part] for name, values in found.items()}
