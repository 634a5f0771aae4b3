"""The shop behind gunicorn, with several workers, as a load test finds it.

    with served(lab) as shop:
        load(shop.url("none", "US"), seconds=3)

It listens on a loopback port, as wrk knows no unix sockets. Everybody on this machine can connect
there, so each path begins with a random text, and whoever does not know it gets a 404.

gunicorn calls `create` in each worker.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import re
import secrets
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis
from flask import Flask, Response, abort, jsonify, request
from sqlalchemy import event

from labkit.baselines import article
from labkit.cache import QueryCache
from labkit.errors import LabError
from labkit.lab import Lab
from labkit.servers import Keeper
from labkit.servers.keeper import has_ended
from labkit.shop.app import prepare_engine
from labkit.shop.models import db
from labkit.shop.queries import regional_report
from labkit.shop.rows import REGIONS

WORKERS = 4
THREADS = 4  # of each worker: a connection that is kept alive waits in one
TTL = 3_600  # seconds
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

    def url(self, strategy: str, region: str, visit: int = 0) -> str:
        """Return where a region's report is.

        Args:
            strategy: how it is cached, one of `STRATEGIES`.
            region: whose.
            visit: part of the question: another number is another entry.
        """
        return f"http://127.0.0.1:{self._port}{self.path(strategy, region, visit)}"

    def path(self, strategy: str, region: str, visit: int = 0) -> str:
        """Return the same without scheme, host and port."""
        return f"/{self._secret}/{strategy}/{region}?visit={visit}"

    @property
    def sql(self) -> int:
        """How many SQL statements all workers have run so far."""
        return self._log.stat().st_size


@contextmanager
def served(lab: Lab, workers: int = WORKERS) -> Iterator[Served]:
    """Serve the lab's shop until the end of the `with` block, or of this process.

    Args:
        lab: its Redis must be a real one, as the workers connect to it.
        workers: how many processes.

    Raises:
        LabError: the lab's Redis is simulated, or the server does not start.
    """
    keeper = Keeper()
    try:
        yield start(lab, keeper, workers)
    finally:
        keeper.close()


def start(lab: Lab, keeper: Keeper, workers: int = WORKERS) -> Served:
    """Start the server, and return where it is.

    Args:
        lab: as of `served`.
        keeper: owns the processes.
        workers: how many.

    Raises:
        LabError: as of `served`.
    """
    with lab.app.app_context():
        database = lab.db.engine.url.render_as_string(hide_password=False)
    selects, secret = keeper.directory / "statements", secrets.token_urlsafe(12)
    selects.touch(mode=0o600)
    task = {"database": database, "redis": lab.redis_url, "log": str(selects), "secret": secret}
    file = keeper.directory / "web.json"  # not the command line, which every user can read
    file.touch(mode=0o600)
    file.write_text(json.dumps(task))
    command, version = _command(file, workers)
    log = keeper.directory / "web.log"
    pid = keeper.spawn(command, log=log, stop_signal=signal.SIGQUIT)
    port = _port(log, pid)
    return Served(port, secret, selects, version, workers)


def _command(file: Path, workers: int) -> tuple[list[str], str]:
    """Return the server's command, and what it is called."""
    if os.name == "nt" or importlib.util.find_spec("gunicorn") is None:
        raise LabError(
            "gunicorn does not run here (it needs fork, which Windows has not).\n"
            "Run the load tests on Linux, on macOS or in WSL."
        )
    version = f"gunicorn {importlib.metadata.version('gunicorn')}"
    command = [sys.executable, "-m", "gunicorn", "--bind", "127.0.0.1:0", "--no-control-socket"]
    command += ["--workers", str(workers), "--worker-class", "gthread", "--threads", str(THREADS)]
    command += ["--keep-alive", "75", "--graceful-timeout", "0"]
    command += ["--worker-tmp-dir", str(file.parent)]
    return [*command, f"labkit.concurrency.web:create({str(file)!r})"], version


def _port(log: Path, pid: int) -> int:
    """Return the port that the server says it listens on."""
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline and not has_ended(pid):
        found = re.search(r"Listening at: http://127\.0\.0\.1:(\d+)", log.read_text())
        if found:
            return int(found[1])
        time.sleep(0.02)
    last_words = log.read_text(errors="replace").strip().splitlines()[-1:]
    raise LabError(f"the web server does not start. {' '.join(last_words)}")


# Below: what runs in each worker.


def create(file: str) -> Flask:
    """Return the application of one worker.

    Args:
        file: says which database and Redis, where to count, and how each path begins.
    """
    task = json.loads(Path(file).read_text())
    app = Flask("shop")
    app.config.update(SQLALCHEMY_DATABASE_URI=task["database"], QUERY_CACHE_URL=task["redis"])
    db.init_app(app)
    client = redis.Redis.from_url(task["redis"])
    cache = QueryCache()
    cache.init_app(app, db)
    with app.app_context():
        prepare_engine(db.engine)
        _count_statements(db.engine, Path(task["log"]))
    reports: dict[str, Callable[[str, int], Any]] = {
        NONE: report,
        LESSON_02: lesson_02(client, TTL)(report),
        ARTICLE: article.cached(client, TTL)(report),
        QUERY_CACHE: cache.query(ttl=TTL, tags=("users", "orders", "order_lines"))(report),
    }

    @app.get(f"/{task['secret']}/<strategy>/<region>")
    def answer(strategy: str, region: str) -> Response:
        if strategy not in STRATEGIES or region not in REGIONS:
            abort(404)
        visit = request.args.get("visit", 0, type=int)
        if strategy != ONE_GET:
            return jsonify(reports[strategy](region, visit))
        stored: Any = client.get(one_get_key(region))
        return Response(stored, mimetype="application/json")

    return app


def report(region: str, visit: int = 0) -> list[dict[str, int]]:
    """Return a region's report; `visit` only makes it another question."""
    return regional_report(region)


def one_get_key(region: str) -> str:
    """Return where the bytes stand that the view with one GET answers with."""
    return f"answer:{region}"


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
