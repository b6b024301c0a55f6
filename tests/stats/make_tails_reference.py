"""Write ``tails_reference.csv``: logs of tail probabilities in high precision.

Run by hand (it needs mpmath, which the tests do not): ``python tests/stats/make_tails_reference.py``.
Positive series only, summed at a precision beyond the probability's own exponent.
"""

from __future__ import annotations

import csv
from itertools import product
from pathlib import Path

import mpmath as mp

DIGITS = 60
SMALLEST_LOG_P = -13_000


def sum_series(s: mp.mpf, c: mp.mpf, x: mp.mpf) -> mp.mpf:
    """``2F1(s, 1; c; x)`` term by term."""
    term = total = mp.mpf(1)
    n = 0
    while term > total * mp.mpf(10) ** (-mp.mp.dps) or (s + n) / (c + n) * x >= 1:
        term *= (s + n) / (c + n) * x
        total += term
        n += 1
    return total


def log_upper_beta(ratio: mp.mpf, a: mp.mpf, b: mp.mpf) -> mp.mpf:
    """``log I_x(a, b)`` with ``(1 - x) / x = ratio``."""
    mp.mp.dps = DIGITS
    x, y = 1 / (1 + ratio), ratio / (1 + ratio)
    if x < 0.97:
        return mp.log(x**a * y**b / (a * mp.beta(a, b)) * sum_series(a + b, a + 1, x))
    # Where a probability is 10^-N, the complement needs more than N digits.
    mp.mp.dps = DIGITS + int(abs(a * mp.log10(x)))
    if mp.mp.dps > DIGITS - SMALLEST_LOG_P / 2:
        return mp.ninf
    x, y = 1 / (1 + ratio), ratio / (1 + ratio)
    return mp.log1p(-(x**a) * y**b / (b * mp.beta(a, b)) * sum_series(a + b, b + 1, y))


def log_sf_t(t: float, df: float) -> mp.mpf:
    mp.mp.dps = DIGITS
    t, df = mp.mpf(t), mp.mpf(df)
    return log_upper_beta(t * t / df, df / 2, mp.mpf(1) / 2) - mp.log(2)


def log_sf_f(f: float, df1: float, df2: float) -> mp.mpf:
    mp.mp.dps = DIGITS
    f, df1, df2 = mp.mpf(f), mp.mpf(df1), mp.mpf(df2)
    return log_upper_beta(df1 * f / df2, df2 / 2, df1 / 2)


def log_sf_chi2(x: float, df: float) -> mp.mpf:
    mp.mp.dps = DIGITS
    return mp.log(mp.gammainc(mp.mpf(df) / 2, mp.mpf(x) / 2, regularized=True))


CASES = {
    "t": product(
        (0.5, 1, 3, 12.5, 47, 300, 1e4, 1e6), (0.25, 1, 3, 10, 37, 60, 150, 1e3, 1e6, 1e40, 1e160, 1e300)
    ),
    "f": product((1, 2, 5.5, 40), (0.5, 2.5, 47, 300, 1e4, 1e6), (1.5, 5, 40, 300, 1e4, 1e20, 1e200)),
    "chi2": product((0.5, 1, 2, 3, 10, 57.5, 1e3, 1e5, 1e6), (0.9, 1.01, 1.5, 3, 100, 3000, 30_000)),
}


def main() -> None:
    rows = []
    mp.mp.dps = DIGITS
    for df, t in CASES["t"]:
        rows.append(("t", t, df, "", log_sf_t(t, df)))
    for df1, df2, f in CASES["f"]:
        rows.append(("f", f, df1, df2, log_sf_f(f, df1, df2)))
    for df, scale in CASES["chi2"]:
        rows.append(("chi2", scale * df, df, "", log_sf_chi2(scale * df, df)))
    with (Path(__file__).parent / "tails_reference.csv").open("w", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(("distribution", "statistic", "df1", "df2", "log_p"))
        for name, statistic, df1, df2, log_p in rows:
            if SMALLEST_LOG_P < log_p < -1e-20:
                writer.writerow((name, repr(float(statistic)), df1, df2, mp.nstr(log_p, 20)))


if __name__ == "__main__":
    main()
