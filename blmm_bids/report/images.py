"""The images of a fit: coverage, outliers and leverage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from blmm_bids.bids.names import distinct_names, parse_name
from blmm_bids.report.charts import Chart, count_chart, histogram, scatter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from blmm_bids.report.fit import ReportFit
    from blmm_bids.stats.model import FloatArray

# Rows of the table in the page; the file has all.
MAX_ROWS = 1500
# Boxplot-like bound on the distance from the median, in robust standard deviations.
_FAR = 3.5
_MAD_TO_SD = 1.4826
# % of the mask that an image may lack without a flag.
_MANY_MISSING = 5.0
# Entities that are in each name and tell no image from another.
_DULL = ("suffix", "extension", "datatype")


def images_view(fit: ReportFit) -> dict[str, Any]:
    """Table and charts of the images fitted."""
    used = fit.used
    names = short_names(used["image"].tolist())
    missing = 100 * fit.numbers("n_voxels_missing") / max(fit.stored.n_voxels, 1)
    mean, spread = fit.numbers("image_mean"), fit.numbers("image_sd")
    leverage = hat_values(fit.design.X)
    flags = _flags(missing, mean, spread, leverage, fit.design.n_fixef)
    kinds = ["flagged" if flag else "" for flag in flags]
    rows = [
        {
            "name": names[row],
            "coverage": 100 - missing[row],
            "mean": mean[row],
            "sd": spread[row],
            "leverage": leverage[row],
            "flags": ", ".join(flags[row]),
        }
        for row in range(len(names))
    ]
    # The odd ones first, so that they are in the page however many images there are.
    order = sorted(range(len(rows)), key=lambda row: (not flags[row], row))
    return {
        "rows": [rows[row] for row in order[:MAX_ROWS]],
        "n_rows": len(rows),
        "n_flagged": sum(map(bool, flags)),
        "scatter": scatter(
            mean, spread, names, kinds, "Mean and standard deviation of each image",
            ("mean of the image", "standard deviation"),
        ),
        "leverage": scatter(
            np.arange(1, len(names) + 1, dtype=np.float64), leverage, names, kinds,
            "Leverage of each image on the fixed effects", ("image, in the order of the design", "leverage"),
        ),
        "coverage": histogram(missing, "Images by the share of voxels that they lack", "% of voxels missing",
                              "images"),
        "counts": _images_per_voxel(fit),
    }  # fmt: skip


def _images_per_voxel(fit: ReportFit) -> Chart | None:
    counts = fit.volume(fit.files("n")[0]).reshape(-1)[fit.inside > 0]
    return count_chart(counts, "Voxels by number of images with a value", "images with a value", "voxels")


def hat_values(matrix: FloatArray) -> FloatArray:
    """Leverage of each row: diagonal of ``X (X'X)^-1 X'``, (obs,)."""
    basis = np.linalg.qr(matrix)[0]
    leverage: FloatArray = np.einsum("ij,ij->i", basis, basis)
    return leverage


def far_from_median(values: FloatArray) -> NDArray[np.bool_]:
    """Whether each value is more than `_FAR` robust standard deviations from the median; never NaN."""
    finite = np.isfinite(values)
    if not finite.any():
        return np.zeros(values.shape, dtype=bool)
    median = np.median(values[finite])
    spread = _MAD_TO_SD * np.median(np.abs(values[finite] - median))
    if spread == 0:
        return np.zeros(values.shape, dtype=bool)
    far: NDArray[np.bool_] = finite & (np.abs(np.where(finite, values, median) - median) > _FAR * spread)
    return far


def _flags(
    missing: FloatArray, mean: FloatArray, spread: FloatArray, leverage: FloatArray, n_fixef: int
) -> list[list[str]]:
    """Say what is unusual of each image."""
    checks = {
        # What is missing is skewed, so that being far from the median alone says little.
        "few voxels": far_from_median(missing) & (missing > _MANY_MISSING),
        "mean": far_from_median(mean),
        "spread": far_from_median(spread),
        # Three times the mean leverage, a usual rule of thumb.
        "leverage": leverage > 3 * n_fixef / len(leverage),
    }
    return [[name for name, found in checks.items() if found[row]] for row in range(len(leverage))]


def short_names(images: Sequence[str]) -> list[str]:
    """Names of images, given by their URIs, without the entities that all of them share."""
    names = distinct_names([image.split(":", 2)[-1] for image in images])
    parsed = [parse_name(name) for name in names]
    if not names or any(each is None for each in parsed):
        return list(names)
    entities = [dict(each.entities) for each in parsed if each is not None]
    keys = list(dict.fromkeys(key for each in entities for key in each if key not in _DULL))
    varying = [key for key in keys if len({each.get(key) for each in entities}) > 1]
    short = [" ".join(f"{key} {each[key]}" for key in varying if key in each) for each in entities]
    return short if len(set(short)) == len(short) else list(names)
