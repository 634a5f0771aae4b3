"""Wrong answers to the exercises of lesson 02: exercise, answer, words of its message."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any


def cache(
    is_found: Callable[[Any], bool] = lambda stored: stored is not None,
    read: Callable[[Any], Any] = json.loads,
    options: Callable[[int], dict[str, Any]] = lambda ttl: {"ex": ttl},
    says_hit: bool = True,
    stores: bool = True,
) -> Callable[..., Any]:
    """Return a get_or_load that is wrong in what is said."""

    def get_or_load(redis: Any, key: str, ttl: int, load: Callable[[], Any]) -> Any:
        stored = redis.get(key)
        if is_found(stored):
            return read(stored), says_hit
        value = load()
        if stores:
            redis.set(key, json.dumps(value), **options(ttl))
        return value, False

    return get_or_load


def always_load(redis: Any, key: str, ttl: int, load: Callable[[], Any]) -> Any:
    value = load()
    redis.set(key, json.dumps(value), ex=ttl)
    return value, redis.get(key) is not None


def value_only(redis: Any, key: str, ttl: int, load: Callable[[], Any]) -> Any:
    return cache()(redis, key, ttl, load)[0]


WRONG: list[tuple[str, Any, str]] = [
    ("02.1", cache(is_found=bool, stores=False), "run 2 times"),
    ("02.1", always_load, "it said was_hit=True"),
    ("02.1", cache(is_found=lambda stored: stored not in (None, b"[]")), "An empty answer"),
    ("02.1", cache(options=lambda ttl: {}), "without a TTL"),
    ("02.1", cache(options=lambda ttl: {"px": ttl}), "to live"),
    ("02.1", cache(options=lambda ttl: {"ex": 60 * ttl}), "has 3600 s to live"),
    ("02.1", cache(read=lambda stored: stored), "call 2 gave b'"),
    ("02.1", cache(says_hit=False), "was a hit, and it said was_hit=False"),
    ("02.1", value_only, "a pair"),
    ("02.2", lambda ratio, hit, miss: ratio * miss + (1 - ratio) * hit, "swapped"),
    ("02.2", lambda ratio, hit, miss: (hit + miss) / 2, "the mean is 250 ms"),
    ("02.2", lambda ratio, hit, miss: f"{ratio}", "gave '0.0'"),
    ("02.3", lambda s, hit, miss: 100 * (1 - 1 / s) / (1 - hit / miss), "not a percentage"),
    ("02.3", lambda s, hit, miss: 1 - 1 / s, "it takes 0.8032"),
    ("02.3", lambda s, hit, miss: (1 - 1 / s) / (1 - hit / miss), "return None then"),
    ("02.3", lambda s, hit, miss: min(1, (1 - 1 / s) / (1 - hit / miss)), "return None then"),
]
