"""Per-design work, done once: conditioning, and the structures that every voxel shares."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from blmm_bids.errors import DataError
from blmm_bids.stats.folding import Folding, make_folding
from blmm_bids.stats.model import Design, FloatArray, IntArray, RandomTerm
from blmm_bids.stats.plan_structure import Structure, make_structure

# Condition number of a term's scaled effects from which on they are made orthogonal.
NEARLY_DEPENDENT = 30.0
# Doubles that the lanes of a chunk may take together: a share of a last-level cache.
CACHE_DOUBLES = 1_000_000
MIN_LANES, MAX_LANES = 8, 128


@dataclass(frozen=True, eq=False)
class FoldedPlan:
    """What fitting with the first term folded needs besides.

    Attributes
    ----------
    rest : Structure
        Structure of the other terms.
    fold : Folding
    effects : (obs, effect over the other terms)
        Their conditioned columns.
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
    effects : (obs, effect over all terms)
        Conditioned random-effects columns, terms in elimination order.
    rotations : tuple of (effect, effect)
        ``D = T D~ T'`` maps each term's conditioned covariance back; lower triangular.
    term_order : tuple of int
        Position in ``Design.terms`` of each term in elimination order.
    n_levels : (term,)
        Levels of each term, elimination order.
    lanes : int
        Voxels fitted side by side, level by level.
    folded : FoldedPlan or None
        Where levels of the largest term are alike enough to be folded.
    """

    structure: Structure
    Q: FloatArray
    R_inv: FloatArray
    log_det_R: float
    effects: FloatArray
    rotations: tuple[FloatArray, ...]
    term_order: tuple[int, ...]
    n_levels: IntArray
    lanes: int
    folded: FoldedPlan | None = None

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
        total = _lane_doubles(self.structure) * self.lanes
        if self.folded is not None:
            per_lane = _lane_doubles(self.folded.rest) + _fold_doubles(self.folded.rest, self.folded.fold)
            total += per_lane * self.folded.lanes
        return int(8 * (total + self.structure.pair_target.size))


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
    q_matrix, r_matrix = np.linalg.qr(design.X)
    pivots = np.abs(np.diag(r_matrix))
    if (
        pivots.size
        and pivots.min() <= 1e-10 * pivots.max()
        and np.linalg.matrix_rank(design.X) < design.n_fixef
    ):
        msg = f"the columns of X ({', '.join(design.fixef_names)}) are linearly dependent; drop or recode one"
        raise DataError(msg)
    # Terms with the most levels first: their columns are nearly diagonal and fill in least.
    order = sorted(range(len(design.terms)), key=lambda k: (-design.terms[k].n_levels, k))
    terms = [design.terms[k] for k in order]
    rotations = tuple(_conditioner(term.effects, term.group) for term in terms)
    effects = [term.effects @ rotation for term, rotation in zip(terms, rotations, strict=True)]
    structure = make_structure(
        [term.refs for term in terms],
        np.array([term.n_levels for term in terms], dtype=np.int64),
        np.array([term.n_effects for term in terms], dtype=np.int64),
        design.n_obs,
        design.n_fixef,
    )
    return DesignPlan(
        structure=structure,
        Q=np.ascontiguousarray(q_matrix),
        R_inv=np.linalg.inv(r_matrix),
        log_det_R=float(np.log(pivots).sum()),
        effects=np.ascontiguousarray(np.hstack(effects)) if effects else np.zeros((design.n_obs, 0)),
        rotations=rotations,
        term_order=tuple(order),
        n_levels=np.array([term.n_levels for term in terms], dtype=np.int64),
        lanes=_lanes(_lane_doubles(structure)),
        folded=_folded_plan(design, terms, effects),
    )


def _folded_plan(design: Design, terms: list[RandomTerm], effects: list[FloatArray]) -> FoldedPlan | None:
    n_levels = np.array([term.n_levels for term in terms], dtype=np.int64)
    folded = make_folding([term.refs for term in terms], n_levels, effects, design.n_obs, design.n_fixef)
    if folded is None:
        return None
    rest, fold = folded
    others = np.hstack(effects[1:]) if len(effects) > 1 else np.zeros((design.n_obs, 0))
    lanes = _lanes(_lane_doubles(rest) + _fold_doubles(rest, fold))
    return FoldedPlan(rest, fold, np.ascontiguousarray(others), lanes)


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
    """Voxels side by side: as many as keep their arrays in cache, at least a vector's width."""
    fitting = CACHE_DOUBLES // max(doubles, 1)
    return int(np.clip(fitting // MIN_LANES * MIN_LANES, MIN_LANES, MAX_LANES))


def _lane_doubles(structure: Structure) -> int:
    """Doubles that one lane takes: the factor, its adjoint and their tangents, and the products."""
    return int(4 * structure.row_idx.size + structure.sizes[8])


def _fold_doubles(rest: Structure, fold: Folding) -> int:
    """Doubles that one lane takes besides where a term is folded."""
    size, _, most = (int(value) for value in fold.sizes)
    m = size * (size + 1) // 2
    return int((most * m + 1 + m + m * (m + 1) // 2) * rest.sizes[8] + m * rest.row_idx.size)
