"""The symbolic factor that all voxels of a design share.

The matrix that is factorised at each voxel is lme4's, with the fixed effects and the response
bordering the random effects (Bates et al. 2015, eq. 16)::

    A(theta) = [ L'Z'Z L + I   L'Z'X   L'Z'y ]
               [               X'X     X'y   ]
               [                       y'y   ]

with ``L`` the relative covariance factor. Its sparsity depends on the design alone: which levels
meet in some image. Missing images only turn entries into zeros, so one symbolic factor serves all
voxels.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from blmm_bids.stats.model import IntArray

# A column whose fill reaches this share of all later rows starts the dense tail of the factor.
DENSE_SHARE = 0.7


class Structure(NamedTuple):
    """Integer arrays that the kernels walk; see `make_plan` for how they are made.

    Attributes
    ----------
    col_ptr : (column + 1,)
        Start of each column's strictly lower entries in the factor's values.
    row_idx : (entry,)
        Row of each entry, ascending within a column; the last ``p + 1`` of a column are X and y.
    pair_ptr : (column + 1,)
        Start of each column's run in ``pair_target``.
    pair_target : (pair,)
        Where the product of two entries of a column lands, for targets left of the dense tail.
    term_start, term_size, theta_start, effect_start : (term,)
        First column, number of effects, first theta and first effect of each term; but for the
        sizes, one more at the end.
    block_terms : (block, 2)
        The two terms of each block of Z'Z (first eliminated later or equal).
    block_cols : (block, 2)
        First column of the block's row level and of its column level.
    block_start : (block,)
        Start of the block's values (row-major) in the Z'Z store.
    block_pos : (value,)
        Position of each Z'Z value in the factor's entries; -1 - column on the diagonal.
    obs_blocks : (obs, pair of terms)
        Block that an observation adds to.
    obs_cols : (obs, term)
        First column of the level that an observation belongs to.
    sizes : (9,)
        q, p, first column of the dense tail, number of theta, longest column; then where Z'[X y],
        the strictly lower entries of [X y]'[X y] and its diagonal start in the store of products,
        and the store's size.

    The store of products holds the blocks of Z'Z, each row-major, then Z'[X y] by column of Z, then
    the border's entries and diagonal.
    """

    col_ptr: IntArray
    row_idx: IntArray
    pair_ptr: IntArray
    pair_target: IntArray
    term_start: IntArray
    term_size: IntArray
    theta_start: IntArray
    effect_start: IntArray
    block_terms: IntArray
    block_cols: IntArray
    block_start: IntArray
    block_pos: IntArray
    obs_blocks: IntArray
    obs_cols: IntArray
    sizes: IntArray


def make_structure(
    refs: list[IntArray],
    n_levels: IntArray,
    n_effects: IntArray,
    n_obs: int,
    n_fixef: int,
    met_through: IntArray | None = None,
) -> Structure:
    """Work out blocks of Z'Z, the fill of the factor, and where every product lands.

    Parameters
    ----------
    refs : list of (obs,)
        Level index of each observation, one array a term, terms in elimination order.
    n_levels, n_effects : (term,)
        Levels and effects of each term.
    n_obs, n_fixef : int
        Sizes.
    met_through : (obs,), optional
        Level of a term that is integrated out beforehand: all levels that it meets get blocks.

    Returns
    -------
    Structure
    """
    n_terms = len(refs)
    term_start = np.concatenate([[0], np.cumsum(n_levels * n_effects)]).astype(np.int64)
    n_ranef = int(term_start[-1])
    obs_cols = np.zeros((n_obs, n_terms), dtype=np.int64)
    for k in range(n_terms):
        obs_cols[:, k] = term_start[k] + refs[k] * n_effects[k]
    block_terms, block_cols, obs_blocks = _blocks(obs_cols, n_obs, n_terms)
    if met_through is not None and n_terms:
        block_terms, block_cols = _with_met(block_terms, block_cols, obs_cols, met_through, term_start)
    value_counts = (
        n_effects[block_terms[:, 0]] * n_effects[block_terms[:, 1]] if n_terms else np.zeros(0, np.int64)
    )
    block_start = np.concatenate([[0], np.cumsum(value_counts)]).astype(np.int64)

    columns, tail = _fill(block_terms, block_cols, n_effects, n_ranef)
    border = np.arange(n_ranef, n_ranef + n_fixef + 1)
    rows = [np.concatenate([column, border]) for column in columns]
    rows += [border[c + 1 :] for c in range(n_fixef + 1)]
    col_ptr = np.concatenate([[0], np.cumsum([r.size for r in rows])]).astype(np.int64)
    row_idx = np.concatenate(rows).astype(np.int64)
    pair_ptr, pair_target = _pairs(columns, col_ptr, tail, n_ranef + n_fixef + 1)
    theta_start = np.concatenate([[0], np.cumsum(n_effects * (n_effects + 1) // 2)]).astype(np.int64)
    return Structure(
        col_ptr=col_ptr,
        row_idx=row_idx,
        pair_ptr=pair_ptr,
        pair_target=pair_target,
        term_start=term_start,
        term_size=n_effects.astype(np.int64),
        theta_start=theta_start,
        effect_start=np.concatenate([[0], np.cumsum(n_effects)]).astype(np.int64),
        # One memory layout for all designs, or numba compiles every kernel anew.
        block_terms=np.ascontiguousarray(block_terms),
        block_cols=np.ascontiguousarray(block_cols),
        block_start=block_start,
        block_pos=_block_positions(block_terms, block_cols, n_effects, col_ptr, row_idx),
        obs_blocks=obs_blocks,
        obs_cols=obs_cols,
        sizes=_sizes(
            n_ranef, n_fixef, tail, int(theta_start[-1]), max(r.size for r in rows), int(block_start[-1])
        ),
    )


def _sizes(n_ranef: int, n_fixef: int, tail: int, n_theta: int, longest: int, n_values: int) -> IntArray:
    """Sizes, and where each kind of product starts in the store."""
    entries = n_values + n_ranef * (n_fixef + 1)
    diagonal = entries + n_fixef * (n_fixef + 1) // 2
    store = diagonal + n_fixef + 1
    return np.array(
        [n_ranef, n_fixef, tail, n_theta, longest, n_values, entries, diagonal, store], dtype=np.int64
    )


def _blocks(obs_cols: IntArray, n_obs: int, n_terms: int) -> tuple[IntArray, IntArray, IntArray]:
    """Blocks of Z'Z that some observation fills, and which one each observation adds to."""
    terms: list[NDArray[np.int64]] = []
    cols: list[NDArray[np.int64]] = []
    obs_blocks = np.zeros((n_obs, n_terms * (n_terms + 1) // 2), dtype=np.int64)
    n_blocks = 0
    pair = 0
    for col_term in range(n_terms):
        for row_term in range(col_term, n_terms):
            keys = np.stack([obs_cols[:, row_term], obs_cols[:, col_term]], axis=1)
            unique, inverse = np.unique(keys, axis=0, return_inverse=True)
            obs_blocks[:, pair] = inverse.ravel() + n_blocks
            cols.append(unique)
            terms.append(np.broadcast_to(np.array([row_term, col_term]), unique.shape))
            n_blocks += unique.shape[0]
            pair += 1
    if not cols:
        return np.zeros((0, 2), np.int64), np.zeros((0, 2), np.int64), obs_blocks
    return np.concatenate(terms).astype(np.int64), np.concatenate(cols).astype(np.int64), obs_blocks


def _with_met(
    block_terms: IntArray,
    block_cols: IntArray,
    obs_cols: IntArray,
    met_through: IntArray,
    term_start: IntArray,
) -> tuple[IntArray, IntArray]:
    """Blocks, and those of levels that one level of an earlier term meets in different images."""
    n_terms = obs_cols.shape[1]
    met = np.unique(np.stack([np.tile(met_through, n_terms), obs_cols.T.ravel()], axis=1), axis=0)
    known = set(map(tuple, block_cols.tolist()))
    added: dict[tuple[int, int], None] = {}
    for cols in np.split(met[:, 1], np.flatnonzero(np.diff(met[:, 0])) + 1):
        levels = cols.tolist()
        for a, col in enumerate(levels):
            for row in levels[a:]:
                if (row, col) not in known:
                    added[row, col] = None
    if not added:
        return block_terms, block_cols
    extra = np.array(list(added), dtype=np.int64)
    terms = np.searchsorted(term_start, extra, side="right") - 1
    return np.concatenate([block_terms, terms]), np.concatenate([block_cols, extra])


def _fill(
    block_terms: IntArray, block_cols: IntArray, n_effects: IntArray, n_ranef: int
) -> tuple[list[IntArray], int]:
    """Rows below the diagonal of each column of the factor, and where its dense tail starts."""
    below: list[set[int]] = [set() for _ in range(n_ranef)]
    for (row_term, col_term), (row, col) in zip(block_terms.tolist(), block_cols.tolist(), strict=True):
        rows = range(row, row + int(n_effects[row_term]))
        for c in range(col, col + int(n_effects[col_term])):
            below[c].update(r for r in rows if r > c)
    columns: list[IntArray] = []
    tail = n_ranef
    for c in range(n_ranef):
        later = n_ranef - c - 1
        if len(below[c]) >= DENSE_SHARE * later and _stays_dense(below, c, n_ranef):
            tail = c
            break
        struct = sorted(below[c])
        columns.append(np.array(struct, dtype=np.int64))
        if struct:
            # The column's pattern passes to its parent in the elimination tree.
            below[struct[0]].update(struct[1:])
        below[c] = set()
    columns += [np.arange(c + 1, n_ranef, dtype=np.int64) for c in range(tail, n_ranef)]
    return columns, tail


def _stays_dense(below: list[set[int]], column: int, n_ranef: int) -> bool:
    """Whether treating all columns from here on as dense wastes little."""
    later = n_ranef - column
    if later <= 2:
        return True
    # Eliminating this column makes its pattern a clique; the rest must be nearly dense as well.
    clique = len(below[column])
    return clique * (clique - 1) >= DENSE_SHARE * (later - 1) * (later - 2)


def _pairs(
    columns: list[IntArray], col_ptr: IntArray, tail: int, n_columns: int
) -> tuple[IntArray, IntArray]:
    """Targets of each column's products that land left of the dense tail, in the kernels' order."""
    lookup = [
        {int(row): int(col_ptr[c]) + i for i, row in enumerate(columns[c])} if c < tail else {}
        for c in range(len(columns))
    ]
    pair_ptr = np.zeros(n_columns + 1, dtype=np.int64)
    targets: list[int] = []
    for c in range(n_columns):
        if c < tail:
            rows = columns[c].tolist()
            for b, row_b in enumerate(rows):
                if row_b >= tail:
                    break
                targets.extend(lookup[row_b][row_a] for row_a in rows[b + 1 :])
        pair_ptr[c + 1] = len(targets)
    return pair_ptr, np.array(targets, dtype=np.int64)


def _block_positions(
    block_terms: IntArray, block_cols: IntArray, n_effects: IntArray, col_ptr: IntArray, row_idx: IntArray
) -> IntArray:
    """Where each value of Z'Z lies in the factor."""
    positions: list[int] = []
    for (row_term, col_term), (row, col) in zip(block_terms.tolist(), block_cols.tolist(), strict=True):
        for i in range(row, row + int(n_effects[row_term])):
            for j in range(col, col + int(n_effects[col_term])):
                high, low = max(i, j), min(i, j)
                if high == low:
                    positions.append(-1 - high)
                    continue
                start, stop = int(col_ptr[low]), int(col_ptr[low + 1])
                positions.append(start + int(np.searchsorted(row_idx[start:stop], high)))
    return np.array(positions, dtype=np.int64)
