"""Pictures of keys: two byte strings compared, and which scheme keeps its promise."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import TYPE_CHECKING

from labkit.measure.plots.style import NEUTRAL, PALETTE, counted, figure, listed

if TYPE_CHECKING:
    from matplotlib.axes import Axes

OUTCOMES = {
    "right": PALETTE["fixed"],
    "wrong answer": PALETTE["stale"],
    "needless miss": PALETTE["miss"],
    "refused": NEUTRAL,
}
LETTERS = range(0x20, 0x7F)
COLUMN = 0.95  # of a cell, the rest is a white line


def byte_diff(one: bytes, other: bytes) -> None:
    """Draw two byte strings above each other, aligned, and mark the bytes that differ.

    Args:
        one: the upper bytes; some thirty are readable.
        other: the lower ones.
    """
    matcher = difflib.SequenceMatcher(None, one, other, autojunk=False)
    differing = column = 0
    rows: list[tuple[int, int, int, bool]] = []
    for kind, low, high, other_low, other_high in matcher.get_opcodes():
        same = kind == "equal"
        rows += [(0, column + n, byte, same) for n, byte in enumerate(one[low:high])]
        rows += [(1, column + n, byte, same) for n, byte in enumerate(other[other_low:other_high])]
        width = max(high - low, other_high - other_low)
        differing += 0 if same else width
        column += width
    title = "The same bytes"
    if differing:
        title = f"Aligned, they differ in {differing} of {counted(column, 'place')}"
    with figure(title, 1.9) as axes:
        for row, at, byte, same in rows:
            shade = NEUTRAL if same else PALETTE["miss"]
            axes.barh(row, COLUMN, left=at, height=0.8, color=shade, alpha=0.25 if same else 0.95)
            text = chr(byte) if byte in LETTERS else f"{byte:02x}"
            ink, weight = ("black", "normal") if same else ("white", "bold")
            axes.text(at + COLUMN / 2, row, text, color=ink, weight=weight, fontsize=9,
                      ha="center", va="center", family="monospace")  # fmt: skip
        axes.set(
            xlim=(0, max(column, 1)), ylim=(1.5, -0.5), xlabel="bytes, in hexadecimal or as letters"
        )
        axes.set_yticks([0, 1], [f"{len(one)} bytes", f"{len(other)} bytes"])
        axes.set_xticks([])
        axes.tick_params(length=0)
        axes.spines[["left", "bottom"]].set_visible(False)


def promises(kept: Mapping[str, Mapping[str, str]]) -> None:
    """Draw which key scheme keeps its promise for which pair of calls.

    Args:
        kept: for each scheme, by its name, the outcome of each pair, by its name: "right",
            "wrong answer", "needless miss" or "refused".
    """
    schemes = list(kept)
    pairs = list(dict.fromkeys(pair for outcomes in kept.values() for pair in outcomes))
    with figure(_title(kept, len(pairs)), 1.0 + 0.4 * len(pairs)) as axes:
        for column, scheme in enumerate(schemes):
            for row, pair in enumerate(pairs):
                if pair in kept[scheme]:
                    _draw_outcome(axes, column, row, kept[scheme][pair])
        axes.set_xticks(range(len(schemes)), schemes)
        axes.set_yticks(range(len(pairs)), pairs)
        axes.set(xlim=(-0.5, len(schemes) - 0.5), ylim=(len(pairs) - 0.5, -0.5))
        axes.xaxis.tick_top()
        axes.tick_params(length=0, labelsize=10)
        axes.spines[["left", "bottom"]].set_visible(False)


def _draw_outcome(axes: Axes, column: int, row: int, outcome: str) -> None:
    axes.barh(row, COLUMN, left=column - COLUMN / 2, height=0.88, color=OUTCOMES[outcome])
    words = outcome.replace(" ", "\n")
    axes.text(column, row, words, color="white", weight="bold", fontsize=9, linespacing=0.95,
              ha="center", va="center")  # fmt: skip


def _title(kept: Mapping[str, Mapping[str, str]], pairs: int) -> str:
    if any(len(outcomes) < pairs for outcomes in kept.values()):
        return "What became of each pair"  # who was not tried with all has kept no promise
    breaks = {
        scheme: sum(outcome in ("wrong answer", "needless miss") for outcome in outcomes.values())
        for scheme, outcomes in kept.items()
    }
    keepers = listed([scheme for scheme, count in breaks.items() if not count])
    counts = sorted(filter(None, breaks.values()))
    if not counts:
        return f"{keepers} kept the promise"
    times = " to ".join(map(str, dict.fromkeys([counts[0], counts[-1]])))
    broke = f"broke it for {times} of {counted(pairs, 'pair')}"
    if not keepers:
        return f"No scheme kept the promise: {len(counts)} {broke}"
    return f"{keepers} kept the promise: {counted(len(counts), 'other')} {broke}"
