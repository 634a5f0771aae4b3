"""The picture of caches side by side: how long a hit takes, and whether it may be wrong."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from labkit.measure.plots.style import CLEAR, INK, PALETTE, figure, number

SHARED = {True: "a second worker sees an invalidation", False: "it does not"}
MARKERS = {True: "o", False: "X"}  # so that nobody needs the colours


def backends(times: Mapping[str, Sequence[float]], shared: Mapping[str, bool]) -> None:
    """Draw each hit as a mark and each median as a line, on a logarithmic axis.

    Args:
        times: the milliseconds of hits in each cache, by its name.
        shared: whether a second worker sees it when a first one invalidates, by the same names.
    """
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    medians = {name: statistics.median(times[name]) for name in times}
    colors = {True: PALETTE["fixed"], False: PALETTE["stale"]}
    with figure(_fastest(medians, shared), 1.7 + 0.5 * len(times)) as axes:
        for row, name in enumerate(times):
            points, is_shared = times[name], shared[name]
            heights = [row + 0.22 * ((n * 7 % 11) / 5 - 1) for n in range(len(points))]
            axes.scatter(
                points, heights, s=20, alpha=0.5, linewidths=0,
                color=colors[is_shared], marker=MARKERS[is_shared],
            )  # fmt: skip
            axes.vlines(medians[name], row - 0.36, row + 0.36, color=INK, linewidth=2)
        for is_shared in sorted(set(shared.values()), reverse=True):
            axes.scatter(
                [], [], color=colors[is_shared], marker=MARKERS[is_shared], label=SHARED[is_shared]
            )
        axes.set(xscale="log", xlabel="a hit (ms, logarithmic); black line: median")
        axes.xaxis.set_major_locator(LogLocator())
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_yticks(range(len(times)), list(times))
        axes.invert_yaxis()
        axes.grid(axis="x", alpha=0.3)
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2)


def _fastest(medians: Mapping[str, float], shared: Mapping[str, bool]) -> str:
    """Say of the fastest whether it is wrong, if it is clearly faster than those that are not."""
    order = sorted(medians, key=medians.__getitem__)
    right = [name for name in order if shared[name]]
    if not right or len(right) == len(order):
        return "Time of a hit"
    best, first = right[0], order[0]
    if medians[best] <= CLEAR * medians[first]:
        return "Time of a hit, and whether a second worker sees an invalidation"
    alone = len(order) < 3 or medians[order[1]] > CLEAR * medians[first]
    who = f"The fastest cache, {first}, is" if alone else "The fastest caches are"
    longer = number(medians[best] / medians[first])
    return f"{who} wrong in a second worker: to be right takes {longer} times as long"
