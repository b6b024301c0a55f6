"""Small charts as shapes in the units of an SVG's view box; the template gives them their colours."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from blmm_bids.stats.model import FloatArray

WIDTH, HEIGHT = 420.0, 260.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 58.0, 12.0, 10.0, 46.0
_N_TICKS = 5
# Points of a quantile plot: enough for a smooth line whatever the number of voxels.
_N_QUANTILES = 300
_BAND = 0.95
# Bars of whole numbers; where there would be more, they are binned.
_MAX_BARS = 60
# Points of the curve of a density.
_N_CURVE = 80
# Dots of a scatter plot that are not marked; more would make the page large and show no more.
MAX_POINTS = 1200


@dataclass(frozen=True)
class Axis:
    """An axis: what it shows, its range, and where the ticks are in the view box."""

    label: str
    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]


@dataclass(frozen=True)
class Bar:
    """A rectangle, with the text that it shows when pointed at."""

    x: float
    y: float
    width: float
    height: float
    text: str
    kind: str = ""


@dataclass(frozen=True)
class Point:
    """A dot, with the text that it shows when pointed at."""

    x: float
    y: float
    text: str
    kind: str = ""


@dataclass(frozen=True)
class Curve:
    """A line or, closed, an area: SVG's list of points."""

    points: str
    kind: str


@dataclass(frozen=True)
class Chart:
    """What the template draws.

    Attributes
    ----------
    title : str
        What the chart shows, in words, for those who do not see it.
    x, y : Axis
    bars, points, curves : tuple
        Curves are drawn first.
    width, height : float
        Of the view box.
    """

    title: str
    x: Axis
    y: Axis
    bars: tuple[Bar, ...] = ()
    points: tuple[Point, ...] = ()
    curves: tuple[Curve, ...] = ()
    width: float = WIDTH
    height: float = HEIGHT

    @property
    def frame(self) -> tuple[float, float, float, float]:
        """Left, top, right and bottom of the plot."""
        return _LEFT, _TOP, self.width - _RIGHT, self.height - _BOTTOM


def histogram(
    values: FloatArray,
    title: str,
    x_label: str,
    y_label: str,
    n_bins: int = 40,
    density: Callable[[FloatArray], FloatArray] | None = None,
) -> Chart | None:
    """Histogram of the finite values; None without any.

    Parameters
    ----------
    values : (point,)
    title, x_label, y_label : str
        In words.
    n_bins : int
    density : callable, optional
        Of the values that are expected; drawn as a curve over the bars.
    """
    finite = values[np.isfinite(values)]
    if not finite.size:
        return None
    counts, edges = np.histogram(finite, bins=n_bins)
    along = np.linspace(edges[0], edges[-1], _N_CURVE)
    expected = finite.size * (edges[1] - edges[0]) * density(along) if density else np.zeros(0)
    highest = max(int(counts.max()), int(np.ceil(expected.max(initial=0))))
    x, y = _x_axis(x_label, edges[0], edges[-1]), _count_axis(y_label, highest)
    line = [*zip(along.tolist(), expected.tolist(), strict=True)] if density else []
    curves = (Curve(_points(line, x, y), "expected"),) if line else ()
    bars = tuple(
        Bar(
            left := _px(x, low),
            top := _py(y, float(count)),
            round(max(_px(x, high) - left - 1, 0.5), 2),
            round(_py(y, 0) - top, 2),
            f"{low:.3g} to {high:.3g}: {count:,}",
        )
        for count, low, high in zip(counts.tolist(), edges[:-1].tolist(), edges[1:].tolist(), strict=True)
        if count
    )
    return Chart(title, x, y, bars=bars, curves=curves)


def count_chart(counts: FloatArray, title: str, x_label: str, y_label: str) -> Chart | None:
    """Bars of how often each whole number occurs, in their places on a scale; None without any."""
    if not counts.size:
        return None
    least, most = int(counts.min()), int(counts.max())
    if most - least >= _MAX_BARS:
        return histogram(counts, title, x_label, y_label)
    sizes = np.bincount(counts.astype(np.int64) - least).tolist()
    return bar_chart([(str(least + step), size) for step, size in enumerate(sizes)], title, x_label, y_label)


def bar_chart(pairs: Sequence[tuple[str, int]], title: str, x_label: str, y_label: str) -> Chart:
    """Bars of counts, one for each label in order."""
    most = max(count for _, count in pairs)
    y = _count_axis(y_label, most)
    step = (WIDTH - _LEFT - _RIGHT) / len(pairs)
    every = -(-len(pairs) // 12)
    bars, ticks = [], []
    for place, (label, count) in enumerate(pairs):
        left, top = _LEFT + place * step, _py(y, count)
        gap = min(2.0, step / 5)
        bars.append(
            Bar(round(left + gap, 2), top, round(step - 2 * gap, 2), round(_py(y, 0) - top, 2),
                f"{label}: {count:,}")
        )  # fmt: skip
        if place % every == 0:
            ticks.append((round(left + step / 2, 2), label))
    x = Axis(x_label, 0, len(pairs), tuple(ticks))
    return Chart(title, x, y, bars=tuple(bars))


def scatter(
    x_values: FloatArray,
    y_values: FloatArray,
    texts: Sequence[str],
    kinds: Sequence[str],
    title: str,
    labels: tuple[str, str],
) -> Chart | None:
    """Dots of the pairs that are finite; None without any.

    Parameters
    ----------
    x_values, y_values : (point,)
    texts, kinds : sequence of str
        What each shows when pointed at, and ``flagged`` or an empty string.
    title : str
        In words.
    labels : tuple of str
        Of the axes.
    """
    finite = np.isfinite(x_values) & np.isfinite(y_values)
    if not finite.any():
        return None
    x = _x_axis(labels[0], float(x_values[finite].min()), float(x_values[finite].max()))
    y = _y_axis(labels[1], float(y_values[finite].min()), float(y_values[finite].max()))
    rows = np.flatnonzero(finite)
    if len(rows) > MAX_POINTS:
        marked = np.array([bool(kinds[row]) for row in rows.tolist()])
        thinned = rows[np.linspace(0, len(rows) - 1, MAX_POINTS).astype(np.int64)]
        rows = np.union1d(thinned, rows[marked][:MAX_POINTS])
    points = tuple(
        Point(_px(x, float(x_values[row])), _py(y, float(y_values[row])), texts[row], kinds[row])
        for row in rows.tolist()
    )
    return Chart(title, x, y, points=points)


def quantile_plot(log_p: FloatArray, title: str) -> Chart | None:
    """Observed against expected -log10 p, with the pointwise band of independent tests; None without any.

    Parameters
    ----------
    log_p : (voxel,)
        -log10 p, NaN where there is no test.
    title : str
        In words.
    """
    observed = np.sort(log_p[np.isfinite(log_p)])[::-1]
    n = observed.size
    if not n:
        return None
    ranks = np.unique(np.round(np.geomspace(1, n, min(n, _N_QUANTILES))).astype(np.int64))
    expected = -np.log10(ranks / (n + 1))
    tail = (1 - _BAND) / 2
    upper = -np.log10(special.betaincinv(ranks, n + 1 - ranks, tail))
    lower = -np.log10(special.betaincinv(ranks, n + 1 - ranks, 1 - tail))
    chosen = observed[ranks - 1]
    high = float(max(chosen.max(), expected.max()))
    x = _x_axis("expected -log10 p", 0, float(expected.max()))
    y = _y_axis("observed -log10 p", 0, high)
    band = [*zip(expected, np.minimum(upper, high), strict=True)]
    band += reversed([*zip(expected, lower, strict=True)])
    line = [(0.0, 0.0), (float(expected.max()), float(expected.max()))]
    curves = (Curve(_points(band, x, y), "band"), Curve(_points(line, x, y), "identity"))
    points = tuple(
        Point(_px(x, float(a)), _py(y, float(b)), f"expected {a:.2f}, observed {b:.2f}")
        for a, b in zip(expected, chosen, strict=True)
    )
    return Chart(title, x, y, points=points, curves=curves)


def _points(pairs: Sequence[tuple[float, float]], x: Axis, y: Axis) -> str:
    return " ".join(f"{_px(x, float(a)):g},{_py(y, float(b)):g}" for a, b in pairs)


def _x_axis(label: str, low: float, high: float) -> Axis:
    return _axis(label, low, high, _px)


def _y_axis(label: str, low: float, high: float) -> Axis:
    return _axis(label, low, high, _py)


def _count_axis(label: str, high: int) -> Axis:
    return _axis(label, 0, float(high), _py, integer=True)


def _axis(
    label: str, low: float, high: float, place: Callable[[Axis, float], float], *, integer: bool = False
) -> Axis:
    from matplotlib.ticker import MaxNLocator

    if high <= low:
        half = abs(low) / 2 or 0.5
        low, high = low - half, high + half
    values = MaxNLocator(nbins=_N_TICKS, steps=[1, 2, 2.5, 5, 10], integer=integer).tick_values(low, high)
    # A little air, so that no dot is cut at the frame; counts start at their zero.
    margin = 0.04 * (high - low)
    axis = Axis(label, low if low == 0 else low - margin, high + margin, ())
    ticks = [(place(axis, value), _number(value)) for value in values if axis.low <= value <= axis.high]
    return Axis(label, axis.low, axis.high, tuple(ticks))


def _px(axis: Axis, value: float) -> float:
    share = (value - axis.low) / (axis.high - axis.low)
    return round(_LEFT + share * (WIDTH - _LEFT - _RIGHT), 2)


def _py(axis: Axis, value: float) -> float:
    share = (value - axis.low) / (axis.high - axis.low)
    return round(HEIGHT - _BOTTOM - share * (HEIGHT - _TOP - _BOTTOM), 2)


def _number(value: float) -> str:
    if value == 0 or abs(value) < 1e-12:
        return "0"
    return f"{value:,.0f}" if abs(value) >= 1000 and value == int(value) else f"{value:.4g}"
