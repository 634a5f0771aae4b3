"""The clients of Redis that an application holds, and how long each may keep a request waiting.

They are looked for where applications keep them: in the modules of its package, its extensions and
its configuration, and in what these hold. A client in a function's closure is not found.
"""

from __future__ import annotations

import contextlib
import inspect
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import redis
import redis.asyncio
import redis.asyncio.sentinel
import redis.sentinel
from redis.sentinel import SentinelConnectionPool

from labkit.cache import QueryCache
from labkit.errors import LabError
from labkit.named import named
from labkit.operate.checks import Verdict
from labkit.operate.inspected import Inspected, NotLookedAt, hidden

CLIENTS = (redis.Redis, redis.RedisCluster, redis.asyncio.Redis, redis.asyncio.RedisCluster)
CLUSTERS = (redis.RedisCluster, redis.asyncio.RedisCluster)
# Their clients of Sentinels, which have no keys.
SENTINELS = (redis.sentinel.Sentinel, redis.asyncio.sentinel.Sentinel)
POOLS = (redis.ConnectionPool, redis.asyncio.ConnectionPool)
# Large, and without clients of their own.
PASSED_BY = ("sqlalchemy", "flask_sqlalchemy", "flask", "werkzeug", "jinja2", "click", "fakeredis")
DEPTH = 5  # from a module or an extension
MOST = 20_000  # objects that are looked at
LONGEST = 5.0  # seconds that a request may wait for Redis before it goes to the database
LONGEST_MS = 1_000  # the same for a QueryCache, whose breaker spares the next requests


@dataclass(frozen=True)
class Held:
    """A client that was found.

    Attributes:
        where: what leads to it, such as "shop.cache:client".
        client: a client, or a pool of connections.
        cache: the QueryCache whose it is; None for one that is used itself.
    """

    where: str
    client: Any
    cache: QueryCache | None = None


def clients_of(target: str) -> list[Held]:
    """Import an application and return the clients that it holds.

    Args:
        target: the text `package.module:name` of a Flask application, or of what makes one.

    Raises:
        LabError: it cannot be imported, or made.
    """
    # What an application prints while it starts must not stand in the report.
    with contextlib.redirect_stdout(sys.stderr):
        try:
            app = named(target)
        except LabError as error:
            raise LabError(hidden(" ".join(str(error).split()))) from None
        if not hasattr(app, "extensions") and callable(app):
            try:
                app = app()
            except (Exception, SystemExit) as error:
                raised = hidden(" ".join(f"{type(error).__name__}: {error}".split()))
                raise LabError(f"{target} cannot be called: {raised}") from None
        if not hasattr(app, "extensions"):
            kind = type(app).__name__
            raise LabError(f"{target} is no application, but a thing of type {kind}.")
    package = target.partition(":")[0].partition(".")[0]
    return list(_search(list(_roots(app, package))))


def _roots(app: Any, package: str) -> Iterator[tuple[str, Any]]:
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == package and isinstance(module, ModuleType):
            for key, value in list(vars(module).items()):
                yield f"{name}:{key}", value
    for name, value in getattr(app, "extensions", {}).items():
        yield f"app.extensions[{name!r}]", value
    for name, value in getattr(app, "config", {}).items():
        yield f"app.config[{name!r}]", value


def _search(waiting: list[tuple[str, Any]]) -> Iterator[Held]:
    """Give the clients, the nearest first, each once."""
    seen: set[int] = set()
    kept = []  # so that no id is used again meanwhile
    for _ in range(DEPTH):
        further: list[tuple[str, Any]] = []
        for where, value in waiting:
            if id(value) in seen or len(seen) > MOST:
                continue
            seen.add(id(value))
            kept.append(value)
            if isinstance(value, QueryCache):
                if value._server is not None:
                    yield Held(where, value._server.given, value)
            elif isinstance(value, (*CLIENTS, *POOLS)):
                if _package(value) != "fakeredis":
                    yield Held(where, value)
                pool = getattr(value, "connection_pool", value)
                seen.add(id(pool))
                kept.append(pool)
            else:
                further += [(where, each) for each in _parts(value)]
        waiting = further


def _package(value: Any) -> str:
    return type(value).__module__.partition(".")[0]


def _parts(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [*value.values(), *value.keys()]
    if isinstance(value, list | tuple | set | frozenset):
        return list(value)
    if isinstance(value, (ModuleType, type, *SENTINELS)) or inspect.isroutine(value):
        return []
    if _package(value) in (*PASSED_BY, "builtins"):
        return []
    return list(getattr(value, "__dict__", {}).values())


@dataclass(frozen=True)
class Waits:
    """How long a client waits.

    Attributes:
        answer: for an answer, in seconds; None for ever.
        connection: for a connection, in seconds; None for ever.
        retries: how often it tries again; -1 for ever.
        connections: how many it opens at most.
    """

    answer: float | None
    connection: float | None
    retries: int
    connections: int

    @property
    def longest(self) -> float:
        """How long a request may wait for a server that does not answer, in seconds."""
        if self.retries < 0 or self.answer is None or self.connection is None:
            return float("inf")
        return (1 + self.retries) * max(self.answer, self.connection)


def waits_of(client: Any) -> Waits:
    """Return how long a client waits, what redis-py sets by itself included.

    Raises:
        NotLookedAt: it cannot be seen.
    """
    try:
        if isinstance(client, CLUSTERS):
            settings = dict(client.get_connection_kwargs())
            settings.pop("connection_class", None)
            make: Any = redis.Connection
            connection: Any = make(**settings)
            retry, most = client.retry, settings.get("max_connections")
        else:
            pool: Any = getattr(client, "connection_pool", client)
            connection = pool.connection_class(**pool.connection_kwargs)
            retry, most = connection.retry, pool.max_connections
        return Waits(
            connection.socket_timeout,
            connection.socket_connect_timeout,
            int(retry.get_retries()),
            int(most if most is not None else 100),
        )
    except Exception as error:  # settings that only its own class knows
        raise NotLookedAt(f"a client of {type(client).__name__} cannot be seen through") from error


def _of_waits(
    held: list[Held],
    is_well: Callable[[Waits], bool],
    found: Callable[[Waits], str],
    why: str,
    how: str,
) -> Verdict:
    direct = [each for each in held if each.cache is None]
    if not direct:
        return Verdict("a QueryCache has its own")
    waits = [(each.where, waits_of(each.client)) for each in direct]
    bad = [f"{where}: {found(each)}" for where, each in waits if not is_well(each)]
    if bad:
        return Verdict("; ".join(bad), why, how)
    return Verdict("; ".join(sorted({found(each) for _, each in waits})))


def _socket_timeout(held: list[Held], _: Inspected) -> Verdict:
    return _of_waits(
        held,
        lambda each: each.answer is not None,
        lambda each: _seconds(each.answer),
        "a request waits for ever for a server that is frozen, or behind a cable that is cut",
        "redis.Redis(..., socket_timeout=0.5)",
    )


def _connect_timeout(held: list[Held], _: Inspected) -> Verdict:
    return _of_waits(
        held,
        lambda each: each.connection is not None,
        lambda each: _seconds(each.connection),
        "a request waits for minutes for a machine that is away",
        "redis.Redis(..., socket_connect_timeout=0.5)",
    )


def _retry(held: list[Held], _: Inspected) -> Verdict:
    return _of_waits(
        held,
        lambda each: (
            each.longest <= LONGEST or (each.retries >= 0 and each.longest == float("inf"))
        ),
        lambda each: f"{_times(each.retries)}, in all {_seconds(each.longest)}",
        f"a request may wait longer than {LONGEST:g} s for a server that does not answer, before "
        "it goes to the database",
        "redis.Redis(..., retry=Retry(NoBackoff(), 1), socket_timeout=0.5)",
    )


def _max_connections(held: list[Held], server: Inspected) -> Verdict:
    limit = int(server.info().get("maxclients", 10_000))
    return _of_waits(
        held,
        lambda each: each.connections < limit,
        lambda each: f"{each.connections:,}",
        f"one process may take all of the server's {limit:,} connections, and all others get none",
        "redis.Redis(..., max_connections=20), or so many as a process has threads",
    )


def _kind(held: list[Held], server: Inspected) -> Verdict:
    about = server.info()
    cluster = bool(about.get("cluster_enabled"))
    watched = not cluster and int(server.ask("PUBSUB NUMSUB", "__sentinel__:hello")[0][1]) > 0
    bad = [
        f"{each.where} is a {type(each.client).__name__}"
        for each in held
        if (cluster and not isinstance(each.client, CLUSTERS))
        or (watched and not _asks_sentinel(each.client))
    ]
    if bad and cluster:
        why = "in a Cluster it reaches one node's keys, and an error (MOVED) for all others"
        return Verdict("; ".join(bad), why, "redis.RedisCluster(...), for a cluster")
    if bad:
        why = "after a failover it goes on asking the old master"
        return Verdict("; ".join(bad), why, "Sentinel([...]).master_for(NAME), of redis.sentinel")
    return Verdict(", ".join(sorted({type(each.client).__name__ for each in held})))


def _asks_sentinel(client: Any) -> bool:
    pool = getattr(client, "connection_pool", client)
    sentinels = SentinelConnectionPool, redis.asyncio.sentinel.SentinelConnectionPool
    return isinstance(pool, sentinels)


def _cache_timeout(held: list[Held], _: Inspected) -> Verdict:
    waits = {each.where: each.cache._settings.timeout_ms for each in held if each.cache}
    if not waits:
        raise NotLookedAt("the application has no QueryCache")
    bad = [f"{where}: {wait:,} ms" for where, wait in waits.items() if wait > LONGEST_MS]
    if bad:
        return Verdict(
            "; ".join(bad),
            f"the first request that meets a frozen Redis waits longer than {LONGEST_MS:,} ms",
            "QUERY_CACHE_TIMEOUT_MS = 250",
        )
    return Verdict(", ".join(f"{wait:,} ms" for wait in sorted(set(waits.values()))))


def _seconds(value: float | None) -> str:
    return "no limit" if value is None or value == float("inf") else f"{value:g} s"


def _times(retries: int) -> str:
    return {-1: "tries for ever", 0: "tries once"}.get(retries, f"tries {1 + retries} times")


CLIENT_CHECKS: dict[str, Callable[[list[Held], Inspected], Verdict]] = {
    "socket_timeout": _socket_timeout,
    "socket_connect_timeout": _connect_timeout,
    "retry": _retry,
    "max_connections": _max_connections,
    "client": _kind,
    "QUERY_CACHE_TIMEOUT_MS": _cache_timeout,
}
