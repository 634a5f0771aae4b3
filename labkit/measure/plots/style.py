"""The style that every picture shares: one palette, one figure.

Every lesson uses the same colours for the same things. They are Okabe and Ito's, which people with
any common kind of colour blindness can tell apart (https://jfly.uni-koeln.de/color/). Figures are
drawn on white, so that they read the same in JupyterLab's light and dark themes and on paper.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PALETTE = {"miss": "#D55E00", "hit": "#0072B2", "stale": "#CC79A7", "fixed": "#009E73"}
NEUTRAL = "#606060"
INK = "#222222"
STYLE: dict[Any, Any] = {
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "axes.facecolor": "white",
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "figure.titlesize": 13,
    "figure.titleweight": "bold",
    "figure.constrained_layout.h_pad": 0.08,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "font.size": 11,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "figure.dpi": 110,
    "svg.hashsalt": "labkit",  # the names within an SVG are the same in each run
}
WIDTH = 8.0  # inches
TITLE_LETTERS = 72  # of a line of a title; more would be cut off
CLEAR = 1.5  # times that a title calls a difference: what is nearer may be noise


def color(name: str) -> str:
    """Return the colour of what is named: that of miss, hit, stale or fixed, else grey."""
    return next((shade for kind, shade in PALETTE.items() if kind in name), NEUTRAL)


@contextmanager
def figure(
    title: str, height: float, save_as: Path | None = None, png: IO[bytes] | None = None
) -> Iterator[Axes]:
    """Give axes to draw on in the house style, and show them afterwards.

    Args:
        title: what the picture says.
        height: in inches.
        save_as: an SVG file to write, in place of showing it. It holds no date and no version.
        png: an open file to write a PNG to, in place of showing it.
    """
    import matplotlib.pyplot as plt

    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(WIDTH, height), layout="constrained")
        try:
            yield axes
            lines = textwrap.fill(title, TITLE_LETTERS)
            figure.suptitle(lines, x=0.01, ha="left")  # over the names too: it may be long
            if png is not None:
                figure.savefig(png, format="png", metadata={"Software": None})
            elif save_as is None:
                plt.show()
            else:
                figure.savefig(save_as, metadata={"Date": None, "Creator": None})
        finally:
            plt.close(figure)  # or a notebook would draw it again, whatever went wrong


def in_ms(milliseconds: float) -> str:
    """Return a time as a short label."""
    return f"{number(milliseconds)} ms"


def number(value: float) -> str:
    """Return a number as a short label: three figures, or all of its whole part."""
    return f"{value:.3g}" if value < 100 else f"{value:,.0f}"


def listed(names: Sequence[str]) -> str:
    """Return names as a sentence has them: "a, b and c"."""
    return " and ".join([*filter(None, [", ".join(names[:-1])]), *names[-1:]])


def counted(number: int, thing: str) -> str:
    """Return how many there are, with an s unless it is one."""
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"
