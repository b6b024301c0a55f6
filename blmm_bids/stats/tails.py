"""Log survival functions that stay accurate far past the smallest float, and z from them.

Everything here is elementwise. Only IEEE arithmetic and the scalar loops of `scipy.special` touch
the values (numpy's own ``log`` may take another path in the last lanes of an array), so an
element's bits do not depend on its neighbours or on how voxels were split into blocks.

The moderate tail comes from scipy; past `_DEEP` the incomplete beta and gamma functions are
evaluated as log prefactor plus log of a continued fraction.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

FloatArray = NDArray[np.float64]
_Coefficients: TypeAlias = tuple[FloatArray, FloatArray]

# Below this probability scipy's functions near underflow; above it they hold full precision.
_DEEP = 1e-250
# A continued fraction has converged when a step changes it by less than this.
_STEP = 1e-15
# Steps grow as the square root of the smaller df in the middle of the distribution; in the deep tail
# a few dozen do, and this bound is never met for dfs below 1e8.
_MAX_STEPS = 20_000
_TINY = 1e-300
# Of 1e-16, in a tail below one half.
_MOST_ROUNDINGS = 1e3
_LOG_2 = float(np.log(2.0))


def log_sf_t(t: ArrayLike, df: ArrayLike) -> FloatArray:
    """Natural log of ``P(t_df > t)``.

    Equivalent to ``scipy.stats.t.logsf`` where that does not underflow.

    Parameters
    ----------
    t : array_like
        Statistics; may be negative or infinite.
    df : array_like
        Degrees of freedom, broadcast against ``t``; infinity is the normal distribution. NaN or a
        value that is not positive gives NaN.

    Returns
    -------
    array
        ``log p``, at most 0; NaN where an input is NaN.
    """
    return log_sf_t_both(t, df)[0]


def log_sf_t_both(t: ArrayLike, df: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """`log_sf_t` of ``t`` and of ``|t|``, for the work of one.

    Returns
    -------
    log_p, log_p_size : array
        The second is what the two-sided p and z are made of.
    """
    t_values, df_values = _broadcast(t, df)
    normal = np.isposinf(df_values)
    size, finite_df = np.abs(t_values), np.where(normal, 1.0, df_values)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        ratio = size / np.sqrt(finite_df)
        lower, upper, log_upper = _beta_tails(
            ratio * ratio, 2 * _log(ratio), finite_df / 2, np.full_like(size, 0.5)
        )
        # P(|T| > t) = upper. Below zero P(T > -t) = 1 - upper/2, or (1 + lower)/2 where upper is near 1.
        half_lower = np.where(upper < 0.5, special.log1p(-upper / 2), special.log1p(lower) - _LOG_2)
    half_upper = log_upper - _LOG_2

    def tail(values: FloatArray, from_beta: FloatArray) -> FloatArray:
        from_normal = np.asarray(special.log_ndtr(-values))
        return np.where(df_values > 0, np.where(normal, from_normal, from_beta), np.nan) + 0.0

    return tail(t_values, np.where(t_values > 0, half_upper, half_lower)), tail(size, half_upper)


def log_sf_f(f: ArrayLike, df1: ArrayLike, df2: ArrayLike) -> FloatArray:
    """Natural log of ``P(F_{df1, df2} > f)``.

    Equivalent to ``scipy.stats.f.logsf`` where that does not underflow.

    Parameters
    ----------
    f : array_like
        Statistics; anything below zero has probability one.
    df1 : array_like
        Numerator degrees of freedom, finite.
    df2 : array_like
        Denominator degrees of freedom; infinity gives ``chi2_{df1} / df1``.

    Returns
    -------
    array
        ``log p``, at most 0; NaN where an input is NaN or a df is not positive.
    """
    f_values, df1_values, df2_values = _broadcast(f, df1, df2)
    f_values = np.maximum(f_values, 0.0)
    infinite = np.isposinf(df2_values)
    finite_df2 = np.where(infinite, 1.0, df2_values)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        ratio = df1_values * f_values / finite_df2
        log_ratio = _log(f_values) + _log(df1_values) - _log(finite_df2)
        from_beta = _beta_tails(ratio, log_ratio, finite_df2 / 2, df1_values / 2)[2]
        from_beta[infinite] = log_sf_chi2((df1_values * f_values)[infinite], df1_values[infinite])
    valid = (df1_values > 0) & np.isfinite(df1_values) & (df2_values > 0)
    return np.where(valid, from_beta, np.nan) + 0.0


def log_sf_chi2(x: ArrayLike, df: ArrayLike) -> FloatArray:
    """Natural log of ``P(chi2_df > x)``.

    Equivalent to ``scipy.stats.chi2.logsf`` where that does not underflow.

    Parameters
    ----------
    x : array_like
        Statistics; anything below zero has probability one.
    df : array_like
        Degrees of freedom; zero is the point mass at zero (probability one at ``x = 0``, else zero).

    Returns
    -------
    array
        ``log p``, at most 0; NaN where an input is NaN or ``df`` is negative or infinite.
    """
    x_values, df_values = _broadcast(x, df)
    half_x, shape = np.maximum(x_values, 0.0) / 2, df_values / 2
    upper = np.asarray(special.gammaincc(shape, half_x))
    log_upper = np.where(upper < 0.5, _log(upper), special.log1p(-special.gammainc(shape, half_x)))
    deep = (upper < _DEEP) & (half_x > 0) & np.isfinite(half_x) & (shape > 0)
    log_upper[deep] = _log_gamma_deep(half_x[deep], shape[deep])
    log_upper = np.where(np.isposinf(x_values), -np.inf, log_upper)
    log_upper = np.where(df_values == 0, np.where(half_x > 0, -np.inf, 0.0), log_upper)
    valid = (df_values >= 0) & np.isfinite(df_values) & ~np.isnan(x_values)
    return np.where(valid, log_upper, np.nan) + 0.0


def z_from_log_sf(log_p: ArrayLike) -> FloatArray:
    """Return the standard normal deviate with a given upper tail.

    Parameters
    ----------
    log_p : array_like
        Natural log of the upper-tail probability, at most 0.

    Returns
    -------
    array
        z; positive for p below one half. For p near one it is computed from the other tail, which
        ``log_p`` still holds down to 1e-308; beyond, use `z_from_t`.
    """
    (values,) = _broadcast(log_p)
    in_upper = values < -_LOG_2
    other_tail = _log(-special.expm1(np.where(in_upper, -_LOG_2, values)))
    z_upper = -special.ndtri_exp(np.where(in_upper, values, -_LOG_2))
    z = np.where(in_upper, z_upper, special.ndtri_exp(other_tail))
    return np.where(np.isnan(values), np.nan, z)


def z_from_t(t: ArrayLike, df: ArrayLike, log_p_size: ArrayLike | None = None) -> FloatArray:
    """Return the standard normal deviate as far out as a t statistic; exactly odd in ``t``.

    Parameters
    ----------
    t : array_like
        Statistics.
    df : array_like
        Degrees of freedom, as in `log_sf_t`.
    log_p_size : array_like, optional
        The tail of ``|t|``, where `log_sf_t_both` has given it already.

    Returns
    -------
    array
        z, of the sign of ``t``.
    """
    t_values, df_values = _broadcast(t, df)
    z = z_from_log_sf(log_sf_t_both(t, df)[1] if log_p_size is None else log_p_size)
    # With infinite df t is the deviate itself, also where its tail's log overflows.
    z = np.where(np.isposinf(df_values), np.abs(t_values), z)
    return np.copysign(np.where(t_values == 0, 0.0, z), t_values)


def _broadcast(*values: ArrayLike) -> tuple[FloatArray, ...]:
    """Copy inputs to float64 arrays of one shape."""
    arrays = np.broadcast_arrays(*(np.asarray(value, dtype=np.float64) for value in values))
    return tuple(np.array(array, dtype=np.float64, order="C") for array in arrays)


def _log(x: FloatArray) -> FloatArray:
    """Natural log by scipy's scalar loop."""
    return np.asarray(special.xlogy(1.0, x), dtype=np.float64)


def _beta_tails(
    ratio: FloatArray, log_ratio: FloatArray, a: FloatArray, b: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Both tails of a beta variable, and the log of the upper; the lower may be 0 where it is above one half.

    With ``ratio = y / x`` and ``x + y = 1``, the upper tail is ``I_x(a, b)``, the lower ``I_y(b, a)``;
    what is near one is asked of scipy through whichever of x, y is the smaller, since the larger is rounded.
    ``log_ratio`` serves where ``ratio`` itself overflows.
    """
    x, y = 1 / (1 + ratio), ratio / (1 + ratio)
    y = np.where(np.isposinf(ratio), 1.0, y)
    near, upper, lower = ratio <= 1, np.empty_like(ratio), np.zeros_like(ratio)
    upper[~near] = special.betainc(a[~near], b[~near], x[~near])
    upper[near], lower[near] = _near_tails(x[near], y[near], a[near], b[near])
    # The lower tail is only wanted where it is the smaller one.
    wanted = ~near & ~(upper < 0.5)
    lower[wanted] = special.betaincc(a[wanted], b[wanted], x[wanted])
    log_upper = np.where(upper < 0.5, _log(upper), special.log1p(-lower))
    deep = (upper < _DEEP) & (ratio > 0)
    log_upper[deep] = _log_beta_deep(ratio[deep], log_ratio[deep], a[deep], b[deep])
    return lower, upper, log_upper


def _near_tails(x: FloatArray, y: FloatArray, a: FloatArray, b: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Upper and lower tail where y is at most x."""
    lower = np.asarray(special.betainc(b, a, y), dtype=np.float64)
    upper = 1 - lower
    small = lower > 0.5
    upper[small] = special.betainc(a[small], b[small], x[small])
    # x is rounded, and the tail off by as many of its roundings as a is large: there the complement is worth
    # its time, which is ten times as long.
    small &= a > _MOST_ROUNDINGS
    upper[small] = special.betaincc(b[small], a[small], y[small])
    return upper, lower


def _log_beta_deep(ratio: FloatArray, log_ratio: FloatArray, a: FloatArray, b: FloatArray) -> FloatArray:
    """``log I_x(a, b)`` for ``y / x = ratio`` far above ``b / a``.

    The continued fraction of Didonato & Morris (1992, doi 10.1145/131766.131776, eq. 9), whose
    coefficients hold ``a y - b x`` rather than the cancelling ``a - (a + b) x``.
    """
    x, y = 1 / (1 + ratio), 1 / (1 + 1 / ratio)
    log_x = np.where(np.isposinf(ratio), -log_ratio, -special.log1p(ratio))
    log_y = -special.log1p(1 / ratio)
    log_front = a * log_x + b * log_y - special.betaln(a, b)
    # An infinite statistic leaves nothing to multiply.
    log_front = np.where(np.isposinf(log_ratio), -np.inf, log_front)
    return log_front - _log(_continued_fraction(_beta_coefficients, (x, a * y - b * x, a, b)))


def _beta_coefficients(
    step: int, x: FloatArray, tilt: FloatArray, a: FloatArray, b: FloatArray
) -> _Coefficients:
    """Numerator and denominator of step ``step`` for the incomplete beta function."""
    if step == 0:  # the general terms are 0/0 where a = 1
        return np.zeros_like(a), a * ((tilt + 1) / (a + 1))
    odd = a + (2 * step - 1)
    numerator = (a + (step - 1)) / odd * ((a + b + (step - 1)) / odd) * (step * (b - step)) * x * x
    denominator = step + step * (b - step) * x / odd + (a + step) * ((tilt + 1 + step * (2 - x)) / (odd + 2))
    return numerator, denominator


def _log_gamma_deep(x: FloatArray, a: FloatArray) -> FloatArray:
    """``log Q(a, x)`` for x far above a: Legendre's continued fraction (DLMF 8.9.2)."""
    log_front = a * _log(x) - x - special.gammaln(a)
    return log_front - _log(_continued_fraction(_gamma_coefficients, (x, a)))


def _gamma_coefficients(step: int, x: FloatArray, a: FloatArray) -> _Coefficients:
    """Numerator and denominator of step ``step`` for the incomplete gamma function."""
    return step * (a - step), x - a + (2 * step + 1)


def _continued_fraction(
    coefficients: Callable[..., _Coefficients], arguments: tuple[FloatArray, ...]
) -> FloatArray:
    """``b0 + a1 / (b1 + a2 / (b2 + ...))`` by the modified Lentz method.

    Each element leaves the loop at its own convergence, so it gets the bits it would get alone.
    """
    value = np.asarray(coefficients(0, *arguments)[1])
    c, d, current = value.copy(), np.zeros_like(value), value.copy()
    active = np.arange(value.size)
    for step in range(1, _MAX_STEPS):
        if active.size == 0:
            break
        numerator, denominator = coefficients(step, *arguments)
        d = 1 / _away_from_zero(denominator + numerator * d)
        c = _away_from_zero(denominator + numerator / c)
        current = current * (c * d)
        # Written so that NaN leaves, too.
        going = np.abs(c * d - 1) > _STEP
        if not going.all():
            value[active] = current
            active, c, d, current = active[going], c[going], d[going], current[going]
            arguments = tuple(argument[going] for argument in arguments)
    value[active] = current
    return value


def _away_from_zero(x: FloatArray) -> FloatArray:
    """Replace an exact zero, which Lentz's method would divide by."""
    return np.where(x == 0, _TINY, x)
