"""What only PostgreSQL can do: two-phase commits, writes in a CTE, functions that write."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, create_engine, delete, func, insert, select, text, update
from sqlalchemy.orm import Session

import labkit
from labkit.cache.commits import after_root_commit, watch_writes
from labkit.servers import postgres
from labkit.shop import Order, OrderLine, User, db


@pytest.fixture(scope="module")
def engine(own_data: None) -> Iterator[Engine]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(postgres.SETTINGS, "max_prepared_transactions", "10")
        with labkit.start("fake", "postgres", users=5, orders=10) as lab, lab.app.app_context():
            with db.engine.begin() as connection:
                connection.execute(text(TOUCH))
                connection.execute(text("CREATE VIEW customers AS SELECT * FROM users"))
            yield db.engine


TOUCH = "CREATE FUNCTION touch() RETURNS int LANGUAGE sql AS 'UPDATE users SET region = ''EU'' RETURNING 1'"  # noqa: E501


@pytest.fixture
def named(engine: Engine) -> Iterator[list[tuple[str, ...]]]:
    names: list[tuple[str, ...]] = []
    with engine.begin() as connection:
        connection.execute(update(User).values(region="US"))
    stop = watch_writes(db, lambda *tables: names.append(tables))
    yield names
    stop()


def region(engine: Engine) -> str | None:
    with engine.connect() as connection:
        return connection.scalar(select(User.region).limit(1))


TO_EU = update(User).values(region="EU")
MOVED = TO_EU.returning(User.id).cte("moved")


@pytest.mark.parametrize(
    ("statement", "tables"),
    [
        (select(MOVED.c.id), ("users",)),
        (select(func.count()).select_from(Order).add_cte(MOVED), ("users",)),
        (select(User).where(User.id.in_(select(MOVED.c.id))), ("users",)),
        (
            update(OrderLine).where(OrderLine.order_id == MOVED.c.id).values(quantity=1),
            ("order_lines", "users"),
        ),
        (
            insert(User).from_select(
                ["id", "username", "region", "email", "name"],
                select(MOVED.c.id + 100, MOVED.c.id.concat("x"), text("'EU', '', ''")),
            ),
            ("users",),
        ),
    ],
)
def test_a_write_in_a_cte(engine, named, statement, tables):
    with Session(engine) as session:
        session.execute(statement)
        session.commit()
    assert region(engine) == "EU"
    assert named == [tables]
    with engine.begin() as connection:
        connection.execute(delete(User).where(User.id > 5))


def test_the_second_phase_is_the_commit(engine, named):
    with engine.connect() as connection:
        transaction = connection.begin_twophase()
        connection.execute(TO_EU)
        transaction.prepare()
        assert (named, region(engine)) == ([], "US")
        transaction.commit()
        assert (named, region(engine)) == ([("users",)], "EU")


@pytest.mark.parametrize("prepared", [False, True])
def test_a_rollback_after_the_first_phase_forgets(engine, named, prepared):
    with engine.connect() as connection:
        transaction = connection.begin_twophase()
        connection.execute(TO_EU)
        if prepared:
            transaction.prepare()
        transaction.rollback()
        connection.execute(update(OrderLine).values(quantity=1))
        connection.commit()
    assert (named, region(engine)) == ([("order_lines",)], "US")


@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_a_session_of_two_engines_in_two_phases(engine, named, end):
    asked: list[str] = []
    other = create_engine(engine.url)
    with Session(binds={User: engine, OrderLine: other}, twophase=True) as session:
        session.execute(TO_EU)
        session.execute(update(OrderLine).values(quantity=1))
        after_root_commit(session, asked.append, "by hand")
        session.prepare()
        assert (named, asked, region(engine)) == ([], [], "US")
        getattr(session, end)()
    committed = end == "commit"
    assert sorted(named) == [("order_lines",), ("users",)] * committed
    assert asked == ["by hand"] * committed
    other.dispose()


# What remains.


def test_what_another_connection_has_prepared(engine, named):
    with engine.connect() as connection:
        transaction = connection.begin_twophase("prepared by somebody")
        connection.execute(TO_EU)
        transaction.prepare()
        connection.invalidate()  # as if its process had died
    with engine.connect() as connection:
        connection.commit_prepared("prepared by somebody", recover=True)
    assert (named, region(engine)) == ([], "EU")


def test_a_function_that_writes_and_a_view(engine, named):
    with engine.begin() as connection:
        connection.execute(select(func.touch()))
    assert (named, region(engine)) == ([], "EU")
    with Session(engine) as session:
        session.execute(text("SELECT touch()"))
        session.commit()
    assert named == []
