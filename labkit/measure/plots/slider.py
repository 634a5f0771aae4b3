"""A slider for the hit ratio, over a picture that is there without it too.

The output is one bundle: a widget, and the picture at the first ratio. A front end that knows
widgets shows the widget. All others, a file on a web page among them, show the picture.
"""

from __future__ import annotations

import base64
import io
import itertools
from collections.abc import Mapping
from typing import IO, TYPE_CHECKING, Any, Protocol

from labkit.measure.plots.load import percentile
from labkit.measure.plots.style import INK, NEUTRAL, PALETTE, figure, in_ms, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HEIGHT = 3.0  # inches
PERCENTS = (50, 95)
WORDS = "hit ratio (%)"
WIDGET = "application/vnd.jupyter.widget-view+json"


class Run(Protocol):
    """What is needed of a load."""

    @property
    def a_second(self) -> float:
        """Requests a second."""

    @property
    def counts(self) -> dict[float, int]:
        """How many requests took so many milliseconds."""


def mixture(
    hits: Mapping[float, int], misses: Mapping[float, int], ratio: float
) -> dict[float, float]:
    """Return which share of requests takes how long, where so many are hits.

    Args:
        hits: how many hits took how long, at least one.
        misses: the same of misses.
        ratio: the hit ratio, from 0 to 1.
    """
    shares: dict[float, float] = {}
    for counts, weight in ((hits, ratio), (misses, 1 - ratio)):
        total = sum(counts.values())
        for time, count in counts.items():
            if weight:
                shares[time] = shares.get(time, 0.0) + weight * count / total
    return shares


def rate(hits: Run, misses: Run, ratio: float) -> float:
    """Return the predicted requests a second: the times that hits and misses take add up."""
    return 1 / (ratio / hits.a_second + (1 - ratio) / misses.a_second)


def finding(hits: Run, misses: Run, ratio: float) -> str:
    """Say what is predicted for a hit ratio: the title of its picture."""
    shares = mixture(hits.counts, misses.counts, ratio)
    told = ", ".join(f"p{percent} {in_ms(percentile(shares, percent))}" for percent in PERCENTS)
    return (
        f"{100 * ratio:.0f} % hits: {number(rate(hits, misses, ratio))} requests a second, {told}"
    )


def picture(hits: Run, misses: Run, ratio: float) -> bytes:
    """Return `draw_hit_ratio` as a PNG."""
    png = io.BytesIO()
    draw_hit_ratio(hits, misses, ratio, png)
    return png.getvalue()


def draw_hit_ratio(hits: Run, misses: Run, ratio: float, png: IO[bytes] | None = None) -> None:
    """Draw which share of requests is answered by when, by the prediction for a hit ratio.

    Args:
        hits: a load of hits alone.
        misses: a load of misses alone.
        ratio: from 0 to 1.
        png: an open file to write to, in place of showing it.
    """
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    shares = mixture(hits.counts, misses.counts, ratio)
    with figure(finding(hits, misses, ratio), HEIGHT, png=png) as axes:
        times = [*hits.counts, *misses.counts]  # the same at every ratio, so that the curve moves
        axes.set(xscale="log", xlabel="latency (ms, logarithmic)", ylabel="answered by then (%)")
        axes.set_xlim(min(times) / 1.3, max(times) * 1.6)
        axes.set_ylim(0, 108)
        axes.set_yticks([0, *PERCENTS])
        _curve(axes, shares)
        for percent in PERCENTS:
            axes.axhline(percent, color=NEUTRAL, linewidth=0.8, linestyle="--", zorder=1)
            time = percentile(shares, percent)
            axes.plot(time, percent, "o", color=INK, markersize=6, zorder=4)
            axes.annotate(
                f"p{percent}", (time, percent), (7, -12), textcoords="offset points", fontsize=9
            )
        axes.xaxis.set_major_locator(LogLocator())
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())


def _curve(axes: Axes, shares: Mapping[float, float]) -> None:
    """Draw which share was answered by which time: it rises over hits, and then over misses."""
    times = sorted(shares)
    low, high = axes.get_xlim()
    heights = [100 * height for height in itertools.accumulate(shares[time] for time in times)]
    axes.plot(
        [low, *times, high], [0, *heights, heights[-1]],
        color=PALETTE["hit"], linewidth=2.2, drawstyle="steps-post", zorder=3,
    )  # fmt: skip


def hit_ratio(hits: Run, misses: Run, at: float = 0.8) -> None:
    """Show the prediction for a hit ratio, with a slider where the front end has widgets.

    Args:
        hits: a load of hits alone.
        misses: a load of misses alone.
        at: the hit ratio at first, from 0 to 1. It is the picture's where there is no slider.
    """
    from IPython.display import display

    first = picture(hits, misses, at)
    bundle = {
        "text/plain": "<the latencies at a hit ratio>",
        "image/png": base64.b64encode(first).decode(),
    }
    display({**bundle, **_view(_slider(hits, misses, at, first))}, raw=True)  # type: ignore[no-untyped-call]


def _slider(hits: Run, misses: Run, at: float, first: bytes) -> Any:
    """Return the slider over its picture; None where there are no widgets."""
    try:
        import ipywidgets  # type: ignore[import-untyped]
    except ModuleNotFoundError:
        return None
    image = ipywidgets.Image(value=first, format="png")
    slider = ipywidgets.IntSlider(
        value=round(100 * at), min=0, max=100, description=WORDS, continuous_update=False,
        style={"description_width": "initial"}, layout={"width": "32em"},
    )  # fmt: skip

    def redraw(change: Any) -> None:
        image.value = picture(hits, misses, change["new"] / 100)

    slider.observe(redraw, names="value")
    return ipywidgets.VBox([slider, image])


def _view(widget: Any) -> dict[str, Any]:
    """Return what stands for a widget in an output; nothing where there is none."""
    if widget is None:
        return {}
    return {WIDGET: widget._repr_mimebundle_()[WIDGET]}
