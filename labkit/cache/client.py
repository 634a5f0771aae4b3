"""A client of the cache's own, which waits for a bounded time and tells one server from another.

A server that starts again, or a replica that takes over, may come with entries from a while ago,
and without the invalidations since: persistence and replication lag behind. So each new connection
compares the server's `run_id` with the one that the entries are from (`recognise`). If it is
another one, the token that every entry carries is replaced before anything is read.
(https://redis.io/docs/latest/commands/info/)
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import resources
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.connection import ConnectionPool
from redis.exceptions import InvalidResponse, MovedError, ResponseError
from redis.retry import Retry
from redis.sentinel import Sentinel, SentinelConnectionPool

from labkit.cache.tokens import new_token

RECOGNISE = resources.files("labkit.cache").joinpath("recognise.lua").read_text()
# Of a pool's settings, those that a copy makes anew.
NOT_COPIED = (
    "connection_pool",
    "event_dispatcher",
    "redis_connect_func",
    "retry_on_error",
    "cache",
)
Client = Any  # redis.Redis or RedisCluster: they share no type


class OwnRedis(redis.Redis):
    """A `redis.Redis` whose MGET takes the short way, without the retries and hooks of others."""

    def __init__(self, pool: ConnectionPool, on_sent: Callable[[], object]) -> None:
        super().__init__(connection_pool=pool)
        self._on_sent = on_sent

    def parse_response(self, connection: Any, command_name: Any, **options: Any) -> Any:
        """Read an answer; redis-py calls it when a command was sent."""
        self._on_sent()
        parse: Any = super().parse_response
        return parse(connection, command_name, **options)

    def mget(self, *keys: str) -> Any:  # type: ignore[override]
        """Return the values of these keys, None for each that is missing.

        Raises:
            RedisError: the server could not be asked, or has answered something else.
        """
        connection: Any = self.connection_pool.get_connection()
        try:
            connection.send_command("MGET", *keys)
            values = connection.read_response()
            if type(values) is not list or len(values) != len(keys):
                raise InvalidResponse(f"no answer to MGET: {values!r:.60}")
            return values
        except BaseException:  # an answer that comes later must not be taken for the next one's
            connection.disconnect()
            raise
        finally:
            self.connection_pool.release(connection)


def own_client(
    client: Client,
    time_out: float,
    names: tuple[str, str],
    on_sent: Callable[[], object] = lambda: None,
    on_greeted: Callable[[], object] = lambda: None,
) -> Client:
    """Return a client to the same servers, with connections and time-outs of its own.

    Args:
        client: a `redis.Redis`, also one of a Sentinel, or a `redis.RedisCluster`.
        time_out: how long each wait for a server may last, in seconds. Nothing is tried twice.
        names: the keys of the server's name and of the token that every entry carries.
        on_sent: called when a command has been sent, before its answer; not by a cluster's client.
        on_greeted: called on each new connection, once the server has answered. What it raises
            closes the connection.
    """
    greet = partial(_greet, names=names, on_greeted=on_greeted)
    if isinstance(client, redis.RedisCluster):
        return _own_cluster(client, time_out, greet)
    pool: Any = client.connection_pool
    settings = _settings(pool.connection_kwargs, time_out, greet)
    if isinstance(pool, SentinelConnectionPool):
        sentinel = _own_sentinel(pool.sentinel_manager, time_out)
        settings |= {"is_master": pool.is_master, "check_connection": pool.check_connection}
        make: Any = SentinelConnectionPool
        own: Any = make(
            pool.service_name, sentinel, connection_class=pool.connection_class, **settings
        )
    else:
        own = ConnectionPool(pool.connection_class, max_connections=2**31, **settings)
    return OwnRedis(own, on_sent)


def _settings(settings: dict[str, Any], time_out: float, greet: Any) -> dict[str, Any]:
    return {
        **{
            name: value
            for name, value in settings.items()
            if name not in NOT_COPIED and "maint_" not in name and not name.startswith("orig_")
        },
        "socket_timeout": time_out,
        "socket_connect_timeout": time_out,
        "decode_responses": False,
        "retry": Retry(NoBackoff(), 0),
        "redis_connect_func": partial(greet, then=settings.get("redis_connect_func")),
    }


def _own_cluster(client: Any, time_out: float, greet: Any) -> redis.RedisCluster:
    settings = _settings(client.get_connection_kwargs(), time_out, greet)
    theirs = client.user_on_connect_func
    settings["redis_connect_func"] = partial(greet, then=theirs, in_cluster=True)
    for name in ("host", "port", "retry"):
        settings.pop(name, None)
    return redis.RedisCluster(
        startup_nodes=client.get_nodes(), retry=Retry(NoBackoff(), 1), **settings
    )


def _own_sentinel(sentinel: Any, time_out: float) -> Sentinel:
    waits = {"socket_timeout": time_out, "socket_connect_timeout": time_out}
    options = {**sentinel.sentinel_kwargs, **waits, "retry": Retry(NoBackoff(), 0)}
    addresses = [
        (
            each.connection_pool.connection_kwargs["host"],
            each.connection_pool.connection_kwargs["port"],
        )
        for each in sentinel.sentinels
    ]
    make: Any = Sentinel
    own: Sentinel = make(addresses, sentinel.min_other_sentinels, options)
    return own


def _greet(
    connection: Any,
    *,
    names: tuple[str, str],
    on_greeted: Callable[[], object],
    then: Callable[[Any], object] | None = None,
    in_cluster: bool = False,
) -> None:
    """Log in on a new connection, and recognise the server."""

    def ask(*command: Any) -> Any:
        connection.send_command(*command)
        return connection.read_response()

    try:
        if then is not None:
            then(connection)
        elif not in_cluster:  # a cluster's client has logged in already
            connection.on_connect()
        recognise(ask, names)
        on_greeted()
    except MovedError:
        pass  # of a cluster's nodes one has our keys, and this is another
    except redis.RedisError:
        raise
    except Exception as error:  # nothing that speaks Redis' protocol answers here
        raise InvalidResponse(f"no Redis answers: {error!r}") from error


def recognise(ask: Callable[..., Any], names: tuple[str, str]) -> None:
    """Replace the token that every entry carries, if the entries are of another server's time.

    Args:
        ask: sends a command to the server that has the keys.
        names: as of `own_client`.
    """
    try:
        about = ask("INFO", "server")
    except ResponseError as error:
        if "unknown command" not in str(error).lower():
            raise
        about = b""  # fakeredis, which ends with its process
    ask("EVAL", RECOGNISE, len(names), *names, _run_id(about), new_token())


def _run_id(about: Any) -> str:
    if isinstance(about, dict):
        return str(about.get("run_id", ""))
    text = about.decode() if isinstance(about, bytes) else str(about)
    found = [line for line in text.splitlines() if line.startswith("run_id:")]
    return found[0].removeprefix("run_id:").strip() if found else "unknown"
