"""Wrong answers to the exercises of lesson 08: exercise, answer, words of its message."""

from __future__ import annotations

import re
from typing import Any


def without_the_backslash(prefix: str) -> str:
    return re.sub(r"([*?\[\]])", r"\\\1", prefix) + "*"


SIZE = 1000


def common(redis: Any, one: str, other: str) -> list[Any]:
    return list(redis.sinter([f"tagged:{one}", f"tagged:{other}"]))


def all_at_once(redis: Any, one: str, other: str) -> Any:
    keys = common(redis, one, other)
    for tag in (one, other):
        redis.srem(f"tagged:{tag}", *keys or ["none"])
    return redis.unlink(*keys) if keys else 0


def all_at_once_in_a_pipeline(redis: Any, one: str, other: str) -> Any:
    keys = common(redis, one, other) or ["none"]
    with redis.pipeline() as pipeline:
        pipeline.unlink(*keys)
        pipeline.srem(f"tagged:{one}", *keys)
        pipeline.srem(f"tagged:{other}", *keys)
        return pipeline.execute()[0]


def by_printed_names(redis: Any, one: str, other: str) -> Any:
    return sum(all_of(redis, one, other, [f"{key}"]) for key in common(redis, one, other))


def those_of_a_prefix(redis: Any, one: str, other: str) -> Any:
    keys = [key for key in common(redis, one, other) if key[:5] == "shop:"]
    return all_of(redis, one, other, keys)


def of_either(redis: Any, one: str, other: str) -> Any:
    return redis.unlink(*redis.sunion([f"tagged:{one}", f"tagged:{other}"]))


def of_the_first(redis: Any, one: str, other: str) -> Any:
    removed = 0
    while keys := redis.spop(f"tagged:{one}", SIZE):
        removed += redis.unlink(*keys)
    return removed


def with_the_sets(redis: Any, one: str, other: str) -> Any:
    removed = redis.unlink(*common(redis, one, other))
    redis.unlink(f"tagged:{one}", f"tagged:{other}")
    return removed


def leaving_the_names(redis: Any, one: str, other: str) -> Any:
    keys = common(redis, one, other)
    return redis.unlink(*keys) if keys else 0


def leaving_the_names_in_one(redis: Any, one: str, other: str) -> Any:
    keys = common(redis, one, other)
    redis.srem(f"tagged:{one}", *keys)
    return redis.unlink(*keys)


def counting_names(redis: Any, one: str, other: str) -> Any:
    keys = common(redis, one, other)
    if keys:
        redis.unlink(*keys)
        redis.srem(f"tagged:{one}", *keys)
        redis.srem(f"tagged:{other}", *keys)
    return len(keys)


def first_thousand(redis: Any, one: str, other: str) -> Any:
    return all_of(redis, one, other, common(redis, one, other)[:SIZE])


def names_of_the_first_thousand(redis: Any, one: str, other: str) -> Any:
    keys, removed = common(redis, one, other), 0
    for tag in (one, other):
        redis.srem(f"tagged:{tag}", *keys[:SIZE] or ["none"])
    for first in range(0, len(keys), SIZE):
        removed += redis.unlink(*keys[first : first + SIZE])
    return removed


def none_for_nothing(redis: Any, one: str, other: str) -> Any:
    keys = common(redis, one, other)
    return all_of(redis, one, other, keys) if keys else None


def all_of(redis: Any, one: str, other: str, keys: list[Any]) -> Any:
    """Remove these, and their names."""
    if not keys:
        return 0
    redis.srem(f"tagged:{one}", *keys)
    redis.srem(f"tagged:{other}", *keys)
    return redis.unlink(*keys)


WRONG: list[tuple[str, Any, str]] = [
    ("08.1", lambda prefix: prefix + "*", "'a*b*', which matches"),
    ("08.1", lambda prefix: prefix, "does not match 'user:1:"),
    ("08.1", lambda prefix: "*" + prefix + "*", "matches 'b:user:1:1' too"),
    ("08.1", lambda prefix: re.sub(r"[*?\[\]\\]", "?", prefix) + "*", "'a?b*', which matches"),
    ("08.1", without_the_backslash, "which does not match 'a"),
    ("08.1", lambda prefix: prefix.encode() + b"*", "which is no text"),
    ("08.1", lambda prefix: prefix.encode() + b"*", "These are bytes, and text is asked for"),
    ("08.2", lambda redis, one, other: 0, "2 of the 2 entries that have both"),
    ("08.2", of_either, "does not have both tags"),
    ("08.2", of_the_first, "does not have both tags"),
    ("08.2", with_the_sets, "nobody would find it"),
    ("08.2", leaving_the_names, "would grow for ever"),
    ("08.2", leaving_the_names_in_one, "would grow for ever"),
    ("08.2", counting_names, "gave 3, not 2"),
    ("08.2", first_thousand, "of 2,500 entries 1,500 are left"),
    ("08.2", by_printed_names, "bytes that were made text by printing them"),
    ("08.2", those_of_a_prefix, "Bytes were compared with text: b'shop:"),
    ("08.2", all_at_once, "no more than 1,000 a command"),
    ("08.2", all_at_once_in_a_pipeline, "no more than 1,000 a command"),
    ("08.2", names_of_the_first_thousand, "the SETs still name 1,500"),
    ("08.2", none_for_nothing, "end with `return`?"),
    ("08.2", lambda redis, one, other: redis.flushdb(), "does not have both tags"),
    ("08.3", lambda tag, name: f"{tag}:{name}", "another slot"),
    ("08.3", lambda tag, name: f"{{{tag}:{name}}}", "another slot"),
    ("08.3", lambda tag, name: f"{name}:{{{tag}}}", "another slot"),
    ("08.3", lambda tag, name: f"{{cache}}:{tag}:{name}", "all tags are in one slot"),
    ("08.3", lambda tag, name: f"{{{tag}}}", "have the same key"),
    ("08.3", lambda tag, name: f"{{{tag}}}:{name.strip('{}')}", "('users', '{') and ("),
    ("08.3", lambda tag, name: (tag, name), "which is no text"),
    ("08.3", lambda tag, name: f"{{{tag}}}:{name}".encode(), "These are bytes, and text is asked"),
]
