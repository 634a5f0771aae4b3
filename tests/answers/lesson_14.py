"""Answers to the exercises of lesson 14: wrong ones with words of their message, and right ones."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from contextlib import suppress
from datetime import date
from decimal import Decimal
from typing import Any

import redis

from labkit.cache import codec


def lesson_02(client: Any, ttl: int) -> Any:
    """Return the decorator that is to be mended."""
    return guarded(client, ttl, set())


def guarded(
    client: Any, ttl: int, lines: set[str], errors: Any = redis.RedisError, caches: bool = True
) -> Any:
    """Return a decorator that catches these errors around some of GET, SET and the function."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def wrapper(*args: Any) -> Any:
            key = f"{function.__name__}:{json.dumps(args)}"
            stored: Any = None
            with suppress(*[errors] if "GET" in lines else []):
                stored = client.get(key)
            if stored is not None and caches:
                return json.loads(stored)
            answer = None
            with suppress(*[errors] if "function" in lines else []):
                answer = function(*args)
            with suppress(*[errors] if "SET" in lines else []):
                client.set(key, json.dumps(answer), ex=ttl)
            return answer

        return wrapper

    return decorate


def around_all_of_it(client: Any, ttl: int) -> Any:
    def decorate(function: Any) -> Any:
        cached = lesson_02(client, ttl)(function)

        @functools.wraps(function)
        def wrapper(*args: Any) -> Any:
            try:
                return cached(*args)
            except Exception:
                return function(*args)

        return wrapper

    return decorate


def around_what_redis_raises(client: Any, ttl: int) -> Any:
    def decorate(function: Any) -> Any:
        cached = lesson_02(client, ttl)(function)

        @functools.wraps(function)
        def wrapper(*args: Any) -> Any:
            try:
                return cached(*args)
            except redis.RedisError:
                return function(*args)

        return wrapper

    return decorate


def in_one_helper(redis_client: Any, seconds: int) -> Any:
    """Answer by other names of the parameters, and ask by a helper."""

    def ask(command: Any, *args: Any, **options: Any) -> Any:
        try:
            return command(*args, **options)
        except (redis.ConnectionError, redis.TimeoutError):
            return None

    def decorate(function: Any) -> Any:
        @functools.wraps(function)
        def wrapper(*args: Any) -> Any:
            stored = ask(redis_client.get, key := f"{function.__name__}:{args!r}")
            if stored is None:
                stored = codec.dumps(function(*args))
                ask(redis_client.set, key, stored, ex=seconds)
            return codec.loads(stored)

        return wrapper

    return decorate


def trying(*values: Any, by_type: bool = True, hits: int = 1) -> Callable[[Any], bool]:
    """Return a probe that tries these values."""

    def probe(cached: Any) -> bool:
        answer = cached(lambda number: values[number])
        for number, value in enumerate(values):
            got = [answer(number) for _ in range(1 + hits)][-1]
            if got != value or (by_type and type(got) is not type(value)):
                return False
        return True

    return probe


def against_the_miss(cached: Any) -> bool:
    values = [(1, 2), {1: "EU"}, Decimal("12.50"), date(2025, 7, 1)]
    answer = cached(lambda number: values[number])
    pairs = [(answer(number), answer(number)) for number in range(len(values))]
    return all(miss == hit and type(miss) is type(hit) for miss, hit in pairs)


DAY, TUPLE, KEYS, PRICE = date(2025, 7, 1), (1, 2), {1: "EU"}, Decimal("12.50")

WRONG: list[tuple[str, Any, str]] = [
    ("14.1", set("cde") | {"f"}, "you say that it fails f, redis_down. It does not."),
    ("14.1", "a, c, d, e", "you say that it fails a, none_and_empty. It does not."),
    ("14.1", {"c", "e"}, "you say that it passes d, argument_types. It does not."),
    ("14.1", "cd", "you say that it passes e, stampede_threads. It does not."),
    ("14.1", "g", "the letters are a to f"),
    ("14.1", 3, "a set of letters"),
    ("14.2", lesson_02, "the row redis_down says: ConnectionError"),
    ("14.2", lambda c, t: guarded(c, t, {"GET"}), "the row redis_down says: ConnectionError"),
    ("14.2", lambda c, t: guarded(c, t, {"SET"}), "the row redis_down says: ConnectionError"),
    ("14.2", lambda c, t: lambda f: f, "the row caches says: 5 SQL for 1 expected"),
    (
        "14.2",
        lambda c, t: guarded(c, t, {"GET", "SET"}, caches=False),
        "the row caches says: 5 SQL for 1 expected",
    ),
    (
        "14.2",
        lambda c, t: guarded(c, t, {"GET", "function", "SET"}, Exception),
        "the function raised, and its caller was not told",
    ),
    ("14.2", around_all_of_it, "the function raised, and was called 2 times"),
    ("14.2", lambda c, t: lambda f: f(1) if t < 0 else "a text", "is no decorator"),
    ("14.2", 7, "a function is asked for"),
    ("14.3", lambda cached: True, "of a cache that makes texts of dates it says True, not False"),
    ("14.3", lambda cached: False, "of a cache that gives all back as it was it says False"),
    ("14.3", trying(DAY), "of a cache that makes lists of tuples it says True"),
    (
        "14.3",
        trying(DAY, TUPLE, PRICE),
        "of a cache that makes texts of a dictionary's keys it say",
    ),
    (
        "14.3",
        trying(DAY, TUPLE, KEYS, PRICE, by_type=False),
        "of a cache that makes floats of Decimals it says True",
    ),
    ("14.3", trying(DAY, TUPLE, KEYS, PRICE, hits=0), "makes texts of dates it says True, not Fa"),
    ("14.3", against_the_miss, "makes texts of dates, also to who misses it says True, not False"),
    ("14.3", lambda cached: None, "Does your function end with `return`?"),
]

RIGHT: list[tuple[str, Any]] = [
    ("14.1", "c, d, e"),
    ("14.1", ["e", "d", "c"]),
    ("14.2", lambda c, t: guarded(c, t, {"GET", "SET"})),
    ("14.2", around_what_redis_raises),
    ("14.2", in_one_helper),
    ("14.3", trying(DAY, TUPLE, KEYS, PRICE)),
    ("14.3", trying(None, 0.1, b"", TUPLE, KEYS, {}, PRICE, DAY, hits=2)),
]
