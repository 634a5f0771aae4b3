"""Wrong answers to the exercises of lesson 08: exercise, answer, words of its message."""

from __future__ import annotations

import re
from typing import Any


def without_the_backslash(prefix: str) -> str:
    return re.sub(r"([*?\[\]])", r"\\\1", prefix) + "*"


def by_pattern(redis: Any, tag: str) -> Any:
    found = redis.keys(f"{tag}:*")
    return redis.unlink(*found) + redis.unlink(f"tagged:{tag}") if found else 0


def all_at_once(redis: Any, tag: str) -> Any:
    keys = redis.smembers(f"tagged:{tag}")
    return redis.unlink(*keys, f"tagged:{tag}") - 1 if keys else 0


def all_at_once_in_a_pipeline(redis: Any, tag: str) -> Any:
    keys = redis.smembers(f"tagged:{tag}")
    with redis.pipeline() as pipeline:
        pipeline.unlink(*keys or ["none"])
        pipeline.unlink(f"tagged:{tag}")
        return pipeline.execute()[0]


def by_printed_names(redis: Any, tag: str) -> Any:
    removed = sum(redis.unlink(f"{key}") for key in redis.smembers(f"tagged:{tag}"))
    redis.unlink(f"tagged:{tag}")
    return removed


def those_of_a_prefix(redis: Any, tag: str) -> Any:
    keys = [key for key in redis.smembers(f"tagged:{tag}") if key[:5] == "shop:"]
    return redis.unlink(*keys, f"tagged:{tag}") - 1 if keys else 0


def leaving_the_set(redis: Any, tag: str) -> Any:
    keys = redis.smembers(f"tagged:{tag}")
    return redis.unlink(*keys) if keys else 0


def counting_members(redis: Any, tag: str) -> Any:
    removed = 0
    while keys := redis.spop(f"tagged:{tag}", 1000):
        redis.unlink(*keys)
        removed += len(keys)
    return removed


def first_thousand(redis: Any, tag: str) -> Any:
    keys = redis.spop(f"tagged:{tag}", 1000)
    removed = redis.unlink(*keys) if keys else 0
    redis.unlink(f"tagged:{tag}")
    return removed


def none_for_nothing(redis: Any, tag: str) -> Any:
    removed = 0
    while keys := redis.spop(f"tagged:{tag}", 1000):
        removed += redis.unlink(*keys)
    return removed or None


WRONG: list[tuple[str, Any, str]] = [
    ("08.1", lambda prefix: prefix + "*", "'a*b*', which matches"),
    ("08.1", lambda prefix: prefix, "does not match 'user:1:"),
    ("08.1", lambda prefix: "*" + prefix + "*", "matches 'b:user:1:1' too"),
    ("08.1", lambda prefix: re.sub(r"[*?\[\]\\]", "?", prefix) + "*", "'a?b*', which matches"),
    ("08.1", without_the_backslash, "which does not match 'a"),
    ("08.1", lambda prefix: prefix.encode() + b"*", "which is no text"),
    ("08.1", lambda prefix: prefix.encode() + b"*", "These are bytes, and text is asked for"),
    ("08.2", by_printed_names, "bytes that were made text by printing them"),
    ("08.2", those_of_a_prefix, "Bytes were compared with text: b'shop:"),
    ("08.3", lambda tag, name: f"{{{tag}}}:{name}".encode(), "These are bytes, and text is asked"),
    ("08.2", by_pattern, "of the tag's 2 entries are still there"),
    ("08.2", all_at_once, "no more than 1,000 a command"),
    ("08.2", all_at_once_in_a_pipeline, "no more than 1,000 a command"),
    ("08.2", leaving_the_set, "would grow for ever"),
    ("08.2", counting_members, "gave 3, not 2"),
    ("08.2", first_thousand, "of 2,500 entries 1,500 are left"),
    ("08.2", none_for_nothing, "end with `return`?"),
    ("08.2", lambda redis, tag: redis.flushdb(), "not in the tag's SET"),
    ("08.3", lambda tag, name: f"{tag}:{name}", "another slot"),
    ("08.3", lambda tag, name: f"{{{tag}:{name}}}", "another slot"),
    ("08.3", lambda tag, name: f"{name}:{{{tag}}}", "another slot"),
    ("08.3", lambda tag, name: f"{{cache}}:{tag}:{name}", "all tags are in one slot"),
    ("08.3", lambda tag, name: f"{{{tag}}}", "have the same key"),
    ("08.3", lambda tag, name: f"{{{tag}}}:{name.strip('{}')}", "('users', '{') and ("),
    ("08.3", lambda tag, name: (tag, name), "which is no text"),
]
