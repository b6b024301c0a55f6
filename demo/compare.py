"""Lay the estimates of a finished run beside what was planted."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np
from scipy.stats import t

from demo import brain

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

MAX_STANDARD_ERRORS = 4.0
INTERVAL = 0.95


@dataclass(frozen=True)
class Row:
    """One effect at one voxel.

    Attributes
    ----------
    column : str
        Column of the design.
    region : str
        Where.
    centre : tuple of float
        Millimetres.
    n_images : int
        Images that have a value there.
    planted, estimate, stderr : float
        Units of the images per unit of the column.
    """

    column: str
    region: str
    centre: tuple[float, float, float]
    n_images: int
    planted: float
    estimate: float
    stderr: float

    @property
    def deviation(self) -> float:
        """Estimate minus planted, in standard errors."""
        return (self.estimate - self.planted) / self.stderr

    @property
    def is_close(self) -> bool:
        """Whether the estimate is near enough; never where there is none."""
        return abs(self.deviation) <= MAX_STANDARD_ERRORS


@dataclass(frozen=True, eq=False)
class Estimates:
    """Maps of a finished run, on the demo's grid.

    Attributes
    ----------
    beta, stderr, dof : dict of str to (x, y, z) float64
        By column of the design.
    n_images : (x, y, z) float64
        Images that have a value at the voxel.
    """

    beta: dict[str, NDArray[np.float64]]
    stderr: dict[str, NDArray[np.float64]]
    dof: dict[str, NDArray[np.float64]]
    n_images: NDArray[np.float64]


def read_estimates(node_dir: Path, columns: tuple[str, ...]) -> Estimates:
    """Read the maps of a node, found by the exact names in their sidecars.

    Raises
    ------
    FileNotFoundError
        A map is missing; the message names what was looked for and where.
    """
    beta = _read_named(node_dir, "beta", "RegressorName", columns)
    stderr = _read_named(node_dir, "se", "ContrastName", columns)
    dof = _read_named(node_dir, "dof", "ContrastName", columns)
    (n_images,) = _read_named(node_dir, "n", None, ("n",)).values()
    return Estimates(beta, stderr, dof, n_images)


def _read_named(
    node_dir: Path, stat: str, key: str | None, names: tuple[str, ...]
) -> dict[str, NDArray[np.float64]]:
    """Read the maps of one statistic, by the name that their sidecars give under `key`."""
    found: dict[str, NDArray[np.float64]] = {}
    for sidecar in sorted(node_dir.glob(f"*_stat-{stat}_statmap.json")):
        name = json.loads(sidecar.read_text(encoding="utf-8"))[key] if key else stat
        if name in names:
            found[name] = np.asarray(
                nib.Nifti1Image.from_filename(sidecar.with_suffix(".nii.gz")).dataobj, dtype=np.float64
            )
    absent = sorted(set(names) - set(found))
    if absent:
        msg = f"no stat-{stat} map of {', '.join(absent)} in {node_dir}"
        raise FileNotFoundError(msg)
    return found


def compare_voxels(estimates: Estimates, columns: tuple[str, ...]) -> tuple[Row, ...]:
    """One row a sphere, and one a column where nothing was planted."""
    places = [(s.column, s.region, s.centre, s.effect) for s in brain.SPHERES]
    places += [(column, *brain.NULL_REGION, 0.0) for column in columns]
    rows = []
    for column, region, centre, effect in places:
        voxel = brain.voxel_at(centre)
        rows.append(
            Row(
                column=column,
                region=region,
                centre=centre,
                n_images=int(estimates.n_images[voxel]),
                planted=effect,
                estimate=float(estimates.beta[column][voxel]),
                stderr=float(estimates.stderr[column][voxel]),
            )
        )
    return tuple(rows)


def coverage(estimates: Estimates, column: str, planted: NDArray[np.float64]) -> float:
    """Share of all fitted voxels whose 95 % confidence interval holds the planted value."""
    stderr = estimates.stderr[column]
    fitted = np.isfinite(stderr) & (stderr > 0)
    deviation = (estimates.beta[column] - planted)[fitted] / stderr[fitted]
    bound = t.ppf(0.5 + INTERVAL / 2, estimates.dof[column][fitted])
    return float(np.mean(np.abs(deviation) <= bound))


def format_table(rows: tuple[Row, ...]) -> str:
    """Plain-text table of the comparison."""
    width = max(len(row.region) for row in rows)
    lines = [
        f"{'column':<9} {'region':<{width}} {'x, y, z (mm)':>14} {'images':>6}"
        f" {'planted':>8} {'estimate':>8} {'SE':>7} {'in SEs':>6}"
    ]
    for row in rows:
        where = ", ".join(f"{value:g}" for value in row.centre)
        lines.append(
            f"{row.column:<9} {row.region:<{width}} {where:>14} {row.n_images:>6}"
            f" {row.planted:>8.3f} {row.estimate:>8.3f} {row.stderr:>7.3f} {row.deviation:>6.1f}"
            + ("" if row.is_close else f"  <- outside {MAX_STANDARD_ERRORS:g} SE")
        )
    return "\n".join(lines)
