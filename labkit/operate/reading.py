"""Reading from a server: its keys a few at a time, never all at once, and its nodes one by one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import redis
from redis.client import NEVER_DECODE

BATCH = 500  # keys that one SCAN is asked for, which keeps other clients waiting well below 1 ms
CALLS = 10  # times the SCANs that would do, where a keyspace is nearly empty
UNTOUCHED = ("CLIENT", "NO-TOUCH")
Client = Any  # redis.Redis or RedisCluster: they share no type


@dataclass(frozen=True)
class Names:
    """The names of keys that were looked at.

    Attributes:
        names: of one node after the other, in no order.
        total: how many keys there were.
        complete: whether these are all; else the bound was reached.
    """

    names: list[bytes]
    total: int
    complete: bool

    def __str__(self) -> str:
        if self.complete:
            return f"{len(self.names):,} keys, all that there are"
        return f"{len(self.names):,} of {self.total:,} keys: stopped there"


def nodes_of(client: Client) -> list[redis.Redis]:
    """Return a client of each server that has keys of its own."""
    if not isinstance(client, redis.RedisCluster):
        return [client]
    cluster: Any = client
    return [cluster.get_redis_connection(node) for node in cluster.get_primaries()]


def names_of(node: redis.Redis, bound: int) -> Names:
    """Return the names of keys of one server, by SCAN.

    Args:
        node: its client.
        bound: how many keys are looked at, at most (and some of the last batch beyond).
    """
    total: Any = node.dbsize()
    found: dict[bytes, None] = {}  # SCAN may give a key twice
    cursor, calls = 0, 0
    while len(found) < bound and calls < CALLS * (1 + bound // BATCH):
        answer: Any = _scan(node, cursor)
        cursor, calls = answer[0], calls + 1
        found.update(dict.fromkeys(answer[1]))
        if cursor == 0:
            break
    names = list(found)
    return Names(names[:bound], max(int(total), len(names)), cursor == 0 and len(names) <= bound)


def _scan(node: Any, cursor: int) -> Any:
    return node.execute_command("SCAN", cursor, "COUNT", BATCH, **{NEVER_DECODE: True})


def ask_each(
    node: redis.Redis, commands: Iterable[tuple[Any, ...]], untouched: bool = False
) -> list[Any]:
    """Return the answer to each command, or the error that it is; a pipeline for each batch.

    Args:
        node: a client of one server.
        commands: what to ask.
        untouched: whether a key that is read shall not count as used. Before Redis 7.2 it does.
    """
    answers: list[Any] = []
    waiting: list[tuple[Any, ...]] = []
    for command in commands:
        waiting.append(command)
        if len(waiting) == BATCH:
            answers += _ask(node, waiting, untouched)
            waiting = []
    return answers + _ask(node, waiting, untouched)


def _ask(node: redis.Redis, commands: list[tuple[Any, ...]], untouched: bool) -> list[Any]:
    if not commands:
        return []
    # A pipeline has one connection, which goes back to where others take it from.
    sent = [(*UNTOUCHED, "ON"), *commands, (*UNTOUCHED, "OFF")] if untouched else commands
    with node.pipeline(transaction=False) as pipeline:
        together: Any = pipeline
        for command in sent:
            together.execute_command(*command, **{NEVER_DECODE: True})
        answers: list[Any] = together.execute(raise_on_error=False)
    return answers[1:-1] if untouched else answers


def evenly(items: list[Any], number: int) -> list[Any]:
    """Return so many items, from all over the list."""
    if len(items) <= number:
        return items
    return [items[index * len(items) // number] for index in range(number)]


def text_of(name: Any) -> str:
    """Return a key's name as text, whatever it is made of."""
    return name.decode(errors="replace") if isinstance(name, bytes) else str(name)
