"""Dense algebra on one voxel's small matrices, in place and without BLAS.

BLAS may choose another order of summation for another block width; these loops do not.
"""

from __future__ import annotations

import math

from blmm_bids.stats.kernels.compiling import apart, inner, summing
from blmm_bids.stats.model import FloatArray, IntArray

JACOBI_SWEEPS = 30


@inner
def cholesky(a: FloatArray, n: int, tolerance: float) -> bool:
    """Lower Cholesky factor in place; False where a pivot is not above ``tolerance`` of its diagonal."""
    for j in range(n):
        pivot = a[j, j]
        for k in range(j):
            pivot -= a[j, k] * a[j, k]
        if not pivot > tolerance * abs(a[j, j]) or not pivot > 0.0:
            return False
        root = math.sqrt(pivot)
        a[j, j] = root
        for i in range(j + 1, n):
            value = a[i, j]
            for k in range(j):
                value -= a[i, k] * a[j, k]
            a[i, j] = value / root
    return True


@inner
def semidefinite_cholesky(a: FloatArray, n: int) -> None:
    """Lower Cholesky factor in place of a matrix that may be singular; columns of zero pivots are zero."""
    for j in range(n):
        pivot = a[j, j]
        for k in range(j):
            pivot -= a[j, k] * a[j, k]
        # What rounding leaves of a zero.
        root = math.sqrt(pivot) if pivot > 1e-15 * a[j, j] else 0.0
        a[j, j] = root
        for i in range(j + 1, n):
            value = a[i, j]
            for k in range(j):
                value -= a[i, k] * a[j, k]
            a[i, j] = value / root if root > 0.0 else 0.0


@inner
def cholesky_solve(factor: FloatArray, n: int, x: FloatArray) -> None:
    """Solve ``L L' x = b`` in place of b."""
    for i in range(n):
        for k in range(i):
            x[i] -= factor[i, k] * x[k]
        x[i] /= factor[i, i]
    for i in range(n - 1, -1, -1):
        for k in range(i + 1, n):
            x[i] -= factor[k, i] * x[k]
        x[i] /= factor[i, i]


@inner
def gauss_solve(a: FloatArray, n: int, x: FloatArray) -> None:
    """Solve ``a x = b`` in place of b by elimination with row pivots; ``a`` is destroyed."""
    for j in range(n):
        best = j
        for i in range(j + 1, n):
            if abs(a[i, j]) > abs(a[best, j]):
                best = i
        for k in range(n):
            a[j, k], a[best, k] = a[best, k], a[j, k]
        x[j], x[best] = x[best], x[j]
        for i in range(j + 1, n):
            times = a[i, j] / a[j, j]
            for k in range(j + 1, n):
                a[i, k] -= times * a[j, k]
            x[i] -= times * x[j]
    for j in range(n - 1, -1, -1):
        for k in range(j + 1, n):
            x[j] -= a[j, k] * x[k]
        x[j] /= a[j, j]


@inner
def jacobi_eigh(a: FloatArray, n: int, vectors: FloatArray) -> None:
    """Eigenvalues on the diagonal of ``a`` (destroyed), eigenvectors in the columns of ``vectors``."""
    for i in range(n):
        for j in range(n):
            vectors[i, j] = 1.0 if i == j else 0.0
    for _ in range(JACOBI_SWEEPS):
        off = 0.0
        scale = 0.0
        for i in range(n):
            scale += a[i, i] * a[i, i]
            for j in range(i):
                off += a[i, j] * a[i, j]
        # Squared: off-diagonals below 1e-15 of the norm no longer move the eigenvalues.
        if not off > 1e-30 * scale:
            return
        for i in range(1, n):
            for j in range(i):
                if a[i, j] != 0.0:
                    _rotate(a, n, vectors, i, j)


@inner
def _rotate(a: FloatArray, n: int, vectors: FloatArray, i: int, j: int) -> None:
    """One Jacobi rotation that zeroes a[i, j] (Golub & Van Loan, 8.5.2)."""
    tau = (a[i, i] - a[j, j]) / (2.0 * a[i, j])
    t = 1.0 / (abs(tau) + math.sqrt(1.0 + tau * tau))
    if tau < 0.0:
        t = -t
    c = 1.0 / math.sqrt(1.0 + t * t)
    sn = t * c
    for k in range(n):
        x, y = a[k, j], a[k, i]
        a[k, j] = c * x - sn * y
        a[k, i] = sn * x + c * y
    for k in range(n):
        x, y = a[j, k], a[i, k]
        a[j, k] = c * x - sn * y
        a[i, k] = sn * x + c * y
    for k in range(n):
        x, y = vectors[k, j], vectors[k, i]
        vectors[k, j] = c * x - sn * y
        vectors[k, i] = sn * x + c * y


@apart
def clear(x: FloatArray) -> None:
    """Zero a vector."""
    for i in range(x.size):
        x[i] = 0


@apart
def clear_rows(x: FloatArray) -> None:
    """Zero a matrix."""
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            x[i, j] = 0


@apart
def clear_columns(x: FloatArray, n_columns: int) -> None:
    """Zero the first columns of a matrix."""
    for i in range(x.shape[0]):
        for j in range(n_columns):
            x[i, j] = 0


@apart
def copy(x: FloatArray, out: FloatArray) -> None:
    """Copy a vector."""
    for i in range(x.size):
        out[i] = x[i]


@apart
def copy_rows(x: FloatArray, out: FloatArray) -> None:
    """Copy a matrix."""
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            out[i, j] = x[i, j]


@apart
def fetch(n: int, places: IntArray, x: FloatArray, out: FloatArray) -> None:
    """Take the elements at the first n places."""
    for i in range(n):
        out[i] = x[places[i]]


@summing
def sum_products(begin: int, end: int, x: FloatArray, y: FloatArray) -> float:
    """Sum ``x y`` over a range."""
    total = 0.0
    for i in range(begin, end):
        total += x[i] * y[i]
    return total


@inner
def add_column_products(
    times: float, n: int, x: FloatArray, y: FloatArray, diagonal: int, border: FloatArray
) -> None:
    """Add ``times sum x_k y_k'`` over the first n places to packed products of [Q y], as `add_square` does.

    Parameters
    ----------
    x, y : (fixef, place)
    """
    entry = 0
    for i in range(x.shape[0]):
        border[diagonal + i] += times * sum_products(0, n, x[i], y[i])
        for j in range(i + 1, x.shape[0]):
            border[entry] += times * sum_products(0, n, x[j], y[i])
            entry += 1
        # The row of y.
        entry += 1
