"""The pictures of the lessons, in one style and one palette.

Every lesson uses the same colours for the same things. They are Okabe and Ito's, which people with
any common kind of colour blindness can tell apart (https://jfly.uni-koeln.de/color/). Figures are
drawn on white, so that they read the same in JupyterLab's light and dark themes and on paper.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from labkit.measure.timing import Comparison

PALETTE = {"miss": "#D55E00", "hit": "#0072B2", "stale": "#CC79A7", "fixed": "#009E73"}
NEUTRAL = "#7F7F7F"
INK = "#222222"
STYLE: dict[Any, Any] = {
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "axes.facecolor": "white",
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": 13,
    "axes.titleweight": "bold",
    "axes.titlepad": 12,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "font.size": 11,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "figure.dpi": 110,
}
WIDTH = 8.0  # inches


def color(name: str) -> str:
    """Return the colour of what is named: that of miss, hit, stale or fixed, else grey."""
    return next((shade for kind, shade in PALETTE.items() if kind in name), NEUTRAL)


@contextmanager
def _figure(title: str, height: float) -> Iterator[Axes]:
    """Give axes to draw on in the house style, and show them afterwards."""
    import matplotlib.pyplot as plt

    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(WIDTH, height), layout="constrained")
        yield axes
        axes.set_title(title)
        plt.show()
        plt.close(figure)


def calls(milliseconds: Sequence[float], kinds: Sequence[str]) -> None:
    """Draw one bar a call, coloured as a miss or a hit.

    Args:
        milliseconds: the time of each call, in order.
        kinds: "miss" or "hit" for each call.
    """
    misses = sum(kind == "miss" for kind in kinds)
    title = f"{misses} of {len(kinds)} calls went to the database"
    numbers = range(1, len(kinds) + 1)
    with _figure(title, 3.2) as axes:
        axes.bar(numbers, milliseconds, color=[color(kind) for kind in kinds], width=0.7)
        for number, height, kind in zip(numbers, milliseconds, kinds, strict=True):
            text = f"{kind}\n{_ms(height)}"
            axes.annotate(text, (number, height), (0, 4), textcoords="offset points", ha="center")
        axes.set(xlabel="call", ylabel="time (ms)", xticks=list(numbers))
        axes.margins(y=0.25)


def comparison(compared: Comparison) -> None:
    """Draw each round as a point and each median as a line, on a logarithmic axis."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    names = list(compared.times)
    fastest, slowest = min(names, key=compared.median), max(names, key=compared.median)
    times = compared.median(slowest) / compared.median(fastest)
    title = f"{slowest}: {times:.3g} times as long as {fastest}"
    if len(names) == 1:
        title = f"{fastest}: {_ms(compared.median(fastest))} in the median"
    with _figure(title, 1.3 + 0.6 * len(names)) as axes:
        for row, name in enumerate(names):
            points = compared.times[name]
            heights = [row + 0.24 * ((n * 7 % 11) / 5 - 1) for n in range(len(points))]
            axes.scatter(points, heights, s=16, alpha=0.5, color=color(name), linewidths=0)
            axes.vlines(compared.median(name), row - 0.36, row + 0.36, color=INK, linewidth=2)
        axes.set(xscale="log", xlabel="time (ms, logarithmic); black line: median")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_yticks(range(len(names)), names)
        axes.invert_yaxis()
        axes.grid(axis="x", alpha=0.3)


def bars(values: Mapping[str, float], title: str, unit: str, highlight: str = "") -> None:
    """Draw one horizontal bar a value, with the value written beside it.

    Args:
        values: a number for each name.
        title: the finding, in words.
        unit: what the numbers count.
        highlight: the name whose bar has the colour of a miss; the others have their own or grey.
    """
    with _figure(title, 1.2 + 0.45 * len(values)) as axes:
        shades = [PALETTE["miss"] if name == highlight else color(name) for name in values]
        drawn = axes.barh(list(values), list(values.values()), color=shades, height=0.6)
        axes.bar_label(drawn, [f"{value:,.3g}" if value < 100 else f"{value:,.0f}"
                               for value in values.values()], padding=4)  # fmt: skip
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
    ratios = [n / 1000 for n in range(1001)]
    curve = [sql_ms / (ratio * hit_ms + (1 - ratio) * miss_ms) for ratio in ratios]
    five = next((ratio for ratio, gain in zip(ratios, curve, strict=True) if gain >= 5), None)
    title = f"Five times as fast on average takes {five:.0%} hits" if five else "Never 5 times"
    with _figure(title, 4.2) as axes:
        percents = [100 * ratio for ratio in ratios]
        axes.plot(percents, curve, color=PALETTE["hit"], label="the law")
        axes.scatter(
            [100 * ratio for ratio in points], list(points.values()),
            color=INK, zorder=3, label="measured",
        )  # fmt: skip
        axes.axhline(1, color=NEUTRAL, linewidth=1, linestyle="--", label="no cache")
        if five:
            axes.annotate(
                f"×5 at {five:.0%}", (100 * five, 5), (-110, 30), textcoords="offset points",
                arrowprops={"arrowstyle": "->", "color": INK},
            )  # fmt: skip
        axes.set(yscale="log", xlabel="hit ratio (%)", ylabel="mean speed-up (times)")
        axes.set_yticks([1, 2, 5, 10, 100, 1000], ["1", "2", "5", "10", "100", "1,000"])
        axes.set(ylim=(0.8, max(curve) * 1.6), xlim=(-2, 102))
        axes.grid(alpha=0.3)
        axes.legend(loc="upper left")


def cache_aside() -> None:
    """Draw the two paths of cache-aside, a hit and a miss, as messages between three lanes."""
    lanes = {"your function": 0.0, "Redis": 1.0, "database": 2.0}
    messages: list[tuple[str, float, float, str, str]] = [
        ("hit", 0, 1, "GET", "-"),
        ("hit", 1, 0, "the stored answer", "--"),
        ("miss", 0, 1, "GET", "-"),
        ("miss", 1, 0, "nothing", "--"),
        ("miss", 0, 2, "SELECT", "-"),
        ("miss", 2, 0, "rows", "--"),
        ("miss", 0, 1, "SET with a TTL", "-"),
    ]
    with _figure("A hit is one trip to Redis; a miss is two, and the query", 4.6) as axes:
        for name, x in lanes.items():
            axes.vlines(x, 0.2, len(messages) + 1.4, color=NEUTRAL, linewidth=1)
            axes.text(x, -0.1, name, ha="center", weight="bold")
        for row, (kind, source, target, text, line) in enumerate(messages):
            y = row + 1.0 + 0.6 * (kind == "miss")
            arrow: dict[str, Any] = {"arrowstyle": "->", "color": color(kind), "linewidth": 1.8}
            arrow["linestyle"] = line
            axes.annotate("", (target, y), (source, y), arrowprops=arrow)
            beside_redis = 0.5 if abs(source - target) == 1 else 1.5
            axes.text(beside_redis, y - 0.12, text, ha="center", color=color(kind))
        axes.text(-0.35, 1.6, "hit", color=color("hit"), weight="bold", va="center")
        axes.text(-0.35, 5.6, "miss", color=color("miss"), weight="bold", va="center")
        axes.set(xlim=(-0.5, 2.3), ylim=(len(messages) + 1.6, -0.5))
        axes.set_axis_off()


def _ms(milliseconds: float) -> str:
    return f"{milliseconds:.3g} ms" if milliseconds < 100 else f"{milliseconds:.0f} ms"
