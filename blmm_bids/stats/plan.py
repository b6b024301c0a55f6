"""Per-design work, done once: conditioning, and the structures that every voxel shares."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from blmm_bids.errors import DataError
from blmm_bids.stats.folding import Folding, make_folding, make_nested_folding
from blmm_bids.stats.model import Design, FloatArray, IntArray, RandomTerm
from blmm_bids.stats.plan_structure import Structure, make_structure
from blmm_bids.stats.strata import Strata, make_strata

# Condition number of a term's scaled effects from which on they are made orthogonal.
NEARLY_DEPENDENT = 30.0
# Condition number of X with columns of one size from which on contrasts are taken in Q: L vcov L' loses the
# square of it.
WORST_CONDITION = 1e4
_SMALLEST = np.finfo(np.float64).tiny
# Lanes of a chunk: loops over fewer than some dozens take longer to start than to run. The usual ones where
# they take no more than so many doubles together, and more where a second-level cache holds them.
USUAL_LANES, MOST_LANES = 64, 128
MOST_DOUBLES, CACHE_DOUBLES = 3_000_000, 200_000
# A vector's width.
WIDTH = 8
# A loop over items costs as much to start as a few dozen of them: where the first term is the only one,
# levels times lanes make this many, whose sums stay in the first cache, and lanes are as many as keep the
# levels in the second.
ITEMS = 64
NEAR_DOUBLES = 128_000


@dataclass(frozen=True, eq=False)
class Pass:
    """One way of going through the levels of the first term, or of the first two.

    Attributes
    ----------
    rest : Structure
        Of the terms behind.
    fold : Folding
    effects : (obs, effect)
        Conditioned columns: those of a level of ``fold``, then those of the other terms.
    lanes : int
        Voxels fitted side by side.
    """

    rest: Structure
    fold: Folding
    effects: FloatArray
    lanes: int


@dataclass(frozen=True, eq=False)
class DesignPlan:
    """A design made ready for fitting; picklable, read-only.

    Attributes
    ----------
    structure : Structure
        The shared symbolic factor.
    Q : (obs, fixef)
        Orthonormal basis of the columns of X.
    R_inv : (fixef, fixef)
        Maps coefficients in ``Q`` to coefficients in ``X``.
    log_det_R : float
        ``log |det R|``, for the REML criterion of X rather than Q.
    is_well_conditioned : bool
        Whether contrasts keep their digits in coefficients of X; otherwise they are taken in those of Q.
    is_coded : (fixef,) bool
        Columns of X that hold -1, 0 and 1 only, so that they have no unit.
    strata : Strata
        Of the random terms' effects.
    terms : tuple of RandomTerm
        As the design has them.
    effects : (obs, effect over all terms)
        Conditioned random-effects columns, terms in elimination order.
    rotations : tuple of (effect, effect)
        ``D = T D~ T'`` maps each term's conditioned covariance back; lower triangular.
    term_order : tuple of int
        Position in ``Design.terms`` of each term in elimination order.
    n_levels : (term,)
        Levels of each term, elimination order.
    passes : tuple of Pass
        Ways of going through the first term's levels; where too many differ at a voxel it goes to the next.
    """

    structure: Structure
    Q: FloatArray
    R_inv: FloatArray
    log_det_R: float
    is_well_conditioned: bool
    is_coded: NDArray[np.bool_]
    strata: Strata
    terms: tuple[RandomTerm, ...]
    effects: FloatArray
    rotations: tuple[FloatArray, ...]
    term_order: tuple[int, ...]
    n_levels: IntArray
    passes: tuple[Pass, ...]

    @property
    def coef_from_q(self) -> FloatArray:
        """Maps coefficients in ``Q`` to those that `Fit.coef` holds."""
        return self.R_inv if self.is_well_conditioned else np.eye(self.n_fixef)

    @property
    def n_obs(self) -> int:
        """Number of observations."""
        return int(self.Q.shape[0])

    @property
    def n_fixef(self) -> int:
        """Number of fixed effects."""
        return int(self.Q.shape[1])

    @property
    def n_theta(self) -> int:
        """Number of covariance parameters."""
        return int(self.structure.sizes[3])

    @property
    def work_bytes(self) -> int:
        """Bytes of working arrays that a fit needs beside the data."""
        return int(
            max(
                8 * (_lane_doubles(one.rest, one.fold) * one.lanes + one.rest.pair_target.size)
                for one in self.passes
            )
        )


def make_plan(design: Design) -> DesignPlan:
    """Condition a design and work out the symbolic factor.

    Parameters
    ----------
    design : Design
        X of full column rank.

    Returns
    -------
    DesignPlan

    Raises
    ------
    DataError
        When X is rank-deficient or a term's effects are linearly dependent.
    """
    # Powers of two leave every digit as it is, and no unit hides a column behind another.
    units = 2.0 ** np.round(np.log2(np.maximum(np.linalg.norm(design.X, axis=0), _SMALLEST)))
    scaled = design.X / units
    q_matrix, r_matrix = np.linalg.qr(scaled)
    pivots = np.abs(np.diag(r_matrix))
    values = np.linalg.svd(r_matrix, compute_uv=False)
    if (
        pivots.size
        and pivots.min() <= 1e-10 * pivots.max()
        and np.linalg.matrix_rank(scaled) < design.n_fixef
    ):
        msg = f"the columns of X ({', '.join(design.fixef_names)}) are linearly dependent; drop or recode one"
        raise DataError(msg)
    # Terms with the most levels first: their columns are nearly diagonal and fill in least.
    order = sorted(range(len(design.terms)), key=lambda k: (-design.terms[k].n_levels, k))
    terms = [design.terms[k] for k in order]
    rotations = tuple(_conditioner(term.effects, term.group) for term in terms)
    effects = [term.effects @ rotation for term, rotation in zip(terms, rotations, strict=True)]
    n_levels = np.array([term.n_levels for term in terms], dtype=np.int64)
    n_effects = np.array([term.n_effects for term in terms], dtype=np.int64)
    refs = [term.refs for term in terms]
    passes = _passes(refs, n_levels, effects, design.n_obs, design.n_fixef)
    return DesignPlan(
        structure=make_structure(refs, n_levels, n_effects, design.n_obs, design.n_fixef),
        Q=np.ascontiguousarray(q_matrix),
        R_inv=np.linalg.inv(r_matrix) / units[:, None],
        log_det_R=float(np.log(pivots * units).sum()),
        is_well_conditioned=values.size == 0 or bool(values[0] < WORST_CONDITION * values[-1]),
        is_coded=np.asarray(np.isin(design.X, (-1.0, 0.0, 1.0)).all(axis=0)),
        strata=make_strata(q_matrix, design.terms),
        terms=design.terms,
        effects=passes[-1].effects,
        rotations=rotations,
        term_order=tuple(order),
        n_levels=n_levels,
        passes=passes,
    )


def _passes(
    refs: list[IntArray], n_levels: IntArray, effects: list[FloatArray], n_obs: int, n_fixef: int
) -> tuple[Pass, ...]:
    """By classes of two terms or of one where they pay, and level by level."""
    nested = make_nested_folding(refs, n_levels, effects, n_obs, n_fixef)
    passes = []
    if nested is not None:
        rest, folding, columns = nested
        passes.append(Pass(rest, folding, columns, _lanes(_lane_doubles(rest, folding))))
    columns = np.ascontiguousarray(np.hstack(effects)) if effects else np.zeros((n_obs, 0))
    rest, folding, most = make_folding(refs, n_levels, effects, n_obs, n_fixef)
    if most:
        classes = folding._replace(sizes=np.array([*folding.sizes[:2], most, 1]))
        passes.append(Pass(rest, classes, columns, _lanes(_lane_doubles(rest, classes))))
    return (*passes, _one_by_one(rest, folding, columns))


def _one_by_one(rest: Structure, folding: Folding, columns: FloatArray) -> Pass:
    """Level by level."""
    size, n_levels = int(folding.sizes[0]), int(folding.sizes[1])
    doubles = _lane_doubles(rest, folding)
    lanes = _lanes(doubles)
    if n_levels and rest.term_size.size == 0:
        lanes = WIDTH
        while 2 * lanes * doubles <= NEAR_DOUBLES and lanes < ITEMS:
            lanes *= 2
        folding = folding._replace(sizes=np.array([size, n_levels, 0, ITEMS // lanes]))
    return Pass(rest, folding, columns, lanes)


def _conditioner(effects: FloatArray, group: str) -> FloatArray:
    """Lower-triangular T that gives the columns of ``effects @ T`` unit mean square.

    A slope in milliseconds would otherwise put D's elements on scales that are far apart. Where the
    columns are nearly dependent, as an intercept and calendar years are, T makes them orthogonal too;
    elsewhere it does not, since turning the effects lets a large variance hide a small one's digits. Lower
    triangular, so that the conditioned factor maps back to a Cholesky factor.
    """
    n_obs = effects.shape[0]
    scales = np.sqrt((effects**2).mean(axis=0))
    if not (scales > 0).all() or np.linalg.matrix_rank(effects / scales) < effects.shape[1]:
        msg = f"the effects of the random term on '{group}' are linearly dependent; drop one"
        raise DataError(msg)
    if np.linalg.cond(effects / scales) < NEARLY_DEPENDENT:
        return np.diag(1.0 / scales)
    r_flipped = np.linalg.qr(effects[:, ::-1], mode="r")
    inverse = np.linalg.inv(r_flipped) * np.sign(np.diag(r_flipped))
    return np.ascontiguousarray(inverse[::-1, ::-1] * np.sqrt(n_obs))


def _lanes(doubles: int) -> int:
    """Voxels side by side, in whole vectors."""
    doubles = max(doubles, 1)
    lanes = max(min(MOST_DOUBLES // doubles, USUAL_LANES), min(CACHE_DOUBLES // doubles, MOST_LANES))
    return max(lanes // WIDTH * WIDTH, WIDTH)


def _lane_doubles(rest: Structure, fold: Folding) -> int:
    """Doubles that one lane takes: products, the factor and its adjoint with their tangents, and levels."""
    size, n_levels, most, group = (int(value) for value in fold.sizes)
    n_pairs, m = fold.directions.size, fold.directions.max(initial=-1) + 1
    store, n_columns = int(rest.sizes[8]), int(rest.sizes[1]) + 1
    shared = (3 + 2 * m + group * (2 + m)) * store + (4 + m) * rest.row_idx.size
    if most:
        return int(shared + most * (n_pairs * store + 3 * size * size))
    return int(shared + 2 * size * (fold.level_cols.size + n_levels * (n_columns + size)))
