"""A state machine against the QueryCache: whatever happens in which order, no read is stale.

Two processes are played by two threads. Each has a Flask application, an engine, a session and a
QueryCache of its own, which hears of its own engine's writes only; Redis and the database are
shared. The model is a plain dictionary of rows. What a read may give:

- A session with writes of its own that are not committed: its own rows, exactly.
- Any other: the rows that are committed now. It is what an entry holds, and what READ COMMITTED
  gives; the cache may not answer with anything older.
- In a transaction whose snapshot is older (REPEATABLE READ on PostgreSQL; SQLite between BEGIN and
  COMMIT) either its snapshot's rows, where the database was asked, or the rows that are committed
  now, where an entry was there. A function that calls another cached one may have its own part from
  the one and the other's part from the other. None of it may be stored unless it is up to date.
- A function that gives what mapped objects say, in a session that holds such objects: what the
  function gives without a cache as well. SQLAlchemy does not refresh what a session holds.
- A read during which somebody commits: the rows of before, or those of after.

Which process reads matters in one respect: what one process owes to Redis another cannot know. So
it waits until Redis has it. The one that owes does not wait: it must bypass by itself. With L1 a
process waits until Redis' messages have arrived, or until a proof that they do would be too old.
"""

from __future__ import annotations

import itertools
import os
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import redis
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import ForeignKey, delete, event, func, insert, select, text, update
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from labkit.cache import QueryCache
from labkit.cache.commits import watch_writes
from labkit.cache.invalidation import Writes
from labkit.servers import Keeper, create_cluster, start_postgres, start_redis
from labkit.servers.redis import find_program
from tests.helpers import is_running, wait_until

REGIONS = ("EU", "US")
NEAR: dict[str, Any] = {"L1_ENTRIES": 20, "L1_STALE_MS": 100}
LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"
HOW_LONG = (
    settings.get_profile("long")
    if LONG
    else settings(max_examples=30, stateful_step_count=30, derandomize=True, print_blob=False)
)
HOW_LONG = settings(HOW_LONG, deadline=None, suppress_health_check=list(HealthCheck))


class Base(DeclarativeBase):
    pass


db = SQLAlchemy(model_class=Base)


class Customer(db.Model):  # type: ignore[name-defined, misc]
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    name: Mapped[str]
    region: Mapped[str]
    purchases: Mapped[list[Purchase]] = relationship(order_by="Purchase.id", passive_deletes=True)


class Purchase(db.Model):  # type: ignore[name-defined, misc]
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    customer_id: Mapped[int] = mapped_column(ForeignKey("customer.id", ondelete="CASCADE"))
    quantity: Mapped[int]


# The model: rows by table and id.

Change = dict[tuple[str, int], tuple[Any, ...] | None]  # None: the row is deleted
FIRST: dict[tuple[str, int], tuple[Any, ...]] = {
    ("customer", 1): ("first", "EU"),
    ("customer", 2): ("second", "US"),
    ("purchase", 1): (1, 10),
    ("purchase", 2): (2, 20),
}


@dataclass
class Tables:
    rows: Change
    prices: dict[str, int]  # what no database knows: a tag invalidates what was made of it

    def with_(self, changes: Change) -> Tables:
        rows: Change = {
            key: row for key, row in {**self.rows, **changes}.items() if row is not None
        }
        return Tables(rows, self.prices)

    def of(self, table: str) -> Iterator[tuple[Any, ...]]:
        return (
            (key, *row) for (name, key), row in sorted(self.rows.items()) if name == table and row
        )

    def customers(self, region: str) -> list[tuple[Any, ...]]:
        return [each for each in self.of("customer") if each[2] == region]

    def purchases(self, *customers: int) -> list[tuple[Any, ...]]:
        return [each for each in self.of("purchase") if each[1] in customers]


Decorate = Callable[..., Callable[[Callable[[str], Any]], Callable[[str], Any]]]

# The questions, each with what the model says: of the reader's own rows, and of the inner part.


def true_names(tables: Tables, region: str) -> Any:
    return [[key, name] for key, name, _ in tables.customers(region)]


def true_joined(tables: Tables, region: str) -> Any:
    names = {key: name for key, name, _ in tables.customers(region)}
    return [[names[owner], number] for _, owner, number in tables.purchases(*names)]


def true_branching(first: Tables, then: Tables, region: str) -> Any:
    found = first.customers(region)  # two statements, and somebody may commit between them
    return sum(each[2] for each in then.purchases(found[0][0])) if found else None


def true_objects(tables: Tables, region: str) -> Any:
    return [
        [name, [number for _, _, number in tables.purchases(key)]]
        for key, name, _ in tables.customers(region)
    ]


def true_got(tables: Tables, region: str) -> Any:
    row = tables.rows.get(("customer", 1 + REGIONS.index(region)))
    return row and row[0]


def as_dicts(*names: str) -> Callable[[Any], Any]:
    return lambda rows: [dict(zip(names, row, strict=True)) for row in rows]


def total(tables: Tables) -> int:
    return sum(number for _, _, number in tables.of("purchase"))


TRUTH: dict[str, Callable[[Tables, Tables, str], Any]] = {
    "given": lambda own, _, region: true_names(own, region),
    "learnt": lambda own, _, region: true_joined(own, region),
    "branching": true_branching,
    "objects": lambda own, _, region: true_objects(own, region),
    "got": lambda own, _, region: true_got(own, region),
    "written": lambda own, _, region: true_names(own, region),
    "untagged": lambda own, _, region: true_names(own, region),
    "price": lambda own, _, region: own.prices[region],
    "rate": lambda own, _, region: own.prices[f"rate {region}"],
    "nested": lambda own, inner, region: [true_names(inner, region), total(own)],
    "nested_later": lambda own, inner, region: [
        total(own), inner.prices[region], true_joined(inner, region),
    ],
    "nested_twice": lambda own, inner, region: [
        inner.prices[region], true_names(inner, region), total(own),
    ],
    "rows": lambda own, _, region: as_dicts("id", "name")(true_names(own, region)),
    "rows_joined": lambda own, _, region: as_dicts("name", "quantity")(true_joined(own, region)),
}  # fmt: skip
OBJECTS = {"objects", "got"}
NEVER_STORED = {"untagged"}


JOINED = (
    select(Customer.name, Purchase.quantity)
    .join(Purchase, Purchase.customer_id == Customer.id)
    .order_by(Purchase.id)
)
NAMES = select(Customer.id, Customer.name).order_by(Customer.id)
TEXT = text("SELECT id, name FROM customer WHERE region = :region ORDER BY id")


def questions(world: World, query: Decorate, rows: Callable[..., Any]) -> dict[str, Any]:
    """Return the questions, cached by `query` and `rows`, or by nothing."""

    def lists(statement: Any, *args: Any) -> list[list[Any]]:
        return [list(row) for row in db.session.execute(statement, *args)]

    @query(ttl=60, tags=["customer"], name="given")
    def given(region: str) -> Any:
        found = lists(NAMES.where(Customer.region == region))
        world.pause()
        return found

    @query(ttl=60, name="learnt")
    def learnt(region: str) -> Any:
        found = lists(JOINED.where(Customer.region == region))
        world.pause()
        return found

    @query(ttl=60, name="branching")
    def branching(region: str) -> Any:
        found = lists(NAMES.where(Customer.region == region))
        world.pause()
        if not found:
            return None
        mine = Purchase.customer_id == found[0][0]
        return db.session.scalar(select(func.coalesce(func.sum(Purchase.quantity), 0)).where(mine))

    @query(ttl=60, name="objects")
    def objects(region: str) -> Any:
        found = db.session.scalars(
            select(Customer).where(Customer.region == region).order_by(Customer.id)
        )
        answer = [[each.name, [line.quantity for line in each.purchases]] for each in found]
        world.pause()
        return answer

    @query(ttl=60, name="got")
    def got(region: str) -> Any:
        found = db.session.get(Customer, 1 + REGIONS.index(region))
        return found and found.name

    @query(ttl=60, tags=["customer"], name="written")
    def written(region: str) -> Any:
        db.session.flush()  # text does not
        return lists(TEXT, {"region": region})

    @query(ttl=60, name="untagged")
    def untagged(region: str) -> Any:
        db.session.flush()
        return lists(TEXT, {"region": region})

    @query(ttl=60, tags=["prices"], by_table=False, name="price")
    def price(region: str) -> Any:
        found = world.now.prices[region]
        world.pause()
        return found

    @query(ttl=60, by_table=False, name="rate")
    def rate(region: str) -> Any:
        found = world.now.prices[f"rate {region}"]
        world.pause()
        return found

    def sold() -> int:
        return db.session.scalar(select(func.coalesce(func.sum(Purchase.quantity), 0))) or 0

    @query(ttl=60, name="nested")
    def nested(region: str) -> Any:
        return [given(region), sold()]

    @query(ttl=60, name="nested_later")
    def nested_later(region: str) -> Any:
        return [sold(), price(region), learnt(region)]

    @query(ttl=60, name="nested_twice")
    def nested_twice(region: str) -> Any:
        inner = nested(region)
        return [price(region), *inner]

    def plain_rows(region: str) -> Any:
        return rows(NAMES.where(Customer.region == region), ttl=60)

    def joined_rows(region: str) -> Any:
        return rows(JOINED.where(Customer.region == region), ttl=60)

    functions = [given, learnt, branching, objects, got, written, untagged, price, rate, nested]
    functions += [nested_later, nested_twice]
    found = {each.__name__: each for each in functions}
    return {**found, "rows": plain_rows, "rows_joined": joined_rows}


# What the processes have in common.


class RedisProcess:
    """A Redis on a unix socket, that can be killed, started again and frozen."""

    def __init__(self, keeper: Keeper) -> None:
        server = start_redis("auto", keeper)
        assert server.pid is not None
        self.url, self._pid, self._keeper = server.url, server.pid, keeper
        self._folder = keeper.directory / "redis"
        self._command = [str(find_program(server.kind)), str(self._folder / "redis.conf")]
        self.state = "up"
        self.client = server.connect()

    def kill(self) -> None:
        os.kill(self._pid, signal.SIGKILL)
        assert wait_until(lambda: not is_running(self._pid), 10)
        self.state = "down"

    def start(self) -> None:
        self._pid = self._keeper.spawn(
            self._command, log=self._folder / "log", stop_signal=signal.SIGKILL
        )
        assert wait_until(self._answers, 10)
        self.state = "up"

    def _answers(self) -> bool:
        with suppress(redis.RedisError):
            return bool(self.client.info("server")["process_id"] == self._pid)
        return False

    def freeze(self) -> None:
        os.kill(self._pid, signal.SIGSTOP)
        self.state = "frozen"

    def thaw(self) -> None:
        os.kill(self._pid, signal.SIGCONT)
        self.state = "up"

    def recover(self) -> None:
        if self.state == "down":
            self.start()
        elif self.state == "frozen":
            self.thaw()

    def forget_dump(self) -> None:
        (self._folder / "dump.rdb").unlink(missing_ok=True)

    def evict(self, number: int) -> None:
        if self.state == "up" and (keys := sorted(self.client.keys())):
            self.client.delete(keys[number % len(keys)])


class World:
    """One database, one Redis, and what is true."""

    def __init__(self, kind: str, url: str, server: RedisProcess) -> None:
        self.kind, self.redis = kind, server
        self.heard = itertools.count(1)
        self.is_sqlite = kind != "postgres"
        self.near = NEAR if kind == "sqlite with L1" else {}
        self.now = Tables({}, {})
        self.interrupt: Callable[[], None] | None = None
        self.at_commit: Callable[[str], None] | None = None
        self.numbers = itertools.count(1)
        self.actors = [Actor(self, number, url) for number in range(2)]
        self.actors[0].do(db.create_all)
        self.steps: Counter[str] = Counter()

    def pause(self) -> None:
        """In the middle of a load, after it has asked the database."""
        interrupt, self.interrupt = self.interrupt, None
        if interrupt is not None:
            interrupt()

    def begin(self, **options: Any) -> None:
        """Begin an example: the same rows, an empty Redis, new caches."""
        self.redis.recover()
        self.redis.forget_dump()
        self.redis.client.flushall()
        self.interrupt = self.at_commit = None
        self.numbers = itertools.count(1)
        self.now = Tables({}, {each: 0 for r in REGIONS for each in (r, f"rate {r}")}).with_(
            {**FIRST}
        )
        self.actors[0].do(self.actors[0].fill_tables)
        for actor in self.actors:
            actor.open(self.redis.url, options)

    def end(self) -> None:
        for actor in self.actors:
            actor.close()

    def catch_up(self, actor: Actor) -> None:
        """Have all arrive at a process' L1 that Redis has said; or wait until it answers nothing.

        What is set last is named last, and no other call has had its name. L1 may begin anew
        meanwhile, and not have heard of it: then another is set.
        """
        l1: Any = actor.cache._l1
        while l1:
            is_up, name = self.redis.state == "up", f"model:v:heard:{next(self.heard)}"
            if is_up:
                self.redis.client.set(name, "", px=1)

            def is_done() -> bool:
                return name in l1._named if is_up else not l1.is_trusted  # noqa: B023

            if wait_until(is_done, 0.05):
                return

    def commit(self, changes: Change) -> None:
        self.now = self.now.with_(changes)

    def close(self) -> None:
        for actor in self.actors:
            actor.thread.shutdown()
            with actor.app.app_context():
                db.engine.dispose()


@dataclass
class Actor:
    """A process: a thread with an application, a cache, and the session of a request."""

    world: World
    number: int
    url: str
    changes: Change = field(default_factory=dict)  # that are not committed
    savepoints: list[Change] = field(default_factory=list)
    snapshot: Tables | None = None
    level: str = ""
    wrote: bool = False  # since the transaction began, even if it has changed no row

    def __post_init__(self) -> None:
        self.thread = ThreadPoolExecutor(1)
        self.app = Flask(f"process{self.number}")
        self.app.config["SQLALCHEMY_DATABASE_URI"] = self.url
        db.init_app(self.app)
        self.request: Any = None
        self.held: list[Any] = []
        with self.app.app_context():
            self.engine = db.engine
        if self.world.is_sqlite:
            event.listen(self.engine, "connect", self._prepare)
        if self.world.kind == "sqlite with BEGIN":
            event.listen(self.engine, "begin", lambda each: each.exec_driver_sql("BEGIN"))
        self._watch_commits()
        self.new_request()

    def _prepare(self, connection: sqlite3.Connection, _: Any) -> None:
        for pragma in ("journal_mode=WAL", "foreign_keys=ON", "synchronous=OFF"):
            connection.execute(f"PRAGMA {pragma}")
        if self.world.kind == "sqlite with BEGIN":
            connection.isolation_level = None

    def _watch_commits(self) -> None:
        """Have the test told before each COMMIT and after it, closer to it than the cache is."""
        dialect: Any = self.engine.dialect
        commit = dialect.do_commit

        def do_commit(connection: Any) -> None:
            hook, self.world.at_commit = self.world.at_commit, None
            if hook is not None:
                hook("before")
            commit(connection)
            if hook is not None:
                hook("after")

        dialect.do_commit = do_commit

    def do(self, what: Callable[..., Any], *args: Any) -> Any:
        return self.thread.submit(what, *args).result(60)

    def fill_tables(self) -> None:
        with self.engine.begin() as connection:
            connection.execute(delete(Purchase))
            connection.execute(delete(Customer))
            for (table, key), row in FIRST.items():
                model: Any = Customer if table == "customer" else Purchase
                names = ["name", "region"] if table == "customer" else ["customer_id", "quantity"]
                connection.execute(
                    insert(model).values(id=key, **dict(zip(names, row, strict=True)))
                )

    def open(self, url: str, options: dict[str, Any]) -> None:
        options = {"URL": url, "NAMESPACE": "model", "LEASE_MS": 200, **self.world.near, **options}
        self.app.config.update({f"QUERY_CACHE_{name}": each for name, each in options.items()})
        self.cache = QueryCache()
        self.cache.init_app(self.app, db)
        self.cache._stop_watching()  # which hears of every engine: the other process' as well
        self.cache._stop_watching = watch_writes(self.engine, Writes(self.cache))
        self.asked: set[tuple[str, str]] = set()
        self.cached = questions(self.world, self.cache.query, self.cache.rows)
        self.uncached = questions(
            self.world,
            lambda **_: lambda function: function,
            lambda statement, ttl: [dict(row) for row in db.session.execute(statement).mappings()],
        )
        self.new_request()

    def close(self) -> None:
        self.new_request()
        stats = self.cache.stats.as_dict()
        for what, count in stats.items():
            counts = count if isinstance(count, dict) else {"": count}
            self.world.steps.update({f"{what} {why}".strip(): n for why, n in counts.items()})
        self.cache.close()

    def new_request(self, level: str = "") -> None:
        """End the request, and begin one: at this isolation level, if there is a choice."""
        self._ended(level)
        self.held.clear()
        self.do(self._new_request, level)

    def _new_request(self, level: str) -> None:
        if self.request is not None:
            self.request.pop()
        self.request = self.app.app_context()
        self.request.push()
        if level:
            db.session.connection(execution_options={"isolation_level": level})

    # What it sees.

    def view(self) -> Tables:
        return self.base().with_(self.changes)

    def base(self) -> Tables:
        if self.snapshot is None:
            return self.world.now
        return Tables(self.snapshot.rows, self.world.now.prices)

    def look(self) -> None:
        """Note the snapshot that a statement has just taken, or one that has ended."""
        self.do(self._look)

    def _look(self) -> None:
        if not (self._in_transaction() if self.world.is_sqlite else self.level):
            self.snapshot = None
        elif self.snapshot is None:
            self.snapshot = self.world.now

    def _in_transaction(self) -> bool:
        transaction = db.session().get_transaction()
        if transaction is None or not transaction.connections:
            return False
        driver: Any = db.session.connection().connection.dbapi_connection
        return bool(driver.in_transaction)

    @property
    def other(self) -> Actor:
        return self.world.actors[1 - self.number]

    def may_write(self) -> bool:
        """Whether a write will not wait, or fail, for the sake of isolation: that is no cache's."""
        if not self.world.is_sqlite:
            return True  # each has rows of its own
        stale = self.snapshot is not None and self.snapshot.rows != self.world.now.rows
        return not self.other.wrote and not stale

    # Writes: each returns what the model must change. A process writes to its own half of the ids.

    def mine(self, table: str) -> list[tuple[Any, ...]]:
        return [each for each in self.view().of(table) if each[0] % 2 == self.number]

    def new_id(self) -> int:
        return 100 + 2 * next(self.world.numbers) + self.number

    def write(self, way: str, region: str, number: int) -> None:
        if not self.may_write():
            return
        word = f"{way} {next(self.world.numbers)}"
        found = self.mine("customer")
        apart = way == "engine" and not self.wrote
        changes = self.do(getattr(self, f"_{way}"), found, region, number, word)
        if apart:
            self.world.commit(changes)
        else:
            if self.world.is_sqlite or self.level:
                self.look()
            self.changes.update(changes)
            self.wrote = True

    def _chosen(self, found: list[tuple[Any, ...]], number: int) -> tuple[Any, ...] | None:
        return found[number % len(found)] if found else None

    def _add(self, found: Any, region: str, number: int, word: str) -> Change:
        customer, purchase = self.new_id(), self.new_id()
        new = Customer(id=customer, name=word, region=region)
        new.purchases = [Purchase(id=purchase, quantity=number)]
        db.session.add(new)
        if number % 2:
            db.session.flush()
        return {("customer", customer): (word, region), ("purchase", purchase): (customer, number)}

    def _change(self, found: Any, region: str, number: int, word: str) -> Change:
        """As a request does: read, change, and perhaps leave the flush to others."""
        row = self._chosen(found, number)
        if row is None:
            return {}
        statement = select(Customer).where(Customer.id == row[0])
        customer = db.session.scalars(statement.execution_options(populate_existing=True)).one()
        customer.name = word
        if number % 2:
            db.session.flush()
        return {("customer", row[0]): (word, customer.region)}

    def _remove(self, found: Any, region: str, number: int, word: str) -> Change:
        row = self._chosen(found, number)
        if row is None:
            return {}
        statement = select(Customer).where(Customer.id == row[0])
        db.session.delete(
            db.session.scalars(statement.execution_options(populate_existing=True)).one()
        )
        db.session.flush()
        return self._without(row[0])

    def _without(self, *customers: int) -> Change:
        gone = [("purchase", each[0]) for each in self.view().purchases(*customers)]
        return dict.fromkeys([*gone, *(("customer", each) for each in customers)])

    def _update(self, found: Any, region: str, number: int, word: str) -> Change:
        mine = Customer.id % 2 == self.number
        db.session.execute(
            update(Customer).where(Customer.region == region, mine).values(name=word)
        )
        return {("customer", row[0]): (word, region) for row in found if row[2] == region}

    def _move(self, found: Any, region: str, number: int, word: str) -> Change:
        db.session.execute(
            update(Customer).where(Customer.id % 2 == self.number).values(region=region)
        )
        return {("customer", row[0]): (row[1], region) for row in found}

    def _delete(self, found: Any, region: str, number: int, word: str) -> Change:
        """Of a table, and what the database itself deletes for it in another."""
        row = self._chosen(found, number)
        db.session.execute(delete(Customer).where(Customer.id == (row[0] if row else 0)))
        return self._without(row[0]) if row else {}

    def _bulk(self, found: Any, region: str, number: int, word: str) -> Change:
        ids = [self.new_id(), self.new_id()]
        db.session.bulk_save_objects([Customer(id=each, name=word, region=region) for each in ids])
        return {("customer", each): (word, region) for each in ids}

    def _text(self, found: Any, region: str, number: int, word: str) -> Change:
        owner = "IN (SELECT id FROM customer WHERE region = :region)"
        sql = f"UPDATE purchase SET quantity = :n WHERE id % 2 = :p AND customer_id {owner}"
        db.session.flush()  # text does not
        db.session.execute(text(sql), {"n": number, "p": self.number, "region": region})
        ids = [each[0] for each in self.view().customers(region)]
        rows = [each for each in self.view().purchases(*ids) if each[0] % 2 == self.number]
        return {("purchase", key): (owner, number) for key, owner, _ in rows}

    def _core(self, found: Any, region: str, number: int, word: str) -> Change:
        new = self.new_id()
        db.session.flush()
        row = {"id": new, "name": word, "region": region}
        db.session.connection().execute(insert(Customer.__table__).values(**row))
        return {("customer", new): (word, region)}

    def _engine(self, found: Any, region: str, number: int, word: str) -> Change:
        """On a connection of its own, if the session has nothing under way."""
        if self.wrote:
            return self._core(found, region, number, word)
        mine = Customer.id % 2 == self.number
        with self.engine.begin() as connection:
            connection.execute(
                update(Customer).where(Customer.region == region, mine).values(name=word)
            )
        now = self.world.now.customers(region)
        return {("customer", row[0]): (word, region) for row in now if row[0] % 2 == self.number}

    # Transactions.

    def commit(self) -> None:
        changes = dict(self.changes)
        self.do(db.session.commit)
        self.world.commit(changes)
        self._ended()

    def write_and_commit(self, way: str, region: str, number: int) -> None:
        self.write(way, region, number)
        if self.wrote:
            self.commit()

    def rollback(self) -> None:
        self.do(db.session.rollback)
        self._ended()

    def _ended(self, level: str = "") -> None:
        self.changes, self.savepoints, self.snapshot, self.level = {}, [], None, level
        self.wrote = False

    def begin_nested(self) -> None:
        if not self.may_write() and self.world.is_sqlite:
            return
        self.do(lambda: db.session.begin_nested())
        self.savepoints.append(dict(self.changes))
        if self.changes:
            self.look()

    def end_nested(self, how: str) -> None:
        if not self.savepoints:
            return
        self.do(lambda: getattr(db.session().get_nested_transaction(), how)())
        before = self.savepoints.pop()
        if how == "rollback":
            self.changes = before
        if self.world.is_sqlite and not self.do(self._in_transaction):
            self.world.commit(
                self.changes
            )  # where pysqlite begins nothing, a RELEASE is the COMMIT
            self.changes, self.wrote, self.snapshot = {}, False, None


WRITES = ("add", "change", "remove", "update", "move", "delete", "bulk", "text", "core", "engine")
WHO = st.integers(0, 1)
REGION = st.sampled_from(["EU", "EU", "US"])  # the one more often: then its entries are used
NUMBER = st.integers(1, 8)
WHICH = st.integers(0, 3)
TROUBLES = ("evict", "flush", "save", "restart", "kill", "freeze")
BY_HAND = ("sources", "sources", "sources", "customer", "*")
DISTURBANCES = ("write", "write", "write", "by hand", "by hand", "by hand", *TROUBLES)
TRANSACTIONS = ("rollback", "request", "repeatable", "savepoint", "release", "rollback to")


class Machine(RuleBasedStateMachine):
    world: World  # of the test that runs it

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[str, str]] = []
        self.frozen_for = self.pause = 0
        self.world.redis.recover()

    @initialize(
        marks=st.booleans(),
        pause=st.sampled_from([1, 60]),
        names=st.lists(st.sampled_from(sorted(TRUTH)), min_size=1, max_size=3, unique=True),
    )
    def _begin(self, marks: bool, pause: int, names: list[str]) -> None:
        self.names = names  # few: then each is asked often
        self.world.begin(MARK_WRITES=marks, PAUSE_MS=pause)
        self.marks, self.pause = marks, pause

    @property
    def redis(self) -> RedisProcess:
        return self.world.redis

    def actor(self, who: int) -> Actor:
        """Return a process, and have a frozen Redis thaw in time: each step costs a time-out."""
        if self.redis.state == "frozen":
            self.frozen_for += 1
            if self.frozen_for > 1:
                self.redis.thaw()
        return self.world.actors[who]

    # Reads.

    @rule(who=WHO, which=WHICH, region=REGION, fresh=st.booleans())
    def read(self, who: int, which: int, region: str, fresh: bool) -> None:
        self.ask(who, self.names[which % len(self.names)], region, fresh)

    def ask(self, who: int, name: str, region: str, fresh: bool) -> None:
        actor = self.actor(who)
        if fresh and not actor.wrote:
            actor.new_request()
        self.check(actor, name, region)

    @rule(reads=st.lists(st.tuples(WHO, st.integers(0, 3), st.booleans()), min_size=1, max_size=4))
    def read_again(self, reads: list[tuple[int, int, bool]]) -> None:
        """What either process has asked lately: of that there may be an entry."""
        lately = self.asked[-4:]
        for who, which, fresh in reads if lately else ():
            self.ask(who, *lately[which % len(lately)], fresh)

    @rule(who=WHO, which=WHICH, region=REGION, what=st.sampled_from(DISTURBANCES), number=NUMBER)
    def read_disturbed(self, who: int, which: int, region: str, what: str, number: int) -> None:
        """Something happens after the load has asked the database, before it stores the answer."""
        actor, name = self.actor(who), self.names[which % len(self.names)]
        if not actor.wrote:
            actor.new_request()

        def interrupt() -> None:
            actor._look()  # we are in its thread
            self.disturb(actor.other, what, region, number)

        self.world.interrupt = interrupt
        self.check(actor, name, region)

    def disturb(self, actor: Actor, what: str, region: str, number: int) -> None:
        if what == "write":
            actor.write_and_commit(WRITES[number % len(WRITES)], region, number)
        elif what == "by hand":
            self.change_sources(actor)
        elif self.redis.state == "up":
            self.make(what, number)

    def check(self, actor: Actor, name: str, region: str) -> None:
        """Ask the cache, then the database: the answer must be one that the model allows."""
        if self.redis.state == "up":
            self.wait_for(actor.other)
        self.world.catch_up(actor)
        holds_objects = name in OBJECTS and actor.do(lambda: len(db.session().identity_map))
        times = self.times(actor)
        answer = actor.do(actor.cached[name], region)
        self.world.interrupt = None
        times += self.times(actor)
        allowed = [TRUTH[name](one, another, region) for one in times for another in times]
        asked = actor.do(actor.uncached[name], region)
        actor.look()
        if holds_objects:
            allowed.append(asked)
        else:
            assert asked == TRUTH[name](actor.view(), actor.view(), region)
        assert answer in allowed, (
            f"process {actor.number} was given {answer} for {name}({region}), not {allowed}"
        )
        actor.asked.add((name, region))
        if (name, region) not in self.asked[-4:]:
            self.asked.append((name, region))
        spoil(answer)

    def times(self, actor: Actor) -> list[Tables]:
        """Of which times what this process is given may be."""
        return [actor.view()] if actor.changes else [actor.view(), self.world.now]

    def wait_for(self, actor: Actor) -> None:
        """Until Redis has what this process owes: what comes before, no other process can know."""
        server: Any = actor.cache._server
        assert wait_until(lambda: not server.owes, 20), "it is owed, and never delivered"

    @rule(who=WHO, name=st.sampled_from(sorted(OBJECTS)), region=REGION)
    def hold(self, who: int, name: str, region: str) -> None:
        """A request keeps an object, as login extensions do with the current user, and reads."""
        actor = self.actor(who)
        key = 1 + REGIONS.index(region)
        actor.held.append(actor.do(lambda: db.session.get(Customer, key)))
        actor.look()
        self.check(actor, name, region)

    # Writes.

    @rule(who=WHO, way=st.sampled_from(WRITES), region=REGION, number=NUMBER)
    def write(self, who: int, way: str, region: str, number: int) -> None:
        self.actor(who).write(way, region, number)

    @rule(who=WHO, way=st.sampled_from(WRITES), region=REGION, number=NUMBER)
    def write_and_commit(self, who: int, way: str, region: str, number: int) -> None:
        self.actor(who).write_and_commit(way, region, number)

    @rule(who=WHO, which=WHICH, region=REGION, evict=st.integers(0, 20))
    def commit(self, who: int, which: int, region: str, evict: int) -> None:
        """The other process reads just before the COMMIT is sent, and just after it."""
        actor, name = self.actor(who), self.names[which % len(self.names)]
        before, after = self.world.now, self.world.now.with_(actor.changes)
        other = actor.other
        if self.redis.state == "frozen" or other.wrote or not actor.wrote:
            actor.commit()
            return
        other.new_request()
        if self.redis.state == "up":
            self.wait_for(actor)
        errors, spared = actor.cache.stats.errors.total(), actor.cache._opened()._breaker.is_open
        marked = False

        def read(moment: str) -> None:
            nonlocal marked
            if moment == "before":
                marked = self.has_markers()
                if self.marks and not spared and self.redis.state == "up":
                    assert marked or actor.cache.stats.errors.total() > errors
                if evict < 10:
                    self.redis.evict(evict)
            else:
                other.new_request()
            self.world.catch_up(other)
            answer = other.do(other.cached[name], region)
            times = [before] if moment == "before" else [after]
            if moment == "after" and not (marked and evict >= 10):
                times.append(before)  # nobody has said yet that it is over
            allowed = [TRUTH[name](one, two, region) for one in times for two in times]
            assert answer in allowed, f"{moment} COMMIT: {answer} for {name}, not {allowed}"
            spoil(answer)

        self.world.at_commit = read
        actor.commit()
        self.world.at_commit = None
        other.new_request()

    def has_markers(self) -> bool:
        if self.redis.state != "up":
            return False
        client: Any = self.redis.client
        keys = client.keys("token:*")
        return any(each and each.startswith(b"!") for each in (client.mget(keys) if keys else ()))

    @rule(who=WHO, how=st.sampled_from(TRANSACTIONS))
    def transaction(self, who: int, how: str) -> None:
        actor = self.actor(who)
        if how == "rollback":
            actor.rollback()
        elif how == "request":
            actor.new_request()
        elif how == "repeatable":
            actor.new_request("" if self.world.is_sqlite else "REPEATABLE READ")
        elif how == "savepoint":
            actor.begin_nested()
        else:
            actor.end_nested("commit" if how == "release" else "rollback")

    # What is invalidated by hand.

    @rule(who=WHO, what=st.sampled_from(BY_HAND))
    def by_hand(self, who: int, what: str) -> None:
        actor = self.actor(who)
        if what == "sources":
            self.change_sources(actor)
        else:
            actor.cache.invalidate(what)

    def change_sources(self, actor: Actor) -> None:
        """What is in no table changes: for the one a tag is invalidated, for the other an entry."""
        prices = {each: next(self.world.numbers) for each in self.world.now.prices}
        self.world.now = Tables(self.world.now.rows, prices)
        actor.cache.invalidate("prices")
        for region in REGIONS:
            actor.cache.forget(actor.cached["rate"], region)

    # What happens to Redis.

    @rule(what=st.sampled_from([*TROUBLES, "fall back", "fall back"]), number=st.integers(0, 40))
    def trouble(self, what: str, number: int) -> None:
        if self.redis.state != "up":
            if number % 4:
                self.redis.recover()
        elif what == "fall back":  # to what was there before a write
            self.redis.client.save()
            self.world.actors[number % 2].write_and_commit("move", REGIONS[number % 2], number)
            self.make("restart", number)
        else:
            self.make(what, number)

    def make(self, what: str, number: int) -> None:
        """Do to Redis what can happen to one that is up."""
        if what == "evict":
            self.redis.evict(number)
        elif what == "flush":
            self.redis.client.flushdb()
        elif what == "save":  # what a restart comes back with
            self.redis.client.save()
        elif what in ("kill", "restart"):
            self.redis.kill()
            if what == "restart":
                self.redis.start()
        elif what == "freeze" and not self.frozen_for:
            self.redis.freeze()

    # At the end.

    def teardown(self) -> None:
        try:
            self.redis.recover()
            for actor in self.world.actors:
                actor.new_request()
            for actor in self.world.actors:
                self.wait_for(actor)
            time.sleep(self.pause / 1000)  # which a breaker may be in
            if not hasattr(self, "marks"):
                return
            for actor in self.world.actors:
                self.check_entries(actor)
        finally:
            self.world.interrupt = self.world.at_commit = None
            self.world.end()

    def check_entries(self, actor: Actor) -> None:
        """Every entry that counts is true, and at the third time everything has an entry."""
        self.world.catch_up(actor)
        # On a busy machine a load would outlive the lease of the steps, and not be stored.
        actor.cache._settings = replace(actor.cache._settings, lease_ms=10_000)
        self.world.steps["examples"] += actor.number
        asked = sorted(actor.asked)
        stats = actor.cache.stats
        errors = stats.errors.total()
        for _ in range(3):  # the first may find out tables, the second stores, the third finds
            hits = stats.hits
            for name, region in asked:
                actor.new_request()
                answer = actor.do(actor.cached[name], region)
                assert answer == TRUTH[name](self.world.now, self.world.now, region), name
        kept = [each for each in asked if each[0] not in NEVER_STORED]
        if asked and stats.errors.total() == errors:  # a slow machine may time out
            assert stats.hits - hits >= len(kept), (
                f"not all of {kept} are stored: {stats.as_dict()}"
            )


def spoil(answer: Any) -> None:
    """Do with an answer what a caller may do."""
    if isinstance(answer, list):
        for each in answer:
            spoil(each)
        answer.append("spoilt")
    elif isinstance(answer, dict):
        answer.clear()


@pytest.fixture(
    scope="module", params=["sqlite", "sqlite with BEGIN", "sqlite with L1", "postgres"]
)
def world(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    keeper = Keeper()
    try:
        if request.param == "postgres":
            create_cluster(keeper.directory / "postgres")
            url, _ = start_postgres(keeper.directory / "postgres", keeper)
        else:
            url = f"sqlite:///{tmp_path_factory.mktemp('data') / 'model.sqlite'}"
        world = World(request.param, url, RedisProcess(keeper))
        yield world
        print(request.param, sorted(world.steps.items()))
        world.close()
    finally:
        keeper.close()


def test_no_read_is_stale_whatever_happens(world: World) -> None:
    class OfThisWorld(Machine):
        pass

    OfThisWorld.world = world
    run_state_machine_as_test(OfThisWorld, settings=HOW_LONG)


# What the machine has found, or could have.


@pytest.fixture
def begun(world: World) -> Iterator[World]:
    world.begin(TIMEOUT_MS=10_000, LEASE_MS=10_000)  # no busy machine makes an outage
    yield world
    world.end()


def test_an_object_that_a_request_holds_is_not_what_others_are_given(begun: World) -> None:
    """What a session holds is older than the tokens, and may be read without a statement."""
    first, second = begun.actors
    held = first.do(lambda: db.session.get(Customer, 1))
    second.write("update", "EU", 1)
    second.commit()
    for _ in range(2):
        first.do(first.cached["got"], "EU")
        first.do(first.cached["objects"], "EU")
    for actor in begun.actors:
        actor.new_request()
        begun.catch_up(actor)
        assert actor.do(actor.cached["got"], "EU") == true_got(begun.now, "EU")
        assert actor.do(actor.cached["objects"], "EU") == true_objects(begun.now, "EU")
    second.write("update", "EU", 1)
    second.commit()
    first.new_request()
    begun.catch_up(first)
    assert first.do(first.cached["got"], "EU") == true_got(begun.now, "EU")
    del held


def test_the_tags_of_a_call_that_is_bypassed_belong_to_its_caller_too(begun: World) -> None:
    """Where the caller has read before, the call within is in an older transaction."""
    (actor, _) = begun.actors
    for _ in range(3):
        actor.new_request()
        assert actor.do(actor.cached["nested_later"], "EU")[1] == 0
        actor.cache.forget(actor.cached["price"], "EU")
    begun.now.prices["EU"] = 1
    actor.cache.invalidate("prices")
    actor.new_request()
    assert actor.do(actor.cached["nested_later"], "EU")[1] == 1


def test_a_rollback_leaves_no_marker(begun: World) -> None:
    (actor, _) = begun.actors
    actor.write("update", "EU", 1)
    actor.rollback()
    values: list[Any] = [begun.redis.client.get(key) for key in begun.redis.client.keys("token:*")]
    assert not [each for each in values if each and each.startswith(b"!")]


def test_what_begins_a_transaction_is_no_read_by_text(begun: World) -> None:
    (actor, _) = begun.actors
    for _ in range(3):
        actor.new_request()
        actor.do(actor.cached["learnt"], "EU")
    assert (actor.cache.stats.hits, dict(actor.cache.stats.refused_fills)) == (
        1,
        {"tables that were not known": 1},
    )


def test_a_load_during_which_its_call_is_forgotten_is_not_stored(begun: World) -> None:
    (actor, other) = begun.actors

    def change() -> None:
        begun.now.prices["rate EU"] = 1
        other.cache.forget(other.cached["rate"], "EU")

    begun.interrupt = change
    assert actor.do(actor.cached["rate"], "EU") == 0
    assert actor.do(actor.cached["rate"], "EU") == 1
