"""Where a search starts: the first term's D by moments.

Within a level, what the response shares with the level's effects, ``u = B'y``, has the mean square
``sigma2 (I + G'DG)``, and what it does not share has sigma2. With ``T`` the sum of ``uu'`` over the levels of
equal G, and N levels, ``sum G (T - N sigma2 I) G' = sigma2 sum N S D S`` (``S = GG' = Z'Z``), whose solution
for D is unbiased where all S are equal. It costs one look at the products and saves evaluations.
"""

from __future__ import annotations

import math

from blmm_bids.stats.folding import Folding
from blmm_bids.stats.kernels.compiling import inner
from blmm_bids.stats.kernels.criterion import Lanes
from blmm_bids.stats.kernels.fold_lanes import FoldLanes
from blmm_bids.stats.kernels.small import cholesky, cholesky_solve, clear_rows
from blmm_bids.stats.model import FloatArray
from blmm_bids.stats.plan_structure import Structure

# Diagonal of the factor where moments do not tell: a little less variance between the levels than within, in
# conditioned effects.
START = 0.7
# Smallest one: at zero the criterion is flat, whether or not it is least there.
SMALLEST = 0.15
# Relative pivot of sum N S below which levels do not tell effects apart.
DEPENDENT = 1e-8


@inner
def start_from_moments(
    rest: Structure, fold: Folding, n_present: int, w: int, fl: FoldLanes, k: Lanes
) -> None:
    """Let a lane's theta of the first term start from moments, if it is alone in what is folded.

    Parameters
    ----------
    n_present : int
        Images of the voxel.
    """
    size, square = fold.sizes[0], rest.sizes[7] + rest.sizes[1]
    if fold.part_sizes.size != 1:
        return
    information, shared = fl.moments[0], fl.moments[1]
    # 1. Levels and their effects, for the variance within.
    n_effects, n_levels = _count_effects(fold, w, fl)
    n_free = n_present - n_effects
    if n_free < 1.0 or not fl.base[square, w] > 0.0:
        return
    sigma2 = fl.base[square, w] / n_free
    # 2. sum N S, and sum G (T - N sigma2 I) G'.
    clear_rows(information)
    clear_rows(shared)
    if fold.sizes[2] > 0:
        for c in range(fl.n_classes[w]):
            _add_class(size, fl.n_levels[c, w], sigma2, square, c, w, fl, information, shared)
    else:
        for level in range(fold.sizes[1]):
            _add_one_level(rest, fold, sigma2, level, w, fl, information, shared)
    # 3. D, and its factor.
    if not cholesky(information, size, DEPENDENT):
        return
    for _ in range(2):
        for a in range(size):
            cholesky_solve(information, size, shared[a])
        for a in range(size):
            for b in range(a):
                shared[a, b], shared[b, a] = shared[b, a], shared[a, b]
    _factor(size, n_levels / sigma2, shared)
    t = 0
    for f in range(size):
        for e in range(f, size):
            k.theta[t, w] = shared[e, f]
            t += 1


@inner
def _count_effects(fold: Folding, w: int, fl: FoldLanes) -> tuple[float, float]:
    """Count the independent effects of all levels, and the levels that have any."""
    size, lanes = fold.sizes[0], fl.base.shape[1]
    n_effects, n_levels = 0.0, 0.0
    for unit in range(fl.n_classes[w] if fold.sizes[2] > 0 else fl.roots.shape[0]):
        for item in range(w, fl.roots.shape[3], lanes):
            times = fl.n_levels[unit, w] if fold.sizes[2] > 0 else 1.0
            for a in range(size):
                if fl.roots[unit, a, a, item] > 0.0:
                    n_effects += times
            if fl.roots[unit, 0, 0, item] > 0.0:
                n_levels += times
    return n_effects, n_levels


@inner
def _add_class(
    size: int,
    n: float,
    sigma2: float,
    square: int,
    c: int,
    w: int,
    fl: FoldLanes,
    information: FloatArray,
    shared: FloatArray,
) -> None:
    """Add a class of levels."""
    roots, totals = fl.roots[c], fl.totals[c]
    for i in range(size):
        for j in range(size):
            pair = 0
            for b in range(size):
                information[i, j] += n * roots[i, b, w] * roots[j, b, w]
                for a in range(b, size):
                    # Totals off the diagonal hold both orders.
                    total = totals[pair, square, w] * (1.0 if a == b else 0.5)
                    if a == b:
                        shared[i, j] += (total - n * sigma2) * roots[i, a, w] * roots[j, a, w]
                    else:
                        both = roots[i, a, w] * roots[j, b, w] + roots[i, b, w] * roots[j, a, w]
                        shared[i, j] += total * both
                    pair += 1


@inner
def _add_one_level(
    rest: Structure,
    fold: Folding,
    sigma2: float,
    level: int,
    w: int,
    fl: FoldLanes,
    information: FloatArray,
    shared: FloatArray,
) -> None:
    """Add one level."""
    size, group, lanes = fold.sizes[0], fold.sizes[3], fl.base.shape[1]
    unit = level // group
    item = (level - unit * group) * lanes + w
    n_columns = fold.level_ptr[level + 1] - fold.level_ptr[level] + rest.sizes[1] + 1
    last = size * (fold.level_ptr[unit] + unit * (rest.sizes[1] + 1)) + n_columns - 1
    roots = fl.roots[unit]
    for i in range(size):
        # G u.
        y_i = 0.0
        for a in range(size):
            y_i += roots[i, a, item] * fl.u[last + a * n_columns, item]
        for j in range(size):
            y_j = 0.0
            for a in range(size):
                y_j += roots[j, a, item] * fl.u[last + a * n_columns, item]
                product = roots[i, a, item] * roots[j, a, item]
                information[i, j] += product
                shared[i, j] -= sigma2 * product
            shared[i, j] += y_i * y_j


@inner
def _factor(size: int, times: float, a: FloatArray) -> None:
    """Lower factor in place of ``times a``, no diagonal element of it below `SMALLEST`."""
    for j in range(size):
        pivot = times * a[j, j]
        for k in range(j):
            pivot -= a[j, k] * a[j, k]
        a[j, j] = math.sqrt(max(pivot, SMALLEST * SMALLEST))
        for i in range(j + 1, size):
            value = times * a[i, j]
            for k in range(j):
                value -= a[i, k] * a[j, k]
            a[i, j] = value / a[j, j] if pivot > SMALLEST * SMALLEST else 0.0
