"""Time to live: whatever grows has one, and not all of it ends at once."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any

import redis

from labkit.audit import questions
from labkit.audit.probe import TTL, Trial, expect, probe

FEW, MANY = 10, 50
SIZES = {b"list": "LLEN", b"set": "SCARD", b"zset": "ZCARD", b"stream": "XLEN"}
SPREAD = 0.01  # of the TTL: entries that expire within so little of it do so together


@probe("06", "whatever grows with the entries has a TTL, at most the one given")
def ttl_on_what_grows(trial: Trial) -> str:
    """Compare what is there for ten entries with what is there for fifty."""
    ask = trial.cached(questions.region_of)
    for user in range(1, FEW + 1):
        ask(user)
    few = _without_ttl(trial)
    for user in range(FEW + 1, MANY + 1):
        ask(user)
    many = _without_ttl(trial)
    for each, count in many.items():
        expect(count <= few[each], f"{count} {each} for {MANY} entries, {few[each]} for {FEW}")
    return f"{MANY} entries, 0 of what grows with them without a TTL"


def _without_ttl(trial: Trial) -> dict[str, int]:
    """Count what does not end when it should: keys, and what stands in those without a TTL."""
    counts = {"keys without a TTL": 0, "keys with a longer TTL": 0, "elements without a TTL": 0}
    client: Any = trial.site.client
    for key in trial.stored():
        left = client.pttl(key)
        if left > 1000 * TTL:
            counts["keys with a longer TTL"] += 1
        elif left == -1:
            counts["keys without a TTL"] += 1
            counts["elements without a TTL"] += _elements(client, key)
    return counts


def _elements(client: Any, key: bytes) -> int:
    """Count what stands in a key and has no TTL of its own, as fields of a hash may."""
    kind = client.type(key)
    if kind == b"hash":
        return list(_fields(client, key).values()).count(-1)
    return int(client.execute_command(SIZES[kind], key)) if kind in SIZES else 0


@probe("06", "entries that are stored together do not all expire together")
def jitter(trial: Trial) -> str:
    """Store fifty entries, and look when they will end."""
    ask = trial.cached(questions.region_of)
    ask(MANY + 1)
    known = _ends(trial)
    ends = []
    for user in range(1, MANY + 1):
        ask(user)
        now = _ends(trial)
        ends.append(max((now[each] for each in now if each not in known), default=0))
        known = now
    expect(all(ends), f"{MANY - ends.count(0)} of {MANY} entries have a TTL of their own")
    together = max(ends) - min(ends) <= SPREAD * TTL
    return expect(
        not together,
        f"{MANY} entries {'all' if together else 'do not all'} expire within {SPREAD:.0%} of a TTL",
    )


def _ends(trial: Trial) -> dict[tuple[bytes, bytes], float]:
    """Return when each key and each field of a hash ends, in seconds; 0 for no TTL of an entry."""
    keys = trial.stored()
    pipe = trial.site.client.pipeline()
    for key in keys:
        pipe.pttl(key)
        pipe.type(key)
    found = pipe.execute()
    left = {(key, b""): found[2 * i] for i, key in enumerate(keys)}
    for i, key in enumerate(keys):
        if found[2 * i + 1] == b"hash":
            left |= _fields(trial.site.client, key)
    now = time.monotonic()
    return {each: now + ms / 1000 if 0 < ms <= 1000 * TTL else 0 for each, ms in left.items()}


def _fields(client: Any, key: bytes) -> dict[tuple[bytes, bytes], int]:
    """Return how many milliseconds each field of a hash has; -1 for one without a TTL."""
    fields = client.hkeys(key)
    left = [-1] * len(fields)
    with suppress(redis.ResponseError):  # before Redis 7.4 and Valkey 9 none has
        left = client.execute_command("HPTTL", key, "FIELDS", len(fields), *fields)
    return {(key, field): ms for field, ms in zip(fields, left, strict=True)}
