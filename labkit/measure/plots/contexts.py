"""A transaction with a savepoint, a reader and a cache entry, as lanes in time."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from labkit.measure.plots.lanes import (
    LANE_HEIGHT,
    draw_copy,
    draw_frame,
    draw_step,
    draw_truth,
    stale_from,
)
from labkit.measure.plots.style import INK, figure, listed

if TYPE_CHECKING:
    from matplotlib.axes import Axes


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
    top = len(actors)
    steps = [str(column + 1) for column in range(len(moments))]
    with figure(_title(moments), 1.2 + 0.6 * len(rows)) as axes:
        for column, moment in enumerate(moments):
            draw_step(axes, column, actors.index(moment.actor), moment.step)
        _draw_open(axes, top, [moment.root for moment in moments])
        _draw_open(axes, top + 1, [moment.savepoint for moment in moments])
        row, entry = _row(moments), _entry(moments)
        draw_truth(axes, top + 2, row)
        draw_copy(axes, top + 3, entry, row)
        for column in _gone(moments):
            axes.text(column - 0.44, top + 3, "gone", color=INK, va="center", style="italic")
        draw_frame(axes, rows, steps, stale_from(row, entry))


def _row(moments: Sequence[Moment]) -> list[str]:
    return [moment.row for moment in moments]


def _entry(moments: Sequence[Moment]) -> list[str | None]:
    return [moment.entry for moment in moments]


def _gone(moments: Sequence[Moment]) -> list[int]:
    """Return the columns in which there is no entry any more."""
    pairs = itertools.pairwise(_entry(moments))
    return [n for n, (before, now) in enumerate(pairs, start=1) if before and not now]


def _title(moments: Sequence[Moment]) -> str:
    """Say when the entry goes and when it turns stale; why it goes, nobody can see here."""
    stale = stale_from(_row(moments), _entry(moments))
    end = "nothing stale remains" if stale is None else f"stale from {_at(moments, stale)} on"
    if not any(_entry(moments)):
        return f"No entry: {end}"
    gone = listed([_at(moments, column) for column in _gone(moments)])
    return f"The entry goes at {gone}: {end}" if gone else f"The entry never goes: {end}"


def _at(moments: Sequence[Moment], column: int) -> str:
    return f"{moments[column].step} ({column + 1})"


def _draw_open(axes: Axes, row: int, is_open: Sequence[bool]) -> None:
    opened: int | None = None
    for column, now in enumerate([*is_open, False]):
        if now and opened is None:
            opened = column
        elif not now and opened is not None:
            axes.barh(row, column - opened, left=opened - 0.5, height=LANE_HEIGHT, color=INK)
            axes.text(opened - 0.44, row, "open", color="white", va="center", weight="bold")
            opened = None
