"""A schedule drawn as lanes in time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from labkit.measure.plots.lanes import draw_copy, draw_frame, draw_step, draw_truth, stale_from
from labkit.measure.plots.style import INK, PALETTE, figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw_run(
    tokens: Sequence[str],
    actors: Sequence[str],
    labels: Sequence[str],
    lanes: Mapping[str, Sequence[object]],
    problem: str,
) -> None:
    """Draw the lanes of a schedule, each actor's steps beneath, and from where one stays stale.

    Args:
        tokens: how the schedule names each step: "R1", "W!" for a crash, "~key" for an eviction.
        actors: who took each step, by the name of a row.
        labels: what each step did, with ", " between.
        lanes: what each lane showed after each step: first the truth, then what is held against it.
        problem: what the check said at the end; empty if it found nothing stale.
    """
    who = list(dict.fromkeys(actors))
    rows = [*lanes, *who]
    truth, *copies = lanes.values() if lanes else [()]
    starts = [start for copy in copies if (start := stale_from(truth, copy)) is not None]
    title = f"{' '.join(tokens)}: {problem or _no_problem(starts)}"
    with figure(title, 1.3 + 0.62 * len(rows)) as axes:
        draw_truth(axes, 0, truth)
        for row, copy in enumerate(copies, start=1):
            draw_copy(axes, row, copy, truth)
        for column, (token, actor, label) in enumerate(zip(tokens, actors, labels, strict=True)):
            _draw_step(axes, column, len(lanes) + who.index(actor), token, label)
        draw_frame(axes, rows, tokens, min(starts, default=None))


def _no_problem(starts: Sequence[int]) -> str:
    return "the check found nothing stale" if starts else "nothing stale remains"


def _draw_step(axes: Axes, column: int, row: int, token: str, label: str) -> None:
    crashed = token.endswith("!")
    shade = PALETTE["miss"] if crashed or token.startswith("~") else INK
    text = "crash" if crashed else label.replace(", ", "\n") or "·"
    draw_step(axes, column, row, text, shade)
