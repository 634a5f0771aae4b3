"""QueryCache on PostgreSQL: which transactions a load may read in, and be stored."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest
from sqlalchemy import Engine, column, func, quoted_name, select, table, text, update
from sqlalchemy.orm import Session

import labkit
from labkit.cache import QueryCache
from labkit.lab import Lab
from labkit.shop import User, db
from tests.caches import PATIENT

EU = select(func.count(User.id).label("users")).where(User.region == "EU")


@pytest.fixture(scope="module")
def lab(own_data: None) -> Iterator[Lab]:
    with labkit.start("fake", "postgres", users=5, orders=10) as lab, lab.app.app_context():
        yield lab


@pytest.fixture
def engine(lab: Lab) -> Engine:
    lab.redis.flushdb()
    with db.engine.begin() as connection:
        connection.execute(update(User).values(region="US"))
    return db.engine


def move(engine: Engine) -> None:
    with engine.begin() as other:
        other.execute(update(User).where(User.id == 1).values(region="EU"))


@contextmanager
def opened(lab: Lab, engine: Engine) -> Iterator[tuple[QueryCache, Session]]:
    with (
        Session(engine) as session,
        closing(QueryCache(lab.redis, session=session, **PATIENT)) as cache,
    ):
        yield cache, session


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
def test_what_an_older_snapshot_shows_is_not_stored(lab, engine, level):
    with opened(lab, engine.execution_options(isolation_level=level)) as (cache, session):
        assert session.scalar(EU) == 0  # from here on it sees what was there now
        move(engine)

        assert cache.rows(EU, ttl=60) == [{"users": 0}]
        assert dict(cache.stats.bypasses) == {"an older transaction": 1}
        session.rollback()
        assert cache.rows(EU, ttl=60) == [{"users": 1}]  # and it is stored: its snapshot is young
        session.rollback()
        assert cache.rows(EU, ttl=60) == [{"users": 1}]
        assert (cache.stats.misses, cache.stats.hits) == (1, 1)


def test_under_read_committed_an_open_transaction_reads_anew_and_is_stored(lab, engine):
    with opened(lab, engine) as (cache, session):
        assert session.scalar(EU) == 0
        move(engine)

        assert cache.rows(EU, ttl=60) == cache.rows(EU, ttl=60) == [{"users": 1}]
        assert (cache.stats.misses, cache.stats.hits) == (1, 1)


BEGINS = "BEGIN ISOLATION LEVEL REPEATABLE READ"


@pytest.mark.parametrize("level", ["AUTOCOMMIT", "READ COMMITTED"])
def test_a_transaction_that_is_begun_by_text_may_keep_its_snapshot(lab, engine, level):
    with opened(lab, engine.execution_options(isolation_level=level)) as (cache, session):
        session.connection()  # is asked for its level by the next load
        assert cache.rows(select(User.id).where(User.id == 1), ttl=60) == [{"id": 1}]
        if level != "AUTOCOMMIT":
            session.execute(text("ROLLBACK"))
        session.execute(text(BEGINS))
        assert session.scalar(EU) == 0
        move(engine)

        assert cache.rows(EU, ttl=60) == [{"users": 0}]
        assert dict(cache.stats.bypasses) == {"an older transaction": 1}
        session.execute(text("ROLLBACK"))
        assert cache.rows(EU, ttl=60) == [{"users": 1}]


# A name without quotes: it may have capitals, and its schema in front of it.


@pytest.mark.parametrize("name", ["USERS", "public.users"])
def test_a_table_by_a_name_without_quotes_is_the_same_table(lab, engine, name):
    same = table(quoted_name(name, quote=False), column("id"), column("region"))
    questions = [select(each.c.region).where(each.c.id == 1) for each in (User.__table__, same)]
    with opened(lab, engine) as (cache, _):
        for region, written in (("EU", User.__table__), ("US", same)):
            before = [cache.rows(each, ttl=60) for each in questions]
            cache.stats.reset()
            assert [cache.rows(each, ttl=60) for each in questions] == before
            assert cache.stats.hits == 2
            with engine.begin() as connection:
                connection.execute(update(written).where(written.c.id == 1).values(region=region))
            now = [cache.rows(each, ttl=60) for each in questions]
            assert now == [[{"region": region}]] * 2 != before


# Schemas: which of them a table is in may be said beside the statement.


@pytest.fixture
def tenant(engine: Engine) -> Iterator[Engine]:
    with engine.begin() as connection:
        connection.execute(text("CREATE SCHEMA tenant"))
        connection.execute(text("CREATE TABLE tenant.users AS SELECT * FROM users"))
        connection.execute(text("UPDATE tenant.users SET region = 'EU'"))
    yield engine.execution_options(schema_translate_map={None: "tenant"})
    with engine.begin() as connection:
        connection.execute(text("DROP SCHEMA tenant CASCADE"))


def test_two_schemas_share_no_rows(lab, engine, tenant):
    with opened(lab, engine) as (cache, session), opened(lab, tenant) as (of_tenant, _):
        for _ in range(2):
            assert cache.rows(EU, ttl=60) == [{"users": 0}]
            assert of_tenant.rows(EU, ttl=60) == [{"users": 5}]
        assert cache.stats.hits == of_tenant.stats.hits == 1
        session.rollback()
        session.connection(execution_options={"schema_translate_map": {None: "tenant"}})
        assert cache.rows(EU, ttl=60) == [{"users": 5}]
        move(engine)
        session.rollback()
        assert cache.rows(EU, ttl=60) == [{"users": 1}]
        with tenant.begin() as connection:
            connection.execute(update(User).values(region="US"))
        assert of_tenant.rows(EU, ttl=60) == [{"users": 0}]


def test_a_function_under_a_schema_map_is_cached_only_with_a_context(lab, engine, tenant):
    with opened(lab, engine) as (cache, session), opened(lab, tenant) as (of_tenant, theirs):

        def cached(cache: QueryCache, session: Session) -> Any:
            return cache.query(ttl=60, tags=["users"], name="count")(lambda: session.scalar(EU))

        assert [cached(cache, session)(), cached(of_tenant, theirs)()] == [0, 5]
        session.rollback()
        session.connection(execution_options={"schema_translate_map": {None: "tenant"}})
        assert cached(cache, session)() == 5
        refused = {"a schema map without a context": 1}
        assert dict(cache.stats.bypasses) == dict(of_tenant.stats.bypasses) == refused
    with (
        Session(tenant) as session,
        closing(
            QueryCache(lab.redis, session=session, context=lambda: "tenant", **PATIENT)
        ) as cache,
    ):
        assert [cached(cache, session)() for _ in range(2)] == [5, 5]
        assert cache.stats.hits == 1


@pytest.mark.parametrize("way", ["the session's own", "one of its engines'"])
def test_a_schema_map_is_seen_before_there_is_a_connection(lab, engine, tenant, way):
    mapped = {"schema_translate_map": {None: "tenant"}}
    own = Session(engine, execution_options=mapped)
    with (
        opened(lab, engine) as (plain, theirs),
        own if way == "the session's own" else Session(binds={User: tenant}) as session,
        closing(
            QueryCache(lab.redis, session=session, namespace=plain.namespace, **PATIENT)
        ) as cache,
    ):
        assert [each.rows(EU, ttl=60) for each in (plain, cache)] == [
            [{"users": 0}],
            [{"users": 5}],
        ]
        for each in (theirs, session):
            each.rollback()
        first = plain.query(ttl=60, tags=["users"], name="count")(lambda: theirs.scalar(EU))
        second = cache.query(ttl=60, tags=["users"], name="count")(lambda: session.scalar(EU))
        assert [first(), first(), second()] == [0, 0, 5]
        assert dict(cache.stats.bypasses) == {"a schema map without a context": 1}


def test_a_statement_with_a_schema_map_of_its_own_is_not_stored(lab, engine, tenant):
    mapped = EU.execution_options(schema_translate_map={None: "tenant"})
    with opened(lab, engine) as (cache, session):
        count = cache.query(ttl=60, tags=["users"], name="count")(lambda: session.scalar(mapped))
        assert [count(), count()] == [5, 5]
        assert dict(cache.stats.refused_fills) == {"a schema map without a context": 2}


def test_a_load_on_a_connection_of_its_own_is_looked_at_too(lab, engine):
    level = engine.execution_options(isolation_level="REPEATABLE READ")
    with opened(lab, engine) as (cache, _), level.connect() as older:
        count = cache.query(ttl=60, tags=["users"], name="count")(lambda: older.scalar(EU))
        assert older.scalar(EU) == 0
        move(engine)

        assert count() == 0
        assert dict(cache.stats.refused_fills) == {"an older transaction": 1}
        older.rollback()
        assert [count(), count()] == [1, 1]
        assert cache.stats.hits == 1
