"""A picture of copies that part: what the database and the cache hold, moment by moment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from labkit.measure.plots.style import INK, NEUTRAL, PALETTE, figure

LANE_HEIGHT = 0.62


def copies(
    moments: Sequence[str],
    held: Mapping[str, Sequence[str]],
    wanted: Mapping[str, Sequence[str]],
    title: str,
) -> None:
    """Draw a lane for each copy of a value, and mark where it is not what it should be.

    Args:
        moments: what has just happened, in the order of time.
        held: what each copy held at each moment, by the name of its lane.
        wanted: what it should have held, by the same names.
        title: the finding, in words.
    """
    with figure(title, 1.2 + 0.6 * len(held)) as axes:
        for row, name in enumerate(held):
            for moment, (value, should) in enumerate(zip(held[name], wanted[name], strict=True)):
                original = value == should == held[name][0]
                shade = PALETTE["fixed" if value == should else "stale"]
                axes.barh(row, 0.97, left=moment, height=LANE_HEIGHT,
                          color=NEUTRAL if original else shade, alpha=0.9)  # fmt: skip
                weight = "normal" if original else "bold"
                axes.text(moment + 0.48, row, value, color="white", weight=weight,
                          ha="center", va="center")  # fmt: skip
        axes.set_yticks(range(len(held)), list(held))
        axes.set_xticks([moment + 0.48 for moment in range(len(moments))], moments)
        axes.set(xlabel="time, from left to right", ylim=(len(held) - 0.5, -0.5))
        axes.tick_params(length=0, labelcolor=INK)
        axes.spines["left"].set_visible(False)
