"""QueryCache beside its peers: a part of what `make bench` runs.

All that is compared runs in turns, in an order that changes from round to round, so that what slows
one down slows all. Each peer is set up as its own documentation does. cashews is asyncio's: it is
awaited within a loop that runs already, and 100 tasks ask it where 100 threads ask the others.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import itertools
import random
import secrets
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote

import flask_caching
import orjson
import redis
from cashews import Cache
from cashews.backends.redis import Redis as CashewsRedis
from cashews.picklers import PicklerType
from cashews.wrapper.backend_settings import register_backend
from dogpile.cache import make_region
from flask import Flask

from labkit.baselines import article, deletion
from labkit.cache import QueryCache, tokens
from labkit.servers import Keeper, choose_redis, start_redis
from labkit.servers.redis import find_program, free_port, run_program
from labkit.shop import User, db
from labkit.shop.rows import user_rows
from scripts.timings import Row, duration

MOST = {10: 1.25, 100: 1.15, 1_000: 1.10}  # of GET + orjson, by the number of rows
ROUNDS = 1_500
TTL = 3_600  # seconds
LOAD = 0.1  # seconds that a load takes while 100 ask
THREADS = 16
TURN = 0.25  # seconds of throughput at a time
ASKING = 100
COLUMNS = ("id", "username", "region", "email", "name")
PLAIN, OURS, ROWS = "GET + orjson", "QueryCache", "QueryCache.rows of one statement"

register_backend("unix", CashewsRedis, pass_uri=True, pickler=PicklerType.DEFAULT)
_users = [dict(zip(COLUMNS, row, strict=True)) for row in user_rows(max(MOST))]
_loads: list[int] = []
_unasked = itertools.count(max(MOST) + 1)  # the next is nobody's entry yet


def report(rows: int) -> list[dict[str, Any]]:
    """Be what is cached. What 100 ask for at once is a number that is no size: it takes a while."""
    _loads.append(rows)
    if rows not in MOST:
        time.sleep(LOAD)
    return _users[:rows]


async def awaited_report(rows: int) -> list[dict[str, Any]]:
    """Be the same for asyncio."""
    _loads.append(rows)
    if rows not in MOST:
        await asyncio.sleep(LOAD)
    return _users[:rows]


class Contenders:
    """One server, and all that asks it by one connection's kind of URL.

    Attributes:
        client: a plain client.
        by_name: what gives an answer for a number of rows.
        app: in whose context it is asked.
    """

    def __init__(self, url: str) -> None:
        self.client = redis.Redis.from_url(url)
        self.app = Flask("bench")
        self.app.config.update(
            SQLALCHEMY_DATABASE_URI="sqlite://",
            QUERY_CACHE_URL=url,
            CACHE_TYPE="RedisCache",
            CACHE_REDIS_URL=url,
            CACHE_DEFAULT_TIMEOUT=TTL,
        )
        db.init_app(self.app)
        self.cache = QueryCache()
        self.cache.init_app(self.app, db)
        region = make_region().configure(
            "dogpile.cache.redis",
            expiration_time=TTL,
            arguments={
                "url": url,
                "redis_expiration_time": 2 * TTL,
                "distributed_lock": True,
                "thread_local_lock": False,
            },
        )
        cashews = Cache()
        cashews.setup(url)
        self.by_name: dict[str, Callable[[int], Any]] = {
            PLAIN: self._plain,
            OURS: self.cache.query(ttl=TTL, tags=["users", "orders"])(report),
            ROWS: self._rows,
            "the article's": article.cached(redis.Redis.from_url(url), TTL)(report),
            "Flask-Caching": flask_caching.Cache(self.app).memoize()(report),
            "dogpile.cache": region.cache_on_arguments()(report),
            "cashews": cashews(ttl=TTL)(awaited_report),
        }
        with self.app.app_context():
            db.create_all()
            for user in _users:
                db.session.add(User(**user))
            db.session.commit()
        columns = [getattr(User, name) for name in COLUMNS]
        every = db.select(*columns).order_by(User.id)
        self._statements = {rows: every.limit(rows) for rows in MOST}
        for rows in MOST:
            self.client.set(f"plain:{rows}", orjson.dumps(_users[:rows]))

    def close(self) -> None:
        """Stop watching writes, and close what is open."""
        self.cache.close()
        with self.app.app_context():
            db.engine.dispose()
        self.client.close()

    def _plain(self, rows: int) -> Any:
        found: Any = self.client.get(f"plain:{rows}")
        return orjson.loads(found)

    def _rows(self, rows: int) -> Any:
        return self.cache.rows(self._statements[rows], TTL)


@contextlib.contextmanager
def contenders() -> Iterator[dict[str, Contenders]]:
    """Give those over a unix socket and those over TCP, of one server."""
    keeper = Keeper()
    kind, _ = choose_redis("auto")
    port, password = free_port(), secrets.token_urlsafe(24)
    socket = keeper.directory / "both" / "redis.sock"
    urls = {
        "unix": f"unix://:{password}@{quote(str(socket))}",
        "TCP": f"redis://:{password}@127.0.0.1:{port}/0",
    }
    settings = [
        f"port {port}", "bind 127.0.0.1", f"requirepass {password}",
        f'unixsocket "{socket}"', "unixsocketperm 700",
    ]  # fmt: skip
    made: dict[str, Contenders] = {}
    try:
        run_program(find_program(kind), socket.parent, settings, urls["TCP"], keeper)
        for name, url in urls.items():
            made[name] = Contenders(url)
        yield made
    finally:
        for each in made.values():
            each.close()
        keeper.close()


def hits() -> Iterator[Row]:
    """Each contender's hit, key included, over a unix socket and over TCP."""
    with contenders() as both:
        for connection, each in both.items():
            yield from asyncio.run(_hits(connection, each))


async def _hits(connection: str, contenders: Contenders) -> list[Row]:
    """Return the lines of one connection: each contender's hit, at each size."""
    table = []
    with contenders.app.app_context():
        calls = {name: await _loads_of_many(contenders, name) for name in contenders.by_name}
        for rows, most in MOST.items():
            sent = {
                name: await _commands(contenders.client, ask, rows)
                for name, ask in contenders.by_name.items()
            }
            taken = await _in_turns(contenders.by_name, rows)
            ratios = {name: each / taken[PLAIN] for name, each in taken.items()}
            peers = [name for name in ratios if name not in (PLAIN, OURS, ROWS)]
            what = f"a hit, {rows:,} rows, {connection}: {PLAIN}"
            table.append(Row(what, f"{taken[PLAIN] * 1e6:.0f} us"))
            for name in (OURS, ROWS, *peers):
                commands = f"{sent[name]:g} command{'s' if sent[name] != 1 else ''}"
                what = f"  {name}: {commands}"
                if name != ROWS:
                    what += f"; of {ASKING} misses at once {calls[name]} load"
                target = f"at most x{most:.2f}" if name == OURS else ""
                reached = ratios[name] <= most or name != OURS
                table.append(Row(what, f"x{ratios[name]:.2f}", target, reached))
            against = ratios[OURS] / min(ratios[name] for name in peers)
            what = f"  {OURS} against the fastest of those four"
            table.append(Row(what, f"x{against:.2f}", "under x1.00", against < 1))
    return table


async def _in_turns(asks: dict[str, Callable[[int], Any]], rows: int) -> dict[str, float]:
    """Return each one's median, in seconds."""
    taken: dict[str, list[float]] = {name: [] for name in asks}
    awaited = {name for name, ask in asks.items() if inspect.iscoroutinefunction(ask)}
    order = list(asks)
    shuffle = random.Random(rows).shuffle
    for _ in range(ROUNDS):
        shuffle(order)
        for name in order:
            ask = asks[name]
            if name in awaited:
                began = time.perf_counter()
                await ask(rows)
                taken[name].append(time.perf_counter() - began)
            else:
                taken[name].append(duration(lambda: ask(rows)))  # noqa: B023  (run at once)
    return {name: statistics.median(each) for name, each in taken.items()}


async def _commands(client: redis.Redis, ask: Callable[[int], Any], rows: int) -> float:
    """Return how many commands a hit sends, by the server's own count."""
    hits = 10
    await _answer(ask, rows)
    _loads.clear()
    client.config_resetstat()
    for _ in range(hits):
        await _answer(ask, rows)
    assert not _loads, f"{ask} has loaded anew"
    counts: Any = client.info("commandstats")
    sent: dict[str, int] = {name: each["calls"] for name, each in counts.items()}
    return sum(sent.values(), start=-sent.get("cmdstat_config|resetstat", 0)) / hits


async def _answer(ask: Callable[[int], Any], rows: int) -> Any:
    answer = ask(rows)
    return await answer if inspect.isawaitable(answer) else answer


async def _loads_of_many(contenders: Contenders, name: str) -> int:
    """Return how often the function is called where 100 ask at once for what is not there."""
    ask = contenders.by_name[name]
    if name in (PLAIN, ROWS):
        return 0
    unasked = next(_unasked)
    _loads.clear()
    if inspect.iscoroutinefunction(ask):
        await asyncio.gather(*(ask(unasked) for _ in range(ASKING)))
        return len(_loads)
    together = threading.Barrier(ASKING)

    def ask_with_the_others() -> None:
        with contenders.app.app_context():
            together.wait()
            ask(unasked)

    with ThreadPoolExecutor(ASKING) as pool:
        for each in [pool.submit(ask_with_the_others) for _ in range(ASKING)]:
            each.result()
    return len(_loads)


NEAR = {1: None, 10: 10.0, 100: None}  # microseconds for a hit of L1 at most, by rows


def near_hits() -> Iterator[Row]:
    """A hit of L1 beside one of Redis, key and decoding included, over a unix socket."""
    keeper = Keeper()
    caches: list[QueryCache] = []
    try:
        url = start_redis("auto", keeper).url
        app = Flask("near")
        app.config.update(SQLALCHEMY_DATABASE_URI="sqlite://", QUERY_CACHE_URL=url)
        db.init_app(app)
        asks: dict[str, Callable[[int], Any]] = {}
        for name, entries in (("Redis", 0), ("L1", 1_000)):
            app.config["QUERY_CACHE_L1_ENTRIES"] = entries
            caches.append(QueryCache())
            caches[-1].init_app(app, db)
            asks[name] = caches[-1].query(ttl=TTL, tags=["users", "orders"])(report)
        with app.app_context():
            for rows, most in NEAR.items():
                yield _near_hit(caches[1], asks, rows, most)
    finally:
        for cache in caches:
            cache.close()
        keeper.close()


def _near_hit(
    cache: QueryCache, asks: dict[str, Callable[[int], Any]], rows: int, most: float | None
) -> Row:
    for ask in asks.values():
        for _ in range(20):
            ask(rows)
    before = cache.stats.l1_hits
    taken: dict[str, list[float]] = {name: [] for name in asks}
    for _ in range(ROUNDS):
        for name, ask in asks.items():
            taken[name].append(duration(lambda: ask(rows)))  # noqa: B023  (run at once)
    used = (cache.stats.l1_hits - before) / ROUNDS
    near, far = (statistics.median(taken[name]) * 1e6 for name in ("L1", "Redis"))
    what = f"a hit of L1, rows: {rows:,} ({used:.0%} were); one of Redis {far:.0f} us"
    target = f"at most {most:.0f} us" if most else ""
    return Row(what, f"{near:.1f} us", target, not most or near <= most)


LISTENER = """
import sys, time
import redis
from labkit.cache import QueryCache
cache = QueryCache(redis.Redis.from_url(sys.argv[1]), l1_entries=100, l1_stale_ms=10_000)
@cache.query(ttl=3600, tags=["users"], name="report")
def report():
    return 1
for line in sys.stdin:
    while not len(cache._l1):
        report()
    print("warm", flush=True)
    while len(cache._l1):
        time.sleep(0.00002)
    print(time.monotonic(), flush=True)
"""


def stale_window() -> Iterator[Row]:
    """From an invalidation that is acknowledged until the L1 of another process is empty."""
    keeper, windows = Keeper(), []
    try:
        server = start_redis("auto", keeper)
        cache = QueryCache(server.connect())
        command = [sys.executable, "-c", LISTENER, server.url]
        with (
            contextlib.closing(cache),
            subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            ) as other,
        ):
            assert other.stdin
            assert other.stdout
            for _ in range(ROUNDS):
                print("again", file=other.stdin, flush=True)
                assert other.stdout.readline() == "warm\n"
                cache.invalidate("users")
                acknowledged = time.monotonic()  # one clock for all processes of a machine
                windows.append(float(other.stdout.readline()) - acknowledged)
            other.stdin.close()
    finally:
        keeper.close()
    windows.sort()
    median, most = (windows[int(len(windows) * part)] * 1e3 for part in (0.5, 0.99))
    what = "L1 of another process, stale for so long after an acknowledged invalidation: p50, p99"
    yield Row(what, f"{max(0.0, median):.2f} ms, {most:.2f} ms")


def throughput() -> Iterator[Row]:
    """Hits a second of 16 threads in one process."""
    with contenders() as both:
        yield from _throughput(both["unix"])


def _throughput(contenders: Contenders) -> Iterator[Row]:
    for rows in MOST:
        counts = {PLAIN: 0, OURS: 0}
        for _ in range(8):
            for name in counts:
                counts[name] += _hits_of_threads(contenders, contenders.by_name[name], rows)
        ratio = counts[OURS] / counts[PLAIN]
        a_second = counts[OURS] / (8 * TURN)
        what = f"{THREADS} threads, {rows:,} rows, unix: {a_second:,.0f} hits a second"
        yield Row(f"{what} against {PLAIN}", f"x{ratio:.2f}", "at least x0.75", ratio >= 0.75)


def _hits_of_threads(contenders: Contenders, ask: Callable[[int], Any], rows: int) -> int:
    together = threading.Barrier(THREADS)

    def ask_for_a_while(_: int) -> int:
        count = 0
        with contenders.app.app_context():
            ask(rows)  # has its connection now
            together.wait()
            end = time.perf_counter() + TURN
            while time.perf_counter() < end:
                ask(rows)
                count += 1
        return count

    with ThreadPoolExecutor(THREADS) as pool:
        return sum(pool.map(ask_for_a_while, range(THREADS)))


def invalidations(few: int, many: int) -> Iterator[Row]:
    """One invalidation of a tag with few entries, and of one with many, in turns on one server.

    With a server for each, what is compared is how far away the kernel has put them, and how much
    memory each has.
    """
    keeper = Keeper()
    try:
        client = start_redis("wheel", keeper).connect(socket_timeout=None)
        with contextlib.closing(QueryCache(client)) as cache:
            for name, entries in (("few", few), ("many", many)):
                tag = f"{cache.namespace}:{name}"
                stamp = tokens.stamp_of(tokens.lookup(client, "any", tag).tokens)
                deletion.fill(client, entries, name, stamp + b"x")
                assert tokens.lookup(client, f"{name}:0000", tag).value == b"x"
                cache.invalidate(name)
                assert tokens.lookup(client, f"{name}:0000", tag).value is None
            taken = [
                (
                    duration(lambda: cache.invalidate("few")),
                    duration(lambda: cache.invalidate("many")),
                )
                for _ in range(2_000)
            ]
    finally:
        keeper.close()
    least, most = map(statistics.median, zip(*taken, strict=True))
    what = f"invalidate {few:,} entries, {many:,}: QueryCache"
    yield Row(what, f"{least * 1e3:.2f} ms, {most * 1e3:.2f} ms")
    what = "  the million against the thousand"
    yield Row(what, f"x{most / least:.2f}", "under x1.30", most < 1.3 * least)


def imports() -> Iterator[Row]:
    """Importing QueryCache where flask_sqlalchemy and redis are there already: the least of 9.

    It is the time of the processor, which nobody else who runs makes longer.
    """
    code = (
        "import flask_sqlalchemy, redis, time; began = time.process_time(); "
        "from labkit.cache import QueryCache; print(time.process_time() - began)"
    )
    told = [subprocess.check_output([sys.executable, "-c", code], text=True) for _ in range(9)]
    least = min(map(float, told))
    what = "from labkit.cache import QueryCache, beyond flask_sqlalchemy and redis"
    yield Row(what, f"{least * 1e3:.0f} ms", "at most 50 ms", least <= 0.05)
