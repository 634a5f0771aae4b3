"""Timing: fair to every candidate, and its numbers are what a hand computes."""

from __future__ import annotations

import re
import time
from functools import partial

import pytest

import labkit
from labkit.measure.timing import WARM_UP, Comparison, compare

# 1 to 20, shuffled, against 10 for each: numbers that a hand can check.
COMPARISON = Comparison(
    {
        "steady": [10.0] * 20,
        "spread": [7.0, 20, 1, 14, 3, 18, 5, 12, 9, 16, 11, 2, 13, 4, 15, 6, 17, 8, 19, 10],
    }
)


def test_each_round_calls_every_candidate_once_and_the_order_turns():
    called: list[str] = []
    compare({name: partial(called.append, name) for name in "abc"}, rounds=4)
    assert "".join(called) == "abcbcacababcbcacababc"
    assert len(called) == 3 * (WARM_UP + 4)


def test_the_rounds_that_warm_up_are_not_counted(monkeypatch):
    clock = iter(range(1000))
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    calls: list[int] = []

    def slow_at_first() -> None:
        calls.append(1)
        if len(calls) <= WARM_UP:
            for _ in range(50):
                next(clock)

    compared = compare({"f": slow_at_first}, rounds=5)
    assert compared.times == {"f": [1000.0] * 5}


def test_times_are_in_milliseconds_and_belong_to_their_candidate(monkeypatch):
    now = 0.0

    def spend(seconds: float) -> None:
        nonlocal now
        now += seconds

    monkeypatch.setattr(time, "perf_counter", lambda: now)
    compared = compare({"long": lambda: spend(0.25), "short": lambda: spend(0.125)}, rounds=3)
    assert compared.times == {"long": [250.0] * 3, "short": [125.0] * 3}


def test_the_median_lies_between_the_two_in_the_middle():
    assert COMPARISON.median("steady") == 10
    assert COMPARISON.median("spread") == 10.5


@pytest.mark.parametrize(
    ("percent", "expected"), [(0, 1), (5, 1), (6, 2), (50, 10), (95, 19), (96, 20), (100, 20)]
)
def test_a_percentile_is_the_nearest_rank(percent, expected):
    assert COMPARISON.percentile("spread", percent) == expected


def test_the_percentile_of_one_round_is_that_round():
    assert Comparison({"one": [3.0]}).percentile("one", 99) == 3.0


def test_ratios_refer_to_the_first_candidate():
    assert COMPARISON.ratio("steady") == 1
    assert COMPARISON.ratio("spread") == 1.05
    assert Comparison({"miss": [40.0], "hit": [0.5]}).ratio("hit") == 0.0125


def test_the_table():
    assert str(COMPARISON).splitlines() == [
        "                  median           p95           p99     ratio",
        "steady         10.000 ms     10.000 ms     10.000 ms        ×1",
        "spread         10.500 ms     19.000 ms     20.000 ms     ×1.05",
        "20 rounds each, interleaved, after 3 to warm up",
    ]


def test_the_table_is_straight_with_a_long_name():
    *rows, _ = str(Comparison({"a candidate with a long name": [1.0], "b": [2.0]})).splitlines()
    assert len({len(row) for row in rows}) == 1


def test_the_table_is_printed_and_the_times_are_returned(capsys):
    compared = labkit.compare({"a": lambda: None, "b": lambda: None}, rounds=7)
    assert {len(times) for times in compared.times.values()} == {7}
    printed = capsys.readouterr().out
    assert printed == f"{compared}\n"
    assert re.search(r"(?m)^a +\d+\.\d{3} ms ", printed)


@pytest.mark.parametrize("rounds", [0, -1])
def test_no_rounds_are_refused_before_anything_runs(rounds):
    called: list[int] = []
    with pytest.raises(ValueError, match="one candidate and one round"):
        compare({"f": lambda: called.append(1)}, rounds=rounds)
    assert called == []


def test_no_candidates_are_refused():
    with pytest.raises(ValueError, match="one candidate and one round"):
        compare({})


def test_an_error_of_a_candidate_passes_through(capsys):
    with pytest.raises(ZeroDivisionError):
        compare({"f": lambda: 1 / 0})
    assert capsys.readouterr().out == ""
