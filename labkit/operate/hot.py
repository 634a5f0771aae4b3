"""Which keys are asked for most: by the server's own counters, or by a QueryCache's signals.

The server counts only under an LFU policy, in 8 bits that grow ever slower and fade with time: its
order means something, its numbers do not. `MONITOR` would say more, and halve the throughput.
(https://redis.io/docs/latest/develop/reference/eviction/#lfu-eviction)
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from redis.exceptions import ResponseError

from labkit.cache import QueryCache, signals
from labkit.operate.reading import Client, ask_each, names_of, nodes_of, text_of
from labkit.operate.table import Table

MOST_KEYS = 10_000  # that are counted apart


def hot_keys(client: Client, top: int = 10, *, bound: int = 10_000) -> Table:
    """Return the keys that the server has seen used most, if its policy has it count.

    Args:
        client: a `redis.Redis` or a `redis.RedisCluster`.
        top: how many.
        bound: how many keys of each server are looked at.

    Raises:
        RedisError: a server could not be asked.
    """
    found: list[tuple[int, str]] = []
    seen = []
    for node in nodes_of(client):
        policy = _policy(node)
        if not policy.endswith("lfu"):
            return Table(
                "Hot keys: not counted by this server",
                ("key", "frequency"),
                note=f"Its policy is {policy}: it counts uses under volatile-lfu and allkeys-lfu "
                "only. counted_keys(cache) counts a QueryCache's answers in this process.",
            )
        names = names_of(node, bound)
        uses = ask_each(node, (("OBJECT", "FREQ", name) for name in names.names))
        found += [
            (often, text_of(name))
            for name, often in zip(names.names, uses, strict=True)
            if isinstance(often, int)
        ]
        seen.append(str(names))
    rows = [(name, often) for often, name in sorted(found, key=lambda each: (-each[0], each[1]))]
    return Table(
        f"Hot keys: {'; '.join(seen)}",
        ("key", "frequency"),
        rows[:top],
        "A frequency is a logarithm that fades, 0 to 255: go by the order.",
    )


def _policy(node: Any) -> str:
    try:
        return str(node.info("memory").get("maxmemory_policy", "unknown"))
    except ResponseError:  # fakeredis, or a user who may not
        return "unknown"


class KeyCounts:
    """What a cache has answered, by key, while it was counted in this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._hits: Counter[tuple[str, str]] = Counter()
        self._misses: Counter[tuple[str, str]] = Counter()
        self.uncounted = 0  # answers under keys beyond MOST_KEYS

    def hit(self, _: object, name: str, key: str, **__: Any) -> None:
        """Count a hit: a receiver of the signal."""
        self._count(self._hits, name, key)

    def miss(self, _: object, name: str, key: str, **__: Any) -> None:
        """Count a miss: a receiver of the signal."""
        self._count(self._misses, name, key)

    def _count(self, counts: Counter[tuple[str, str]], name: str, key: str) -> None:
        with self._lock:
            if (name, key) in counts or len(counts) < MOST_KEYS:
                counts[name, key] += 1
            else:
                self.uncounted += 1

    def top(self, number: int = 10) -> Table:
        """Return the keys with the most answers."""
        with self._lock:
            asked = self._hits + self._misses
            rows = [
                (name, key, self._hits[name, key], self._misses[name, key])
                for name, key in sorted(asked, key=lambda each: (-asked[each], each))[:number]
            ]
        note = f"{self.uncounted:,} answers were of further keys." if self.uncounted else ""
        title = f"Hot keys: {len(asked):,} that this process has asked for"
        return Table(title, ("question", "key", "hits", "misses"), rows, note)

    def __str__(self) -> str:
        return str(self.top())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return self.top()._repr_html_()


@contextmanager
def counted_keys(cache: QueryCache) -> Iterator[KeyCounts]:
    """Count a cache's answers by key, in this process, within the `with` block."""
    counts = KeyCounts()
    with (
        signals.hit.connected_to(counts.hit, sender=cache),
        signals.miss.connected_to(counts.miss, sender=cache),
    ):
        yield counts
