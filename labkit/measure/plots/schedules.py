"""A schedule drawn as lanes in time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from labkit.measure.plots.style import INK, NEUTRAL, PALETTE, figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from labkit.concurrency.schedule import Run, Step

LANE_HEIGHT = 0.62
ABSENT = (None, "")


def draw_run(run: Run) -> None:
    """Draw the lanes of a replayed run, each actor's steps beneath, and where it goes wrong.

    Args:
        run: what `Exploration.replay` returned.
    """
    lanes = list(run.steps[0].lanes) if run.steps else []
    actors = list(dict.fromkeys(_actor(step) for step in run.steps))
    rows = lanes + actors
    title = f"{run.schedule}: {run.problem or 'nothing stale remains'}"
    with figure(title, 1.3 + 0.62 * len(rows)) as axes:
        for row, name in enumerate(lanes):
            _draw_lane(axes, row, [step.lanes[name] for step in run.steps], _truth(run, row))
        for column, step in enumerate(run.steps):
            _draw_step(axes, column, rows.index(_actor(step)), step)
        if run.problem and len(lanes) > 1:
            wrong = _goes_wrong(run, *lanes[:2])
            axes.axvline(wrong + 0.5, color=PALETTE["stale"], linewidth=2, linestyle="--")
            side, edge = ("right", 0.44) if wrong > len(run.steps) / 2 else ("left", 0.56)
            axes.text(wrong + edge, len(rows) - 0.42, "stale from here", color=PALETTE["stale"],
                      ha=side, va="center", weight="bold")  # fmt: skip
        axes.set_yticks(range(len(rows)), rows)
        axes.set_xticks(range(len(run.steps)), [step.token for step in run.steps])
        axes.set(xlabel="steps, in the order of time", xlim=(-0.55, len(run.steps) - 0.45))
        axes.set_ylim(len(rows) - 0.2, -0.6)
        axes.tick_params(length=0)
        axes.spines["left"].set_visible(False)


def _actor(step: Step) -> str:
    return "eviction" if step.token.startswith("~") else step.token.rstrip("0123456789!")


def _truth(run: Run, row: int) -> list[Any] | None:
    """Return what a lane's values are held against: the first lane's, except for itself."""
    if row == 0:
        return None
    first = next(iter(run.steps[0].lanes))
    return [step.lanes[first] for step in run.steps]


def _draw_lane(axes: Axes, row: int, values: list[Any], truth: list[Any] | None) -> None:
    for column, value in enumerate(values):
        if value in ABSENT:
            continue
        right = truth is None or value == truth[column]
        shade = NEUTRAL if truth is None else PALETTE["fixed" if right else "stale"]
        axes.barh(row, 1, left=column - 0.5, height=LANE_HEIGHT, color=shade, alpha=0.85)
        if column == 0 or values[column - 1] != value:
            axes.vlines(column - 0.5, row - 0.31, row + 0.31, color="white", linewidth=3)
            axes.text(column - 0.44, row, str(value), color="white", va="center", weight="bold")


def _draw_step(axes: Axes, column: int, row: int, step: Step) -> None:
    crashed = step.token.endswith("!")
    shade = PALETTE["miss"] if crashed or step.token.startswith("~") else INK
    text = "crash" if crashed else step.label.replace(", ", "\n") or "·"
    box = {"boxstyle": "round,pad=0.3", "facecolor": "white", "edgecolor": shade}
    axes.text(column, row, text, ha="center", va="center", fontsize=10, color=shade, bbox=box)


def _goes_wrong(run: Run, truth: str, entry: str) -> int:
    """Return the column from which on the entry differs from the truth, to the end."""
    column = len(run.steps) - 1
    while column > 0 and _differs(run.steps[column - 1], truth, entry):
        column -= 1
    return column - 1


def _differs(step: Step, truth: str, entry: str) -> bool:
    value = step.lanes[entry]
    return value not in ABSENT and value != step.lanes[truth]
