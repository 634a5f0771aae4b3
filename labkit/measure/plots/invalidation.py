"""What it costs to invalidate a tag, against how many entries it has."""

from __future__ import annotations

from collections.abc import Mapping

from labkit.measure.plots.style import INK, NEUTRAL, PALETTE, figure, number

MARKERS = "osD^v"
FLAT = 2.0  # a cost that grows less than this over all sizes does not grow with them
APART = 0.055  # of the axis' height: labels nearer than that would overlap


def invalidation_cost(costs: Mapping[str, Mapping[int, float]]) -> None:
    """Draw time against entries, both logarithmic, a line a strategy with its name at its end.

    Args:
        costs: for each strategy, the seconds that an invalidation took, by the number of entries.
            The one that is called "tokens" has the colour of what is fixed.
    """
    with figure(_finding(costs), 4.4) as axes:
        for (name, points), marker in zip(costs.items(), MARKERS, strict=False):
            sizes = sorted(points)
            shade = PALETTE["fixed"] if name == "tokens" else NEUTRAL
            milliseconds = [1000 * points[size] for size in sizes]
            axes.plot(sizes, milliseconds, color=shade, marker=marker, markersize=6, linewidth=2)
        axes.set(xscale="log", yscale="log", xlabel="entries of the tag", ylabel="time (ms)")
        most = max(size for points in costs.values() for size in points)
        least = min(size for points in costs.values() for size in points)
        axes.set_xlim(least * 0.8, most * (most / least) ** 0.3)
        axes.set_xticks([10**power for power in range(7) if least <= 10**power <= most])
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
                weight="bold",
            )  # fmt: skip


def _finding(costs: Mapping[str, Mapping[int, float]]) -> str:
    growth = {name: points[max(points)] / points[min(points)] for name, points in costs.items()}
    times = max(max(points) / min(points) for points in costs.values())
    if flat := [name for name in growth if growth[name] < FLAT]:
        return f"{number(times)} times the entries cost the same with {' and '.join(flat)}"
    low, high = number(min(growth.values())), number(max(growth.values()))
    return f"{number(times)} times the entries take {low} to {high} times as long"


def _spread(heights: Mapping[str, float]) -> dict[str, float]:
    """Move labels up where they would overlap the one below."""
    placed: dict[str, float] = {}
    for name in sorted(heights, key=heights.__getitem__):
        lowest = max(placed.values(), default=-1.0) + APART
        placed[name] = max(heights[name], lowest)
    return placed
