"""Read a BIDS Stats Models file's content into frozen records.

No file is opened and no table is needed here: names are checked against the data in `build`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from blmm_bids.design.bars import Bar, quote_name, split_bars, split_response
from blmm_bids.design.contrast_spec import ContrastSpec, DummySpec, parse_contrasts, parse_dummy
from blmm_bids.design.formula import parse_formula
from blmm_bids.design.instructions import Instruction, parse_instructions
from blmm_bids.design.software import NodeOptions, Software, parse_software
from blmm_bids.design.spec_fields import (
    as_choice,
    as_list,
    as_object,
    as_text,
    as_texts,
    check_keys,
    check_unique,
    wrong,
)
from blmm_bids.errors import ModelSpecError

LEVELS = ("Run", "Session", "Subject", "Dataset")
TRANSFORMER = "pybids-transforms-v1"

_WILDCARDS = "*?"

_SPEC_KEYS = ("Name", "BIDSModelVersion", "Description", "Input", "Nodes", "Edges", "Root", "$schema")
_NODE_KEYS = (
    "Level",
    "Name",
    "GroupBy",
    "Transformations",
    "Model",
    "Contrasts",
    "DummyContrasts",
    "Description",
)
_MODEL_KEYS = ("Type", "X", "Formula", "HRF", "Options", "Software", "Description")
_NODE_HINTS = {
    **dict.fromkeys(("Type", "X", "Formula", "Software"), "here; it belongs inside the node's Model"),
    **dict.fromkeys(("RandomEffects", "REML"), "here; it belongs inside the node's Model.Software.blmm"),
}


@dataclass(frozen=True)
class NodeSpec:
    """One Dataset node: one model.

    Attributes
    ----------
    name : str
        As in the spec.
    group_by : tuple of str
        Entities; each combination of their values is a fit of its own.
    transformations : tuple of Instruction
        pybids-transforms-v1, in order.
    formula : str
        Fixed part, without bars.
    bars : tuple of Bar
        Random terms of Formula and RandomEffects, merged.
    reml : bool
        Restricted (default) or full maximum likelihood.
    options : NodeOptions
        The rest of ``Software.blmm``.
    contrasts : tuple of ContrastSpec
        Explicit contrasts.
    dummy_contrasts : DummySpec or None
        One contrast per column, where asked for.
    compare_with : tuple of str
        Names of the nodes that this one is compared with.
    response : str
        Left side that Formula had; it is dropped, and must not be a column.
    """

    name: str
    group_by: tuple[str, ...]
    transformations: tuple[Instruction, ...]
    formula: str
    bars: tuple[Bar, ...]
    reml: bool = True
    options: NodeOptions = field(default_factory=NodeOptions)
    contrasts: tuple[ContrastSpec, ...] = ()
    dummy_contrasts: DummySpec | None = None
    compare_with: tuple[str, ...] = ()
    response: str = ""

    @property
    def formula_text(self) -> str:
        """The whole model as one lme4-like line."""
        return " + ".join([self.formula, *(str(bar) for bar in self.bars)])


@dataclass(frozen=True)
class ModelSpec:
    """A whole model spec.

    Attributes
    ----------
    name, description : str
        As in the spec; empty where absent.
    input : mapping
        The Input block, verbatim.
    nodes : tuple of NodeSpec
        The Dataset nodes, in order.
    notices : tuple of str
        What was skipped or decided, for the log.
    source : mapping
        The dict as given.
    """

    name: str
    description: str
    input: Mapping[str, Any]
    nodes: tuple[NodeSpec, ...]
    notices: tuple[str, ...]
    source: Mapping[str, Any]


def parse_model_spec(spec: Mapping[str, Any]) -> ModelSpec:
    """Check a model spec and read what this app uses of it.

    Parameters
    ----------
    spec : mapping
        Parsed JSON or YAML of a BIDS Stats Models file.

    Returns
    -------
    ModelSpec
        Its Dataset nodes; other nodes are skipped with a notice.

    Raises
    ------
    ModelSpecError
        Anything unknown, of the wrong type, or contradictory; no other error, whatever the input.
    """
    block = as_object(spec, "the file")
    check_keys(block, _SPEC_KEYS, "the file", {"Formula": "here; it belongs inside a node's Model"})
    notices: list[str] = []
    all_nodes = [as_object(node, "each entry of Nodes") for node in as_list(block.get("Nodes"), "Nodes")]
    names = [as_text(node.get("Name"), "Name of a node") for node in all_nodes]
    check_unique(names, "Nodes")
    nodes: list[NodeSpec] = []
    for name, node in zip(names, all_nodes, strict=True):
        level = as_choice(node.get("Level"), f"Level of node '{name}'", LEVELS)
        if level == "Dataset":
            nodes.append(_parse_node(name, node, notices))
        else:
            notices.append(f"node '{name}' ({level}) is skipped: its outputs are what is read")
    if not nodes:
        msg = 'model spec: Nodes has no node with "Level": "Dataset", the level that this app fits'
        raise ModelSpecError(msg)
    _check_comparisons(nodes)
    _check_edges(block.get("Edges"), names, {node.name for node in nodes})
    return ModelSpec(
        name=_optional_text(block, "Name"),
        description=_optional_text(block, "Description"),
        input=_parse_input(block.get("Input")),
        nodes=tuple(nodes),
        notices=tuple(notices),
        source=dict(block),
    )


def spec_from_formula(formula: str, name: str = "group") -> ModelSpec:
    """Make the spec that ``--formula`` stands for.

    Parameters
    ----------
    formula : str
        lme4 formula, ``"age + sex + (1 | subject)"``.
    name : str
        The node's.

    Returns
    -------
    ModelSpec
        One node with a T contrast per column.

    Raises
    ------
    ModelSpecError
        A formula that cannot be read.
    """
    node = {
        "Level": "Dataset",
        "Name": name,
        "GroupBy": [],
        "Model": {"Type": "glm", "X": _formula_variables(formula), "Formula": formula},
        "DummyContrasts": {"Test": "t"},
    }
    return parse_model_spec({"Name": "formula", "BIDSModelVersion": "1.0.0", "Nodes": [node]})


def _formula_variables(formula: str) -> list[Any]:
    """List what a formula uses, as ``X`` would."""
    fixed, _ = split_bars(split_response(as_text(formula, "the formula"))[1])
    parsed = parse_formula(fixed)
    names = [name for name in parsed.covariates if not any(char in name for char in _WILDCARDS)]
    return [1, *names] if () in parsed.terms else names


def _parse_node(name: str, node: Mapping[str, Any], notices: list[str]) -> NodeSpec:
    where = f"node '{name}'"
    check_keys(node, _NODE_KEYS, where, _NODE_HINTS)
    model = as_object(node.get("Model"), f"Model of {where}")
    check_keys(model, _MODEL_KEYS, f"Model of {where}")
    as_choice(model.get("Type", "glm"), f"Type of {where}", ("glm",))
    _check_unsupported(model, where, notices)
    software = parse_software(model.get("Software"), where)
    formula, bars, response = _parse_terms(model, software, where, notices)
    return NodeSpec(
        name=name,
        group_by=as_texts(node.get("GroupBy", []), f"GroupBy of {where}"),
        transformations=_parse_transformations(node.get("Transformations"), where, notices),
        formula=formula,
        bars=bars,
        reml=software.reml,
        options=software.options,
        contrasts=parse_contrasts(node.get("Contrasts"), where),
        dummy_contrasts=parse_dummy(node.get("DummyContrasts"), where),
        compare_with=software.compare_with,
        response=response,
    )


def _check_unsupported(model: Mapping[str, Any], where: str, notices: list[str]) -> None:
    """Refuse what would change the result, and say what is left out."""
    if model.get("HRF") is not None:
        msg = f"model spec: HRF of {where} cannot be applied to a Dataset node; remove it"
        raise ModelSpecError(msg)
    options = as_object(model.get("Options") or {}, f"Options of {where}")
    for key in options:
        if key in ("Mask", "ReplaceVariables", "Aggregate"):
            msg = f"model spec: Options.{key} of {where} is not taken; for a mask use --mask"
            raise ModelSpecError(msg)
        notices.append(f"Options.{key} of {where} is left out: it has no meaning at the Dataset level")


def _parse_terms(
    model: Mapping[str, Any], software: Software, where: str, notices: list[str]
) -> tuple[str, tuple[Bar, ...], str]:
    """Merge X, Formula and RandomEffects into the fixed part, the bars and the dropped left side."""
    listed = _parse_x(model.get("X"), where)
    response = ""
    bars: tuple[Bar, ...] = ()
    if model.get("Formula") is not None:
        text = as_text(model["Formula"], f"Formula of {where}")
        response, text = split_response(text)
        if response:
            notices.append(
                f"the left side '{response}' of the Formula of {where} is dropped: the images are the "
                "response"
            )
        fixed, bars = split_bars(text or "1")
    elif listed is not None:
        names = [quote_name(variable) for variable in listed if variable != 1]
        fixed = " + ".join(["1" if 1 in listed else "0", *names])
        if 1 not in listed:
            notices.append(f"X of {where} has no 1, so its model has no intercept")
    else:
        msg = f'model spec: Model of {where} has neither X nor Formula; write for instance "X": [1, "age"]'
        raise ModelSpecError(msg)
    parsed = parse_formula(fixed)
    bars = (*bars, *software.random_effects)
    _check_duplicates(bars, where)
    in_bars = {name for bar in bars for name in parse_formula(bar.effects).variables}
    if listed is not None:
        notices.extend(
            _only_in_one({str(name) for name in listed if name != 1}, set(parsed.covariates), in_bars, where)
        )
    return fixed, bars, response


def _parse_x(value: object, where: str) -> list[str | Literal[1]] | None:
    if value is None:
        return None
    listed: list[str | Literal[1]] = []
    for item in as_list(value, f"X of {where}"):
        if item == 1 and not isinstance(item, (bool, str)):
            listed.append(1)
        elif isinstance(item, str):
            name = as_text(item, f"each entry of X of {where}")
            if any(char in name for char in _WILDCARDS):
                msg = f"model spec: X of {where} has the wildcard '{name}'; list the variables by name"
                raise ModelSpecError(msg)
            listed.append(name)
        else:
            raise wrong(f"each entry of X of {where}", "a variable's name or 1", item)
    check_unique([str(item) for item in listed], f"X of {where}")
    return listed


def _only_in_one(listed: set[str], fixed: set[str], in_bars: set[str], where: str) -> list[str]:
    notices = [
        f"'{name}' is in X of {where} but not in its Formula, which wins: it is not in the model"
        for name in sorted(listed - fixed - in_bars)
    ]
    notices += [
        f"'{name}' is in the Formula of {where} but not in its X; Formula wins: it is in the model"
        for name in sorted(fixed - listed)
    ]
    return notices


def _check_duplicates(bars: tuple[Bar, ...], where: str) -> None:
    """Refuse two bars that add the same effects to the same factor, however they are spelt."""
    seen: dict[tuple[frozenset[str], frozenset[tuple[str, ...]]], Bar] = {}
    for bar in bars:
        terms = parse_formula(bar.effects).terms
        if not terms:
            msg = f"model spec: {bar} of {where} has no effect; write '1' for an intercept"
            raise ModelSpecError(msg)
        key = (frozenset(bar.group_names), frozenset(terms))
        if key in seen:
            msg = f"model spec: {where} has {bar} twice (Formula and RandomEffects are merged); keep one"
            raise ModelSpecError(msg)
        seen[key] = bar


def _parse_transformations(value: object, where: str, notices: list[str]) -> tuple[Instruction, ...]:
    if value is None:
        return ()
    if isinstance(value, list):
        notices.append(f"Transformations of {where} is a bare list, as in old specs; read as {TRANSFORMER}")
        return parse_instructions(value, where)
    block = as_object(value, f"Transformations of {where}")
    check_keys(block, ("Transformer", "Instructions", "Description"), f"Transformations of {where}")
    as_choice(block.get("Transformer"), f"Transformer of {where}", (TRANSFORMER,))
    return parse_instructions(as_list(block.get("Instructions"), f"Instructions of {where}"), where)


def _parse_input(value: object) -> dict[str, Any]:
    block = as_object(value if value is not None else {}, "Input")
    for key, wanted in block.items():
        for item in wanted if isinstance(wanted, (list, tuple)) else [wanted]:
            if isinstance(item, bool) or not (item is None or isinstance(item, (str, int, float))):
                raise wrong(f"Input.{key}", "a label, null, or a list of these", item)
    return block


def _check_comparisons(nodes: list[NodeSpec]) -> None:
    names = [node.name for node in nodes]
    for node in nodes:
        for other in node.compare_with:
            if other == node.name or other not in names:
                known = ", ".join(name for name in names if name != node.name) or "none"
                msg = (
                    f"model spec: CompareWith of node '{node.name}' names '{other}'; other Dataset "
                    f"nodes: {known}"
                )
                raise ModelSpecError(msg)


def _check_edges(value: object, names: list[str], used: set[str]) -> None:
    for item in as_list(value, "Edges") if value is not None else []:
        edge = as_object(item, "each entry of Edges")
        check_keys(edge, ("Source", "Destination", "Filter", "Description"), "an entry of Edges")
        for end in ("Source", "Destination"):
            if (name := as_text(edge.get(end), f"{end} of an entry of Edges")) not in names:
                msg = f"model spec: {end} of an entry of Edges is '{name}'; Nodes has {', '.join(names)}"
                raise ModelSpecError(msg)
        if edge.get("Filter") and edge["Destination"].strip() in used:
            msg = (
                f"model spec: the Filter of the edge to node '{edge['Destination']}' is not applied; "
                "put it into Input"
            )
            raise ModelSpecError(msg)


def _optional_text(block: Mapping[str, Any], key: str) -> str:
    value = block.get(key)
    if value is not None and not isinstance(value, str):
        raise wrong(key, "text", value)
    return value or ""
