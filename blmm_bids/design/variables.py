"""What there is to say of a variable of the model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

VariableKind = Literal["numeric", "categorical", "grouping", "date"]


@dataclass(frozen=True)
class VariableInfo:
    """What ``--dry-run`` says of a variable.

    Attributes
    ----------
    name : str
        Column name.
    kind : {"numeric", "categorical", "grouping", "date"}
        How the model uses it; a grouping factor that is a covariate too is a covariate here.
    levels : tuple of str
        Levels over the images that are used; empty for numbers, the first and the last of dates.
    reference : str or None
        Level that treatment coding compares the others with; None where there is no such level.
    counts : tuple of int
        Images of each level.
    n_missing : int
        Images in which it was missing, before any were dropped.
    minimum, mean, maximum : float or None
        Of numbers, over the images that are used.
    reason : str
        Why it has its kind: ``numbers``, ``text``, ``Levels in participants.json``, ``C() in the formula`` …
    table : str
        Where it comes from; empty for entities and for what transformations make.
    """

    name: str
    kind: VariableKind
    levels: tuple[str, ...] = ()
    reference: str | None = None
    counts: tuple[int, ...] = ()
    n_missing: int = 0
    minimum: float | None = None
    mean: float | None = None
    maximum: float | None = None
    reason: str = ""
    table: str = ""
