"""Wrong answers to the exercises of lesson 06: exercise, answer, words of its message."""

from __future__ import annotations

import random as chance
from collections.abc import Callable
from typing import Any


def replacing(**options: Any) -> Callable[..., Any]:
    """Return a replace that is one SET with these options."""

    def replace(redis: Any, key: str, value: str) -> Any:
        return redis.set(key, value, **options) is True

    return replace


def renewing(redis: Any, key: str, value: str) -> Any:
    return redis.set(key, value, xx=True, ex=300) is True


def nearly(redis: Any, key: str, value: str) -> Any:
    remaining = redis.ttl(key)  # rounded to seconds
    return redis.set(key, value, xx=True, ex=remaining - 1 if remaining > 1 else None) is True


def read_and_set_again(redis: Any, key: str, value: str) -> Any:
    remaining = redis.pttl(key)
    if remaining == -2:
        return False
    return redis.set(key, value, px=remaining if remaining > 0 else None) is True


def where_it_is_true(redis: Any, key: str, value: str) -> Any:
    return bool(redis.get(key)) and redis.set(key, value, keepttl=True) is True


def where_it_exists(redis: Any, key: str, value: str) -> Any:
    return redis.exists(key) == 1 and redis.set(key, value, keepttl=True) is True


def until_the_same_moment(redis: Any, key: str, value: str) -> Any:
    deadline = redis.pexpiretime(key)
    if deadline == -2:
        return False
    return redis.set(key, value, pxat=deadline if deadline > 0 else None) is True


def answered(found: Any, missing: Any) -> Callable[..., Any]:
    """Return a replace that is right but for what it returns."""

    def replace(redis: Any, key: str, value: str) -> Any:
        return found if redis.set(key, value, xx=True, keepttl=True) else missing

    return replace


def only_with_a_deadline(redis: Any, key: str, value: str) -> Any:
    if redis.ttl(key) < 0:
        return False
    return redis.set(key, value, xx=True, keepttl=True) is True


def giving_a_deadline(redis: Any, key: str, value: str) -> Any:
    done = redis.set(key, value, xx=True, keepttl=True) is True
    if redis.ttl(key) == -1:
        redis.expire(key, 300)
    return done


def comparing_with_text(redis: Any, key: str, value: str) -> Any:
    redis.set(key, value, xx=True, keepttl=True)
    return redis.get(key) == value


def policies(**changes: Any) -> dict[str, Any]:
    return {"a": "allkeys-lfu", "b": "volatile-ttl", "c": "noeviction"} | changes


WRONG: list[tuple[str, Any, str]] = [
    (
        "06.1",
        lambda shortest, longest, random: int(1000 * (longest + (longest - shortest) * random())),
        "more than the 300000 ms",
    ),
    (
        "06.1",
        lambda shortest, longest, random: int(1000 * (shortest + longest * random())),
        "that were promised",
    ),
    ("06.1", lambda shortest, longest, random: max(1, int(1000 * longest)), "never called the"),
    (
        "06.1",
        lambda shortest, longest, random: chance.randint(1000 * shortest, 1000 * longest),
        "never called the",
    ),
    (
        "06.1",
        lambda shortest, longest, random: shortest + (longest - shortest) * random(),
        "in seconds",
    ),
    (
        "06.1",
        lambda shortest, longest, random: 1000 * (shortest + (longest - shortest) * random()),
        "a whole number",
    ),
    (
        "06.1",
        lambda shortest, longest, random: int(1000 * (shortest + (longest - shortest) * random())),
        "give 1",
    ),
    ("06.1", lambda shortest, longest, random: int(1000 * longest * random()), "it should live"),
    (
        "06.1",  # jittered_ms of the lesson, as it stands
        lambda ttl, spread, random: max(1, int(1000 * ttl * (1 - spread * random()))),
        "less than the 270000 ms",
    ),
    (
        "06.1",
        lambda shortest, longest, random: max(
            1, int(1000 * (shortest + (longest - shortest) * random() / 2))
        ),
        "all of the range",
    ),
    (
        "06.1",
        lambda shortest, longest, random: max(
            1, int(1000 * (shortest + (longest - shortest) * (random() + random()) / 2))
        ),
        "called random() more than once",
    ),
    ("06.1", lambda shortest, longest, random: f"{random()}", "which is no number"),
    ("06.1", lambda shortest, longest, random: None, "end with `return`"),
    ("06.2", replacing(), "would stay for ever"),
    ("06.2", replacing(xx=True), "would stay for ever"),
    ("06.2", replacing(keepttl=True), "it stored one"),
    ("06.2", replacing(nx=True, ex=90), "and Redis has b'old'"),
    ("06.2", renewing, "was moved by"),
    ("06.2", nearly, "was moved by"),
    ("06.2", read_and_set_again, "was moved by"),
    ("06.2", where_it_is_true, "should store 'newer', and Redis has b''"),
    ("06.2", where_it_exists, "expired between two of your commands"),
    ("06.2", until_the_same_moment, "expired between two of your commands"),
    ("06.2", answered(1, False), "gave 1, not True"),
    ("06.2", answered(True, None), "gave None, not False"),
    ("06.2", only_with_a_deadline, "can be replaced too"),
    ("06.2", giving_a_deadline, "has one now"),
    ("06.2", lambda redis, key, value: None, "end with `return`"),
    ("06.2", comparing_with_text, "Bytes were compared with text: b'new' == 'new' is never true"),
    ("06.3", "allkeys-lfu", "is a dictionary"),
    ("06.3", {"a": "allkeys-lfu", "c": "noeviction"}, "server b has no policy"),
    ("06.3", policies(a="lfu"), "'lfu' is no policy"),
    ("06.3", policies(a="noeviction"), "caches nothing new"),
    ("06.3", policies(a="allkeys-lru"), "reads every entry last"),
    ("06.3", policies(a="allkeys-random"), "worth no more than what the job read"),
    ("06.3", policies(b=["volatile-lru", "volatile-lfu"]), "the name of one policy"),
    ("06.3", policies(a="volatile-ttl"), "Which one counts reads"),
    ("06.3", policies(b="allkeys-lfu"), "the settings too"),
    ("06.3", policies(b="noeviction"), "stores no new entries"),
    ("06.3", policies(c="allkeys-lru"), "losing orders"),
    ("06.3", policies(c="volatile-ttl"), "may ever be lost"),
]
