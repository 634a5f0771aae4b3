"""A client of the cache's own, which waits for a bounded time and tells one server from another.

A server that starts again, or a replica that takes over, may come with entries from a while ago,
and without the invalidations since: persistence and replication lag behind. So each new connection
compares the server's `run_id` with the one that the entries are from (`_recognise`). If it is
another one, the token that every entry carries is replaced before anything is read.
(https://redis.io/docs/latest/commands/info/)
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from functools import lru_cache, partial
from importlib import resources
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode
from redis.connection import ConnectionPool
from redis.event import AfterSlotsCacheRefreshEvent, EventDispatcher, EventListenerInterface
from redis.exceptions import InvalidResponse, MovedError, ResponseError
from redis.maint_notifications import MaintNotificationsConfig
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
RUN_ID = "labkit_run_id"  # the attribute of a connection that says which server it leads to
READ_SIZE = 2**17  # bytes: an entry of 1,000 rows in one go, where redis-py's 32 kB take four
Client = Any  # redis.Redis or RedisCluster: they share no type


class OwnRedis(redis.Redis):
    """A `redis.Redis` whose MGET takes the short way, without the retries and hooks of others."""

    def mget(self, *keys: str) -> Any:  # type: ignore[override]
        """Return the values of these keys, None for each that is missing.

        Raises:
            RedisError: the server could not be asked, or has answered something else.
        """
        connection: Any = self.connection_pool.get_connection()
        try:
            connection.send_packed_command((_packed_mget(keys),))
            values = connection.read_response()
            if type(values) is not list or len(values) != len(keys):
                raise InvalidResponse(f"no answer to MGET: {values!r:.60}")
            return values
        except BaseException:  # an answer that comes later must not be taken for the next one's
            connection.disconnect()
            raise
        finally:
            self.connection_pool.release(connection)

    def mget_and_pttl(self, *keys: str) -> tuple[Any, int, str]:
        """Return the values, what is left of the first one's TTL, and which server has said so.

        The TTL is in milliseconds, as PTTL gives it. Both commands are sent at once.

        Raises:
            RedisError: as of `mget`.
        """
        connection: Any = self.connection_pool.get_connection()
        try:
            pttl = b"".join(connection.pack_command("PTTL", keys[0]))
            connection.send_packed_command((_packed_mget(keys) + pttl,))
            values, left = connection.read_response(), connection.read_response()
            if type(values) is not list or len(values) != len(keys) or type(left) is not int:
                raise InvalidResponse(f"no answer to MGET and PTTL: {values!r:.60} {left!r:.20}")
            return values, left, getattr(connection, RUN_ID, "")
        except BaseException:
            connection.disconnect()
            raise
        finally:
            self.connection_pool.release(connection)


class OwnPool(ConnectionPool):
    """A pool that hands out a connection which is ready without its lock, and without telemetry.

    They are a fifth of what a hit takes. Popping from a list and appending to it are atomic.
    """

    def get_connection(self, *_: Any, **__: Any) -> Any:
        """Return a connection that is open, and has nothing left to read."""
        try:
            connection = self._available_connections.pop()
        except IndexError:
            return super().get_connection()
        self._in_use_connections.add(connection)
        try:
            if not connection.can_read():
                return connection
        except (redis.RedisError, OSError):  # the server has closed it
            connection.disconnect()
        super().release(connection)
        return super().get_connection()  # which opens it again

    def release(self, connection: Any) -> None:
        """Take a connection back."""
        if connection.should_reconnect() or not self.owns_connection(connection):
            super().release(connection)
        else:
            self._in_use_connections.discard(connection)
            self._available_connections.append(connection)


@lru_cache(maxsize=4_096)
def _packed_mget(keys: tuple[str, ...]) -> bytes:
    """Return an MGET as it is sent.

    (https://redis.io/docs/latest/develop/reference/protocol-spec/#arrays)
    """
    parts = [b"MGET", *(key.encode() for key in keys)]
    lengths_and_parts = [b"$%d\r\n%b\r\n" % (len(part), part) for part in parts]
    return b"*%d\r\n%b" % (len(parts), b"".join(lengths_and_parts))


def own_client(
    client: Client,
    time_out: float,
    names: tuple[str, str],
    on_greeted: Callable[[str], object] = lambda run_id: None,
    protocol: int | None = None,
) -> Client:
    """Return a client to the same servers, with connections and time-outs of its own.

    Args:
        client: a `redis.Redis`, also one of a Sentinel, or a `redis.RedisCluster`.
        time_out: how long each wait for a server may last, in seconds. Nothing is tried twice.
        names: the keys of the server's name and of the token that every entry carries.
        on_greeted: called on each new connection with the server's `run_id`, once it has answered.
            What it raises closes the connection.
        protocol: of Redis; None for the one of the client.
    """
    greet = partial(_greet, names=names, on_greeted=on_greeted)
    more = {} if protocol is None else {"protocol": protocol}
    if isinstance(client, redis.RedisCluster):
        return _own_cluster(client, time_out, greet, more)
    pool: Any = client.connection_pool
    settings = _settings(pool.connection_kwargs, time_out, greet) | more
    if isinstance(pool, SentinelConnectionPool):
        sentinel = _own_sentinel(pool.sentinel_manager, time_out)
        settings |= {"is_master": pool.is_master, "check_connection": pool.check_connection}
        make: Any = SentinelConnectionPool
        own: Any = make(
            pool.service_name, sentinel, connection_class=pool.connection_class, **settings
        )
    else:
        own = OwnPool(pool.connection_class, max_connections=2**31, **settings)
    return OwnRedis(connection_pool=own)


def open_connection(client: Client, key: str) -> Any:
    """Open a connection to the node that has a key, and return it. It stays in its pool.

    Args:
        client: of `own_client`, which nobody else uses.
        key: whose node.
    """
    client.get(key)
    node: Any = client
    if isinstance(client, redis.RedisCluster):
        node = node.get_redis_connection(node.get_node_from_key(key))
    pool: Any = node.connection_pool
    connection = pool.get_connection()
    pool.release(connection)
    return connection


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
        "maint_notifications_config": MaintNotificationsConfig(enabled=False),  # it waits longer
        "socket_read_size": READ_SIZE,
        "retry": Retry(NoBackoff(), 0),
        "redis_connect_func": partial(greet, then=settings.get("redis_connect_func")),
    }


def _own_cluster(
    client: Any, time_out: float, greet: Any, more: dict[str, Any]
) -> redis.RedisCluster:
    settings = _settings(client.get_connection_kwargs(), time_out, greet) | more
    settings["redis_connect_func"] = partial(
        greet, then=client.user_on_connect_func, in_cluster=True
    )
    for name in ("host", "port", "db", "retry"):  # it has one database, whatever a URL says
        settings.pop(name, None)
    if settings.pop("connection_class", None):  # of a URL that begins with rediss://
        settings["ssl"] = True
    theirs, events = client.nodes_manager, EventDispatcher()
    make: Any = ClusterNode
    own = redis.RedisCluster(
        # Not their nodes themselves: each has a client of its own.
        startup_nodes=[make(each.host, each.port) for each in client.get_nodes()],
        dynamic_startup_nodes=theirs._dynamic_startup_nodes,
        require_full_coverage=theirs._require_full_coverage,
        address_remap=theirs.address_remap,
        retry=Retry(NoBackoff(), 0),
        event_dispatcher=events,
        **settings,
    )
    events.register_listeners({AfterSlotsCacheRefreshEvent: [_GreetAnew(own)]})
    return own


class _GreetAnew(EventListenerInterface):
    """Ends a cluster's connections when its slots move: a node may have had our keys before."""

    def __init__(self, cluster: redis.RedisCluster) -> None:
        self._cluster = weakref.ref(cluster)

    def listen(self, event: object) -> None:
        """End them, those in use once they are given back."""
        cluster: Any = self._cluster()
        for node in cluster.get_nodes() if cluster else ():
            if node.redis_connection is not None:
                pool = node.redis_connection.connection_pool
                pool.update_active_connections_for_reconnect()
                pool.disconnect_free_connections()


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
    own: Sentinel = make(
        addresses, sentinel.min_other_sentinels, options, sentinel._force_master_ip
    )
    return own


def _greet(
    connection: Any,
    *,
    names: tuple[str, str],
    on_greeted: Callable[[str], object],
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
        run_id = _recognise(ask, names)
        setattr(connection, RUN_ID, run_id)
        on_greeted(run_id)
    except MovedError:
        pass  # of a cluster's nodes one has our keys, and this is another
    except redis.RedisError:
        raise
    except Exception as error:  # nothing that speaks Redis' protocol answers here
        raise InvalidResponse(f"no Redis answers: {error!r}") from error


def _recognise(ask: Callable[..., Any], names: tuple[str, str]) -> str:
    """Replace the token that every entry carries, if the entries are of another server's time.

    Return the server's `run_id`.

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
    run_id = _run_id(about)
    ask("EVAL", RECOGNISE, len(names), *names, run_id, new_token())
    return run_id


def _run_id(about: Any) -> str:
    text = about.decode() if isinstance(about, bytes) else str(about)
    found = [line for line in text.splitlines() if line.startswith("run_id:")]
    return found[0].removeprefix("run_id:").strip() if found else "unknown"
