"""What ran, how often, and how long it took."""

from labkit.measure import plots
from labkit.measure.observe import Observation, Recorder
from labkit.measure.timing import Comparison, compare

__all__ = ["Comparison", "Observation", "Recorder", "compare", "plots"]
