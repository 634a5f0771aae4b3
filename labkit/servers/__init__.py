"""Starting real servers that belong to one kernel and die with it."""

from labkit.servers.cluster import spare_cluster
from labkit.servers.keeper import Keeper
from labkit.servers.postgres import create_cluster, find_postgres, start_postgres, stop_postgres
from labkit.servers.redis import RedisServer, choose_redis, start_redis
from labkit.servers.sentinel import spare_sentinel
from labkit.servers.spare import spare_redis, used_cpu_ms, used_memory

__all__ = [
    "Keeper",
    "RedisServer",
    "choose_redis",
    "create_cluster",
    "find_postgres",
    "spare_cluster",
    "spare_redis",
    "spare_sentinel",
    "start_postgres",
    "start_redis",
    "stop_postgres",
    "used_cpu_ms",
    "used_memory",
]
