"""Read ``Model.Software.blmm``: random effects and how to fit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

from blmm_bids.design.bars import Bar, parse_bar, quote_name
from blmm_bids.design.columns import did_you_mean
from blmm_bids.design.references import parse_references
from blmm_bids.design.spec_fields import (
    as_choice,
    as_flag,
    as_list,
    as_number,
    as_object,
    as_text,
    as_whole,
    check_keys,
    check_unique,
)
from blmm_bids.errors import ModelSpecError
from blmm_bids.stats.model import Method, Satterthwaite


@dataclass(frozen=True)
class NodeOptions:
    """How to fit a node and what to write of it.

    Attributes
    ----------
    method, tol, max_iter, satterthwaite, safe_mode
        As `blmm_bids.stats.model.FitOptions` has them.
    min_n : int or None
        Fewest images that a voxel needs; None: not said.
    min_percent : float or None
        Smallest fraction of the images that a voxel needs, 0 to 1; None: not said.
    data_mask_threshold : float or None
        Values below are missing.
    zeros : {"auto", "missing", "data"} or None
        What an exact 0 is; ``auto`` goes by the kind of map. None: not said.
    output_cov_b, resms : bool
        Whether these maps are written.
    anova : bool
        Whether there is a marginal F contrast per term.
    """

    method: Method = "default"
    tol: float = 1e-6
    max_iter: int = 10_000
    satterthwaite: Satterthwaite = "expected"
    min_n: int | None = None
    min_percent: float | None = None
    data_mask_threshold: float | None = None
    zeros: str | None = None
    safe_mode: bool = True
    output_cov_b: bool = True
    resms: bool = True
    anova: bool = False


@dataclass(frozen=True)
class Software:
    """The content of ``Software.blmm``."""

    random_effects: tuple[Bar, ...] = ()
    reml: bool = True
    options: NodeOptions = field(default_factory=NodeOptions)
    compare_with: tuple[str, ...] = ()
    references: Mapping[str, str] = field(default_factory=dict)


def _min_percent(value: object, where: str) -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 1 < value <= 100:
        msg = f"model spec: {where} is a fraction from 0 to 1; for {value:g} % write {value / 100:g}"
        raise ModelSpecError(msg)
    return as_number(value, where, 0, 1)


_Reader = Callable[[object, str], Any]
_OPTIONS: Mapping[str, tuple[str, _Reader]] = {
    "Method": ("method", lambda value, where: as_choice(value, where, get_args(Method))),
    "Tol": ("tol", lambda value, where: as_number(value, where, 1e-15, 1)),
    "MaxIter": ("max_iter", lambda value, where: as_whole(value, where, 1)),
    "Satterthwaite": ("satterthwaite", lambda value, where: as_choice(value, where, get_args(Satterthwaite))),
    "MinN": ("min_n", lambda value, where: as_whole(value, where, 0)),
    "MinPercent": ("min_percent", _min_percent),
    "DataMaskThreshold": ("data_mask_threshold", as_number),
    "Zeros": ("zeros", lambda value, where: as_choice(value, where, ("auto", "missing", "data"))),
    "SafeMode": ("safe_mode", as_flag),
    "OutputCovB": ("output_cov_b", as_flag),
    "Resms": ("resms", as_flag),
    "Anova": ("anova", as_flag),
}
_KEYS = ("RandomEffects", "REML", *_OPTIONS, "CompareWith", "Reference", "Description")


def parse_software(value: object, where: str) -> Software:
    """Read the Software block of a node's Model.

    Parameters
    ----------
    value : object
        The block; None where absent. Other software's entries are left alone.
    where : str
        The node, for messages.

    Returns
    -------
    Software
        Defaults where ``blmm`` is absent.

    Raises
    ------
    ModelSpecError
        Unknown keys, wrong types, or a misspelt ``blmm``.
    """
    packages = as_object(value if value is not None else {}, f"Software of {where}")
    for name in packages:
        if name != "blmm" and (name.casefold() == "blmm" or did_you_mean(name, ["blmm"])):
            msg = f"model spec: Software of {where} has '{name}'; this app reads 'blmm'"
            raise ModelSpecError(msg)
    block = as_object(packages.get("blmm") or {}, f"Software.blmm of {where}")
    where = f"Software.blmm of {where}"
    check_keys(block, _KEYS, where)
    chosen = {
        name: read(block[key], f"{key} in {where}")
        for key, (name, read) in _OPTIONS.items()
        if block.get(key) is not None
    }
    return Software(
        random_effects=_parse_random_effects(block.get("RandomEffects"), where),
        reml=as_flag(block["REML"], f"REML in {where}") if block.get("REML") is not None else True,
        options=NodeOptions(**chosen),
        compare_with=_parse_compare_with(block.get("CompareWith"), where),
        references=parse_references(block.get("Reference"), where),
    )


def _parse_random_effects(value: object, where: str) -> tuple[Bar, ...]:
    if value is None:
        return ()
    entries = [value] if isinstance(value, str) else as_list(value, f"RandomEffects in {where}")
    bars: list[Bar] = []
    for entry in entries:
        bars.extend(parse_bar(as_text(entry, f"each entry of RandomEffects in {where}")))
    return tuple(bars)


def _parse_compare_with(value: object, where: str) -> tuple[str, ...]:
    if value is None:
        return ()
    entries = [value] if isinstance(value, str) else as_list(value, f"CompareWith in {where}")
    names = tuple(as_text(entry, f"each entry of CompareWith in {where}") for entry in entries)
    check_unique(names, f"CompareWith in {where}")
    return names


def parse_components(value: object, where: str, notices: list[str]) -> tuple[Bar, ...]:
    """Read a Model's ``VarianceComponents``: those with ``LevelsFrom`` are random intercepts.

    Parameters
    ----------
    value : object
        The list; None where absent.
    where : str
        The node, for messages.
    notices : list of str
        What each component was read as is added.

    Raises
    ------
    ModelSpecError
        A component that names no grouping factor; the message has the line to write.
    """
    bars: list[Bar] = []
    for entry in [] if value is None else as_list(value, f"VarianceComponents of {where}"):
        block = as_object(entry, f"each entry of VarianceComponents of {where}")
        name, factor = block.get("Name", ""), block.get("LevelsFrom") or block.get("GroupBy")
        factor = factor[0] if isinstance(factor, list) and len(factor) == 1 else factor
        if not isinstance(factor, str) or not factor.strip():
            msg = (
                f"model spec: the variance component '{name}' of {where} does not say whose levels vary "
                '("LevelsFrom": "subject"); write it as a random term instead: "Software": {"blmm": '
                '{"RandomEffects": ["(1 | subject)"]}}'
            )
            raise ModelSpecError(msg)
        bar = f"(1 | {quote_name(factor.strip())})"
        notices.append(f"the variance component '{name}' of {where} is read as the random term {bar}")
        bars.extend(parse_bar(bar))
    return tuple(bars)
