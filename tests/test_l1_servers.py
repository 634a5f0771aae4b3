"""QueryCache's L1 on real servers: emptied by what Redis says, silent once Redis is."""

from __future__ import annotations

import gc
import operator
import os
import signal
import sqlite3
import subprocess
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import fakeredis
import pytest
import redis
from redis._parsers import _RESP3Parser
from sqlalchemy import Column, Integer, MetaData, String, Table, create_engine, select, update
from sqlalchemy.orm import scoped_session, sessionmaker

from labkit.audit import audit, every_probe
from labkit.audit.adapters.query_cache import QueryCacheL1Adapter
from labkit.cache import QueryCache, SettingsError, signals, tokens
from labkit.cache.tracking import Stream
from labkit.servers import Keeper, RedisServer, choose_redis, spare_sentinel
from labkit.servers.failover import SERVICE
from tests.caches import PATIENT
from tests.helpers import LONG, end, start_python, wait_until
from tests.nearby import NEAR, Report, hear, is_on, l1_of
from tests.outages import FakeServer, OwnServer, Switch, ended
from tests.soak import GTHREAD, Gunicorn
from tests.test_query_cache_clients import (
    cluster_pair,
    cut,
    on_cluster,
    on_tls,
    pid_of,
    sentinel_pair,
    take_over,
)

KIND, _ = choose_redis("auto")
if KIND not in ("server", "wheel"):
    pytest.skip("there is no Redis or Valkey program here", allow_module_level=True)

USERS = Table("users", MetaData(), Column("id", Integer, primary_key=True), Column("name", String))
CLUSTER = {"namespace": "{shop}"}


@pytest.fixture(scope="module")
def keeper() -> Iterator[Keeper]:
    keeper = Keeper()
    yield keeper
    keeper.close()


@pytest.fixture(scope="module", params=["server", "wheel"])
def _one_server(request: pytest.FixtureRequest, keeper: Keeper) -> Iterator[OwnServer]:
    try:
        own = OwnServer(request.param, keeper).start()
    except Exception as error:
        pytest.skip(str(error).splitlines()[0])
    with ended(own):
        yield own


@pytest.fixture
def client(_one_server: OwnServer) -> Iterator[redis.Redis]:
    """Give a client of a server that lives on, empty again."""
    with _one_server.client() as client:
        client.flushall()
        yield client


@pytest.fixture
def server(keeper: Keeper) -> Iterator[OwnServer]:
    own = OwnServer(KIND, keeper).start()
    with ended(own):
        yield own


Open = Callable[..., QueryCache]


@pytest.fixture
def open_cache() -> Iterator[Open]:
    opened: list[QueryCache] = []

    def open_one(client: Any, **settings: Any) -> QueryCache:
        opened.append(QueryCache(client, **NEAR | settings))
        return opened[-1]

    yield open_one
    for cache in opened:
        cache.close()


def deaf(patch: pytest.MonkeyPatch) -> None:
    """Have no message of Redis reach any L1: what is known all the same, is known without it."""
    patch.setattr(Stream, "_is_message", lambda self, answer: isinstance(answer, list))


def tracking(client: Any) -> list[dict[str, str]]:
    """Return the connections that hear what changes, as the server lists them."""
    return [each for each in client.client_list() if "B" in each["flags"]]


def the_one(client: Any) -> dict[str, str]:
    """Return the only one, once those of the tests before have ended."""
    assert wait_until(lambda: len(tracking(client)) == 1, LONG)
    return tracking(client)[0]


def mgets(client: Any) -> int:
    return int(client.info("commandstats").get("cmdstat_mget", {"calls": 0})["calls"])


# What it is for.


def test_a_hit_asks_redis_nothing(client, open_cache):
    cache = open_cache(client)
    report = Report(cache, [{"id": 1}])
    report.warm()
    before, counted = mgets(client), cache.stats.l1_hits

    assert [report.ask() for _ in range(10)] == [[{"id": 1}]] * 10
    assert (mgets(client), cache.stats.l1_hits) == (before, counted + 10)
    assert report.calls == 1


def test_off_by_default_there_is_no_thread_and_no_connection_of_it(client):
    cache = QueryCache(client, **PATIENT)
    report = Report(cache)
    client.config_resetstat()
    assert [report.ask() for _ in range(3)] == ["old"] * 3

    assert (cache._l1, cache._tracking) == (None, None)
    assert wait_until(lambda: tracking(client) == [], LONG)  # once those of before have ended
    assert mgets(client) == 3
    assert "cmdstat_pttl" not in client.info("commandstats")
    assert cache.stats.l1_hits == 0
    cache.close()


def test_what_a_caller_does_to_an_answer_does_not_reach_the_next(client, open_cache):
    report = Report(open_cache(client), [{"id": 1}, []])
    for _ in range(3):
        answer = report.warm()
        assert answer == [{"id": 1}, []]
        answer[1].append("spoilt")
        answer[0].clear()


def test_the_signals_and_the_counts(client, open_cache):
    cache = open_cache(client)
    report = Report(cache)
    report.warm()
    heard: list[Any] = []

    def listener(sender: Any, **about: Any) -> None:
        heard.append((sender, about))

    signals.hit.connect(listener)
    signals.l1_hit.connect(listener)
    report.ask()
    signals.hit.disconnect(listener)
    signals.l1_hit.disconnect(listener)

    key = next(iter(l1_of(cache)._entries))
    assert heard == [(cache, {"name": "report", "key": key})] * 2
    counts = cache.stats.as_dict()
    assert counts["hits"] >= counts["l1_hits"] >= 2
    assert (counts["l1_lost"], counts["errors"]) == ({}, {})


@pytest.mark.parametrize("value", [-1, 1.0, True, None, "10"])
@pytest.mark.parametrize("name", ["l1_entries", "l1_bytes"])
def test_a_wrong_setting_is_one_line(name, value):
    with pytest.raises(SettingsError, match=f"QUERY_CACHE_{name.upper()}"):
        QueryCache(redis.Redis(), **{name: value})


@pytest.mark.parametrize("namespace", ["token", "v", "{shop}", "lease"])
def test_any_namespace_can_be_tracked(client, open_cache, namespace):
    """Redis refuses prefixes of which one begins with the other."""
    cache = open_cache(client, namespace=namespace)
    report = Report(cache)
    report.warm()
    tokens.invalidate(client, f"{namespace}:users")  # by somebody else
    hear(cache, client)
    report.answer = "new"
    assert report.ask() == "new"


# What empties it.


def by_a_tag(other: QueryCache, report: Report, client: Any) -> None:
    other.invalidate("users")


def by_everything(other: QueryCache, report: Report, client: Any) -> None:
    other.invalidate("*")


def by_a_mark(other: QueryCache, report: Report, client: Any) -> None:
    other._mark(["users"])


def by_forgetting(other: QueryCache, report: Report, client: Any) -> None:
    other.forget(Report(other).ask)


def by_flushall(other: QueryCache, report: Report, client: Any) -> None:
    client.flushall()


def by_flushdb(other: QueryCache, report: Report, client: Any) -> None:
    client.flushdb(asynchronous=True)


def by_deletion(other: QueryCache, report: Report, client: Any) -> None:
    client.delete("token:querycache:users")


def by_eviction(other: QueryCache, report: Report, client: Any) -> None:
    client.config_set("maxmemory-policy", "allkeys-random")
    client.config_set("maxmemory", 1)
    try:
        assert wait_until(lambda: not client.exists("token:querycache:users"), LONG)
    finally:
        client.config_set("maxmemory", 0)
        client.config_set("maxmemory-policy", "noeviction")


def by_expiry(other: QueryCache, report: Report, client: Any) -> None:
    key = next(iter(l1_of(report.cache)._entries))
    client.pexpire(key, 1)
    assert wait_until(lambda: not client.exists(key), LONG)


WAYS = [
    by_a_tag, by_everything, by_a_mark, by_forgetting, by_flushall, by_flushdb, by_deletion,
    by_eviction, by_expiry,
]  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_what_changes_in_redis_is_out_once_its_message_has_come(client, open_cache, way):
    cache, other = open_cache(client), open_cache(client, l1_entries=0)
    report = Report(cache)
    report.warm()
    assert len(l1_of(cache)) == 1
    way(other, report, client)
    hear(cache, client)

    assert len(l1_of(cache)) == 0
    report.answer = "new"
    counted = cache.stats.l1_hits
    assert report.ask() == "new"
    assert cache.stats.l1_hits == counted


def test_what_does_not_concern_it_leaves_it(client, open_cache):
    cache, other = open_cache(client), open_cache(client)
    Report(cache).warm()
    other.invalidate("orders")
    Report(other, name="another").warm()
    client.set("theirs", 1)
    hear(cache, client)

    assert len(l1_of(cache)) == 1


OTHER = """
import sys
import redis
from labkit.cache import QueryCache
from tests.nearby import NEAR, Report, hear, l1_of
client = redis.Redis(unix_socket_path=sys.argv[1])
cache = QueryCache(client, **NEAR)
report = Report(cache)
print(report.warm(), len(l1_of(cache)), flush=True)
for line in sys.stdin:
    report.answer = line.strip()
    hear(cache, client)
    held, answer = len(l1_of(cache)), report.ask()
    print(held, answer, report.warm(), flush=True)
"""


def test_two_processes(client, open_cache):
    path = client.connection_pool.connection_kwargs["path"]
    process = start_python(OTHER.replace("sys.argv[1]", repr(path)))
    try:
        assert process.stdout
        assert process.stdin
        assert process.stdout.readline() == "old 1\n"
        ours = Report(open_cache(client), "old")
        ours.warm()
        for number in range(20):
            ours.cache.invalidate("users")
            ours.answer = f"new {number}"
            process.stdin.write(f"new {number}\n")
            process.stdin.flush()
            assert process.stdout.readline() == f"0 new {number} new {number}\n"
            hear(ours.cache, client)
            assert ours.warm() == f"new {number}"
    finally:
        end(process)


# In the process that writes, nothing has to come.


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Any]:
    path = tmp_path / "shop.db"
    with sqlite3.connect(path) as own:
        own.execute("CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT)")
        own.execute("INSERT INTO users (name) VALUES ('0')")
    own.close()
    engine = create_engine(f"sqlite:///{path}")
    yield scoped_session(sessionmaker(engine))
    engine.dispose()


NAME = select(USERS.c.name)


def write(session: Any, name: str) -> None:
    session.execute(update(USERS).values(name=name))
    session.commit()
    session.remove()


def warm_rows(cache: QueryCache, session: Any) -> str:
    """Read until L1 has it."""
    assert is_on(cache)
    before, deadline = cache.stats.l1_hits, time.monotonic() + LONG
    while cache.stats.l1_hits == before:
        assert time.monotonic() < deadline
        name: str = cache.rows(NAME, ttl=60)[0]["name"]
        session.remove()
    return name


@pytest.mark.parametrize("marks", [True, False])
def test_a_writer_reads_its_own_writes_though_no_message_comes(
    client, open_cache, session, monkeypatch, marks
):
    deaf(monkeypatch)
    cache = open_cache(client, session=session, mark_writes=marks)
    for number in range(1, 5):
        assert warm_rows(cache, session) == str(number - 1)
        write(session, str(number))
        assert len(l1_of(cache)) == 0
        assert cache.rows(NAME, ttl=60) == [{"name": str(number)}]
        session.remove()


@pytest.mark.parametrize("what", ["invalidate", "forget", "mark"])
def test_what_a_process_says_itself_is_known_to_it_at_once(client, open_cache, monkeypatch, what):
    deaf(monkeypatch)
    cache = open_cache(client)
    report = Report(cache)
    report.warm(hears=False)
    if what == "mark":
        cache._mark(["users"])
    elif what == "forget":
        cache.forget(report.ask)
    else:
        cache.invalidate("users", "orders")

    assert len(l1_of(cache)) == 0
    report.answer = "new"
    assert report.ask() == "new"


def test_writes_that_are_pending_bypass_it(client, open_cache, session):
    cache = open_cache(client, session=session)
    warm_rows(cache, session)
    hear(cache, client)
    warm_rows(cache, session)
    session.execute(update(USERS).values(name="mine"))

    counted = cache.stats.l1_hits
    assert cache.rows(NAME, ttl=60) == [{"name": "mine"}]
    session.rollback()
    assert cache.rows(NAME, ttl=60) == [{"name": "0"}]
    assert cache.stats.l1_hits == counted + 1  # a rollback has changed nothing


def test_a_look_that_redis_has_answered_before_an_own_write_is_not_kept(
    client, open_cache, monkeypatch
):
    """The answer is on its way while another thread of this process invalidates."""
    deaf(monkeypatch)
    cache = open_cache(client)
    report = Report(cache)
    report.ask()
    look_closely = tokens.look_closely

    def then_invalidate(*args: Any) -> Any:
        found = look_closely(*args)
        monkeypatch.setattr(tokens, "look_closely", look_closely)
        cache.invalidate("users")
        return found

    monkeypatch.setattr(tokens, "look_closely", then_invalidate)
    assert report.ask() == "old"  # what Redis has answered
    report.answer = "new"
    assert len(l1_of(cache)) == 0
    assert report.ask() == "new"


def test_a_message_that_overtakes_the_answer_keeps_it_out(client, open_cache, monkeypatch):
    cache, other = open_cache(client), open_cache(client, l1_entries=0)
    report = Report(cache)
    report.ask()
    look_closely = tokens.look_closely

    def then_hear(*args: Any) -> Any:
        found = look_closely(*args)
        monkeypatch.setattr(tokens, "look_closely", look_closely)
        other.invalidate("users")
        hear(cache, client)
        return found

    monkeypatch.setattr(tokens, "look_closely", then_hear)
    assert report.ask() == "old"
    assert len(l1_of(cache)) == 0


def test_within_a_load_it_is_not_used(
    client: Any, open_cache: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it does not know yet would be stored for everybody, under tokens that are younger."""
    cache, other = open_cache(client), open_cache(client, l1_entries=0)
    inner = Report(cache, name="inner")
    inner.warm()
    deaf(monkeypatch)
    other.invalidate("users")
    inner.answer = "new"
    assert inner.ask() == "old"  # the message is under way, for ever

    @cache.query(ttl=60, tags=["users"], name="outer")
    def outer() -> list[Any]:
        return [inner.ask()]

    @other.query(ttl=60, tags=["users"], name="outer")
    def others() -> list[Any]:
        raise AssertionError("it is there")

    assert outer() == ["new"]
    assert others() == ["new"]


def test_a_tag_that_a_load_has_found_out_is_another_question(
    client: Any, open_cache: Open, session: Any
) -> None:
    cache = open_cache(client, session=session)
    reads_users = False

    @cache.query(ttl=60, name="report")
    def report(number: int) -> Any:
        if not reads_users:
            return "nothing"
        return session.scalars(NAME).one()

    question: Any = report
    assert is_on(cache)
    for _ in range(4):
        hear(cache, client)
        assert report(1) == "nothing"
    assert cache.stats.l1_hits > 0
    counted = cache.stats.l1_hits
    question.question.learn(["users"])
    reads_users = True

    assert report(1) == "0"
    assert cache.stats.l1_hits == counted


def test_threads_of_a_process_never_see_less_than_it_has_acknowledged(
    client, open_cache, session, monkeypatch
):
    deaf(monkeypatch)
    cache = open_cache(client, session=session, lease_ms=600_000)
    acknowledged, stale, done = [0], [], threading.Event()

    def read() -> None:
        while not done.is_set():
            least = acknowledged[0]
            name = int(cache.rows(NAME, ttl=60)[0]["name"])
            session.remove()
            if name < least:
                stale.append((name, least))

    threads = [threading.Thread(target=read) for _ in range(4)]
    for each in threads:
        each.start()
    for number in range(1, 60):
        counted = cache.stats.l1_hits
        write(session, str(number))
        acknowledged[0] = number
        wait_until(lambda: cache.stats.l1_hits > counted + 3, 1)  # noqa: B023
    done.set()
    for each in threads:
        each.join()

    assert stale == []
    assert cache.stats.l1_hits > 60


# What happens to Redis.


def test_once_redis_is_killed_nothing_of_before_is_answered(server, open_cache, monkeypatch):
    cache = open_cache(server.client(), pause_ms=1)
    report = Report(cache)
    report.warm()
    server.kill()
    assert wait_until(lambda: len(l1_of(cache)) == 0, LONG)
    report.answer = "new"

    assert report.ask() == "new"
    assert wait_until(lambda: cache.stats.l1_lost.total() > 0, LONG)  # counted once it is empty
    assert (dict(cache.stats.l1_lost), l1_of(cache).is_trusted) == ({"ConnectionError": 1}, False)
    server.start()
    assert report.warm() == "new"


def test_after_a_restart_from_an_old_file_nothing_of_it_is_kept(server, open_cache):
    client = server.client()
    cache, other = open_cache(client, pause_ms=1), open_cache(client, pause_ms=1)
    report, others = Report(cache), Report(other)
    report.warm()
    client.save()
    other.invalidate("users")
    server.kill()
    server.start()
    report.answer = others.answer = "new"
    assert (report.warm(), others.warm()) == ("new", "new")


def test_while_redis_is_frozen_nothing_is_answered_for_longer_than_a_proof_counts(
    server, open_cache
):
    cache = open_cache(server.client(), l1_stale_ms=200, timeout_ms=100, pause_ms=1)
    report = Report(cache)
    report.warm()
    server.freeze()
    frozen_at = time.monotonic()
    try:
        assert l1_of(cache)._trusted_until <= frozen_at + 0.2
        report.answer = "new"
        assert wait_until(lambda: report.ask() == "new", LONG)
        assert l1_of(cache)._trusted_until <= frozen_at + 0.2
        assert wait_until(lambda: len(l1_of(cache)) == 0, LONG)  # it has waited for long enough
    finally:
        server.thaw()
    assert wait_until(lambda: cache.stats.misses + cache.stats.hits > 0, LONG)
    cache.invalidate("users")
    assert report.warm() == "new"


def test_what_was_owed_is_known_before_entries_are_used_again(server, open_cache, monkeypatch):
    deaf(monkeypatch)
    cache = open_cache(server.client(), timeout_ms=200, pause_ms=1)
    report = Report(cache)
    report.warm(hears=False)
    key, l1, empty_l1 = next(iter(l1_of(cache)._entries)), l1_of(cache), cache._empty_l1
    kept: list[bool] = []

    def keep_and_empty() -> None:
        """Somebody's look comes first, which Redis has answered before it was told."""
        names = ("token:querycache:*", "token:querycache:users")
        kept.append(l1.put(begun, key, b'"old"', ("*", "users"), names, 60_000))
        empty_l1()

    cache._opened()._on_delivered = keep_and_empty
    server.freeze()
    report.answer = "new"
    cache.invalidate("users")
    begun = l1.begin()
    assert cache.stats.owed == 1
    server.thaw()
    assert wait_until(lambda: not cache._opened().owes, LONG)

    assert kept == [True]
    assert report.ask() == "new"


def test_a_connection_that_is_cut_is_made_anew(client, open_cache):
    cache = open_cache(client)
    report = Report(cache)
    for number in range(3):
        report.warm()
        connection = the_one(client)
        client.client_kill_filter(_id=connection["id"])
        assert wait_until(lambda: cache.stats.l1_lost["ConnectionError"] == number + 1, LONG)  # noqa: B023
    assert report.warm() == "old"
    again = the_one(client)
    assert again["id"] != connection["id"]


def test_whoever_is_told_of_the_loss_finds_it_empty(client, open_cache):
    cache = open_cache(client)
    Report(cache).warm()
    found: list[Any] = []

    def listener(sender: Any, reason: str) -> None:
        found.append((len(l1_of(sender)), l1_of(sender).is_trusted, reason.split(":")[0]))

    with signals.l1_lost.connected_to(listener):
        client.client_kill_filter(_id=the_one(client)["id"])
        assert wait_until(lambda: bool(found), LONG)
    assert found == [(0, False, "ConnectionError")]


def test_what_was_missed_while_it_was_cut_off_is_not_answered(server, open_cache):
    with ended(switch := Switch(server.path)):
        cache = open_cache(switch.client(), pause_ms=1)
        other = open_cache(server.client(), l1_entries=0)
        report = Report(cache)
        report.warm()
        switch.target = None
        switch.cut()
        assert wait_until(lambda: len(l1_of(cache)) == 0, LONG)
        other.invalidate("users")
        report.answer = "new"
        switch.target = server.path
        switch.cut()
        assert report.warm() == "new"


def test_an_error_on_the_other_connections_lets_the_next_one_find_out(server, open_cache):
    """L1 must not answer in place of whoever would find out that Redis is back."""
    cache = open_cache(server.client(), pause_ms=1)
    report = Report(cache)
    report.warm()
    cache._opened()._breaker.failed()
    counted = cache.stats.l1_hits
    assert wait_until(lambda: bool(report.ask()) and not cache._opened().is_silent, LONG)
    assert cache.stats.l1_hits == counted
    report.ask()
    assert cache.stats.l1_hits == counted + 1


@pytest.fixture
def two(keeper: Keeper) -> Iterator[tuple[OwnServer, OwnServer]]:
    first, second = OwnServer(KIND, keeper).start(), OwnServer(KIND, keeper).start()
    with ended(first, second):
        yield first, second


def test_another_server_at_the_same_address(two, open_cache):
    """Data comes from the new one, while the first still proves to the tracking that it lives."""
    first, second = two
    with ended(switch := Switch(first.path)):
        cache = open_cache(switch.client(), pause_ms=1)
        report = Report(cache)
        report.warm()
        switch.target = second.path
        assert [report.ask(), cache.stats.l1_lost] == ["old", {}]
        cache._opened()._client.connection_pool.disconnect()
        report.answer = "new"
        Report(cache, name="another").ask()  # opens a connection to the second

        assert report.warm() == "new"
        assert cache.stats.l1_lost.total() == 1
        with second.client() as client:
            the_one(client)


def test_what_another_server_serves_is_not_kept(two, open_cache):
    first, second = two
    with ended(switch := Switch(first.path)):
        cache = open_cache(switch.client(), pause_ms=1)
        report = Report(cache)
        cache._tracking.meet = lambda run_id: None
        assert is_on(cache)
        switch.target = second.path
        cache._opened()._client.connection_pool.disconnect()
        for _ in range(5):
            assert report.ask() == "old"
        assert (len(l1_of(cache)), cache.stats.l1_hits, cache.stats.hits) == (0, 0, 4)


def test_a_master_that_has_become_a_replica(two, open_cache):
    """Its connections stay open, and it goes on to prove that it lives."""
    first, second = two
    with ended(switch := Switch(first.path)), first.client() as old, second.client() as new:
        cache = open_cache(switch.client(), pause_ms=1, l1_stale_ms=300)
        Report(cache).warm()
        switch.target = second.path
        # What replication brings it, once somebody has greeted the new master.
        old.set("querycache:server", new.info("server")["run_id"])

        assert wait_until(lambda: cache.stats.l1_lost["AnotherServer"] == 1, LONG)
        the_one(new)


@pytest.mark.parametrize("pair_of", [sentinel_pair, cluster_pair])
def test_after_a_failover_nothing_of_before_is_answered(open_cache, pair_of):
    """The replica has missed the invalidation, and has the entry that it has made void."""
    with pair_of(KIND) as pair:
        cache = open_cache(pair.application, **CLUSTER, pause_ms=1, l1_stale_ms=200)
        other = open_cache(pair.application, **CLUSTER, pause_ms=1, l1_entries=0)
        report = Report(cache)
        report.warm()
        cut(pair.first, pair.second)
        other.invalidate("users")
        report.answer = "new"
        os.kill(pid_of(pair.first), signal.SIGKILL)
        pair.promote()
        assert wait_until(lambda: len(l1_of(cache)) == 0, LONG)
        assert report.warm() == "new"
        the_one(pair.second)


def test_after_a_takeover_of_a_living_master_nothing_of_before_is_answered(open_cache):
    """It keeps the connection open, and no longer has the keys."""
    with cluster_pair(KIND) as pair:
        cache = open_cache(pair.application, **CLUSTER, pause_ms=1, l1_stale_ms=300)
        report = Report(cache)
        report.warm()
        cut(pair.first, pair.second)
        take_over(pair.second, pair.first)
        assert wait_until(lambda: cache.stats.l1_lost.total() == 1, LONG)
        report.answer = "new"
        cache.invalidate("users")
        assert report.warm() == "new"
        the_one(pair.second)


def test_in_a_cluster_of_three(open_cache):
    with on_cluster(KIND) as way:
        cache, other = open_cache(way.client(), **CLUSTER), open_cache(way.client(), **CLUSTER)
        report, others = Report(cache), Report(other)
        for number in range(3):
            hear(cache, way.client())
            report.warm()
            others.warm()
            report.answer = others.answer = number
            other.invalidate("users")
            hear(cache, way.client())
            assert report.warm() == number
        assert wait_until(lambda: sum(len(tracking(node)) for node in way.nodes) == 2, LONG)


def test_over_tls(open_cache):
    with on_tls(KIND) as way:
        cache, other = open_cache(way.client()), open_cache(way.client(), l1_entries=0)
        report = Report(cache)
        report.warm()
        other.invalidate("users")
        hear(cache, way.client())
        report.answer = "new"
        assert report.warm() == "new"


def test_with_a_client_of_protocol_2(server, open_cache):
    cache = open_cache(server.client(protocol=2, decode_responses=True))
    assert Report(cache).warm() == "old"


def test_with_the_parser_that_is_pure_python(server, open_cache):
    pool = redis.ConnectionPool(
        redis.UnixDomainSocketConnection, path=str(server.path), parser_class=_RESP3Parser
    )
    cache = open_cache(redis.Redis(connection_pool=pool))
    report = Report(cache)
    report.warm()
    tokens.invalidate(server.client(), "querycache:users")
    hear(cache, server.client())
    report.answer = "new"
    assert report.warm() == "new"


# Where it cannot be.


def assert_off(cache: QueryCache, caplog: pytest.LogCaptureFixture) -> None:
    report = Report(cache)
    assert [report.ask() for _ in range(4)] == ["old"] * 4
    assert (cache.stats.l1_hits, cache.stats.hits, report.calls) == (0, 3, 1)
    assert dict(cache.stats.l1_lost) == {"Refused": 1}
    assert len([each for each in caplog.messages if "L1 is off" in each]) == 1


def test_a_user_who_may_not_track(client, open_cache, caplog):
    client.acl_setuser(
        "app", enabled=True, passwords=["+pw"], keys="*", commands=["+@all", "-client"]
    )
    path = client.connection_pool.connection_kwargs["path"]
    as_user = redis.Redis(unix_socket_path=path, username="app", password="pw")
    assert_off(open_cache(as_user), caplog)
    client.acl_deluser("app")


class OldServer(OwnServer):
    """A server of before Redis 6, by what it knows of what is needed."""

    def client(self, **options: Any) -> redis.Redis:
        return super().client(protocol=2, **options)


@pytest.mark.parametrize("command", ["CLIENT", "HELLO"])
def test_a_server_that_has_no_tracking(keeper, open_cache, caplog, command):
    own = OldServer(KIND, keeper).start(f'rename-command {command} ""')
    with ended(own):
        assert_off(open_cache(own.client()), caplog)


def test_a_server_that_answers_something_else(open_cache, caplog):
    fake = FakeServer(lambda command: b"+OK\r\n")
    with ended(fake):
        cache = open_cache(fake.client(), timeout_ms=200)
        report = Report(cache)
        assert [report.ask() for _ in range(3)] == ["old"] * 3
        assert (cache.stats.l1_hits, report.calls) == (0, 3)


def test_fakeredis(caplog):
    cache = QueryCache(fakeredis.FakeRedis(), **NEAR)
    report = Report(cache)
    assert [report.ask() for _ in range(4)] == ["old"] * 4
    assert (cache.stats.l1_hits, report.calls) == (0, 1)
    cache.close()


# Processes and threads.


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows cannot fork")
def test_a_forked_child_has_a_thread_and_a_connection_of_its_own(client, open_cache):
    cache = open_cache(client)
    report = Report(cache)
    report.warm()
    ours = the_one(client)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            held = len(l1_of(cache))
            report.ask()  # from here on it has a thread
            os.write(writing, f"{held} {report.warm()} {cache.stats.as_dict()['errors']}".encode())
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    assert os.read(reading, 200) == b"0 old {}"
    os.close(reading)
    os.close(writing)

    assert wait_until(lambda: [each["id"] for each in tracking(client)] == [ours["id"]], LONG)
    assert (cache.stats.l1_lost, report.warm()) == ({}, "old")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows cannot fork")
@pytest.mark.parametrize("lock", ["_l1._lock", "_tracking._starting"])
def test_a_lock_that_another_thread_holds_is_free_in_the_child(client, open_cache, lock):
    cache = open_cache(client)
    report = Report(cache)
    report.warm()
    with operator.attrgetter(lock)(cache):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                signal.signal(signal.SIGALRM, signal.SIG_DFL)
                signal.alarm(60)
                report.ask()
                cache.invalidate("users")
                status = report.warm() != "old"
            finally:
                os._exit(status)
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="gunicorn needs fork")
def test_workers_of_a_preloaded_application(server):
    """The master has used it before the fork, and each worker has an L1 of its own."""
    with closing(Keeper()) as own:
        url = f"unix://{server.path}"
        options: dict[str, Any] = {"L1_ENTRIES": 100, "L1_STALE_MS": 600_000, "TIMEOUT_MS": 10_000}
        # With threads: workers without them close each connection, and the next is to either.
        begun = ("--preload", "--workers", "2", *GTHREAD)
        gunicorn = Gunicorn(own, url, *begun, warm=True, **options)
        workers = [clients[0] for clients in gunicorn.connect_to_each(2).values()]
        with server.client() as client:
            for added in range(3):
                for worker in workers:
                    assert wait_until(lambda: hits_l1(worker, added), LONG)  # noqa: B023
                status, _ = workers[0].ask("POST", "/add/0/0")
                assert status == 200
                assert workers[0].get("/value/0/0")["values"] == [[0, 0, added + 1]]
            assert wait_until(lambda: len(tracking(client)) == 3, LONG)


def hits_l1(worker: Any, value: int) -> bool:
    """Ask a worker for a value; whether it has given this one from its L1."""
    before = worker.get("/state")["stats"]["l1_hits"]
    answer = worker.get("/value/0/0")["values"][0][2]
    return bool(answer == value and worker.get("/state")["stats"]["l1_hits"] > before)


FORKED = """
import os, sys, time
import redis
from labkit.cache import QueryCache
from tests.nearby import NEAR, Report
cache = QueryCache(redis.Redis(unix_socket_path=PATH), **NEAR)
Report(cache).warm()
if os.fork() == 0:
    time.sleep(600)
print("forked", flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows cannot fork")
def test_a_child_does_not_hold_its_parents_connection(client, open_cache):
    """Redis would go on to fill it, for a reader that is no more."""
    path = client.connection_pool.connection_kwargs["path"]
    process = start_python(FORKED.replace("PATH", repr(path)))
    try:
        assert process.stdout
        assert process.stdout.readline() == "forked\n"
        the_one(client)
        process.kill()
        assert wait_until(lambda: tracking(client) == [], LONG)
    finally:
        end(process)


def test_closing_ends_its_thread_and_its_connection(client):
    cache = QueryCache(client, **NEAR)
    assert is_on(cache)
    thread = cache._tracking._thread  # type: ignore[union-attr]
    cache.close()
    assert thread is not None
    thread.join(LONG)

    assert not thread.is_alive()
    assert wait_until(lambda: tracking(client) == [], LONG)
    report = Report(cache)
    assert [report.ask() for _ in range(3)] == ["old"] * 3
    assert cache.stats.l1_hits == 0


def test_a_cache_that_nobody_has_any_more_ends_them_too(client):
    cache = QueryCache(client, **NEAR)
    assert is_on(cache)
    thread, gone = cache._tracking._thread, weakref.ref(cache)  # type: ignore[union-attr]
    cache._stop_watching()  # which would keep it
    del cache
    gc.collect()

    assert gone() is None
    assert thread is not None
    thread.join(LONG)
    assert not thread.is_alive()


def test_a_program_ends_though_its_thread_waits(client):
    path = client.connection_pool.connection_kwargs["path"]
    code = OTHER.replace("sys.argv[1]", repr(path)).split("for line")[0]
    process = start_python(code)
    try:
        assert process.wait(LONG) == 0
    except subprocess.TimeoutExpired:
        pytest.fail("it does not end")
    finally:
        end(process)


def test_sentinel_finds_the_master_for_it(open_cache):
    with spare_sentinel(RedisServer(KIND, "", "")) as watched:
        make: Any = watched.sentinel.master_for
        cache = open_cache(make(SERVICE))
        assert Report(cache).warm() == "old"
        the_one(watched.master)


# Put through the audit.


def test_it_falls_into_no_pitfall_of_the_audit():
    board = audit(QueryCacheL1Adapter)

    assert board.failed == []
    assert board.passed == [each.name for each in every_probe()]
