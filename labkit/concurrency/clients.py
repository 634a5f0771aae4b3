"""The client of a Redis that another process was told of: alone, behind Sentinels, or in a Cluster.

What is told is JSON, so that it can stand in a file that only this user may read:

- a URL, such as "redis://:password@127.0.0.1:6379/0";
- {"sentinels": [[host, port], ...], "service": name, "password": text};
- {"cluster": [[host, port], ...], "password": text};
- null, for a fakeredis of the process's own.
"""

from __future__ import annotations

from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode
from redis.retry import Retry
from redis.sentinel import Sentinel

WAIT = 1.0  # seconds that a Sentinel, or a node, gets for an answer


def client_of(told: Any) -> Any:
    """Return a `redis.Redis`, or a `redis.RedisCluster`.

    Args:
        told: as above.

    Raises:
        RedisError: no node of a Cluster answers.
    """
    if told is None:
        import fakeredis

        return fakeredis.FakeRedis()
    if isinstance(told, str):
        return redis.Redis.from_url(told)
    password = told["password"]
    waits: dict[str, Any] = {"socket_timeout": WAIT, "socket_connect_timeout": WAIT}
    if "sentinels" in told:
        addresses = [(host, port) for host, port in told["sentinels"]]
        own = {"password": password, "retry": Retry(NoBackoff(), 0), **waits}
        make: Any = Sentinel
        return make(addresses, sentinel_kwargs=own, password=password).master_for(told["service"])
    make_node: Any = ClusterNode
    nodes = [make_node(host, port) for host, port in told["cluster"]]
    make = redis.RedisCluster
    return make(startup_nodes=nodes, password=password, **waits)
