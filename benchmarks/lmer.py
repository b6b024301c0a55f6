"""lme4 and lmerTest on the same data, where R is installed."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from blmm_bids.stats.model import Design, FloatArray

SCRIPT = Path(__file__).with_name("lmer.R")
PACKAGES = {"refit": "lme4", "test": "lmerTest"}


def missing_r(mode: Literal["refit", "test"]) -> str | None:
    """Why R can't take part; None where it can."""
    rscript = shutil.which("Rscript")
    if rscript is None:
        return "Rscript is not installed (Debian: r-cran-lme4, r-cran-lmertest)"
    package = PACKAGES[mode]
    probe = [rscript, "-e", f"quit(status = !requireNamespace('{package}', quietly = TRUE))"]
    if subprocess.run(probe, capture_output=True, check=False).returncode:
        return f"R has no {package} (Debian: r-cran-{package.lower()})"
    return None


def random_formula(design: Design) -> str:
    """Write the design's terms as lme4's bars."""
    bars = [f"({' + '.join(['1', *term.effect_names[1:]])} | {term.group})" for term in design.terms]
    return " + ".join(bars)


def fit_with_r(design: Design, values: NDArray[np.floating], mode: Literal["refit", "test"]) -> FloatArray:
    """Run ``lmer.R``.

    Parameters
    ----------
    design : Design
        Its first column of X is the intercept.
    values : (voxel, obs)
        Complete.
    mode : {"refit", "test"}

    Returns
    -------
    (voxel, 2) or (voxel, 10)
        CPU seconds and log-likelihood; in test mode p and df of `lmer.R`'s four tests besides.
    """
    columns = [*design.fixef_names[1:], *(term.group for term in design.terms)]
    names = [[term.levels[ref] for ref in term.refs] for term in design.terms]
    rows = zip(*([f"{x:.17g}" for x in column] for column in design.X.T[1:]), *names, strict=True)
    formula = f"y ~ {' + '.join(design.fixef_names[1:])} + {random_formula(design)}"
    with tempfile.TemporaryDirectory() as folder:
        table, data, out = (Path(folder) / name for name in ("design.csv", "values.f64", "out.csv"))
        table.write_text("\n".join(",".join(row) for row in [columns, *rows]) + "\n", encoding="utf-8")
        values.astype("<f8").tofile(data)
        command = ["Rscript", str(SCRIPT), mode, formula, str(table), str(data), str(len(values)), str(out)]
        subprocess.run(command, check=True)
        return np.loadtxt(out, delimiter=",", ndmin=2)
