"""QueryCache under gunicorn: across forks, in threads, and while Redis dies and comes back."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import psutil  # type: ignore[import-untyped]
import pytest
from redis.connection import AbstractConnection as Connection

from labkit.cache import QueryCache, signals
from labkit.cache.server import Unavailable
from labkit.servers import Keeper
from tests import soak_app
from tests.helpers import end, is_gone, is_running, start_python, wait_until
from tests.soak import (
    GTHREAD,
    LEASE_MS,
    MARK_MS,
    PATIENCE,
    PAUSE_MS,
    DyingRedis,
    Gunicorn,
    Ledger,
    compared,
    paths,
    reader,
    soak,
    values_in,
    writer,
)

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="gunicorn needs fork")

SECONDS = float(os.environ.get("QUERY_CACHE_SOAK_SECONDS", "10"))
PATIENT = {"TIMEOUT_MS": 10_000}  # where no busy machine may cost a hit, or a fill
NOTHING = {
    "hits": 0,
    "l1_hits": 0,
    "misses": 0,
    "waits": 0,
    "invalidations": 0,
    "owed": 0,
    "bypasses": {},
    "refused_fills": {},
    "errors": {},
    "l1_lost": {},
}


@pytest.fixture
def keeper() -> Iterator[Keeper]:
    keeper = Keeper()
    yield keeper
    started = psutil.Process(keeper._process.pid).children(recursive=True)
    keeper.close()
    assert wait_until(lambda: not any(is_running(each.pid) for each in started), PATIENCE)


@pytest.fixture
def server(keeper: Keeper) -> DyingRedis:
    return DyingRedis(keeper)


@pytest.fixture
def open_cache(server: DyingRedis) -> Iterator[Callable[..., QueryCache]]:
    opened = []

    def open_cache(**settings: Any) -> QueryCache:
        given: dict[str, Any] = {"namespace": "fork", "timeout_ms": 10_000} | settings
        opened.append(QueryCache(server.connect(), **given))
        return opened[-1]

    yield open_cache
    for each in opened:
        each.close()


# A fork, while the parent is in the middle of something.


def in_child(job: Callable[[], Any]) -> Any:
    """Return what a job returns in a forked child, which is killed if it hangs."""
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(20)
            os.write(theirs, json.dumps(job()).encode())
        finally:
            os._exit(0)
    os.close(theirs)
    with open(ours) as pipe:
        said = pipe.read()
    _, status = os.waitpid(child, 0)
    assert (status, bool(said)) == (0, True), "the child hangs, or has failed"
    return json.loads(said)


@contextmanager
def held(lock: Any) -> Iterator[None]:
    """Have another thread hold a lock."""
    has_it, over = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            has_it.set()
            over.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    try:
        assert has_it.wait(PATIENCE)
        yield
    finally:
        over.set()
        thread.join()


LOCKS: dict[str, Callable[[Any], Any]] = {
    "SingleFlight": lambda cache: cache._flights._lock,
    "Server": lambda cache: cache._server._connecting,
    "Server, what is owed": lambda cache: cache._server._debts,
    "Breaker": lambda cache: cache._server._breaker._lock,
    "Statistics": lambda cache: cache.stats._lock,
}


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_that_another_thread_holds_is_free_in_the_child(
    open_cache: Callable[..., QueryCache], name: str
) -> None:
    cache = open_cache(pause_ms=60_000)

    @cache.query(ttl=60, tags=["users"])
    def function() -> str:
        return "answer"

    def fail(_: Any) -> None:
        raise ConnectionError

    def use_every_lock() -> Any:
        answers = [function(), function()]
        try:
            cache.ask(fail)
        except Unavailable:
            cache.invalidate("users")  # owed, as the breaker is open
        redis: Any = cache._server
        assert wait_until(lambda: not redis.owes, PATIENCE / 2)  # the child is killed after 20 s
        answers.append(function())
        return answers, cache.stats.as_dict()

    function()
    with held(LOCKS[name](cache)):
        answers, stats = in_child(use_every_lock)

    assert answers == ["answer"] * 3
    assert stats == NOTHING | {
        "hits": 2, "misses": 1, "invalidations": 1, "owed": 1, "errors": {"ConnectionError": 1}
    }  # fmt: skip


def test_a_child_waits_for_no_thread_of_its_parent_but_for_the_lease(
    open_cache: Callable[..., QueryCache],
) -> None:
    cache = open_cache()
    loading, over = threading.Event(), threading.Event()
    ours, theirs = os.pipe()

    @cache.query(ttl=60, tags=["users"], name="slow")
    def function() -> str:
        loading.set()
        assert over.wait(PATIENCE)
        return f"answer of {os.getpid()}"

    def say_that_it_waits(*_: Any, **__: Any) -> None:
        os.write(theirs, b"waits")

    def ask() -> Any:
        with signals.wait.connected_to(say_that_it_waits):
            return function()

    def let_the_parent_go_on() -> None:
        os.read(ours, 5)
        over.set()

    threads = [threading.Thread(target=each) for each in (function, let_the_parent_go_on)]
    threads[0].start()
    assert loading.wait(PATIENCE)
    threads[1].start()

    assert in_child(ask) == f"answer of {os.getpid()}"
    for thread in threads:
        thread.join()
    for end_of_pipe in (ours, theirs):
        os.close(end_of_pipe)


def test_a_child_has_connections_of_its_own_and_leaves_its_parents_alone(open_cache):
    cache = open_cache()

    def connection() -> int:
        return int(cache.ask(lambda client: client.client_id()))

    before = connection()
    children = [in_child(connection) for _ in range(2)]

    assert len({before, *children}) == 3
    assert connection() == before


def test_a_child_owes_nothing_and_its_parent_delivers(
    server: DyingRedis, open_cache: Callable[..., QueryCache]
) -> None:
    cache = open_cache(pause_ms=60_000)
    redis: Any = cache._server
    server.kill()
    cache.invalidate("users")

    assert redis.owes
    assert in_child(lambda: redis.owes) is False
    server.start()
    assert wait_until(lambda: not redis.owes, PATIENCE)


# What is owed, and others who reach Redis before.


def two_caches(
    open_cache: Callable[..., QueryCache], database: dict[str, int], **of_the_writer: Any
) -> Iterator[Any]:
    """Give two caches, as two processes have them, each with a function that reads a row."""
    for settings in ({"pause_ms": 60_000} | of_the_writer, {"pause_ms": 1}):
        cache = open_cache(**settings)

        @cache.query(ttl=60, tags=["users"], name="row")
        def row() -> int:
            return database["row"]

        yield from (cache, row)


def test_a_write_while_the_breaker_is_open_is_sent_before_it_is_answered(server, open_cache):
    database = {"row": 1}
    writer, at_writer, _, at_reader = two_caches(open_cache, database)
    at_writer()
    server.kill()
    at_writer()  # opens the writer's breaker
    server.start()
    assert at_reader() == 1

    database["row"] = 2
    writer.invalidate("users")

    assert (at_reader(), writer.stats.owed) == (2, 1)


def test_a_write_while_an_older_one_is_owed_is_sent_before_it_is_answered(
    server: DyingRedis, open_cache: Callable[..., QueryCache]
) -> None:
    database = {"row": 1}
    writer, _, _, at_reader = two_caches(open_cache, database, timeout_ms=5_000)
    attempts: list[Any] = []
    second_failed, go_on = threading.Event(), threading.Event()

    def hold_the_second_attempt(*_: Any, **__: Any) -> None:
        if threading.current_thread().name == "querycache-deliverer":
            attempts.append(None)
            if len(attempts) == 2:
                second_failed.set()
                assert go_on.wait(PATIENCE)

    def let_it_go_on_when_both_are_owed() -> None:
        wait_until(lambda: len(writer._server._owed) == 2, PATIENCE)
        go_on.set()

    server.kill()
    thread = threading.Thread(target=let_it_go_on_when_both_are_owed)
    thread.start()
    with signals.error.connected_to(hold_the_second_attempt, sender=writer):
        writer.invalidate("users")
        assert second_failed.wait(PATIENCE)
        server.start()
        assert at_reader() == 1

        database["row"] = 2
        writer.invalidate("users")

        assert (at_reader(), writer.stats.owed) == (2, 2)
    thread.join()


@pytest.mark.parametrize("restarted", [False, True])
def test_a_write_while_redis_is_frozen_is_sent_before_it_is_answered(
    server: DyingRedis,
    open_cache: Callable[..., QueryCache],
    monkeypatch: pytest.MonkeyPatch,
    restarted: bool,
) -> None:
    database, sent = {"row": 1}, threading.Event()
    writer, at_writer, reader_, at_reader = two_caches(open_cache, database, timeout_ms=1_000)
    send = Connection.send_packed_command

    def send_and_say(connection: Any, *command: Any, **options: Any) -> None:
        send(connection, *command, **options)
        if threading.current_thread().name == "reader":
            sent.set()

    if restarted:  # which has closed the connection that stands by
        server.kill()
        server.start()
    assert (at_writer(), at_reader(), at_reader()) == (1, 1, 1)
    assert reader_.stats.hits > 0
    server.connect().ping()  # Redis is at rest: what wakes it first is run first
    server.freeze()
    at_writer()  # opens its breaker, so that no marker is sent
    database["row"] = 2
    writer.invalidate("users")
    answers: list[int] = []
    monkeypatch.setattr(Connection, "send_packed_command", send_and_say)
    thread = threading.Thread(target=lambda: answers.append(at_reader()), name="reader")
    thread.start()
    assert sent.wait(PATIENCE)
    server.thaw()
    thread.join()

    assert answers == [2]


# Gunicorn.


@pytest.fixture
def application(keeper: Keeper, server: DyingRedis) -> Iterator[list[Any]]:
    """Make the database, and give the questions of its application."""
    app = soak_app.create(str(keeper.directory / "soak.db"), server.url)
    yield list(soak_app.questions(app))
    soak_app.cache.close()


def test_workers_of_a_preloaded_application_begin_anew(keeper, server, application):
    gunicorn = Gunicorn(keeper, server.url, "--preload", "--workers", "2", warm=True, **PATIENT)
    states: dict[int, Any] = {}
    connections: dict[int, Any] = {}

    def all_have_said(path: str, said: dict[int, Any]) -> bool:
        answer = gunicorn.connect().get(path)
        said.setdefault(answer["pid"], answer)
        return len(said) == 2

    assert wait_until(lambda: all_have_said("/state", states), PATIENCE)
    assert wait_until(lambda: all_have_said("/connection", connections), PATIENCE)
    master = next(iter(states.values()))["master"]
    ids = {each["connection"] for each in connections.values()}

    assert master["pid"] == gunicorn.pid
    assert master["stats"]["hits"] == 2  # it was used before the fork
    assert [each["stats"] for each in states.values()] == [NOTHING, NOTHING]
    assert len(ids | {master["connection"]}) == 3
    assert ids | {master["connection"]} <= {
        int(each["id"]) for each in server.connect().client_list()
    }
    ledger = Ledger()
    client = gunicorn.connect()
    for number in range(soak_app.TABLES):
        ledger.write(client, number, 1)
        ledger.roll_back(client, number, 2)
        for path in paths():
            ledger.read(client, path)
    assert (ledger.failed, ledger.stale, ledger.foreign) == ([], [], [])
    assert compared(server.connect(), application, values_in(gunicorn.database)) == (33, [])


def test_threads_of_workers_answer_right(keeper, server, application):
    gunicorn = Gunicorn(
        keeper, server.url, "--preload", "--workers", "2", *GTHREAD, warm=True, **PATIENT
    )
    clients = [each for mine in gunicorn.connect_to_each(2, 8).values() for each in mine]
    ledger = Ledger()

    def work(seed: int) -> None:
        read = reader(ledger, clients[seed], seed)
        write = writer(ledger, clients[seed], seed, pause=0)
        for step in range(40):
            write() if step % 8 == 0 else read()

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(work, range(16)))
    for path in paths():
        ledger.read(clients[0], path)

    assert (ledger.failed, ledger.stale, ledger.foreign) == ([], [], [])
    assert compared(server.connect(), application, values_in(gunicorn.database)) == (33, [])


def test_nothing_stale_comes_out_of_five_deaths_of_redis(keeper, server, application):
    """Each answer is at least as new as any write that was acknowledged before it was asked for."""
    settings: dict[str, Any] = {"MARK_MS": MARK_MS, "LEASE_MS": LEASE_MS, "PAUSE_MS": PAUSE_MS}
    gunicorn = Gunicorn(keeper, server.url, "--workers", "4", *GTHREAD, **settings)
    report = soak(keeper, application, server, gunicorn, SECONDS)
    print(report)

    ledger = report.ledger
    assert (ledger.failed, ledger.stale, ledger.foreign) == ([], [], [])
    assert report.before[1] == []
    assert report.after == (len(application), [])
    assert sum(each["owed"] for each in report.stats) > 0  # or nothing was put to the test
    assert sum(each["hits"] for each in report.stats) > 0


def test_nothing_is_left_of_a_test_that_is_killed():
    code = """
import sys
from labkit.servers import Keeper
from tests.soak import DyingRedis, Gunicorn
keeper = Keeper()
server = DyingRedis(keeper)
gunicorn = Gunicorn(keeper, server.url, "--workers", "2")
print(keeper.directory, server.pid, gunicorn.pid, flush=True)
sys.stdin.read()
"""
    process = start_python(code)
    try:
        assert process.stdout is not None
        directory, *pids = process.stdout.readline().split()
        started = [int(pid) for pid in pids]
        gunicorn = psutil.Process(started[1])  # it starts one worker after the other
        assert wait_until(lambda: len(gunicorn.children()) == 2, PATIENCE)
        workers = [each.pid for each in gunicorn.children()]
        process.kill()

        assert wait_until(lambda: all(is_gone(pid, directory) for pid in started), PATIENCE)
        assert wait_until(lambda: not any(map(is_running, workers)), PATIENCE)
    finally:
        end(process)
