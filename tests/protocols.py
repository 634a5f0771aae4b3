"""The invalidation protocols of FACTS.md's table, as actors: two readers, and writers.

Every protocol keeps one answer in `data`, and most a version or token in `version`. An entry is
valid when the version that it was stamped with is the current one.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from sqlalchemy import Connection

from labkit import Lab
from labkit.cache import tokens
from labkit.concurrency.schedule import Exploration, explore

OLD, NEW = "old", "new"
BUSY = b"BUSY"
Steps = Generator[None, None, None]

FILL_IF_TOKEN_UNCHANGED = """
if redis.call('GET', KEYS[2]) == ARGV[2] then
    redis.call('SET', KEYS[1], ARGV[1] .. '|' .. ARGV[2])
end
"""
READ_OR_MAKE_TOKEN = """
redis.call('SET', KEYS[2], ARGV[1], 'NX')
return redis.call('MGET', KEYS[1], KEYS[2])
"""


@dataclass
class Shop:
    """One row of the database, and the Redis in front of it."""

    lab: Lab

    def __post_init__(self) -> None:
        with self.lab.app.app_context():
            self.engine = self.lab.db.engine
        self._numbers = itertools.count()

    def unique(self) -> bytes:
        """Return a token that was never used before."""
        return b"token-%d" % next(self._numbers)

    def select(self, connection: Connection | None = None) -> bytes:
        query = "SELECT region FROM users WHERE id = 1"
        if connection is not None:
            return str(connection.exec_driver_sql(query).scalar()).encode()
        with self.engine.connect() as own:
            return str(own.exec_driver_sql(query).scalar()).encode()

    def update(self, value: str = NEW) -> None:
        with self.engine.begin() as connection:
            connection.exec_driver_sql(f"UPDATE users SET region = '{value}' WHERE id = 1")

    def snapshot(self) -> Connection:
        """Return a connection whose transaction sees the database as it is now."""
        connection = self.engine.connect()
        connection.exec_driver_sql("BEGIN")
        self.select(connection)
        return connection


@dataclass
class Protocol:
    """How readers fill the cache and the writer invalidates it."""

    shop: Shop
    old_snapshot: bool = False
    version: ClassVar[str] = "version"

    def __post_init__(self) -> None:
        self.redis: Any = self.shop.lab.redis
        self.read_or_make_token = self.redis.register_script(READ_OR_MAKE_TOKEN)
        self.fill_if_token_unchanged = self.redis.register_script(FILL_IF_TOKEN_UNCHANGED)

    def reader(self) -> Steps:
        connection = None
        if self.old_snapshot:
            connection = self.shop.snapshot()
            yield
        try:
            yield from self.read(lambda: self.shop.select(connection))
        finally:
            if connection is not None:
                connection.close()

    def read(self, select: Callable[[], bytes]) -> Steps:
        raise NotImplementedError

    def writer(self, value: str = NEW) -> Steps:
        raise NotImplementedError

    def entry(self) -> bytes | None:
        """Return what a reader would be served from the cache now."""
        data, version = self.redis.mget("data", "version")
        value, _, stamp = (data or b"").partition(b"|")
        return value if data is not None and stamp == (version or b"0") != BUSY else None

    def check(self) -> str | None:
        served, row = self.entry(), self.shop.select()
        if served is None or served == row:
            return None
        return f"Redis serves {served.decode()}, the database has {row.decode()}"


class DeleteAfterCommit(Protocol):
    def entry(self) -> bytes | None:
        entry: bytes | None = self.redis.get("data")
        return entry

    def read(self, select: Callable[[], bytes]) -> Steps:
        if self.entry() is None:
            yield
            row = select()
            yield
            self.redis.set("data", row)

    def writer(self, value: str = NEW) -> Steps:
        self.shop.update(value)
        yield
        self.redis.delete("data")


class VersionCounter(Protocol):
    """The version is read before the row, and counted up after the commit."""

    def read(self, select: Callable[[], bytes]) -> Steps:
        data, version = self.redis.mget("data", "version")
        if data is None or data.partition(b"|")[2] != (version or b"0"):
            yield
            row = select()
            yield
            self.redis.set("data", row + b"|" + (version or b"0"))

    def writer(self, value: str = NEW) -> Steps:
        self.shop.update(value)
        yield
        self.redis.incr("version")


class StampedAtSet(VersionCounter):
    """As above, but the version is read when the entry is written."""

    def read(self, select: Callable[[], bytes]) -> Steps:
        if self.entry() is None:
            yield
            row = select()
            yield
            version = self.redis.get("version") or b"0"
            self.redis.set("data", row + b"|" + version)


class BumpBeforeCommit(VersionCounter):
    def writer(self, value: str = NEW) -> Steps:
        self.redis.incr("version")
        yield
        self.shop.update(value)


class TokenAndCompareAndSet(Protocol):
    """A unique token, read before the row; the fill checks that it is still there."""

    def read(self, select: Callable[[], bytes]) -> Steps:
        keys = ["data", "version"]
        data, token = self.read_or_make_token(keys=keys, args=[self.shop.unique()])
        if token == BUSY:
            return
        if data is None or data.partition(b"|")[2] != token:
            yield
            row = select()
            yield
            self.fill_if_token_unchanged(keys=keys, args=[row, token])

    def writer(self, value: str = NEW) -> Steps:
        self.shop.update(value)
        yield
        self.redis.set("version", self.shop.unique())


class BusyMarker(TokenAndCompareAndSet):
    """The token says BUSY from before the commit until after it: nobody fills meanwhile."""

    def writer(self, value: str = NEW) -> Steps:
        self.redis.set("version", BUSY)
        yield
        self.shop.update(value)
        yield
        self.redis.set("version", self.shop.unique())


class MarkerForEachWriter(Protocol):
    """labkit's own: in the token's place are the names of all writers under way."""

    version = tokens.token_key("users")

    def entry(self) -> bytes | None:
        return tokens.lookup(self.redis, "data", "users").value

    def read(self, select: Callable[[], bytes]) -> Steps:
        found = tokens.lookup(self.redis, "data", "users")
        if found.value is None and not found.busy:
            yield
            row = select()
            yield
            tokens.fill(self.redis, "data", row, 60, found, "users")

    def writer(self, value: str = NEW) -> Steps:
        name = tokens.new_token().decode()
        tokens.mark(self.redis, name, "users")
        yield
        self.shop.update(value)
        yield
        tokens.invalidate(self.redis, "users", writer=name)


def explore_protocol(
    protocol: Protocol,
    faults: str = "",
    stop_at_first: bool = False,
    readers: str = "RS",
    writers: str = "W",
) -> Exploration:
    """Run every interleaving of readers and writers, by their letters, under some faults.

    Args:
        protocol: what they do.
        faults: words; "crashes" lets the first writer crash, "evicted" its version be evicted.
        stop_at_first: whether the first stale schedule is enough.
        readers: a letter for each.
        writers: a letter for each. Each writes another value.
    """
    shop = protocol.shop
    actors = {name: protocol.reader for name in readers}
    for number, name in enumerate(writers):
        actors[name] = partial(protocol.writer, f"{NEW}{number or ''}")
    return explore(
        actors,
        protocol.check,
        lab=shop.lab,
        reset=lambda: shop.update(OLD),
        lanes={"row": shop.select, "entry": protocol.entry},
        crash=writers[0] if "crashes" in faults else (),
        evict=[protocol.version] if "evicted" in faults else (),
        stop_at_first=stop_at_first,
    )
