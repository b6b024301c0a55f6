"""What a Dataset node reads: the maps of the lower nodes that Edges, or their order, connect it with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from blmm_bids.design.spec_fields import as_labels, as_list, as_object, as_text, as_texts, check_keys
from blmm_bids.errors import ModelSpecError

_EDGE_KEYS = ("Source", "Destination", "Filter", "Description")
_USUAL_GROUP_BY = {
    "Run": ("run", "session", "subject"),
    "Session": ("session", "subject"),
    "Subject": ("subject",),
}


@dataclass(frozen=True)
class LowerNode:
    """A Run, Session or Subject node; others have fitted it, and its maps are read.

    Attributes
    ----------
    name : str
        As in the spec.
    level : {"Run", "Session", "Subject"}
    group_by : tuple of str
        What its maps are told apart by; that of its level where the spec says nothing.
    """

    name: str
    level: str
    group_by: tuple[str, ...]


@dataclass(frozen=True)
class Edge:
    """One way into a Dataset node.

    Attributes
    ----------
    source : LowerNode or None
        Whose maps come this way; None: the images of Input.
    filter : mapping of str to tuple of str
        Entities and columns -> labels of the maps that are read.
    """

    source: LowerNode | None
    filter: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def parse_lower_node(name: str, level: str, node: Mapping[str, Any]) -> LowerNode:
    """Read what matters of a node that this app does not fit.

    Raises
    ------
    ModelSpecError
        GroupBy is no list of names.
    """
    given = node.get("GroupBy")
    group_by = _USUAL_GROUP_BY[level] if given is None else as_texts(given, f"GroupBy of node '{name}'")
    return LowerNode(name, level, group_by)


def edges_into(
    value: object, names: Sequence[str], lower: Mapping[str, LowerNode], notices: list[str]
) -> dict[str, tuple[Edge, ...]]:
    """Find what each Dataset node reads.

    Parameters
    ----------
    value : object
        ``Edges``; None or empty where the nodes follow each other in order.
    names : sequence of str
        All nodes, in order.
    lower : mapping of str to LowerNode
        Those of them that are no Dataset nodes.
    notices : list of str
        What was assumed is added.

    Returns
    -------
    dict of str to tuple of Edge
        For each Dataset node. Without edges, each reads the last lower node before it.

    Raises
    ------
    ModelSpecError
        A name that no node has, a filter that is none, or a Dataset node that reads another one.
    """
    found: dict[str, list[Edge]] = {name: [] for name in names if name not in lower}
    listed = as_list(value, "Edges") if value is not None else []
    for item in listed:
        source, destination, wanted = _parse_edge(item, names)
        if destination not in found:
            if wanted:
                notices.append(
                    f"the Filter of the edge from '{source}' to '{destination}' is for whoever fits these "
                    "nodes: the maps are read as they are"
                )
            continue
        if source not in lower:
            msg = (
                f"model spec: node '{destination}' reads the Dataset node '{source}': a model of group maps, "
                "which would need those first. Run them one after the other, the second with its own spec on "
                "the output dataset of the first; or let the edge come from the node with the subjects' maps"
            )
            raise ModelSpecError(msg)
        found[destination].append(Edge(lower[source], wanted))
    last: LowerNode | None = None
    previous = ""
    for name in names:
        last = lower.get(name, last)
        if name in found and not found[name] and last is not None:
            found[name].append(Edge(last))
            if listed or previous:
                why = "no entry of Edges leads to it" if listed else f"not those of '{previous}'"
                notices.append(
                    f"node '{name}' reads the maps of '{last.name}', the last lower node before it ({why})"
                )
        previous = name if name in found else previous
    return {name: tuple(edges) for name, edges in found.items()}


def _parse_edge(item: object, names: Sequence[str]) -> tuple[str, str, dict[str, tuple[str, ...]]]:
    edge = as_object(item, "each entry of Edges")
    check_keys(edge, _EDGE_KEYS, "an entry of Edges")
    ends = [as_text(edge.get(end), f"{end} of an entry of Edges") for end in ("Source", "Destination")]
    for end, name in zip(("Source", "Destination"), ends, strict=True):
        if name not in names:
            msg = f"model spec: {end} of an entry of Edges is '{name}'; Nodes has {', '.join(names)}"
            raise ModelSpecError(msg)
    where = f"Filter of the edge to node '{ends[1]}'"
    block = as_object(edge.get("Filter") or {}, where)
    return ends[0], ends[1], {key: as_labels(labels, f"{where}, '{key}',") for key, labels in block.items()}
