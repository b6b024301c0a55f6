"""Likelihood ratio test between two nested models (Verbeke & Molenberghs 2000, ch. 6.3).

What the larger model adds decides the null distribution. A variance that is added sits on the
boundary of its range under the null hypothesis, so the statistic is a mixture of two chi-squares;
fixed effects that are added give a plain chi-square.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from blmm_bids.errors import ModelSpecError
from blmm_bids.stats.model import Design, FloatArray, RandomTerm
from blmm_bids.stats.tails import log_sf_chi2

# A unit column lies in a space when its distance from it is below this; designs come from text files
# of six digits or more, and from products of such columns.
_SPAN_TOLERANCE = 1e-7
# log|X'X| of the same columns in another order differs by rounding only.
_DETERMINANT_TOLERANCE = 1e-6
_LOG_10 = float(np.log(10.0))
_LOG_2 = float(np.log(2.0))


@dataclass(frozen=True, eq=False)
class ComparedModel:
    """One side of a comparison.

    Attributes
    ----------
    name : str
        What messages call it: a node's name, a directory.
    design : Design
        Fixed and random parts over the same observations, in the same order, as the other side's.
    reml : bool
        Which criterion its log-likelihoods are of.
    """

    name: str
    design: Design
    reml: bool


@dataclass(frozen=True)
class Mixture:
    """Null distribution of the statistic, a mixture of chi-squares.

    Attributes
    ----------
    weights : tuple of float
        Sum to one.
    dfs : tuple of int
        Degrees of freedom, ascending; 0 is the point mass at zero.
    added : str
        What the larger model has and the smaller lacks, in words.
    swapped : bool
        The first model given to `compare_models` is the larger one.
    """

    weights: tuple[float, ...]
    dfs: tuple[int, ...]
    added: str
    swapped: bool = False

    @property
    def formula(self) -> str:
        """The mixture as one reads it: ``0.5 chi2_1 + 0.5 chi2_2``."""
        if len(self.dfs) == 1:
            return f"chi2_{self.dfs[0]}"
        return " + ".join(f"{weight:g} chi2_{df}" for weight, df in zip(self.weights, self.dfs, strict=True))


def compare_models(smaller: ComparedModel, larger: ComparedModel) -> Mixture:
    """Find what one model adds to the other, and so the null distribution.

    Parameters
    ----------
    smaller, larger : ComparedModel
        In either order; ``swapped`` in the answer says that they came the other way round.

    Returns
    -------
    Mixture
        Null distribution.

    Raises
    ------
    ModelSpecError
        The models are not nested, or differ by more than one step, or were fitted by criteria that
        cannot be compared; the message says which.
    """
    _check_common_ground(smaller, larger)
    forward = _list_additions(smaller, larger)
    backward = _list_additions(larger, smaller)
    if isinstance(forward, Mixture):
        return forward
    if isinstance(backward, Mixture):
        return Mixture(backward.weights, backward.dfs, backward.added, swapped=True)
    reason = forward if _size(smaller) <= _size(larger) else backward
    msg = f"cannot compare '{smaller.name}' with '{larger.name}': {reason}"
    raise ModelSpecError(msg)


def lrt_log_p(chisq: ArrayLike, mixture: Mixture) -> FloatArray:
    """Natural log of the test's p value.

    Parameters
    ----------
    chisq : array_like
        Statistics, at least 0.
    mixture : Mixture
        Null distribution.

    Returns
    -------
    array
        ``log p``; 0 where ``chisq`` is 0, NaN where it is NaN.
    """
    statistic = np.asarray(chisq, dtype=np.float64)
    tails = [log_sf_chi2(statistic, df) for df in mixture.dfs]
    # The tail grows with df, so the last one is the largest and the others are at most its equal.
    largest = tails[-1]
    with np.errstate(invalid="ignore"):
        ratios = [np.where(np.isneginf(tail), 0.0, special.exp2((tail - largest) / _LOG_2)) for tail in tails]
    total = np.zeros_like(statistic)
    for weight, ratio in zip(mixture.weights, ratios, strict=True):
        total = total + weight * ratio
    # Where even the largest tail is zero there is nothing to sum.
    total = np.where(np.isneginf(largest), 1.0, total)
    return np.asarray(largest + special.xlogy(1.0, total))


def lrt_maps(loglik_smaller: ArrayLike, loglik_larger: ArrayLike, mixture: Mixture) -> dict[str, FloatArray]:
    """Statistic and p value at each voxel.

    Parameters
    ----------
    loglik_smaller, loglik_larger : (voxel,) array_like
        Maximised log-likelihoods, in the order in which the models went into `compare_models`;
        they are exchanged here where ``mixture.swapped``.
    mixture : Mixture
        Null distribution.

    Returns
    -------
    dict
        ``chi2`` and ``logp`` (-log10 p), each (voxel,); NaN where either model has no answer.
    """
    smaller = np.asarray(loglik_smaller, dtype=np.float64)
    larger = np.asarray(loglik_larger, dtype=np.float64)
    if mixture.swapped:
        smaller, larger = larger, smaller
    with np.errstate(invalid="ignore"):
        # np.maximum keeps NaN.
        chi2 = np.maximum(2 * (larger - smaller), 0.0)
    return {"chi2": chi2, "logp": -lrt_log_p(chi2, mixture) / _LOG_10 + 0.0}


def _check_common_ground(first: ComparedModel, second: ComparedModel) -> None:
    """Raise where no difference of log-likelihoods means anything."""
    if first.design.n_obs != second.design.n_obs:
        msg = (
            f"cannot compare '{first.name}' with '{second.name}': they were fitted to {first.design.n_obs} "
            f"and {second.design.n_obs} images; fit both to the same images"
        )
        raise ModelSpecError(msg)
    if first.reml != second.reml:
        names = (first.name, second.name) if first.reml else (second.name, first.name)
        msg = (
            f"cannot compare '{first.name}' with '{second.name}': '{names[0]}' was fitted by REML and "
            f"'{names[1]}' by ML, whose likelihoods have different scales; fit both by the same criterion"
        )
        raise ModelSpecError(msg)


def _list_additions(smaller: ComparedModel, larger: ComparedModel) -> Mixture | str:
    """Null distribution for this order, or why there is none."""
    few, many = smaller.design, larger.design
    if not _is_spanned(few.X, many.X):
        return (
            f"the fixed effects of '{smaller.name}' are not all among those of '{larger.name}', so the "
            "models are not nested; compare models where one has everything that the other has"
        )
    same_fixef = _is_spanned(many.X, few.X)
    lost, new = _unmatched_terms(few.terms, many.terms)
    if not lost and not new:
        return _added_fixef(smaller, larger) if not same_fixef else (
            "both have the same fixed and random effects; there is nothing to test"
        )  # fmt: skip
    if not same_fixef:
        return (
            "they differ in fixed and in random effects, and no single null distribution covers both; "
            "change one at a time, through a model in between"
        )
    if smaller.reml and not _has_equal_volume(few.X, many.X):
        return (
            "both were fitted by REML, whose criterion depends on how X is written, and their X have the "
            "same space but other columns; use the same X, or fit both by ML"
        )
    return _added_variance(lost, new)


def _added_fixef(smaller: ComparedModel, larger: ComparedModel) -> Mixture | str:
    few, many = smaller.design, larger.design
    if smaller.reml:
        return (
            "they differ in fixed effects and were fitted by REML, whose likelihoods are then of different "
            "data; fit both by ML (REML: false)"
        )
    n_added = int(np.linalg.matrix_rank(_unit_columns(many.X)) - np.linalg.matrix_rank(_unit_columns(few.X)))
    names = [name for name in many.fixef_names if name not in few.fixef_names]
    what = f"fixed effects {', '.join(names)}" if len(names) == n_added else f"{n_added} fixed effects"
    return Mixture((1.0,), (n_added,), what)


def _added_variance(lost: list[RandomTerm], new: list[RandomTerm]) -> Mixture | str:
    """Null distribution when terms `lost` become terms `new`."""
    if len(new) != 1 or len(lost) > 1:
        return (
            f"their random terms differ in more than one step: {_list_terms(lost)} against "
            f"{_list_terms(new)}; the null distribution is known for one variance at a time, so add one "
            "effect or one factor per comparison"
        )
    (term,) = new
    n_before = lost[0].n_effects if lost else 0
    if lost and not (_is_same_grouping(lost[0], term) and _is_spanned(lost[0].effects, term.effects)):
        return (
            f"the random term {_list_terms(lost)} is not part of {_list_terms(new)}, so the models are not "
            "nested; compare models where one has everything that the other has"
        )
    if term.n_effects != n_before + 1:
        return (
            f"{_list_terms(new)} adds {term.n_effects - n_before} variances at once to {_list_terms(lost)}; "
            "the null distribution is known for one at a time, so add one effect per comparison"
        )
    if not lost:
        return Mixture((0.5, 0.5), (0, 1), f"the variance of {_list_terms(new)}")
    names = [name for name in term.effect_names if name not in lost[0].effect_names]
    effect = f"'{names[0]}'" if len(names) == 1 else "one effect"
    what = (
        f"the variance of {effect} over '{term.group}' and {n_before} covariance{'s' if n_before > 1 else ''}"
    )
    return Mixture((0.5, 0.5), (n_before, n_before + 1), what)


def _unmatched_terms(
    few: tuple[RandomTerm, ...], many: tuple[RandomTerm, ...]
) -> tuple[list[RandomTerm], list[RandomTerm]]:
    """Terms of either side without an equal on the other."""
    lost, new = [], list(many)
    for term in few:
        equal = next((i for i, other in enumerate(new) if _is_same_term(term, other)), None)
        if equal is None:
            lost.append(term)
        else:
            del new[equal]
    return lost, new


def _is_same_term(first: RandomTerm, second: RandomTerm) -> bool:
    """Whether two terms allow the same covariances, however they are written."""
    return (
        first.n_effects == second.n_effects
        and _is_same_grouping(first, second)
        and _is_spanned(first.effects, second.effects)
        and _is_spanned(second.effects, first.effects)
    )


def _is_same_grouping(first: RandomTerm, second: RandomTerm) -> bool:
    """Whether both factors put the observations into the same groups, whatever the levels' names."""
    pairs = np.unique(np.stack([first.refs, second.refs]), axis=1).shape[1]
    return bool(pairs == np.unique(first.refs).size == np.unique(second.refs).size)


def _unit_columns(matrix: FloatArray) -> FloatArray:
    """Columns scaled to length one, zero columns left alone."""
    lengths = np.sqrt((matrix**2).sum(axis=0))
    return np.asarray(matrix / np.where(lengths > 0, lengths, 1.0))


def _is_spanned(inner: FloatArray, outer: FloatArray) -> bool:
    """Whether every column of `inner` is a combination of the columns of `outer`."""
    columns, basis = _unit_columns(inner), _unit_columns(outer)
    if basis.shape[1] == 0:
        return not columns.any()
    residual = columns - basis @ np.linalg.lstsq(basis, columns)[0]
    return bool((np.sqrt((residual**2).sum(axis=0)) < _SPAN_TOLERANCE).all())


def _has_equal_volume(first: FloatArray, second: FloatArray) -> bool:
    """Whether two bases of one space have the same |X'X|, so that REML criteria are comparable."""
    if first.shape[1] != second.shape[1]:
        return False
    volumes = [np.linalg.slogdet(np.linalg.qr(matrix, mode="r"))[1] for matrix in (first, second)]
    return bool(abs(volumes[0] - volumes[1]) < _DETERMINANT_TOLERANCE)


def _list_terms(terms: list[RandomTerm]) -> str:
    """Terms in the formula's words, as ``(1 + age | subject)``."""
    if not terms:
        return "none"
    return ", ".join(_bar(term) for term in terms)


def _bar(term: RandomTerm) -> str:
    names = ["1" if name == "Intercept" else name for name in term.effect_names]
    effects = " + ".join(names if "1" in names else ["0", *names])
    return f"({effects} | {term.group})"


def _size(model: ComparedModel) -> int:
    """Count parameters, to tell which of two models was meant to be the larger."""
    return model.design.n_fixef + sum(len(term.vech_names) for term in model.design.terms)
