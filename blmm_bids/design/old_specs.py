"""Model specs of before version 1.0, and keys that were called otherwise then: converted, with a notice."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from blmm_bids.design.spec_fields import as_list, as_object, as_text

_CONTRAST_KEYS = {"Type": "Test"}
_DUMMY_KEYS = {"Type": "Test", "Conditions": "Contrasts", "ConditionList": "Contrasts"}


def convert_steps(block: Mapping[str, Any], notices: list[str]) -> dict[str, Any]:
    """Turn the ``Steps`` of a 0.x spec into nodes, one after the other.

    Parameters
    ----------
    block : mapping
        The whole spec; it is not changed.
    notices : list of str
        What was converted is added.

    Returns
    -------
    dict
        The spec, with ``Nodes`` in place of ``Steps`` where it had no nodes.
    """
    if "Steps" not in block or "Nodes" in block:
        return dict(block)
    nodes: list[dict[str, Any]] = []
    for item in as_list(block["Steps"], "Steps"):
        step = as_object(item, "each entry of Steps")
        level = as_text(step.get("Level"), "Level of an entry of Steps")
        same = sum(node["Level"].casefold() == level.casefold() for node in nodes)
        name = step.get("Name") or level.casefold() + (f"{same + 1}" if same else "")
        node = {**step, "Name": name, "Level": level}
        if level.casefold() == "dataset":
            node.setdefault("Model", {"X": [1]})
            node.setdefault("GroupBy", ["contrast"])
        nodes.append(node)
    names = ", ".join(f"'{node['Name']}'" for node in nodes)
    notices.append(
        f"Steps, of specs before version 1.0, are read as Nodes ({names}) that follow each other; where the "
        'Dataset step says nothing else, as "GroupBy": ["contrast"] and "X": [1]'
    )
    rest = {key: value for key, value in block.items() if key != "Steps"}
    return {**rest, "Nodes": nodes}


def rename_old_keys(node: Mapping[str, Any], where: str, notices: list[str]) -> dict[str, Any]:
    """Give the keys of a Dataset node's contrasts the names that they have now.

    Parameters
    ----------
    node : mapping
        It is not changed.
    where : str
        The node, for notices.
    notices : list of str
        What was renamed is added.
    """
    renamed: dict[str, str] = {}
    result = dict(node)
    if isinstance(node.get("DummyContrasts"), Mapping):
        result["DummyContrasts"] = _renamed(node["DummyContrasts"], _DUMMY_KEYS, renamed)
    elif node.get("DummyContrasts") in (True, False):
        result["DummyContrasts"] = {"Test": "t"} if node["DummyContrasts"] else None
    if isinstance(node.get("Contrasts"), list):
        result["Contrasts"] = [
            _renamed(each, _CONTRAST_KEYS, renamed) if isinstance(each, Mapping) else each
            for each in node["Contrasts"]
        ]
    if renamed:
        told = ", ".join(f"{old} as {new}" for old, new in renamed.items())
        notices.append(f"contrasts of {where} have keys of before version 1.0: {told}")
    return result


def _renamed(block: Mapping[str, Any], names: Mapping[str, str], renamed: dict[str, str]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in block.items():
        new = names.get(key)
        if new is None or new in block:
            result[key] = value
        else:
            renamed[key] = new
            result[new] = value
    return result
