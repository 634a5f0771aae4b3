"""Caches in the styles of real projects: each row sees what they do, wherever they keep it."""

from __future__ import annotations

import base64
import bz2
import functools
import json
import lzma
import pickle
import random
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

from labkit.audit import PROBES, audit
from labkit.audit.adapter import Adapter, DoesNotApply
from labkit.audit.poison import poisoned
from labkit.audit.site import Place
from labkit.audit.target import NotAuditable


def outcome(given: Any, probe: str) -> tuple[str, str]:
    row = audit(given, probes=[PROBES[probe]]).rows[0]
    return row.outcome, row.evidence


class Plain(Adapter):
    """GET and SET of pickles. Others replace a part."""

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self.redis = place.client()

    def dumps(self, value: Any) -> bytes:
        return pickle.dumps(value)

    def loads(self, data: bytes) -> Any:
        return pickle.loads(data)

    def get(self, key: str) -> bytes | None:
        found: bytes | None = self.redis.get(key)
        return found

    def put(self, key: str, value: bytes, ttl: int) -> None:
        self.redis.set(key, value, ex=ttl)

    def wrap(self, function: Callable[..., Any], ttl: int) -> Callable[..., Any]:
        @functools.wraps(function)
        def ask(*args: Any) -> Any:
            key = f"shop:{function.__qualname__}:{args!r}"
            if (data := self.get(key)) is not None:
                return self.loads(data)
            value = function(*args)
            self.put(key, self.dumps(value), ttl)
            return value

        return ask

    def invalidate_one(self, cached: Callable[..., Any], *args: Any, **_: Any) -> None:
        self.redis.delete(f"shop:{cached.__qualname__}:{args!r}")


class InZlib(Plain):
    """Pickles, compressed; what cannot be read raises."""

    def dumps(self, value: Any) -> bytes:
        return zlib.compress(pickle.dumps(value))

    def loads(self, data: bytes) -> Any:
        return pickle.loads(zlib.decompress(data))


class InJson(Plain):
    """JSON, which knows few types."""

    def dumps(self, value: Any) -> bytes:
        return json.dumps(value, default=str).encode()

    def loads(self, data: bytes) -> Any:
        return json.loads(data)


class TwoLevels(Plain):
    """A dictionary before Redis, which holds what `dumps` gave."""

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self.memory: dict[str, bytes] = {}

    def get(self, key: str) -> bytes | None:
        if key not in self.memory and (data := super().get(key)) is not None:
            self.memory[key] = data
        return self.memory.get(key)

    def put(self, key: str, value: bytes, ttl: int) -> None:
        super().put(key, value, ttl)
        self.memory[key] = value

    def invalidate_one(self, cached: Callable[..., Any], *args: Any, **_: Any) -> None:
        super().invalidate_one(cached, *args)
        self.memory.pop(f"shop:{cached.__qualname__}:{args!r}", None)


class TwoLevelsCounted(TwoLevels):
    """It has a second key in Redis, which counts what was stored."""

    def put(self, key: str, value: bytes, ttl: int) -> None:
        super().put(key, value, ttl)
        self.redis.incr("shop:stored")


class ObjectsInMemory(InJson):
    """A dictionary of objects before Redis, where they are JSON."""

    def wrap(self, function: Callable[..., Any], ttl: int) -> Callable[..., Any]:
        return functools.cache(super().wrap(function, ttl))


SHARED: dict[str, bytes] = {}


class SharedMemory(TwoLevels):
    """The same dictionary, however often it is opened."""

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self.memory = SHARED


class InLists(Plain):
    """Each value stands in a list of its own."""

    def get(self, key: str) -> bytes | None:
        found: bytes | None = self.redis.lindex(key, 0)
        return found

    def put(self, key: str, value: bytes, ttl: int) -> None:
        self.redis.rpush(key, value)


class InDatabase3(Plain):
    """Pickles without a TTL, in a database of their own."""

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self.redis = redis.Redis.from_url(f"{place.url[:-1]}3")

    def put(self, key: str, value: bytes, ttl: int) -> None:
        self.redis.set(key, value)

    def invalidate_one(self, cached: Callable[..., Any], *args: Any, **_: Any) -> None:
        if not list(self.redis.scan_iter(f"shop:{cached.__qualname__}:*")):
            raise DoesNotApply("nothing")
        super().invalidate_one(cached, *args)


class JitterBeyondTtl(Plain):
    """The jitter is added to the time to live, where it should be taken from it."""

    def put(self, key: str, value: bytes, ttl: int) -> None:
        self.redis.set(key, value, px=1000 * ttl + random.randrange(100 * ttl))


@pytest.mark.parametrize("cache", [Plain, InZlib, TwoLevels, InDatabase3])
def test_code_runs_from_pickles_wherever_they_are(cache: type[Adapter]) -> None:
    assert outcome(cache, "poisoned_value") == ("fail", "code ran from 2 of 2 values")


def test_no_code_runs_from_json_behind_a_memory() -> None:
    assert outcome(ObjectsInMemory, "poisoned_value") == ("pass", "code ran from 0 of 2 values")


@pytest.mark.parametrize("probe", ["poisoned_value", "corrupt_value"])
def test_what_is_never_read_is_not_judged(probe: str) -> None:
    why = "it answers from the process's memory, whatever Redis holds"

    assert outcome(SharedMemory, probe) == ("does not apply", why)


def test_values_that_cannot_be_replaced_are_not_judged() -> None:
    assert outcome(InLists, "poisoned_value")[0] == "does not apply"


@pytest.mark.parametrize("cache", [InJson, ObjectsInMemory])
def test_types_are_those_that_come_from_redis(cache: type[Adapter]) -> None:
    result, evidence = outcome(cache, "types_survive")

    assert result == "fail"
    assert evidence.startswith("9 of 21 as they were, not: a Decimal, a date, ")


def test_a_memory_that_is_invalidated_brings_nothing_old_back() -> None:
    assert outcome(TwoLevelsCounted, "eviction_of_any_key") == ("pass", "0 of 6 evictions do")


def test_a_memory_that_others_cannot_invalidate() -> None:
    """All else that a cache of two levels does may be right: in one process it is."""
    assert outcome(TwoLevels, "other_processes") == ("fail", "0 of 1 reach this process")
    assert outcome(Plain, "other_processes") == ("pass", "1 of 1 reach this process")


def test_an_invalidation_that_waits_for_redis_is_not_lost() -> None:
    """Its client waits for a frozen one for as long as it takes."""

    class Waits(Plain):
        def __init__(self, place: Place) -> None:
            super().__init__(place)
            self.redis = redis.Redis.from_url(place.url, socket_timeout=60)

    assert outcome(Waits, "missed_invalidation") == ("pass", "frozen: new, down: it raises")


def test_a_database_of_its_own_is_looked_at() -> None:
    assert outcome(InDatabase3, "ttl_on_what_grows") == (
        "fail",
        "50 keys without a TTL for 50 entries, 10 for 10",
    )
    assert outcome(InDatabase3, "no_scan")[1] == "SCAN among 1,000 keys of others"


def test_a_jitter_beyond_the_ttl_is_a_jitter() -> None:
    assert outcome(JitterBeyondTtl, "jitter")[0] == "pass"
    assert outcome(JitterBeyondTtl, "ttl_on_what_grows")[0] == "fail"


def for_a_day(spread: int) -> Any:
    """Return a decorator which is not told a TTL, and has one of a day or more."""

    def cached(function: Callable[..., Any]) -> Callable[..., Any]:
        import os

        client: Any = redis.Redis.from_url(os.environ["REDIS_URL"])

        @functools.wraps(function)
        def ask(*args: Any) -> Any:
            key = f"shop:{args!r}"
            if (data := client.get(key)) is None:
                data = function(*args)
                client.set(key, data, px=86_400_000 + random.randrange(spread))
            return data

        return ask

    return cached


def test_a_ttl_that_was_not_given_is_not_exceeded() -> None:
    assert outcome(for_a_day(10_000_000), "ttl_on_what_grows")[0] == "pass"
    assert outcome(for_a_day(10_000_000), "jitter")[0] == "pass"
    assert outcome(for_a_day(1), "jitter")[0] == "fail"


def test_an_object_takes_attributes() -> None:
    def per_object(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def ask(owner: Any, *args: Any) -> Any:
            if isinstance(owner, int):
                return function(owner, *args)
            if not hasattr(owner, "known"):
                owner.known = {}
            if args not in owner.known:
                owner.known[args] = function(owner, *args)
            return owner.known[args]

        return ask

    assert outcome(per_object, "methods")[0] == "pass"


def by_coroutine(function: Callable[..., Any]) -> Callable[..., Any]:
    async def ask(*args: Any) -> Any:
        return function(*args)

    return ask


def by_prefix(prefix: str) -> Callable[..., Any]:
    return lambda function: lambda *args: function(*args)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (by_coroutine, "by_coroutine answers by a coroutine, and the audit asks functions"),
        (by_prefix, "by_prefix answers by a function: name the decorator"),
    ],
)
def test_what_gives_no_answer_is_not_audited(given: Any, why: str) -> None:
    with pytest.raises(NotAuditable, match=why):
        audit(given)


def in_msgpack(data: bytes) -> bytes:
    return b"\x82\xa1v\xc4" + bytes([len(data)]) + data + b"\xa1t\x01"


def from_msgpack(data: bytes) -> bytes:
    """Return the bytes in a message of this shape, and of no other."""
    end = 5 + data[4]
    if data[:4] != b"\x82\xa1v\xc4" or data[end:] != b"\xa1t\x01":
        raise ValueError("no such message")
    return data[5:end]


@pytest.mark.parametrize(
    ("wrap", "unwrap"),
    [
        (bytes, bytes),
        (zlib.compress, zlib.decompress),
        (bz2.compress, bz2.decompress),
        (lzma.compress, lzma.decompress),
        (base64.b64encode, functools.partial(base64.b64decode, validate=True)),
        (lambda data: b"z:" + zlib.compress(data), lambda data: zlib.decompress(data[2:])),
        (
            lambda data: base64.b64encode(zlib.compress(data)),
            lambda data: zlib.decompress(base64.b64decode(data, validate=True)),
        ),
        (
            lambda data: json.dumps({"v": base64.b64encode(data).decode()}).encode(),
            lambda data: base64.b64decode(json.loads(data)["v"], validate=True),
        ),
        (in_msgpack, from_msgpack),
    ],
)
@pytest.mark.parametrize("protocol", [2, 5])
def test_poison_comes_in_the_wrapping_of_the_value(
    wrap: Any, unwrap: Any, protocol: int, tmp_path: Path
) -> None:
    ran = tmp_path / "ran"
    for poison in poisoned(wrap(pickle.dumps([{"id": 1}], protocol)), ran):
        try:
            pickle.loads(unwrap(poison))
        except Exception:
            continue

    assert ran.is_dir()
