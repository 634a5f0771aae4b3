"""What one probe runs on: a Redis and a small shop of its own, both real, both thrown away."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import redis
from flask import Flask
from redis.backoff import NoBackoff
from redis.retry import Retry
from sqlalchemy import NullPool, event, insert, select

from labkit.errors import LabError
from labkit.servers import Keeper, choose_redis
from labkit.servers.cluster import PORT_ATTEMPTS, PortTaken, run_on_port
from labkit.servers.redis import find_program
from labkit.shop.app import prepare_engine
from labkit.shop.models import User, db

USERS = 100
OLD, NEW = "old", "new"  # regions
READY_TIMEOUT = 10.0  # seconds
PORTS = range(20_000, 32_000)  # systems give outgoing connections others: Linux, from 32,768 on


class Place:
    """Where a cache is opened: what an adapter is given.

    Attributes:
        url: of the audit's Redis, `redis://:password@127.0.0.1:port/0`.
        app: a Flask application. Probes run inside its context, but for those that say otherwise.
        db: its Flask-SQLAlchemy extension.
        tables: the tables that every cached function reads.
        cluster: whether the Redis is a Cluster.
    """

    def __init__(self, url: str, app: Flask, cluster: bool = False) -> None:
        self.url, self.app, self.db, self.cluster = url, app, db, cluster
        self.tables = ("users",)

    def client(self) -> Any:
        """Return a new client: a `redis.Redis`, or a `redis.RedisCluster` where it is one."""
        if self.cluster:
            return redis.RedisCluster.from_url(self.url)
        return redis.Redis.from_url(self.url)


def redis_program() -> tuple[str, Path]:
    """Return the Redis that the audit runs: LABKIT_REDIS's own, if that is one which we may kill.

    It comes with its kind: "server", found on PATH, or "wheel".

    Raises:
        LabError: there is none here.
    """
    kind = choose_redis(os.environ.get("LABKIT_REDIS") or "auto")[0]
    if kind not in ("server", "wheel"):
        kind = choose_redis("auto")[0]
    if kind == "fake":
        raise LabError(
            "the audit kills and freezes a real Redis, and there is none here.\n"
            "Install redis-server; or on Linux or macOS, pip install 'labkit[audit]'."
        )
    return kind, find_program(kind)


class Server:
    """A Redis program on a loopback port, which a probe may kill, freeze and start again.

    Attributes:
        kind: "server", found on PATH, or "wheel".
        port: where it listens.
        pid: the present process.
    """

    def __init__(self, keeper: Keeper) -> None:
        self.kind, self._program = redis_program()
        self._keeper = keeper
        self._password = secrets.token_urlsafe(24)
        self._starts = 0
        self.port, self.pid = 0, 0
        for _ in range(PORT_ATTEMPTS):
            self.port = steady_port()
            with contextlib.suppress(PortTaken):
                self.start()
                return
        raise LabError("no free port was found for the audit's Redis.\nStart again in a moment.")

    @property
    def url(self) -> str:
        """The URL that any client connects to."""
        return f"redis://:{self._password}@127.0.0.1:{self.port}/0"

    @property
    def directory(self) -> Path:
        """The folder of the server's present run."""
        return self._keeper.directory / f"redis{self._starts}"

    def start(self, *settings: str) -> None:
        """Start it, empty; or start it again, on the same port and with the same password.

        Args:
            settings: further lines of its configuration.

        Raises:
            PortTaken: somebody else listens there by now.
        """
        self._starts += 1
        self.pid = run_on_port(
            self._program, self.directory, self.port, [*settings], self._password, self._keeper
        )

    def restore(self) -> None:
        """Start it again with the data that a SAVE of its last run has written."""
        self.start(f'dir "{self.directory}"')

    def client(self) -> redis.Redis:
        """Return a client for looking and tampering: it waits for a while, and tries once."""
        return redis.Redis.from_url(
            self.url, retry=Retry(NoBackoff(), 0), socket_timeout=READY_TIMEOUT
        )

    def kill(self) -> None:
        """Have it gone, and its port closed."""
        os.kill(self.pid, signal.SIGKILL)
        deadline = time.monotonic() + READY_TIMEOUT
        while time.monotonic() < deadline:
            try:
                self.client().ping()
            except redis.RedisError:
                return
        raise LabError("the audit's Redis did not end.")

    def freeze(self) -> None:
        """Stop it as it is: it accepts connections, and answers nothing."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        os.kill(self.pid, signal.SIGCONT)


def steady_port() -> int:
    """Return a free loopback port that stays so while its server is away.

    Among those that outgoing connections are given, one could get it meanwhile: even a client that
    tries to reach the server would now and then, and be connected to itself.
    """
    while True:
        port = secrets.choice(PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


class Site:
    """A shop with a hundred users in SQLite, and the place where a cache of it is opened.

    Every SELECT is counted, in whichever process of the probe it runs.

    Attributes:
        place: for the adapter.
        server: the Redis.
        after_load: called by each load once its SELECT has run, before it returns.
        broken: whether loads raise.
    """

    def __init__(self) -> None:
        self._keeper = Keeper()
        self.directory = self._keeper.directory
        try:
            self.server = Server(self._keeper)
        except BaseException:
            self._keeper.close()
            raise
        self.client = self.server.client()
        self._open(self.server.url)

    def _open(self, url: str) -> None:
        self._file, self._log = self.directory / "shop.db", self.directory / "selects"
        is_new = not self._file.exists()
        self._log.touch()
        self.app = self._open_shop()
        self.place = Place(url, self.app)
        self.after_load: Callable[[], object] = lambda: None
        self.broken = False
        if is_new:
            self._fill_shop()
        event.listen(self.engine, "before_cursor_execute", self._count)

    def _open_shop(self) -> Flask:
        app = Flask("audit")
        app.config["SQLALCHEMY_DATABASE_URI"] = f"sqlite:///{self._file}"
        app.config["SQLALCHEMY_ENGINE_OPTIONS"] = {"poolclass": NullPool}  # safe after a fork
        db.init_app(app)
        with app.app_context():
            self.engine = db.engine
            prepare_engine(self.engine)
        return app

    def _fill_shop(self) -> None:
        with self.app.app_context():
            db.create_all()
        with self.engine.begin() as connection:
            connection.execute(insert(User), [_user(number) for number in range(1, USERS + 1)])

    def _count(self, _: Any, __: Any, sql: str, *___: Any) -> None:
        if sql.startswith("SELECT"):
            with self._log.open("ab", buffering=0) as log:  # atomic: other processes append too
                log.write(b".")

    def close(self) -> None:
        """End the Redis, and remove every file."""
        self._keeper.close()

    @property
    def sql(self) -> int:
        """How many SELECTs have run so far, in all processes of the probe."""
        return self._log.stat().st_size

    def region(self, user: int) -> str:
        """Read a user's region, as a load does: by SQL, on a connection of its own."""
        with self.engine.connect() as connection:
            region: str = connection.execute(
                select(User.region).where(User.id == user)
            ).scalar_one()
        if self.broken:
            raise Broken("the database has had enough")
        self.after_load()
        return region

    def change(self, user: int | None = None, region: str = NEW) -> None:
        """Write to the database beside SQLAlchemy, so that no cache sees it by itself.

        Args:
            user: whose region; everybody's without it.
            region: the new one.
        """
        where, values = ("", [region]) if user is None else (" WHERE id = ?", [region, user])
        connection = sqlite3.connect(self._file)
        try:
            connection.execute("PRAGMA synchronous = OFF")  # no power cut is survived here
            with connection:
                connection.execute(f"UPDATE users SET region = ?{where}", values)
        finally:
            connection.close()


class Joined(Site):
    """The same shop and the same Redis, in a process that was started anew.

    Args:
        url: of the Redis.
        directory: of the site.
    """

    def __init__(self, url: str, directory: Path) -> None:
        self.directory = directory
        self._open(url)

    def close(self) -> None:
        """Leave all of it to the process that has opened it."""


class Broken(Exception):
    """What a load raises while the site is broken."""


def _user(number: int) -> dict[str, Any]:
    name = f"user{number}"
    email = f"{name}@example.com"
    return {"id": number, "username": name, "region": OLD, "email": email, "name": name}


_current: list[Site] = []


@contextlib.contextmanager
def opened(make: Callable[[], Site] = Site) -> Iterator[Site]:
    """Open a site for this process: it is what `current` returns within the `with` block."""
    site = make()
    _current.append(site)
    try:
        yield site
    finally:
        _current.remove(site)
        site.close()


def current() -> Site:
    """Return the site of the probe that runs in this process."""
    return _current[-1]
