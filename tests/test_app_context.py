"""What lesson 07 shows, on both databases: each broken version is broken, each mended one holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import event, select, update
from sqlalchemy.orm.exc import DetachedInstanceError

import labkit
from labkit import Lab
from labkit.cache.commits import after_root_commit
from labkit.lessons.exercises import Outcome, judge
from labkit.measure.plots import contexts
from labkit.measure.plots.contexts import Moment
from labkit.shop import User, create_app, db, users_by_region

KEY = "region:1"


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def lab(request: pytest.FixtureRequest, own_data: None) -> Iterator[Lab]:
    with labkit.start(database=request.param, users=50, orders=100) as started:
        yield started


@pytest.fixture
def app(lab: Lab) -> Flask:
    lab.redis.flushdb()
    move(lab, "LATAM")
    return lab.app


def move(lab: Lab, region: str) -> None:
    """Another request moves user 1."""
    with lab.app.app_context(), db.engine.begin() as connection:
        connection.execute(update(User).filter_by(id=1).values(region=region))


def committed_region(lab: Lab) -> str | None:
    with lab.app.app_context(), db.engine.connect() as connection:
        region: str | None = connection.scalar(select(User.region).filter_by(id=1))
        return region


def read_through(lab: Lab) -> str | None:
    if lab.redis.get(KEY) is None:
        lab.redis.set(KEY, committed_region(lab) or "", ex=300)
    stored: Any = lab.redis.get(KEY)
    return stored and str(stored.decode())


def in_a_thread(job: Callable[..., Any], *args: Any) -> Future[Any]:
    with ThreadPoolExecutor(max_workers=1) as pool:
        return pool.submit(job, *args)


# Contexts and sessions


def test_a_thread_has_no_context_and_a_view_has(app):
    def names() -> list[str]:
        return [user.username for user in users_by_region("LATAM", 2)]

    def names_in_a_context() -> list[str]:
        with app.app_context():
            return names()

    with app.app_context():
        here = names()
        there = in_a_thread(names)
        mended = in_a_thread(names_in_a_context)
    assert isinstance(there.exception(), RuntimeError)
    assert str(there.exception()).startswith("Working outside of application context")
    view = app.test_client().get("/users/LATAM?limit=2").get_json()
    assert here == mended.result() == [user["username"] for user in view]


def test_eight_jobs_have_eight_sessions(app):
    def session() -> Any:
        with app.app_context():
            assert db.session() is db.session()
            return db.session()

    with ThreadPoolExecutor(max_workers=4) as pool:
        sessions = [job.result() for job in [pool.submit(session) for _ in range(8)]]
    assert len(set(map(id, sessions))) == 8


def test_an_object_stays_as_it_was_read_and_columns_do_not(lab, app):
    query = select(User).filter_by(id=1)
    with app.app_context():
        user = db.session.scalars(query).one()
        move(lab, "EU")
        assert db.session.scalar(query) is user
        assert user.region == "LATAM"
        assert db.session.scalar(select(User.region).filter_by(id=1)) == "EU"
        db.session.scalar(query.execution_options(populate_existing=True))
        assert user.region == "EU"


def test_what_a_detached_instance_has_lost(app):
    with app.app_context():
        read = db.session.get(User, 1)
        assert read is not None
    with app.app_context():
        committed = db.session.get(User, 1)
        assert committed is not None
        db.session.commit()
        row = db.session.execute(select(User.id, User.name).filter_by(id=1)).one()
    assert in_a_thread(lambda: read.name).result() == row.name
    for job in (lambda: read.orders, lambda: committed.name):
        assert isinstance(in_a_thread(job).exception(), DetachedInstanceError)
    assert in_a_thread(lambda: row.name).result() == row.name


# Savepoints

Hook = Callable[[Any], None]


def savepoint_story(lab: Lab, hook: Hook, end: str = "commit") -> tuple[str | None, str | None]:
    """Write with a savepoint, read before the end; return the committed row and the entry."""
    read_through(lab)
    with lab.app.app_context():
        session = db.session()
        event.listen(session, "after_commit", hook)
        user = session.get(User, 1)
        assert user is not None
        user.region = "EU"
        session.flush()
        session.begin_nested().commit()
        read_through(lab)
        getattr(session, end)()
    return committed_region(lab), read_through(lab)


def once(lab: Lab, calls: list[str], waits: Callable[[Any], bool]) -> Hook:
    """Delete the entry at the first commit that does not have to wait."""

    def hook(session: Any) -> None:
        if not calls and not waits(session):
            calls.append("invalidated")
            lab.redis.delete(KEY)

    return hook


def test_invalidated_at_a_savepoints_release_the_entry_stays_stale(lab, app):
    hook = once(lab, [], waits=lambda session: False)
    assert savepoint_story(lab, hook) == ("EU", "LATAM")


def test_invalidated_at_the_root_commit_it_does_not(lab, app):
    hook = once(lab, [], waits=lambda session: session.in_nested_transaction())
    assert savepoint_story(lab, hook) == ("EU", "EU")


@pytest.mark.parametrize(("at_root", "expected"), [(False, ["invalidated"]), (True, [])])
def test_a_root_that_is_rolled_back_is_announced_at_a_release_only(lab, app, at_root, expected):
    calls: list[str] = []
    hook = once(lab, calls, waits=lambda session: at_root and session.in_nested_transaction())
    assert savepoint_story(lab, hook, end="rollback") == ("LATAM", "LATAM")
    assert calls == expected


def test_with_the_sqlite3_driver_a_savepoint_that_comes_first_is_a_commit(lab, app):
    # Why the lesson writes before its savepoint. A PostgreSQL savepoint is what it says.
    with app.app_context():
        with db.session.begin_nested():
            db.session.execute(update(User).filter_by(id=1).values(region="EU"))
        released = committed_region(lab)
        db.session.rollback()
        expected = "EU" if db.engine.dialect.name == "sqlite" else "LATAM"
    assert (released, committed_region(lab)) == (expected, expected)


def test_labkits_own_passes_as_an_answer_to_the_exercise():
    assert judge("07.3", after_root_commit)[0] is Outcome.RIGHT


@pytest.mark.parametrize(
    ("exercise", "answer"),
    [
        ("07.1", lambda app, job: lambda *args: unfinished()),
        ("07.3", lambda session, callback: event.listen(session, "after_commit", unfinished)),
    ],
)
def test_what_an_answer_raises_later_is_told_to_the_learner(exercise, answer):
    outcome, message = judge(exercise, answer)
    assert outcome is Outcome.RAISED
    assert message.startswith("your code raised NotImplementedError, in a ")


def test_why_a_listener_that_removes_itself_fails_is_told_too():
    def removing_itself(session, callback):
        def ended(session, transaction):
            event.remove(session, "after_transaction_end", ended)

        event.listen(session, "after_transaction_end", ended)

    outcome, message = judge("07.3", removing_itself)
    assert outcome is Outcome.RAISED
    assert "No listener can be removed while its event is under way" in message


def test_what_a_listener_raises_at_the_end_of_the_session_is_told_too():
    def after_every_end(session, callback):
        ended: list[object] = []

        def end(session, transaction):
            ended.append(callback) if not ended else unfinished()

        event.listen(session, "after_commit", lambda session: callback())
        event.listen(session, "after_transaction_end", end)

    assert judge("07.3", after_every_end)[0] is Outcome.RAISED


def unfinished(*_: object) -> None:
    raise NotImplementedError  # and no word more


# Bulk updates


def test_no_object_shows_a_bulk_update(app):
    with app.app_context():
        user = db.session.get(User, 1)
        db.session.execute(update(User).values(region="EU"))
        assert (list(db.session.dirty), user and user.region) == ([], "EU")
        db.session.rollback()


# A view and the query beneath it


@pytest.mark.parametrize(("key", "basket"), [("path", "basket-1"), ("no cache", "basket-2")])
def test_a_cached_response_hands_out_a_cookie_again(lab, key, basket):
    app = create_app(lab.app.config["SQLALCHEMY_DATABASE_URI"])
    stored: dict[str, Any] = {}

    @app.get("/welcome/")
    def welcome() -> Any:
        from flask import make_response, request

        def view() -> Any:
            response = make_response("Hello!")
            response.set_cookie("basket", f"basket-{request.cookies['user_id']}")
            return response

        return stored.setdefault(request.path, view()) if key == "path" else view()

    got = []
    for user_id in "12":
        client = app.test_client()
        client.set_cookie("user_id", user_id)
        client.get("/welcome/")
        cookie = client.get_cookie("basket")
        got.append(cookie and cookie.value)
    assert got == ["basket-1", basket]


# The picture

BEFORE = Moment("writer", "UPDATE", True, False, "US", "US")
RELEASED = Moment("writer", "RELEASE", True, False, "US", None)
READ = Moment("reader", "reads", True, False, "US", "US")
COMMITTED = Moment("writer", "COMMIT", False, False, "EU", "US")
MENDED = COMMITTED._replace(entry=None)


@pytest.mark.parametrize(
    ("moments", "title"),
    [
        (
            [BEFORE, RELEASED, READ, COMMITTED],
            "The entry goes at RELEASE (2): stale from COMMIT (4) on",
        ),
        (
            [BEFORE, RELEASED, READ, MENDED],
            "The entry goes at RELEASE (2) and COMMIT (4): nothing stale remains",
        ),
        ([BEFORE, READ, MENDED], "The entry goes at COMMIT (3): nothing stale remains"),
        ([BEFORE, READ, COMMITTED], "The entry never goes: stale from COMMIT (3) on"),
        ([BEFORE], "The entry never goes: nothing stale remains"),
        ([RELEASED, MENDED], "No entry: nothing stale remains"),
    ],
)
def test_the_title_states_what_the_moments_show(moments, title):
    assert contexts._title(moments) == title
