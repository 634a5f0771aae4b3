"""Pictures of copies: one that parts from the database, and what survives a round trip."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from labkit.measure.plots.style import INK, NEUTRAL, PALETTE, figure, listed

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
                          color=NEUTRAL if original else shade)  # fmt: skip
                weight = "normal" if original else "bold"
                axes.text(moment + 0.48, row, value, color="white", weight=weight,
                          ha="center", va="center")  # fmt: skip
        axes.set_yticks(range(len(held)), list(held))
        axes.set_xticks([moment + 0.48 for moment in range(len(moments))], moments)
        axes.set(xlabel="time, from left to right", ylim=(len(held) - 0.5, -0.5))
        axes.tick_params(length=0, labelcolor=INK)
        axes.spines[["left", "bottom"]].set_visible(False)


def formats(survived: Mapping[str, Mapping[str, str]]) -> None:
    """Draw which format gives back which value.

    Args:
        survived: for each format, by its name, what became of each value, by its name: "same",
            "changed" or "refused".
    """
    names = list(survived)
    values = list(dict.fromkeys(value for outcomes in survived.values() for value in outcomes))
    shades = {"same": PALETTE["fixed"], "changed": PALETTE["stale"], "refused": NEUTRAL}
    faithful = [
        name for name in names if all(survived[name].get(value) == "same" for value in values)
    ]
    title = f"{listed(faithful) or 'No format'} gave back every value as it was"
    with figure(title, 1.0 + 0.34 * len(values)) as axes:
        for column, name in enumerate(names):
            for row, value in enumerate(values):
                if value not in survived[name]:
                    continue
                outcome = survived[name][value]
                axes.barh(row, 0.95, left=column - 0.475, height=0.88, color=shades[outcome])
                axes.text(column, row, outcome, color="white", weight="bold", fontsize=9,
                          ha="center", va="center")  # fmt: skip
        axes.set_xticks(range(len(names)), names)
        axes.set_yticks(range(len(values)), values)
        axes.set(xlim=(-0.5, len(names) - 0.5), ylim=(len(values) - 0.5, -0.5))
        axes.xaxis.tick_top()
        axes.tick_params(length=0, labelsize=10)
        axes.spines[["left", "bottom"]].set_visible(False)
