"""Read a BIDS Stats Models file's content into frozen records.

No file is opened and no table is needed here: names are checked against the data in `build`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from blmm_bids.design.bars import Bar, quote_name, split_bars, split_response
from blmm_bids.design.contrast_spec import ContrastSpec, DummySpec, parse_contrasts, parse_dummy
from blmm_bids.design.formula import parse_formula
from blmm_bids.design.instructions import Instruction, parse_instructions
from blmm_bids.design.lower_nodes import Edge, LowerNode, edges_into, parse_lower_node
from blmm_bids.design.old_specs import convert_steps, rename_old_keys
from blmm_bids.design.software import NodeOptions, parse_components, parse_software
from blmm_bids.design.spec_fields import (
    as_choice,
    as_labels,
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
_MODEL_KEYS = ("Type", "X", "Formula", "HRF", "Options", "Software", "VarianceComponents", "Description")
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
        Entities and columns; each combination of their values is a fit of its own.
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
    edges : tuple of Edge
        The lower nodes whose maps are read, and which of these; empty: the images of Input.
    mask_filter : mapping of str to tuple of str
        ``Options.Mask``: entities of the masks that apply to the images; empty: those that come with them.
    references : mapping of str to str
        Categorical variables to the level that the others are compared with.
    listed : tuple of (str or 1)
        X, where it has wildcards and there is no Formula: `formula` is that of X without them expanded.
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
    edges: tuple[Edge, ...] = ()
    mask_filter: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    references: Mapping[str, str] = field(default_factory=dict)
    listed: tuple[str | Literal[1], ...] = ()

    @property
    def sources(self) -> tuple[LowerNode, ...]:
        """The lower nodes whose maps are read."""
        return tuple(edge.source for edge in self.edges if edge.source is not None)

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
    given = as_object(spec, "the file")
    notices: list[str] = []
    block = convert_steps(given, notices)
    check_keys(block, _SPEC_KEYS, "the file", {"Formula": "here; it belongs inside a node's Model"})
    all_nodes = [as_object(node, "each entry of Nodes") for node in as_list(block.get("Nodes"), "Nodes")]
    names = [as_text(node.get("Name"), "Name of a node") for node in all_nodes]
    check_unique(names, "Nodes")
    dataset_nodes: dict[str, dict[str, Any]] = {}
    lower: dict[str, LowerNode] = {}
    for name, node in zip(names, all_nodes, strict=True):
        level = as_choice(node.get("Level"), f"Level of node '{name}'", LEVELS)
        if level == "Dataset":
            dataset_nodes[name] = node
        else:
            lower[name] = parse_lower_node(name, level, node)
            notices.append(f"node '{name}' ({level}) is skipped: its outputs are what is read")
    if not dataset_nodes:
        msg = 'model spec: Nodes has no node with "Level": "Dataset", the level that this app fits'
        raise ModelSpecError(msg)
    edges = edges_into(block.get("Edges"), names, lower, notices)
    nodes = [_parse_node(name, node, edges[name], notices) for name, node in dataset_nodes.items()]
    _check_comparisons(nodes)
    return ModelSpec(
        name=_optional_text(block, "Name"),
        description=_optional_text(block, "Description"),
        input=_parse_input(block.get("Input")),
        nodes=tuple(nodes),
        notices=tuple(notices),
        source=dict(given),
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
    names = [name for name in parsed.covariates if not is_wildcard(name)]
    return [1, *names] if () in parsed.terms else names


def _parse_node(name: str, given: Mapping[str, Any], edges: tuple[Edge, ...], notices: list[str]) -> NodeSpec:
    where = f"node '{name}'"
    node = rename_old_keys(given, where, notices)
    check_keys(node, _NODE_KEYS, where, _NODE_HINTS)
    model = as_object(node.get("Model"), f"Model of {where}")
    check_keys(model, _MODEL_KEYS, f"Model of {where}")
    as_choice(model.get("Type", "glm"), f"Type of {where}", ("glm",))
    mask_filter = _parse_options(model, where, notices)
    software = parse_software(model.get("Software"), where)
    components = parse_components(model.get("VarianceComponents"), where, notices)
    bars = (*software.random_effects, *components)
    formula, bars, response = _parse_terms(model, bars, where, notices)
    listed = () if model.get("Formula") is not None else _parse_x(model.get("X"), where) or ()
    return NodeSpec(
        name=name,
        group_by=_parse_group_by(node, edges, where, notices),
        transformations=_parse_transformations(node.get("Transformations"), where, notices),
        formula=formula,
        bars=bars,
        reml=software.reml,
        options=software.options,
        contrasts=parse_contrasts(node.get("Contrasts"), where),
        dummy_contrasts=parse_dummy(node.get("DummyContrasts"), where),
        compare_with=software.compare_with,
        response=response,
        edges=edges,
        mask_filter=mask_filter,
        listed=tuple(listed) if any(map(is_wildcard, listed)) else (),
        references=software.references,
    )


def _parse_group_by(
    node: Mapping[str, Any], edges: Sequence[Edge], where: str, notices: list[str]
) -> tuple[str, ...]:
    if node.get("GroupBy") is None and edges:
        notices.append(
            f'{where} has no GroupBy: each input contrast is a fit of its own ("GroupBy": ["contrast"])'
        )
        return ("contrast",)
    return as_texts(node.get("GroupBy") or [], f"GroupBy of {where}")


def _parse_options(model: Mapping[str, Any], where: str, notices: list[str]) -> dict[str, tuple[str, ...]]:
    """Read Options.Mask, refuse what would change the result, and say what is left out."""
    if model.get("HRF") is not None:
        msg = f"model spec: HRF of {where} cannot be applied to a Dataset node; remove it"
        raise ModelSpecError(msg)
    options = as_object(model.get("Options") or {}, f"Options of {where}")
    for key in options:
        if key in ("ReplaceVariables", "Aggregate"):
            msg = f"model spec: Options.{key} of {where} is not taken; remove it"
            raise ModelSpecError(msg)
        if key != "Mask":
            notices.append(f"Options.{key} of {where} is left out: it has no meaning at the Dataset level")
    block = as_object(options.get("Mask") or {}, f"Options.Mask of {where}")
    mask_filter = {key: as_labels(labels, f"Options.Mask.{key} of {where}") for key, labels in block.items()}
    if mask_filter.get("suffix", ("mask",)) != ("mask",):
        msg = (
            f"model spec: Options.Mask of {where} has the suffix {', '.join(mask_filter['suffix'])}; masks "
            "end in _mask. For another image use --mask FILE"
        )
        raise ModelSpecError(msg)
    chosen = {key: labels for key, labels in mask_filter.items() if key not in ("suffix", "datatype")}
    # The usual one; it is what is done without it, after masks that an image has of its own.
    return {} if chosen == {"desc": ("brain",)} else chosen


def _parse_terms(
    model: Mapping[str, Any], random: tuple[Bar, ...], where: str, notices: list[str]
) -> tuple[str, tuple[Bar, ...], str]:
    """Merge X, Formula and the random terms into the fixed part, the bars and the dropped left side."""
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
        fixed = formula_of_x(listed)
        if 1 not in listed:
            notices.append(f"X of {where} has no 1, so its model has no intercept")
    else:
        msg = f'model spec: Model of {where} has neither X nor Formula; write for instance "X": [1, "age"]'
        raise ModelSpecError(msg)
    parsed = parse_formula(fixed)
    bars = (*bars, *random)
    _check_duplicates(bars, where)
    in_bars = {name for bar in bars for name in parse_formula(bar.effects).variables}
    if listed is not None:
        notices.extend(
            _only_in_one({str(name) for name in listed if name != 1}, set(parsed.covariates), in_bars, where)
        )
    return fixed, bars, response


def formula_of_x(listed: Sequence[str | int]) -> str:
    """Write the columns of X as a formula."""
    return " + ".join(["1" if 1 in listed else "0", *(quote_name(str(name)) for name in listed if name != 1)])


def is_wildcard(name: object) -> bool:
    """Whether an entry of X stands for several variables."""
    return isinstance(name, str) and any(char in name for char in "*?")


def _parse_x(value: object, where: str) -> list[str | Literal[1]] | None:
    if value is None:
        return None
    listed: list[str | Literal[1]] = []
    for item in as_list(value, f"X of {where}"):
        if item == 1 and not isinstance(item, (bool, str)):
            listed.append(1)
        elif isinstance(item, str):
            listed.append(as_text(item, f"each entry of X of {where}"))
        else:
            raise wrong(f"each entry of X of {where}", "a variable's name or 1", item)
    check_unique([str(item) for item in listed], f"X of {where}")
    return listed


def _only_in_one(listed: set[str], fixed: set[str], in_bars: set[str], where: str) -> list[str]:
    """Say once where X and Formula differ: Formula is the model."""
    absent, added = sorted(listed - fixed - in_bars), sorted(fixed - listed)
    if not listed and added:
        return [f"X of {where} lists no variable beside a Formula: the Formula is the model"]
    parts: list[str] = []
    for names, sentence in (
        (absent, "in X of {where} but not in its Formula, which wins: {they} not in the model"),
        (added, "in the Formula of {where} but not in its X; Formula wins: {they} in the model"),
    ):
        if names:
            be, they = ("is", "it is") if len(names) == 1 else ("are", "they are")
            shown = ", ".join(f"'{name}'" for name in names)
            parts.append(f"{shown} {be} {sentence.format(where=where, they=they)}")
    return ["; ".join(parts)] if parts else []


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


def _optional_text(block: Mapping[str, Any], key: str) -> str:
    value = block.get(key)
    if value is not None and not isinstance(value, str):
        raise wrong(key, "text", value)
    return value or ""
