"""The summary of a fit: what was fitted, to how many images, and how the fits ended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from blmm_bids.report import wording
from blmm_bids.report.model import images_per_level
from blmm_bids.stats.model import Status

if TYPE_CHECKING:
    from blmm_bids.report.fit import ReportFit

_MANY_SINGULAR = 0.5
_MANY_UNFINISHED = 0.01


def summary_view(fit: ReportFit) -> dict[str, Any]:
    """Numbers and sentences at the top of a fit's section."""
    stored = fit.stored
    counts = stored.status_counts
    reasons = Counter(fit.left_out["reason"])
    return {
        "heading": stored.title,
        "formula": stored.formula,
        "words": wording.model_text(stored),
        "estimator": wording.estimator_text(stored),
        "df_method": wording.df_text(stored),
        "warnings": list(stored.warnings),
        "notes": list(stored.notes),
        "troubles": [headline for headline, _ in troubles(counts)],
        "n_found": len(fit.inputs),
        "n_images": stored.n_images,
        "n_left_out": len(fit.left_out),
        "reasons": sorted(reasons.items()),
        "left_out": list(zip(fit.left_out["image"], fit.left_out["reason"], strict=True)),
        "without_images": list(stored.without_images),
        "n_voxels": stored.n_voxels,
        "n_fitted": n_fitted(counts),
        "factors": [
            {"name": term.group, "n_levels": term.n_levels, "images": images_per_level(term)}
            for term in fit.design.terms
        ],
        "statuses": status_rows(counts),
        "advice": advice(counts),
    }


def n_fitted(counts: Mapping[int, int]) -> int:
    """Count the voxels with estimates."""
    return sum(count for code, count in counts.items() if Status(code).is_fitted)


def status_rows(counts: Mapping[int, int]) -> list[dict[str, Any]]:
    """List each status that occurs with its voxels, share and sentence."""
    total = sum(counts.values())
    return [
        {
            "code": code,
            "n_voxels": count,
            "percent": 100 * count / total,
            "share": f"{100 * count / total:.1f} %",
            "kind": _kind(Status(code)),
            "sentence": Status(code).sentence,
        }
        for code, count in counts.items()
    ]


def _kind(status: Status) -> str:
    """Class of a status, for its colour."""
    if status is Status.CONVERGED:
        return "good"
    return "fair" if status is Status.SINGULAR else "poor"


def advice(counts: Mapping[int, int]) -> list[str]:
    """Say how the fits ended and what to make of it."""
    return [f"{headline}: {meaning}" for headline, meaning in troubles(counts)] or ["The fits ended well."]


def troubles(counts: Mapping[int, int]) -> list[tuple[str, str]]:
    """List what a reader has to know of the statuses: in short, and what to make of it."""
    fitted = n_fitted(counts)
    if not fitted:
        return [("No voxel was fitted", "see the table for the reason, and change the model or the mask.")]
    singular = counts.get(Status.SINGULAR, 0) / fitted
    unfinished = counts.get(Status.MAX_ITER, 0) / fitted
    found = []
    if singular > _MANY_SINGULAR:
        found.append(
            (
                f"{100 * singular:.0f} % of the fitted voxels are singular",
                "the data hold little of the variance that the random effects stand for. The tests stay "
                "valid; a simpler random part may say the same.",
            )
        )
    if unfinished > _MANY_UNFINISHED:
        found.append(
            (
                f"{100 * unfinished:.1f} % of the fitted voxels stopped at the iteration limit",
                "their tests are not to be relied on.",
            )
        )
    return found
