"""Which maps one fit writes, and under which names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from blmm_bids.bids.names import SHORT_NAME, build_name, long_name, to_label
from blmm_bids.errors import ModelSpecError
from blmm_bids.outputs.registry import (
    DATA_UNITS,
    NO_UNITS,
    SLOPE_UNITS,
    OutputOptions,
    Quantity,
    Scope,
    quantities_of,
)
from blmm_bids.stats.model import Contrast, RandomTerm

# Entities that the outputs' own names need, and those that make no sense in the name of a group's map.
_OWN = frozenset({"contrast", "param", "stat", "desc", "suffix", "extension", "datatype"})
_OF_ONE_SUBJECT = frozenset({"subject", "session"})


@dataclass(frozen=True)
class MapSpec:
    """One map file: what it holds and what it is called.

    Attributes
    ----------
    quantity : Quantity
        What the values are.
    entities : Mapping
        Entities of the file name by long name.
    filename : str
        Name of the NIfTI file.
    key : str
        Key of the block results.
    column : int or None
        Index along the flattened second and later axes of the result, None where there is one value a voxel.
    subject : str
        What the map is of, in words (``"regressor 'age'"``); empty for maps of the whole fit.
    contrast : Contrast or None
        The contrast it belongs to.
    names : Mapping
        Sidecar entries with the exact names behind the labels.
    """

    quantity: Quantity
    entities: Mapping[str, str]
    filename: str
    key: str
    column: int | None = None
    subject: str = ""
    contrast: Contrast | None = None
    names: Mapping[str, Any] = field(default_factory=dict)

    @property
    def sidecar_name(self) -> str:
        """Name of the map's JSON sidecar."""
        return self.filename.removesuffix(".nii.gz") + ".json"


def joined_label(first: str, second: str) -> str:
    """CamelCase label of two names, ``faces`` and ``age effect`` to ``facesAgeEffect``."""
    label = to_label(second)
    return to_label(first) + label[:1].upper() + label[1:] if first else label


def stem_entities(constant: Mapping[str, str], group: Mapping[str, str]) -> dict[str, str]:
    """Entities that open the name of every file of one fit.

    Parameters
    ----------
    constant : Mapping
        Entities with one value over all images.
    group : Mapping
        GroupBy entities and the fit's labels. All of them enter the name; those that the outputs need for
        themselves (``stat``, ``desc``, …) are folded into ``desc``.

    Returns
    -------
    dict
        Labels by the entities' long names.
    """
    stem = {
        name: to_label(str(label))
        for name, label in _by_long_name(constant).items()
        if name not in _OWN | _OF_ONE_SUBJECT
    }
    folded = ""
    for name, label in _by_long_name(group).items():
        if name in SHORT_NAME and (name == "contrast" or name not in _OWN):
            stem[name] = to_label(str(label))
        elif name not in SHORT_NAME:
            # A table's column: any text, made a key and a label.
            stem[to_label(name)] = to_label(str(label))
        else:
            folded = joined_label(folded, str(label))
    return stem | ({"desc": folded} if folded else {})


def design_filename(stem: Mapping[str, str], desc: str = "", extension: str = ".tsv") -> str:
    """Name of one of the fit's design tables."""
    return build_name(_with_desc(stem, desc), "design", extension)


def list_maps(
    stem: Mapping[str, str],
    fixef_names: Sequence[str],
    terms: Sequence[RandomTerm],
    contrasts: Sequence[Contrast],
    options: OutputOptions,
) -> tuple[MapSpec, ...]:
    """All maps of one fit, in the registry's order.

    Parameters
    ----------
    stem : Mapping
        From `stem_entities`; its ``contrast`` is the input contrast.
    fixef_names : sequence of str
        Columns of X.
    terms : sequence of RandomTerm
        Random terms, empty for a linear model.
    contrasts : sequence of Contrast
        Contrasts, in the order of the block results.
    options : OutputOptions
        Which of them are wanted.

    Returns
    -------
    tuple of MapSpec
        With distinct file names, also where case is ignored.

    Raises
    ------
    ModelSpecError
        Two maps would have the same name.
    """
    specs = [
        *_fit_maps(stem, options),
        *_fixef_maps(stem, fixef_names, options),
        *_vech_maps(stem, terms, options),
        *_factor_maps(stem, terms, options),
        *_fixef_pair_maps(stem, fixef_names, options),
        *_contrast_maps(stem, fixef_names, contrasts, options),
    ]
    _refuse_collisions(specs)
    return tuple(specs)


def comparison_maps(stem: Mapping[str, str], larger: str, smaller: str) -> tuple[MapSpec, ...]:
    """List the maps of the likelihood ratio test of two models."""
    desc = to_label(larger) + "Vs" + to_label(smaller)[:1].upper() + to_label(smaller)[1:]
    subject = f"comparison of '{larger}' with '{smaller}'"
    entities = _with_desc(stem, desc)
    return tuple(
        _spec(quantity, entities, quantity.key, subject=subject)
        for quantity in quantities_of(OutputOptions("full"), [Scope.COMPARISON])
    )


def list_series(
    stem: Mapping[str, str],
    terms: Sequence[RandomTerm],
    images: Sequence[tuple[str, Mapping[str, str]]],
    options: OutputOptions,
) -> dict[str, tuple[MapSpec, ...]]:
    """List the maps of the quantities that have one for each level or each image.

    Parameters
    ----------
    stem : Mapping
        From `stem_entities`.
    terms : sequence of RandomTerm
        Random terms in the design's order.
    images : sequence of (str, Mapping)
        File name and entities of each image fitted, in the design's order.
    options : OutputOptions
        Which of them are wanted.

    Returns
    -------
    dict
        By the quantity's key: maps in the order of the last axis of `blmm_bids.stats.modes.Modes`. Quantities
        without a map are left out.

    Raises
    ------
    ModelSpecError
        Two maps would have the same name.
    """
    modes = tuple(_mode_maps(stem, terms, options))
    residuals = tuple(_residual_maps(images, options))
    _refuse_collisions(modes, "rename one of the levels in its table")
    _refuse_collisions(residuals, "give one of the images an entity that the other has not, or leave it out")
    return {maps[0].key: maps for maps in (modes, residuals) if maps}


def is_intercept_model(terms: Sequence[RandomTerm]) -> bool:
    """Whether every random term is an intercept, so that shares of the variance are defined."""
    return bool(terms) and all(term.effect_names == ("Intercept",) for term in terms)


def contrast_names(fixef_names: Sequence[str], contrast: Contrast) -> dict[str, Any]:
    """Sidecar entries that define a contrast: the columns with a weight, and the weights."""
    used = np.flatnonzero(np.any(contrast.L != 0, axis=0)).tolist()
    weights = contrast.L[:, used].tolist()
    entries: dict[str, Any] = {
        "ContrastName": contrast.name,
        "ConditionList": [fixef_names[column] for column in used],
        "Weights": weights[0] if contrast.test == "t" else weights,
        "Test": contrast.test,
    }
    if contrast.test == "F":
        entries["NumeratorDegreesOfFreedom"] = int(np.linalg.matrix_rank(contrast.L))
    return entries


def _fit_maps(stem: Mapping[str, str], options: OutputOptions) -> Iterator[MapSpec]:
    for quantity in quantities_of(options, [Scope.MASK, Scope.FIT]):
        if quantity.scope is Scope.MASK:
            yield _spec(quantity, _with_desc(stem, quantity.name), quantity.key)
        else:
            yield _spec(quantity, stem, quantity.key)


def _fixef_maps(stem: Mapping[str, str], names: Sequence[str], options: OutputOptions) -> Iterator[MapSpec]:
    for quantity in quantities_of(options, [Scope.FIXEF]):
        for column, name in enumerate(names):
            entities = {**stem, "param": to_label(name)}
            subject, entries = f"regressor '{name}'", {"RegressorName": name}
            yield _spec(quantity, entities, quantity.key, column, subject=subject, names=entries)


def _vech_maps(
    stem: Mapping[str, str], terms: Sequence[RandomTerm], options: OutputOptions
) -> Iterator[MapSpec]:
    elements = [(term.group, pair) for term in terms for pair in term.vech_names]
    for quantity in quantities_of(options, [Scope.VECH]):
        for column, (group, pair) in enumerate(elements):
            label = "+".join(to_label(name) for name in (group, *pair))
            entries = {"RandomEffect": {"Factor": group, "Effects": list(pair)}}
            subject = f"random effects '{pair[0]}' and '{pair[1]}' of '{group}'"
            entities = {**stem, "param": label}
            yield _spec(
                _in_units(quantity, pair), entities, quantity.key, column, subject=subject, names=entries
            )


def _in_units(quantity: Quantity, pair: tuple[str, str]) -> Quantity:
    """Give a standard deviation and a correlation the units of each."""
    if quantity.name != "varcorr":
        return quantity
    if pair[0] != pair[1]:
        return replace(quantity, units=NO_UNITS)
    return replace(quantity, units=DATA_UNITS if pair[0] == "Intercept" else SLOPE_UNITS)


def _mode_maps(
    stem: Mapping[str, str], terms: Sequence[RandomTerm], options: OutputOptions
) -> Iterator[MapSpec]:
    modes = [(t.group, level, effect) for t in terms for level in t.levels for effect in t.effect_names]
    for quantity in quantities_of(options, [Scope.MODE]):
        for column, (group, level, effect) in enumerate(modes):
            entities = {**stem, "param": "+".join(to_label(name) for name in (group, effect, level))}
            entries = {"RandomEffect": {"Factor": group, "Effects": [effect], "Level": level}}
            subject = f"random effect '{effect}' of '{group}' at level '{level}'"
            yield _spec(quantity, entities, quantity.key, column, subject=subject, names=entries)


def _residual_maps(
    images: Sequence[tuple[str, Mapping[str, str]]], options: OutputOptions
) -> Iterator[MapSpec]:
    for quantity in quantities_of(options, [Scope.IMAGE]):
        for column, (filename, entities) in enumerate(images):
            yield _spec(quantity, entities, quantity.key, column, subject=f"image '{filename}'")


def _factor_maps(
    stem: Mapping[str, str], terms: Sequence[RandomTerm], options: OutputOptions
) -> Iterator[MapSpec]:
    if not is_intercept_model(terms):
        return
    for quantity in quantities_of(options, [Scope.FACTOR]):
        for column, term in enumerate(terms):
            entities = {**stem, "param": to_label(term.group)}
            entries = {"RandomEffect": {"Factor": term.group, "Effects": list(term.effect_names)}}
            subject = f"factor '{term.group}'"
            yield _spec(quantity, entities, quantity.key, column, subject=subject, names=entries)


def _fixef_pair_maps(
    stem: Mapping[str, str], names: Sequence[str], options: OutputOptions
) -> Iterator[MapSpec]:
    for quantity in quantities_of(options, [Scope.FIXEF_PAIR]):
        for row, first in enumerate(names):
            for column in range(row, len(names)):
                second = names[column]
                entities = {**stem, "param": f"{to_label(first)}+{to_label(second)}"}
                entries = {"RegressorName": [first, second]}
                subject = f"regressors '{first}' and '{second}'"
                place = row * len(names) + column
                yield _spec(quantity, entities, quantity.key, place, subject=subject, names=entries)


def _contrast_maps(
    stem: Mapping[str, str],
    fixef_names: Sequence[str],
    contrasts: Sequence[Contrast],
    options: OutputOptions,
) -> Iterator[MapSpec]:
    for index, contrast in enumerate(contrasts):
        label = joined_label(stem.get("contrast", ""), contrast.name)
        entries = contrast_names(fixef_names, contrast)
        subject = f"contrast '{contrast.name}'"
        for quantity in quantities_of(options, [Scope.T if contrast.test == "t" else Scope.F]):
            spec = _spec(quantity, {**stem, "contrast": label}, f"c{index}_{quantity.key}", subject=subject,
                         contrast=contrast, names=entries)  # fmt: skip
            yield spec


def _spec(
    quantity: Quantity,
    entities: Mapping[str, str],
    key: str,
    column: int | None = None,
    *,
    subject: str = "",
    contrast: Contrast | None = None,
    names: Mapping[str, Any] | None = None,
) -> MapSpec:
    stat = {} if quantity.scope is Scope.MASK else {"stat": quantity.name}
    entities = {**entities, **stat}
    filename = build_name(entities, quantity.suffix, ".nii.gz")
    return MapSpec(quantity, entities, filename, key, column, subject, contrast, names or {})


def _refuse_collisions(specs: Sequence[MapSpec], advice: str = "rename one of them in the model") -> None:
    # Case is ignored since macOS's usual file system does, and would keep only one of the two.
    first_of: dict[str, MapSpec] = {}
    for spec in specs:
        other = first_of.setdefault(spec.filename.casefold(), spec)
        if other is not spec:
            msg = (
                f"{other.subject} and {spec.subject} would both be written to '{spec.filename}': labels in "
                f"BIDS names keep letters and digits only; {advice}"
            )
            raise ModelSpecError(msg)


def _by_long_name(entities: Mapping[str, str]) -> dict[str, str]:
    return {long_name(name): label for name, label in entities.items()}


def _with_desc(stem: Mapping[str, str], desc: str) -> dict[str, str]:
    if not desc:
        return dict(stem)
    return {**stem, "desc": joined_label(stem.get("desc", ""), desc)}
