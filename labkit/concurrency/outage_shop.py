"""A shop that is served while its Redis is made to fail, and notes everything that it does.

It answers questions through `QueryCache`, with the time-outs of production: how much an order costs
(by table order_lines) and how many customers a region has (by table users). A POST raises an
order's price, so each answer that is older than the last write that was answered is too low.

gunicorn calls `create` in each worker. Each worker appends to one journal, a line an event.
"""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from flask import Flask, Response, jsonify
from sqlalchemy import event, func, select, update

from labkit.cache import QueryCache, signals
from labkit.concurrency.clients import client_of
from labkit.concurrency.web import ANSWER_TIMEOUT, has_created, run
from labkit.lab import Lab
from labkit.measure.load import open_here
from labkit.servers import Keeper
from labkit.shop.app import prepare_engine
from labkit.shop.models import OrderLine, User, db
from labkit.shop.rows import REGIONS

TTL = 3_600  # seconds: nothing here ends because of it
WORKERS = 2
NAMESPACE = "{shop}"  # with a hash tag, for a Cluster
HIT, MISS, BYPASS, SQL, READ, WRITTEN = "hit", "miss", "bypass", "sql", "read", "written"


class Event(NamedTuple):
    """One line of the journal.

    Attributes:
        at: when, by `time.perf_counter`; of a read, when it was asked for; of a write, when it was
            committed and told to Redis.
        pid: which worker.
        kind: HIT, MISS, BYPASS, SQL, READ or WRITTEN.
        question: of a read or a write, such as "total/7".
        value: its answer, or what it is from now on.
        owed: of a write: how many invalidations this worker has owed so far, this one included.
    """

    at: float
    pid: int
    kind: str
    question: str = ""
    value: int = 0
    owed: int = 0


class OutageShop:
    """The shop, being served.

    Attributes:
        questions: what it is asked: orders' totals, and regions' customers.
        orders: the orders whose prices it raises. No other shop may have them.
    """

    def __init__(self, port: int, secret: str, journal: Path, lab: Lab, orders: range) -> None:
        self._address, self._secret = f"http://127.0.0.1:{port}", secret
        self._journal, self._lab, self._read = journal, lab, 0
        self._events: list[Event] = []
        self.orders = orders
        self.questions = [f"total/{order}" for order in orders]
        self.questions += [f"customers/{region}" for region in sorted(REGIONS)][: len(orders)]

    @property
    def url(self) -> str:
        """Where it is."""
        return f"{self._address}/"

    def path(self, question: str) -> str:
        """Return where a question's answer is."""
        return f"/{self._secret}/{question}"

    def write_path(self, order: int) -> str:
        """Return what raises an order's price, as `labkit.measure.paced` takes it."""
        return f"POST /{self._secret}/raise/{order}"

    def ask(self, question: str) -> int:
        """Ask over a connection of its own.

        Raises:
            OSError: it does not answer, or with an error.
        """
        with open_here(self._address + self.path(question), timeout=ANSWER_TIMEOUT) as answer:
            return int(json.load(answer)["value"])

    def truth(self, question: str) -> int:
        """Ask the database itself."""
        with self._lab.app.app_context():
            return int(db.session.execute(statement(question)).scalar_one())

    def events(self) -> list[Event]:
        """Return what all workers have noted so far."""
        with self._journal.open("rb") as file:
            file.seek(self._read)
            lines = file.read()
        whole = lines[: lines.rfind(b"\n") + 1]  # the last may be half written
        self._read += len(whole)
        self._events += [Event(*json.loads(line)) for line in whole.splitlines()]
        return self._events


def statement(question: str) -> Any:
    """Return the SELECT that answers a question."""
    kind, _, which = question.partition("/")
    if kind == "total":
        price = func.sum(OrderLine.quantity * OrderLine.unit_price_cents)
        return select(price).where(OrderLine.order_id == int(which))
    return select(func.count(User.id)).where(User.region == which)


def serve(lab: Lab, redis: Any, keeper: Keeper, orders: range) -> OutageShop:
    """Serve the shop, and return where it is.

    Args:
        lab: its database is served.
        redis: what `clients.client_of` is told.
        keeper: owns the processes.
        orders: as of `OutageShop`.

    Raises:
        LabError: it does not start.
    """
    journal, secret = keeper.directory / "journal", secrets.token_urlsafe(12)
    journal.touch(mode=0o600)
    task = {
        "database": lab.database_url, "redis": redis, "journal": str(journal), "secret": secret,
    }  # fmt: skip
    port, _ = run("labkit.concurrency.outage_shop:create", task, keeper, WORKERS)
    return OutageShop(port, secret, journal, lab, orders)


# Below: what runs in each worker.


class Journal:
    """Where a worker notes events, as the other workers do."""

    def __init__(self, file: Path) -> None:
        self._file = os.open(file, os.O_WRONLY | os.O_APPEND)  # one write is one line, whole

    def note(self, kind: str, at: float = 0.0, *about: Any) -> None:
        """Note an event, of now unless it says when."""
        line = json.dumps([at or time.perf_counter(), os.getpid(), kind, *about])
        os.write(self._file, line.encode() + b"\n")

    def watch(self, cache: QueryCache, engine: Any) -> None:
        """Note each hit, miss, bypass and statement from now on."""
        for kind, signal in ((HIT, signals.hit), (MISS, signals.miss), (BYPASS, signals.bypass)):
            signal.connect(self._noting(kind), sender=cache, weak=False)
        event.listen(engine, "before_cursor_execute", self._noting(SQL))

    def _noting(self, kind: str) -> Any:
        def noting(*_: Any, **__: Any) -> None:
            self.note(kind)

        return noting


def create(file: str) -> Flask:
    """Return the application of one worker.

    Args:
        file: says which database and Redis, where the journal is, and how each path begins.
    """
    task = json.loads(Path(file).read_text())
    app = Flask("shop")
    app.config["SQLALCHEMY_DATABASE_URI"] = task["database"]
    app.config["QUERY_CACHE_NAMESPACE"] = NAMESPACE
    db.init_app(app)
    cache, journal = QueryCache(), Journal(Path(task["journal"]))
    cache.init_app(app, db, client=client_of(task["redis"]))
    with app.app_context():
        prepare_engine(db.engine)
        journal.watch(cache, db.engine)

    @cache.query(ttl=TTL, tags=("order_lines",))
    def total(order: str) -> int:
        return int(db.session.execute(statement(f"total/{order}")).scalar_one())

    @cache.query(ttl=TTL, tags=("users",))
    def customers(region: str) -> int:
        return int(db.session.execute(statement(f"customers/{region}")).scalar_one())

    cached = {"total": total, "customers": customers}

    @app.get(f"/{task['secret']}/<any(total, customers):kind>/<which>")
    def answer(kind: str, which: str) -> Response:
        asked = time.perf_counter()
        value = cached[kind](which)
        journal.note(READ, asked, f"{kind}/{which}", value)
        return jsonify(value=value)

    @app.post(f"/{task['secret']}/raise/<int:order>")
    def write(order: int) -> Response:
        line = update(OrderLine).filter_by(order_id=order, position=1)
        raised = line.values(unit_price_cents=OrderLine.unit_price_cents + 1)
        db.session.execute(raised)
        value = int(db.session.execute(statement(f"total/{order}")).scalar_one())
        db.session.commit()
        journal.note(WRITTEN, 0.0, f"total/{order}", value, cache.stats.owed)
        return jsonify(value=value)

    has_created(file)
    return app


def too_old(events: Sequence[Event]) -> int:
    """Return how many reads gave less than a write that was answered before they were asked."""
    written = sorted(each for each in events if each.kind == WRITTEN)
    reads = sorted(each for each in events if each.kind == READ)
    floor: dict[str, int] = {}
    found, place = 0, 0
    for read in reads:
        while place < len(written) and written[place].at < read.at:
            each = written[place]
            floor[each.question] = max(each.value, floor.get(each.question, 0))
            place += 1
        found += read.value < floor.get(read.question, 0)
    return found
