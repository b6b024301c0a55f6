"""Nothing is pooled in silence: what tells a fit's images apart is in the model, or the run stops.

An entity with several labels among the images of a fit is fine where the fixed part or the random terms use
it, or where the fixed part's categories determine it (a task that goes with the contrast). Sessions and runs
may repeat where a random term ties a subject's images together, which is said. Anything else, two contrasts,
two parameters, two hemispheres, would be one mean of different quantities.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from blmm_bids.bids.formats import without_extension
from blmm_bids.bids.names import entity_rank, long_name, parse_name
from blmm_bids.bids.observations import Observations
from blmm_bids.design.build import BuiltDesign
from blmm_bids.design.columns import is_categorical
from blmm_bids.design.formula import parse_formula
from blmm_bids.design.spec import NodeSpec
from blmm_bids.errors import DataError
from blmm_bids.stats.model import IntArray

REPEATS = ("session", "run")
_SHOWN = 5
_ABSENT = "(absent)"


@dataclass(frozen=True)
class Pooled:
    """What is to be said of images that are not told apart by the model.

    Attributes
    ----------
    notices, warnings : tuple of str
        Repeats that are accounted for; images that are taken as independent.
    """

    notices: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def check_pooling(node: NodeSpec, observations: Observations, built: BuiltDesign) -> Pooled:
    """Check that every entity with several labels is accounted for by the model.

    Parameters
    ----------
    node : NodeSpec
        Its GroupBy has made the groups: those entities have one label here.
    observations : Observations
        Images of the group.
    built : BuiltDesign
        Says which of them are fitted, and with which random terms.

    Returns
    -------
    Pooled

    Raises
    ------
    DataError
        Names the entity, its labels and the ways on.
    """
    fitted = observations.take(built.rows)
    labels = {name: [label or _ABSENT for label in fitted.labels(name)] for name in fitted.entities}
    parsed = [parse_name(path.name) for path in fitted.paths]
    # Names without entities, of a table of images, have no suffix: sub01.nii and sub02.nii are alike.
    labels["suffix"] = [each.suffix if each and each.entities else "" for each in parsed]
    fixed = _fixed_categories(node, fitted.table)
    fixed_names = {long_name(name) for name in parse_formula(node.formula).variables}
    random_names = {
        long_name(name)
        for bar in node.bars
        for name in (*bar.group_names, *parse_formula(bar.effects).variables)
    }
    repeats: list[str] = []
    for name in sorted(labels, key=entity_rank):
        if name in {"subject", "node"} | fixed_names | random_names or len(set(labels[name])) < 2:
            continue
        if _is_determined(labels[name], fixed):
            continue
        if name not in REPEATS:
            raise DataError(_message(name, labels[name], fitted))
        repeats.append(name)
    _check_file_names(fitted, labels, built)
    if "subject" in fixed_names:
        return Pooled()
    return _check_repeats(repeats, labels, fitted, built)


def _check_file_names(fitted: Observations, labels: Mapping[str, Sequence[str]], built: BuiltDesign) -> None:
    """Refuse ``con_0001`` among ``con_0002``: names that several images share say what these are."""
    names = [path.name for path, suffix in zip(fitted.paths, labels["suffix"], strict=True) if not suffix]
    stems = list(map(without_extension, names))
    if len(names) < len(fitted) or len(set(stems)) in {1, len(names)}:
        return
    told = [labels[name] for name in fitted.entities if name != "subject"]
    if _is_determined(stems, list(zip(map(tuple, built.design.X.tolist()), *told, strict=True))):
        return
    counts = Counter(names)
    shown = ", ".join(f"{name} ({count})" for name, count in counts.most_common(_SHOWN))
    more = f" and {len(counts) - _SHOWN} more" if len(counts) > _SHOWN else ""
    msg = (
        f"The {len(names)} images of this fit have {len(counts)} file names ({shown}{more}), and nothing in "
        "the model tells them apart, so that they would count as one quantity. Keep the lines of one of them "
        "in the table of images, or add a column that says what they are: contrast, for the formula or "
        "GroupBy; session or run, where they are repeats."
    )
    raise DataError(msg)


def _fixed_categories(node: NodeSpec, table: pd.DataFrame) -> list[tuple[Hashable, ...]]:
    """List the combination of the fixed part's categories, indicators included, of each image."""
    columns: list[Sequence[Hashable]] = []
    names = [*parse_formula(node.formula).variables]
    names += [name for instruction in node.transformations for name in instruction.inputs]
    for name in names:
        if name not in table.columns:
            continue
        values = table[name]
        if is_categorical(values):
            columns.append([str(value) for value in values])
        elif set(np.unique(values.dropna())) <= {0.0, 1.0}:
            columns.append([float(value) for value in values])
    return list(zip(*columns, strict=True)) if columns else [()] * len(table)


def _is_determined(labels: Sequence[str], categories: Sequence[tuple[Hashable, ...]]) -> bool:
    """Whether images of one combination of the fixed categories all have one label."""
    found: dict[tuple[Hashable, ...], str] = {}
    return all(found.setdefault(key, label) == label for key, label in zip(categories, labels, strict=True))


def _message(name: str, labels: Sequence[str], fitted: Observations) -> str:
    counts = Counter(labels)
    shown = ", ".join(f"{label} ({count})" for label, count in counts.most_common(_SHOWN))
    more = f" and {len(counts) - _SHOWN} more" if len(counts) > _SHOWN else ""
    examples = "\n".join(f"  {fitted.paths[labels.index(label)]}" for label, _ in counts.most_common(2))
    first = min(counts)
    chosen = f'"{name}": ' + ("null" if first == _ABSENT else f'"{first}"')
    ways = [f"choose one with a filter, {chosen} in the spec's Input or in --bids-filter-file"]
    if name != "suffix" and _ABSENT not in counts:
        ways += [f'fit each by itself, "GroupBy": ["{name}"]', f"or put {name} into the formula"]
    return (
        f"The {len(labels)} images of this fit have {len(counts)} labels of '{name}' ({shown}{more}), and "
        "nothing in the model tells them apart, so that they would count as one quantity:\n"
        f"{examples}\nIf that is not meant, {'; '.join(ways)}."
    )


def _check_repeats(
    repeats: Sequence[str], labels: Mapping[str, Sequence[str]], fitted: Observations, built: BuiltDesign
) -> Pooled:
    """Several images of a subject: tied together by a random term, or told apart by the fixed part."""
    subjects = labels.get("subject", ())
    rows_of: dict[str, list[int]] = defaultdict(list)
    for row, subject in enumerate(subjects):
        rows_of[subject].append(row)
    several = [rows for rows in rows_of.values() if len(rows) > 1]
    what = f"{' and '.join(repeats)} ({_listed(labels, repeats)})"
    levels = [(term.refs, np.bincount(term.refs)) for term in built.design.terms]
    loose = [rows for rows in several if not _is_tied(rows, levels)]
    if not several and repeats:
        return Pooled((f"{what} differs between subjects, each with one image, and is not in the model",))
    if not loose:
        told = f"{what} is not in the formula: repeats, which the random part accounts for"
        return Pooled((told,) if repeats else _alike_notice(several, built))
    rows_told = np.column_stack([built.design.X, *(term.refs for term in built.design.terms)])
    alike = [rows for rows in loose if len(np.unique(rows_told[rows], axis=0)) < len(rows)]
    if alike:
        raise DataError(_alike_message(alike, repeats, labels, fitted))
    n_images = sum(map(len, loose))
    warning = (
        f"{n_images} images of {len(loose)} subjects count as independent observations, for no random term "
        "ties the images of a subject together; (1 | subject) does"
    )
    return Pooled(warnings=(warning,))


def _alike_notice(several: Sequence[Sequence[int]], built: BuiltDesign) -> tuple[str, ...]:
    """Say where images of a subject differ in nothing that a table of images has."""
    terms = [part for term in built.design.terms for part in (term.refs[:, None], term.effects)]
    design = np.concatenate([built.design.X, *terms], axis=1)
    alike = [rows for rows in several if len(np.unique(design[rows], axis=0)) < len(rows)]
    if not alike:
        return ()
    return (
        f"{sum(map(len, alike))} images of {len(alike)} subjects differ in nothing that the model knows: "
        "repeats, which the random part accounts for",
    )


def _alike_message(
    alike: Sequence[Sequence[int]],
    repeats: Sequence[str],
    labels: Mapping[str, Sequence[str]],
    fitted: Observations,
) -> str:
    examples = "\n".join(f"  {fitted.paths[row]}" for row in alike[0][:2])
    told = f"that differ in {' and '.join(repeats)} " if repeats else ""
    choice = f', "{repeats[0]}": "{labels[repeats[0]][alike[0][0]]}" in Input' if repeats else ""
    return (
        f"{len(alike)} subjects have several images {told}in this fit, and nothing in the model tells these "
        f"apart or ties them together, so that they would count as independent subjects:\n{examples}\n"
        f"Add a random term such as (1 | subject), or choose one image a subject with a filter{choice}."
    )


def _listed(labels: Mapping[str, Sequence[str]], names: Sequence[str]) -> str:
    found = [label for name in names for label in sorted(set(labels[name]))]
    return ", ".join(found[:_SHOWN]) + (", …" if len(found) > _SHOWN else "")


def _is_tied(rows: list[int], levels: Sequence[tuple[IntArray, IntArray]]) -> bool:
    """Whether a subject's images share a level of a random term that no other subject has."""
    for refs, counts in levels:
        level = refs[rows[0]]
        if counts[level] == len(rows) and (refs[rows] == level).all():
            return True
    return False
