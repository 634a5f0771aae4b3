"""Wrong answers to the exercises of lesson 11: exercise, answer, words of its message."""

from __future__ import annotations

import math
from typing import Any


def sorts_in_place(latencies: list[float], percent: float) -> float:
    latencies.sort()
    return latencies[math.ceil(len(latencies) * percent / 100) - 1]


def as_they_came(latencies: list[float], percent: float) -> float:
    return latencies[math.ceil(len(latencies) * percent / 100) - 1]


def interpolated(latencies: list[float], percent: float) -> float:
    ordered = sorted(latencies)
    place = (len(ordered) - 1) * percent / 100
    low, high = ordered[math.floor(place)], ordered[math.ceil(place)]
    return low + (high - low) * (place - math.floor(place))


def one_too_far(latencies: list[float], percent: float) -> float:
    place = math.ceil(len(latencies) * percent / 100)
    return sorted(latencies)[min(place, len(latencies) - 1)]


def rounded_down(latencies: list[float], percent: float) -> float:
    return sorted(latencies)[int(len(latencies) * percent / 100) - 1]


def with_rest(latencies: list[int], interval: int) -> list[int]:
    result = list(latencies)
    for latency in latencies:
        result += list(range(latency - interval, 0, -interval))
    return result


def only_added(latencies: list[int], interval: int) -> list[int]:
    return [
        each for latency in latencies for each in range(latency - interval, interval - 1, -interval)
    ]


def whole_wait(latencies: list[int], interval: int) -> list[int]:
    return [latency for latency in latencies for _ in range(max(1, latency // interval))]


def down_to_nothing(latencies: list[int], interval: int) -> list[int]:
    return latencies + [
        each for latency in latencies for each in range(latency - interval, -1, -interval)
    ]


def without_the_last(latencies: list[int], interval: int) -> list[int]:
    return latencies + [
        each for latency in latencies for each in range(latency - interval, interval, -interval)
    ]


def whole_intervals_only(latencies: list[int], interval: int) -> list[int]:
    return [each for latency in latencies for each in range(latency, interval - 1, -interval)]


def into_the_list(latencies: list[int], interval: int) -> list[int]:
    for latency in list(latencies):
        latencies += list(range(latency - interval, interval - 1, -interval))
    return latencies


WRONG: list[tuple[str, Any, str]] = [
    ("11.1", lambda connections, a_second: connections / a_second, "That is in seconds"),
    ("11.1", lambda connections, a_second: 1000 * a_second / connections, "other way round"),
    ("11.1", lambda connections, a_second: 1000 / a_second, "one connection"),
    ("11.1", lambda connections, a_second: 280, "takes 28,571.43 ms on average"),
    ("11.1", lambda connections, a_second: None, "end with `return`"),
    ("11.2", sorts_in_place, "has changed"),
    ("11.2", as_they_came, "in the order in which they came"),
    ("11.2", interpolated, "No request took that long"),
    ("11.2", rounded_down, "Only 33 % do not exceed that"),
    ("11.2", one_too_far, "one too far"),
    ("11.2", lambda latencies, percent: max(latencies), "and it gave 100.0"),
    ("11.2", lambda latencies, percent: sum(latencies) / len(latencies), "No request took"),
    ("11.3", lambda latencies, interval: list(latencies), "Nobody was added"),
    ("11.3", with_rest, "less than 10 ms is not added"),
    ("11.3", only_added, "Those who were measured belong there too"),
    ("11.3", whole_intervals_only, "Those who were measured belong there too"),
    ("11.3", down_to_nothing, "less than 10 ms is not added"),
    ("11.3", without_the_last, "a whole interval, is added too"),
    ("11.3", lambda latencies, interval: [*latencies, None], "should be a number"),
    ("11.3", whole_wait, "it should be [10, 10, 20, 30, 40]"),
    ("11.3", into_the_list, "has changed"),
    ("11.3", lambda latencies, interval: 40, "should return a list"),
]


def sliced(latencies: list[float], percent: float) -> float:
    return sorted(latencies)[: math.ceil(len(latencies) * percent / 100)][-1]


def counted(latencies: list[int], interval: int) -> tuple[int, ...]:
    return tuple(
        latency - number * interval
        for latency in latencies
        for number in range(max(1, latency // interval))
    )


RIGHT: list[tuple[str, Any]] = [("11.2", sliced), ("11.3", counted)]
