"""A small application for test_soak.py: counters in several tables, read through a QueryCache.

Gunicorn calls `create`. A counter only grows, so that a reader can tell an old answer from a new
one. What is added and rolled back is `DIRTY`, which nobody may ever see.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

from flask import Flask, request
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import event, select, update
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from labkit.cache import QueryCache
from labkit.cache.questions import key_and_tables

TABLES, ROWS = 8, 3
DIRTY = 1_000_000
TTL = 600
NAMESPACE = "soak"


class Base(DeclarativeBase):
    pass


db = SQLAlchemy(model_class=Base)
cache = QueryCache()
master: dict[str, Any] = {}  # what was counted before the fork


class Counter:
    id: Mapped[int] = mapped_column(primary_key=True)
    value: Mapped[int]


COUNTERS: list[Any] = [
    type(f"Counter{number}", (Counter, db.Model), {"__tablename__": f"counter_{number}"})
    for number in range(TABLES)
]


def _value_of(number: int) -> Callable[[int], int]:
    counter = COUNTERS[number]

    @cache.query(ttl=TTL, tags=[counter.__tablename__], name=f"value_{number}")
    def value_of(row: int) -> int:
        return int(db.session.scalars(select(counter.value).where(counter.id == row)).one())

    return value_of


VALUE_OF = [_value_of(number) for number in range(TABLES)]
ROWS_OF = [select(each.id, each.value).order_by(each.id) for each in COUNTERS]


@cache.query(ttl=TTL, tags=[each.__tablename__ for each in COUNTERS])
def everything() -> list[list[int]]:
    return [
        list(db.session.scalars(select(each.value).order_by(each.id)).all()) for each in COUNTERS
    ]


Answer = Callable[[list[list[int]]], Any]  # of a question, by the values of all counters


def questions(app: Flask) -> Iterator[tuple[str, list[str], Answer]]:
    """Give the key of each question, its tags in order, and its answer by the counters' values."""
    with app.app_context():
        engine = db.engine
    for number, counter in enumerate(COUNTERS):
        tags = sorted(["*", counter.__tablename__])
        question: Any = VALUE_OF[number]
        for row in range(ROWS):
            yield question.question.key(NAMESPACE, (row,), {}, None), tags, _one_value(number, row)
        key, _ = key_and_tables(ROWS_OF[number], engine, None, None, NAMESPACE)
        yield key, tags, _rows(number)
    whole: Any = everything
    tags = sorted(["*", *(each.__tablename__ for each in COUNTERS)])
    yield whole.question.key(NAMESPACE, (), {}, None), tags, lambda values: values


def _one_value(number: int, row: int) -> Answer:
    return lambda values: values[number][row]


def _rows(number: int) -> Answer:
    return lambda values: [{"id": row, "value": value} for row, value in enumerate(values[number])]


def create(database: str, redis: str, warm: bool = False, **settings: Any) -> Flask:
    """Return the application.

    Args:
        database: a path of a file, in which the tables are made if they are missing.
        redis: the URL.
        warm: whether the cache and the database are used at once, as an application may do which
            gunicorn loads before it forks.
        settings: of the cache, in capitals.
    """
    app = Flask("soak")
    app.config |= {
        "SQLALCHEMY_DATABASE_URI": f"sqlite:///{database}",
        "SQLALCHEMY_ENGINE_OPTIONS": {"connect_args": {"timeout": 30}},
        "QUERY_CACHE_URL": redis,
        "QUERY_CACHE_NAMESPACE": NAMESPACE,
    }
    app.config |= {f"QUERY_CACHE_{name}": value for name, value in settings.items()}
    db.init_app(app)
    with app.app_context():
        event.listen(db.engine, "connect", _prepare)
        db.create_all()
        if not db.session.get(COUNTERS[-1], 0):
            db.session.add_all(each(id=row, value=0) for each in COUNTERS for row in range(ROWS))
            db.session.commit()
        db.session.remove()
        cache.init_app(app, db)
        if warm:
            _warm()
        db.engine.dispose()  # SQLite's connections must not pass a fork
    _route(app)
    return app


def _prepare(connection: Any, _: Any) -> None:
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")


def _warm() -> None:
    for _ in range(3):
        everything()
    db.session.remove()
    master.update(pid=os.getpid(), connection=_connection(), stats=cache.stats.as_dict())


def _connection() -> int:
    return int(cache.ask(lambda client: client.client_id()))


def _route(app: Flask) -> None:
    @app.get("/state")
    def state() -> Any:
        server: Any = cache._server
        return {
            "pid": os.getpid(),
            "owes": server.owes,
            "stats": cache.stats.as_dict(),
            "master": master,
        }

    @app.get("/connection")
    def connection() -> Any:
        return {"pid": os.getpid(), "connection": _connection()}

    @app.get("/value/<int:number>/<int:row>")
    def value(number: int, row: int) -> Any:
        return {"pid": os.getpid(), "values": [[number, row, VALUE_OF[number](row)]]}

    @app.get("/rows/<int:number>")
    def rows(number: int) -> Any:
        found = cache.rows(ROWS_OF[number], ttl=TTL)
        return {"pid": os.getpid(), "values": [[number, row["id"], row["value"]] for row in found]}

    @app.get("/everything")
    def all_values() -> Any:
        return {
            "pid": os.getpid(),
            "values": [
                [number, row, value]
                for number, values in enumerate(everything())
                for row, value in enumerate(values)
            ],
        }

    @app.post("/add/<int:number>/<int:row>")
    def add(number: int, row: int) -> Any:
        """Add to a counter, say what this request reads then, and commit or roll back."""
        amount = DIRTY if "dirty" in request.args else 1
        counter = COUNTERS[number]
        one = update(counter).where(counter.id == row).values(value=counter.value + amount)
        written = db.session.scalars(one.returning(counter.value)).one()
        own = VALUE_OF[number](row)
        if amount == DIRTY:
            db.session.rollback()
        else:
            db.session.commit()
        return {"pid": os.getpid(), "written": written, "own": own}
