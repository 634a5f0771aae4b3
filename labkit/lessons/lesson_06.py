"""Exercises of lesson 06, Missing TTL."""

from __future__ import annotations

import time
from typing import Any

import redis

from labkit.lessons.exercises import Exercise, Wrong, call
from labkit.lessons.lesson_02 import scratch_redis

JUST_BELOW_1 = 0.999_999
TTL = 90  # seconds


def _examine_jittered(answer: Any) -> None:
    cases = [
        (270, 300, 0.0),
        (270, 300, JUST_BELOW_1),
        (150, 300, 0.5),
        (0.6, 0.75, 0.25),
        (60, 60, 0.5),
    ]
    for shortest, longest, chance in cases:
        _examine_jitter(answer, shortest, longest, chance)
    shown = "(0.0001, 0.001, random), where random() gives 0.1"
    got = call(answer, 0.0001, 0.001, lambda: 0.1, shown=shown)
    if got != 1:
        raise Wrong(
            f"called with {shown}, it gave {got!r}. Redis refuses less than a millisecond: give 1."
        )


def _examine_jitter(answer: Any, shortest: float, longest: float, chance: float) -> None:
    drawn = 0

    def random() -> float:
        nonlocal drawn
        drawn += 1
        return chance if drawn % 2 else min(1 - chance, JUST_BELOW_1)

    shown = f"({shortest}, {longest}, random), where random() gives {chance}"
    got = call(answer, shortest, longest, random, shown=shown)
    if isinstance(got, bool) or not isinstance(got, int | float):
        raise Wrong(f"called with {shown}, it gave {got!r}, which is no number.")
    low, high = 1000 * shortest, 1000 * longest
    if got > high:
        raise Wrong(
            f"called with {shown}, it gave {got!r}: more than the {high:g} ms that were promised "
            "to readers."
        )
    if shortest <= got <= longest:
        raise Wrong(
            f"called with {shown}, it gave {got!r}. That is in seconds: px takes milliseconds."
        )
    if got < low - 1:
        raise Wrong(
            f"called with {shown}, it gave {got!r}: less than the {low:g} ms that it should live."
        )
    if not isinstance(got, int):
        raise Wrong(f"called with {shown}, it gave {got!r}: px takes a whole number.")
    if not drawn:
        raise Wrong(
            f"called with {shown}, it never called the random() that it was given: entries expire "
            "together."
        )
    exact = [low + (high - low) * part for part in (chance, 1 - chance)]
    if all(abs(got - right) > 1 for right in exact):
        twice = " (It called random() more than once, and got another number.)" if drawn > 1 else ""
        raise Wrong(
            f"called with {shown}, it gave {got!r}, and not {exact[0]:g}: draw evenly, from all of "
            f"the range.{twice}"
        )


def jittered(shortest, longest, random):  # type: ignore[no-untyped-def]  # shown as it stands
    return max(1, int(1000 * (shortest + (longest - shortest) * random())))


class Distant(redis.Redis):
    """A client of a Redis a little way off: between two commands, time passes."""

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """Send a command, a little later: a TTL that was read is no longer true."""
        time.sleep(0.002)
        return super().execute_command(*args, **options)  # type: ignore[no-untyped-call]


class Expiring(redis.Redis):
    """A client of a Redis whose entry expires right after the first command."""

    expired = False

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """Send a command; after the first, the entry is gone."""
        answer = super().execute_command(*args, **options)  # type: ignore[no-untyped-call]
        if not self.expired:
            self.expired = True
            self.delete("entry")
        return answer


def _examine_replace(answer: Any) -> None:
    with scratch_redis() as near:
        client = Distant(connection_pool=near.connection_pool)
        for old, value in (("old", "new"), ("", "newer"), ("old", "")):
            client.set("entry", old, ex=TTL)
            _examine_replaced(answer, client, value)
        client.set("for ever", "old")
        got = call(answer, client, "for ever", "new", shown="(redis, 'for ever', 'new')")
        if client.ttl("for ever") != -1:
            raise Wrong("an entry without a deadline was replaced, and has one now.")
        if got is not True or client.get("for ever") != b"new":
            raise Wrong(f"an entry without a deadline can be replaced too, and it gave {got!r}.")

        near.set("entry", "old", ex=TTL)
        expiring = Expiring(connection_pool=near.connection_pool)
        shown = "(redis, 'entry', 'new') just before the entry expires"
        call(answer, expiring, "entry", "new", shown=shown)
        if near.exists("entry"):
            raise Wrong("the entry expired between two of your commands, and the last stored one.")


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
        if not isinstance(answer[letter], str):
            raise Wrong(f"server {letter} needs the name of one policy, not {answer[letter]!r}.")
        if answer[letter] not in POLICIES:
            raise Wrong(f"{answer[letter]!r} is no policy. They are {', '.join(sorted(POLICIES))}.")
    a, b, c = (answer[letter] for letter in "abc")
    if a == "noeviction":
        raise Wrong("a: when it is full, noeviction caches nothing new.")
    if a in VOLATILE - {"volatile-lfu"}:
        raise Wrong(f"a: after the job, {a} has evicted favourites. Which one counts reads?")
    if a == "allkeys-random":
        raise Wrong("a: to allkeys-random, a favourite is worth no more than what the job read.")
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
        ask="Write jittered(shortest, longest, random): a TTL in milliseconds, by chance.",
        examine=_examine_jittered,
        praise="entries stored together expire apart, and none outlives its promise.",
        hints=(
            "How long is the range from shortest to longest? random() says how far into it to go.",
            "int() cuts off what is behind the point, so it never makes the number larger.",
            "max(1, ...) is at least 1.",
        ),
        solution=jittered,
    ),
    "06.2": Exercise(
        ask="Write replace(redis, key, value): a new value, the old deadline, and no new entry.",
        examine=_examine_replace,
        praise="it replaces what is there, and nothing else, and the deadline stays.",
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
