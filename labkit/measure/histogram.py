"""Histograms of latencies: HdrHistogram's where it is installed, and elsewhere labkit's own.

hdrhistogram has no wheels for Linux on ARM and for Macs with Intel. There a plain class counts in
the same steps, so that every percentile is the same: three digits of each value are kept.
(https://github.com/HdrHistogram/HdrHistogram)
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol, cast

try:
    from hdrh.histogram import HdrHistogram
except ImportError:  # not installed, or without the part that is in C
    HdrHistogram = None

MOST_US = 60_000_000  # microseconds: a latency above a minute counts as one
DIGITS = 3  # that a latency is exact to
EXACT_BITS = 11  # 2,048 steps for each power of two: at least three digits
NOTE = "Latency   counted by labkit itself, to the same three digits: there is no hdrhistogram here"


class Step(NamedTuple):
    """Values that are counted as one.

    Attributes:
        value_iterated_to: the highest of them.
        count_added_in_this_iter_step: how many there are.
    """

    value_iterated_to: int
    count_added_in_this_iter_step: int


class Histogram(Protocol):
    """What labkit asks of a histogram: a part of what HdrHistogram has, by its names."""

    def record_value(self, value: int, count: int = 1) -> object:
        """Add a value, so many times."""

    def record_corrected_value(self, value: int, expected_interval: int, count: int = 1) -> object:
        """Add a value, and those that were not measured meanwhile: one less an interval, and so on.

        Args:
            value: what was measured.
            expected_interval: between two that should have been measured.
            count: how many times.
        """

    def get_value_at_percentile(self, percentile: float) -> int:
        """Return the value that so many percent do not exceed."""

    def get_mean_value(self) -> float:
        """Return the mean."""

    def get_total_count(self) -> int:
        """Return how many values there are."""

    def get_recorded_iterator(self) -> Iterator[Step]:
        """Give what was recorded, from low to high."""

    def add(self, other_hist: Any) -> None:
        """Add all values of another histogram."""

    def encode(self) -> bytes:
        """Return it as text in ASCII, for `decoded`."""


class PlainHistogram:
    """Counts by value, in the steps of HdrHistogram."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()  # by the highest value of each step

    def record_value(self, value: int, count: int = 1) -> None:
        """Add a value, so many times."""
        self._counts[value + _size(value) - 1 - value % _size(value)] += count

    def record_corrected_value(self, value: int, expected_interval: int, count: int = 1) -> None:
        """Add a value, and those that were not measured meanwhile, as the library does."""
        self.record_value(value, count)
        while value > expected_interval > 0:
            value -= expected_interval
            self.record_value(value, count)

    def get_value_at_percentile(self, percentile: float) -> int:
        """Return the value that so many percent do not exceed; 0 where there is none."""
        wanted = max(1, int(min(percentile, 100.0) * self.get_total_count() / 100 + 0.5))
        for step in self.get_recorded_iterator():
            wanted -= step.count_added_in_this_iter_step
            if wanted <= 0:
                return step.value_iterated_to if percentile else _lowest(step.value_iterated_to)
        return 0

    def get_mean_value(self) -> float:
        """Return the mean, each value taken for the middle of its step; 0 where there is none."""
        total = sum(
            count * (_lowest(value) + _size(value) // 2) for value, count in self._counts.items()
        )
        return total / self.get_total_count() if total else 0.0

    def get_total_count(self) -> int:
        """Return how many values there are."""
        return self._counts.total()

    def get_recorded_iterator(self) -> Iterator[Step]:
        """Give what was recorded, from low to high."""
        return (Step(*each) for each in sorted(self._counts.items()) if each[1])

    def add(self, other_hist: Histogram) -> None:
        """Add all values of another histogram."""
        for step in other_hist.get_recorded_iterator():
            self.record_value(step.value_iterated_to, step.count_added_in_this_iter_step)

    def encode(self) -> bytes:
        """Return it as text: JSON, pairs of a value and how many there are."""
        return json.dumps([*self.get_recorded_iterator()]).encode()


def _size(value: int) -> int:
    """Return how many values are counted as one, there."""
    return 1 << max(0, value.bit_length() - EXACT_BITS)


def _lowest(value: int) -> int:
    return value - value % _size(value)


def histogram() -> Histogram:
    """Return an empty histogram, for microseconds up to a minute."""
    if HdrHistogram is None:
        return PlainHistogram()
    return cast(Histogram, HdrHistogram(1, MOST_US, DIGITS))


def decoded(text: str) -> Histogram:
    """Return a histogram from its text, whichever of the two has written it.

    Raises:
        ValueError: that is no histogram, or one that cannot be read without the library.
    """
    if text.startswith("["):
        found = histogram()
        for value, count in json.loads(text):
            found.record_value(value, count)
        return found
    if HdrHistogram is None:
        raise ValueError("this histogram was written where hdrhistogram is installed")
    return cast(Histogram, HdrHistogram.decode(text))


def note() -> str:
    """Return what is to be said on screen: one line where the library is missing, else none."""
    return NOTE if HdrHistogram is None else ""
