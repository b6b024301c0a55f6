"""Refuse designs that cannot be fitted, by the names of what is wrong, before any image is read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
import scipy.linalg

from blmm_bids.design.columns import enumerate_names, group_codes, is_categorical
from blmm_bids.design.formula import INTERCEPT, ModelMatrix
from blmm_bids.errors import DataError
from blmm_bids.stats.model import FloatArray, IntArray, RandomTerm

RANK_TOLERANCE = 1e-9
"""A column whose part outside the others' span is this small, relative to its spread, is collinear.
Centring calendar years and their squares leaves rounding of about 1e-13, honest cubics 1e-6."""

CONSTANT_TOLERANCE = 1e-12
"""Spread relative to the largest value below which values count as one; covers the rounding of means."""


def check_variables(
    columns: Mapping[str, pd.Series], names: Iterable[str], *, has_intercept: bool
) -> list[str]:
    """Check the covariates of the fixed part.

    Parameters
    ----------
    columns : mapping of str to Series
        Columns over the rows that are fitted.
    names : iterable of str
        Those of the fixed part.
    has_intercept : bool
        Whether X has a constant column; without one a constant covariate may stand for it.

    Returns
    -------
    list of str
        Warnings: levels that one image has.

    Raises
    ------
    DataError
        A covariate with one value or one level.
    """
    warnings: list[str] = []
    for name in names:
        values = columns[name]
        if is_categorical(values):
            counts = values.value_counts()
            if len(counts) < 2:
                msg = (
                    f"variable '{name}' has one level, '{counts.index[0]}', in all {len(values)} "
                    "images used; remove it from the formula or include other images"
                )
                raise DataError(msg)
            single = [str(level) for level, count in counts.items() if count == 1]
            if single:
                warnings.append(f"one image only has {name} {enumerate_names(sorted(single))}")
        elif has_intercept and is_constant(values.to_numpy()):
            msg = (
                f"covariate '{name}' has no variance: it is {values.iloc[0]:g} in all {len(values)} images "
                "used; remove it from the formula"
            )
            raise DataError(msg)
    return warnings


def is_constant(values: FloatArray) -> bool:
    """Whether values are all equal up to rounding."""
    return (
        bool(np.ptp(values) <= CONSTANT_TOLERANCE * np.abs(values).max(initial=0.0)) if len(values) else True
    )


def check_fixed(matrix: ModelMatrix) -> None:
    """Check that X can be fitted.

    Parameters
    ----------
    matrix : ModelMatrix
        X over the rows that are fitted.

    Raises
    ------
    DataError
        No column, too few images, or collinear columns, which are named.
    """
    n_obs, n_fixef = matrix.values.shape
    if n_fixef == 0:
        msg = "the model has no fixed effect; write at least '1' for an intercept"
        raise DataError(msg)
    _check_rank(matrix)
    if n_obs <= n_fixef + 1:
        msg = (
            f"{n_obs} images are used for {n_fixef} fixed effects ({enumerate_names(matrix.columns)}); "
            f"at least {n_fixef + 2} are needed: simplify the formula or include more images"
        )
        raise DataError(msg)


def _check_rank(matrix: ModelMatrix) -> None:
    """Find collinear columns by pivoted QR of the centred, scaled X."""
    X, names = matrix.values, matrix.columns
    zero = [name for name, column in zip(names, X.T, strict=True) if not column.any()]
    if zero:
        msg = (
            f"column {enumerate_names(zero)} of the design is zero for every image: no image has this "
            "combination; drop the interaction or merge levels"
        )
        raise DataError(msg)
    columns = [index for index, name in enumerate(names) if name != INTERCEPT]
    reduced = X[:, columns] - (X[:, columns].mean(axis=0) if INTERCEPT in names else 0.0)
    size = np.linalg.norm(reduced, axis=0)
    # What is constant beside an intercept is collinear with it; dividing by its rounding would hide that.
    flat = size <= CONSTANT_TOLERANCE * np.linalg.norm(X[:, columns], axis=0)
    scaled = np.where(flat, 0.0, reduced / np.where(flat, 1.0, size))
    if not columns:
        return
    factors = scipy.linalg.qr(scaled, mode="r", pivoting=True)
    R, pivot = np.asarray(factors[0], dtype=np.float64), np.asarray(factors[1], dtype=np.int64)
    diagonal = np.abs(np.diag(R))
    rank = int((diagonal > RANK_TOLERANCE).sum())
    if rank == len(columns):
        return
    messages = [
        _dependence(R, pivot, rank, index, [names[c] for c in columns], names)
        for index in range(rank, len(columns))
    ]
    n_obs = X.shape[0]
    hint = "remove or merge some of them"
    if n_obs < len(names):
        hint = f"there are only {n_obs} images for {len(names)} columns"
    msg = f"columns of the design are collinear: {'; '.join(messages[:5])}; {hint}"
    raise DataError(msg)


def _dependence(
    R: FloatArray, pivot: IntArray, rank: int, index: int, names: Sequence[str], all_names: Sequence[str]
) -> str:
    """Say which columns make up the pivoted column `index`."""
    weights = scipy.linalg.solve_triangular(R[:rank, :rank], R[:rank, index]) if rank else np.empty(0)
    others = sorted(int(pivot[i]) for i in np.flatnonzero(np.abs(weights) > 1e-6))
    parts = [names[i] for i in others]
    if INTERCEPT in all_names:
        parts = [INTERCEPT, *parts]
    return f"{names[pivot[index]]} is a linear combination of {enumerate_names(parts)}"


def check_terms(terms: Sequence[RandomTerm], n_obs: int, *, safe_mode: bool) -> list[str]:
    """Check that the random terms can be told from each other and from the residual.

    Parameters
    ----------
    terms : sequence of RandomTerm
        Over the rows that are fitted.
    n_obs : int
        Number of images.
    safe_mode : bool
        Whether as many effects as images are an error even where there are fewer levels.

    Returns
    -------
    list of str
        Warnings.

    Raises
    ------
    DataError
        A factor with one level or as many levels as images, a slope that no level varies in, more random
        effects than images, the same effect of the same grouping twice.
    """
    warnings: list[str] = []
    for term in terms:
        if term.n_levels < 2:
            msg = (
                f"grouping factor '{term.group}' has one level, '{term.levels[0]}'; a random effect "
                "needs at least two"
            )
            raise DataError(msg)
        if term.n_levels >= n_obs:
            msg = (
                f"grouping factor '{term.group}' has as many levels as there are images ({n_obs}), so "
                "its variance "
                "cannot be told from the residual's; remove the term or group by something that repeats"
            )
            raise DataError(msg)
        _check_slopes(term)
        if term.n_levels * term.n_effects >= n_obs:
            msg = (
                f"random term ({' + '.join(term.effect_names)} | {term.group}) has "
                f"{term.n_levels * term.n_effects} "
                f"effects and there are {n_obs} images, so its variances cannot be told from the "
                "residual's: for "
                "slopes each level needs more images than effects; simplify the term"
            )
            if safe_mode:
                raise DataError(msg + " (or set SafeMode to false)")
            warnings.append(msg)
    _check_overlap(terms)
    return warnings


def _check_slopes(term: RandomTerm) -> None:
    for name, column in zip(term.effect_names, term.effects.T, strict=True):
        if name != INTERCEPT and not varies_within(column, term.refs):
            msg = (
                f"random slope of '{name}' over '{term.group}' cannot be estimated: no level of "
                f"'{term.group}' has "
                f"more than one value of it; use (1 | {term.group}) or another grouping factor"
            )
            raise DataError(msg)


def _check_overlap(terms: Sequence[RandomTerm]) -> None:
    seen: dict[tuple[bytes, str], RandomTerm] = {}
    for term in terms:
        # Numbered by first appearance, equal groupings are equal bytes whatever their labels.
        first = pd.factorize(term.refs)[0].astype(np.int64).tobytes()
        for name in term.effect_names:
            other = seen.setdefault((first, name), term)
            if other is term:
                continue
            same = (
                f"'{term.group}'"
                if other.group == term.group
                else f"'{other.group}' and '{term.group}', which group the images alike,"
            )
            what = "intercept" if name == INTERCEPT else f"slope of '{name}'"
            hint = (
                f"; write (0 + … | {term.group}) in one of them"
                if name == INTERCEPT
                else "; remove one of them"
            )
            msg = f"the random {what} of {same} is in two terms{hint}"
            raise DataError(msg)


def varies_within(values: FloatArray, refs: IntArray) -> bool:
    """Whether any level has two different values."""
    return _spread_within(values, refs) > CONSTANT_TOLERANCE * float(np.abs(values).max(initial=0.0))


def _spread_within(values: FloatArray, refs: IntArray) -> float:
    n_levels = int(refs.max()) + 1
    low, high = np.full(n_levels, np.inf), np.full(n_levels, -np.inf)
    np.minimum.at(low, refs, values)
    np.maximum.at(high, refs, values)
    return float((high - low).max())


def _varies_between(values: FloatArray, refs: IntArray) -> bool:
    means = np.bincount(refs, weights=values) / np.bincount(refs)
    return not bool(np.ptp(means) <= 1e-9 * max(float(np.ptp(values)), 1e-300))


def lone_level_warnings(
    columns: Mapping[str, pd.Series], covariates: Iterable[str], groups: Iterable[tuple[str, ...]]
) -> list[str]:
    """Warn of categories that occur in one level of a grouping factor: their effect rests on it alone.

    Parameters
    ----------
    columns, covariates, groups
        As in `unsplit_warnings`.
    """
    warnings: list[str] = []
    factors = {names: group_codes([columns[name] for name in names]) for names in dict.fromkeys(groups)}
    for name in covariates:
        if not is_categorical(columns[name]):
            continue
        labels = columns[name].astype(str).to_numpy()
        for names, (refs, levels) in factors.items():
            # One image only is said already; a factor that the category is part of says nothing.
            lone = [
                f"{name} {label} ({levels[refs[where][0]]})"
                for label in np.unique(labels)
                if (where := labels == label).sum() > 1 and np.ptp(refs[where]) == 0 and name not in names
            ]
            if lone and len(lone) < len(levels):
                warnings.append(
                    f"only one level of {':'.join(names)} has {enumerate_names(lone)}: such an effect cannot "
                    "be told from that level's own"
                )
    return warnings


def unsplit_warnings(
    columns: Mapping[str, pd.Series],
    covariates: Iterable[str],
    splits: frozenset[tuple[str, str]],
    groups: Iterable[tuple[str, ...]],
) -> list[str]:
    """Warn of covariates that vary both within and between the levels of a grouping factor.

    Parameters
    ----------
    columns : mapping of str to Series
        Columns over the rows that are fitted.
    covariates : iterable of str
        Variables of the fixed part.
    splits : frozenset of (str, str)
        Pairs (covariate, grouping column) that the formula splits.
    groups : iterable of tuple of str
        Columns of each grouping factor.

    Returns
    -------
    list of str
        One warning a covariate: its one slope mixes two effects.
    """
    factors = {names: group_codes([columns[name] for name in names])[0] for names in dict.fromkeys(groups)}
    warnings: list[str] = []
    for name in covariates:
        if is_categorical(columns[name]):
            continue
        values = columns[name].to_numpy()
        mixed = [
            ":".join(names)
            for names, refs in factors.items()
            if not any((name, group) in splits for group in names)
            and varies_within(values, refs)
            and _varies_between(values, refs)
        ]
        if mixed:
            group = mixed[0]
            warnings.append(
                f"'{name}' varies both within and between levels of {enumerate_names(mixed)}: its one "
                "slope mixes the "
                f"two effects; split it with center({name}, by={group}) + mean({name}, by={group})"
            )
    return warnings
