"""Observation tables for the tests of the design room."""

from __future__ import annotations

import numpy as np
import pandas as pd


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
