"""Pictures of messages between lanes, in time."""

from __future__ import annotations

from typing import Any

from labkit.measure.plots.style import NEUTRAL, color, figure


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
    with figure("A hit is one trip to Redis; a miss is two, and the query", 4.6) as axes:
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
