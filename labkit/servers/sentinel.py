"""A Redis, its replica, and a Sentinel that promotes the replica, in processes of their own.

A Sentinel tells clients where the master is by host and port, so all three listen on loopback ports
and ask for a random password. (https://redis.io/docs/latest/operate/oss_and_stack/management/sentinel/)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import redis
from redis.sentinel import Sentinel

from labkit.servers.failover import NEVER_MS, failing_program, start_sentinels
from labkit.servers.keeper import Keeper
from labkit.servers.redis import RedisServer


@dataclass(frozen=True)
class Watched:
    """What a Sentinel watches.

    Attributes:
        sentinel: asks it; `sentinel.master_for(SERVICE)` is a client of whoever is the master.
        master: a client of the server that is the master at first.
        replica: a client of the other one.
        watcher: a client of the Sentinel itself.
        replace_the_dead: has it promote the replica soon if the master does not answer.
    """

    sentinel: Sentinel
    master: redis.Redis
    replica: redis.Redis
    watcher: redis.Redis
    replace_the_dead: Callable[[], None]


@contextmanager
def spare_sentinel(server: RedisServer) -> Iterator[Watched]:
    """Give an empty master, its replica, and their Sentinel. They end with the `with` block.

    A master that stands still, as on a busy machine, remains the master: the Sentinel promotes
    nobody before `Watched.replace_the_dead`.

    Args:
        server: as of `failing_program`.

    Raises:
        LabError: there is no Redis or Valkey program here, or they do not come up.
    """
    program, keeper = failing_program(server), Keeper()
    try:
        group = start_sentinels(program, keeper, replicas=1, sentinels=1, down_after_ms=NEVER_MS)
        nodes = (group.master, *group.replicas, *group.sentinels)
        given: dict[str, Any] = {"password": group.told["password"]}
        make: Any = Sentinel
        with ExitStack() as clients:
            sentinel = make([nodes[-1].address], sentinel_kwargs=given, **given)
            clients.enter_context(sentinel)
            master, replica, watcher = (
                clients.enter_context(redis.Redis(*node.address, **given)) for node in nodes
            )
            yield Watched(sentinel, master, replica, watcher, group.replace_the_dead)
    finally:
        keeper.close()
