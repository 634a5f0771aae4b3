"""Exercises of lesson 00, Start here."""

from __future__ import annotations

from typing import Any

from labkit.lessons.exercises import Exercise, Wrong, call


def _examine_statements(answer: Any) -> None:
    if not isinstance(answer, int) or isinstance(answer, bool):
        raise Wrong(f"the answer is a whole number, and this is {answer!r}.")
    if answer == 4:
        raise Wrong("4 is one statement a call. Is each of the four a question not asked before?")
    if answer == 2:
        raise Wrong(
            "2 is right while US is still in Redis. From an empty cache it is more: "
            "run lab.redis.flushdb() first."
        )
    if answer == 1:
        raise Wrong("1 would be right if all four asked the same. Do they share one key?")
    if answer != 3:
        raise Wrong(f"{answer} is not it. Write the four keys down, and count those that are new.")


def _examine_hit_ratio(answer: Any) -> None:
    for hits, misses, expected in [(4, 1, 0.8), (2, 1, 2 / 3), (0, 5, 0.0), (3, 0, 1.0)]:
        got = call(answer, hits, misses)
        if not isinstance(got, int | float) or abs(got - expected) > 1e-9:
            raise Wrong(f"hits={hits}, misses={misses} gave {got!r}; it should be {expected:.4g}.")
    if (got := call(answer, 0, 0)) != 0:
        raise Wrong(f"before the first call, 0 hits and 0 misses, it gave {got!r}: say 0.0 then.")


def hit_ratio(hits: int, misses: int) -> float:
    calls = hits + misses
    return hits / calls if calls else 0.0


EXERCISES = {
    "00.1": Exercise(
        ask="How many SQL statements do four calls run, from an empty cache?",
        examine=_examine_statements,
        praise="three different questions, three misses; the second US was a hit.",
        hints=(
            "A call runs SQL only when its key is not in Redis yet.",
            "The keys are report:US, report:EU, report:US, report:LATAM. How many differ?",
        ),
        solution=3,
    ),
    "00.2": Exercise(
        ask="Write hit_ratio(hits, misses).",
        examine=_examine_hit_ratio,
        praise="hits over calls, and 0.0 before the first call.",
        hints=(
            "The hit ratio is the share of all calls that were hits.",
            "All calls are hits + misses. What if that is 0?",
        ),
        solution=hit_ratio,
    ),
}
