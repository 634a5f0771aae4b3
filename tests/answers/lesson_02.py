"""Wrong answers to the exercises of lesson 02: exercise, answer, words of its message."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from typing import Any


def cache(
    is_found: Callable[[Any], bool] = lambda stored: stored is not None,
    read: Callable[[Any], Any] = json.loads,
    write: Callable[[Any], Any] = json.dumps,
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
            redis.set(key, write(value), **options(ttl))
        return value, False

    return get_or_load


def always_load(redis: Any, key: str, ttl: int, load: Callable[[], Any]) -> Any:
    value = load()
    redis.set(key, json.dumps(value), ex=ttl)
    return value, redis.get(key) is not None


def renewing(redis: Any, key: str, ttl: int, load: Callable[[], Any]) -> Any:
    answer = cache()(redis, key, ttl, load)
    redis.expire(key, ttl)
    return answer


def remembering() -> Callable[..., Any]:
    """Return a get_or_load that also keeps values in this process."""
    kept: dict[str, Any] = {}

    def get_or_load(redis: Any, key: str, ttl: int, load: Callable[[], Any]) -> Any:
        if key in kept:
            return kept[key], True
        kept[key] = cache()(redis, key, ttl, load)[0]
        return kept[key], False

    return get_or_load


def value_only(redis: Any, key: str, ttl: int, load: Callable[[], Any]) -> Any:
    return cache()(redis, key, ttl, load)[0]


def comparing_with_text(redis: Any, key: str, ttl: int, load: Callable[[], Any]) -> Any:
    value = load() if redis.get(key) in (None, "null") or redis.get(key) == "null" else None
    redis.set(key, json.dumps(value), ex=ttl)
    return value, False


def printing(redis: Any, key: str, ttl: int, load: Callable[[], Any]) -> Any:
    stored = redis.get(key)
    if stored is not None:
        redis.set(key, f"{stored}", ex=ttl)
        return str(stored), True
    return cache()(redis, key, ttl, load)


WRONG: list[tuple[str, Any, str]] = [
    ("02.1", cache(stores=False), "there is no key"),
    ("02.1", cache(options=lambda ttl: {"ex": 60}), "a ttl of 90 s was asked for"),
    ("02.1", cache(write=lambda value: pickle.dumps(value, 0), read=pickle.loads), "as JSON"),
    ("02.1", renewing, "must not extend"),
    ("02.1", remembering(), "What else remembers"),
    ("02.1", lambda redis, key, ttl, load: None, "end with `return`"),
    ("02.1", always_load, "it said was_hit=True"),
    ("02.1", cache(is_found=lambda stored: stored not in (None, b"[]")), "An empty answer"),
    ("02.1", cache(options=lambda ttl: {}), "without a TTL"),
    ("02.1", cache(options=lambda ttl: {"px": 100 * ttl}), "a ttl of 90 s was asked for"),
    ("02.1", cache(options=lambda ttl: {"ex": 60 * ttl}), "a ttl of 90 s was asked for"),
    ("02.1", cache(read=lambda stored: stored), "call 2 gave b'"),
    ("02.1", cache(read=lambda stored: stored), "Those are Redis's bytes: json.loads reads them"),
    ("02.1", comparing_with_text, "Bytes were compared with text: b'"),
    ("02.1", printing, "bytes that were made text by printing them"),
    ("02.1", cache(says_hit=False), "was a hit, and it said was_hit=False"),
    ("02.1", value_only, "a pair"),
    ("02.2", lambda ratio, hit, miss: ratio * miss + (1 - ratio) * hit, "swapped"),
    ("02.2", lambda ratio, hit, miss: ratio * hit + 1 - ratio * miss, "the mean is 50.8 ms"),
    ("02.2", lambda ratio, hit, miss: None, "end with `return`"),
    ("02.2", lambda ratio, hit, miss: (hit + miss) / 2, "gave 125.5"),
    ("02.2", lambda ratio, hit, miss: f"{ratio}", "gave '0.8'"),
    ("02.3", lambda s, hit, miss: 100 * (1 - 1 / s) / (1 - hit / miss), "not a percentage"),
    ("02.3", lambda s, hit, miss: 1 - 1 / s, "it takes 0.8032"),
    ("02.3", lambda s, hit, miss: (1 - 1 / s) / (1 - hit / miss), "return None then"),
    ("02.3", lambda s, hit, miss: None, "gave None; it takes"),
    ("02.3", lambda s, hit, miss: min(1, (1 - 1 / s) / (1 - hit / miss)), "return None then"),
]
