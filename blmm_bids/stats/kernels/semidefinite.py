"""Quadratic programs over semi-definite matrices: a scoring step that stays in the cone.

The matrices (one a term) are vectors here: column-major lower triangles with off-diagonal elements times
sqrt(2), so that lengths are Frobenius norms and the cone is its own dual.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from blmm_bids.stats.kernels.compiling import inner
from blmm_bids.stats.kernels.small import cholesky, cholesky_solve, gauss_solve, jacobi_eigh
from blmm_bids.stats.model import FloatArray, IntArray

SQRT_2 = math.sqrt(2.0)
# A pivot of the information below this share of its diagonal is rounding.
SINGULAR = 1e-10
# A step may miss this share of the decrease that is left to it.
GAP = 1e-3
# Newton's iteration takes two to ten; it is given up where it circles.
MOST_ITERATIONS = 50


class Program(NamedTuple):
    """Minimise ``slope'd + d'(matrix)d / 2`` over d with ``start + d`` semi-definite.

    ``matrix slope start`` are the input, of which `minimise` changes a singular ``matrix``; ``best`` is the
    minimiser. The rest is scratch.
    """

    matrix: FloatArray
    slope: FloatArray
    start: FloatArray
    best: FloatArray
    factor: FloatArray
    mixed: FloatArray
    point: FloatArray
    residual: FloatArray
    step: FloatArray
    derivative: FloatArray
    system: FloatArray
    square: FloatArray
    vectors: FloatArray
    basis: FloatArray


def allocate_program(n: int) -> Program:
    """Zeroed arrays for ``n`` free elements."""

    def vector() -> FloatArray:
        return np.zeros(n)

    def matrix() -> FloatArray:
        return np.zeros((n, n))

    return Program(
        matrix=matrix(),
        slope=vector(),
        start=vector(),
        best=vector(),
        factor=matrix(),
        mixed=vector(),
        point=vector(),
        residual=vector(),
        step=vector(),
        derivative=matrix(),
        system=matrix(),
        square=matrix(),
        vectors=matrix(),
        basis=matrix(),
    )


@inner
def minimise(term_size: IntArray, first: int, last: int, pseudo: bool, p: Program) -> tuple[float, float]:
    """Decrease of the minimiser in ``p.best``, and a bound on what any feasible point reaches.

    With x and z the positive parts of a matrix w and of -w, optimality is ``slope + matrix (x - start) = z``,
    an equation in w that is solved by semismooth Newton. The first w is the free minimiser: where it is
    feasible it is the answer. Any such z is feasible in the dual, which gives the bound.

    Parameters
    ----------
    term_size : (term,)
    first, last : int
        The program is over the terms from ``first`` to before ``last``.
    pseudo : bool
        Leave the null space of ``matrix`` alone, as its pseudo-inverse does.
    """
    n = 0
    for term in range(first, last):
        n += term_size[term] * (term_size[term] + 1) // 2
    _factorise(n, pseudo, p)
    scale = 0.0
    for i in range(n):
        p.best[i] = p.start[i]
        p.step[i] = -p.slope[i]
        scale += p.matrix[i, i] / n
    cholesky_solve(p.factor, n, p.step)
    for i in range(n):
        p.mixed[i] = p.start[i] + p.step[i]
    best, bound = 0.0, math.inf
    for _ in range(MOST_ITERATIONS):
        _split(term_size, first, last, p)
        gain, reachable = _weigh(n, scale, p)
        if gain > best:
            best = gain
            for i in range(n):
                p.best[i] = p.point[i]
        bound = min(bound, reachable)
        if bound - best <= GAP * bound:
            break
        for i in range(n):
            for j in range(n):
                total = -scale * p.derivative[i, j]
                for m in range(n):
                    total += p.matrix[i, m] * p.derivative[m, j]
                p.system[i, j] = total
            p.system[i, i] += scale
        gauss_solve(p.system, n, p.residual)
        for i in range(n):
            p.mixed[i] -= p.residual[i]
    return best, bound


@inner
def _factorise(n: int, pseudo: bool, p: Program) -> None:
    """Cholesky factor of ``matrix``, made regular first where it is not.

    A null direction gets the largest eigenvalue; for the pseudo-inverse it loses its slope too, so that
    nothing moves along it but what the cone asks for.
    """
    for i in range(n):
        for j in range(n):
            p.factor[i, j] = p.matrix[i, j]
    if not pseudo and cholesky(p.factor, n, SINGULAR):
        return
    for i in range(n):
        for j in range(n):
            p.factor[i, j] = p.matrix[i, j]
    jacobi_eigh(p.factor, n, p.system)
    largest = 0.0
    for i in range(n):
        largest = max(largest, p.factor[i, i])
    for m in range(n):
        if p.factor[m, m] > SINGULAR * largest:
            continue
        along = 0.0
        for i in range(n):
            along += p.system[i, m] * p.slope[i]
        for i in range(n):
            if pseudo:
                p.slope[i] -= along * p.system[i, m]
            for j in range(n):
                p.matrix[i, j] += (largest - p.factor[m, m]) * p.system[i, m] * p.system[j, m]
    for i in range(n):
        for j in range(n):
            p.factor[i, j] = p.matrix[i, j]
    cholesky(p.factor, n, 0.0)


@inner
def _weigh(n: int, scale: float, p: Program) -> tuple[float, float]:
    """Decrease at ``p.point``, the dual's bound, and the optimality residual."""
    gain = 0.0
    bound = 0.0
    for i in range(n):
        total = p.slope[i]
        for j in range(n):
            total += p.matrix[i, j] * (p.point[j] - p.start[j])
        gain -= 0.5 * (p.slope[i] + total) * (p.point[i] - p.start[i])
        multiplier = scale * (p.point[i] - p.mixed[i])
        bound += multiplier * p.start[i]
        p.residual[i] = total - multiplier
        p.step[i] = p.slope[i] - multiplier
    # The residual's square in the inverse matrix: |L^-1 step|^2.
    for i in range(n):
        value = p.step[i]
        for j in range(i):
            value -= p.factor[i, j] * p.step[j]
        p.step[i] = value / p.factor[i, i]
        bound += 0.5 * p.step[i] * p.step[i]
    return gain, bound


@inner
def _split(term_size: IntArray, first: int, last: int, p: Program) -> None:
    """Positive part of ``mixed`` into ``point``, and the derivative of the one in the other."""
    for i in range(p.derivative.shape[0]):
        for j in range(p.derivative.shape[0]):
            p.derivative[i, j] = 0.0
    offset = 0
    for term in range(first, last):
        size = term_size[term]
        unpack_symmetric(p.mixed, offset, size, p.square)
        jacobi_eigh(p.square, size, p.vectors)
        _split_term(size, offset, p)
        offset += size * (size + 1) // 2


@inner
def _split_term(size: int, offset: int, p: Program) -> None:
    """`_split` of one term whose eigenvalues are in ``square``."""
    n = size * (size + 1) // 2
    t = 0
    for f in range(size):
        for e in range(f, size):
            times = 1.0 if e == f else SQRT_2
            total = 0.0
            a = 0
            for j in range(size):
                total += max(p.square[j, j], 0.0) * p.vectors[e, j] * p.vectors[f, j]
                # The unit matrix of this element in the basis of the eigenvectors.
                for i in range(j, size):
                    both = p.vectors[e, i] * p.vectors[f, j] + p.vectors[f, i] * p.vectors[e, j]
                    p.basis[t, a] = 0.5 * times * both * (1.0 if i == j else SQRT_2)
                    a += 1
            p.point[offset + t] = times * total
            t += 1
    a = 0
    for j in range(size):
        for i in range(j, size):
            high = max(p.square[i, i], p.square[j, j])
            low = min(p.square[i, i], p.square[j, j])
            share = 0.0 if high <= 0.0 else (1.0 if low >= 0.0 else high / (high - low))
            for t in range(n):
                for u in range(n):
                    p.derivative[offset + t, offset + u] += share * p.basis[t, a] * p.basis[u, a]
            a += 1


@inner
def unpack_symmetric(packed: FloatArray, offset: int, size: int, out: FloatArray) -> None:
    """Matrix of the vector that starts at ``offset``."""
    t = offset
    for f in range(size):
        for e in range(f, size):
            out[e, f] = packed[t] if e == f else packed[t] / SQRT_2
            out[f, e] = out[e, f]
            t += 1


@inner
def pack_symmetric(matrix: FloatArray, offset: int, size: int, out: FloatArray) -> None:
    """Inverse of `unpack_symmetric`, from the lower triangle."""
    t = offset
    for f in range(size):
        for e in range(f, size):
            out[t] = matrix[e, f] if e == f else SQRT_2 * matrix[e, f]
            t += 1
