"""Wrong answers to the exercises of lesson 06: exercise, answer, words of its message."""

from __future__ import annotations

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


def policies(**changes: str) -> dict[str, str]:
    return {"a": "allkeys-lfu", "b": "volatile-ttl", "c": "noeviction"} | changes


WRONG: list[tuple[str, Any, str]] = [
    (
        "06.1",
        lambda ttl, spread, random: int(1000 * ttl * (1 + spread * random())),
        "that were promised",
    ),
    (
        "06.1",
        lambda ttl, spread, random: int(1000 * ttl * (1 + spread * (2 * random() - 1))),
        "more than the 300000 ms",
    ),
    ("06.1", lambda ttl, spread, random: max(1, int(1000 * ttl)), "never called random()"),
    ("06.1", lambda ttl, spread, random: ttl * (1 - spread * random()), "in seconds"),
    ("06.1", lambda ttl, spread, random: 1000 * ttl * (1 - spread * random()), "a whole number"),
    ("06.1", lambda ttl, spread, random: int(1000 * ttl * (1 - spread * random())), "give 1"),
    ("06.1", lambda ttl, spread, random: int(1000 * ttl * random()), "more than the spread is off"),
    (
        "06.1",
        lambda ttl, spread, random: max(1, int(1000 * ttl * (1 - spread * random() / 2))),
        "the whole spread",
    ),
    ("06.1", lambda ttl, spread, random: f"{random()}", "which is no number"),
    ("06.1", lambda ttl, spread, random: None, "end with `return`"),
    ("06.2", replacing(), "would stay for ever"),
    ("06.2", replacing(xx=True), "would stay for ever"),
    ("06.2", replacing(keepttl=True), "it stored one"),
    ("06.2", replacing(nx=True, ex=90), "and Redis has b'old'"),
    ("06.2", renewing, "was moved by"),
    ("06.2", nearly, "was moved by"),
    ("06.2", answered(1, False), "gave 1, not True"),
    ("06.2", answered(True, None), "gave None, not False"),
    ("06.2", only_with_a_deadline, "can be replaced too"),
    ("06.2", giving_a_deadline, "has one now"),
    ("06.2", lambda redis, key, value: None, "end with `return`"),
    ("06.3", "allkeys-lfu", "is a dictionary"),
    ("06.3", {"a": "allkeys-lfu", "c": "noeviction"}, "server b has no policy"),
    ("06.3", policies(a="lfu"), "'lfu' is no policy"),
    ("06.3", policies(a="noeviction"), "caches nothing new"),
    ("06.3", policies(a="allkeys-lru"), "reads every entry last"),
    ("06.3", policies(a="allkeys-random"), "reads every entry last"),
    ("06.3", policies(a="volatile-ttl"), "Which one counts reads"),
    ("06.3", policies(b="allkeys-lfu"), "the settings too"),
    ("06.3", policies(b="noeviction"), "stores no new entries"),
    ("06.3", policies(c="allkeys-lru"), "losing orders"),
    ("06.3", policies(c="volatile-ttl"), "may ever be lost"),
]
