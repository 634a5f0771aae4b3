"""No stale entry at quiescence: QueryCache itself, on real servers, in every order there is."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from greenlet import getcurrent
from sqlalchemy import create_engine, select, update
from sqlalchemy.orm import scoped_session, sessionmaker

import labkit
from labkit import Lab, LabError
from labkit.cache import QueryCache, loading, tokens
from labkit.cache.codec import loads
from labkit.concurrency.schedule import Actor, Exploration, explore
from labkit.shop import Order, User
from labkit.shop.app import prepare_engine
from tests.stepped import (
    States,
    World,
    clock,
    explore_states,
    see,
    stop_at_commands,
    stop_at_statements,
    stop_in_flights,
)

TTL = 60  # seconds
READ_ONE = select(User.id, User.region).where(User.id == 1)
READ_BOTH = (
    select(User.id, User.region, Order.user_id)
    .join(Order, Order.id == User.id)
    .where(User.id.in_([1, 2]))
    .order_by(User.id)
)
# What time does: the deadline of each writer that has crashed is over.
AGE = """
for _, key in ipairs(redis.call('KEYS', 'token:*')) do
    local marker = redis.call('GET', key)
    if marker:sub(1, 1) == '!' then
        redis.call('SET', key, (marker:gsub(':%d+', ':1')))
    end
end
"""


class Shop:
    """Two users and their orders, in a database and behind a Redis, both real."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.world = World()
        url = lab.app.config["SQLALCHEMY_DATABASE_URI"]
        self.engine = create_engine(url)
        prepare_engine(self.engine)
        self.stops_at_writes = True
        stop_at_statements(self.engine, self.stops_at)
        self.sessions = scoped_session(sessionmaker(self.engine), scopefunc=getcurrent)
        # Not by SQLAlchemy's way: it is not watched.
        self.beside = create_engine(url, isolation_level="AUTOCOMMIT").raw_connection()
        self.client = lab.server.connect()
        self.age = self.client.register_script(AGE)

    def stops_at(self, sql: str) -> bool:
        # Until it is committed, nobody sees a write, and no other writer waits for it here.
        return self.stops_at_writes or sql.startswith("SELECT")

    def close(self) -> None:
        self.client.close()
        self.beside.close()
        self.engine.dispose()

    def reset(self) -> None:
        self.world.reset()
        cursor = self.beside.cursor()
        cursor.execute("UPDATE users SET region = 'old' WHERE id IN (1, 2)")
        cursor.execute("UPDATE orders SET user_id = 1 WHERE id IN (1, 2)")
        cursor.close()

    def ask(self, statement: Any) -> list[list[Any]]:
        """Return what the database has, without the cache and without a stop."""
        cursor = self.beside.cursor()
        cursor.execute(str(statement.compile(self.engine, compile_kwargs={"literal_binds": True})))
        rows = [list(row) for row in cursor.fetchall()]
        cursor.close()
        return rows


class Scenario:
    """Readers and writers, each in a process of its own, of one question.

    Args:
        shop: what they read and write.
        readers: a letter for each.
        writers: a letter for each. With one the question has one tag, with two it has two tags, and
            both write to both.
        together: whether the readers are threads of one process, with one cache.
        settings: of each cache.
    """

    def __init__(
        self, shop: Shop, readers: str, writers: str, together: bool = False, **settings: Any
    ) -> None:
        self.shop, self.settings = shop, settings
        shop.world = World()
        self.statement = READ_ONE if len(writers) == 1 else READ_BOTH
        self.tags = ["users"] if len(writers) == 1 else ["orders", "users"]
        self.caches: list[QueryCache] = []
        self.probe_cache, self.probe = self.reader()
        self.actors: dict[str, Actor] = {}
        for name in readers:
            if not self.actors or not together:
                cache, report = self.reader()
                stop_at_commands(cache._opened()._client)
            process = "readers" if together else name
            self.actors[name] = shop.world.actor(name, self.ending(report), process)
        self.writing = self.cache()
        stop_at_commands(self.writing._opened()._client)
        for number, name in enumerate(writers, 1):
            self.actors[name] = shop.world.actor(name, self.ending(self.writer(number)), writes=True)
        question: Any = self.probe
        self.key = question.question.key("querycache", (), {}, None)
        self.qualified = [f"querycache:{tag}" for tag in question.question.tags]
        self.lease = tokens.lease_key(self.key)
        self.tokens = [tokens.token_key(tag) for tag in self.qualified]

    def close(self) -> None:
        self.writing.close()

    def cache(self) -> QueryCache:
        cache = QueryCache(
            self.shop.client,
            session=self.shop.sessions,
            timeout_ms=60_000,  # of a machine that has other things to do
            lease_ms=600_000,
            mark_ms=600_000,
            **self.settings,
        )
        self.caches.append(cache)
        return cache

    def reader(self) -> tuple[QueryCache, Callable[[], list[list[Any]]]]:
        cache = self.cache()
        cache.close()  # it is in another process, and does not see this one's writes

        @cache.query(ttl=TTL, tags=self.tags, name="report")
        def report() -> list[list[Any]]:
            rows = [list(row) for row in self.shop.sessions.execute(self.statement)]
            see(rows)
            return rows

        return cache, report

    def writer(self, number: int) -> Callable[[], None]:
        def write() -> None:
            session = self.shop.sessions
            session.execute(update(User).where(User.id == number).values(region="new"))
            if "orders" in self.tags:
                session.execute(update(Order).where(Order.id == number).values(user_id=2))
            session.commit()

        return write

    def ending(self, run: Callable[[], object]) -> Callable[[], None]:
        def run_and_end() -> None:
            try:
                run()
            finally:
                self.shop.sessions.remove()

        return run_and_end

    def entry(self) -> list[list[Any]] | None:
        """Return what a reader would be served from the cache now."""
        value = tokens.look(self.shop.client, self.key, *self.qualified).value
        return None if value is None else loads(value)

    def check(self) -> str | None:
        served, truth = self.entry(), self.shop.ask(self.statement)
        if served not in (None, truth):
            return f"Redis serves {served}, the database has {truth}"
        if served is None:  # perhaps because of somebody who has crashed: time goes by
            self.shop.age()
            answers = [self.ending_probe() for _ in range(2)]
            if answers != [truth, truth]:
                return f"then Redis serves {answers}, the database has {truth}"
        return None

    def ending_probe(self) -> list[list[Any]]:
        try:
            return self.probe()
        finally:
            self.shop.sessions.remove()

    def reset(self) -> None:
        self.shop.reset()

    def reset_warm(self) -> None:
        self.shop.reset()
        self.ending_probe()
        assert self.entry() is not None

    def how(self, evict: list[str], crash: str, warm: bool) -> dict[str, Any]:
        return {
            "lab": self.shop.lab,
            "reset": self.reset_warm if warm else self.reset,
            "evict": evict,
            "crash": list(crash),
        }

    def explore(
        self, evict: list[str] = [], crash: str = "", warm: bool = False, first: bool = False
    ) -> Exploration:
        how = self.how(evict, crash, warm)
        found = explore(self.actors, self.check, stop_at_first=first, **how)
        self.assert_nothing_failed()
        return found

    def states(self, evict: list[str] = [], crash: str = "", warm: bool = False) -> States:
        how = self.how(evict, crash, warm)
        found = explore_states(self.actors, self.check, world=self.shop.world, **how)
        self.assert_nothing_failed()
        return found

    def assert_nothing_failed(self) -> None:
        for cache in self.caches:
            counted = cache.stats.as_dict()
            assert (counted["errors"], counted["bypasses"], counted["owed"]) == ({}, {}, 0)


def lab_with(database: str, factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LABKIT_DATA", str(factory.mktemp("data")))
        with labkit.start(database=database, users=5, orders=5) as lab:
            shop = Shop(lab)
            yield shop
            shop.close()


@pytest.fixture(scope="module")
def sqlite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    yield from lab_with("sqlite", tmp_path_factory)


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """Two writers at once need a database that locks rows."""
    yield from lab_with("postgres", tmp_path_factory)


@contextmanager
def scenario(
    shop: Shop,
    readers: str,
    writers: str,
    polls: float = 1,
    stops_at_writes: bool = True,
    **options: Any,
) -> Iterator[Scenario]:
    """Set a scene.

    Args:
        shop: where.
        readers: as of `Scenario`.
        writers: as of `Scenario`.
        polls: how often who waits for another's load looks again, before time is up.
        stops_at_writes: whether there is a step for each UPDATE, which nobody sees.
        options: of `Scenario`.
    """

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loading, "time", clock(polls))
        patch.setattr(shop, "stops_at_writes", stops_at_writes)
        if options.get("together"):  # what threads of one process share are steps as well
            stop_in_flights(patch, polls)
        played = Scenario(shop, readers, writers, **options)
        try:
            yield played
        finally:
            played.close()
