"""labkit: the workbench under the course on caching database queries."""

from labkit.errors import LabError
from labkit.lab import Lab, start
from labkit.lessons import check, claim, hint, predict, solution
from labkit.measure import compare, plots

__all__ = [
    "Lab",
    "LabError",
    "check",
    "claim",
    "compare",
    "hint",
    "plots",
    "predict",
    "solution",
    "start",
]
