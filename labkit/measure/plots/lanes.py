"""Lanes in time: what each copy of a value held after each step, and who took the steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from labkit.measure.plots.style import INK, NEUTRAL, PALETTE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LANE_HEIGHT = 0.62
ABSENT = (None, "")
LEFT = 0.06  # from the edge of a bar to the words on it
LOOKS: dict[str, dict[str, Any]] = {
    "truth": {"color": NEUTRAL},
    "same": {"color": PALETTE["fixed"]},
    "stale": {"color": PALETTE["stale"]},
    "for now": {"facecolor": "white", "edgecolor": NEUTRAL, "hatch": "////", "linewidth": 0},
}


def stale_from(truth: Sequence[object], copy: Sequence[object]) -> int | None:
    """Return the column from which a copy differs from the truth to the end; None if it does not.

    A copy that differs for some steps, and is mended or gone after them, is not stale there.
    """
    column = len(copy)
    while column and copy[column - 1] not in ABSENT and copy[column - 1] != truth[column - 1]:
        column -= 1
    return column if column < len(copy) else None


def draw_truth(axes: Axes, row: int, values: Sequence[object]) -> None:
    """Draw a lane that others are held against."""
    _draw_lane(axes, row, values, ["truth"] * len(values))


def draw_copy(axes: Axes, row: int, values: Sequence[object], truth: Sequence[object]) -> None:
    """Draw a lane that is held against the truth: stale is what differs to the end."""
    start = stale_from(truth, values)
    differs = ["for now" if start is None or n < start else "stale" for n in range(len(values))]
    looks = [
        "same" if value == right else look
        for value, right, look in zip(values, truth, differs, strict=True)
    ]
    _draw_lane(axes, row, values, looks)


def _draw_lane(axes: Axes, row: int, values: Sequence[object], looks: Sequence[str]) -> None:
    half = LANE_HEIGHT / 2
    for column, (value, look) in enumerate(zip(values, looks, strict=True)):
        if value in ABSENT:
            continue
        left = column - 0.5
        axes.barh(row, 1, left=left, height=LANE_HEIGHT, **LOOKS[look])
        if column and (values[column - 1], looks[column - 1]) == (value, look):
            continue
        axes.vlines(left, row - half, row + half, color="white", linewidth=3)
        text = axes.text(left + LEFT, row, str(value), color="white", va="center", weight="bold")
        if look == "for now":
            text.set(color=INK, bbox={"facecolor": "white", "linewidth": 0, "pad": 1})
            axes.text(left + LEFT, row + half, "differs for now", color=NEUTRAL, fontsize=8,
                      va="top")  # fmt: skip


def draw_step(axes: Axes, column: int, row: int, text: str, shade: str = INK) -> None:
    """Write what a step did into a box."""
    box = {"boxstyle": "round,pad=0.3", "facecolor": "white", "edgecolor": shade}
    axes.text(column, row, text, ha="center", va="center", fontsize=9, color=shade, bbox=box)


def draw_frame(
    axes: Axes, rows: Sequence[str], steps: Sequence[str], stale_column: int | None
) -> None:
    """Name the rows and steps, and mark the column from which a copy stays stale."""
    if stale_column is not None:
        edge = stale_column - 0.5
        axes.axvline(edge, color=PALETTE["stale"], linewidth=2, linestyle="--")
        side, gap = ("right", -LEFT) if stale_column > len(steps) / 2 else ("left", LEFT)
        axes.text(edge + gap, len(rows) - 0.36, "stale from here", color=PALETTE["stale"],
                  ha=side, va="center", weight="bold")  # fmt: skip
    axes.set_yticks(range(len(rows)), rows)
    axes.set_xticks(range(len(steps)), steps)
    axes.set(xlabel="steps, in the order of time", xlim=(-0.55, len(steps) - 0.45))
    axes.set_ylim(len(rows) - 0.2, -0.6)
    axes.tick_params(length=0)
    axes.spines["left"].set_visible(False)
