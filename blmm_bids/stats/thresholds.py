"""Which voxels the tables and figures show: a threshold on p, z or q, and a least cluster size."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import special

from blmm_bids.errors import UsageError
from blmm_bids.stats.model import FloatArray

_PATTERN = re.compile(r"\s*(?P<measure>[pqzPQZ])\s*(?P<sign>[<>])\s*(?P<value>[0-9.eE+-]+)\s*")


@dataclass(frozen=True)
class Threshold:
    """What a voxel needs to be in a table.

    Attributes
    ----------
    measure : {"p", "q", "z"}
        Uncorrected p, false discovery rate (Benjamini and Hochberg), or absolute z; p and q are two-sided for
        T contrasts.
    value : float
        Voxels with less p or q, or more z, pass.
    min_voxels : int
        Clusters of fewer voxels are left out.
    """

    measure: Literal["p", "q", "z"] = "p"
    value: float = 0.001
    min_voxels: int = 10

    @property
    def text(self) -> str:
        """In words, for captions and the methods text."""
        what = {
            "p": f"p < {self.value:g} (uncorrected, two-sided for T contrasts)",
            "q": f"a false discovery rate of q < {self.value:g} (Benjamini-Hochberg; two-sided for T)",
            "z": f"|z| > {self.value:g} (uncorrected)",
        }
        return what[self.measure]

    def lowest_z(self, z: FloatArray, q: FloatArray, test: str) -> float:
        """Absolute z above which voxels pass; infinite where none does.

        Parameters
        ----------
        z, q : (voxel,)
            Of one contrast.
        test : {"t", "F"}
            z of an F contrast is one-sided: p is its upper tail.
        """
        if self.measure == "z":
            return self.value
        if self.measure == "p":
            return float(-special.ndtri(self.value / 2 if test == "t" else self.value))
        passing = np.abs(z[q < self.value]) if test == "t" else z[q < self.value]
        # q falls as z rises, so that the least z that passes is the threshold; just below, for it to pass.
        return float(np.nextafter(passing.min(), -np.inf)) if passing.size else float("inf")


def parse_threshold(text: str | None, fdr: float | None, min_voxels: int | None) -> Threshold:
    """Take ``--threshold p<0.001``, ``--fdr 0.05`` and ``--cluster-min 10`` together.

    Raises
    ------
    UsageError
        Says what is not understood, or out of range, or that there are two thresholds.
    """
    if min_voxels is None:
        min_voxels = Threshold.min_voxels
    if min_voxels < 1:
        msg = f"--cluster-min {min_voxels}: wanted 1 voxel or more"
        raise UsageError(msg)
    if text is not None and fdr is not None:
        msg = f"--threshold {text} and --fdr {fdr:g} are two thresholds; give one of them"
        raise UsageError(msg)
    if fdr is not None:
        return _checked(Threshold("q", fdr, min_voxels), f"--fdr {fdr:g}")
    if text is None:
        return Threshold(min_voxels=min_voxels)
    wanted = "wanted 'p<0.001', 'q<0.05' or 'z>3.1' (in quotes, or the shell takes < and > for itself)"
    found = _PATTERN.fullmatch(text)
    if found is None:
        msg = f"--threshold {text}: {wanted}"
        raise UsageError(msg)
    measure = found["measure"].lower()
    try:
        value = float(found["value"])
    except ValueError:
        msg = f"--threshold {text}: {wanted}"
        raise UsageError(msg) from None
    if found["sign"] != (">" if measure == "z" else "<"):
        msg = f"--threshold {text}: {wanted}"
        raise UsageError(msg)
    return _checked(Threshold(measure, value, min_voxels), f"--threshold {text}")  # type: ignore[arg-type]


def _checked(threshold: Threshold, option: str) -> Threshold:
    if threshold.measure == "z" and threshold.value > 0:
        return threshold
    if threshold.measure != "z" and 0 < threshold.value < 1:
        return threshold
    msg = f"{option}: wanted p or q between 0 and 1, or z above 0"
    raise UsageError(msg)
