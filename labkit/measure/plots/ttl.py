"""Entries without a deadline, without room, and with one deadline for all."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from labkit.measure.plots.style import CLEAR, INK, NEUTRAL, PALETTE, figure, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STEP = 1.25  # from one panel of deadlines to the next; a bar is at most 1 high
CLOSE = 0.05  # smaller differences between hit ratios are chance
PANEL = 1.4  # the width of a panel of hit ratios, of which 1 is for the bars


def growth(
    requests: Sequence[int], without: Sequence[float], with_ttl: Sequence[float], unit: str
) -> None:
    """Draw what is stored against requests, without a TTL and with one.

    Args:
        requests: how many requests had been served, at each look.
        without: what was stored then, without a TTL.
        with_ttl: the same with a TTL.
        unit: what that counts.
    """
    most = max(with_ttl)
    title = f"What is stored without a TTL, and with one: {unit}"
    if without[-1] > CLEAR * most > 0:
        title = f"At the end, without a TTL: {number(without[-1] / most)} times the most with one"
    with figure(title, 3.8) as axes:
        for values, name, shade in (
            (without, "no TTL", PALETTE["miss"]),
            (with_ttl, "with a TTL", PALETTE["fixed"]),
        ):
            axes.plot(requests, values, color=shade, linewidth=2.5, marker="o", markersize=4)
            axes.annotate(
                name, (requests[-1], values[-1]), (8, 0), textcoords="offset points",
                va="center", color=shade, weight="bold",
            )  # fmt: skip
        axes.set(xlabel="requests", ylabel=unit)
        axes.set_ylim(bottom=0)
        axes.set_xlim(0, requests[-1] * 1.24)
        axes.set_xticks([tick for tick in axes.get_xticks() if tick <= requests[-1]])
        axes.grid(alpha=0.3)


def policies(ratios: Mapping[str, Mapping[str, float]]) -> None:
    """Draw hit ratios as bars: a row for each policy, a panel for each part of the workload.

    What is close to the best of a panel has the colour of a hit, what is close to the worst that of
    a miss, where best and worst are far enough apart.

    Args:
        ratios: for each policy, a hit ratio (0 to 1) for each part.
    """
    names = list(ratios)
    parts = list(dict.fromkeys(part for row in ratios.values() for part in row))
    with figure(_best(ratios, parts), 1.4 + 0.45 * len(names)) as axes:
        for column, part in enumerate(parts):
            values = {
                row: ratios[name][part] for row, name in enumerate(names) if part in ratios[name]
            }
            _panel(axes, column * PANEL, part, values)
        axes.set_yticks(range(len(names)), names)
        axes.set_xticks([column * PANEL for column in range(len(parts))], ["0 %"] * len(parts))
        axes.set(xlabel="hit ratio of the visitors", xlim=(-0.02, len(parts) * PANEL - 0.05))
        axes.set_ylim(len(names) - 0.4, -1.1)
        axes.tick_params(length=0)
        axes.spines["left"].set_visible(False)


def _best(ratios: Mapping[str, Mapping[str, float]], parts: Sequence[str]) -> str:
    """Name the policy that alone is close to the best of each part, or say that none is."""
    neutral = "Hit ratio of each policy"
    if len(ratios) < 2 or any(set(own) != set(parts) for own in ratios.values()):
        return neutral
    best = {part: max(own[part] for own in ratios.values()) for part in parts}
    behind = {name: max(best[part] - own[part] for part in parts) for name, own in ratios.items()}
    close = [name for name in ratios if behind[name] <= CLOSE]
    if len(close) > 1 or any(CLOSE < least <= 2 * CLOSE for least in behind.values()):
        return neutral
    return f"{f'Only {close[0]}' if close else 'No policy'} is close to the best throughout"


def _panel(axes: Axes, left: float, part: str, by_row: Mapping[int, float]) -> None:
    axes.text(left + 0.02, -0.75, part, va="center", weight="bold")
    axes.axvline(left, color=INK, linewidth=0.8)
    values = by_row.values()
    for row, value in by_row.items():
        shade = NEUTRAL
        if max(values) > min(values) + 2 * CLOSE:
            if value >= max(values) - CLOSE:
                shade = PALETTE["hit"]
            elif value <= min(values) + CLOSE:
                shade = PALETTE["miss"]
        axes.barh(row, value, left=left, height=0.62, color=shade)
        axes.annotate(
            f"{100 * value:.0f} %",
            (left + value, row),
            (4, 0),
            textcoords="offset points",
            va="center",
        )


def deadlines(seconds: Mapping[str, Sequence[float]]) -> None:
    """Draw how many statements run in each second, logarithmically: a panel for each way.

    Args:
        seconds: for each way, how many seconds had passed at each statement. The first second is 1.
    """
    counted = {
        name: Counter(max(1, math.ceil(value)) for value in values)
        for name, values in seconds.items()
    }
    busiest = {name: max(counts.values(), default=0) for name, counts in counted.items()}
    ends = dict.fromkeys([*seconds][:1] + [*seconds][-1:])
    in_busiest = ", ".join(f"{name} {busiest[name]:,}" for name in ends)
    title = f"Statements in the busiest second: {in_busiest}"
    top = max(1, *busiest.values())
    marks = [10**power for power in range(1, 7) if 10**power <= top]
    longest = max(max(counts, default=1) for counts in counted.values())
    shades = [PALETTE["miss"]] + [PALETTE["fixed"]] * (len(seconds) - 1)
    with figure(title, 0.9 + 1.2 * max(2, len(seconds))) as axes:
        for row, ((name, counts), shade) in enumerate(zip(counted.items(), shades, strict=True)):
            base = (len(seconds) - 1 - row) * STEP
            heights = [_height(count, top) for count in counts.values()]
            # The third second ends at 3: a bar ends there too.
            axes.bar([*counts], heights, width=-1.0, bottom=base, color=shade, align="edge")
            axes.axhline(base, color=INK, linewidth=0.8)
            words = f"{name}: {busiest[name]:,} in the busiest second"
            axes.text(longest * 0.01, base + 0.8, words, va="center", weight="bold", color=shade)
            for mark in marks:
                axes.axhline(base + _height(mark, top), color=NEUTRAL, alpha=0.25, linewidth=0.8)
        axes.set_yticks(
            [row * STEP + _height(mark, top) for row in range(len(seconds)) for mark in marks],
            [f"{mark:,}" for mark in marks] * len(seconds),
        )
        axes.set(xlabel="seconds after they were stored")
        axes.set_ylabel("SQL statements in each second\n(logarithmic)")
        axes.set_xlim(0, longest * 1.03)
        axes.tick_params(axis="y", length=0)


def _height(count: float, top: float) -> float:
    """Return how high a bar is, on a logarithmic scale on which 0 has a place too."""
    return math.log1p(count) / math.log1p(top)
