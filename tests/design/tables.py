"""Observation tables for the tests of the design room."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from blmm_bids.design.build import BuiltDesign, build_design
from blmm_bids.design.spec import parse_model_spec


def longitudinal(n_subjects: int = 12, n_visits: int = 4) -> pd.DataFrame:
    """Subjects with visits: age varies both ways, time within, sex and iq between; two crossed scanners."""
    rng = np.random.default_rng(7)
    subject = np.repeat(np.arange(n_subjects), n_visits)
    time = np.tile(np.arange(n_visits, dtype=float), n_subjects)
    return pd.DataFrame(
        {
            "subject": [f"{index + 1:02d}" for index in subject],
            "session": [f"v{int(visit)}" for visit in time],
            "time": time,
            "age": rng.uniform(20, 60, n_subjects)[subject] + time,
            "sex": np.array(["M", "F"])[subject % 2],
            "iq": rng.normal(100, 15, n_subjects)[subject],
            "scanner": np.array(["prisma", "trio"])[rng.integers(0, 2, len(subject))],
            "site": (subject % 3 + 1).astype(float),
            "motion": rng.exponential(0.2, len(subject)),
            "run time": rng.normal(size=len(subject)),
        }
    )


def built(
    formula: str, table: pd.DataFrame, ambiguous: Mapping[str, tuple[str, ...]] | None = None, **model: object
) -> BuiltDesign:
    """Build from a formula, with `Transformations` and options of Software.blmm by name."""
    instructions = model.pop("instructions", [])
    node = {
        "Level": "Dataset",
        "Name": "n",
        "Model": {"Formula": formula, "Software": {"blmm": model}},
        "Transformations": {"Transformer": "pybids-transforms-v1", "Instructions": instructions},
        "DummyContrasts": {"Test": "t"},
    }
    return build_design(parse_model_spec({"Nodes": [node]}).nodes[0], table, ambiguous)


def frame(n: int = 12, **columns: object) -> pd.DataFrame:
    """Three images a subject and a covariate that varies both ways."""
    return pd.DataFrame(
        {"subject": [f"{i // 3}" for i in range(n)], "x": np.arange(n) % 3 + 0.1 * np.arange(n)} | columns
    )
