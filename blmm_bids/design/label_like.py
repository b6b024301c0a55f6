"""Warn of numbers that look like labels, sites 1, 2, 3, where a model takes them as quantities.

The rule, which docs/model-spec.md has in words, is meant to miss some rather than to cry wolf: two values are
left alone, since the slope between them is their difference, and so are numbers that change within a subject
or have a slope for each subject, as visits do.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from blmm_bids.design.bars import quote_name
from blmm_bids.design.columns import enumerate_names, group_codes, is_categorical, label
from blmm_bids.stats.model import FloatArray, IntArray

_MIN_VALUES = 3
_MAX_UNNAMED_VALUES = 10
_SUBJECT = "subject"

_LABELS = (
    "arm batch category center centre class clinic code cohort coil condition country device diagnosis drug "
    "dx ethnicity experimenter family genotype group grp hospital id lab laboratory language machine magnet "
    "manufacturer operator project protocol race rater region scanner school site station study treatment "
    "type vendor"
)
_QUANTITIES = (
    "age allele bin birth block children copies count date day decile dose education edu grade hour income "
    "index level month n num number order parity phase quartile rank rating run scale score ses session "
    "severity siblings stage step sum tertile time timepoint total tp trial visit wave week year"
)
_LABEL_WORDS, _QUANTITY_WORDS = frozenset(_LABELS.split()), frozenset(_QUANTITIES.split())
_ENDINGS = ("id", "code", "num", "nr", "no")
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")


def label_like_warnings(
    columns: Mapping[str, pd.Series],
    covariates: Iterable[str],
    plain: Collection[str],
    slopes: Collection[str],
) -> list[str]:
    """Warn of each covariate of numbers that look like labels.

    Parameters
    ----------
    columns : mapping of str to Series
        Columns over the rows that are fitted.
    covariates : iterable of str
        Those that enter as they are, without ``C()``.
    plain : collection of str
        Those that no function of the formula takes.
    slopes : collection of str
        Those that have a random slope.

    Returns
    -------
    list of str
        One warning a covariate.
    """
    warnings: list[str] = []
    subjects, n_subjects = _subjects(columns)
    for name in covariates:
        if is_categorical(columns[name]):
            continue
        values = columns[name].to_numpy(dtype=np.float64)
        pairs = np.unique(np.column_stack([subjects, values]), axis=0)
        found, counts = np.unique(pairs[:, 1], return_counts=True)
        if len(found) < _MIN_VALUES or not np.array_equal(found, np.rint(found)):
            continue
        # A label that one subject has tells no more than the subject.
        is_label = 2 * len(found) <= len(pairs) and not _LABEL_WORDS.isdisjoint(_words(name))
        if not is_label and name in plain and name not in slopes and len(pairs) == n_subjects:
            is_label = int(counts.min()) > 1 and _is_numbered(name, found)
        if is_label:
            warnings.append(
                f"'{name}' enters as one slope: its {len(found)} values are "
                f"{enumerate_names([label(value) for value in found])}; write C({quote_name(name)}) in the "
                "formula if they are labels"
            )
    return warnings


def _words(name: str) -> Sequence[str]:
    """Split a name at its capitals, digits and punctuation; ``siteID`` and ``siteid`` are both a site."""
    words = [word.casefold() for word in _WORD.findall(name)]
    stems = [word.removesuffix(end) for word in words for end in _ENDINGS if word.endswith(end)]
    return [*words, *stems, *(word.removesuffix("s") for word in words)]


def _is_numbered(name: str, found: FloatArray) -> bool:
    """Whether the values are 1, 2, 3 … under a name that says no quantity."""
    return (
        len(found) <= _MAX_UNNAMED_VALUES
        and np.array_equal(found, np.arange(1, len(found) + 1))
        and _QUANTITY_WORDS.isdisjoint(_words(name))
    )


def _subjects(columns: Mapping[str, pd.Series]) -> tuple[IntArray, int]:
    """Give each row the number of its subject, or one of its own where that is not known."""
    if _SUBJECT in columns and not bool(columns[_SUBJECT].isna().any()):
        refs, levels = group_codes([columns[_SUBJECT]])
        return refs, len(levels)
    n_obs = len(next(iter(columns.values()), ()))
    return np.arange(n_obs), n_obs
