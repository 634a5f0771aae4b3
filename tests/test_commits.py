"""Invalidation waits for the root commit; and what was written is known, as far as can be."""

from __future__ import annotations

import contextlib
import datetime
import gc
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from sqlalchemy import (
    Connection,
    Engine,
    create_engine,
    delete,
    event,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

import labkit
from labkit import Lab
from labkit.cache.commits import EVERYTHING, after_root_commit, watch_writes
from labkit.shop import Order, OrderLine, User, db
from labkit.shop.app import prepare_engine


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def lab(request: pytest.FixtureRequest, own_data: None) -> Iterator[Lab]:
    with labkit.start("fake", request.param, users=50, orders=100) as started:
        yield started


@pytest.fixture
def session(lab: Lab) -> Iterator[Session]:
    with lab.app.app_context():
        move(db.session(), "US")
        db.session.execute(delete(User).where(User.id > 50))
        db.session.execute(delete(Order).where(Order.id > 100))
        db.session.commit()
        yield db.session()
        db.session.rollback()


@pytest.fixture
def calls(session: Session) -> list[tuple[str, ...]]:
    """The names of each call that followed a root commit, in order."""
    return []


@pytest.fixture
def record(calls: list[tuple[str, ...]]) -> Callable[..., None]:
    return lambda *names: calls.append(names)


def move(session: Session, region: str, user_id: int = 1) -> None:
    """Write; also on SQLite, a transaction is open from here on."""
    session.execute(update(User).filter_by(id=user_id).values(region=region))


def row(user_id: int) -> dict[str, Any]:
    return dict(id=user_id, username=f"user {user_id}", region="EU", email="", name="")


def new_user(user_id: int) -> User:
    return User(**row(user_id))


MOVE = "UPDATE users SET region = 'EU' WHERE id = 1"


def committed_region(session: Session) -> str | None:
    """What other connections see."""
    with db.engine.connect() as connection:
        region: str | None = connection.scalar(select(User.region).filter_by(id=1))
        return region


# after_root_commit


def test_it_is_called_once_after_the_commit(session, calls, record):
    move(session, "EU")
    after_root_commit(session, record, "users")
    assert calls == []
    session.commit()
    assert calls == [("users",)]
    move(session, "US")
    session.commit()
    assert calls == [("users",)]


def test_others_can_read_the_new_row_when_it_is_called(session):
    seen = []
    move(session, "EU")
    after_root_commit(session, lambda: seen.append(committed_region(session)))
    session.commit()
    assert seen == ["EU"]


def test_the_release_of_a_savepoint_is_not_the_commit(session, calls, record):
    move(session, "EU")
    with session.begin_nested(), session.begin_nested():
        move(session, "APAC")
        after_root_commit(session, record, "users")
    assert (calls, committed_region(session)) == ([], "US")
    session.commit()
    assert (calls, committed_region(session)) == ([("users",)], "APAC")


def test_bare_after_commit_takes_a_savepoint_for_the_commit(session):
    seen = []

    def look(session: Session) -> None:
        seen.append((session.in_nested_transaction(), committed_region(session)))

    event.listen(session, "after_commit", look)
    move(session, "EU")
    with session.begin_nested():
        move(session, "EU", user_id=2)
    session.commit()
    event.remove(session, "after_commit", look)
    assert seen == [(True, "US"), (False, "EU")]


def test_a_rolled_back_savepoint_does_not_forget_what_waited_before(session, calls, record):
    move(session, "EU")
    after_root_commit(session, record, "users")
    savepoint = session.begin_nested()
    after_root_commit(session, record, "orders")
    savepoint.rollback()
    session.commit()
    assert calls == [("users", "orders")]


@pytest.mark.parametrize("end", ["rollback", "close"])
def test_without_a_root_commit_nothing_is_called_not_even_later(session, calls, record, end):
    move(session, "EU")
    with session.begin_nested():
        after_root_commit(session, record, "users")
    getattr(session, end)()
    assert committed_region(session) == "US"
    move(session, "APAC")
    session.commit()
    assert calls == []


def test_a_commit_that_fails_calls_nothing(session, calls, record):
    after_root_commit(session, record, "users")
    session.add(User(id=1, username="twin", region="EU", email="", name=""))
    with pytest.raises(Exception, match=r"(?i)unique"):
        session.commit()
    session.rollback()
    assert calls == []


def test_it_may_be_asked_before_the_transaction_begins(session, calls, record):
    session.rollback()
    assert not session.in_transaction()
    after_root_commit(session, record, "users")
    move(session, "EU")
    session.commit()
    assert calls == [("users",)]


def test_names_are_gathered_for_each_callback(session, calls, record):
    others: list[str] = []
    for name in ("users", "orders", "users"):
        after_root_commit(session, record, name)
    after_root_commit(session, others.append, "lines")
    session.commit()
    assert (calls, others) == ([("users", "orders")], ["lines"])


def test_flask_sqlalchemys_scoped_session_will_do(session, calls, record):
    move(session, "EU")
    after_root_commit(db.session, record, "users")
    db.session.commit()
    assert calls == [("users",)]


def test_one_session_does_not_call_for_another(session, calls, record):
    after_root_commit(session, record, "users")
    with Session(session.get_bind()) as other:
        other.execute(select(1))
        other.commit()
    assert calls == []


def fail() -> None:
    raise ConnectionError("Redis is away")


def test_a_failing_callback_is_heard_the_commit_stands_the_others_are_called(
    session, calls, record
):
    move(session, "EU")
    after_root_commit(session, fail)
    after_root_commit(session, record, "users")
    with pytest.raises(ConnectionError, match="Redis is away"):
        session.commit()
    assert (calls, committed_region(session)) == ([("users",)], "EU")
    move(session, "APAC")
    session.commit()
    assert (calls, committed_region(session)) == ([("users",)], "APAC")


def test_a_callback_may_use_the_session_and_ask_again(session, calls, record):
    def write_more() -> None:
        move(session, "APAC")
        after_root_commit(session, record, "again")

    after_root_commit(session, write_more)
    session.commit()
    assert calls == []
    session.commit()
    assert (calls, committed_region(session)) == ([("again",)], "APAC")


# watch_writes


Watch = Callable[[Any, Callable[..., object]], Callable[[], None]]


@pytest.fixture
def watch() -> Iterator[Watch]:
    """`watch_writes`, stopped when the test is over."""
    with contextlib.ExitStack() as stops:

        def watch(sessions: Any, invalidate: Callable[..., object]) -> Callable[[], None]:
            stop = watch_writes(sessions, invalidate)
            stops.callback(stop)
            return stop

        yield watch


@pytest.fixture
def watched(watch: Watch, calls: list[tuple[str, ...]], record: Callable[..., None]) -> None:
    watch(db.session, record)


@pytest.mark.usefixtures("watched")
class TestWatchedWrites:
    def test_a_changed_attribute(self, session, calls):
        session.get(User, 1).region = "EU"
        session.commit()
        assert calls == [("users",)]

    def test_an_attribute_that_is_set_to_what_it_was(self, session, calls):
        user = session.get(User, 1)
        user.region = user.region
        session.commit()
        assert calls == []

    def test_reading(self, session, calls):
        session.scalars(select(Order)).unique().all()
        session.commit()
        assert calls == []

    def test_a_new_and_a_deleted_instance(self, session, calls):
        session.add(User(id=99, username="new", region="EU", email="", name=""))
        session.commit()
        session.delete(session.get(User, 99))
        session.commit()
        assert calls == [("users",), ("users",)]

    @pytest.mark.parametrize(
        ("statement", "table"),
        [
            (update(User).values(region="EU"), "users"),
            (update(User.__table__).values(region="EU"), "users"),
            (delete(OrderLine).where(OrderLine.quantity > 99), "order_lines"),
            (insert(Order).values(id=999, user_id=1, placed_on=None), "orders"),
        ],
    )
    def test_statements_that_no_object_in_the_session_shows(self, session, calls, statement, table):
        if statement.is_insert:
            statement = statement.values(placed_on=session.scalar(select(Order.placed_on).limit(1)))
        session.execute(statement)
        assert not session.dirty
        session.commit()
        assert calls == [(table,)]
        if statement.is_insert:
            session.execute(delete(Order).filter_by(id=999))

    def test_all_tables_of_a_transaction_at_once(self, session, calls):
        session.get(User, 1).region = "EU"
        with session.begin_nested():
            session.execute(update(OrderLine).values(quantity=1))
        assert calls == []
        session.commit()
        assert calls == [("users", "order_lines")]

    def test_an_update_by_an_expression(self, session, calls):
        session.scalars(select(OrderLine).limit(1)).one().quantity = OrderLine.quantity + 1
        session.commit()
        assert calls == [("order_lines",)]

    def test_an_update_that_returns_objects(self, session, calls):
        moved = update(User).filter_by(id=1).values(region="EU").returning(User)
        assert session.scalars(select(User).from_statement(moved)).one().region == "EU"
        session.commit()
        assert calls == [("users",)]

    @pytest.mark.parametrize(
        "write",
        [
            lambda session: session.bulk_save_objects([session.get(User, 1), new_user(98)]),
            lambda session: session.bulk_insert_mappings(User, [row(98), row(97)]),
            lambda session: session.bulk_update_mappings(User, [{"id": 1, "region": "EU"}]),
            lambda session: session.execute(insert(User).returning(User.id), [row(98), row(97)]),
            lambda session: session.execute(update(User), [{"id": 1, "region": "EU"}]),
            lambda session: session.connection().execute(update(User).values(region="EU")),
        ],
    )
    def test_bulk_calls_and_statements_on_the_connection(self, session, calls, write):
        write(session)
        session.commit()
        assert calls == [("users",)]

    def test_insert_from_select_and_upsert(self, session, calls):
        old = select(Order.id + 10_000, Order.user_id, Order.placed_on).where(Order.id == 1)
        session.execute(insert(Order).from_select(["id", "user_id", "placed_on"], old))
        own: dict[str, Any] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}
        twin = own[session.get_bind().dialect.name](User).values(**row(1))
        session.execute(twin.on_conflict_do_update(index_elements=["id"], set_={"region": "US"}))
        session.commit()
        assert calls == [("orders", "users")]

    @pytest.mark.parametrize(
        "write",
        [
            lambda session: session.execute(text(MOVE)),
            lambda session: session.connection().exec_driver_sql(MOVE),
        ],
    )
    def test_text_that_is_no_select_invalidates_everything_and_says_so_once(
        self, session, calls, write, caplog
    ):
        for _ in range(2):
            write(session)
            session.commit()
        assert calls == [(EVERYTHING,), (EVERYTHING,)]
        assert [each.getMessage() for each in caplog.records] == [
            f"SQL written by hand invalidates everything (said once): {MOVE}"
        ]

    def test_text_that_reads(self, session, calls, caplog):
        session.execute(text("SELECT id FROM users WHERE id = :id"), {"id": 1}).all()
        session.scalars(select(User).from_statement(text("SELECT * FROM users"))).all()
        session.connection().exec_driver_sql("SELECT 1")
        session.commit()
        assert (calls, caplog.records) == ([], [])

    def test_what_is_rolled_back_is_not_named_not_even_later(self, session, calls):
        session.execute(text(MOVE))
        session.rollback()
        session.add(User(**row(1)))
        with pytest.raises(IntegrityError):
            session.flush()
        session.rollback()
        session.execute(update(OrderLine).values(quantity=1))
        session.commit()
        assert calls == [("order_lines",)]

    def test_a_savepoint_that_is_rolled_back_costs_a_needless_miss(self, session, calls):
        session.execute(update(OrderLine).values(quantity=1))
        with session.begin_nested():
            savepoint = session.begin_nested()
            move(session, "EU")
            savepoint.rollback()
        session.commit()
        assert calls == [("order_lines", "users")]

    def test_a_connection_without_a_session(self, calls):
        with db.engine.connect() as connection:
            connection.execute(update(User).values(region="EU"))
            connection.rollback()
            connection.execute(update(OrderLine).values(quantity=2))
            assert calls == []
            connection.commit()
            assert calls == [("order_lines",)]
            connection.execute(select(1))
            connection.commit()
        assert calls == [("order_lines",)]

    def test_where_each_statement_is_committed_by_itself(self, calls):
        autocommit = db.engine.execution_options(isolation_level="AUTOCOMMIT")
        with autocommit.connect() as connection:
            connection.execute(update(User).values(region="EU"))
            assert calls == [("users",)]
            connection.rollback()
            connection.execute(update(OrderLine).values(quantity=2))
        with Session(autocommit) as session:
            session.get_one(User, 1).region = "APAC"
            session.flush()
            assert calls == [("users",), ("order_lines",), ("users",)]
            session.rollback()
        assert calls == [("users",), ("order_lines",), ("users",)]

    def test_a_commit_in_words(self, calls):
        with db.engine.connect() as connection:
            connection.execute(update(User).values(region="EU"))
            connection.execute(text("COMMIT"))
            assert calls == [("users", EVERYTHING)]
            connection.rollback()

    @pytest.mark.parametrize(
        ("mode", "after_session"),
        [
            ("conditional_savepoint", []),
            ("rollback_only", []),
            ("create_savepoint", []),
            ("control_fully", [("users",)]),
        ],
    )
    @pytest.mark.parametrize("end", ["commit", "rollback"])
    def test_a_session_in_a_transaction_of_its_connection(
        self, calls, record, mode, after_session, end
    ):
        asked: list[str] = []
        with db.engine.connect() as connection:
            connection.execute(select(1))
            connection.execute(update(User).filter_by(id=2).values(region="US"))
            with Session(connection, join_transaction_mode=mode) as session:
                move(session, "EU")
                after_root_commit(session, asked.append, "by hand")
                session.commit()
            assert calls == after_session
            if not after_session:
                assert asked == []
                getattr(connection, end)()
        told = end == "commit" or bool(after_session)
        assert calls == [("users",)] * told
        assert asked == ["by hand"] * told

    def test_a_connection_that_nobody_closes(self, session, calls):
        connection = db.engine.connect()
        connection.execute(update(User).values(region="EU"))
        del connection
        gc.collect()
        session.execute(update(OrderLine).values(quantity=2))
        session.commit()
        assert calls == [("order_lines",)]

    def test_two_connections_at_once(self, session, calls):
        if db.engine.dialect.name == "sqlite":
            session.execute(select(1))  # it has one writer at a time: this one only reads
        else:
            move(session, "EU")
        with db.engine.begin() as connection:
            connection.execute(update(OrderLine).values(quantity=2))
        assert calls == [("order_lines",)]
        session.commit()
        written = [("users",)] if db.engine.dialect.name != "sqlite" else []
        assert calls == [("order_lines",), *written]


def test_others_can_read_the_row_when_its_table_is_named(watch, session):
    seen = []
    watch(db, lambda *_: seen.append(committed_region(session)))
    move(session, "EU")
    session.commit()
    with db.engine.begin() as connection:
        connection.execute(update(User).values(region="APAC"))
    assert seen == ["EU", "APAC"]


def test_what_invalidate_raises_comes_out_of_the_commit(watch, session, calls, record):
    stop = watch(db, lambda *_: fail())
    watch(db, record)
    move(session, "EU")
    with pytest.raises(ConnectionError, match="Redis is away"):
        session.commit()
    assert (calls, committed_region(session)) == ([("users",)], "EU")
    with pytest.raises(ConnectionError), db.engine.begin() as connection:
        connection.execute(update(User).values(region="APAC"))
    assert committed_region(session) == "APAC"
    stop()
    move(session, "US")  # both the session and the pool's connections are as good as before
    session.commit()
    assert calls == 3 * [("users",)]


def test_under_autocommit_too_the_session_says_it_when_it_ends(watch, session):
    watch(db, lambda *_: fail())
    autocommit = db.engine.execution_options(isolation_level="AUTOCOMMIT")
    with Session(autocommit) as other:
        other.add_all([new_user(98), new_user(97)])
        other.flush()
        with pytest.raises(ConnectionError):
            other.commit()
        assert other.scalars(select(User.id).where(User.id > 50).order_by("id")).all() == [97, 98]


def test_an_engine_is_watched_alone_a_session_whatever_its_engines(watch, tmp_path, calls, record):
    first, second = (create_engine(f"sqlite:///{tmp_path / name}") for name in "ab")
    for engine in (first, second):
        db.metadata.create_all(engine)
    watch(first, record)
    stop = watch(Session, record)
    late = create_engine(f"sqlite:///{tmp_path / 'b'}")
    with Session(binds={User: first, Order: late}) as session:
        session.execute(insert(User), [row(1)])
        session.execute(delete(Order))
        session.commit()
    assert sorted(calls) == [("orders",), ("users",)]
    stop()
    with Session(binds={User: first, Order: second}) as session:
        session.execute(delete(User))
        session.execute(delete(Order))
        session.commit()
    assert sorted(calls) == [("orders",), ("users",), ("users",)]


def test_of_two_engines_the_one_is_named_that_has_committed(watch, tmp_path, calls, record):
    first, second = (create_engine(f"sqlite:///{tmp_path / name}") for name in "ab")
    for engine in (first, second):
        db.metadata.create_all(engine)
    watch(db, record)
    commits: list[Engine] = []

    def fail_the_second(connection: Connection) -> None:
        commits.append(connection.engine)
        if len(commits) == 2:
            fail()

    event.listen(first, "commit", fail_the_second)
    event.listen(second, "commit", fail_the_second)
    with Session(binds={User: first, Order: second}) as session:
        session.execute(insert(User), [row(1)])
        session.execute(delete(Order))
        with pytest.raises(ConnectionError):
            session.commit()
    assert calls == [("users",) if commits[0] is first else ("orders",)]


# What only SQLite does.


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    engine = create_engine(f"sqlite:///{tmp_path / 'file'}")
    prepare_engine(engine)
    db.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(insert(User), [row(1)])
    return engine


@pytest.fixture
def named(watch: Watch, engine: Engine) -> list[tuple[str, ...]]:
    """What is named of this engine's writes."""
    names: list[tuple[str, ...]] = []
    watch(engine, lambda *tables: names.append(tables))
    return names


def test_a_savepoint_that_comes_first_is_a_commit_and_is_taken_for_one(engine, named):
    with Session(engine) as session:
        with session.begin_nested():
            move(session, "EU")
        assert named == [("users",)]
        session.rollback()
        assert session.scalar(select(User.region)) == "EU"
    assert named == [("users",)]


def test_half_of_a_statement_for_many_rows_under_autocommit(engine, named):
    with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        with pytest.raises(IntegrityError):
            connection.execute(insert(User), [row(2), row(1), row(3)])
        connection.rollback()
        assert connection.scalars(select(User.id)).all() == [1, 2]
    assert named == [("users",)]


def test_a_session_whose_engine_is_a_mock_goes_on_as_without_labkit():
    connection = Mock(in_transaction=Mock(return_value=False))
    with Session(Mock(connect=Mock(return_value=connection))) as session:
        assert session.connection() is connection
        session.commit()
    connection.begin().commit.assert_called_once_with()


class Silent(sqlite3.Connection):
    """A driver that does not say whether a transaction is open."""

    def __getattribute__(self, name: str) -> Any:
        if name == "in_transaction":
            raise AttributeError(name)
        return super().__getattribute__(name)


def cannot_say(_: object) -> bool:
    raise NotImplementedError


def test_a_dialect_that_cannot_say_autocommit_waits_for_the_commit(watch, engine, monkeypatch):
    silent = create_engine(engine.url, connect_args={"factory": Silent})
    monkeypatch.setattr(silent.dialect, "detect_autocommit_setting", cannot_say)
    calls: list[str] = []
    watch(silent, calls.append)
    with silent.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        connection.execute(update(User).values(region="EU"))
        assert calls == []
        connection.commit()
        assert calls == ["users"]
        connection.execute(update(User).values(region="APAC"))
        connection.rollback()  # changes nothing, and that is not known
        assert connection.scalars(select(User.region)).all() == ["APAC"]
    assert calls == ["users"]


def test_where_a_commit_fails_nobody_knows_and_the_tables_are_named(engine, named):
    with engine.connect() as connection:
        connection.exec_driver_sql("BEGIN")
        connection.exec_driver_sql("PRAGMA defer_foreign_keys=ON")
        connection.execute(insert(Order).values(user_id=99, placed_on=datetime.date(2026, 1, 1)))
        with pytest.raises(IntegrityError, match="FOREIGN KEY"):
            connection.commit()
        connection.rollback()
    assert named == [("orders",)]


def test_a_pool_that_commits_what_is_returned_to_it(watch, tmp_path, engine, named):
    pool = create_engine(engine.url, pool_reset_on_return="commit")
    calls: list[str] = []
    watch(pool, calls.append)
    connection = pool.connect()
    connection.execute(update(User).values(region="EU"))
    del connection
    gc.collect()
    with engine.connect() as connection:
        assert connection.scalar(select(User.region)) == "EU"
    assert calls == ["users"]


def test_a_connection_that_is_lost_is_forgotten(engine, named):
    with engine.connect() as connection:
        connection.execute(update(User).values(region="EU"))
        connection.invalidate()
        connection.rollback()
        connection.execute(select(1))
        connection.commit()
    assert named == []


def test_open_connections_are_watched_too_until_it_is_told_to_stop(watch, engine, calls, record):
    with engine.connect() as connection:
        connection.execute(select(1))
        stop = watch(engine, record)
        watch(engine, calls.append)
        connection.execute(update(User).values(region="EU"))
        connection.commit()
        assert calls == [("users",), "users"]
        stop()
        stop()
        connection.execute(update(User).values(region="APAC"))
        connection.commit()
        assert calls == [("users",), "users", "users"]


def test_it_stops_when_it_is_told_to(watch, session, calls, record):
    watch(db.session, record)()
    move(session, "EU")
    session.commit()
    assert calls == []
