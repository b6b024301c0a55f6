"""Refuse effects that are fixed and random at once, by the names of both."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from blmm_bids.design.columns import enumerate_names
from blmm_bids.design.formula import INTERCEPT, ModelMatrix
from blmm_bids.errors import DataError
from blmm_bids.stats.flatness import inside_fixed
from blmm_bids.stats.model import FloatArray, RandomTerm


def check_inside(matrix: ModelMatrix, terms: Sequence[RandomTerm]) -> list[str]:
    """Check that the fixed effects leave each random term something: a factor is fixed or random, not both.

    Parameters
    ----------
    matrix : ModelMatrix
        X of full rank.
    terms : sequence of RandomTerm
        Over the same rows.

    Returns
    -------
    list of str
        Warnings: levels that tell nothing of their term's variance.

    Raises
    ------
    DataError
        A term, or some effect of it, inside the span of X.
    """
    warnings: list[str] = []
    Q, R = np.linalg.qr(matrix.values / np.linalg.norm(matrix.values, axis=0))
    for term in terms:
        inside = inside_fixed(Q, term)
        if inside.effects.any():
            names = _spanning_terms(matrix, scipy.linalg.solve_triangular(R, Q.T), term, inside.effects)
            raise DataError(_inside_message(term, inside.effects, names))
        levels = [level for level, is_in in zip(term.levels, inside.levels, strict=True) if is_in]
        if levels:
            warnings.append(
                f"{len(levels)} of {term.n_levels} levels of '{term.group}' lie inside the fixed effects, "
                "which take up what their images have in common, so they tell nothing of the variance of "
                f"{_bar(term.effect_names, term.group)}: {enumerate_names(levels)}"
            )
    return warnings


def _spanning_terms(
    matrix: ModelMatrix, pseudo_inverse: FloatArray, term: RandomTerm, effects: NDArray[np.bool_]
) -> list[str]:
    """Name the terms of the fixed part that make up the columns of some random effects."""
    used = np.zeros(len(matrix.columns))
    for effect in term.effects.T[effects]:
        weights = np.stack([np.bincount(term.refs, row * effect, term.n_levels) for row in pseudo_inverse])
        used = np.maximum(used, np.abs(weights).max(axis=1) / np.abs(effect).max())
    involved = {name for name, size in zip(matrix.columns, used, strict=True) if size > 1e-6}
    names = [name for name, columns in matrix.terms.items() if involved.intersection(columns)]
    return [name for name in names if name != INTERCEPT] or names


def _inside_message(term: RandomTerm, effects: NDArray[np.bool_], names: Sequence[str]) -> str:
    inside = [name for name, is_in in zip(term.effect_names, effects, strict=True) if is_in]
    left = [name for name in term.effect_names if name not in inside]
    part, whole = _bar(inside, term.group), _bar(term.effect_names, term.group)
    where = f"the random term {part}" if not left else f"the part {part} of the random term {whole}"
    instead = f"write {_bar(left, term.group)}" if left else f"remove {whole}"
    fixed = " + ".join(names)
    return (
        f"{where} lies inside the fixed effects '{fixed}': these take up all that the levels of "
        f"'{term.group}' could have, so its variance cannot be told. An effect is fixed or random: "
        f"{instead}, or take '{fixed}' out of the fixed part"
    )


def _bar(effects: Sequence[str], group: str) -> str:
    """Write a term as a formula has it."""
    names = [name for name in effects if name != INTERCEPT]
    return f"({' + '.join(['1' if INTERCEPT in effects else '0', *names])} | {group})"
