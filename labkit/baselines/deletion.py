"""Four ways of removing every entry of a tag, and what each costs. Lesson 08 writes them out.

A tag is a word. Its entries have keys that begin with it and a colon. The last way keeps a SET of a
tag's keys beside them. All of them take longer the more entries there are; lesson 09 has one that
does not. (https://redis.io/docs/latest/commands/keys/, /scan/, /unlink/)
"""

from __future__ import annotations

import itertools
import math
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import redis

BATCH = 1000  # keys a command
FILL_BATCH = 50  # thousands of entries a script: the server answers nobody meanwhile

FILL = """
local endings = {}
for i = 0, 999 do endings[i + 1] = string.format('%03d', i) end
for thousand = ARGV[2], ARGV[3] do
    local beginning = ARGV[1] .. ':' .. thousand
    local entries, keys = {}, {}
    for i = 1, math.min(1000, ARGV[4] - 1000 * thousand) do
        local key = beginning .. endings[i]
        keys[i], entries[2 * i - 1], entries[2 * i] = key, key, ARGV[5]
    end
    redis.call('MSET', unpack(entries))
    if ARGV[6] == 'in a SET' then redis.call('SADD', KEYS[1], unpack(keys)) end
end
"""

PATTERN_SCRIPT = """
local keys = redis.call('KEYS', ARGV[1])
for first = 1, #keys, 1000 do
    redis.call('UNLINK', unpack(keys, first, math.min(first + 999, #keys)))
end
return #keys
"""


def fill(
    client: redis.Redis, count: int, tag: str, value: bytes = b"x", in_a_set: bool = True
) -> None:
    """Store `count` entries of a tag, `tag:0000` and so on, and their keys in the tag's SET.

    They are made inside the server. On a cluster this would not do: it does not declare its keys.
    """
    thousands = math.ceil(count / 1000)
    for first in range(0, thousands, FILL_BATCH):
        last = min(first + FILL_BATCH, thousands) - 1
        client.eval(
            FILL, 1, set_of(tag), tag, first, last, count, value, "in a SET" if in_a_set else ""
        )


def set_of(tag: str) -> str:
    """Return the key of the SET that holds a tag's keys."""
    return f"tagged:{tag}"


def batches(keys: Iterable[Any]) -> Iterator[list[Any]]:
    """Give the keys in lists of as many as go into one command."""
    rest = iter(keys)
    while batch := list(itertools.islice(rest, BATCH)):
        yield batch


def keys_and_del(client: redis.Redis, tag: str) -> int:
    """KEYS lists the tag's keys in one go, DEL removes them. Returns how many."""
    found: Any = client.keys(f"{tag}:*")
    return sum(client.delete(*batch) for batch in batches(found))


def scan_and_unlink(client: redis.Redis, tag: str) -> int:
    """SCAN lists them batch by batch, UNLINK removes each batch. Returns how many."""
    found = client.scan_iter(f"{tag}:*", count=BATCH)
    return sum(client.unlink(*batch) for batch in batches(found))


def lua(client: redis.Redis, tag: str) -> int:
    """List and remove them in one script, during which nobody else is served. Returns how many."""
    return client.eval(PATTERN_SCRIPT, 0, f"{tag}:*")  # type: ignore[no-any-return]


def set_of_keys(client: redis.Redis, tag: str) -> int:
    """Walk through the tag's SET, and take each key out of it before its entry is removed.

    An entry that somebody stores meanwhile, in one transaction with its key, is removed, or its key
    is in the SET again. If this process dies half way, the next removal finds the rest: all but the
    batch that was under way, which stays until its TTL ends. Returns how many were removed.
    """
    removed = 0
    for batch in batches(client.sscan_iter(set_of(tag), count=BATCH)):
        client.srem(set_of(tag), *batch)
        removed += client.unlink(*batch)
    return removed


STRATEGIES: dict[str, Callable[[redis.Redis, str], int]] = {
    "KEYS + DEL": keys_and_del,
    "SCAN + UNLINK": scan_and_unlink,
    "Lua": lua,
    "SET of keys": set_of_keys,
}


def cost(
    client: redis.Redis,
    invalidate: Callable[[redis.Redis, str], int],
    count: int,
    repeats: int = 1,
    in_a_set: bool = True,
) -> float:
    """Return what one invalidation takes, in seconds: the median of `repeats`.

    Args:
        client: its database is emptied before each, and left empty.
        invalidate: such as one of `STRATEGIES`.
        count: how many entries the tag has, which are all that there is but for their SET.
        repeats: how often it is filled and invalidated.
        in_a_set: whether the tag's SET is filled too. It takes time, and only one way needs it.

    Raises:
        RuntimeError: it has not removed what it was to remove.
    """
    seconds = []
    for _ in range(repeats):
        client.flushdb()
        fill(client, count, "tag", in_a_set=in_a_set)
        started = time.perf_counter()
        removed = invalidate(client, "tag")
        seconds.append(time.perf_counter() - started)
        if removed != count:
            raise RuntimeError(f"{removed:,} of {count:,} entries were removed")
    client.flushdb()
    return statistics.median(seconds)
