"""The pictures of the lessons: `labkit.plots`."""

from labkit.measure.plots.backends import backends
from labkit.measure.plots.basic import bars, calls, comparison, speed_up
from labkit.measure.plots.contexts import transaction
from labkit.measure.plots.copies import copies, formats
from labkit.measure.plots.invalidation import invalidation_cost
from labkit.measure.plots.keys import byte_diff, promises
from labkit.measure.plots.load import by_hit_ratio, latencies
from labkit.measure.plots.scoreboard import scoreboard
from labkit.measure.plots.sequences import cache_aside
from labkit.measure.plots.slider import hit_ratio
from labkit.measure.plots.style import PALETTE
from labkit.measure.plots.timeline import timeline
from labkit.measure.plots.ttl import deadlines, growth, policies

__all__ = [
    "PALETTE",
    "backends",
    "bars",
    "by_hit_ratio",
    "byte_diff",
    "cache_aside",
    "calls",
    "comparison",
    "copies",
    "deadlines",
    "formats",
    "growth",
    "hit_ratio",
    "invalidation_cost",
    "latencies",
    "policies",
    "promises",
    "scoreboard",
    "speed_up",
    "timeline",
    "transaction",
]
