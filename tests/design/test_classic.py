"""Designs of the sixteen published fits have the dimensions that lme4 gave them."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from blmm_bids.design.build import build_design
from blmm_bids.design.spec import spec_from_formula

ROOT = Path(os.environ.get("BLMM_SHARED_DATA") or Path(__file__).resolve().parents[3] / "shared" / "data")
CLASSIC = ROOT / "classic"
TABLES = {
    "sleepstudy_ri": "sleepstudy",
    "sleepstudy_rs": "sleepstudy",
    "sleepstudy_rs_nocorr": "sleepstudy",
    "penicillin_crossed": "Penicillin",
    "pastes_nested": "Pastes",
    "cake": "cake",
    "dyestuff": "Dyestuff",
    "dyestuff2_singular": "Dyestuff2",
    "orthodont_rs": "Orthodont",
    "orthodont_ri": "Orthodont",
    "oxide_nested": "Oxide",
    "machines_nested": "Machines",
    "ham": "ham",
    "carrots_rs": "carrots",
    "tvbo": "TVbo",
    "insteval_crossed": None,
}

pytestmark = pytest.mark.skipif(
    not (CLASSIC / "summary.csv").is_file(), reason=f"no reference data at {ROOT}; set BLMM_SHARED_DATA"
)


def read_r_table(path):
    """Read R's CSV: what it quotes is a factor."""
    with path.open() as file:
        quoted = next(csv.reader([file.readlines()[1]], quoting=csv.QUOTE_NONE))
    table = pd.read_csv(path)
    factors = {name: str for name, value in zip(table.columns, quoted, strict=True) if value.startswith('"')}
    return pd.read_csv(path, dtype=factors)


def insteval(n_students, n_lecturers, n_obs):
    """A stand-in of InstEval's size, whose data are not among the files."""
    rng = np.random.default_rng(1)
    students = np.concatenate([np.arange(n_students), rng.integers(0, n_students, n_obs - n_students)])
    lecturers = np.concatenate([np.arange(n_lecturers), rng.integers(0, n_lecturers, n_obs - n_lecturers)])
    return pd.DataFrame({"s": students, "d": lecturers, "service": rng.integers(0, 2, n_obs).astype(str)})


def summary():
    if not (CLASSIC / "summary.csv").is_file():
        return []
    table = pd.read_csv(CLASSIC / "summary.csv")
    return list(table[table["REML"]].itertuples(index=False))


@pytest.mark.parametrize("fit", summary(), ids=lambda fit: fit.id)
def test_build_design__published_fits(fit):
    levels = sorted(int(count) for count in str(fit.ngroups).split(";"))
    name = TABLES[fit.id]
    table = (
        insteval(levels[1], levels[0], fit.nobs)
        if name is None
        else read_r_table(CLASSIC / f"data_{name}.csv")
    )
    response, _, formula = fit.formula.partition("~")
    if response.strip() in table:
        table = table.dropna(subset=[response.strip()])
    found = build_design(spec_from_formula(formula).nodes[0], table)

    fixef = pd.read_csv(CLASSIC / f"{fit.id}_REML_fixef.csv")
    assert found.design.n_obs == fit.nobs
    assert found.design.n_fixef == len(fixef)
    groups = {term.group: term.n_levels for term in found.design.terms}
    assert sorted(groups.values()) == levels

    varcorr = pd.read_csv(CLASSIC / f"{fit.id}_REML_varcorr.csv")
    n_parameters = sum(len(term.vech_names) for term in found.design.terms)
    assert n_parameters == len(varcorr) - 1


def test_build_design__published_fits_are_all_there():
    assert {fit.id for fit in summary()} == set(TABLES)
