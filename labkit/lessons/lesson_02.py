"""Exercises of lesson 02, The cache decorator."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import redis

from labkit.lessons.exercises import Exercise, Wrong, call, is_close
from labkit.lessons.replies import note_all
from labkit.servers import Keeper, start_redis

TTL = 90  # seconds


@contextmanager
def scratch_redis() -> Iterator[redis.Redis]:
    """Give a client of an empty server of its own, so that no lesson's keys are touched."""
    keeper = Keeper()
    fake = os.environ.get("LABKIT_REDIS") == "fake"
    try:
        with start_redis("fake" if fake else "auto", keeper).connect() as client:
            note_all(client)
            yield client
    finally:
        keeper.close()


def _examine_get_or_load(answer: Any) -> None:
    with scratch_redis() as client:
        for value in ([{"month": 1, "orders": 7}], [], None, 0):
            _examine_value(answer, client, f"key:{value}", value)


def _examine_value(answer: Any, client: redis.Redis, key: str, value: Any) -> None:
    loads = 0

    def load() -> Any:
        nonlocal loads
        loads += 1
        return value

    shown = f"(redis, {key!r}, {TTL}, load), where load() returns {value!r}"
    for turn, was_hit in enumerate((False, True, True), start=1):
        got = call(answer, client, key, TTL, load, shown=shown)
        if not isinstance(got, tuple) or len(got) != 2:
            raise Wrong(f"it should return a pair, (value, was_hit), and returned {got!r}.")
        if got[0] != value:
            nudge = " Those are Redis's bytes: json.loads reads them." * isinstance(got[0], bytes)
            raise Wrong(f"load() returns {value!r}, and call {turn} gave {got[0]!r}.{nudge}")
        if loads == 0:
            raise Wrong("load() never ran.")
        if loads > 1:
            raise Wrong(
                f"load() returns {value!r}: after {turn} equal calls it had run {loads} times. "
                "An empty answer is an answer too; once is enough."
            )
        if got[1] is not was_hit:
            kind = "hit" if was_hit else "miss"
            raise Wrong(f"call {turn} was a {kind}, and it said was_hit={got[1]!r}.")
        if turn == 1:
            _examine_entry(client, key, value)
            client.expire(key, TTL // 3)  # as if time had passed
    if (client.ttl(key) or 0) > TTL // 3:
        raise Wrong("a hit must not extend the TTL: the entry could be stale for ever.")
    client.delete(key)
    call(answer, client, key, TTL, load, shown=shown)
    if loads != 2:
        raise Wrong("after the key was deleted, load() should run again. What else remembers?")


def _examine_entry(client: redis.Redis, key: str, value: Any) -> None:
    stored: Any = client.get(key)
    remaining: Any = client.ttl(key)
    if stored is None:
        raise Wrong(f"after it ran, there is no key {key!r} in Redis.")
    if remaining == -1:
        raise Wrong("the key was stored without a TTL: it would stay for ever.")
    if not TTL - 5 <= remaining <= TTL:
        raise Wrong(f"a ttl of {TTL} s was asked for, and the key has {remaining} s to live.")
    try:
        is_json = json.loads(stored) == value
    except ValueError:
        is_json = False
    if not is_json:
        raise Wrong(f"the value should be stored as JSON, and Redis has {stored[:40]!r}.")


def get_or_load(redis, key, ttl, load):  # type: ignore[no-untyped-def]  # shown as it stands
    stored = redis.get(key)
    if stored is not None:
        return json.loads(stored), True
    value = load()
    redis.set(key, json.dumps(value), ex=ttl)
    return value, False


def _examine_mean_ms(answer: Any) -> None:
    cases = [(0.8, 1, 250, 50.8), (0.0, 1, 250, 250), (1.0, 1, 250, 1), (0.5, 2, 10, 6)]
    for ratio, hit_ms, miss_ms, expected in cases:
        got = call(answer, ratio, hit_ms, miss_ms)
        if not is_close(got, expected):
            swapped = ratio * miss_ms + (1 - ratio) * hit_ms
            nudge = " Hits and misses are swapped." if is_close(got, swapped) else ""
            raise Wrong(
                f"at a hit ratio of {ratio:.0%}, with hits of {hit_ms} ms and misses of "
                f"{miss_ms} ms, it gave {got!r}; the mean is {expected} ms.{nudge}"
            )


def mean_ms(hit_ratio: float, hit_ms: float, miss_ms: float) -> float:
    return hit_ratio * hit_ms + (1 - hit_ratio) * miss_ms


def _examine_hits_needed(answer: Any) -> None:
    for speed_up, hit_ms, miss_ms in [(5, 1, 250), (2, 1, 100), (10, 0.5, 300)]:
        got = call(answer, speed_up, hit_ms, miss_ms, may_be_none=True)
        expected = hits_needed(speed_up, hit_ms, miss_ms)
        assert expected is not None
        if not is_close(got, expected):
            percent = isinstance(got, int | float) and is_close(got / 100, expected)
            nudge = " Give a ratio from 0 to 1, not a percentage." if percent else ""
            raise Wrong(
                f"to be {speed_up} times as fast, with hits of {hit_ms} ms and misses of "
                f"{miss_ms} ms, it gave {got!r}; it takes {expected:.4f}.{nudge}"
            )
    for speed_up, hit_ms, miss_ms in [(300, 1, 250), (2, 300, 250), (2, 250, 250)]:
        got = call(answer, speed_up, hit_ms, miss_ms, may_be_none=True)
        if got is not None:
            raise Wrong(
                f"with hits of {hit_ms} ms and misses of {miss_ms} ms nothing is {speed_up} times "
                f"as fast, not even hits alone, and it gave {got!r}: return None then."
            )


def hits_needed(speed_up: float, hit_ms: float, miss_ms: float) -> float | None:
    if speed_up * hit_ms > miss_ms:
        return None
    return (1 - 1 / speed_up) / (1 - hit_ms / miss_ms)


EXERCISES = {
    "02.1": Exercise(
        ask="Write get_or_load(redis, key, ttl, load), which returns (value, was_hit).",
        examine=_examine_get_or_load,
        praise="one load for each key, whatever its answer, and every key has a TTL.",
        hints=(
            "Ask Redis first. redis.get gives None where there is no key, and bytes otherwise.",
            "Test what Redis gave with `is not None`, before you decode it.",
            "redis.set(key, json.dumps(value), ex=ttl) stores a value and its TTL in one command.",
        ),
        solution=get_or_load,
    ),
    "02.2": Exercise(
        ask="Write mean_ms(hit_ratio, hit_ms, miss_ms).",
        examine=_examine_mean_ms,
        praise="a weighted mean: the misses are what remains when the hits are taken off.",
        hints=(
            "Of 100 calls at a hit ratio of 0.8, how many are hits, how many misses?",
            "Weigh hit_ms with the hit ratio, and miss_ms with what is left of 1.",
        ),
        solution=mean_ms,
    ),
    "02.3": Exercise(
        ask="Write hits_needed(speed_up, hit_ms, miss_ms): the hit ratio it takes, or None.",
        examine=_examine_hits_needed,
        praise="and you know when to say that no hit ratio is enough.",
        hints=(
            "Speed-up is miss_ms over the mean. Set the mean to miss_ms / speed_up.",
            "Solve ratio * hit_ms + (1 - ratio) * miss_ms = miss_ms / speed_up for ratio.",
            "If even hits alone take longer than miss_ms / speed_up, it cannot be done.",
        ),
        solution=hits_needed,
    ),
}
