"""The shop behind gunicorn, with several workers, as a load test finds it.

    with served(lab) as shop:
        load(shop.url("none", "US"), seconds=3)

It listens on a loopback port, as wrk knows no unix sockets. Everybody on this machine can connect
there, so each path begins with a random text, and whoever does not know it gets a 404.

gunicorn calls `create` in each worker.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import importlib.util
import json
import os
import re
import secrets
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import orjson
import redis
from flask import Flask, Response, abort, request
from sqlalchemy import event

from labkit.baselines import article
from labkit.cache import QueryCache
from labkit.concurrency.clients import client_of
from labkit.concurrency.shared_counts import SharedStatistics, counts
from labkit.errors import LabError
from labkit.lab import Lab
from labkit.measure import histogram
from labkit.measure.load import open_here
from labkit.servers import Keeper
from labkit.servers.keeper import has_ended, last_words
from labkit.servers.processes import comes_true
from labkit.shop.app import prepare_engine
from labkit.shop.models import OrderLine, db
from labkit.shop.queries import regional_report
from labkit.shop.rows import REGIONS

WORKERS = 4
THREADS = 4  # of each worker: a connection that is kept alive waits in one
TTL = 3_600  # seconds
TABLES = ("users", "orders", "order_lines")  # that a report reads
ANSWER_TIMEOUT = 30.0  # seconds
AUTO, GUNICORN, WAITRESS = "auto", "gunicorn", "waitress"
LOG = "web.log"
PATIENT_MS = 30_000
START_TIMEOUT = 20.0  # seconds; a start takes about one
NONE, LESSON_02, ARTICLE, QUERY_CACHE, ONE_GET = (
    "none", "lesson-02", "article", "query-cache", "one-get",
)  # fmt: skip
STRATEGIES = (NONE, LESSON_02, ARTICLE, QUERY_CACHE, ONE_GET)


class Served:
    """A shop that is being served.

    Attributes:
        server: the program and its version, such as "gunicorn 27.0.1".
        workers: how many processes.
    """

    def __init__(self, port: int, secret: str, log: Path, server: str, workers: int) -> None:
        self._port, self._secret, self._log = port, secret, log
        self.server, self.workers = server, workers

    def url(self, strategy: str, region: str, visit: int | str = 0) -> str:
        """Return where a region's report is.

        Args:
            strategy: how it is cached, one of `STRATEGIES`.
            region: whose.
            visit: part of the question: another number is another entry. "{}" stands for a new
                number in each request, where the path is one of those of a `load`.
        """
        return f"http://127.0.0.1:{self._port}{self.path(strategy, region, visit)}"

    def path(self, strategy: str, region: str, visit: int | str = 0) -> str:
        """Return the same without scheme, host and port."""
        return f"/{self._secret}/{strategy}/{region}?visit={visit}"

    @property
    def sql(self) -> int:
        """How many SQL statements all workers have run so far."""
        return self._log.stat().st_size

    @property
    def cache_counts(self) -> Counter[str]:
        """What QueryCache has counted in all workers so far.

        Its hits, misses, waits, refused fills and bypasses, as `QueryCache.stats` has them; and
        its loads: how often it has called the function that it caches.
        """
        return counts(self._log.parent)

    def warm(self, strategy: str, region: str, visits: int = 1) -> None:
        """Ask for a region's report, visits 0 and up: from now on these are hits.

        Args:
            strategy: whose entries.
            region: as of `url`.
            visits: how many questions.

        Raises:
            LabError: the shop does not answer.
        """
        for visit in range(visits):
            _expect_success(self.url(strategy, region, visit))

    def write(self) -> None:
        """Have a worker raise the price of an order line, and commit: one SQL statement.

        Raises:
            LabError: the shop does not answer.
        """
        _expect_success(f"http://127.0.0.1:{self._port}/{self._secret}/write", b"")


@contextmanager
def served(lab: Lab, workers: int = WORKERS, server: str = AUTO) -> Iterator[Served]:
    """Serve the lab's shop until the end of the `with` block, or of this process.

    A line is printed that says by what. Where the lab's Redis is simulated, no two processes can
    share it: the shop is then one process, with a simulated Redis of its own.

    Args:
        lab: its database is served, and its Redis is the cache.
        workers: how many processes.
        server: "gunicorn", "waitress" (one process with as many threads), or "auto": gunicorn,
            and waitress where gunicorn does not run.

    Raises:
        LabError: the server does not start.
    """
    keeper = Keeper()
    try:
        shop = start(lab, keeper, workers, server)
        print(f"Server    {shop.server}")
        if histogram.note():
            print(histogram.note())
        yield shop
    finally:
        keeper.close()


def start(lab: Lab, keeper: Keeper, workers: int = WORKERS, server: str = AUTO) -> Served:
    """Start the server, and return where it is.

    Args:
        lab: as of `served`.
        keeper: owns the processes.
        workers: as of `served`.
        server: as of `served`.

    Raises:
        LabError: as of `served`.
    """
    statements, secret = keeper.directory / "statements", secrets.token_urlsafe(12)
    statements.touch(mode=0o600)
    url = lab.redis_url if lab.server.is_real else None
    task = {"database": lab.database_url, "redis": url, "log": str(statements), "secret": secret}
    workers = workers if lab.server.is_real else 1
    port, program = run("labkit.concurrency.web:create", task, keeper, workers, server)
    return Served(port, secret, statements, program.words, program.workers)


def run(
    create: str, task: Mapping[str, Any], keeper: Keeper, workers: int, server: str = AUTO
) -> tuple[int, Program]:
    """Serve an application, and return the port, and by what.

    Args:
        create: PACKAGE.MODULE:NAME of a function that makes it, once in each worker, and says so
            by `has_created`. It gets the name of the file with the task.
        task: what it needs to know. It may hold passwords.
        keeper: owns the processes. It serves one application only.
        workers: how many processes.
        server: as of `served`.

    Raises:
        LabError: as of `served`.
    """
    file = keeper.directory / "web.json"  # not the command line, which every user can read
    file.touch(mode=0o600)
    file.write_text(json.dumps(task))
    program = _program(f"{create}({str(file)!r})", server).with_workers(workers)
    port, pid = program.start(keeper)
    _wait_until(lambda: len(_created(file)) == program.workers, pid)
    return port, program


class ArticleServed:
    """The article's application, being served."""

    def __init__(self, port: int, log: Path) -> None:
        self._port, self._log = port, log

    def status(self) -> int:
        """Ask for the users of the US, and return the status of the answer.

        Raises:
            LabError: there is none.
        """
        return _status(f"http://127.0.0.1:{self._port}/users/us")

    @property
    def first_error(self) -> str:
        """The first exception in the server's log, as one line; empty if there is none."""
        found = re.findall(r"^\w[\w.]*Error: .*$", self._log.read_text(errors="replace"), re.M)
        return found[0] if found else ""


@contextmanager
def served_article(workers: int = WORKERS, server: str = AUTO) -> Iterator[ArticleServed]:
    """Serve the article's application as it says to, until the end of the `with` block.

    Args:
        workers: as of `served`.
        server: as of `served`.

    Raises:
        LabError: the server does not start.
    """
    keeper = Keeper()
    try:
        program = _program("labkit.baselines.article_app:app", server).with_workers(workers)
        yield ArticleServed(program.start(keeper)[0], keeper.directory / LOG)
    finally:
        keeper.close()


# What serves.


@dataclass(frozen=True)
class Program:
    """A web server, and what it is to serve.

    Attributes:
        name: "gunicorn" or "waitress".
        target: PACKAGE.MODULE:NAME, or a call of it.
        workers: how many processes.
        why: in place of what it is, in words; empty where it was asked for.
    """

    name: str
    target: str
    workers: int = 1
    why: str = ""

    def with_workers(self, workers: int) -> Program:
        """Return the same with so many processes, where it has more than one."""
        return replace(self, workers=workers if self.name == GUNICORN else 1)

    @property
    def words(self) -> str:
        """What it is, in words."""
        version = f"{self.name} {importlib.metadata.version(self.name)}"
        if self.name == GUNICORN:
            return f"{version}, {self.workers} workers of {THREADS} threads"
        words = f"{version}, one process of {THREADS * WORKERS} threads"
        return f"{words}: {self.why}" if self.why else words

    def start(self, keeper: Keeper) -> tuple[int, int]:
        """Start it, and return the port that it listens on, and its process id.

        Raises:
            LabError: it does not start.
        """
        log = keeper.directory / LOG
        if self.name == GUNICORN:
            pid = keeper.spawn(self._gunicorn(keeper), log=log, stop_signal=signal.SIGQUIT)
        else:
            pid = keeper.spawn([sys.executable, "-m", __name__, self.target], log=log)
        return _port(log, pid), pid

    def _gunicorn(self, keeper: Keeper) -> list[str]:
        command = [sys.executable, "-m", GUNICORN, "--bind", "127.0.0.1:0", "--no-control-socket"]
        command += ["--workers", str(self.workers), "--threads", str(THREADS)]
        command += ["--worker-class", "gthread", "--keep-alive", "75", "--graceful-timeout", "0"]
        return [*command, "--worker-tmp-dir", str(keeper.directory), self.target]


def _program(target: str, server: str) -> Program:
    if server not in (AUTO, GUNICORN, WAITRESS):
        raise LabError(f'a server is "gunicorn", "waitress" or "auto", and not {server!r}.')
    why_not = _why_no_gunicorn()
    if server == GUNICORN and why_not:
        raise LabError(f"{why_not}: it needs Linux, macOS or WSL. Take waitress.")
    if server == AUTO and why_not:
        return Program(WAITRESS, target, why=why_not)
    return Program(GUNICORN if server == AUTO else server, target)


def _why_no_gunicorn() -> str:
    """Return why gunicorn does not run here; empty where it does."""
    if sys.platform == "win32":
        return "gunicorn does not run on Windows"  # it needs fork
    return "" if importlib.util.find_spec(GUNICORN) else "gunicorn is not installed here"


def _port(log: Path, pid: int) -> int:
    """Return the port that the server says it listens on, once it has answered there."""
    found: list[str] = []

    def listens() -> bool:
        found[:] = re.findall(r"Listening at: http://127\.0\.0\.1:(\d+)", log.read_text())
        return bool(found)

    try:
        _wait_until(listens, pid)
        port = int(found[0])
        _status(f"http://127.0.0.1:{port}/")  # 404, by a worker that has loaded the application
    except LabError:
        raise LabError(f"the web server does not start. {last_words(log)}") from None
    return port


def _wait_until(holds: Callable[[], bool], pid: int) -> None:
    if not comes_true(lambda: holds() or has_ended(pid), START_TIMEOUT, 0.02) or has_ended(pid):
        raise LabError("the web server does not start.")


def _status(url: str, data: bytes | None = None) -> int:
    try:
        with open_here(url, data, ANSWER_TIMEOUT) as answer:
            return int(answer.status)
    except HTTPError as error:
        error.close()
        return error.code
    except OSError as error:
        raise LabError(f"the shop does not answer: {error}.") from None


def _expect_success(url: str, data: bytes | None = None) -> None:
    status = _status(url, data)
    if status >= 400:
        raise LabError(f"the shop answers with status {status}.")


# Below: what runs in each worker.


def create(file: str) -> Flask:
    """Return the application of one worker.

    Args:
        file: says which database and Redis, where to count, and how each path begins.
    """
    task = json.loads(Path(file).read_text())
    app = Flask("shop")
    app.config["SQLALCHEMY_DATABASE_URI"] = task["database"]
    # On a busy machine a worker waits longer for a processor than for Redis. That is no outage.
    app.config.update(QUERY_CACHE_TIMEOUT_MS=PATIENT_MS, QUERY_CACHE_LEASE_MS=PATIENT_MS)
    db.init_app(app)
    client = client_of(task["redis"])
    cache = QueryCache()
    cache.init_app(app, db, client=client)
    cache.stats = told = SharedStatistics(Path(file).parent)
    with app.app_context():
        prepare_engine(db.engine)
        _count_statements(db.engine, Path(task["log"]))
    reports: dict[str, Callable[[str, int], Any]] = {
        NONE: report,
        LESSON_02: lesson_02(client, TTL)(report),
        ARTICLE: article.cached(client, TTL)(report),
        QUERY_CACHE: cache.query(ttl=TTL, tags=TABLES, name="report")(_counted(report, told)),
        ONE_GET: one_get(client, TTL)(report),
    }

    @app.get(f"/{task['secret']}/<strategy>/<region>")
    def answer(strategy: str, region: str) -> Response:
        if strategy not in STRATEGIES or region not in REGIONS:
            abort(404)
        visit = request.args.get("visit", 0, type=int)
        return Response(reports[strategy](region, visit), mimetype="application/json")

    @app.post(f"/{task['secret']}/write")
    def write() -> Response:
        line = db.update(OrderLine).filter_by(order_id=1, position=1)
        raised = line.values(unit_price_cents=OrderLine.unit_price_cents + 1)
        db.session.execute(raised)
        db.session.commit()
        return Response(status=204)

    has_created(file)
    return app


def has_created(file: str) -> None:
    """Say that this worker has its application."""
    Path(file).with_suffix(f".created-{os.getpid()}").touch()


def _created(file: str | Path) -> list[Path]:
    """Return a file for each worker that has its application."""
    return list(Path(file).parent.glob("*.created-*"))


def report(region: str, visit: int = 0) -> str:
    """Return a region's report as the view answers with it, in JSON.

    The text is what is cached, by every strategy alike: a hit is the answer's own bytes, and no
    view encodes them again.

    Args:
        region: whose.
        visit: only makes it another question.
    """
    return orjson.dumps(regional_report(region)).decode()


def _counted(function: Callable[..., str], told: SharedStatistics) -> Callable[..., str]:
    @functools.wraps(function)
    def load(*args: Any) -> str:
        told.count_load()
        return function(*args)

    return load


def one_get(client: redis.Redis, ttl: int) -> Callable[[Callable[..., str]], Callable[..., Any]]:
    """Return a decorator that does the least that a cache can: a hit is one GET, and its bytes.

    Args:
        client: the Redis client.
        ttl: the time to live, in seconds.
    """

    def decorate(function: Callable[..., str]) -> Callable[..., Any]:
        def wrapper(region: str, visit: int) -> Any:
            key = f"answer:{region}:{visit}"
            stored: Any = client.get(key)
            if stored is None:
                stored = function(region, visit)
                client.set(key, stored, ex=ttl)
            return stored

        return wrapper

    return decorate


def lesson_02(client: redis.Redis, ttl: int) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return the decorator as lesson 02 writes it.

    Args:
        client: the Redis client.
        ttl: the time to live, in seconds.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*args: Any) -> Any:
            key = f"{function.__name__}:{json.dumps(args)}"
            stored: Any = client.get(key)
            if stored is not None:
                return json.loads(stored)
            stored = json.dumps(function(*args))
            client.set(key, stored, ex=ttl)
            return json.loads(stored)

        return wrapper

    return decorate


def _count_statements(engine: Any, log: Path) -> None:
    @event.listens_for(engine, "before_cursor_execute")
    def _count(*_: Any) -> None:
        with log.open("ab", buffering=0) as file:  # atomic: other workers append too
            file.write(b".")


def main() -> None:
    """Serve with waitress what the argument names: MODULE:NAME, or MODULE:CALL, as gunicorn's."""
    import waitress

    module, _, name = sys.argv[1].partition(":")
    app = eval(name, vars(importlib.import_module(module)))  # from our own command, as gunicorn's
    server = waitress.create_server(app, host="127.0.0.1", port=0, threads=THREADS * WORKERS)
    print(f"Listening at: http://127.0.0.1:{server.effective_port}", flush=True)
    server.run()


if __name__ == "__main__":
    main()
