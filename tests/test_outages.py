"""Whatever Redis does, a QueryCache gives the database's rows, soon, and loses no invalidation."""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
import random
import re
import resource
import selectors
import socket
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import redis
from redis.retry import Retry
from sqlalchemy import Column, Integer, MetaData, String, Table, create_engine, select, update
from sqlalchemy.orm import scoped_session, sessionmaker

from labkit.cache import signals, tokens
from labkit.cache.client import own_client
from labkit.cache.invalidation import InvalidationFailed
from labkit.cache.query_cache import QueryCache
from labkit.cache.server import Server, Unavailable
from labkit.servers import Keeper, choose_redis
from tests.caches import PATIENT
from tests.helpers import LONG, end, start_python, wait_until
from tests.outages import FakeServer, OwnServer, Switch, ended

KIND, _ = choose_redis("auto")
if KIND not in ("server", "wheel"):
    pytest.skip("there is no Redis or Valkey program here", allow_module_level=True)

TIMEOUT = 0.25  # seconds: the default
SOON = 10.0  # seconds: what hangs here hangs for far longer. One time-out is shown by `Tries`
ONCE = 20  # connections opened and commands sent by one attempt, at most: the greetings are 5 each
LITTLE = 0.1  # seconds: a time-out of `wait_little`
PAUSE = 1.0  # seconds: the default
SILENT = "Redis does not answer"
OWED = "an invalidation is owed"
USERS = Table("users", MetaData(), Column("id", Integer, primary_key=True), Column("name", String))
ONE = select(USERS.c.name).where(USERS.c.id == 1)
ENTRY_TAGS = ("shop:*", "shop:users")


class App:
    """An application with a cache: it reads a name, and writes it."""

    def __init__(self, database: Path, client: Any, **settings: Any) -> None:
        self.database = database
        self.engine = create_engine(f"sqlite:///{database}")
        self.session = scoped_session(sessionmaker(self.engine))
        options: dict[str, Any] = {"namespace": "shop", "jitter": 0.0} | settings
        self.cache = QueryCache(client, session=self.session, **options)

    @property
    def stats(self) -> Any:
        return self.cache.stats

    def read(self, number: int = 1) -> Any:
        try:
            statement = select(USERS.c.name).where(USERS.c.id == number)
            return self.cache.rows(statement, ttl=60)[0]["name"]
        finally:
            self.session.remove()

    def hits(self) -> bool:
        """Whether a read, by which the cache may recover, is followed by a hit."""
        self.read()
        before = self.stats.hits
        self.read()
        return bool(self.stats.hits == before + 1)

    def write(self, name: str) -> None:
        try:
            self.session.execute(update(USERS).where(USERS.c.id == 1).values(name=name))
            self.session.commit()
        finally:
            self.session.remove()

    def truth(self) -> Any:
        with sqlite3.connect(self.database) as own:
            return own.execute("SELECT name FROM users WHERE id = 1").fetchone()[0]

    def owes(self) -> bool:
        return self.cache._opened().owes

    def close(self) -> None:
        self.cache.close()
        own = self.cache._opened()
        with own._debts:  # else a thread goes on trying to deliver, to a server that is gone
            own._owed.clear()
            own._debts.notify_all()
        own.close()  # else a garbage collection does, in the midst of another test
        self.engine.dispose()


OTHER = """
import json, sys
from pathlib import Path
import redis
from tests.test_outages import App
print("ready", flush=True)
app = None
for line in sys.stdin:
    what, *arguments = json.loads(line)
    if what == "open":
        database, options, settings = arguments
        client = redis.Redis(socket_timeout=None, socket_connect_timeout=None, **options)
        app, answer = App(Path(database), client, **settings), "opened"
    elif what == "read":
        answer = app.read()
    elif what == "write":
        answer = app.write(*arguments)
    elif what == "hits":
        answer = app.hits()
    elif what == "stats":
        answer = app.stats.as_dict()
    print(json.dumps(answer), flush=True)
"""


class Other:
    """Another process, with an application and a cache of its own."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def __call__(self, *command: Any) -> Any:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin
        assert stdout
        stdin.write(json.dumps(command) + "\n")
        stdin.flush()
        return json.loads(stdout.readline())


class Clock:
    """The breaker's: a pause is over when a test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


class Spent(NamedTuple):
    """What a call has given, and taken: see `Tries`."""

    answer: Any
    tries: int
    in_vain: float
    seconds: float


class Tries:
    """What this thread has tried, and how long it has waited for nothing. It needs no clock.

    Attributes:
        count: how often it has connected to a server, or sent it something.
        in_vain: the seconds of all its time-outs that were over before anything had come.
    """

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.count, self.in_vain, self._thread = 0, 0.0, threading.get_ident()
        for name in ("connect", "sendall", "recv", "recv_into"):
            patch.setattr(socket.socket, name, self._counting(name))
        wait = threading.Condition.wait

        def wait_and_count(condition: threading.Condition, timeout: float | None = None) -> bool:
            has_come = wait(condition, timeout)
            if not has_come and timeout is not None and self._is_ours:
                self.in_vain += timeout
            return has_come

        patch.setattr(threading.Condition, "wait", wait_and_count)

    @property
    def _is_ours(self) -> bool:
        return threading.get_ident() == self._thread

    def _counting(self, name: str) -> Callable[..., Any]:
        method = getattr(socket.socket, name)

        def counting(sock: socket.socket, *args: Any) -> Any:
            self.count += self._is_ours and not name.startswith("recv")
            try:
                return method(sock, *args)
            except TimeoutError:
                if self._is_ours:
                    self.in_vain += sock.gettimeout() or 0.0
                raise

        return counting

    def of(self, call: Callable[[], Any]) -> Spent:
        """Call, and return what that has given and taken."""
        count, in_vain, begun = self.count, self.in_vain, time.monotonic()
        answer = call()
        seconds = time.monotonic() - begun
        return Spent(answer, self.count - count, self.in_vain - in_vain, seconds)


@pytest.fixture(scope="module")
def keeper() -> Iterator[Keeper]:
    keeper = Keeper()
    yield keeper
    keeper.close()


@pytest.fixture
def server(keeper: Keeper) -> Iterator[OwnServer]:
    own = OwnServer(KIND, keeper).start()
    with ended(own):
        yield own


@pytest.fixture(scope="module")
def _one_server(keeper: Keeper) -> Iterator[OwnServer]:
    own = OwnServer(KIND, keeper).start()
    with ended(own):
        yield own


@pytest.fixture
def shared(_one_server: OwnServer) -> OwnServer:
    """Give a server for tests that leave it alive, empty again."""
    with _one_server.client() as client:
        client.flushall()
    return _one_server


@pytest.fixture(scope="module")
def _other_process() -> Iterator[Other]:
    process = start_python(OTHER)
    try:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        yield Other(process)
    finally:
        end(process)


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "shop.db"
    with sqlite3.connect(path) as own:
        own.execute("CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT)")
        own.executemany("INSERT INTO users (name) VALUES (?)", [("old",)] * 20)
    own.close()
    return path


@pytest.fixture
def open_app(database: Path) -> Iterator[Callable[..., App]]:
    opened: list[App] = []

    def open_one(client: Any, **settings: Any) -> App:
        opened.append(App(database, client, **settings))
        return opened[-1]

    yield open_one
    for app in opened:
        app.close()


@pytest.fixture
def other(_other_process: Other, database: Path) -> Callable[..., Other]:
    def open_one(client: Any, **settings: Any) -> Other:
        options = client.connection_pool.connection_kwargs
        address = {k: options[k] for k in ("host", "port") if k in options}
        if "path" in options:
            address = {"unix_socket_path": options["path"]}
        assert _other_process("open", str(database), address, settings) == "opened"
        return _other_process

    return open_one


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("labkit.cache.breaker.time", clock)
    return clock


@pytest.fixture
def tries(monkeypatch: pytest.MonkeyPatch) -> Tries:
    return Tries(monkeypatch)


def timed(read: Callable[[], Any]) -> tuple[Any, float]:
    begun = time.monotonic()
    answer = read()
    return answer, time.monotonic() - begun


def wait_little(app: App, seconds: float = LITTLE) -> Any:
    """Have an application that has connected in peace wait for so long at most from now on."""
    own: Any = app.cache._opened()
    own._settings = dataclasses.replace(own._settings, timeout_ms=int(1000 * seconds))
    if own._client is not None:
        pool = own._client.connection_pool
        time_outs = {"socket_timeout": seconds, "socket_connect_timeout": seconds}
        pool.connection_kwargs |= time_outs
        for connection in pool._available_connections:
            vars(connection).update(time_outs)
            connection.update_current_socket_timeout(seconds)
    return own


# What answers badly. Each gives a client, which has no time-outs of its own.


def never(_: list[bytes]) -> bytes:
    threading.Event().wait(60)
    return b""


def says(answer: bytes | None) -> Callable[[list[bytes]], bytes | None]:
    return lambda command: answer


def mostly(answer: bytes) -> Callable[[list[bytes]], bytes | None]:
    """Greet as Redis does, and give this answer to whatever else is asked."""

    def reply(command: list[bytes]) -> bytes:
        if command[0] == b"INFO":
            return b"$10\r\nrun_id:abc\r\n"
        if command[0] == b"CLIENT" or (command[0] == b"EVAL" and b"run_id" in command[1]):
            return b"+OK\r\n"
        return answer

    return reply


@contextmanager
def fake(answer: Callable[[list[bytes]], bytes | None], **options: Any) -> Iterator[Any]:
    server = FakeServer(answer, **options)
    with ended(server):
        yield server.client()


@contextmanager
def hang_up() -> Iterator[Any]:
    with fake(says(None), on_accept=lambda peer: peer.shutdown(socket.SHUT_RDWR)) as client:
        yield client


@contextmanager
def deaf() -> Iterator[Any]:
    """Give a client of a listener that accepts nobody: the kernel does, up to its backlog."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield redis.Redis("127.0.0.1", listener.getsockname()[1], socket_timeout=None)


@contextmanager
def closed_port() -> Iterator[Any]:
    with socket.socket() as holder:  # nobody else is given its port, and nobody listens
        holder.bind(("127.0.0.1", 0))
        yield redis.Redis("127.0.0.1", holder.getsockname()[1], socket_timeout=None)


NESTED = b"*1\r\n" * 5_000 + b":1\r\n"
GARBAGE: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "a closed port": closed_port,
    "a listener that accepts nobody": deaf,
    "silence": lambda: fake(never),
    "closing after accept": hang_up,
    "closing at the first command": lambda: fake(says(None)),
    "closing after the greeting": lambda: fake(lambda command: mostly(b"")(command) or None),
    "LOADING": lambda: fake(says(b"-LOADING Redis is loading the dataset in memory\r\n")),
    "LOADING after the greeting": lambda: fake(mostly(b"-LOADING Redis is loading\r\n")),
    "MASTERDOWN": lambda: fake(mostly(b"-MASTERDOWN Link with MASTER is down\r\n")),
    "BUSY": lambda: fake(mostly(b"-BUSY Redis is busy running a script.\r\n")),
    "NOPERM": lambda: fake(mostly(b"-NOPERM this user has no permissions\r\n")),
    "HTTP": lambda: fake(says(b"HTTP/1.1 400 Bad Request\r\nServer: nginx\r\n\r\n")),
    "OK to everything": lambda: fake(says(b"+OK\r\n")),
    "a number": lambda: fake(mostly(b":7\r\n")),
    "a text": lambda: fake(mostly(b"$5\r\nhello\r\n")),
    "nothing": lambda: fake(mostly(b"$-1\r\n")),
    "too few": lambda: fake(mostly(b"*1\r\n$1\r\nx\r\n")),
    "too many": lambda: fake(mostly(b"*9\r\n" + b"$1\r\nx\r\n" * 9)),
    "numbers": lambda: fake(mostly(b"*4\r\n" + b":1\r\n" * 4)),
    "lists": lambda: fake(mostly(b"*4\r\n" + b"*1\r\n:1\r\n" * 4)),
    "lists in lists": lambda: fake(mostly(NESTED)),
    "a number that is none": lambda: fake(mostly(b":x\r\n")),
    "a length that is none": lambda: fake(mostly(b"$x\r\n")),
    "a length of many digits": lambda: fake(mostly(b"$" + b"9" * 5_000 + b"\r\n")),
    "an answer that ends early": lambda: fake(mostly(b"*4\r\n$1\r\nx\r\n$9\r\nab")),
    "random bytes": lambda: fake(says(random.Random(1).randbytes(4_096))),
    "random bytes after the greeting": lambda: fake(mostly(random.Random(2).randbytes(4_096))),
}  # fmt: skip


@contextmanager
def wrong_password(keeper: Keeper) -> Iterator[Any]:
    own = OwnServer(KIND, keeper).start("requirepass right")
    with ended(own):
        yield own.client(password="wrong")


@contextmanager
def read_only(keeper: Keeper) -> Iterator[Any]:
    replica = OwnServer(KIND, keeper)
    with ended(replica):
        replica.start("replicaof 127.0.0.1 1")
        yield replica.client()


@contextmanager
def killed(keeper: Keeper) -> Iterator[Any]:
    own = OwnServer(KIND, keeper).start()
    with ended(own):
        own.kill()
        yield own.client()


@contextmanager
def frozen(keeper: Keeper) -> Iterator[Any]:
    own = OwnServer(KIND, keeper).start()
    with ended(own):
        own.freeze()
        yield own.client()


REAL = {
    "killed": killed, "frozen": frozen, "a wrong password": wrong_password, "READONLY": read_only,
}  # fmt: skip


@pytest.fixture(params=[*REAL, *GARBAGE])
def bad(request: pytest.FixtureRequest, keeper: Keeper) -> Iterator[Any]:
    what = request.param
    with REAL[what](keeper) if what in REAL else GARBAGE[what]() as client:
        yield client


# Reads.


def test_reads_give_the_rows_within_the_time_out_and_then_spare_redis(bad, open_app, clock, tries):
    opening = tries.of(lambda: open_app(bad))
    app = opening.answer
    assert (opening.in_vain <= TIMEOUT, opening.seconds < SOON) == (True, True)
    for _ in range(2):  # when a pause is over, one call tries again, and no more than one
        clock.now += PAUSE
        read = tries.of(app.read)
        assert read.answer == "old"
        assert 0 < read.tries <= ONCE
        assert (read.in_vain <= TIMEOUT, read.seconds < SOON) == (True, True)

        before = tries.count
        assert [app.read() for _ in range(3)] == ["old"] * 3
        assert tries.count == before
    assert app.stats.hits == 0
    assert app.stats.bypasses[SILENT] >= 6
    assert app.stats.errors.total() >= 2


def test_a_write_is_committed_and_its_invalidation_owed(bad, open_app, clock, tries):
    app = open_app(bad)
    clock.now += PAUSE

    writing = tries.of(lambda: app.write("new"))

    assert 0 < writing.tries <= ONCE
    assert writing.in_vain <= 2 * TIMEOUT  # for the mark, and for whoever delivers
    assert writing.seconds < SOON
    assert (app.truth(), app.read()) == ("new", "new")
    assert app.stats.owed == app.stats.invalidations == 1
    assert app.owes()


def test_a_write_that_cannot_be_marked_is_not_committed_if_it_has_to_raise(bad, open_app, clock):
    app = open_app(bad, failed_invalidation="raise")
    for pause in (PAUSE, 0):
        clock.now += pause
        with pytest.raises(InvalidationFailed, match="Nothing was committed"):
            app.write("new")

    assert (app.truth(), app.read()) == ("old", "old")


def test_a_statement_that_would_commit_by_itself_is_not_sent_if_it_has_to_raise(open_app, clock):
    with closed_port() as client:
        app = open_app(client, failed_invalidation="raise")
        by_itself = app.engine.execution_options(isolation_level="AUTOCOMMIT")
        connection = by_itself.connect()
        with pytest.raises(InvalidationFailed, match="Nothing was committed"):
            connection.execute(update(USERS).values(name="new"))
        connection.close()

        assert (app.truth(), app.read()) == ("old", "old")
        assert (app.stats.owed, app.owes()) == (0, False)


@pytest.mark.parametrize("what", ["invalidate", "forget"])
@pytest.mark.parametrize("how", ["queue", "raise"])
def test_a_call_that_redis_does_not_take_is_owed_or_raised(open_app, clock, what, how):
    with fake(mostly(b"-READONLY no\r\n")) as client:
        app = open_app(client, failed_invalidation=how)

        @app.cache.query(ttl=60, name="answer")  # type: ignore[untyped-decorator]
        def answer() -> int:
            return 1

        def call() -> None:
            if what == "forget":
                app.cache.forget(answer)
            else:
                app.cache.invalidate("users")

        clock.now += PAUSE
        if how == "raise":
            with pytest.raises(InvalidationFailed):
                call()
        else:
            call()
        assert app.stats.owed == 1
        assert app.owes()


def test_without_marks_a_failed_invalidation_is_raised_after_the_commit(open_app, clock, keeper):
    with frozen(keeper) as client:
        app = open_app(client, failed_invalidation="raise", mark_writes=False)
        with pytest.raises(InvalidationFailed, match="owed"):
            app.write("new")

        assert (app.truth(), app.read()) == ("new", "new")
        assert (app.stats.owed, app.owes()) == (1, True)
        app.session.execute(select(USERS))  # it can be used


@pytest.mark.parametrize("what", ["a write", "forget"])
def test_an_ok_that_is_no_answer_does_not_deliver_an_invalidation(open_app, clock, what):
    with fake(mostly(b"+OK\r\n")) as client:
        app = open_app(client)

        @app.cache.query(ttl=60, name="answer")  # type: ignore[untyped-decorator]
        def answer() -> int:
            return 1

        if what == "forget":
            app.cache.forget(answer)
        else:
            app.write("new")

        assert app.stats.owed == 1


def test_a_client_of_the_user_that_would_wait_for_ever_makes_nobody_wait(
    server, open_app, clock, tries
):
    app = open_app(server.client(retry=Retry(redis.backoff.ConstantBackoff(60), 1)), **PATIENT)
    assert app.hits()
    wait_little(app)
    server.freeze()

    for _ in range(2):  # on the connection that is open, and on a new one
        read = tries.of(app.read)
        assert (read.answer, read.in_vain, read.seconds < SOON) == ("old", LITTLE, True)
        clock.now += PAUSE


def test_an_error_at_an_address_that_reads_like_out_of_memory_opens_the_breaker(
    keeper, open_app, clock, tries
):
    own = OwnServer(KIND, keeper)
    own.path = own.directory / "ROOM"
    with ended(own.start()):
        app = open_app(own.client())
        own.kill()
        app.read()
        clock.now += PAUSE
        app.read()  # says that it cannot connect to .../ROOM
        before = tries.count

        assert app.read() == "old"
        assert tries.count == before


def test_a_server_that_freezes_while_it_is_greeted_makes_nobody_wait(server, open_app, tries):
    switch, stand_by, ours = Switch(server.path), Server._stand_by, threading.get_ident()

    def freeze(own: Any) -> Any:  # the next connection, which stands by, gets no answer
        if threading.get_ident() == ours:
            switch.target = None
            own._settings = dataclasses.replace(own._settings, timeout_ms=250)
        return stand_by(own)

    with ended(switch):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Server, "_stand_by", freeze)
            opening = tries.of(lambda: open_app(switch.client(), pause_ms=3_600_000, **PATIENT))
        assert wait_until(lambda: switch.connections == 2, LONG)
        assert (opening.in_vain, opening.seconds < SOON) == (TIMEOUT, True)
        before = tries.count
        assert (opening.answer.read(), tries.count) == ("old", before)


@pytest.mark.parametrize("moment", ["after the look", "while it loads"])
def test_threads_do_not_wait_in_line_for_a_server_that_freezes(
    server, open_app, monkeypatch, moment
):
    app, threads = open_app(server.client(), **PATIENT), 12
    for number in range(1, threads + 1):
        app.read(number)
    app.cache.invalidate("users")
    send = socket.socket.sendall
    asked: set[str] = set()
    answers: list[int] = []

    def freeze() -> None:
        server.freeze()
        wait_little(app)

    frozen, all_wait = threading.Barrier(threads, action=freeze), threading.Barrier(threads)

    def stop(*_: Any, **__: Any) -> None:
        frozen.wait(LONG)
        asked.add(threading.current_thread().name)

    def send_and_meet(sock: socket.socket, *data: Any) -> None:
        """Wait for an answer only once all the others do: no lock keeps one of them from it."""
        send(sock, *data)
        if threading.current_thread().name in asked:
            asked.discard(threading.current_thread().name)
            all_wait.wait(LONG)
            met.append(1)

    met: list[int] = []

    def read(number: int) -> None:
        assert app.read(number) == "old"
        answers.append(number)

    def read_in_load(number: int) -> None:
        @app.cache.query(ttl=60, tags=["users"], by_table=False, name=f"load{number}")  # type: ignore[untyped-decorator]
        def answer() -> int:
            stop()
            return number

        assert answer() == number
        answers.append(number)

    target = read
    if moment == "after the look":
        signals.miss.connect(stop, sender=app.cache)
    else:
        target = read_in_load
    monkeypatch.setattr(socket.socket, "sendall", send_and_meet)
    running = [threading.Thread(target=target, args=(n,)) for n in range(1, threads + 1)]
    for each in running:
        each.start()
    for each in running:
        each.join(2 * LONG)

    assert (len(met), sorted(answers)) == (threads, list(range(1, threads + 1)))


def test_threads_do_not_connect_one_after_the_other(server, open_app, monkeypatch):
    app = open_app(server.client(), **PATIENT)
    own, count = wait_little(app), 12
    errors: list[str] = []
    others_have_left, connecting = threading.Event(), list[str]()
    server.freeze()
    own._client = None  # as after an error

    def connect_last(*args: Any, **options: Any) -> Any:
        if threading.current_thread() in running:
            connecting.append("one")
            assert others_have_left.wait(LONG)
        return own_client(*args, **options)

    def look() -> None:
        with pytest.raises(Unavailable) as caught:
            own.ask(tokens.look, "entry", *ENTRY_TAGS)
        errors.append(str(caught.value))
        if len(errors) == count - 1:
            others_have_left.set()

    monkeypatch.setattr("labkit.cache.server.own_client", connect_last)
    running = [threading.Thread(target=look) for _ in range(count)]
    for each in running:
        each.start()
    for each in running:
        each.join(2 * LONG)

    assert (connecting, len(errors)) == (["one"], count)
    assert errors[:-1] == ["TimeoutError: another thread is still connecting"] * (count - 1)
    assert errors[-1].startswith("TimeoutError: Timeout")


def test_an_answer_that_comes_late_is_not_taken_for_the_next_ones(server, open_app, monkeypatch):
    app = open_app(server.client(), **PATIENT)
    own: Any = app.cache._opened()._client
    with server.client() as client:
        client.mset({"first": "1", "second": "2"})
    connection = redis.connection.AbstractConnection
    send: Any = connection.send_command

    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    def send_and_thaw(*args: Any, **options: Any) -> None:
        send(*args, **options)
        server.thaw()

    server.freeze()
    with monkeypatch.context() as patch:
        patch.setattr(connection, "read_response", interrupted)
        with pytest.raises(KeyboardInterrupt):
            own.mget("first")
    monkeypatch.setattr(connection, "send_command", send_and_thaw)

    assert own.mget("second") == [b"2"]


def test_a_freeze_after_the_look_costs_one_time_out(server, open_app, clock, tries):
    app = open_app(server.client(), **PATIENT)

    def freeze(*_: Any, **__: Any) -> None:
        server.freeze()
        wait_little(app)

    signals.miss.connect(freeze, sender=app.cache)
    read = tries.of(app.read)

    # The look, and the attempt to take the lease.
    assert (read.answer, read.tries, read.in_vain) == ("old", 2, LITTLE)
    assert app.stats.refused_fills == {SILENT: 1}


# The return.


def test_after_a_restart_the_cache_is_used_again(server, open_app, clock):
    app = open_app(server.client(), **PATIENT)
    assert app.hits()
    server.kill()
    assert app.read() == "old"
    server.start()
    assert not app.hits()  # the pause is not over

    clock.now += PAUSE
    assert app.hits()


def test_after_a_freeze_the_cache_is_used_again(server, open_app, clock):
    app = open_app(server.client(), **PATIENT)
    assert app.hits()
    wait_little(app)
    server.freeze()
    assert [app.read(), app.read()] == ["old", "old"]
    server.thaw()

    wait_little(app, LONG)
    clock.now += PAUSE
    assert app.hits()


@contextmanager
def to_be_started(keeper: Keeper) -> Iterator[tuple[Any, Callable[[], object]]]:
    own = OwnServer(KIND, keeper)
    with ended(own):
        yield own.client(), own.start


@contextmanager
def to_be_promoted(keeper: Keeper) -> Iterator[tuple[Any, Callable[[], object]]]:
    with read_only(keeper) as replica:
        yield replica, lambda: replica.replicaof("NO", "ONE")


@pytest.mark.parametrize("server_that_is", [to_be_started, to_be_promoted])
def test_a_server_that_takes_writes_later_is_used_once_it_does(
    keeper, open_app, clock, server_that_is
):
    with server_that_is(keeper) as (client, take_writes):
        app = open_app(client, **PATIENT)
        assert not app.hits()
        app.write("new")
        assert app.owes()
        take_writes()
        assert wait_until(lambda: not app.owes(), LONG)

        assert app.hits()  # what was delivered has shown it: no pause has to be over
        assert app.read() == "new"


def test_a_password_that_is_corrected_is_enough(keeper, open_app, clock):
    with wrong_password(keeper) as client:
        app = open_app(client, **PATIENT)
        assert not app.hits()
        own = dict(client.connection_pool.connection_kwargs, password="right")
        with redis.Redis(unix_socket_path=own["path"], password="right") as right:
            right.config_set("requirepass", "wrong")

        clock.now += PAUSE
        assert app.hits()


def test_a_server_that_is_loading_is_used_once_it_has_loaded(server, open_app, clock):
    app = open_app(server.client(), **PATIENT)
    with server.client() as client:
        client.mset({f"key{number}": "x" for number in range(50_000)})
        assert app.hits()
        client.save()
        app.write("new")
    server.kill()
    slowly = "key-load-delay 300", "loading-process-events-interval-bytes 1024"
    server.start(*slowly, ready=False)

    clock.now += PAUSE
    name, took = timed(app.read)
    assert (name, took < SOON) == ("new", True)
    assert app.stats.errors["BusyLoadingError"] + app.stats.errors["ConnectionError"] >= 1
    app.write("newer")
    assert app.read() == "newer"
    with server.client() as client:
        client.config_set("key-load-delay", 0)
        assert wait_until(lambda: not client.info("persistence")["loading"], LONG)
    assert wait_until(lambda: not app.owes(), LONG)

    assert app.hits()
    assert app.read() == "newer"


def test_while_redis_reads_but_refuses_writes_the_writer_uses_no_entry(server, open_app, clock):
    app = open_app(server.client(), **PATIENT)
    assert app.hits()
    with server.client() as client:
        client.config_set("min-replicas-to-write", 1)
        app.write("new")
        assert app.stats.owed == 1
        for _ in range(3):
            clock.now += PAUSE
            assert app.read() == "new"  # though the old entry is there, and can be read
        assert app.stats.bypasses[OWED] == 3

        client.config_set("min-replicas-to-write", 0)
        assert wait_until(lambda: not app.owes(), LONG)
    assert app.hits()
    assert app.read() == "new"


# Memory that is full.


@pytest.fixture
def full(server: OwnServer) -> Callable[[], None]:
    def fill() -> None:
        with server.client() as client:
            client.config_set("maxmemory-policy", "noeviction")
            client.config_set("maxmemory", 1)
            with pytest.raises(redis.exceptions.OutOfMemoryError):
                client.set("more", "x")

    return fill


@pytest.mark.parametrize("how", ["queue", "raise"])
@pytest.mark.parametrize("mark_writes", [True, False])
def test_an_invalidation_works_while_memory_is_full(server, open_app, full, how, mark_writes):
    app = open_app(server.client(), failed_invalidation=how, mark_writes=mark_writes, **PATIENT)
    assert app.hits()
    with server.client() as client:
        full()
        hits, before = app.stats.hits, client.mget("token:shop:users")
        assert (app.read(), app.stats.hits) == ("old", hits + 1)  # what is there is still used

        app.write("new")

        assert client.mget("token:shop:users") != before
        assert not client.get("token:shop:users").startswith(b"!")
        assert [app.read(), app.read()] == ["new", "new"]
        assert (app.stats.owed, app.stats.bypasses.total()) == (0, 0)
        assert app.stats.refused_fills.total() == 2
        assert app.stats.errors.keys() == {"OutOfMemoryError"}
        client.config_set("maxmemory", 0)
    assert app.hits()


def test_forgetting_works_while_memory_is_full(server, open_app, full):
    app, calls = open_app(server.client(), **PATIENT), []

    @app.cache.query(ttl=60, name="answer")  # type: ignore[untyped-decorator]
    def answer() -> int:
        calls.append(1)
        return len(calls)

    assert [answer(), answer()] == [1, 1]
    full()
    app.cache.forget(answer)

    assert (answer(), app.stats.owed) == (2, 0)


def test_a_new_connection_recognises_the_server_while_memory_is_full(server, open_app, full):
    app = open_app(server.client(), **PATIENT)
    assert app.hits()
    with server.client() as client:
        client.set("shop:server", "another one")
        full()
        before = client.get("token:shop:*")
        open_app(server.client(), **PATIENT)

        assert client.get("token:shop:*") != before


# Keys that others have written to.


class Hostile:
    """A pickle that would make a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self._path,)


def key_of_entry(client: redis.Redis) -> bytes:
    others = re.compile(rb"token:|lease:|shop:server$|shop:statistics:")
    keys: Any = client.keys("*")
    (key,) = [key for key in keys if not others.match(key)]
    return bytes(key)


def stamp(client: redis.Redis) -> bytes:
    found: Any = client.mget(*[f"token:{tag}" for tag in ENTRY_TAGS])
    return tokens.stamp_of(tuple(found))


FOREIGN: dict[str, Callable[[redis.Redis, Any], object]] = {
    "a list": lambda client, key: client.rpush(key, "x", "y"),
    "a hash": lambda client, key: client.hset(key, "x", "y"),
    "a set": lambda client, key: client.sadd(key, "x"),
    "a stream": lambda client, key: client.xadd(key, {"x": "y"}),
    "nothing in it": lambda client, key: client.set(key, b""),
    "random bytes": lambda client, key: client.set(key, random.Random(3).randbytes(999)),
    "NUL": lambda client, key: client.set(key, b"\0" * 99),
    "a newline": lambda client, key: client.set(key, b"\n"),
    "a marker that is none": lambda client, key: client.set(key, b"!"),
    "a marker of nobody": lambda client, key: client.set(key, b"!:99999999999999!x:y!!"),
    "a marker that never ends": lambda client, key: client.set(key, b"!x:" + b"9" * 30),
    "a lease that never ends": lambda client, key: client.set(key, b"lease:0123456789abcdef"),
    "a lease of a year": lambda client, key: client.set(key, b"lease:x", ex=31_536_000),
    "megabytes": lambda client, key: client.set(key, b"x" * 8_000_000),
}
KEYS = {
    "the entry": lambda client, entry: entry,
    "its lease": lambda client, entry: b"lease:" + entry,
    "the table's token": lambda client, entry: "token:shop:users",
    "the token of everything": lambda client, entry: "token:shop:*",
    "the server's name": lambda client, entry: "shop:server",
}


@pytest.mark.parametrize("where", KEYS)
@pytest.mark.parametrize("what", FOREIGN)
def test_foreign_bytes_cost_a_miss_and_are_replaced(shared, open_app, what, where):
    app = open_app(shared.client(), lease_ms=20_000, **PATIENT)
    assert app.hits()
    with shared.client() as client:
        entry = key_of_entry(client)
        if where == "its lease":
            client.delete(entry)
        key = KEYS[where](client, entry)
        client.delete(key)
        FOREIGN[what](client, key)

    name, took = timed(app.read)

    assert (name, took < 10) == ("old", True)  # nobody has waited for the lease
    assert app.hits()
    if "token" in where:  # or every look would bring it
        with shared.client() as client:
            assert client.strlen(key) < 1_000
    app.write("new")
    assert [app.read(), app.read()] == ["new", "new"]
    assert app.hits()
    assert (app.stats.owed, app.stats.bypasses, app.stats.errors) == (0, {}, {})
    opened = open_app(shared.client(), **PATIENT)  # and another process is not disturbed either
    assert opened.hits()


@pytest.mark.parametrize("what", FOREIGN)
def test_foreign_bytes_in_a_token_do_not_stop_an_invalidation(shared, open_app, what):
    app = open_app(shared.client(), failed_invalidation="raise", **PATIENT)
    app.read()
    with shared.client() as client:
        client.delete("token:shop:users")
        FOREIGN[what](client, "token:shop:users")

    app.write("new")

    with shared.client() as client:
        assert re.fullmatch(rb"[0-9a-f]{16}", client.get("token:shop:users") or b"")
    assert app.read() == "new"
    assert app.hits()


@pytest.mark.parametrize("where", ["its lease", "the table's token", "the token of everything"])
@pytest.mark.parametrize("what", FOREIGN)
def test_foreign_bytes_that_come_while_it_loads_cost_a_fill(shared, open_app, what, where):
    app = open_app(shared.client(), **PATIENT)
    calls: list[int] = []
    with shared.client() as client:

        @app.cache.query(ttl=60, tags=["users"], by_table=False, name="answer")  # type: ignore[untyped-decorator]
        def answer() -> int:
            if not calls:
                (lease,) = client.keys("lease:*")
                key = KEYS[where](client, lease.removeprefix(b"lease:"))
                client.delete(key)
                FOREIGN[what](client, key)
            calls.append(1)
            return 1

        assert [answer(), answer(), answer()] == [1, 1, 1]

    assert calls == [1, 1]
    assert (app.stats.bypasses, app.stats.errors) == ({}, {})


VALUES: dict[str, Callable[[Path], bytes]] = {
    "a pickle": lambda path: pickle.dumps([{"name": "forged"}]),
    "a pickle that runs code": lambda path: pickle.dumps(Hostile(path)),
    "nothing": lambda path: b"",
    "half of it": lambda path: b'[{"name":"ol',
    "lists in lists": lambda path: b"[" * 100_000,
    "closed lists in lists": lambda path: b"[" * 100_000 + b"]" * 100_000,
    "bad tags": lambda path: b'[{"$date":"yesterday"}]',
    "an unknown enum": lambda path: b'[{"$enum":["os.system","true"]}]',
    "bad rows": lambda path: b'{"$rows":[[["name","$date"]],[{"name":1}]]}',
    "random bytes": lambda path: random.Random(4).randbytes(99),
    "no UTF-8": lambda path: b'["\xff\xfe"]',
    "megabytes": lambda path: b"\x80" * 8_000_000,
}


@pytest.mark.parametrize("what", VALUES)
def test_a_value_that_cannot_be_read_costs_a_miss(shared, open_app, tmp_path, what):
    app = open_app(shared.client(), **PATIENT)
    assert app.hits()
    with shared.client() as client:
        client.set(key_of_entry(client), stamp(client) + VALUES[what](tmp_path / "made"))
    hits = app.stats.hits

    assert (app.read(), app.stats.hits) == ("old", hits)
    assert app.stats.errors == {"CorruptData": 1}
    assert app.hits()
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("what", VALUES)
def test_a_value_that_comes_after_the_look_and_cannot_be_read_costs_a_miss(
    shared, open_app, tmp_path, what
):
    app = open_app(shared.client(), **PATIENT)
    app.read()
    with shared.client() as client:
        entry = key_of_entry(client)
        client.delete(entry)

        def plant(*_: Any, **__: Any) -> None:
            signals.miss.disconnect(plant, sender=app.cache)
            client.set(entry, stamp(client) + VALUES[what](tmp_path / "made"))

        signals.miss.connect(plant, sender=app.cache)
        assert app.read() == "old"

    assert app.stats.errors == {"CorruptData": 1}
    assert app.hits()
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("length", range(0, 35, 3))
def test_a_truncated_stamp_is_a_miss(shared, open_app, length):
    app = open_app(shared.client(), **PATIENT)
    assert app.hits()
    with shared.client() as client:
        client.set(key_of_entry(client), stamp(client)[:length])
    hits = app.stats.hits

    assert (app.read(), app.stats.hits, app.stats.errors) == ("old", hits, {})
    assert app.hits()


# Nothing stale comes back.


def test_after_a_restart_from_an_old_file_nobody_is_served_what_was(server, open_app, other):
    app, reader = (
        open_app(server.client(), pause_ms=10, **PATIENT),
        other(server.client(), pause_ms=10, **PATIENT),
    )
    assert app.hits()
    assert reader("hits")
    with server.client() as client:
        client.save()
        saved = client.get("token:shop:users")
        app.write("new")
        assert client.get("token:shop:users") != saved
        hits = reader("stats")["hits"]
        server.kill()
        server.start()
        assert client.get("token:shop:users") == saved  # the old entry and its tokens are back
        assert client.exists(key_of_entry(client))

    assert reader("read") == "new"  # it has made no call since before the write
    assert reader("stats")["hits"] == hits
    assert app.read() == "new"
    assert wait_until(lambda: reader("hits"), LONG)
    assert reader("read") == app.read() == "new"


def test_after_a_restart_from_an_old_file_the_writer_is_not_served_what_was(server, open_app):
    app = open_app(server.client(), pause_ms=10, **PATIENT)
    assert app.hits()
    with server.client() as client:
        client.save()
    app.write("new")
    hits = app.stats.hits
    server.kill()
    server.start()

    assert (app.read(), app.stats.hits) == ("new", hits)
    assert wait_until(app.hits, LONG)
    assert app.read() == "new"


def test_a_write_during_the_outage_counts_after_a_restart_from_an_old_file(server, open_app, other):
    app, reader = (
        open_app(server.client(), pause_ms=10, **PATIENT),
        other(server.client(), pause_ms=10, **PATIENT),
    )
    assert app.hits()
    assert reader("hits")
    with server.client() as client:
        client.save()
    server.kill()
    app.write("new")
    assert app.stats.owed == 1
    server.start()

    assert reader("read") == "new"
    assert app.read() == "new"
    assert wait_until(lambda: not app.owes(), LONG)
    assert wait_until(lambda: reader("hits"), LONG)
    assert wait_until(app.hits, LONG)
    assert reader("read") == app.read() == "new"


@pytest.mark.parametrize("mark_writes", [True, False])
@pytest.mark.parametrize("before", ["nothing", "a read that has opened the breaker"])
def test_what_was_written_while_it_was_frozen_is_read_at_once_after_it(
    server, open_app, other, mark_writes, before
):
    settings = {"mark_writes": mark_writes, "pause_ms": 3_600_000} | PATIENT
    app, reader = open_app(server.client(), **settings), other(server.client(), **PATIENT)
    wait_little(app, 0.05)
    for number in range(20):
        assert wait_until(lambda: reader("hits"), LONG)
        server.freeze()
        if before != "nothing":
            app.read()
        app.write(f"new{number}")
        server.thaw()

        assert reader("read") == f"new{number}"
        assert wait_until(lambda: not app.owes(), LONG)
        assert (app.stats.owed, app.read()) == (number + 1, f"new{number}")


def test_what_is_owed_was_sent_before_the_write_returns(server, open_app, other, monkeypatch):
    """Else a server that is thawed at this moment would serve a reader first."""
    settings = {"mark_writes": False, "pause_ms": 3_600_000} | PATIENT
    app, reader = open_app(server.client(), **settings), other(server.client(), **PATIENT)
    wait_little(app, 0.3)
    assert reader("hits")
    with server.client() as client:
        before = client.info("stats")["total_connections_received"]
    server.freeze()
    app.read()  # opens the breaker: the write sends nothing by itself
    deliver = Server._deliver

    def late(own: Server) -> None:
        time.sleep(0.1)  # a thread that is slow to start
        deliver(own)

    monkeypatch.setattr(Server, "_deliver", late)
    app.write("new")
    server.thaw()

    assert reader("read") == "new"
    assert wait_until(lambda: not app.owes(), LONG)
    with server.client() as client:  # on a connection that was open: a new one would greet first
        assert client.info("stats")["total_connections_received"] == before + 1


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Give what lets the threads go that deliver: until then they get no processor."""
    deliver, go = Server._deliver, threading.Event()

    def late(own: Server) -> None:
        go.wait(30)
        deliver(own)

    monkeypatch.setattr(Server, "_deliver", late)
    yield go
    go.set()


def test_what_is_owed_is_sent_though_its_thread_gets_no_processor(server, open_app, other, held):
    app = open_app(server.client(), mark_writes=False, pause_ms=3_600_000, **PATIENT)
    reader, own = other(server.client(), **PATIENT), wait_little(app)
    assert reader("hits")
    server.freeze()
    own._breaker.failed()  # the writes send nothing by themselves
    app.write("new1")
    app.write("new2")
    server.thaw()

    assert reader("read") == "new2"
    assert app.owes()
    held.set()
    assert wait_until(lambda: not app.owes(), LONG)
    assert app.stats.errors == {}


def test_what_could_not_be_sent_in_time_is_counted(server, open_app, held):
    app = open_app(server.client(), mark_writes=False, pause_ms=3_600_000, **PATIENT)
    own = wait_little(app)
    own._use(None, None)  # no connection is open
    own._breaker.failed()
    app.write("new")

    assert app.stats.errors == {"NotSent": 1}
    held.set()
    assert wait_until(lambda: not app.owes(), LONG)


def test_a_command_that_does_not_fit_into_the_socket_keeps_no_writer_waiting(
    server, open_app, held
):
    """Nor is the half of it that is there taken for the beginning of the next one."""
    app = open_app(server.client(), pause_ms=3_600_000, **PATIENT)
    own = wait_little(app)
    own._line._connection.update_current_socket_timeout(LITTLE)
    with server.client() as client:
        before = client.get("token:shop:*")
    server.freeze()
    many = tuple(f"shop:{number}" for number in range(8_000))
    debts = [(many, "a writer"), (("shop:users",),)]
    took = [timed(partial(own.owe, *debt))[1] for debt in debts]
    server.thaw()
    assert wait_until(lambda: own._line._polled(selectors.EVENT_WRITE, 0), LONG)
    assert not own._line.send("PING")
    held.set()

    assert max(took) < 5
    assert wait_until(lambda: not app.owes(), LONG)
    with server.client() as client:
        assert client.get("token:shop:*") != before


def test_a_debt_without_a_writer_is_small_whatever_its_tags(server, open_app):
    app = open_app(server.client(), pause_ms=3_600_000, **PATIENT)
    own = wait_little(app)
    server.freeze()
    own.owe(tuple(f"shop:{number}" for number in range(8_000)))
    assert own._sent == 1
    server.thaw()
    assert wait_until(lambda: not app.owes(), LONG)
    assert app.stats.errors == {}


def test_a_line_that_is_closed_is_not_opened_by_a_writer(server, open_app, held, monkeypatch):
    app = open_app(server.client(), pause_ms=3_600_000, **PATIENT)
    own = wait_little(app)
    own._line._connection.disconnect()
    connected: list[int] = []
    monkeypatch.setattr(own._line._connection, "connect", lambda: connected.append(1))
    server.freeze()
    with own._debts:
        own._owed.append((("shop:users",), ""))
        assert not own._send_what_is_owed()
        assert not own._line.is_open
    assert connected == []
    server.thaw()
    held.set()
    own.owe(("shop:users",))
    assert wait_until(lambda: not app.owes(), LONG)


@pytest.fixture
def unseen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have nobody look at a line but at the opening, or where a test says that it is time."""
    monkeypatch.setattr("labkit.cache.server.LOOK", 3_600.0)


def kill_line(server: OwnServer, own: Any) -> None:
    """Have the server close the line, and nothing else."""
    with server.client() as client:
        client.client_kill_filter(_id=own._standby.client_id())
    assert wait_until(lambda: not own._line.is_open, LONG)


def look(app: App, own: Any) -> None:
    own._look_at = 0.0
    app.read()


def is_open(own: Any) -> bool:
    return own._line is not None and own._line.is_open and own._opener is None


@pytest.mark.parametrize("is_seen", [True, False])
def test_a_line_that_was_closed_before_it_froze_is_opened_if_it_was_seen(
    server, open_app, other, held, unseen, is_seen
):
    app = open_app(server.client(), mark_writes=False, pause_ms=3_600_000, **PATIENT)
    reader, own = other(server.client(), **PATIENT), app.cache._opened()
    assert reader("hits")
    app.read()
    kill_line(server, own)
    if is_seen:
        look(app, own)
        assert wait_until(lambda: is_open(own), LONG)
    wait_little(app)
    server.freeze()
    own._breaker.failed()  # the write sends nothing by itself
    app.write("new")
    server.thaw()

    assert reader("read") == ("new" if is_seen else "old")
    assert app.stats.errors == ({} if is_seen else {"NotSent": 1})
    held.set()
    assert wait_until(lambda: not app.owes(), LONG)
    assert reader("read") == "new"


def test_a_line_that_redis_closes_for_being_idle_is_opened_again(server, open_app, held):
    app = open_app(server.client(), **PATIENT)
    own = app.cache._opened()
    first = own._line
    with server.client() as client:
        client.config_set("timeout", 1)
        assert wait_until(lambda: bool(app.read()) and own._line is not first, LONG)
        client.config_set("timeout", 0)
    assert wait_until(lambda: bool(app.read()) and is_open(own), LONG)
    server.freeze()
    wait_little(app).owe(("shop:users",))

    assert own._sent == 1
    server.thaw()
    held.set()
    assert wait_until(lambda: not app.owes(), LONG)


def test_a_line_that_a_proxy_closes_is_opened_once_whoever_looks(server, open_app, unseen):
    switch = Switch(server.path)
    with ended(switch):
        app = open_app(switch.client(), **PATIENT)
        own = app.cache._opened()
        app.read()
        name = own._line._connection._sock.getsockname()
        [near] = [each for each in switch._open if each.getpeername() == name]
        near.shutdown(socket.SHUT_RDWR)
        assert wait_until(lambda: not own._line.is_open, LONG)
        target, switch.target = switch.target, None  # accepted, and never answered
        before = switch.connections
        for _ in range(5):
            look(app, own)
        assert wait_until(lambda: switch.connections == before + 1, LONG)
        assert (own._line, own._standby) == (None, None)
        switch.target = target
        switch._open[-1].shutdown(socket.SHUT_RDWR)
        assert wait_until(lambda: own._opener is None, LONG)
        assert switch.connections == before + 1

        look(app, own)
        assert wait_until(lambda: is_open(own), LONG)
        assert (switch.connections, app.stats.errors) == (before + 2, {})


def test_a_line_that_is_opened_again_and_again_takes_one_connection(server, open_app, unseen):
    app = open_app(server.client(), **PATIENT)
    own = app.cache._opened()
    with server.client() as client:
        app.read()
        before = client.info("clients")["connected_clients"]
        for _ in range(5):
            kill_line(server, own)
            look(app, own)
            assert wait_until(lambda: is_open(own), LONG)
            for _ in range(2):  # nothing is done where it is open
                look(app, own)
        own._keep_standby_open()  # as where the other client has connected anew
        assert wait_until(lambda: client.info("clients")["connected_clients"] == before, LONG)
        assert before == 3  # ours, its own, and the line


def test_a_line_that_no_thread_can_open_costs_nobody_an_answer(
    server, open_app, unseen, monkeypatch
):
    app = open_app(server.client(), **PATIENT)
    own = app.cache._opened()
    app.read()
    kill_line(server, own)

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        own._look_at = 0.0
        app.write("new")
        assert own._look_at > 0
    look(app, own)

    assert wait_until(lambda: is_open(own), LONG)
    assert app.stats.errors == {}


def test_a_server_that_is_closed_leaves_no_connection_open_and_delivers_what_it_owes(
    server, open_app
):
    app = open_app(server.client(), pause_ms=10, **PATIENT)
    with server.client() as client:
        app.cache._opened().close()
        assert wait_until(lambda: client.info("clients")["connected_clients"] == 1, LONG)
        assert app.hits()  # who asks again connects again
        before = client.get("token:shop:*")
        server.freeze()
        wait_little(app).owe(("shop:users",))
        app.cache._opened().close()
        server.thaw()
        assert wait_until(lambda: not app.owes(), LONG)
        assert client.get("token:shop:*") != before


@contextmanager
def no_descriptor_left() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = [os.dup(0)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (taken[0] + 1, hard))
    try:
        with suppress(OSError):
            while True:  # what was free below that number
                taken.append(os.dup(0))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for each in taken:
            os.close(each)


def test_what_is_owed_is_sent_though_no_file_can_be_opened(server, open_app):
    app = open_app(server.client(), pause_ms=3_600_000, **PATIENT)
    own = wait_little(app)
    server.freeze()
    own.owe(("shop:users",))
    with no_descriptor_left():
        own.owe(("shop:users",))
    assert own._sent == 2
    server.thaw()
    assert wait_until(lambda: not app.owes(), LONG)
    assert app.stats.errors == {}


def test_a_debt_is_delivered_though_its_thread_could_not_be_started(server, open_app, monkeypatch):
    app = open_app(server.client(), pause_ms=3_600_000, **PATIENT)
    own = wait_little(app)

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        own.owe(("shop:users",))
    assert app.owes()
    own.owe(("shop:users",))
    assert wait_until(lambda: not app.owes(), LONG)


def test_a_socket_that_is_full_makes_no_writer_wait(server, open_app):
    """What fills it has not been read, so it is run after the write that finds it full."""
    app = open_app(server.client(), **PATIENT)
    own = app.cache._opened()
    server.freeze()
    debts = [((f"shop:{number}",), "") for number in range(1_000)]
    with own._debts:
        own._owed.extend(debts)
        is_safe, took = timed(own._send_what_is_owed)
        sent = own._sent
    server.thaw()
    own.owe(("shop:users",))

    assert (is_safe, 0 < sent < len(debts), took < 10) == (True, True, True)
    assert wait_until(lambda: not app.owes(), LONG)
    assert app.stats.errors == {}


def listen(server: OwnServer) -> int:
    """Have a server take a port too, and return it. One that was free may be another's by now."""
    with server.client() as client:
        for _ in range(20):
            with socket.create_server(("127.0.0.1", 0)) as probe:
                port: int = probe.getsockname()[1]
            with suppress(redis.exceptions.ResponseError):  # it could not listen there
                client.config_set("port", port)
                return port
    pytest.fail("no port can be taken")


@pytest.fixture
def pair(keeper: Keeper) -> Iterator[tuple[OwnServer, OwnServer]]:
    master, replica = OwnServer(KIND, keeper), OwnServer(KIND, keeper)
    with ended(master, replica):
        master.start("bind 127.0.0.1", "repl-diskless-sync-delay 0")
        port = listen(master)
        replica.start(f"replicaof 127.0.0.1 {port}", "repl-diskless-sync-delay 0")
        with replica.client() as client:
            assert wait_until(
                lambda: client.info("replication")["master_link_status"] == "up", LONG
            )
        yield master, replica


@pytest.mark.parametrize("read_first", ["the reader", "the writer"])
def test_a_replica_that_lags_behind_serves_nothing_stale_when_it_is_promoted(
    pair, open_app, other, read_first
):
    master, replica = pair
    switch = Switch(master.path)
    with ended(switch), master.client() as ours, replica.client() as theirs:
        app = open_app(switch.client(), pause_ms=10, **PATIENT)
        reader = other(switch.client(), pause_ms=10, **PATIENT)
        assert app.hits()
        assert reader("hits")
        assert ours.wait(1, 5_000) == 1
        theirs.replicaof("NO", "ONE")  # from here on it lags behind
        hits = reader("stats")["hits"]
        app.write("new")
        assert theirs.get("token:shop:users") != ours.get("token:shop:users")
        assert theirs.get("token:shop:*") == ours.get("token:shop:*")
        switch.target = replica.path
        master.kill()

        reads = [lambda: reader("read"), app.read]
        for read in reads if read_first == "the reader" else reads[::-1]:
            assert read() == "new"
        if read_first == "the reader":  # else it may have a hit already, of a new entry
            assert reader("stats")["hits"] == hits
        assert wait_until(app.hits, LONG)
        assert wait_until(lambda: reader("hits"), LONG)
        assert reader("read") == app.read() == "new"


def test_a_master_that_has_become_a_replica_is_not_used(pair, open_app, other):
    """It has the old entries of the new master, and the name that they were given under."""
    master, replica = pair
    with master.client() as ours, replica.client() as theirs:
        app = open_app(master.client(), pause_ms=10, **PATIENT)
        assert app.hits()
        assert ours.wait(1, 5_000) == 1
        theirs.replicaof("NO", "ONE")
        app.write("new")
        theirs.config_set("bind", "127.0.0.1")
        ours.replicaof("127.0.0.1", listen(replica))
        assert wait_until(lambda: ours.info("replication")["master_link_status"] == "up", LONG)
        ours.client_kill_filter(_type="normal", skipme=True)  # as Sentinel does

        assert other(master.client(), **PATIENT)("read") == "new"
        assert app.read() == "new"


# Listeners.


@pytest.mark.parametrize("name", ["hit", "miss", "bypass", "fill_refused", "invalidated", "error"])
def test_a_listener_that_raises_breaks_no_request(server, open_app, clock, name):
    app, calls = open_app(server.client(), **PATIENT), []

    def listener(sender: Any, **about: Any) -> None:
        calls.append(about)
        raise ValueError("a listener")

    with getattr(signals, name).connected_to(listener, sender=app.cache):
        assert app.hits()
        app.write("new")
        with server.client() as client:
            assert app.hits()
            client.set(key_of_entry(client), stamp(client) + b"?")
            client.config_set("maxmemory", 1)
        assert app.read() == "new"
        server.kill()
        assert [app.read(), app.read()] == ["new", "new"]
        app.write("newer")
        assert app.read() == "newer"
    assert calls
