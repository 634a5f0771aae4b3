"""Counts are exact: what an observation saw is what the server says it was asked."""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest
import redis
from sqlalchemy import create_engine, text

import labkit
from labkit.lab import Lab

THREADS, TIMES = 8, 50
RESTOCK = "return redis.call('SET', KEYS[1], ARGV[1])"


@pytest.fixture(scope="module")
def data(own_data) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("LABKIT_REDIS", raising=False)  # "auto" then finds a real server
        yield


@pytest.fixture(scope="module")
def real(data) -> Iterator[Lab]:
    with labkit.start("auto", "sqlite", users=5, orders=5) as lab:
        assert lab.server.is_real
        yield lab


@pytest.fixture(scope="module")
def fake(data) -> Iterator[Lab]:
    with labkit.start("fake", "sqlite", users=5, orders=5) as lab:
        yield lab


@pytest.fixture(params=["real", "fake"])
def lab(request) -> Lab:
    """A lab with an empty Redis, on a real server and on fakeredis."""
    lab: Lab = request.getfixturevalue(request.param)
    lab.redis.flushall()
    lab.redis.script_flush()
    return lab


def run_sql(lab: Lab) -> None:
    with lab.app.app_context():
        lab.db.session.execute(text("SELECT 1"))


# What a client can do, and the commands that it sends for it.


@dataclass(frozen=True)
class Work:
    do: Callable[[redis.Redis], Any]
    sends: str
    inside_lua: str = ""  # called by scripts in the server: not sent by the client


def plain(client: redis.Redis) -> None:
    client.set("a", 1)
    client.get("a")
    client.get("missing")
    client.mset({"b": 2, "c": 3})
    client.execute_command("GET", "b")
    client.execute_command(b"get", "b")
    client.pubsub_channels()
    list(client.scan_iter("*"))


def failing(client: redis.Redis) -> None:
    client.lpush("list", 1)
    with pytest.raises(redis.ResponseError):
        client.incr("list")


def pipelines(client: redis.Redis) -> None:
    for is_transaction in (False, True):
        with client.pipeline(transaction=is_transaction) as pipe:
            pipe.set("a", 1)
            pipe.incr("a")
            pipe.get("a")
            pipe.execute()
    client.pipeline().execute()  # nothing in it: nothing sent


def watched(client: redis.Redis) -> None:
    def add_one(pipe: Any) -> None:
        value = int(pipe.get("n") or 0)
        pipe.multi()
        pipe.set("n", value + 1)

    client.transaction(add_one, "n")
    with client.pipeline() as pipe:
        pipe.watch("n")
        pipe.get("n")  # leaving without EXEC takes the watch back


def scripts(client: redis.Redis) -> None:
    client.eval("return 1", 0)
    script = client.register_script(RESTOCK)
    script(keys=["a"], args=[1])  # not known to the server yet: loaded, then called again
    script(keys=["a"], args=[2])


def locks(client: redis.Redis) -> None:
    lock = client.lock("lock", timeout=60)
    assert lock.acquire(blocking=False)
    lock.release()


def subscriptions(client: redis.Redis) -> None:
    with client.pubsub() as pubsub:
        pubsub.subscribe("news")
        pubsub.psubscribe("n*")
        kinds = [pubsub.get_message(timeout=5)["type"] for _ in range(2)]
        assert kinds == ["subscribe", "psubscribe"]
        client.publish("news", "hello")
        pubsub.unsubscribe()
        kinds = [pubsub.get_message(timeout=5)["type"] for _ in range(3)]
        assert kinds == ["message", "pmessage", "unsubscribe"]


def big_pipeline(client: redis.Redis) -> None:
    with client.pipeline(transaction=False) as pipe:
        for number in range(1000):
            pipe.set(f"key{number}", "x" * 100)
        pipe.execute()


WORKS = {
    "plain": Work(plain, "SET GET GET MSET GET GET PUBSUB SCAN"),
    "failing": Work(failing, "LPUSH INCRBY"),
    "pipelines": Work(pipelines, "SET INCRBY GET MULTI SET INCRBY GET EXEC"),
    "watched": Work(watched, "WATCH GET MULTI SET EXEC WATCH GET UNWATCH"),
    "scripts": Work(scripts, "EVAL EVALSHA SCRIPT EVALSHA EVALSHA", inside_lua="SET SET"),
    "locks": Work(locks, "SET EVALSHA SCRIPT EVALSHA", inside_lua="GET DEL"),
    "subscriptions": Work(subscriptions, "SUBSCRIBE PSUBSCRIBE PUBLISH UNSUBSCRIBE"),
    "big pipeline": Work(big_pipeline, " ".join(["SET"] * 1000)),
}
GREETINGS = {"AUTH", "HELLO", "CLIENT", "SELECT"}


def served(watcher: redis.Redis) -> Counter[str]:
    """Return how often the server ran each command since CONFIG RESETSTAT, by its own count."""
    counts: Counter[str] = Counter()
    for name, statistics in watcher.info("commandstats").items():
        counts[name.removeprefix("cmdstat_").partition("|")[0].upper()] += statistics["calls"]
    return counts


@pytest.mark.parametrize("name", WORKS)
@pytest.mark.parametrize("is_fresh", [False, True], ids=["connected", "fresh"])
def test_the_commands_of_a_client_are_seen_in_order(lab, name, is_fresh):
    lab.redis.ping()
    if is_fresh:
        lab.redis.connection_pool.disconnect()
    with lab.observe(show=False) as seen:
        WORKS[name].do(lab.redis)
    assert seen.redis == WORKS[name].sends.split()
    assert seen.sql == 0


@pytest.mark.parametrize("name", WORKS)
@pytest.mark.parametrize("is_fresh", [False, True], ids=["connected", "fresh"])
def test_the_count_is_the_servers_own(real, name, is_fresh):
    real.redis.flushall()
    real.redis.script_flush()
    with real.server.connect() as watcher:
        if is_fresh:
            real.redis.connection_pool.disconnect()
        watcher.config_resetstat()
        with real.observe(show=False) as seen:
            WORKS[name].do(real.redis)
        counts = served(watcher)
    greetings = {name: counts.pop(name) for name in GREETINGS & set(counts)}
    assert bool(greetings) == (is_fresh or name == "subscriptions")
    counts -= Counter({"CONFIG": 1})  # CONFIG RESETSTAT counts itself
    assert counts == Counter(seen.redis) + Counter(WORKS[name].inside_lua.split())


def test_everything_at_once_is_the_servers_own_count(real):
    real.redis.flushall()
    real.redis.script_flush()
    with real.server.connect() as watcher:
        watcher.config_resetstat()
        with real.observe(show=False) as seen:
            for work in WORKS.values():
                work.do(real.redis)
        counts = served(watcher)
    for name in GREETINGS:
        del counts[name]
    inside_lua = [name for work in WORKS.values() for name in work.inside_lua.split()]
    assert counts - Counter({"CONFIG": 1}) == Counter(seen.redis) + Counter(inside_lua)


def test_signing_in_and_choosing_a_database_are_not_counted(real):
    real.redis.flushall()
    with real.server.connect() as watcher:
        watcher.acl_setuser("teacher", enabled=True, passwords="+tea", keys="*", commands=["+@all"])
        url = real.redis_url.replace("://", "://teacher:tea@") + "?db=5"
        with labkit.start(url, "sqlite", users=5, orders=5) as lab:
            watcher.config_resetstat()
            with lab.observe(show=False) as seen:
                lab.redis.set("a", 1)
            counts = served(watcher)
        watcher.acl_deluser("teacher")
    assert seen.redis == ["SET"]
    assert counts["SELECT"] == 1
    assert counts["HELLO"] + counts["AUTH"] >= 1


def test_a_transaction_that_fails_is_counted_as_sent(lab):
    lab.redis.set("n", 1)
    with lab.server.connect() as other, lab.observe(show=False) as seen:
        with lab.redis.pipeline() as pipe:
            pipe.watch("n")
            other.set("n", 2)
            pipe.multi()
            pipe.set("n", 3)
            with pytest.raises(redis.WatchError):
                pipe.execute()
        assert lab.redis.get("n") == b"2"
    assert seen.redis == ["WATCH", "MULTI", "SET", "EXEC", "GET"]


def test_nested_observations_see_what_runs_inside_each(lab):
    with lab.observe(show=False) as outer:
        lab.redis.set("a", 1)
        run_sql(lab)
        with lab.observe(show=False) as inner:
            lab.redis.get("a")
            run_sql(lab)
        lab.redis.delete("a")
    assert (inner.redis, inner.sql) == (["GET"], 1)
    assert (outer.redis, outer.sql) == (["SET", "GET", "DEL"], 2)
    assert outer.ms >= inner.ms > 0


def test_overlapping_observations_end_on_their_own(lab):
    first, second = lab.observe(show=False), lab.observe(show=False)
    first.__enter__()
    lab.redis.set("a", 1)
    second.__enter__()
    lab.redis.get("a")
    first.__exit__(None, None, None)
    lab.redis.delete("a")
    second.__exit__(None, None, None)
    assert first.redis == ["SET", "GET"]
    assert second.redis == ["GET", "DEL"]


def test_nothing_is_seen_before_and_after(lab):
    lab.redis.set("a", 1)
    with lab.observe(show=False) as seen:
        pass
    lab.redis.get("a")
    run_sql(lab)
    assert (seen.redis, seen.sql) == ([], 0)


def test_every_command_and_statement_of_every_thread_is_seen(lab):
    barrier = threading.Barrier(THREADS)

    def work(number: int) -> None:
        barrier.wait()
        for _ in range(TIMES):
            lab.redis.incr(f"n{number}")
            run_sql(lab)

    with lab.observe(show=False) as seen, ThreadPoolExecutor(THREADS) as threads:
        list(threads.map(work, range(THREADS)))
    assert Counter(seen.redis) == {"INCRBY": THREADS * TIMES}
    assert seen.sql == THREADS * TIMES
    assert {int(lab.redis.get(f"n{number}")) for number in range(THREADS)} == {TIMES}


def test_another_client_and_another_engine_are_not_counted(lab):
    engine = create_engine("sqlite://")
    with lab.server.connect() as other, lab.observe(show=False) as seen:
        other.set("a", 1)
        with engine.connect() as connection:
            connection.execute(text("SELECT 1"))
        assert lab.redis.get("a") == b"1"
    engine.dispose()
    assert (seen.redis, seen.sql) == (["GET"], 0)


def test_another_lab_is_not_counted(real, fake):
    with real.observe(show=False) as in_real, fake.observe(show=False) as in_fake:
        real.redis.set("a", 1)
        fake.redis.get("a")
        run_sql(fake)
    assert (in_real.redis, in_real.sql) == (["SET"], 0)
    assert (in_fake.redis, in_fake.sql) == (["GET"], 1)


def test_statements_are_kept_in_order_with_their_text(lab):
    with lab.app.app_context(), lab.observe(show=False) as seen:
        lab.db.session.execute(text("SELECT 1"))
        lab.db.session.execute(text("SELECT 2"))
    assert seen.statements == ["SELECT 1", "SELECT 2"]
    assert seen.sql == 2


def test_a_statement_that_fails_was_run_all_the_same(lab):
    with lab.app.app_context(), lab.observe(show=False) as seen:
        with pytest.raises(Exception, match="no such table"):
            lab.db.session.execute(text("SELECT * FROM nowhere"))
        lab.db.session.rollback()
    assert seen.sql == 1


def test_an_error_passes_through_and_nothing_is_printed(lab, capsys):
    lab.redis.set("a", "tea")
    with pytest.raises(redis.ResponseError), lab.observe("broken") as seen:
        lab.redis.incr("a")
    lab.redis.get("a")
    assert seen.redis == ["INCRBY"]
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("is_fresh", [False, True], ids=["connected", "fresh"])
def test_the_printed_line(lab, capsys, is_fresh):
    if is_fresh:
        lab.redis.connection_pool.disconnect()
    with lab.observe("a miss") as seen:
        lab.redis.get("a")
        run_sql(lab)
        lab.redis.set("a", 1, ex=60)
        lab.redis.get("a")
    printed = capsys.readouterr().out
    assert re.fullmatch(r"a miss: SQL 1 · Redis 3 \(2 GET, SET\) · \d+\.\d ms\n", printed)
    assert printed == f"{seen}\n"


def test_the_printed_line_of_nothing_and_of_much(lab, capsys):
    with lab.observe():
        pass
    with lab.observe():
        big_pipeline(lab.redis)
    nothing, much = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"SQL 0 · Redis 0 · \d+\.\d ms", nothing)
    assert re.fullmatch(r"SQL 0 · Redis 1,000 \(1,000 SET\) · \d+\.\d ms", much)


def test_nothing_is_printed_when_asked_not_to(lab, capsys):
    with lab.observe("quiet", show=False):
        lab.redis.get("a")
    assert capsys.readouterr().out == ""
