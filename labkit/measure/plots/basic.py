"""Pictures that more than one lesson uses: calls, comparisons, bars, the speed-up curve."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from labkit.measure.plots.style import (
    CLEAR,
    INK,
    NEUTRAL,
    PALETTE,
    color,
    counted,
    figure,
    in_ms,
    number,
)

WANTED = 5  # times as fast, as the article has it
MOST_LABELS_RANGE = 1000  # a wider logarithmic axis has room for powers of ten only


def calls(milliseconds: Sequence[float], kinds: Sequence[str]) -> None:
    """Draw one bar a call, coloured as a miss or a hit.

    Args:
        milliseconds: the time of each call, in order.
        kinds: "miss" or "hit" for each call.
    """
    misses = sum(kind == "miss" for kind in kinds)
    title = f"{misses} of {counted(len(kinds), 'call')} missed"
    numbers = range(1, len(kinds) + 1)
    with figure(title, 3.2) as axes:
        axes.bar(numbers, milliseconds, color=[color(kind) for kind in kinds], width=0.7)
        for call, height, kind in zip(numbers, milliseconds, kinds, strict=True):
            text = f"{kind}\n{number(height)}"
            axes.annotate(text, (call, height), (0, 4), textcoords="offset points", ha="center")
        axes.set(xlabel="call", ylabel="time (ms)", xticks=list(numbers))
        axes.margins(y=0.25)


def comparison(times: Mapping[str, Sequence[float]]) -> None:
    """Draw each round as a point and each median as a line, on a logarithmic axis.

    Args:
        times: for each candidate, by its name, the milliseconds of each round.
    """
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    names = list(times)
    medians = {name: statistics.median(times[name]) for name in names}
    with figure(_compared(medians), 1.3 + 0.6 * len(names)) as axes:
        for row, name in enumerate(names):
            points = times[name]
            heights = [row + 0.24 * ((n * 7 % 11) / 5 - 1) for n in range(len(points))]
            axes.scatter(points, heights, s=16, alpha=0.5, color=color(name), linewidths=0)
            axes.vlines(medians[name], row - 0.36, row + 0.36, color=INK, linewidth=2)
        axes.set(xscale="log", xlabel="time (ms, logarithmic); black line: median")
        low, high = axes.get_xlim()
        is_wide = high / low > MOST_LABELS_RANGE
        axes.xaxis.set_major_locator(LogLocator(subs=(1,) if is_wide else (1, 2, 5)))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_yticks(range(len(names)), names)
        axes.invert_yaxis()
        axes.grid(axis="x", alpha=0.3)


def _compared(medians: Mapping[str, float]) -> str:
    """Name the fastest and the slowest, each where it is clearly apart from all others."""
    order = sorted(medians, key=medians.__getitem__)
    ordered = [medians[name] for name in order]
    if len(order) == 1:
        return f"{order[0]}: {in_ms(ordered[0])} in the median"
    is_fastest, is_slowest = (slow > CLEAR * fast for fast, slow in (ordered[:2], ordered[-2:]))
    if not ordered[0] or not (is_fastest or is_slowest):
        return f"Medians between {in_ms(ordered[0])} and {in_ms(ordered[-1])}"
    most = number(ordered[-1] / ordered[0])
    if is_fastest and is_slowest:
        return f"{order[-1]}: {most} times as long as {order[0]}"
    if is_fastest:
        least = number(ordered[1] / ordered[0])
        return f"{order[0]} is the fastest: the others take {least} to {most} times as long"
    least = number(ordered[-1] / ordered[-2])
    return f"{order[-1]} is the slowest: {least} to {most} times as long as the others"


def bars(values: Mapping[str, float], title: str, unit: str, highlight: str = "") -> None:
    """Draw one horizontal bar a value, with the value written beside it.

    Args:
        values: a number for each name.
        title: the finding, in words.
        unit: what the numbers count.
        highlight: the name whose bar has the colour of a miss; the others have their own or grey.
    """
    from matplotlib.ticker import StrMethodFormatter

    with figure(title, 1.2 + 0.45 * len(values)) as axes:
        shades = [PALETTE["miss"] if name == highlight else color(name) for name in values]
        drawn = axes.barh(list(values), list(values.values()), color=shades, height=0.6)
        axes.bar_label(drawn, [number(value) for value in values.values()], padding=4)
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.10g}"))
        axes.set(xlabel=unit)
        axes.invert_yaxis()
        axes.margins(x=0.12)


def speed_up(sql_ms: float, hit_ms: float, miss_ms: float, points: Mapping[float, float]) -> None:
    """Draw mean speed-up against hit ratio: the law as a curve, the measured points upon it.

    Amdahl's law (1967), with hits as the part that is made faster.

    Args:
        sql_ms: time of the query without a cache, in milliseconds.
        hit_ms: time of a hit, in milliseconds.
        miss_ms: time of a miss, in milliseconds.
        points: measured speed-ups, by hit ratio (0 to 1).
    """
    from matplotlib.ticker import NullFormatter

    ratios = [n / 1000 for n in range(1001)]
    curve = [sql_ms / (ratio * hit_ms + (1 - ratio) * miss_ms) for ratio in ratios]
    with figure(_sped_up(points), 4.2) as axes:
        percents = [100 * ratio for ratio in ratios]
        axes.plot(percents, curve, color=PALETTE["hit"], label="Amdahl's law")
        axes.scatter(
            [100 * ratio for ratio in points], list(points.values()),
            color=INK, zorder=3, label="measured",
        )  # fmt: skip
        axes.axhline(1, color=NEUTRAL, linewidth=1, linestyle="--", label="no cache")
        if curve[0] < WANTED <= curve[-1]:
            five = next(100 * n for n, gain in zip(ratios, curve, strict=True) if gain >= WANTED)
            percent = f"{five:.0f}" if five < 99 else f"{five:.1f}"
            axes.annotate(
                f"by the law ×{WANTED} at {percent} %", (five, WANTED), (-190, 30),
                textcoords="offset points", arrowprops={"arrowstyle": "->", "color": INK},
            )  # fmt: skip
        axes.set(yscale="log", xlabel="hit ratio (%)", ylabel="mean speed-up (times)")
        ticks = [0.1, 0.2, 0.5, 1, 2, 5, 10, 100, 1000, 10_000]
        axes.set_yticks(ticks, [number(tick) for tick in ticks])
        axes.yaxis.set_minor_formatter(NullFormatter())
        drawn = [1, *curve, *points.values()]
        axes.set(ylim=(min(drawn) * 0.8, max(drawn) * 1.6), xlim=(-2, 102))
        axes.grid(alpha=0.3)
        axes.legend(loc="upper left")


def _sped_up(points: Mapping[float, float]) -> str:
    """Say between which of the measured hit ratios the mean is five times as fast.

    A point near five is on neither side.
    """
    order = sorted(points)
    below = [ratio for ratio in order if points[ratio] * CLEAR < WANTED]
    above = [ratio for ratio in order if points[ratio] > CLEAR * WANTED]
    if below and below == order:
        return f"Measured up to {_percent(order[-1])} hits: never five times as fast"
    if below and above and below[-1] < above[0]:
        too_few, enough = _percent(below[-1]), _percent(above[0])
        return f"Five times as fast: {too_few} hits are too few, {enough} are enough"
    return "Mean speed-up against hit ratio"


def _percent(ratio: float) -> str:
    return f"{100 * ratio:.3g} %"
