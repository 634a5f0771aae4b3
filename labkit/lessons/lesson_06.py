"""Exercises of lesson 06, Missing TTL."""

from __future__ import annotations

from typing import Any

import redis

from labkit.lessons.exercises import Exercise, Wrong, call
from labkit.lessons.lesson_02 import scratch_redis

JUST_BELOW_1 = 0.999_999
TTL = 90  # seconds


def _examine_jittered(answer: Any) -> None:
    cases = [
        (300, 0.1, 0.0),
        (300, 0.1, JUST_BELOW_1),
        (300, 0.5, 0.5),
        (0.75, 0.2, 0.25),
        (60, 0, 0.5),
    ]
    for ttl, spread, chance in cases:
        _examine_jitter(answer, ttl, spread, chance)
    shown = "(0.001, 0.5, random), where random() gives 0.9"
    got = call(answer, 0.001, 0.5, lambda: 0.9, shown=shown)
    if got != 1:
        raise Wrong(f"{shown}, it gave {got!r}. Redis refuses less than a millisecond: give 1.")


def _examine_jitter(answer: Any, ttl: float, spread: float, chance: float) -> None:
    drawn = 0

    def random() -> float:
        nonlocal drawn
        drawn += 1
        return chance

    shown = f"({ttl}, {spread}, random), where random() gives {chance}"
    got = call(answer, ttl, spread, random, shown=shown)
    if isinstance(got, bool) or not isinstance(got, int | float):
        raise Wrong(f"{shown}, it gave {got!r}, which is no number.")
    low, high = 1000 * ttl * (1 - spread), 1000 * ttl
    if got > high:
        raise Wrong(
            f"{shown}, it gave {got!r}: more than the {high:g} ms that were promised to readers."
        )
    if 0 < got <= ttl:
        raise Wrong(f"{shown}, it gave {got!r}. That is in seconds: px takes milliseconds.")
    if got < low - 1:
        raise Wrong(f"{shown}, it gave {got!r}: less than {low:g} ms, more than the spread is off.")
    if not isinstance(got, int):
        raise Wrong(f"{shown}, it gave {got!r}: px takes a whole number.")
    if not drawn:
        raise Wrong(f"{shown}, it never called random(): entries expire together.")
    exact = [1000 * ttl * (1 - spread * part) for part in (chance, 1 - chance)]
    if all(abs(got - right) > 1 for right in exact):
        raise Wrong(
            f"{shown}, it gave {got!r}, and not {exact[0]:g}: use the whole spread, evenly."
        )


def jittered(ttl, spread, random):  # type: ignore[no-untyped-def]  # shown as it stands
    return max(1, int(1000 * ttl * (1 - spread * random())))


def _examine_replace(answer: Any) -> None:
    with scratch_redis() as client:
        for value in ("new", ""):
            client.set("entry", "old", ex=TTL)
            _examine_replaced(answer, client, value)
        client.set("for ever", "old")
        got = call(answer, client, "for ever", "new", shown="(redis, 'for ever', 'new')")
        if client.ttl("for ever") != -1:
            raise Wrong("an entry without a deadline was replaced, and has one now.")
        if got is not True or client.get("for ever") != b"new":
            raise Wrong(f"an entry without a deadline can be replaced too, and it gave {got!r}.")


def _examine_replaced(answer: Any, client: redis.Redis, value: str) -> None:
    deadline: Any = client.pexpiretime("entry")
    shown = f"(redis, 'entry', {value!r})"
    got = call(answer, client, "entry", value, shown=shown)
    now: Any = client.pexpiretime("entry")
    if now == -1:
        raise Wrong("the entry had a deadline, and was replaced: now it would stay for ever.")
    if client.get("entry") != value.encode():
        raise Wrong(f"{shown} should store {value!r}, and Redis has {client.get('entry')!r}.")
    if now != deadline:
        raise Wrong(f"its deadline was moved by {abs(now - deadline)} ms. Leave it as it is.")
    if got is not True:
        raise Wrong(f"{shown} replaced an entry, and gave {got!r}, not True.")
    client.delete("entry")
    got = call(answer, client, "entry", value, shown=shown, may_be_none=True)
    if client.exists("entry"):
        raise Wrong("there was no entry 'entry', and it stored one.")
    if got is not False:
        raise Wrong(f"there was no entry to replace, and it gave {got!r}, not False.")


def replace(redis, key, value):  # type: ignore[no-untyped-def]  # shown as it stands
    return redis.set(key, value, xx=True, keepttl=True) is True


ALLKEYS = {"allkeys-lru", "allkeys-lfu", "allkeys-random"}
VOLATILE = {"volatile-lru", "volatile-lfu", "volatile-random", "volatile-ttl"}
POLICIES = {"noeviction", *ALLKEYS, *VOLATILE}


def _examine_policies(answer: Any) -> None:
    if not isinstance(answer, dict):
        raise Wrong(f"the answer is a dictionary with the keys a, b and c, not {answer!r}.")
    if missing := [letter for letter in "abc" if letter not in answer]:
        raise Wrong(f"server {missing[0]} has no policy yet.")
    for letter in "abc":
        if answer[letter] not in POLICIES:
            raise Wrong(f"{answer[letter]!r} is no policy. They are {', '.join(sorted(POLICIES))}.")
    a, b, c = (answer[letter] for letter in "abc")
    if a == "noeviction":
        raise Wrong("a: when it is full, noeviction caches nothing new.")
    if a in VOLATILE - {"volatile-lfu"}:
        raise Wrong(f"a: after the job, {a} has evicted favourites. Which one counts reads?")
    if not a.endswith("lfu"):
        raise Wrong(f"a: the job reads every entry last, and {a} then evicts favourites.")
    if b in ALLKEYS:
        raise Wrong(f"b: {b} may evict any entry, the settings too.")
    if b == "noeviction":
        raise Wrong("b: when it is full, noeviction stores no new entries.")
    if c in ALLKEYS:
        raise Wrong(f"c: {c} makes room by losing orders.")
    if c in VOLATILE:
        raise Wrong(f"c: {c} loses whatever has a TTL. Nothing here may ever be lost.")


EXERCISES = {
    "06.1": Exercise(
        ask="Write jittered(ttl, spread, random): a TTL in milliseconds, shortened by chance.",
        examine=_examine_jittered,
        praise="entries stored together expire apart, and none outlives its promise.",
        hints=(
            "spread * random() is the part that is taken off. What remains of 1?",
            "int() cuts off what is behind the point, so it never makes the number larger.",
            "max(1, ...) is at least 1.",
        ),
        solution=jittered,
    ),
    "06.2": Exercise(
        ask="Write replace(redis, key, value): a new value, the old deadline, and no new entry.",
        examine=_examine_replace,
        praise="one command: it replaces what is there, and its deadline stays.",
        hints=(
            "SET can keep the deadline of what it replaces: keepttl=True.",
            "With xx=True, SET stores only where there is an entry already.",
            "redis.set gives True where it stored, and None where it did not.",
        ),
        solution=replace,
    ),
    "06.3": Exercise(
        ask="Choose a maxmemory-policy for each of three servers.",
        examine=_examine_policies,
        praise="the policy follows from what may be lost.",
        hints=(
            "What may be evicted at all? allkeys: anything; volatile: what has a TTL; noeviction: "
            "nothing.",
            "For a, remember what the job did to LRU, and which policy it did not trouble.",
        ),
        solution={"a": "allkeys-lfu", "b": "volatile-lfu", "c": "noeviction"},
    ),
}
