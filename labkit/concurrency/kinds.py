"""Caches of many kinds under one face: what each can do, and what it refuses.

Keys are texts, and values what JSON can hold. Of a cache in this process, what is stored and what
is given is one object; the others give a copy.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson
import redis

LRU_CACHE = "lru_cache"
CACHETOOLS = "cachetools"
DISKCACHE = "diskcache (SQLite)"
REDIS_SOCKET = "Redis, unix socket"
REDIS_TCP = "Redis, TCP"
MEMCACHED = "Memcached"
FAKEREDIS = "fakeredis (simulated)"
ALL = (LRU_CACHE, CACHETOOLS, FAKEREDIS, DISKCACHE, REDIS_SOCKET, REDIS_TCP, MEMCACHED)


class Refused(Exception):
    """The cache does not do this, or does not take it; the message says what."""


class Backend:
    """A cache: what all of them have in common, as far as each can do it."""

    def get(self, key: str) -> Any:
        """Return the value, or None where there is none."""
        raise NotImplementedError

    def set(self, key: str, value: Any, ttl: float | None = None) -> None:
        """Store a value, for `ttl` seconds if it says so.

        Raises:
            Refused: the cache does not take it.
        """
        raise NotImplementedError

    def add(self, key: str, value: Any) -> bool:
        """Store a value if there is none, and return whether it did.

        Raises:
            Refused: the cache cannot do this.
        """
        raise Refused("it stores what a function returns, and tells nobody whether it was new")

    def increment(self, key: str) -> int:
        """Add one to a number that is there, and return the sum.

        Raises:
            Refused: the cache cannot do this.
        """
        raise Refused("it cannot count")

    def delete(self, key: str) -> None:
        """Remove an entry; `LRU_CACHE` can remove all of them only, and does."""
        raise NotImplementedError

    def close(self) -> None:
        """Give back what it holds open."""


class LruCache(Backend):
    """functools.lru_cache: it keeps what a function returned, and nothing comes in otherwise."""

    def __init__(self, entries: int) -> None:
        self._given: dict[str, Any] = {}
        # An exception is not kept: `pop` raises KeyError for what was never given.
        self._entry = functools.lru_cache(maxsize=entries)(self._given.pop)

    def get(self, key: str) -> Any:
        """Return the value, or None."""
        try:
            return self._entry(key)
        except KeyError:
            return None

    def set(self, key: str, value: Any, ttl: float | None = None) -> None:
        """Store a value where there is none. It stays until all go."""
        if ttl is not None:
            raise Refused("it has no TTL")
        self._given[key] = value
        self._entry(key)
        self._given.clear()  # where there was an entry already, it stays as it was

    def delete(self, key: str) -> None:
        """Remove all entries: it cannot remove one."""
        self._entry.cache_clear()


class CacheTools(Backend):
    """cachetools.TLRUCache: its TTLCache, but with a TTL for each entry."""

    def __init__(self, entries: int) -> None:
        from cachetools import TLRUCache

        self._entries: Any = TLRUCache(entries, ttu=lambda _, entry, now: now + entry[1])

    def get(self, key: str) -> Any:
        """Return the value, or None."""
        entry = self._entries.get(key)
        return None if entry is None else entry[0]

    def set(self, key: str, value: Any, ttl: float | None = None) -> None:
        """Store a value, as `Backend.set` says."""
        self._entries[key] = value, float("inf") if ttl is None else ttl

    def add(self, key: str, value: Any) -> bool:
        """Store a value if there is none; return whether it did. Threads need a lock."""
        if key in self._entries:
            return False
        self.set(key, value)
        return True

    def increment(self, key: str) -> int:
        """Add one, and return the sum. Threads need a lock."""
        value, ttl = self._entries[key]
        self._entries[key] = value + 1, ttl
        return int(value + 1)

    def delete(self, key: str) -> None:
        """Remove the entry."""
        self._entries.pop(key, None)


class Server(Backend):
    """What Redis and Memcached have in common: values go to another process, as JSON."""

    client: Any

    def get(self, key: str) -> Any:
        """Return the value, or None."""
        value = self.client.get(key)
        return None if value is None else orjson.loads(value)

    def increment(self, key: str) -> int:
        """Add one, and return the sum."""
        return int(self.client.incr(key, 1))

    def delete(self, key: str) -> None:
        """Remove the entry."""
        self.client.delete(key)

    def close(self) -> None:
        """Close the connection."""
        self.client.close()


class Redis(Server):
    """A Redis, by its URL; or fakeredis, of this process alone."""

    def __init__(self, url: str | None) -> None:
        if url is None:
            import fakeredis

            self.client = fakeredis.FakeRedis(server=fakeredis.FakeServer())
        else:
            self.client = redis.Redis.from_url(url)

    def set(self, key: str, value: Any, ttl: float | None = None) -> None:
        """Store a value, as `Backend.set` says."""
        px = None if ttl is None else round(1000 * ttl)
        try:
            self.client.set(key, orjson.dumps(value), px=px)
        except redis.ResponseError as error:
            raise Refused(str(error)) from None

    def add(self, key: str, value: Any) -> bool:
        """Store a value if there is none; return whether it did."""
        return bool(self.client.set(key, orjson.dumps(value), nx=True))


class Memcached(Server):
    """A Memcached, by the path of its socket."""

    def __init__(self, path: str) -> None:
        from pymemcache.client.base import Client  # type: ignore[import-untyped]
        from pymemcache.client.retrying import RetryingClient  # type: ignore[import-untyped]
        from pymemcache.exceptions import (  # type: ignore[import-untyped]
            MemcacheError,
            MemcacheUnexpectedCloseError,
        )

        # pymemcache would not wait for the server's answer, and so not hear of an error. And it
        # would say only once that its connection is gone: a restarted server is as good.
        plain = Client(path, default_noreply=False)
        gone = [ConnectionError, MemcacheUnexpectedCloseError]
        self.client = RetryingClient(plain, attempts=2, retry_for=gone)
        self._errors = MemcacheError

    def set(self, key: str, value: Any, ttl: float | None = None) -> None:
        """Store a value, as `Backend.set` says."""
        try:
            self.client.set(key, orjson.dumps(value), expire=ttl or 0)
        except self._errors as error:
            said = error.args[0]
            raise Refused(said.decode() if isinstance(said, bytes) else said) from None

    def add(self, key: str, value: Any) -> bool:
        """Store a value if there is none; return whether it did."""
        return bool(self.client.add(key, orjson.dumps(value)))


class DiskCache(Backend):
    """diskcache: a SQLite database in a folder, which any process on this machine can open.

    Args:
        folder: where; it is made if it is not there, in a folder that is.
        room: how much it may take, in bytes, roughly.

    Attributes:
        directory: the folder.
    """

    def __init__(self, folder: str, room: int) -> None:
        import diskcache  # type: ignore[import-untyped]

        # diskcache would make its parents too. Where they have gone, so has the kernel that made
        # them, and nobody would remove what a worker makes that was just starting.
        with suppress(FileExistsError):
            Path(folder).mkdir()
        self.directory = folder
        self._cache: Any = diskcache.Cache(folder, disk=_json_disk(), size_limit=room)

    def get(self, key: str) -> Any:
        """Return the value, or None."""
        return self._cache.get(key)

    def set(self, key: str, value: Any, ttl: float | None = None) -> None:
        """Store a value, as `Backend.set` says."""
        self._cache.set(key, value, expire=ttl)

    def add(self, key: str, value: Any) -> bool:
        """Store a value if there is none; return whether it did."""
        return bool(self._cache.add(key, value))

    def increment(self, key: str) -> int:
        """Add one, and return the sum."""
        return int(self._cache.incr(key))

    def delete(self, key: str) -> None:
        """Remove the entry."""
        self._cache.delete(key)

    def close(self) -> None:
        """Close the database."""
        self._cache.close()


@functools.cache
def _json_disk() -> Any:
    from diskcache import Disk
    from diskcache.core import MODE_PICKLE  # type: ignore[import-untyped]

    class JsonDisk(Disk):  # type: ignore[misc]
        """JSON in place of pickle; whole numbers as they are, as SQLite is to count them."""

        def store(self, value: Any, *args: Any, **options: Any) -> Any:
            is_number = type(value) is int and value.bit_length() < 64
            return super().store(value if is_number else orjson.dumps(value), *args, **options)

        def fetch(self, mode: int, *args: Any) -> Any:
            if mode == MODE_PICKLE:  # by somebody else: reading it could run any code
                raise Refused("this entry is a pickle, and is not read")
            found = super().fetch(mode, *args)
            return found if isinstance(found, int) else orjson.loads(found)

    return JsonDisk


def open_backend(kind: str, where: dict[str, Any]) -> Backend:
    """Open a cache.

    Args:
        kind: one of `ALL`.
        where: what its class is called with.
    """
    openers: dict[str, Callable[..., Backend]] = {
        LRU_CACHE: LruCache,
        CACHETOOLS: CacheTools,
        FAKEREDIS: Redis,
        DISKCACHE: DiskCache,
        REDIS_SOCKET: Redis,
        REDIS_TCP: Redis,
        MEMCACHED: Memcached,
    }
    return openers[kind](**where)
