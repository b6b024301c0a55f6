"""The estimation methods by name: what tells the Fisher scoring updates from each other."""

from __future__ import annotations

from typing import NamedTuple

from blmm_bids.stats.model import Method


class Update(NamedTuple):
    """How a search goes from one point to the next.

    Attributes
    ----------
    scoring : bool
        By the expected information in D, rather than by Newton's method in theta.
    joint : bool
        In all random factors and sigma2 at once, rather than in one factor at a time.
    pseudo : bool
        With the pseudo-inverse of the information of vec D, rather than the inverse of that of vech D.
    """

    scoring: bool
    joint: bool = False
    pseudo: bool = False


UPDATES: dict[Method, Update] = {
    "default": Update(scoring=False),
    "FS": Update(scoring=True, joint=True),
    "pFS": Update(scoring=True, joint=True, pseudo=True),
    "SFS": Update(scoring=True),
    "pSFS": Update(scoring=True, pseudo=True),
}
