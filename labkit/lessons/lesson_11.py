"""Exercises of lesson 11, Load test."""

from __future__ import annotations

import math
import random
from collections import Counter
from numbers import Real
from typing import Any

from labkit.lessons.exercises import Exercise, Wrong, call, is_close


def _examine_mean_ms(answer: Any) -> None:
    for connections, a_second in [(100, 3.5), (1, 4), (4, 2000), (50, 50)]:
        got = call(answer, connections, a_second)
        expected = mean_ms(connections, a_second)
        if not is_close(got, expected):
            nudge = ""
            if is_close(got, expected / 1000):
                nudge = " That is in seconds."
            elif is_close(got, 1000 * a_second / connections):
                nudge = " That is the other way round."
            elif is_close(got, 1000 / a_second):
                nudge = " That would be so with one connection: here several wait at a time."
            raise Wrong(
                f"with {connections} connections and {a_second} requests a second it gave {got!r}; "
                f"a request takes {expected:,.2f} ms on average.{nudge}"
            )


def mean_ms(connections: int, a_second: float) -> float:
    return 1000 * connections / a_second


def _lists() -> list[list[float]]:
    chance = random.Random(11)
    shuffled = [float(n) for n in range(1, 101)]
    chance.shuffle(shuffled)
    hits_first = [1.0] * 80 + [250.0] * 20
    return [shuffled, hits_first, hits_first[::-1], [7.0], [3.0, 1.0, 2.0], [5.0, 4.0] * 5]


def _examine_percentile(answer: Any) -> None:
    for latencies in _lists():
        for percent in (50, 80, 81, 95, 99, 100):
            given = list(latencies)
            shown = f"({_short(latencies)}, {percent})"
            got = call(answer, given, percent, shown=shown)
            if given != latencies:
                raise Wrong("the list that it was given has changed. sorted() makes a new one.")
            expected = percentile(latencies, percent)
            if got in latencies and is_close(got, expected):
                continue
            nudge = ""
            if got not in latencies:
                nudge = " No request took that long: give the time of one of them."
            elif len(latencies) > 10 and got == _unsorted(latencies, percent):
                nudge = " Those are in the order in which they came: sort them."
            elif got == _one_too_far(latencies, percent):
                nudge = " That is one too far: the first of a list has the index 0."
            elif got < expected:
                share = 100 * sum(each <= got for each in latencies) / len(latencies)
                nudge = f" Only {share:.0f} % do not exceed that: the place is rounded up."
            raise Wrong(
                f"of {_short(latencies)}, {percent} % do not exceed {expected:g} ms, and it gave "
                f"{got!r}.{nudge}"
            )


def _short(latencies: list[float]) -> str:
    if len(latencies) <= 10:
        return repr(latencies)
    return f"[{latencies[0]}, {latencies[1]}, ... {len(latencies)} in all]"


def _unsorted(latencies: list[float], percent: float) -> float:
    return latencies[math.ceil(len(latencies) * percent / 100) - 1]


def _one_too_far(latencies: list[float], percent: float) -> float | None:
    place = math.ceil(len(latencies) * percent / 100)
    return sorted(latencies)[place] if place < len(latencies) else None


def percentile(latencies: list[float], percent: float) -> float:
    rank = math.ceil(len(latencies) * percent / 100)
    return sorted(latencies)[rank - 1]


def _examine_corrected(answer: Any) -> None:
    cases: list[tuple[list[int], int]] = [
        ([40, 10], 10),
        ([1, 2, 3], 10),
        ([1000], 100),
        ([35, 5, 20, 19], 10),
        ([], 10),
        ([30, 30], 10),
    ]
    for latencies, interval in cases:
        given = list(latencies)
        got = call(answer, given, interval)
        if not isinstance(got, list | tuple):
            raise Wrong(f"it should return a list, and returned {got!r}.")
        if given != latencies:
            raise Wrong("the list that it was given has changed. Return a new one.")
        if not all(isinstance(each, Real) for each in got):
            raise Wrong(f"each latency in the list should be a number, and it returned {got!r}.")
        expected = sorted(corrected(latencies, interval))
        if sorted(got) == expected:
            continue
        raise Wrong(
            f"({latencies!r}, {interval}) gave {sorted(got)!r}, in order; it should be "
            f"{expected!r}.{_corrected_nudge(sorted(got), latencies, interval)}"
        )


def _corrected_nudge(got: list[Any], latencies: list[int], interval: int) -> str:
    if got == sorted(latencies):
        return " Nobody was added."
    right = Counter(corrected(latencies, interval))
    missing, extra = right - Counter(got), Counter(got) - right
    if missing == Counter(latencies):
        return " Those who were measured belong there too."
    if extra and max(extra) < interval and not missing:
        return f" Who would have waited less than {interval} ms is not added."
    if {*missing} == {interval} and not extra:
        return f" Who would have waited {interval} ms, a whole interval, is added too."
    return ""


def corrected(latencies: list[int], interval: int) -> list[int]:
    result = list(latencies)
    for latency in latencies:
        while latency - interval >= interval:
            latency -= interval
            result.append(latency)
    return result


EXERCISES = {
    "11.1": Exercise(
        ask="Write mean_ms(connections, a_second): the mean latency of a closed loop, in ms.",
        examine=_examine_mean_ms,
        praise="two figures of a load test give you the third, and a printed one can be checked.",
        hints=(
            "Little's law: connections = requests a second x mean latency in seconds.",
            "Solve it for the latency, and make milliseconds of the seconds.",
        ),
        solution=mean_ms,
    ),
    "11.2": Exercise(
        ask="Write percentile(latencies, percent): what so many percent do not exceed.",
        examine=_examine_percentile,
        praise="the time of a request that was made, wherever it stood in the list.",
        hints=(
            "Sort them. Of 100 sorted latencies, which one is p95?",
            "math.ceil(len(latencies) * percent / 100) says the how-manieth, counted from 1.",
        ),
        solution=percentile,
    ),
    "11.3": Exercise(
        ask="Write corrected(latencies, interval): with the requests that were not sent.",
        examine=_examine_corrected,
        praise="who was not asked is in the figures now, each with the rest of the wait.",
        hints=(
            "Somebody should have come `interval` ms after the one who waits, and waits that much "
            "less.",
            "For each latency: take off interval again and again, and add what is left.",
            "Stop where less than an interval would be left.",
        ),
        solution=corrected,
    ),
}
