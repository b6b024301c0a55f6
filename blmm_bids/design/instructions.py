"""Read the transformations of a node, those of pybids-transforms-v1 that make sense for one row per image."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from blmm_bids.design.columns import label
from blmm_bids.design.queries import parse_query
from blmm_bids.design.spec_fields import (
    as_choice,
    as_flag,
    as_list,
    as_object,
    as_text,
    check_keys,
    check_unique,
    wrong,
)
from blmm_bids.errors import ModelSpecError

OUTPUT_KEYS = ("Output", "OutputPrefix", "OutputSuffix")
_KEYS: Mapping[str, tuple[str, ...]] = {
    "Factor": ("Constraint", "RefLevel", "Sep"),
    "Scale": ("Demean", "Rescale", "ReplaceNA", "GroupBy", *OUTPUT_KEYS),
    "Demean": ("GroupBy", *OUTPUT_KEYS),
    "Copy": OUTPUT_KEYS,
    "Rename": OUTPUT_KEYS,
    "Replace": ("Replace", "Attribute", *OUTPUT_KEYS),
    "Product": ("Output",),
    "Filter": ("Query", "By"),
    "DropNA": (),
}
ROW_WISE = ("Filter", "DropNA")


@dataclass(frozen=True)
class Instruction:
    """One transformation.

    Attributes
    ----------
    name : str
        As in pybids-transforms-v1.
    inputs : tuple of str
        Variables, wildcards allowed.
    arguments : mapping
        The other keys, checked.
    """

    name: str
    inputs: tuple[str, ...]
    arguments: Mapping[str, Any]


def parse_instructions(instructions: Sequence[object], where: str) -> tuple[Instruction, ...]:
    """Check the instructions of a node.

    Parameters
    ----------
    instructions : sequence
        Content of ``Instructions``.
    where : str
        The node, for messages.

    Returns
    -------
    tuple of Instruction
        In order.

    Raises
    ------
    ModelSpecError
        A transformation that is not taken, unknown keys or wrong types.
    """
    return tuple(_parse_instruction(item, where) for item in instructions)


def _parse_instruction(value: object, where: str) -> Instruction:
    block = as_object(value, f"each entry of Instructions of {where}")
    given = as_text(block.get("Name"), f"Name of a transformation of {where}")
    name = next((known for known in _KEYS if known.casefold() == given.casefold()), None)
    if name is None:
        msg = (
            f"model spec: transformation '{given}' of {where} is not taken; those taken are "
            f"{', '.join(_KEYS)}"
        )
        raise ModelSpecError(msg)
    where = f"transformation {name} of {where}"
    check_keys(block, ("Name", "Input", "Description", *_KEYS[name]), where)
    inputs = _texts(block.get("Input"), f"Input of {where}")
    if not inputs and name != "Filter":
        raise wrong(f"Input of {where}", "a list of variables", block.get("Input"))
    arguments = {
        key: read(block[key], f"{key} of {where}")
        for key, read in _ARGUMENTS.items()
        if block.get(key) is not None
    }
    _check_arguments(name, inputs, arguments, where)
    return Instruction(name, inputs, arguments)


def _texts(value: object, where: str) -> tuple[str, ...]:
    entries = [] if value is None else [value] if isinstance(value, str) else as_list(value, where)
    names = tuple(as_text(entry, f"each entry of {where}") for entry in entries)
    check_unique(names, where)
    return names


def _replacements(value: object, where: str) -> dict[str, Any]:
    block = (
        {label(key): item for key, item in value.items()}
        if isinstance(value, Mapping)
        else as_object(value, where)
    )
    for item in block.values():
        if item is not None and not isinstance(item, (str, int, float)):
            raise wrong(f"each value of {where}", "a number, text or null", item)
    return block


def _level(value: object, where: str) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise wrong(where, "a level's name", value)
    return label(value)


def _string(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise wrong(where, "text", value)
    return value


_ARGUMENTS: Mapping[str, Callable[[object, str], Any]] = {
    "Constraint": lambda value, where: as_choice(value, where, ("none", "drop_one", "mean_zero")),
    "RefLevel": _level,
    "Sep": _string,
    "Demean": as_flag,
    "Rescale": as_flag,
    "ReplaceNA": lambda value, where: as_choice(value, where, ("off", "before", "after")),
    "GroupBy": _texts,
    "Replace": _replacements,
    "Attribute": lambda value, where: as_choice(value, where, ("value",)),
    "Query": as_text,
    "By": _texts,
    "Output": _texts,
    "OutputPrefix": _string,
    "OutputSuffix": _string,
}


def _check_arguments(name: str, inputs: Sequence[str], arguments: Mapping[str, Any], where: str) -> None:
    outputs = arguments.get("Output")
    if name in ("Copy", "Rename") and not any(arguments.get(key) for key in OUTPUT_KEYS):
        msg = f"model spec: {where} needs Output, the new name"
        raise ModelSpecError(msg)
    if name == "Product" and (outputs is None or len(outputs) != 1):
        msg = f"model spec: {where} needs one Output"
        raise ModelSpecError(msg)
    has_wildcards = any("*" in entry or "?" in entry for entry in inputs)
    if outputs is not None and name != "Product" and (has_wildcards or len(outputs) != len(inputs)):
        msg = (
            f"model spec: {where} has {len(inputs)} Input and {len(outputs)} Output; name one Output "
            "for each Input"
        )
        raise ModelSpecError(msg)
    if name == "Replace" and not arguments.get("Replace"):
        msg = f'model spec: {where} needs Replace, an object such as {{"old": "new"}}'
        raise ModelSpecError(msg)
    if name == "Filter":
        if "Query" not in arguments:
            msg = f'model spec: {where} needs Query, as in "age > 18"'
            raise ModelSpecError(msg)
        parse_query(arguments["Query"])
