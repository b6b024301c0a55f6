"""What the page shows, as plain values: nothing here knows HTML."""

from __future__ import annotations

import platform
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import numpy as np

from blmm_bids.outputs.naming import contrast_names
from blmm_bids.outputs.sidecars import described, df_method
from blmm_bids.outputs.uris import input_uri
from blmm_bids.report.heatmap import heatmap
from blmm_bids.stats.model import Status

if TYPE_CHECKING:
    from blmm_bids.outputs.records import MapSeries, RunOutputs, UnitOutputs, UnitResult, Variable
    from blmm_bids.stats.model import RandomTerm

_PACKAGES = ("numpy", "scipy", "numba", "nibabel", "pybids", "formulaic", "dask")
_MANY_SINGULAR = 0.5
_MANY_UNFINISHED = 0.01
_MANY_LEVELS = 12


def page_view(run: RunOutputs, results: Sequence[UnitResult]) -> dict[str, Any]:
    """Everything that the page of one node shows.

    Parameters
    ----------
    run : RunOutputs
        The run.
    results : sequence of UnitResult
        The node's fits, one a GroupBy group.

    Returns
    -------
    dict
        Strings, numbers, lists and dicts of them: the template's variables.
    """
    return {
        "title": results[0].unit.node,
        "model_name": run.name,
        "description": run.description,
        "command": shlex.join(run.command),
        "version": run.version,
        "software": software_versions(),
        "elapsed": duration_text(run.elapsed),
        "warnings": list(run.warnings),
        "units": [unit_view(run, result, number) for number, result in enumerate(results, start=1)],
    }


def unit_view(run: RunOutputs, result: UnitResult, number: int) -> dict[str, Any]:
    """One fit's section of the page."""
    unit = result.unit
    return {
        "anchor": f"fit-{number}",
        "heading": ", ".join(f"{name} {label}" for name, label in unit.group.items()),
        "formula": unit.formula,
        "estimator": estimator_text(unit),
        "df_method": df_method(unit, "F" if any(c.test == "F" for c in unit.contrasts) else "t"),
        "warnings": list(unit.warnings),
        "n_images": len(unit.rows),
        "n_left_out": len(left_out(run, unit)),
        "n_voxels": len(unit.voxels),
        "n_fitted": n_fitted(result.status_counts),
        "reasons": sorted(Counter(reason for _, reason in left_out(run, unit)).items()),
        "left_out": left_out(run, unit),
        "factors": [factor_view(term) for term in unit.design.terms],
        "variables": [variable_view(variable) for variable in unit.variables],
        "statuses": status_rows(result.status_counts),
        "advice": advice(result.status_counts),
        "contrasts": contrast_rows(result),
        "heatmap": heatmap(unit.design.X, unit.design.fixef_names),
        "maps": [file_view(result, spec.filename, described(spec)) for spec in result.maps],
        "series": [series_view(result, series) for series in result.series],
        "tables": [file_view(result, path.name) for path in result.tables],
    }


def file_view(result: UnitResult, name: str, text: str = "") -> dict[str, str]:
    """Link to a file of the fit, relative to the page."""
    return {"href": f"{result.directory.name}/{name}", "name": name, "text": text}


def series_view(result: UnitResult, series: MapSeries) -> dict[str, Any]:
    """Sum up maps that are too many to list."""
    return {
        "n_maps": series.n_maps,
        "text": series.description,
        "first": file_view(result, series.first),
        "last": file_view(result, series.last),
    }


def left_out(run: RunOutputs, unit: UnitOutputs) -> list[tuple[str, str]]:
    """List the images that were not used, and why."""
    pairs = [(input_uri(unit.paths[row], run.sources), reason) for row, reason in unit.dropped]
    if unit.excluded is not None:
        excluded = zip(unit.excluded["path"], unit.excluded["reason"], strict=True)
        pairs += [(input_uri(path, run.sources), str(reason)) for path, reason in excluded]
    return pairs


def estimator_text(unit: UnitOutputs) -> str:
    """Say how the model was fitted, in words."""
    if not unit.design.terms:
        return "ordinary least squares (a linear model: no random effects)"
    criterion = "restricted maximum likelihood (REML)" if unit.fit_options.reml else "maximum likelihood (ML)"
    method = unit.fit_options.method
    return criterion if method == "default" else f"{criterion} by {method}"


def factor_view(term: RandomTerm) -> dict[str, Any]:
    """Describe a random term's factor: its levels and how many images each has."""
    per_level = np.bincount(term.refs, minlength=term.n_levels)
    sizes = Counter(per_level.tolist())
    return {
        "name": term.group,
        "effects": ", ".join(term.effect_names),
        "n_levels": term.n_levels,
        "range": f"{per_level.min()} to {per_level.max()}, median {np.median(per_level):g}",
        "sizes": [{"n_images": size, "n_levels": count} for size, count in sorted(sizes.items())],
        "most": max(sizes.values()),
    }


def variable_view(variable: Variable) -> dict[str, Any]:
    """Describe a variable of the formula."""
    return {
        "name": variable.name,
        "kind": variable.kind,
        "summary": values_text(variable),
        "reference": variable.reference or "",
        "n_missing": variable.n_missing,
    }


def values_text(variable: Variable) -> str:
    """Say which values a variable has: the range of numbers, or the levels where they are few."""
    if variable.minimum is not None and variable.maximum is not None and variable.mean is not None:
        return f"{variable.minimum:g} to {variable.maximum:g}, mean {variable.mean:.4g}"
    if len(variable.levels) > _MANY_LEVELS:
        return f"{len(variable.levels)} levels"
    pairs = zip_longest(variable.levels, variable.counts)
    return ", ".join(str(level) if count is None else f"{level} ({count})" for level, count in pairs)


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
            "share": f"{100 * count / total:.1f} %",
            "is_fitted": Status(code).is_fitted,
            "sentence": Status(code).sentence,
        }
        for code, count in counts.items()
    ]


def advice(counts: Mapping[int, int]) -> list[str]:
    """Say what to make of the statuses."""
    fitted = n_fitted(counts)
    if not fitted:
        return ["No voxel was fitted: see the table for the reason, and change the model or the mask."]
    singular = counts.get(Status.SINGULAR, 0) / fitted
    unfinished = counts.get(Status.MAX_ITER, 0) / fitted
    found = []
    if singular > _MANY_SINGULAR:
        found.append(
            f"{100 * singular:.0f} % of the fitted voxels are singular: the data hold little of the variance "
            "that the random effects stand for. The tests stay valid; a simpler random part may say the same."
        )
    if unfinished > _MANY_UNFINISHED:
        found.append(
            f"{100 * unfinished:.1f} % of the fitted voxels stopped at the iteration limit: their tests are "
            "not to be relied on."
        )
    return found or ["The fits ended well."]


def contrast_rows(result: UnitResult) -> list[dict[str, Any]]:
    """List the contrasts with their weights and how large their statistics are."""
    rows = []
    for contrast, summary in zip(result.unit.contrasts, result.contrasts, strict=True):
        entries = contrast_names(result.unit.design.fixef_names, contrast)
        rows.append(
            {
                "name": contrast.name,
                "test": contrast.test,
                "weights": [weights_text(entries["ConditionList"], row) for row in entries["Weights"]]
                if contrast.test == "F"
                else [weights_text(entries["ConditionList"], entries["Weights"])],
                "largest": "none" if np.isnan(summary.largest) else f"{summary.largest:.2f}",
                "n_voxels": summary.n_voxels,
                "n_small_p": summary.n_small_p,
            }
        )
    return rows


def weights_text(names: Sequence[str], weights: Sequence[float]) -> str:
    """Write a row of weights as a sum, ``age - 2 * time``."""
    text = ""
    for name, weight in zip(names, weights, strict=True):
        if weight == 0:
            continue
        sign = "-" if weight < 0 else "+" if text else ""
        size = "" if abs(weight) == 1 else f"{abs(weight):g} * "
        text += f" {sign} {size}{name}" if text else f"{sign}{size}{name}"
    return text or "0"


def duration_text(seconds: float | None) -> str:
    """Write a duration as hours, minutes and seconds; empty when it is not known."""
    if seconds is None:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def software_versions() -> list[tuple[str, str]]:
    """List Python and the packages that the numbers depend on."""
    found = [("Python", platform.python_version())]
    for package in _PACKAGES:
        try:
            found.append((package, version(package)))
        except PackageNotFoundError:
            continue
    return found
