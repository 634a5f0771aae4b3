"""QueryCache on PostgreSQL: which transactions a load may read in, and be stored."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest
from sqlalchemy import Engine, func, select, update
from sqlalchemy.orm import Session

import labkit
from labkit.cache import QueryCache
from labkit.lab import Lab
from labkit.shop import User, db

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
    with Session(engine) as session, closing(QueryCache(lab.redis, session=session)) as cache:
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
