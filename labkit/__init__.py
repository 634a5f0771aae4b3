"""labkit: the workbench under the course on caching database queries."""

from labkit.errors import LabError
from labkit.lab import Lab, start
from labkit.lessons import check, claim, hint, predict, solution
from labkit.measure import compare, plots
from labkit.schedule import explore

__all__ = [
    "Lab",
    "LabError",
    "check",
    "claim",
    "compare",
    "explore",
    "hint",
    "plots",
    "predict",
    "solution",
    "start",
]
