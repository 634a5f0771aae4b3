"""What it costs to invalidate a tag, against how many entries it has."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping

from labkit.measure.plots.style import INK, NEUTRAL, PALETTE, figure, listed, number

MARKERS = "osD^v"
# From an end of a line to the other, or nothing is said of it: the wide gap between is noise's.
FLAT = 10  # times the time at most, while the entries become FLAT_OVER times as many
FLAT_OVER = 10_000
GROWS = 0.5  # the power of the entries at least, while they become GROWS_OVER times as many
GROWS_OVER = 100
BESIDE_LINES = {"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 1}
APART = 0.055  # of the axis' height: labels nearer than that would overlap


def invalidation_cost(costs: Mapping[str, Mapping[int, float]]) -> None:
    """Draw time against entries, both logarithmic, a line a strategy with its name at its end.

    Args:
        costs: for each strategy, the seconds that an invalidation took, by the number of entries.
            The one that is called "tokens" has the colour of what is fixed.
    """
    with figure(_finding(costs), 4.4) as axes:
        for (name, points), marker in zip(costs.items(), itertools.cycle(MARKERS), strict=False):
            sizes = sorted(points)
            shade = PALETTE["fixed"] if name == "tokens" else NEUTRAL
            milliseconds = [1000 * points[size] for size in sizes]
            axes.plot(sizes, milliseconds, color=shade, marker=marker, markersize=6, linewidth=2)
        axes.set(xscale="log", yscale="log", xlabel="entries of the tag", ylabel="time (ms)")
        most = max(size for points in costs.values() for size in points)
        least = min(size for points in costs.values() for size in points)
        axes.set_xlim(least * 0.8, most * max(most / least, 10) ** 0.3)
        powers = [10**power for power in range(13) if least <= 10**power <= most]
        axes.set_xticks(powers if len(powers) > 1 else [least, most])
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.yaxis.set_major_formatter("{x:,g}")
        axes.minorticks_off()
        axes.grid(alpha=0.3)
        ends = {name: max(points) for name, points in costs.items()}
        to_axes = axes.transData + axes.transAxes.inverted()
        heights = {
            name: to_axes.transform((end, 1000 * costs[name][end]))[1] for name, end in ends.items()
        }
        for name, height in _spread(heights).items():
            left = to_axes.transform((ends[name], 1))[0] + 0.015
            shade = PALETTE["fixed"] if name == "tokens" else INK
            axes.text(
                left, height, name, transform=axes.transAxes, va="center", color=shade,
                weight="bold", bbox=BESIDE_LINES,
            )  # fmt: skip


def _finding(costs: Mapping[str, Mapping[int, float]]) -> str:
    """Say which lines are clearly flat, each over its own sizes, or that all clearly grow."""
    spans = {name: max(points) / min(points) for name, points in costs.items()}
    if flat := [name for name, points in costs.items() if _is_flat(points)]:
        sizes = {spans[name] for name in flat}
        times = f"{'at least ' if len(sizes) > 1 else ''}{number(min(sizes))} times"
        return f"{listed(flat)}: {times} the entries, less than {FLAT} times the time"
    if not all(map(_grows, costs.values())):
        return "Time of an invalidation, against the entries of its tag"
    if len(set(spans.values())) > 1:
        return "Each way takes longer, the more entries there are"
    growth = [points[max(points)] / points[min(points)] for points in costs.values()]
    times = " to ".join(dict.fromkeys(map(number, (min(growth), max(growth)))))
    return f"{number(max(spans.values()))} times the entries take {times} times as long"


def _is_flat(points: Mapping[int, float]) -> bool:
    costs = points.values()
    return max(points) >= FLAT_OVER * min(points) and max(costs) < FLAT * min(costs)


def _grows(points: Mapping[int, float]) -> bool:
    least, most = min(points), max(points)
    if most < GROWS_OVER * least or not points[least]:
        return False
    return points[most] / points[least] > math.pow(most / least, GROWS)


def _spread(heights: Mapping[str, float]) -> dict[str, float]:
    """Move labels up where they would overlap the one below."""
    placed: dict[str, float] = {}
    for name in sorted(heights, key=heights.__getitem__):
        lowest = max(placed.values(), default=-1.0) + APART
        placed[name] = max(heights[name], lowest)
    return placed
