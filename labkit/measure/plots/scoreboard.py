"""A picture of audits: which cache falls into which pitfall."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from labkit.measure.plots.style import INK, NEUTRAL, PALETTE, counted, figure, listed

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MARKS = {
    "pass": ("✓", PALETTE["fixed"]),
    "fail": ("✗", PALETTE["miss"]),
    "does not apply": ("–", NEUTRAL),
}
CELL = 0.9  # of a column and of a row, the rest is a white line
ROW = 0.21  # inches
BESIDES = 3.2  # inches: the title, the names and the sums


def scoreboard(
    rows: Sequence[tuple[str, str]],
    outcomes: Mapping[str, Sequence[str]],
    save_as: Path | None = None,
) -> None:
    """Draw a mark for each pitfall and each cache, and the sums below.

    Args:
        rows: for each pitfall, its lesson and what holds if it is avoided; grouped by lesson.
        outcomes: for each cache, by its name, "pass", "fail" or "does not apply" for each row.
        save_as: an SVG file to write, in place of showing it. The same data give the same bytes.
    """
    height = BESIDES + ROW * len(rows)
    with figure(_title(len(rows), outcomes), height, save_as) as axes:
        for column, each in enumerate(outcomes.values()):
            for row, outcome in enumerate(each):
                _draw_mark(axes, column, row, outcome)
            for below, (outcome, (mark, shade)) in enumerate(MARKS.items()):
                sum_ = f"{mark} {list(each).count(outcome)}"
                axes.text(column, len(rows) + 0.3 + below, sum_, color=shade, weight="bold",
                          fontsize=9, ha="center", va="center")  # fmt: skip
        for row, (lesson, _) in enumerate(rows):
            if row and lesson != rows[row - 1][0]:
                axes.axhline(row - 0.5, color=NEUTRAL, linewidth=0.8)
        axes.axhline(len(rows) - 0.5, color=INK, linewidth=1.2)
        axes.set_xticks(range(len(outcomes)), list(outcomes), rotation=90)
        axes.set_yticks(range(len(rows)), [f"{title}   {lesson}" for lesson, title in rows])
        axes.set(xlim=(-0.5, len(outcomes) - 0.5), ylim=(len(rows) + 2.9, -0.5))
        axes.annotate("lesson", (0, 1), (-5, 3), "axes fraction", "offset points", rotation=90,
                      fontsize=9, ha="right", va="bottom")  # fmt: skip
        axes.xaxis.tick_top()
        axes.tick_params(length=0, labelsize=9)
        axes.spines[["left", "bottom"]].set_visible(False)


def _draw_mark(axes: Axes, column: int, row: int, outcome: str) -> None:
    mark, shade = MARKS[outcome]
    ink = "white"
    if outcome == "does not apply":
        shade, ink = ink, shade
    axes.barh(row, CELL, left=column - CELL / 2, height=CELL, color=shade)
    axes.text(column, row, mark, color=ink, weight="bold", fontsize=9, ha="center",
              va="center_baseline")  # fmt: skip


def _title(rows: int, outcomes: Mapping[str, Sequence[str]]) -> str:
    fails = {name: list(each).count("fail") for name, each in outcomes.items()}
    spared = [name for name, count in fails.items() if not count]
    counts = sorted(filter(None, fails.values()))
    pitfalls = counted(rows, "pitfall")
    if not counts:
        return f"{listed(spared)} fell into none of {pitfalls}"
    between = " to ".join(map(str, dict.fromkeys([counts[0], counts[-1]])))
    if not spared:
        return f"{counted(len(counts), 'cache')} fell into {between} of {pitfalls}"
    others = f"{counted(len(counts), 'other')} into {between}"
    return f"{listed(spared)} fell into none of {pitfalls}, {others}"
