"""Timing candidates fairly: interleaved, warmed up, and reported as percentiles."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from labkit.measure import plots
from labkit.measure.plots.load import percentile

WARM_UP = 3  # rounds that are run and not counted
NAME_WIDTH = 10


@dataclass(frozen=True)
class Comparison:
    """The times of each candidate, in milliseconds.

    Attributes:
        times: for each candidate, by its name, one time a round.
    """

    times: Mapping[str, Sequence[float]]

    def median(self, name: str) -> float:
        """Return a candidate's median time, in milliseconds."""
        return statistics.median(self.times[name])

    def percentile(self, name: str, percent: float) -> float:
        """Return the time that `percent` of a candidate's rounds did not exceed (nearest rank)."""
        return percentile(Counter(self.times[name]), percent)

    def ratio(self, name: str) -> float:
        """Return a candidate's median as a multiple of the first candidate's."""
        return self.median(name) / self.median(next(iter(self.times)))

    def plot(self) -> None:
        """Draw every round as a point and each median as a line, on a logarithmic axis."""
        plots.comparison(self.times)

    def __str__(self) -> str:
        width = max(NAME_WIDTH, *map(len, self.times))
        lines = [f"{'':{width}}  {'median':>12}  {'p95':>12}  {'p99':>12}  {'ratio':>8}"]
        for name in self.times:
            cells = [self.median(name), self.percentile(name, 95), self.percentile(name, 99)]
            columns = "  ".join(f"{cell:>9.3f} ms" for cell in cells)
            lines.append(f"{name:{width}}  {columns}  {_times(self.ratio(name)):>8}")
        rounds = len(next(iter(self.times.values())))
        lines.append(f"{rounds} rounds each, interleaved, after {WARM_UP} to warm up")
        return "\n".join(lines)


def _times(ratio: float) -> str:
    return f"×{ratio:,.0f}" if ratio >= 100 else f"×{ratio:.3g}"


def compare(candidates: Mapping[str, Callable[[], object]], rounds: int = 100) -> Comparison:
    """Time candidates against each other, print a table and return the times.

    Each round calls every candidate once, so that whatever slows the machine down slows all of
    them. The order turns from round to round, so that none always comes after the same other.

    Args:
        candidates: functions without arguments, by name. The first is what ratios refer to.
        rounds: how often each is timed. With fewer than 100, p99 is the slowest round.

    Raises:
        ValueError: no candidates, or no rounds.
    """
    if not candidates or rounds < 1:
        raise ValueError("compare needs at least one candidate and one round")
    names = list(candidates)
    times: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(WARM_UP + rounds):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            began = time.perf_counter()
            candidates[name]()
            elapsed = (time.perf_counter() - began) * 1000
            if turn >= WARM_UP:
                times[name].append(elapsed)
    comparison = Comparison(times)
    print(comparison)
    return comparison
