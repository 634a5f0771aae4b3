"""The pictures of the lessons: `labkit.plots`."""

from labkit.measure.plots.basic import bars, calls, comparison, speed_up
from labkit.measure.plots.sequences import cache_aside
from labkit.measure.plots.style import PALETTE

__all__ = ["PALETTE", "bars", "cache_aside", "calls", "comparison", "speed_up"]
