"""Faults on a time line: what visitors waited, and how many of their answers were hits."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from labkit.measure.plots.load import percentile
from labkit.measure.plots.style import INK, NEUTRAL, PALETTE, counted, figure, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SLICE = 0.2  # seconds that one point of a curve stands for
LANE = 1.9  # inches that one lane is high
SHARE = 0.36  # of a lane, for the share of hits
AWAY_ALPHA, BACK_ALPHA = 0.30, 0.12  # of the shades: while Redis is away, and until hits are back


@dataclass(frozen=True)
class Outage:
    """One fault, and the load around it. Times are seconds since the time line's beginning.

    Attributes:
        name: what happened.
        begin: when it did.
        end: when the server served again.
        back: when hits had returned; None if they did not.
        latencies: when each request was due, and how long it took, in milliseconds.
        answers: when each answer was found, and whether it was a hit.
        errors: how many requests were answered with an error.
        told: of its invalidations, how many were owed, and whether any was lost.
    """

    name: str
    begin: float
    end: float
    back: float | None
    latencies: Sequence[tuple[float, float]]
    answers: Sequence[tuple[float, bool]]
    errors: int
    told: str


def timeline(lanes: Mapping[str, Sequence[Outage]]) -> None:
    """Draw what each lane's visitors waited, and how many of their answers were hits.

    Darker is shaded while the server was away, lighter until hits had returned.

    Args:
        lanes: the faults of each server, in their order.
    """
    with figure(_title(lanes), 0.9 + LANE * len(lanes)) as axes:
        if not lanes:
            axes.set_axis_off()
            return
        whole = axes.figure
        axes.remove()
        panels = whole.subplots(
            2 * len(lanes), 1, sharex=True, squeeze=False,
            height_ratios=[1 - SHARE, SHARE] * len(lanes),
        )[:, 0]  # fmt: skip
        every = [took for own in lanes.values() for each in own for _, took in each.latencies]
        for row, (name, outages) in enumerate(lanes.items()):
            waits, share = panels[2 * row], panels[2 * row + 1]
            for outage in outages:
                _draw(waits, share, outage)
            _dress(waits, share, name, min(every, default=1), max(every, default=10))
        panels[-1].set_xlabel("seconds; shaded: Redis away (darker), and until hits return")


def _draw(waits: Axes, share: Axes, outage: Outage) -> None:
    last = max((due for due, _ in outage.latencies), default=outage.end)
    back = last if outage.back is None else outage.back
    for axes in (waits, share):
        axes.axvspan(outage.begin, outage.end, color=NEUTRAL, alpha=AWAY_ALPHA, linewidth=0)
        if back > outage.end:
            axes.axvspan(outage.end, back, color=NEUTRAL, alpha=BACK_ALPHA, linewidth=0)
    waits.plot(*_curve(outage.latencies, _p99), color=INK, linewidth=1.6)
    hits = [(at, float(is_hit)) for at, is_hit in outage.answers]
    moments, shares = _curve(hits, lambda values: 100 * sum(values) / len(values))
    share.fill_between(moments, shares, color=PALETTE["hit"], alpha=0.85, linewidth=0, step=None)
    waits.annotate(
        outage.name, (outage.begin, 1.0), (2, -2), xycoords=("data", "axes fraction"),
        textcoords="offset points", va="top", fontsize=9, weight="bold",
    )  # fmt: skip
    share.annotate(  # where there are no hits
        outage.told, (outage.begin, 1.0), (4, -3), xycoords=("data", "axes fraction"),
        textcoords="offset points", va="top", fontsize=8,
    )  # fmt: skip


def _curve(points: Sequence[tuple[float, float]], of: object) -> tuple[list[float], list[float]]:
    """Return a value for each slice of time, and a gap where nothing was."""
    assert callable(of)
    slices: dict[int, list[float]] = {}
    for at, value in points:
        slices.setdefault(math.floor(at / SLICE), []).append(value)
    if not slices:
        return [], []
    places = range(min(slices), max(slices) + 1)
    values = [of(slices[place]) if place in slices else math.nan for place in places]
    return [(place + 0.5) * SLICE for place in places], values


def _p99(values: Sequence[float]) -> float:
    return percentile(Counter(values), 99)


def _dress(waits: Axes, share: Axes, name: str, low: float, high: float) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    waits.set(yscale="log", ylabel=f"{name}\np99, ms")
    waits.set_ylim(min(1.0, low), high * 6)  # room for the fault's name
    waits.yaxis.set_major_locator(LogLocator())
    waits.yaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
    waits.yaxis.set_minor_formatter(NullFormatter())
    waits.grid(alpha=0.3)
    share.set(ylabel="hits, %", ylim=(0, 100), yticks=[0, 100])
    for axes in (waits, share):
        axes.tick_params(labelsize=9)
        axes.yaxis.label.set_fontsize(9)


def _title(lanes: Mapping[str, Sequence[Outage]]) -> str:
    outages = [each for own in lanes.values() for each in own]
    if not outages:
        return "No fault was measured"
    requests = sum(len(each.latencies) for each in outages)
    errors = sum(each.errors for each in outages)
    told = f"{counted(len(outages), 'fault')}, {counted(requests, 'request')}, "
    told += counted(errors, "error") if errors else "no error"
    late = [each.name for each in outages if each.back is None]
    if late:
        return f"{told}; no hits after: {', '.join(late)}"
    slowest = max(max(0.0, each.back - each.end) for each in outages if each.back is not None)
    return f"{told}; hits back within {slowest:.1f} s once Redis serves again"
