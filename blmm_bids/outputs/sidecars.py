"""The JSON file beside each map.

No key may be a BIDS entity's name (``stat``, ``contrast``, ``task`` …): pybids then refuses the whole
dataset. All keys are in CamelCase, which no entity is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from blmm_bids.outputs.registry import Scope
from blmm_bids.outputs.uris import input_uri, output_uri
from blmm_bids.stats.model import Status

if TYPE_CHECKING:
    from pathlib import Path

    from blmm_bids.outputs.naming import MapSpec
    from blmm_bids.outputs.records import ComparisonOutputs, RunOutputs, UnitOutputs

# Above this many images each sidecar would be larger than its map: the table of inputs lists them instead.
MAX_LISTED_SOURCES = 1000

_DF_METHODS = {
    "expected": "Satterthwaite, with the expected information of the criterion that was maximised",
    "ml-expected": "Satterthwaite, with the expected information of the full likelihood (as BLMM)",
    "observed": "Satterthwaite, with the observed information (as lmerTest)",
}
_ONE_SIDED = ("logp", "p")
_TWO_SIDED = ("logp2", "fdr", "fdrBY")


def map_sidecar(spec: MapSpec, run: RunOutputs, unit: UnitOutputs, sources: Sequence[str]) -> dict[str, Any]:
    """Content of one map's sidecar.

    Parameters
    ----------
    spec : MapSpec
        The map.
    run : RunOutputs
        The run that it belongs to.
    unit : UnitOutputs
        The fit that it belongs to.
    sources : sequence of str
        BIDS URIs from `source_uris`, the same for all maps of the fit.

    Returns
    -------
    dict
        In the order in which it is written.
    """
    quantity = spec.quantity
    content: dict[str, Any] = {
        "Description": described(spec),
        "Sources": list(sources),
        "Statistic": quantity.name,
        "Units": quantity.units,
        "MapType": quantity.map_type,
    }
    if quantity.scope is Scope.MASK:
        content["Type"] = "ROI"
        del content["Statistic"], content["MapType"]
    content |= model_entries(unit)
    content |= spec.names
    if spec.contrast is not None:
        content["DegreesOfFreedomMethod"] = df_method(unit, spec.contrast.test)
    if quantity.scope is Scope.T and quantity.name in _ONE_SIDED:
        content["Alternative"] = "greater"
    elif quantity.scope is Scope.T and quantity.name in _TWO_SIDED:
        content["Alternative"] = "two-sided"
    if quantity.name == "status":
        content["Levels"] = {str(int(status)): status.sentence for status in Status}
    content["SoftwareVersion"] = run.version
    return content


def comparison_sidecar(spec: MapSpec, run: RunOutputs, comparison: ComparisonOutputs) -> dict[str, Any]:
    """Content of the sidecar of one map of a likelihood ratio test."""
    content: dict[str, Any] = {
        "Description": described(spec),
        "Sources": list(comparison.sources),
        "Statistic": spec.quantity.name,
        "Units": spec.quantity.units,
        "MapType": spec.quantity.map_type,
        "Method": "REML" if comparison.reml else "ML",
        "LargerModel": {"Name": comparison.larger, "ModelFormula": comparison.larger_formula},
        "SmallerModel": {"Name": comparison.smaller, "ModelFormula": comparison.smaller_formula},
        "ReferenceDistribution": comparison.distribution,
    }
    if comparison.notice:
        content["Notice"] = comparison.notice
    return content | {"SoftwareVersion": run.version}


def described(spec: MapSpec) -> str:
    """Say what a map holds, and of what."""
    sentence = spec.quantity.description
    return f"{sentence.removesuffix('.')}: {spec.subject}." if spec.subject else sentence


def model_entries(unit: UnitOutputs) -> dict[str, Any]:
    """Sidecar entries that say which model was fitted, and how.

    A formula alone does not say which level treatment coding compares the others with.
    """
    entries: dict[str, Any] = {
        "Method": "REML" if unit.fit_options.reml else "ML",
        "ModelFormula": unit.formula,
        "ModelNode": unit.node,
    }
    if references := {each.name: each.reference for each in unit.variables if each.reference}:
        entries["ReferenceLevels"] = references
    return entries


def df_method(unit: UnitOutputs, test: str) -> str:
    """Say how the degrees of freedom of this fit's T or F contrasts came about."""
    return df_method_text(unit.fit_options.satterthwaite, test, is_mixed=bool(unit.design.terms))


def df_method_text(satterthwaite: str, test: str, *, is_mixed: bool) -> str:
    """Say how the degrees of freedom of T or F contrasts of a mixed or a linear model come about."""
    if not is_mixed:
        return "residual: images less fixed effects (a linear model)"
    method = _DF_METHODS[satterthwaite]
    return f"{method}; combined as in Fai and Cornelius (1996)" if test == "F" else method


def source_uris(run: RunOutputs, unit: UnitOutputs, inputs_table: Path) -> list[str]:
    """BIDS URIs of the images fitted, or of the table that lists them where they are many."""
    if len(unit.rows) > MAX_LISTED_SOURCES:
        return [output_uri(inputs_table, run.output_dir)]
    return [input_uri(unit.paths[row], run.sources) for row in unit.rows]
