"""A transaction with a savepoint, a reader and a cache entry, as lanes in time."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from labkit.measure.plots.style import INK, NEUTRAL, PALETTE, figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HALF = 0.31  # of a lane's height


class Moment(NamedTuple):
    """What there is to see after one step.

    Attributes:
        actor: who took the step.
        step: what it did, in a word or two.
        root: whether a root transaction is open.
        savepoint: whether a savepoint is open.
        row: what other connections read from the database.
        entry: what the cache holds; None for nothing.
    """

    actor: str
    step: str
    root: bool
    savepoint: bool
    row: str
    entry: str | None


def transaction(looks: Sequence[tuple[str, str, bool, bool, str, str | None]]) -> None:
    """Draw each actor's steps and, beneath, the transactions, the committed row and the entry.

    From where the entry differs from the row, and does so to the end, it is marked as stale.

    Args:
        looks: what there was to see after each step, as the fields of a `Moment`.
    """
    moments = [Moment(*look) for look in looks]
    actors = list(dict.fromkeys(moment.actor for moment in moments))
    rows = [*actors, "root transaction", "savepoint", "committed row", "cache entry"]
    columns = range(len(moments))
    stale_from = _stale_from(moments)
    with figure(_title(moments, stale_from), 1.2 + 0.6 * len(rows)) as axes:
        for column, moment in enumerate(moments):
            _draw_step(axes, column, rows.index(moment.actor), moment.step)
        top = len(actors)
        _draw_open(axes, top, [moment.root for moment in moments])
        _draw_open(axes, top + 1, [moment.savepoint for moment in moments])
        _draw_values(axes, top + 2, [moment.row for moment in moments], [NEUTRAL] * len(moments))
        shades = [PALETTE["fixed" if moment.entry == moment.row else "stale"] for moment in moments]
        _draw_values(axes, top + 3, [moment.entry for moment in moments], shades)
        if stale_from is not None:
            axes.axvline(stale_from - 0.5, color=PALETTE["stale"], linewidth=2, linestyle="--")
            axes.text(stale_from - 0.56, len(rows) - 0.42, "stale from here", ha="right",
                      va="center", color=PALETTE["stale"], weight="bold")  # fmt: skip
        axes.set_yticks(range(len(rows)), rows)
        axes.set_xticks(columns, [str(column + 1) for column in columns])
        axes.set(xlabel="steps, in the order of time", xlim=(-0.55, len(moments) - 0.45))
        axes.set_ylim(len(rows) - 0.2, -0.6)
        axes.tick_params(length=0)
        axes.spines["left"].set_visible(False)


def _stale_from(moments: Sequence[Moment]) -> int | None:
    """Return the column from which the entry differs from the row, to the end."""
    column = len(moments)
    while column and moments[column - 1].entry not in (None, moments[column - 1].row):
        column -= 1
    return column if column < len(moments) else None


def _title(moments: Sequence[Moment], stale_from: int | None) -> str:
    gone = [
        moment.step
        for before, moment in itertools.pairwise(moments)
        if before.entry is not None and moment.entry is None
    ]
    when = f"Invalidated at the {gone[0]}" if gone else "Never invalidated"
    if stale_from is None:
        return f"{when}: nothing stale remains"
    return f"{when}: stale from the {moments[stale_from].step} on"


def _draw_step(axes: Axes, column: int, row: int, text: str) -> None:
    box = {"boxstyle": "round,pad=0.3", "facecolor": "white", "edgecolor": INK}
    axes.text(column, row, text, ha="center", va="center", fontsize=9, color=INK, bbox=box)


def _draw_open(axes: Axes, row: int, is_open: Sequence[bool]) -> None:
    opened: int | None = None
    for column, now in enumerate([*is_open, False]):
        if now and opened is None:
            opened = column
        elif not now and opened is not None:
            axes.barh(row, column - opened, left=opened - 0.5, height=2 * HALF, color=INK)
            axes.text(opened - 0.44, row, "open", color="white", va="center", weight="bold")
            opened = None


def _draw_values(axes: Axes, row: int, values: Sequence[str | None], shades: Sequence[str]) -> None:
    for column, (value, shade) in enumerate(zip(values, shades, strict=True)):
        if value is None:
            if column and values[column - 1] is not None:
                axes.text(column - 0.44, row, "deleted", color=INK, va="center", style="italic")
            continue
        axes.barh(row, 1, left=column - 0.5, height=2 * HALF, color=shade)
        if column == 0 or (values[column - 1], shades[column - 1]) != (value, shade):
            axes.vlines(column - 0.5, row - HALF, row + HALF, color="white", linewidth=3)
            axes.text(column - 0.44, row, value, color="white", va="center", weight="bold")
