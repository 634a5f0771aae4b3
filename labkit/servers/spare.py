"""A second Redis, whose memory may be limited: whatever happens to it, the lab's own is safe."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import redis

from labkit.servers.keeper import Keeper
from labkit.servers.redis import RedisServer, start_redis


@contextmanager
def spare_redis(
    server: RedisServer, room: int = 0, policy: str = "noeviction"
) -> Iterator[redis.Redis]:
    """Give a client of another, empty server of the same kind. It ends with the `with` block.

    A server given by URL is not ours to limit: in its place, one is started.

    Args:
        server: the lab's server.
        room: how much it may store, in bytes. With 0, as much as there is. fakeredis has no limit.
        policy: what to evict when it is full: Redis' `maxmemory-policy`.

    Raises:
        LabError: no such server can be had.
    """
    keeper = Keeper()
    try:
        spare = start_redis("auto" if server.kind == "url" else server.kind, keeper)
        with spare.connect() as client:
            client.config_set("maxmemory-policy", policy)
            if room:
                client.config_set("maxmemory", used_memory(client) + room)
            yield client
    finally:
        keeper.close()


def used_memory(client: redis.Redis) -> int:
    """Return how much memory a server has allocated, in bytes; 0 on fakeredis, which cannot say."""
    try:
        return int(client.info("memory")["used_memory"])
    except redis.ResponseError:
        return 0


def used_cpu_ms(client: redis.Redis) -> float:
    """Return how long a server's processor has worked, in milliseconds; 0 on fakeredis.

    Unlike the time that a command takes, it is the same on an idle machine and on a busy one.
    """
    try:
        cpu = client.info("cpu")
    except redis.ResponseError:
        return 0.0
    return 1000 * (float(cpu["used_cpu_user"]) + float(cpu["used_cpu_sys"]))
