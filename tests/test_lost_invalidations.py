"""Every way in which an invalidation can still be lost: docs/query_cache.md's list, shown here.

In each of them an old answer is served, and what ends it is the TTL or whoever knows of the write.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redis
from sqlalchemy import (
    NullPool,
    column,
    create_engine,
    event,
    func,
    select,
    table,
    text,
    update,
)
from sqlalchemy.orm import Session, scoped_session, sessionmaker

import labkit
from labkit.cache import InvalidationFailed, QueryCache
from labkit.cache.invalidation import Writes
from labkit.lab import Lab
from labkit.servers import spare_redis
from labkit.shop import Order, User, db
from tests.caches import PATIENT

EU = select(func.count(User.id).label("users")).where(User.region == "EU")


@pytest.fixture(scope="module")
def lab(own_data: None) -> Iterator[Lab]:
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
        given = {"namespace": "shop"} | PATIENT | settings
        cache = QueryCache(client, session=db.session, **given)
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


def test_a_foreign_key_that_the_metadata_lacks(opened):
    cache = opened()
    with db.engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE owners (id INTEGER PRIMARY KEY)")
        connection.exec_driver_sql(
            "CREATE TABLE cats (owner_id INTEGER REFERENCES owners (id) ON DELETE CASCADE)"
        )
        connection.exec_driver_sql("INSERT INTO owners VALUES (1)")
        connection.exec_driver_sql("INSERT INTO cats VALUES (1)")
    cats = select(func.count().label("cats")).select_from(table("cats"))
    try:
        assert cache.rows(cats, ttl=60) == [{"cats": 1}]
        with db.engine.begin() as connection:
            connection.exec_driver_sql("PRAGMA foreign_keys=ON")
            connection.execute(table("owners", column("id")).delete())
        assert cache.rows(cats, ttl=60) == [{"cats": 1}]
        cache.invalidate("cats")
        assert cache.rows(cats, ttl=60) == [{"cats": 0}]
    finally:
        with db.engine.begin() as connection:
            connection.exec_driver_sql("DROP TABLE cats")
            connection.exec_driver_sql("DROP TABLE owners")


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


def nobody(folder: Path) -> redis.Redis:
    """Return a client of a server that is not there, and whose place nobody else can take."""
    return redis.Redis(unix_socket_path=str(folder / "none"))


def test_a_writer_that_cannot_reach_redis_while_others_can(lab, opened, tmp_path):
    reader = opened()
    served(reader)
    reader.close()  # it is another process: it does not see this one's writes
    writer = opened(nobody(tmp_path))
    move()

    assert (served(reader), true()) == (0, 1)
    assert writer.stats.owed == 1
    assert served(writer) == 1  # it knows what it owes


def test_it_can_refuse_to_commit_instead(opened, tmp_path):
    reader = opened()
    served(reader)
    reader.close()
    opened(nobody(tmp_path), failed_invalidation="raise")
    with pytest.raises(InvalidationFailed, match="Nothing was committed"):
        move()

    assert (served(reader), true()) == (0, 0)


def test_a_master_that_lives_on_apart_from_the_one_that_was_promoted(lab, opened):
    with spare_redis(lab.server) as promoted:
        reader = opened()
        served(reader)
        reader.close()  # it is another process: it does not see this one's writes
        writer = opened(promoted)
        move()

        assert (served(reader), served(writer), true()) == (0, 1, 1)
        assert writer.stats.owed == 0


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


def test_rows_that_another_has_not_committed(opened):
    cache = opened()
    shared = create_engine(
        "sqlite:///file:dirty?mode=memory&cache=shared&uri=true", poolclass=NullPool
    )
    rows = table("rows", column("n"))
    with shared.connect() as writing, shared.connect() as reading:
        writing.exec_driver_sql("CREATE TABLE rows (n INTEGER)")
        writing.commit()
        reading.exec_driver_sql("PRAGMA read_uncommitted = 1")
        reading.commit()

        def number_of_rows() -> int:
            return int(reading.scalar(select(func.count()).select_from(rows)) or 0)

        count = cache.query(ttl=60, tags=["rows"], name="count")(number_of_rows)
        writing.execute(rows.insert().values(n=1))
        assert count() == 1
        writing.rollback()

        assert (count(), number_of_rows()) == (1, 0)
    shared.dispose()


# What its author has said, and is not so.


def test_a_parameter_that_is_ignored_and_decides_the_answer(
    opened: Callable[..., QueryCache],
) -> None:
    @opened().query(ttl=60, ignore=["region"], name="of")
    def of(region: str) -> str:
        return region

    assert (of("EU"), of("US")) == ("EU", "EU")


def test_a_context_that_says_too_little(opened):
    tenant, role = ["a"], ["reader"]
    cache = opened(context=lambda: tenant[0])
    answer = cache.query(ttl=60, name="answer")(answer_for(tenant, role))
    assert answer() == "a reader"
    role[0] = "admin"

    assert answer() == "a reader"


def answer_for(tenant: list[str], role: list[str]) -> Callable[[], str]:
    def answer() -> str:
        return f"{tenant[0]} {role[0]}"

    return answer


def test_a_text_that_is_trusted_and_reads_another_table(opened):
    cache = opened()
    said = text("(SELECT count(*) FROM users WHERE region = 'EU') AS users")
    count = select(said)
    assert cache.rows(count, ttl=60, trusted={str(said): ()}) == [{"users": 0}]
    move()

    assert cache.rows(count, ttl=60, trusted={str(said): ()}) == [{"users": 0}]


def test_a_temporary_table_that_hides_one(lab, opened):
    opened()
    engine = create_engine(db.engine.url, pool_size=1, max_overflow=0)
    session = scoped_session(sessionmaker(engine))
    cache = QueryCache(lab.redis, session=session, namespace="shop", **PATIENT)
    session.execute(text("CREATE TEMPORARY TABLE users AS SELECT 1 AS id, 'EU' AS region"))
    session.commit()  # its connection goes back to the pool, and keeps the table
    assert served(cache) == 1
    session.remove()
    engine.dispose()

    assert (served(cache), true()) == (1, 0)
    cache.close()


def test_a_listener_that_puts_another_statement_in_its_place(opened):
    def other(_: Any, __: Any, sql: str, parameters: Any, *___: Any) -> tuple[str, Any]:
        is_ours = sql.startswith("SELECT count(users.id)")
        return ("SELECT sum(user_id) AS users FROM orders", ()) if is_ours else (sql, parameters)

    cache = opened()
    event.listen(db.engine, "before_cursor_execute", other, retval=True)
    try:
        old = served(cache)
        with db.engine.begin() as connection:
            connection.execute(update(Order).values(user_id=1))  # ten of them
        assert (served(cache), true()) == (old, 10)
        assert old > 10
    finally:
        event.remove(db.engine, "before_cursor_execute", other)


def test_what_a_function_has_from_before_its_call(opened):
    with Session(db.engine) as before:
        user = before.get_one(User, 1)
        region = opened().query(ttl=60, tags=["users"], name="region")(lambda: user.region)
        move()

        assert (region(), region(), true()) == ("US", "US", 1)


def test_a_load_that_reads_in_a_thread_of_its_own(opened):
    engine = db.engine

    def count_in_eu() -> int:
        with engine.connect() as connection:
            return int(connection.scalar(EU) or 0)

    def elsewhere() -> int:
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(count_in_eu).result()

    count = opened().query(ttl=60, name="count")(elsewhere)
    assert count() == 0
    move()

    assert (count(), true()) == (0, 1)


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
