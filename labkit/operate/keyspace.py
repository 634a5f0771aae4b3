"""What a keyspace holds: entries, bytes and times to live, by prefix or by a QueryCache's tags.

The keys are found by SCAN, so many at most, and their sizes are measured for some and counted up.
`KEYS` would keep every other client waiting until it has seen them all.
(https://redis.io/docs/latest/commands/scan/, https://redis.io/docs/latest/commands/memory-usage/)
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import redis

from labkit.cache.tokens import token_key
from labkit.errors import LabError
from labkit.operate.reading import (
    Client,
    Names,
    ask_each,
    evenly,
    names_of,
    nodes_of,
    text_of,
)
from labkit.operate.table import Table

STAMP = 1_024  # bytes at the start of an entry, which hold the tokens of some 60 tags
COLUMNS = ("keys", "bytes", "without TTL", "median TTL in s")
REPLACED = "(no tag that counts)"
OTHERS = "(no entry)"


@dataclass
class _Group:
    keys: int = 0
    sizes: list[int] = field(default_factory=list)
    ttls: list[int] = field(default_factory=list)
    without: int = 0

    def row(self) -> tuple[int, int | None, int, float | None]:
        size = round(self.keys * sum(self.sizes) / len(self.sizes)) if self.sizes else None
        return self.keys, size, self.without, median(self.ttls) / 1000 if self.ttls else None


def keyspace(
    client: Client,
    by: str = "prefix",
    namespace: str = "querycache",
    *,
    parts: int = 1,
    bound: int = 10_000,
    measured: int = 1_000,
) -> Table:
    """Return what the keyspace holds: a row for each prefix or tag, the largest first.

    An entry stands in the row of each of its tags, so that rows add up to more than there is.

    Args:
        client: a `redis.Redis` or a `redis.RedisCluster`.
        by: "prefix", or "tag" for the entries of a QueryCache.
        namespace: of that QueryCache.
        parts: how many parts of a key, between colons, are its prefix.
        bound: how many keys of each server are looked at.
        measured: of how many of them, spread over all, MEMORY USAGE is asked.

    Raises:
        LabError: there is no such grouping.
        RedisError: a server could not be asked.
    """
    if by not in ("prefix", "tag"):
        raise LabError(f"a keyspace is shown by 'prefix' or by 'tag', not by {by!r}.")
    groups: dict[str, _Group] = defaultdict(_Group)
    seen = []
    for node in nodes_of(client):
        names = names_of(node, bound)
        if by == "prefix":
            homes = {name: [prefix_of(name, parts)] for name in names.names}
        else:
            homes = _tags_of(node, names.names, namespace)
        _add(node, groups, homes, measured)
        seen.append(names)
    return _table(by, groups, seen, measured)


def prefix_of(name: bytes, parts: int = 1) -> str:
    """Return what stands before a key's first colon, or before a later one; "" if it has none."""
    pieces = text_of(name).split(":")
    return ":".join(pieces[: min(parts, len(pieces) - 1)])


def _tags_of(node: redis.Redis, names: list[bytes], namespace: str) -> dict[bytes, list[str]]:
    """Return the tags of each entry, by the tokens that it begins with."""
    tokens = token_key(f"{namespace}:").encode()
    tagged = [name for name in names if name.startswith(tokens)]
    values = ask_each(node, (("GET", name) for name in tagged), untouched=True)
    tag_of = {
        value: text_of(name.removeprefix(tokens))
        for name, value in zip(tagged, values, strict=True)
        if isinstance(value, bytes)
    }
    entries = [name for name in names if name.startswith(f"{namespace}:".encode())]
    homes = {name: [OTHERS] for name in names}
    starts = ask_each(node, (("GETRANGE", name, 0, STAMP - 1) for name in entries), untouched=True)
    for name, start in zip(entries, starts, strict=True):
        if isinstance(start, bytes) and b"\n" in start:
            stamp = start.partition(b"\n")[0].split(b" ")
            homes[name] = [tag_of[token] for token in stamp if token in tag_of]
            if len(homes[name]) < len(stamp):  # one token was replaced: nothing else counts
                homes[name] = [REPLACED]
    return homes


def _add(
    node: redis.Redis, groups: dict[str, _Group], homes: dict[bytes, list[str]], measured: int
) -> None:
    names = list(homes)
    ttls = ask_each(node, (("PTTL", name) for name in names))
    for name, ttl in zip(names, ttls, strict=True):
        for group in _groups(groups, homes[name]):
            group.keys += 1
            if isinstance(ttl, int) and ttl >= 0:
                group.ttls.append(ttl)
            else:
                group.without += ttl == -1
    some = evenly(names, measured)
    for name, size in zip(some, sizes_of(node, some), strict=True):
        if isinstance(size, int):
            for group in _groups(groups, homes[name]):
                group.sizes.append(size)


def _groups(groups: dict[str, _Group], homes: Iterable[str]) -> list[_Group]:
    return [groups[home] for home in homes]


def sizes_of(node: redis.Redis, names: list[bytes]) -> list[Any]:
    """Return the bytes that each key takes, or the error that was answered, or None."""
    return ask_each(node, (("MEMORY", "USAGE", name) for name in names))


def _table(by: str, groups: dict[str, _Group], seen: list[Names], measured: int) -> Table:
    order = sorted(groups.items(), key=lambda item: (-(item[1].row()[1] or 0), item[0]))
    rows = [(name or "(no prefix)", *group.row()) for name, group in order]
    title = f"Keyspace by {by}: " + ("; ".join(map(str, seen)) if len(seen) > 1 else str(seen[0]))
    notes = []
    if any(len(each.names) > measured for each in seen):
        notes.append(f"Bytes are estimated: {measured:,} keys of a server were measured.")
    if not all(each.complete for each in seen):
        notes.append("The rest was not looked at: give a greater bound=.")
    return Table(title, (by, *COLUMNS), rows, " ".join(notes))
