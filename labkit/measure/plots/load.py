"""Pictures of load tests: how latencies are distributed, and what a hit ratio does."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

from labkit.measure.plots.style import INK, NEUTRAL, PALETTE, color, figure, in_ms, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MARKED = (95, 50, 99)  # percentiles; where two are close, the earlier one here has its name
BINS = 12  # in each power of ten
ROOM = 0.62  # of a lane, for its bars; the rest is for the marks' words
MIDDLE = 0.8  # a hit ratio: what comes up to it, and what after, is told apart
EXACT = 1e-9  # of shares that are added up
CLOSE = 0.05  # of the axis: words nearer than this would overlap


def latencies(counts: Mapping[str, Mapping[float, int]]) -> None:
    """Draw how the requests of each run are distributed, with p50, p95 and p99 marked.

    Bars are as high as the share of requests, each lane by itself; times are logarithmic.

    Args:
        counts: for each run, by its name, how many requests took so many milliseconds (above 0).
    """
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    names = [name for name in counts if sum(counts[name].values())]
    with figure(_p95s({name: counts[name] for name in names}), 1.3 + 0.95 * len(names)) as axes:
        axes.set(xscale="log", xlabel="latency (ms, logarithmic); lines: p50, p95, p99")
        times = [time for name in names for time in counts[name]]
        low, high = min(times, default=1), max(times, default=1)
        axes.set_xlim(low / 1.3, max(high * 1.6, low * 12))  # a power of ten has its name
        for row, name in enumerate(names):
            _lane(axes, row, name, counts[name])
        axes.xaxis.set_major_locator(LogLocator())
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_yticks([row + ROOM / 2 - 0.5 + (1 - ROOM) for row in range(len(names))], names)
        axes.set_ylim(len(names) - 0.45, -0.55)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)


def _lane(axes: Axes, row: int, name: str, counts: Mapping[float, int]) -> None:
    base = row + 0.5
    binned: Counter[int] = Counter()
    for time, count in counts.items():
        binned[math.floor(BINS * math.log10(time))] += count
    most = max(binned.values())
    for place, count in binned.items():
        left, right = (10 ** (edge / BINS) for edge in (place, place + 1))
        height = ROOM * count / most
        axes.bar(left, -height, right - left, base, color=color(name), align="edge", linewidth=0)
    axes.axhline(base, color=INK, linewidth=0.8)
    named: list[float] = []
    for percent in MARKED:
        time = percentile(counts, percent)
        axes.vlines(time, base, base - ROOM - 0.06, color=INK, linewidth=1.4)
        place = axes.transAxes.inverted().transform(axes.transData.transform((time, base)))[0]
        if all(abs(place - other) > CLOSE for other in named):
            axes.text(time, base - ROOM - 0.1, f"p{percent}", ha="center", fontsize=9)
            named.append(place)


def percentile(counts: Mapping[float, float], percent: float) -> float:
    """Return the time that so many percent of requests did not exceed (nearest rank).

    Args:
        counts: how many requests took how long, or which share of them; at least one.
        percent: from 0 to 100.
    """
    rank, seen = sum(counts.values()) * percent / 100 - EXACT, 0.0
    for time in sorted(counts):
        seen += counts[time]
        if seen >= rank:
            return time
    return max(counts)


def _p95s(counts: Mapping[str, Mapping[float, int]]) -> str:
    told = ", ".join(f"{name} {in_ms(percentile(own, 95))}" for name, own in counts.items())
    return f"p95: {told}" if told else "No request was answered"


def _risen(measured: Mapping[float, float], what: str) -> str:
    """Say how much comes of the ratios up to 80 %, and how much of the rest."""
    between = [ratio for ratio in measured if 0 < ratio < 1]
    if not between or not {0, 1} <= {*measured} or not all(measured.values()):
        return f"By hit ratio: {what}"
    middle = min(between, key=lambda ratio: abs(ratio - MIDDLE))
    first, then = measured[middle] / measured[0], measured[1] / measured[middle]
    return (
        f"{what}: {_factor(first)} up to {100 * middle:.0f} % hits, "
        f"{_factor(then)} from there to 100 %"
    )


def _factor(value: float) -> str:
    return f"×{number(value)}" if value >= 1 else f"÷{number(1 / value)}"


def by_hit_ratio(
    measured: Mapping[float, float], predicted: Mapping[float, float], what: str
) -> None:
    """Draw what was measured at some hit ratios over the curve that was predicted.

    Args:
        measured: the values, by hit ratio (0 to 1).
        predicted: the same, for the curve.
        what: what the values are, with their unit.
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    with figure(_risen(measured, what), 3.6) as axes:
        ratios = sorted(predicted)
        axes.plot(
            [100 * ratio for ratio in ratios], [predicted[ratio] for ratio in ratios],
            color=PALETTE["hit"], label="predicted",
        )  # fmt: skip
        axes.scatter(
            [100 * ratio for ratio in measured], list(measured.values()),
            color=INK, zorder=3, label="measured",
        )  # fmt: skip
        for ratio, value in measured.items():
            is_near = any(0 < other - ratio < CLOSE / 2 for other in measured)
            place, side = ((-6, 1), "right") if is_near else ((0, 9), "center")
            axes.annotate(
                number(value), (100 * ratio, value), place, textcoords="offset points",
                ha=side, fontsize=9,
            )  # fmt: skip
        axes.axvline(95, color=NEUTRAL, linewidth=1, linestyle="--")
        axes.set(yscale="log", xlabel="hit ratio (%); dashed: 95 %", ylabel=what, xlim=(-4, 104))
        axes.yaxis.set_major_locator(LogLocator())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
        axes.yaxis.set_minor_formatter(NullFormatter())
        drawn = [*measured.values(), *predicted.values()]
        axes.set_ylim(min(drawn) / 1.6, max(drawn) * 2.2)
        axes.grid(alpha=0.3)
        axes.legend(loc="best")
