"""Timings that must be reached, beside their peers in the same run: what `make bench` runs."""

from __future__ import annotations

import contextlib
import datetime
import io
import pickle
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

from flask import Flask
from sqlalchemy import create_engine

import labkit
from labkit.baselines import deletion
from labkit.cache import codec
from labkit.cache.statements import statement_key
from labkit.errors import LabError
from labkit.lab import Lab
from labkit.servers import Keeper, spare_cluster, start_redis
from labkit.shop import (
    OrderLine,
    User,
    db,
    regional_report,
    regional_report_n_plus_one,
    users_by_region,
)
from labkit.shop.rows import user_rows
from labkit.shop.seeding import seed
from scripts import bench_load, bench_query_cache, comparison
from scripts.timings import Row, duration
from tests.protocols import (
    BusyMarker,
    Shop,
    TokenAndCompareAndSet,
    explore_protocol,
)

USERS = 10_000
ORDERS = 300_000
REPEATS = 3
HITS_A_REPORT = 300  # at least, in the time of one report: else there is nothing worth a cache


def main() -> int:
    """Print the table, and that of the audited caches; return how many targets were missed."""
    parts = (
        seeding, redis_starts, starts, queries, codecs, explorations, clusters, invalidations,
        statement_keys, bench_query_cache.hits, bench_query_cache.throughput,
        bench_query_cache.imports, bench_query_cache.near_hits, bench_query_cache.stale_window,
        bench_load.ratios,
    )  # fmt: skip
    rows = [row for part in parts for row in part()]
    width = max(len(row.what) for row in rows)
    for row in rows:
        verdict = ("reached" if row.reached else "MISSED") if row.target else ""
        print(f"{row.what:{width}}  {row.measured:>14}  {row.target:16}  {verdict}".rstrip())
    print()
    comparison.main()
    return sum(not row.reached for row in rows)


def seeding() -> Iterator[Row]:
    """Bulk seeding against the article's way: add row by row to a session, then commit."""
    loop = _best(_seed_row_by_row) / USERS
    rows = 0

    def in_bulk(folder: Path) -> None:
        nonlocal rows
        engine = create_engine(f"sqlite:///{folder}/bulk.sqlite")
        with engine.begin() as connection:
            rows = sum(seed(connection, USERS, ORDERS).values())
        engine.dispose()

    bulk = _best(in_bulk) / rows
    yield Row("seeding a row by row-by-row add()", f"{loop * 1e6:.1f} us")
    yield Row("seeding a row by labkit, in bulk", f"{bulk * 1e6:.1f} us")
    yield Row("  the loop against it", f"x{loop / bulk:.1f}", "at least x10", loop >= 10 * bulk)


def _seed_row_by_row(folder: Path) -> None:
    app = Flask("loop")
    app.config["SQLALCHEMY_DATABASE_URI"] = f"sqlite:///{folder}/loop.sqlite"
    db.init_app(app)
    with app.app_context():
        db.create_all()
        for user_id, username, region, email, name in user_rows(USERS):
            user = User(id=user_id, username=username, region=region, email=email, name=name)
            db.session.add(user)
        db.session.commit()
        db.engine.dispose()


def redis_starts() -> Iterator[Row]:
    """From the spawning of each server that is here until it answers."""
    for kind in ("server", "wheel"):
        times = []
        try:
            for _ in range(10):
                keeper = Keeper()
                times.append(duration(lambda: start_redis(kind, keeper)))  # noqa: B023
                keeper.close()
        except LabError:
            yield Row(f"Redis ({kind})", "not here")
            continue
        median = statistics.median(times)
        yield Row(f"Redis ({kind}) ready", f"{median * 1e3:.0f} ms", "under 100 ms", median < 0.1)


def starts() -> Iterator[Row]:
    """A second start, on a database that is seeded already."""
    _quiet_start().close()
    labs: list[Lab] = []
    seconds = min(duration(lambda: labs.append(_quiet_start())) for _ in range(REPEATS))
    for lab in labs:
        lab.close()
    yield Row("a second labkit.start()", f"{seconds:.2f} s", "under 1 s", seconds < 1)


def queries() -> Iterator[Row]:
    """The queries of the shop, beside one hit."""
    with _quiet_start() as lab, lab.app.app_context():
        lab.redis.set("key", b"x" * 1000)
        hit = _median(lambda: lab.redis.get("key"), 200)
        yield Row("a hit: GET of 1 kB", f"{hit * 1e3:.2f} ms")
        first = _median(lambda: users_by_region("US"), 20)
        yield Row("users_by_region('US')", f"{first * 1e3:.1f} ms")
        for region in ("US", "LATAM"):
            report = _median(lambda: regional_report(region), 5)  # noqa: B023
            yield Row(f"regional_report('{region}')", f"{report * 1e3:.0f} ms")
            ratio, least = report / hit, HITS_A_REPORT
            yield Row("  it against a hit", f"x{ratio:,.0f}", f"at least x{least}", ratio >= least)
        loop = duration(lambda: regional_report_n_plus_one("LATAM"))
        yield Row("  the same by N+1", f"{loop * 1e3:.0f} ms")


def codecs() -> Iterator[Row]:
    """The codec against pickle (its default protocol): 1,000 rows written and read, best of 100.

    The rows are the shop's, as the database gives them: users are an integer and four texts; order
    lines are integers, a text, a datetime and a Decimal. Rows of small integers alone are where
    pickle does best, as it writes each column's name once: they stand for comparison.
    """
    with _quiet_start() as lab, lab.app.app_context():
        numbers = (OrderLine.order_id, OrderLine.quantity, OrderLine.unit_price_cents)
        lines = _thousand(*numbers, OrderLine.product)
        noon = datetime.datetime(2025, 7, 1, 12)
        for number, line in enumerate(lines):
            line["packed_at"] = noon + datetime.timedelta(seconds=number)
            line["price"] = Decimal(line["unit_price_cents"]) / 100
        tables = {
            "users": _thousand(*User.__table__.columns),
            "lines, datetime and Decimal": lines,
            "three integers": _thousand(*numbers),
        }
    for name, rows in tables.items():
        by_pickle, by_codec = _round_trips(rows)
        ratio = by_codec / by_pickle
        what = f"codec against pickle, 1,000 rows ({name}): dumps, loads"
        if name == "three integers":
            yield Row(what, f"x{ratio:.2f}")
        else:
            yield Row(what, f"x{ratio:.2f}", "at most x1.00", ratio <= 1)


def explorations() -> Iterator[Row]:
    """Every interleaving of two readers and a writer that may crash, on the wheel's server.

    The best of a few rounds: it is one round trip after another, and waits for all else that runs.
    """
    schedules = 0

    def explore_both(folder: Path) -> None:
        nonlocal schedules
        database = f"sqlite:///{folder}/bench.sqlite"
        with labkit.start("wheel", database, users=5, orders=5) as lab:
            protocols = TokenAndCompareAndSet, BusyMarker
            found = [explore_protocol(each(Shop(lab)), "writer crashes") for each in protocols]
            schedules = sum(each.schedules for each in found)

    with contextlib.redirect_stdout(io.StringIO()):
        seconds = _best(explore_both)
    yield Row(f"explore {schedules:,} schedules", f"{seconds:.1f} s", "under 10 s", seconds < 10)


def clusters() -> Iterator[Row]:
    """From nothing to a cluster of three masters that answers, the median of three."""
    with _quiet_start() as lab:
        ready = []
        for _ in range(REPEATS):
            began = time.perf_counter()
            with spare_cluster(lab.server):
                ready.append(time.perf_counter() - began)
    seconds = statistics.median(ready)
    yield Row("a cluster of three ready", f"{seconds:.1f} s", "under 5 s", seconds < 5)


def invalidations() -> Iterator[Row]:
    """One invalidation of a thousand entries and of a million, each on a server of its own."""
    few, many = 1_000, 1_000_000
    keepers = Keeper(), Keeper()
    try:
        small, large = (
            start_redis("wheel", keeper).connect(socket_timeout=None) for keeper in keepers
        )
        for name, invalidate in deletion.STRATEGIES.items():
            least = deletion.cost(small, invalidate, few, repeats=11)
            most = deletion.cost(large, invalidate, many)
            what = f"invalidate {few:,} entries, {many:,}: {name}"
            yield Row(what, f"{least * 1e3:.2f} ms, {most * 1e3:,.0f} ms")
    finally:
        for keeper in keepers:
            keeper.close()
    yield from bench_query_cache.invalidations(few, many)


def statement_keys() -> Iterator[Row]:
    """The key of a fresh statement by each strategy, in turn, the median of 2,000."""
    offline: dict[Any, str] = {}
    with _quiet_start() as lab, lab.app.app_context():
        dialect = db.engine.dialect
        strategies: dict[str, Callable[[Any], object]] = {
            "literal_binds": lambda statement: str(
                statement.compile(compile_kwargs={"literal_binds": True})
            ),
            "compiled SQL and parameters": lambda statement: repr(
                (str(compiled := statement.compile(dialect=dialect)), compiled.params)
            ),
            "to_offline_string": lambda statement: (
                statement._generate_cache_key().to_offline_string(offline, statement, {})
            ),
            "CacheKey": lambda statement: statement._generate_cache_key(),
            "statement_key": lambda statement: statement_key(statement, dialect),
        }
        taken: dict[str, list[float]] = {name: [] for name in strategies}
        for number in range(2000):
            for name, key_of in strategies.items():
                statement = _fresh_statement(number)
                taken[name].append(duration(lambda: key_of(statement)))  # noqa: B023  (run at once)
    medians = {name: statistics.median(seconds) for name, seconds in taken.items()}
    for name, seconds in medians.items():
        yield Row(f"a statement's key: {name}", f"{seconds * 1e6:.0f} us")
    ratio = medians["statement_key"] / medians["literal_binds"]
    yield Row(
        "  statement_key against literal_binds", f"x{ratio:.2f}", "at most x0.33", ratio <= 1 / 3
    )


def _fresh_statement(number: int) -> Any:
    columns = db.select(User.id, User.username).where(User.region == "US", User.id > number)
    return columns.order_by(User.id).limit(1000)


def _thousand(*columns: Any) -> list[dict[str, Any]]:
    statement = db.select(*columns).order_by(*columns[:1]).limit(1000)
    return [dict(row) for row in db.session.execute(statement).mappings()]


def _round_trips(rows: list[dict[str, Any]]) -> tuple[float, float]:
    """Return the least time to write and read rows, by pickle and by the codec, in seconds."""
    pickled, coded = [], []
    for _ in range(100):  # in turn, so that what slows the machine down slows both
        pickled.append(duration(lambda: pickle.loads(pickle.dumps(rows))))
        coded.append(duration(lambda: codec.loads(codec.dumps(rows))))
    return min(pickled), min(coded)


def _quiet_start() -> Lab:
    with contextlib.redirect_stdout(io.StringIO()):
        return labkit.start(users=USERS, orders=ORDERS)


def _best(work: Callable[[Path], None]) -> float:
    """Return the least time of a few runs, each in a new folder, in seconds."""
    times = []
    for _ in range(REPEATS):
        with tempfile.TemporaryDirectory() as folder:
            times.append(duration(lambda: work(Path(folder))))
    return min(times)


def _median(work: Callable[[], object], rounds: int) -> float:
    work()
    return statistics.median(duration(work) for _ in range(rounds))


if __name__ == "__main__":
    sys.exit(1 if main() else 0)
