"""Every way in which an invalidation can still be lost: what README lists, each shown here.

In each of them an old answer is served, and what ends it is the TTL or whoever knows of the write.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from sqlalchemy import create_engine, func, select, table, update

import labkit
from labkit.cache import InvalidationFailed, QueryCache
from labkit.cache.invalidation import Writes
from labkit.lab import Lab
from labkit.shop import Order, User, db
from tests.helpers import free_port

EU = select(func.count(User.id).label("users")).where(User.region == "EU")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LABKIT_DATA", str(tmp_path_factory.mktemp("data")))
        with labkit.start(users=5, orders=10) as lab, lab.app.app_context():
            yield lab


@pytest.fixture
def opened(lab: Lab) -> Iterator[Callable[..., QueryCache]]:
    """Give what makes a cache, of a process that has its own."""
    lab.redis.flushdb()
    with db.engine.begin() as connection:
        connection.execute(update(User).values(region="US"))
    caches: list[QueryCache] = []

    def make(client: Any = lab.redis, **settings: Any) -> QueryCache:
        cache = QueryCache(client, session=db.session, namespace="shop", **settings)
        caches.append(cache)
        return cache

    yield make
    db.session.rollback()
    for cache in caches:
        cache.close()


def served(cache: QueryCache) -> int:
    return int(cache.rows(EU, ttl=60)[0]["users"])


def true() -> int:
    with db.engine.connect() as connection:
        return int(connection.scalar(EU) or 0)


def move(user_id: int = 1) -> None:
    with db.engine.begin() as connection:
        connection.execute(update(User).where(User.id == user_id).values(region="EU"))


def assert_stale_until_somebody_says_so(cache: QueryCache) -> None:
    assert (served(cache), true()) == (0, 1)
    cache.invalidate("users")
    assert served(cache) == 1


# Writes that SQLAlchemy does not see.


def test_another_program(opened):
    cache = opened()
    served(cache)
    with sqlite3.connect(str(db.engine.url.database)) as other:
        other.execute("UPDATE users SET region = 'EU' WHERE id = 1")
    other.close()

    assert_stale_until_somebody_says_so(cache)


def test_a_connection_that_passes_sqlalchemy_by(opened):
    cache = opened()
    served(cache)
    connection = db.engine.raw_connection()
    connection.cursor().execute("UPDATE users SET region = 'EU' WHERE id = 1")
    connection.commit()
    connection.close()

    assert_stale_until_somebody_says_so(cache)


def test_a_trigger(opened):
    cache = opened()
    served(cache)
    with db.engine.begin() as connection:
        connection.exec_driver_sql(
            "CREATE TRIGGER move AFTER UPDATE ON orders "
            "BEGIN UPDATE users SET region = 'EU' WHERE id = 1; END"
        )
    try:
        served(cache)
        with db.engine.begin() as connection:
            connection.execute(update(Order).where(Order.id == 1).values(user_id=2))
        assert_stale_until_somebody_says_so(cache)
    finally:
        with db.engine.begin() as connection:
            connection.exec_driver_sql("DROP TRIGGER move")


def test_the_tables_behind_a_view(opened):
    cache = opened()
    with db.engine.begin() as connection:
        connection.exec_driver_sql(
            "CREATE VIEW customers AS SELECT id FROM users WHERE region = 'EU'"
        )
    count = select(func.count().label("users")).select_from(table("customers"))
    try:
        assert cache.rows(count, ttl=60) == [{"users": 0}]
        move()
        assert cache.rows(count, ttl=60) == [{"users": 0}]
        cache.invalidate("customers")
        assert cache.rows(count, ttl=60) == [{"users": 1}]
        move(2)
        assert cache.rows(count, ttl=60, tags=["users"]) == [{"users": 2}]  # named by hand
        move(3)
        assert cache.rows(count, ttl=60, tags=["users"]) == [{"users": 3}]
    finally:
        with db.engine.begin() as connection:
            connection.exec_driver_sql("DROP VIEW customers")


# Writers that die, or cannot reach Redis.


def dies(patch: pytest.MonkeyPatch) -> None:
    """Have each writer die once its COMMIT is sent: nobody hears of it any more."""
    patch.setattr(QueryCache, "_send", lambda *_, **__: None)


def test_a_writer_that_dies_after_its_commit_without_a_mark(opened, monkeypatch):
    cache = opened(mark_writes=False)
    served(cache)
    with monkeypatch.context() as patch:
        dies(patch)
        move()

    assert_stale_until_somebody_says_so(cache)


def test_with_a_mark_it_costs_misses_and_no_old_answer(opened, monkeypatch):
    cache = opened()
    served(cache)
    with monkeypatch.context() as patch:
        dies(patch)
        move()

    assert served(cache) == 1
    assert cache.stats.refused_fills.total() == 1


def test_a_mark_that_is_evicted_before_its_writer_dies(lab, opened, monkeypatch):
    cache = opened()
    served(cache)

    def evict_and_read(*_: Any) -> None:
        lab.redis.delete("token:shop:users")
        assert cache.query(ttl=60, tags=["users"], name="count")(true)() == 0

    with monkeypatch.context() as patch:
        dies(patch)
        original = Writes.before_commit

        def marked(self: Any, *tables: str) -> Any:
            after = original(self, *tables)
            evict_and_read()
            return after

        patch.setattr(Writes, "before_commit", marked)
        move()

    assert cache.query(ttl=60, tags=["users"], name="count")(true)() == 0
    assert true() == 1


def test_a_commit_that_takes_longer_than_its_mark_counts_and_then_its_writer_dies(
    opened, monkeypatch
):
    cache = opened(mark_ms=1)
    served(cache)
    count = cache.query(ttl=60, tags=["users"], name="count")(true)
    with monkeypatch.context() as patch:
        dies(patch)
        original = Writes.before_commit

        def slow(self: Any, *tables: str) -> Any:
            after = original(self, *tables)
            while cache.stats.misses == 1 or cache.stats.refused_fills.total():
                cache.stats.refused_fills.clear()
                assert count() == 0  # until the mark is over, and the old answer is stored
                if not cache.stats.refused_fills:
                    break
            return after

        patch.setattr(Writes, "before_commit", slow)
        move()

    assert (count(), true()) == (0, 1)


def test_a_writer_that_cannot_reach_redis_while_others_can(lab, opened):
    reader = opened()
    served(reader)
    reader.close()  # it is another process: it does not see this one's writes
    writer = opened(redis.Redis(port=free_port()))
    move()

    assert (served(reader), true()) == (0, 1)
    assert writer.stats.owed == 1
    assert served(writer) == 1  # it knows what it owes


def test_it_can_refuse_to_commit_instead(opened):
    reader = opened()
    served(reader)
    reader.close()
    opened(redis.Redis(port=free_port()), failed_invalidation="raise")
    with pytest.raises(InvalidationFailed, match="Nothing was committed"):
        move()

    assert (served(reader), true()) == (0, 0)


# Rows that were old when they were read.


def test_a_database_that_lags_behind(lab, opened, tmp_path: Path):
    replica = create_engine(f"sqlite:///{tmp_path}/replica.sqlite")
    with db.engine.connect() as source, replica.connect() as target:
        source.connection.dbapi_connection.backup(target.connection.dbapi_connection)  # type: ignore[union-attr]
    cache = opened()

    def from_replica() -> int:
        with replica.connect() as connection:
            return int(connection.scalar(EU) or 0)

    count = cache.query(ttl=60, tags=["users"], name="count")(from_replica)
    move()

    assert (count(), true()) == (0, 1)
    replica.dispose()


def test_a_cursor_of_sqlite_that_was_left_open(opened):
    cache = opened()
    left_open = db.session.connection().execute(select(User.__table__.c.id))
    left_open.fetchone()  # from here on this connection reads what was there now
    move()
    assert served(cache) == 0
    left_open.close()
    db.session.rollback()

    assert (served(cache), true()) == (0, 1)


# What its author has said, and is not so.


def test_a_load_that_reads_past_sqlalchemy(
    opened: Callable[..., QueryCache], tmp_path: Path
) -> None:
    cache = opened()
    file = tmp_path / "region"
    file.write_text("old")

    @cache.query(ttl=60, name="read")
    def read() -> str:
        return file.read_text()

    read()
    file.write_text("new")

    assert read() == "old"
    cache.forget(read)
    assert read() == "new"


def test_an_entry_that_declines_invalidation_by_table(opened):
    cache = opened()
    count = cache.query(ttl=60, by_table=False, name="count")(true)
    assert count() == 0
    move()

    assert (count(), true()) == (0, 1)
