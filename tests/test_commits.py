"""Invalidation waits for the root commit; and what was written is known, as far as can be."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import delete, event, insert, select, update
from sqlalchemy.orm import Session

import labkit
from labkit import Lab
from labkit.cache.commits import after_root_commit, watch_writes
from labkit.shop import Order, OrderLine, User, db


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def lab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LABKIT_DATA", str(tmp_path_factory.mktemp("data")))
        with labkit.start("fake", request.param, users=50, orders=100) as started:
            yield started


@pytest.fixture
def session(lab: Lab) -> Iterator[Session]:
    with lab.app.app_context():
        move(db.session(), "US")
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


@pytest.fixture
def watched(calls: list[tuple[str, ...]], record: Callable[..., None]) -> Iterator[None]:
    stop = watch_writes(db.session, record)
    yield
    stop()


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


def test_it_stops_when_it_is_told_to(session, calls, record):
    watch_writes(db.session, record)()
    move(session, "EU")
    session.commit()
    assert calls == []
