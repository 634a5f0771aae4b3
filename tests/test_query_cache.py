"""QueryCache: what it serves, what it stores, what it refuses, and in how many commands."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import pytest
from flask import Flask, g, has_app_context
from sqlalchemy import (
    Column,
    ForeignKey,
    Integer,
    MetaData,
    Table,
    create_engine,
    delete,
    event,
    func,
    select,
    text,
    update,
)
from sqlalchemy.orm import Session, scoped_session, sessionmaker, with_loader_criteria

import labkit
from labkit.cache import (
    NotCacheable,
    QueryCache,
    SettingsError,
    answers,
    reads,
    signals,
)
from labkit.cache.loading import SingleFlight, wait_for_lease
from labkit.cache.writes import tables_written
from labkit.lab import Lab
from labkit.shop import Order, OrderLine, User, db
from tests.caches import PATIENT, PATIENT_APP, Counted, cached, opened_cache

USERS = 50
EU = select(func.count(User.id)).where(User.region == "EU")


@pytest.fixture(scope="module", params=["server", "wheel", "fake"])
def lab(request: pytest.FixtureRequest, own_data: None) -> Iterator[Lab]:
    with labkit.start(request.param, users=USERS, orders=100) as lab:
        lab.app.config.update(PATIENT_APP)
        yield lab


@pytest.fixture
def cache(lab: Lab) -> Iterator[QueryCache]:
    lab.redis.flushdb()
    with opened_cache(lab, lab.redis) as cache:
        yield cache


def in_eu() -> int:
    return int(db.session.scalars(EU).one())


def move(region: str = "EU", user_id: int = 1) -> None:
    db.session.execute(update(User).where(User.id == user_id).values(region=region))


# What it costs.


def commands(lab: Lab, function: Callable[[], Any]) -> dict[str, int]:
    """Return which commands the server was sent meanwhile, by its own count."""
    lab.redis.config_resetstat()
    function()
    counts = lab.redis.info("commandstats")
    sent = {name.removeprefix("cmdstat_"): each["calls"] for name, each in counts.items()}
    return {name: sent[name] for name in ("mget", "eval", "evalsha", "script|load") if name in sent}


def test_a_hit_is_one_command(lab, cache):
    if not lab.server.is_real:
        pytest.skip("fakeredis counts no commands")
    counted = Counted()
    function = cached(cache, counted, tags=["users", "orders", "products"])
    function()

    assert commands(lab, lambda: [function() for _ in range(10)]) == {"mget": 10}
    assert (counted.calls, cache.stats.hits, cache.stats.misses) == (1, 10, 1)


def test_a_miss_is_three(lab, cache):
    if not lab.server.is_real:
        pytest.skip("fakeredis counts no commands")
    function = cached(cache, Counted(), tags=["users", "orders", "products"])

    assert commands(lab, function) == {"mget": 1, "eval": 2}
    cache.invalidate("orders")
    assert commands(lab, function) == {"mget": 1, "eval": 2}


def test_an_invalidation_is_one_of_any_number_of_tags(lab, cache):
    if not lab.server.is_real:
        pytest.skip("fakeredis counts no commands")
    tags = [f"tag{number}" for number in range(50)]
    functions = [cached(cache, Counted(), tags=[tag], name=tag) for tag in tags]
    for function in functions:
        function()

    assert commands(lab, lambda: cache.invalidate(*tags)) == {"eval": 1}
    cache.stats.reset()
    for function in functions:
        function()
    assert (cache.stats.hits, cache.stats.misses) == (0, 50)


def test_a_hundred_threads_that_miss_load_once(lab, cache):
    everybody = threading.Barrier(100)
    counted = Counted()
    function = cached(cache, counted)

    def ask(_: int) -> Any:
        everybody.wait(timeout=30)
        return function()

    with ThreadPoolExecutor(100) as pool:
        answers = list(pool.map(ask, range(100)))

    assert (answers, counted.calls) == (["answer"] * 100, 1)


# What it serves.


@pytest.mark.parametrize("answer", [None, [], {}, 0, "", False, [{"id": 1, "name": None}]])
def test_every_answer_is_stored_nothing_included(cache, answer):
    counted = Counted(lambda: answer)
    function = cached(cache, counted)

    assert [function() for _ in range(3)] == [answer] * 3
    assert counted.calls == 1


def test_an_exception_is_raised_and_not_stored(cache):
    answers = [ValueError("first"), "second"]

    def answer() -> str:
        match answers.pop(0):
            case Exception() as error:
                raise error
            case text:
                return str(text)

    counted = Counted(answer)
    function = cached(cache, counted)

    with pytest.raises(ValueError, match="first"):
        function()
    assert [function(), function(), counted.calls] == ["second", "second", 2]


class Joined(SingleFlight):
    """Says when a caller leads or has joined."""

    def __init__(self) -> None:
        super().__init__()
        self.callers = threading.Semaphore(0)

    def do(self, key: str, load: Callable[[], Any], *_: Any, **options: Any) -> Any:
        return super().do(key, load, self.callers.release, **options)


def test_who_waits_for_a_load_that_fails_loads_for_itself(cache):
    flights, first = Joined(), threading.Lock()
    cache._flights = flights

    def answer() -> str:
        if first.acquire(blocking=False):
            for _ in range(2):
                assert flights.callers.acquire(timeout=30)
            raise ValueError("the first one's own")
        return "answer"

    function = cached(cache, Counted(answer))
    everybody = threading.Barrier(2)

    def ask(_: int) -> Any:
        try:
            return function()
        except ValueError as error:
            return str(error)

    def look_before_anybody_loads(*_: Any, **__: Any) -> None:
        everybody.wait(timeout=30)

    with (
        signals.miss.connected_to(look_before_anybody_loads, sender=cache),
        ThreadPoolExecutor(2) as pool,
    ):
        answers = sorted(pool.map(ask, range(2)))

    assert answers == ["answer", "the first one's own"]


def test_those_who_miss_at_once_in_a_process_ask_redis_for_one_lease(cache, monkeypatch):
    flights, everybody = Joined(), threading.Barrier(20)
    cache._flights = flights
    asked: list[str] = []

    def count_and_wait(client: Any, key: str, *args: Any, **options: Any) -> Any:
        asked.append(key)
        return wait_for_lease(client, key, *args, **options)

    def answer() -> str:
        assert all(flights.callers.acquire(timeout=30) for _ in range(20))
        return "answer"

    def look_before_anybody_loads(*_: Any, **__: Any) -> None:
        everybody.wait(timeout=30)

    monkeypatch.setattr(answers, "wait_for_lease", count_and_wait)
    function = cached(cache, Counted(answer))
    with (
        signals.miss.connected_to(look_before_anybody_loads, sender=cache),
        ThreadPoolExecutor(20) as pool,
    ):
        assert list(pool.map(lambda _: function(), range(20))) == ["answer"] * 20

    assert (len(asked), cache.stats.waits) == (1, 19)


def test_what_a_caller_does_to_a_result_does_not_reach_the_next(cache):
    function = cached(cache, Counted(lambda: [{"id": 1, "tags": ["a"]}]))

    for _ in range(3):
        rows = function()
        assert rows == [{"id": 1, "tags": ["a"]}]
        rows[0]["tags"].append("b")
        rows.append("mine")


def test_threads_that_share_a_load_share_no_object(lab, cache):
    everybody = threading.Barrier(20)
    function = cached(cache, Counted(lambda: [[]]))

    def ask(_: int) -> Any:
        everybody.wait(timeout=30)
        return function()

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(ask, range(20)))

    assert len({id(each) for each in answers}) == len({id(each[0]) for each in answers}) == 20


def test_a_ttl_is_demanded_and_jittered(lab, cache):
    for ttl in (0, -1, float("nan"), 10**9):
        with pytest.raises(ValueError, match="TTL"):
            cache.query(ttl=ttl)(in_eu)
    with pytest.raises(TypeError):
        cache.query()(in_eu)
    with pytest.raises(TypeError):
        cache.query(ttl=None)(in_eu)
    for number in range(20):
        cached(cache, Counted(), ttl=1000, name=f"f{number}")()

    lives = [lab.redis.pttl(key) for key in lab.redis.keys("*:v1:f*")]
    assert len(lives) == 20
    assert all(890_000 < life <= 1_000_000 for life in lives)
    assert len(set(lives)) > 10


def test_a_function_that_can_have_no_key_is_refused_where_it_is_decorated(cache):
    async def coroutine() -> None: ...

    def generator() -> Iterator[int]:
        yield 1

    for function in (lambda: 1, coroutine, generator):
        with pytest.raises(TypeError):
            cache.query(ttl=60)(function)
    with pytest.raises(ValueError, match="no parameter 'session'"):
        cache.query(ttl=60, ignore=["session"])(in_eu)
    with pytest.raises(TypeError, match=r"write \('session',\)"):
        cache.query(ttl=60, ignore="session")(in_eu)
    with pytest.raises(TypeError, match=r"write \('users',\)"):
        cache.query(ttl=60, tags="users")(in_eu)


def test_an_argument_without_a_key_goes_to_the_database(
    cache: QueryCache, caplog: pytest.LogCaptureFixture
) -> None:
    @cache.query(ttl=60, tags=["users"], name="by_object")
    def by_object(thing: object) -> str:
        return "answer"

    assert [by_object(object()) for _ in range(2)] == ["answer"] * 2
    assert dict(cache.stats.bypasses) == {"no key": 2}
    assert len([each for each in caplog.messages if "by_object is not cached" in each]) == 1


def test_a_value_that_cannot_be_stored_is_returned(cache, caplog):
    thing = object()
    function = cached(cache, Counted(lambda: thing))

    assert [function(), function()] == [thing, thing]
    assert dict(cache.stats.refused_fills) == {"not storable": 2}
    assert "cannot be stored" in caplog.text or "is not cached" in caplog.text


class Shop:
    def __init__(self, name: str) -> None:
        self.name = name


def test_a_method_with_its_object_ignored(cache: QueryCache) -> None:
    counted = Counted()

    class Reports:
        @cache.query(ttl=60, ignore=["self"], name="Reports.of")
        def of(self, region: str) -> Any:
            return [region, counted()]

    reports = Reports()
    assert reports.of("EU") == Reports().of("EU") == reports.of(region="EU") == ["EU", "answer"]
    assert counted.calls == 1
    cache.forget(reports.of, "EU")
    reports.of("EU")
    assert counted.calls == 2


# Statements.


def test_rows_are_plain(cache):
    two = select(User.id, User.region).where(User.id < 3).order_by(User.id)

    for _ in range(2):
        rows = cache.rows(two, ttl=60)
        assert rows == [{"id": 1, "region": "US"}, {"id": 2, "region": "US"}]
        assert {type(row) for row in rows} == {dict}
    assert (cache.stats.hits, cache.stats.misses) == (1, 1)


def test_values_of_a_statement_are_in_its_key(cache):
    def of(user_id: int, **options: Any) -> Any:
        return cache.rows(select(User.id).where(User.id == user_id), ttl=60, **options)

    assert of(1) == [{"id": 1}]
    assert of(2) == [{"id": 2}]
    by_name = select(User.id).where(User.id == text(":wanted").bindparams(wanted=3))
    assert cache.rows(by_name, ttl=60, trusted={":wanted": ()}) == [{"id": 3}]


def test_parameters_are_too(cache):
    from sqlalchemy import bindparam

    wanted = select(User.id).where(User.id == bindparam("wanted"))

    for user_id in (1, 2, 1, 2):
        assert cache.rows(wanted, ttl=60, params={"wanted": user_id}) == [{"id": user_id}]
    assert (cache.stats.hits, cache.stats.misses) == (2, 2)


@pytest.mark.parametrize("statement", [select(User), select(User, Order.id), select(User.id, User)])
def test_whole_entities_are_refused_and_lesson_03_is_named(cache, statement):
    with pytest.raises(NotCacheable, match="lesson 03"):
        cache.rows(statement, ttl=60)


def test_two_columns_of_one_name_are_both_there(cache):
    both = select(User.id, Order.id).join(Order, Order.user_id == User.id).order_by(Order.id)

    assert next(set(row) for row in cache.rows(both, ttl=60)) == {"id", "id_1"}
    assert cache.rows(both, ttl=60) == [dict(row) for row in db.session.execute(both).mappings()]


def test_a_statement_without_a_key_is_run(cache):
    now = select(func.now().label("now"))

    assert cache.rows(now, ttl=60)[0]["now"] is not None
    assert dict(cache.stats.bypasses) == {"function now()": 1}


def test_a_write_to_any_table_that_a_statement_reads_invalidates_it(cache):
    theirs = select(Order.id).join(User, Order.user_id == User.id).where(User.region == "EU")
    sold = select(func.sum(OrderLine.quantity).label("sold")).where(OrderLine.order_id.in_(theirs))
    assert cache.rows(sold, ttl=60) == [{"sold": None}]
    db.session.execute(update(User).values(region="EU"))
    db.session.commit()

    assert cache.rows(sold, ttl=60)[0]["sold"] > 0
    assert cache.stats.hits == 0


# Tables by other names.


def test_an_author_may_name_a_table_in_capitals(cache):
    counted = Counted(in_eu)
    function = cached(cache, counted, tags=["USERS", "users", "Everybody"])
    assert [function(), function(), counted.calls] == [0, 0, 1]
    move()
    db.session.commit()
    assert [function(), counted.calls] == [1, 2]
    cache.invalidate("everybody")
    assert [function(), counted.calls] == [1, 3]


@pytest.mark.parametrize("schema", [None, "public"])
@pytest.mark.parametrize("is_copied", [False, True])
def test_a_foreign_key_is_followed_whatever_schema_it_names(schema, is_copied):
    metadata = MetaData()
    owners = Table("owners", metadata, Column("id", Integer, primary_key=True), schema=schema)
    other = "owners.id" if schema else "public.owners.id"
    Table("owned", metadata, Column("id", ForeignKey(other, ondelete="CASCADE")))
    if is_copied:
        Table("owners", metadata, Column("id", Integer), schema=None if schema else "public")
    compiled = delete(owners).compile()

    assert tables_written(str(compiled), compiled) == {"owners", "owned"}


# Writes.


def write_by_flush() -> None:
    db.session.get_one(User, 1).region = "EU"


def write_in_bulk() -> None:
    move()


def write_by_text() -> None:
    db.session.execute(text("UPDATE users SET region = 'EU' WHERE id = 1"))


@pytest.mark.parametrize("write", [write_by_flush, write_in_bulk, write_by_text])
def test_a_commit_invalidates_by_table(cache, write):
    function = cached(cache, Counted(in_eu), tags=["users"])
    other = cached(cache, Counted(lambda: "other"), tags=["orders"], name="other")
    assert (function(), other()) == (0, "other")
    write()
    db.session.commit()
    cache.stats.reset()

    assert (function(), other()) == (1, "other")
    assert cache.stats.misses == (2 if write is write_by_text else 1)


@pytest.mark.parametrize("write", [write_by_flush, write_in_bulk, write_by_text])
def test_a_rollback_invalidates_nothing(cache, write):
    function = cached(cache, Counted(in_eu))
    function()
    write()
    db.session.flush()
    db.session.rollback()

    assert (function(), cache.stats.hits) == (0, 1)


@pytest.mark.parametrize("write", [write_by_flush, write_in_bulk, write_by_text])
def test_a_request_with_writes_of_its_own_reads_them_and_stores_nothing(lab, cache, write):
    function = cached(cache, Counted(in_eu))
    rows = lambda: cache.rows(EU.add_columns(func.max(User.id).label("most")), ttl=60)  # noqa: E731
    assert (function(), rows()[0]["count"]) == (0, 0)
    before = set(lab.redis.keys())
    write()

    assert (function(), rows()[0]["count"]) == (1, 1)
    assert dict(cache.stats.bypasses) == {"writes are pending": 2}
    db.session.flush()
    assert (function(), rows()[0]["count"]) == (1, 1)
    assert set(lab.redis.keys()) == before
    db.session.rollback()
    assert (function(), rows()[0]["count"]) == (0, 0)


def test_a_load_that_reads_uncommitted_rows_of_its_own_connection_is_not_stored(cache):
    with db.engine.connect() as connection:

        def answer() -> int:
            return int(connection.execute(EU).scalar_one())

        function = cached(cache, Counted(answer))
        connection.execute(update(User).where(User.id == 1).values(region="EU"))
        assert function() == 1
        connection.rollback()

    assert dict(cache.stats.refused_fills) == {"its own writes are not committed": 1}


def test_a_load_that_writes_is_not_stored(cache):
    def answer() -> int:
        move()
        db.session.commit()
        return in_eu()

    counted = Counted(answer)
    function = cached(cache, counted)

    assert [function(), function()] == [1, 1]
    assert counted.calls == 2


def test_a_write_that_comes_during_the_load_keeps_the_answer_out(lab, cache):
    def answer() -> int:
        count = in_eu()
        with db.engine.begin() as other:
            other.execute(update(User).where(User.id == 1).values(region="EU"))
        return count

    counted = Counted(answer)
    function = cached(cache, counted)
    function()

    assert (function(), counted.calls) == (1, 2)
    assert cache.stats.refused_fills.total() == 2


def test_nobody_waits_for_a_load_that_a_write_has_overtaken(lab, cache):
    other = QueryCache(lab.redis, namespace="shop", **PATIENT)  # of another process
    asked: list[str] = []

    def answer() -> str:
        asked.append("first")
        cache.invalidate("users")
        asked.append(cached(other, Counted(lambda: "second"))())
        return "first"

    function = cached(cache, Counted(answer))
    try:
        assert function() == "first"
        assert (asked, other.stats.waits) == (["first", "second"], 0)
        assert (function(), cache.stats.hits) == ("second", 1)
    finally:
        other.close()


def test_forgetting_during_the_load_keeps_the_answer_out(cache):
    truth = ["old"]

    def answer() -> str:
        read = truth[0]
        if read == "old":
            truth[0] = "new"  # by somebody whom the cache does not see, and who says so:
            cache.forget(function)
        return read

    function = cached(cache, Counted(answer))

    assert [function(), function(), function()] == ["old", "new", "new"]
    assert cache.stats.hits == 1


def test_forgetting_removes_one_entry(cache: QueryCache) -> None:
    counted = Counted()

    @cache.query(ttl=60, name="of")
    def of(region: str) -> Any:
        return [region, counted()]

    of("EU"), of("US")
    cache.forget(of, region="EU")
    of("EU"), of("US")
    assert counted.calls == 3
    with pytest.raises(TypeError, match="not cached"):
        cache.forget(in_eu)


def test_what_an_older_transaction_reads_is_not_stored(lab, cache):
    function = cached(cache, Counted(in_eu))
    db.session.execute(text("BEGIN"))  # from its first read on, SQLite shows what was there then
    assert in_eu() == 0
    with db.engine.begin() as other:
        other.execute(update(User).where(User.id == 1).values(region="EU"))

    assert function() == 0  # as this transaction sees it
    assert dict(cache.stats.bypasses) == {"an older transaction": 1}
    db.session.rollback()
    assert function() == 1


# Tags that nobody has named.


def test_the_tables_that_a_function_reads_become_its_tags(cache):
    counted = Counted(in_eu)
    function = cached(cache, counted, tags=())

    assert [function() for _ in range(3)] == [0, 0, 0]
    assert counted.calls == 2  # the first load has only found them out
    assert dict(cache.stats.refused_fills) == {"tables that were not known": 1}
    move()
    db.session.commit()
    assert (function(), counted.calls) == (1, 3)


def test_a_tag_that_was_forgotten_is_added_and_said_once(cache, caplog):
    function = cached(cache, Counted(in_eu), tags=["regions"], name="forgetful")
    for _ in range(3):
        function()
    move()
    db.session.commit()

    assert function() == 1
    assert len([m for m in caplog.messages if "forgetful reads users: name them" in m]) == 1


def test_by_table_can_be_declined(cache):
    counted = Counted(in_eu)
    function = cached(cache, counted, tags=["report"], by_table=False)
    function()
    move()
    db.session.commit()

    assert (function(), counted.calls) == (0, 1)
    cache.invalidate("report")
    assert (function(), counted.calls) == (1, 2)


def test_text_without_tags_is_not_stored(cache):
    def answer() -> int:
        return int(db.session.scalar(text("SELECT count(*) FROM users WHERE region = 'EU'")))

    counted = Counted(answer)
    bare, tagged = cached(cache, counted, tags=()), cached(cache, counted, name="tagged")

    assert [bare(), bare(), tagged(), tagged()] == [0] * 4
    assert counted.calls == 3
    assert dict(cache.stats.refused_fills) == {"text without tags": 2}


def test_an_entry_made_of_another_entry_has_its_tags_too(cache):
    inner = cached(cache, Counted(in_eu), tags=["users"], name="inner")
    outer = cached(cache, Counted(lambda: ["outer", inner()]), tags=["orders"], name="outer")
    for _ in range(3):
        assert outer() == ["outer", 0]
    cache.stats.reset()
    assert outer() == ["outer", 0]
    assert cache.stats.hits == 1
    move()
    db.session.commit()

    assert outer() == ["outer", 1]


def test_an_entry_made_of_an_entry_that_was_there_has_its_tags_too(cache):
    inner = cached(cache, Counted(in_eu), tags=["users"], name="inner")
    outer = cached(cache, Counted(lambda: ["outer", inner()]), tags=["orders"], name="outer")
    inner()
    for _ in range(3):
        assert outer() == ["outer", 0]
    move()
    db.session.commit()

    assert outer() == ["outer", 1]


def test_two_databases_share_no_rows(lab, cache, tmp_path):
    other = create_engine(f"sqlite:///{tmp_path}/other.sqlite")
    User.__table__.create(other)
    of_other = QueryCache(lab.redis, session=Session(other), namespace=cache.namespace, **PATIENT)
    ids = select(User.id).where(User.id == 1)
    try:
        assert cache.rows(ids, ttl=60) == [{"id": 1}]
        assert of_other.rows(ids, ttl=60) == []
    finally:
        of_other.close()
        other.dispose()


# What no argument shows.


def test_a_context_is_part_of_every_key(lab):
    lab.redis.flushdb()
    with lab.app.app_context():
        cache = QueryCache()
        cache.init_app(lab.app, db, lambda: g.get("tenant"), client=lab.redis)
        function = cached(cache, Counted(lambda: g.get("tenant")))
        one = select(User.id).where(User.id == 1)
        answers = []
        for tenant in ("a", "b", None, "a", "b", None):
            g.tenant = tenant
            answers.append(function())
            cache.rows(one, ttl=60)
        cache.close()

    assert answers == ["a", "b", None] * 2
    assert (cache.stats.hits, cache.stats.misses) == (6, 6)


def only_mine(state: Any) -> None:
    state.statement = state.statement.options(
        with_loader_criteria(User, User.id == (g.get("tenant") or 1))
    )


def test_a_listener_without_a_context_is_said_once_and_nothing_is_cached(cache, caplog):
    event.listen(db.session, "do_orm_execute", only_mine)
    try:
        function = cached(cache, Counted(lambda: db.session.scalars(select(User.id)).all()[0]))
        ids = select(User.id)
        for tenant in (1, 2, 1):
            g.tenant = tenant
            assert function() == tenant
            assert cache.rows(ids, ttl=60) == [{"id": tenant}]
    finally:
        event.remove(db.session, "do_orm_execute", only_mine)

    assert dict(cache.stats.bypasses) == {"a listener without a context": 6}
    assert len([each for each in caplog.messages if "Give init_app context=" in each]) == 1


def test_a_hit_makes_no_session_where_there_is_none_yet(lab, cache):
    function = cached(cache, Counted())
    function()
    with lab.app.app_context():
        assert function() == "answer"
        assert not db.session.registry.has()

    assert cache.stats.hits == 1


def test_a_listener_is_heeded_where_there_is_no_session_yet(lab, cache):
    function = cached(cache, Counted())
    function()
    event.listen(db.session, "do_orm_execute", only_mine)  # after the cache was opened
    try:
        with lab.app.app_context():
            function()
            assert not db.session.registry.has()
    finally:
        event.remove(db.session, "do_orm_execute", only_mine)

    assert dict(cache.stats.bypasses) == {"a listener without a context": 1}


class Listening(Session):
    """A session that begins with a listener of its own."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        if g.get("tenant"):
            event.listen(self, "do_orm_execute", only_mine)


@pytest.mark.parametrize("make", [sessionmaker(class_=Listening), Listening, lambda: Listening()])
def test_sessions_that_begin_with_a_listener_of_their_own_are_made_and_heeded(lab, make):
    session = scoped_session(make, scopefunc=lambda: id(g._get_current_object()))
    assert reads.unused_session(session) is None
    lab.redis.flushdb()
    with lab.app.app_context(), closing(QueryCache(lab.redis, session=session, **PATIENT)) as cache:
        function = cached(cache, Counted())
        function()
        with lab.app.app_context():
            g.tenant = 1
            function()

    assert dict(cache.stats.bypasses) == {"a listener without a context": 1}


def test_with_a_context_a_listener_is_heeded(lab):
    lab.redis.flushdb()
    with lab.app.app_context():
        event.listen(db.session, "do_orm_execute", only_mine)
        cache = QueryCache()
        cache.init_app(lab.app, db, lambda: g.get("tenant"), client=lab.redis)
        try:
            for tenant in (1, 2, 1, 2):
                g.tenant = tenant
                assert cache.rows(select(User.id), ttl=60) == [{"id": tenant}]
        finally:
            event.remove(db.session, "do_orm_execute", only_mine)
            cache.close()

    assert (cache.stats.hits, cache.stats.misses) == (2, 2)


def test_it_works_outside_of_an_application_context(lab, cache):
    counted = Counted()
    function = cached(cache, counted)

    def outside() -> Any:
        assert not has_app_context()
        return function()

    with ThreadPoolExecutor(1) as pool:
        assert [pool.submit(outside).result() for _ in range(3)] == ["answer"] * 3
    assert counted.calls == 1


# Signals.


def test_signals_say_what_happens_and_a_listener_that_raises_breaks_nothing(cache, caplog):
    said: list[tuple[str, str]] = []
    names = ("hit", "miss", "bypass", "wait", "fill_refused", "invalidated", "error")
    listeners = []
    for name in names:

        def listen(sender: Any, which: str = name, **about: Any) -> None:
            said.append((which, str(about.get("reason", ""))))
            raise RuntimeError("a listener's own")

        getattr(signals, name).connect(listen, sender=cache)
        listeners.append(listen)
    function = cached(cache, Counted())
    function(), function()
    cache.invalidate("users")
    write_by_flush()
    function()

    assert said == [
        ("miss", ""), ("hit", ""), ("invalidated", ""), ("bypass", "writes are pending"),
    ]  # fmt: skip
    assert "a listener of querycache-hit has failed" in caplog.text


# Settings.


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "QUERY_CACHE_URL is missing"),
        ({"QUERY_CACHE_URL": "nonsense"}, "QUERY_CACHE_URL is no URL"),
        ({"QUERY_CACHE_TIMEOUT_MS": 0}, "QUERY_CACHE_TIMEOUT_MS"),
        ({"QUERY_CACHE_TIMEOUT_MS": 0.25}, "QUERY_CACHE_TIMEOUT_MS"),
        ({"QUERY_CACHE_TIMEOUT_MS": True}, "QUERY_CACHE_TIMEOUT_MS"),
        ({"QUERY_CACHE_LEASE_MS": "10"}, "QUERY_CACHE_LEASE_MS"),
        ({"QUERY_CACHE_JITTER": 1}, "QUERY_CACHE_JITTER"),
        ({"QUERY_CACHE_NAMESPACE": "a b"}, "QUERY_CACHE_NAMESPACE"),
        ({"QUERY_CACHE_MARK_WRITES": "yes"}, "QUERY_CACHE_MARK_WRITES"),
        ({"QUERY_CACHE_FAILED_INVALIDATION": "ignore"}, "QUERY_CACHE_FAILED_INVALIDATION"),
        ({"QUERY_CACHE_TIMOUT_MS": 250}, "has no setting 'timout_ms'"),
    ],
)
def test_a_wrong_setting_is_one_line_at_the_start(config, message):
    app = Flask("shop")
    app.config.update({"QUERY_CACHE_URL": "redis://localhost:1", **config} if config else {})

    with pytest.raises(SettingsError, match=message) as caught:
        QueryCache().init_app(app, db)
    assert "\n" not in str(caught.value)


def test_a_cache_that_was_not_given_a_redis_says_so(lab):
    cache = QueryCache()
    with pytest.raises(RuntimeError, match=r"call cache\.init_app"):
        cached(cache, Counted())()
    with pytest.raises(SettingsError, match="no setting"):
        QueryCache(lab.redis, timeout=1)
    with pytest.raises(SettingsError, match="with a client"):
        QueryCache(timeout_ms=1)


def test_without_flask(lab):
    lab.redis.flushdb()
    cache = QueryCache(lab.redis, namespace="bare", **PATIENT)
    counted = Counted()
    function = cached(cache, counted)
    try:
        assert [function(), function()] == ["answer"] * 2
        with pytest.raises(RuntimeError, match="session"):
            cache.rows(EU, ttl=60)
        with lab.app.app_context():
            move()
            db.session.commit()
        function()
    finally:
        cache.close()
    assert counted.calls == 2
    assert all(key.split(b":")[0] == b"bare" or b":bare:" in key for key in lab.redis.scan_iter())


# After a fork.


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows cannot fork")
def test_after_a_fork_the_child_counts_anew_and_uses_a_connection_of_its_own(lab, cache):
    if not lab.server.is_real:
        pytest.skip("fakeredis is not shared by processes")
    function = cached(cache, Counted())
    function()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            answers = [function() for _ in range(100)]
            line = f"{answers == ['answer'] * 100} {cache.stats.hits} {cache.stats.misses}"
            os.write(writing, line.encode())
            status = 0
        finally:
            os._exit(status)
    answers = [function() for _ in range(100)]
    assert os.waitpid(child, 0)[1] == 0

    assert os.read(reading, 100) == b"True 100 0"
    assert answers == ["answer"] * 100
    assert cache.stats.hits == 100
