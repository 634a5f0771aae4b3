"""The reports for who operates a Redis: what they count is true, bounded, and only read."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from sqlalchemy import func, select

import labkit
from labkit import LabError
from labkit.cache import QueryCache, tokens
from labkit.lab import Lab
from labkit.operate import Table, counted_keys, hot, hot_keys, keyspace, latency, slow_commands
from labkit.operate.keyspace import prefix_of
from labkit.operate.table import in_bytes
from labkit.servers import RedisServer, spare_cluster
from labkit.shop import User, db
from tests.caches import PATIENT, opened_cache
from tests.clients import client_of

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no Redis program")

READS = {
    "hello", "client|setinfo", "client|no-touch", "info", "config|get", "dbsize", "scan", "pttl",
    "memory|usage", "get", "getrange", "object|freq", "slowlog|get", "latency|latest", "select",
}  # fmt: skip


@pytest.fixture(scope="module", params=["server", "wheel"])
def _client(request: pytest.FixtureRequest) -> Iterator[redis.Redis]:
    with client_of(request.param) as client:
        yield client


@pytest.fixture
def client(_client: Any) -> Iterator[Any]:
    _client.flushall()
    _client.config_set("maxmemory-policy", "noeviction")
    yield _client
    for name, value in (("slowlog-log-slower-than", "10000"), ("latency-monitor-threshold", "0")):
        _client.config_set(name, value)


def store(client: Any, key: str, *tags: str, ttl: float = 60, value: bytes = b"1") -> None:
    """Store an entry as a QueryCache of the namespace "shop" does."""
    names = [f"shop:{tag}" for tag in tags]
    found = tokens.take(client, key, 60_000, *names)
    assert tokens.fill(client, key, value, ttl, found, *names)


def rows_of(table: Table) -> dict[str, tuple[Any, ...]]:
    return {str(row[0]): row[1:] for row in table.rows}


# The keyspace.


def test_by_tag(client):
    store(client, "shop:1", "*", "users", ttl=6_000)
    store(client, "shop:2", "*", "users", "orders", ttl=2_000)
    store(client, "shop:3", "*", "items")
    tokens.invalidate(client, "shop:items")
    client.set("blog:1", "page", ex=60)

    found = rows_of(keyspace(client, by="tag", namespace="shop"))
    assert {name: row[0] for name, row in found.items()} == {
        "*": 2, "users": 2, "orders": 1, "(no tag that counts)": 1, "(no entry)": 5,
    }  # fmt: skip
    assert found["orders"][1] == client.memory_usage("shop:2")
    assert found["users"][1] == client.memory_usage("shop:1") + client.memory_usage("shop:2")
    assert found["(no entry)"][2] == 4  # the tokens have no TTL
    assert 1_900 < found["orders"][3] <= 2_000
    assert 3_900 < found["users"][3] <= 4_000


def test_by_prefix(client):
    for number in range(7):
        client.set(f"blog:page:{number}", "x" * 100, ex=60)
    client.set("blog:forever", "1")
    client.rpush("list", *range(10))

    table = keyspace(client)
    assert table.title == "Keyspace by prefix: 9 keys, all that there are"
    found = rows_of(table)
    assert found["blog"][::2] == (8, 1)
    assert found["(no prefix)"] == (1, client.memory_usage("list"), 1, None)
    assert next(iter(found)) == "blog"  # the largest first
    assert set(rows_of(keyspace(client, parts=2))) == {"blog:page", "blog", "(no prefix)"}
    assert table.column("keys") == [8, 1]
    assert table.as_dicts()[1]["median TTL in s"] is None


def test_what_is_looked_at_is_bounded_and_it_says_so(client):
    with client.pipeline(transaction=False) as pipe:
        for number in range(5_000):
            pipe.set(f"blog:{number:04}", "page", ex=60)
        pipe.execute()
    client.config_resetstat()
    table = keyspace(client, bound=1_000, measured=50)
    calls = {name: about["calls"] for name, about in client.info("commandstats").items()}

    assert table.title == "Keyspace by prefix: 1,000 of 5,000 keys: stopped there"
    assert "50 keys of a server were measured" in table.note
    assert "give a greater bound=" in table.note
    assert table.column("keys") == [1_000]
    assert calls["cmdstat_scan"] <= 3
    assert calls["cmdstat_memory|usage"] == 50
    assert calls["cmdstat_pttl"] == 1_000
    sizes = {client.memory_usage(f"blog:{number:04}") for number in range(0, 5_000, 10)}
    assert 1_000 * min(sizes) <= table.column("bytes")[0] <= 1_000 * max(sizes)


def test_scans_are_bounded_where_few_keys_are_left(client, monkeypatch):
    """A server might answer with nothing, again and again."""
    calls = []

    def nothing(_: object, cursor: int) -> Any:
        calls.append(cursor)
        return 1, []

    monkeypatch.setattr("labkit.operate.reading._scan", nothing)
    client.set("blog:1", "page")
    assert "0 of 1 keys: stopped there" in str(keyspace(client))
    assert len(calls) == 210


def test_all_of_them_only_read(client):
    store(client, "shop:1", "*", "users")
    client.config_set("maxmemory-policy", "volatile-lfu")
    store(client, "shop:2", "*")
    kept = {name: client.dump(name) for name in client.keys("*")}
    client.config_resetstat()
    changes = client.info("persistence")["rdb_changes_since_last_save"]

    for by in ("prefix", "tag"):
        keyspace(client, by, "shop")
    hot_keys(client)
    slow_commands(client)
    latency(client)

    counted = {name.removeprefix("cmdstat_") for name in client.info("commandstats")}
    assert counted - {"config|resetstat"} <= READS
    assert client.info("persistence")["rdb_changes_since_last_save"] == changes
    assert {name: client.dump(name) for name in client.keys("*")} == kept


def test_a_report_makes_no_key_hot(client):
    version = tuple(map(int, client.info("server")["redis_version"].split(".")[:2]))
    uses = 0 if version >= (7, 2) else 5  # before, there is no CLIENT NO-TOUCH
    client.config_set("maxmemory-policy", "volatile-lfu")
    client.config_set("lfu-log-factor", 0)  # each use counts
    client.config_set("lfu-decay-time", 0)  # and for ever: else one less at each minute's end
    try:
        store(client, "shop:1", "*")
        before = client.object("freq", "shop:1")
        for _ in range(5):
            keyspace(client, "tag", "shop")
        assert client.object("freq", "shop:1") == before + uses
        client.get("shop:1")
        assert client.object("freq", "shop:1") == before + uses + 1
    finally:
        client.config_set("lfu-log-factor", 10)
        client.config_set("lfu-decay-time", 1)


def test_a_client_that_decodes(client):
    store(client, "shop:1", "*", value=b"\xff\xfe")
    client.set(b"\xff:1", "1")
    options = client.connection_pool.connection_kwargs | {"decode_responses": True}
    options.pop("maint_notifications_pool_handler", None)
    pool: Any = redis.ConnectionPool(client.connection_pool.connection_class, **options)
    with redis.Redis(connection_pool=pool) as decoding:
        assert rows_of(keyspace(decoding, "tag", "shop"))["*"][0] == 1
        assert "�" in rows_of(keyspace(decoding))


def test_an_empty_server(client):
    assert str(keyspace(client)) == "Keyspace by prefix: 0 keys, all that there are"
    assert "<table" not in keyspace(client)._repr_html_()


def test_what_it_can_be_shown_by(client):
    with pytest.raises(LabError, match="by 'prefix' or by 'tag', not by 'key'"):
        keyspace(client, by="key")


@pytest.mark.parametrize(
    ("name", "parts", "prefix"),
    [
        (b"shop:v1:f:1", 1, "shop"), (b"shop:v1:f:1", 3, "shop:v1:f"), (b"shop:1", 3, "shop"),
        (b"shop", 1, ""), (b":1", 1, ""), (b"\xff:1", 1, "�"),
    ],
)  # fmt: skip
def test_a_prefix(name, parts, prefix):
    assert prefix_of(name, parts) == prefix


def test_fakeredis_has_entries_too():
    with client_of("fake") as client:
        store(client, "shop:1", "*", "users")
        client.set("blog:1", "page")
        assert rows_of(keyspace(client, "tag", "shop"))["users"][0] == 1
        assert rows_of(keyspace(client))["blog"][0] == 1
        assert "it counts uses under volatile-lfu" in str(hot_keys(client))


def test_a_cluster_is_looked_at_node_by_node():
    with spare_cluster(RedisServer("wheel", "", "")) as cluster:
        for number in range(40):
            cluster.set(f"blog:{number}", "page", ex=60)
        table = keyspace(cluster)
        assert table.column("keys") == [40]
        assert table.title.count("all that there are") == 3
        assert hot_keys(cluster).rows == []
        assert latency(cluster).rows
        assert slow_commands(cluster).title.startswith("Slow log: ")


# Hot keys.


def test_hot_keys_by_the_servers_own_counters(client):
    client.config_set("maxmemory-policy", "allkeys-lfu")
    for number in range(5):
        client.set(f"blog:{number}", "page")
    for _ in range(2_000):
        client.get("blog:3")
    table = hot_keys(client, top=2)
    assert table.column("key")[0] == "blog:3"
    assert len(table.rows) == 2
    assert table.rows[0][1] > 2 * table.rows[1][1]


def test_without_lfu_it_says_that_nothing_is_counted(client):
    table = hot_keys(client)
    assert table.rows == []
    assert "Its policy is noeviction: it counts uses under volatile-lfu" in str(table)


@pytest.fixture(scope="module")
def lab(own_data: None) -> Iterator[Lab]:
    with labkit.start("fake", users=5, orders=10) as lab:
        yield lab


COUNT = select(func.count(User.id))


def test_hot_keys_by_a_caches_signals(lab, client):
    with opened_cache(lab, client, namespace="shop") as cache:
        with counted_keys(cache) as counts:
            for _ in range(3):
                cache.rows(COUNT, ttl=60)
            cache.rows(COUNT.where(User.id > 1), ttl=60)
        cache.rows(COUNT, ttl=60)
    table = counts.top(1)
    assert table.title == "Hot keys: 2 that this process has asked for"
    [(name, key, hits, misses)] = table.rows
    assert (name, hits, misses) == ("rows", 2, 1)
    assert key.encode() in client.keys("*")
    assert "<table" in counts._repr_html_()


def test_another_caches_answers_are_not_counted(lab, client):
    other = QueryCache(client, namespace="other", session=db.session, **PATIENT)
    with (
        opened_cache(lab, client, namespace="shop") as cache,
        counted_keys(cache) as counts,
    ):
        other.rows(COUNT, ttl=60)
    other.close()
    assert counts.top().rows == []


def test_so_many_keys_are_counted_apart_and_no_more(monkeypatch):
    monkeypatch.setattr(hot, "MOST_KEYS", 2)
    counts = hot.KeyCounts()
    for number in (1, 2, 3, 3, 1):
        counts.hit(None, "rows", f"shop:{number}")
    assert [row[2] for row in counts.top().rows] == [2, 1]
    assert "2 answers were of further keys." in str(counts)


# What is slow.


def test_the_slow_log(client):
    client.config_set("slowlog-log-slower-than", "0")
    client.slowlog_reset()
    client.set("blog:1", "s3cret")
    client.eval("local n = 0 for i = 1, 3000000 do n = n + i end return n", 0)
    table = slow_commands(client)
    assert re.fullmatch(r"Slow log: \d+ commands, of more than 0 ms", table.title)
    assert table.rows[0][0].startswith("EVAL local n = 0")
    assert table.column("ms") == sorted(table.column("ms"), reverse=True)
    assert "SET blog:1" in table.column("command")
    assert "s3cret" not in str(table)
    assert slow_commands(client, top=1).rows[0][0] == table.rows[0][0]


def test_a_slow_log_that_is_off(client):
    client.config_set("slowlog-log-slower-than", "-1")
    assert str(slow_commands(client)).startswith("Slow log: off")


def test_latency(client):
    client.config_resetstat()
    for _ in range(100):
        client.get("blog:1")
    table = latency(client)
    found = rows_of(table)
    assert found["GET"][0] == 100
    assert 0 < found["GET"][2] <= found["GET"][3] <= found["GET"][4]
    assert table.note == "The latency monitor is off (latency-monitor-threshold 0)."
    assert len(latency(client, top=1).rows) == 1


def test_spikes(client):
    client.config_set("latency-monitor-threshold", "3600000")  # nothing takes an hour
    client.execute_command("LATENCY RESET")
    assert latency(client).note == "Spikes, the longest: none."
    client.config_set("latency-monitor-threshold", "1")
    client.eval("local n = 0 for i = 1, 3000000 do n = n + i end return n", 0)
    assert re.search(r"longest: .*command \d+ ms", latency(client).note)


def test_a_user_who_may_not_config(client):
    client.acl_setuser("poor", enabled=True, nopass=True, keys=["*"], commands=["+@all", "-config"])
    options = client.connection_pool.connection_kwargs | {"username": "poor", "password": "x"}
    options.pop("maint_notifications_pool_handler", None)
    pool: Any = redis.ConnectionPool(client.connection_pool.connection_class, **options)
    with redis.Redis(connection_pool=pool) as poor:
        assert re.fullmatch(r"Slow log: \d+ commands", slow_commands(poor).title)
        assert latency(poor).rows
    client.acl_deluser("poor")


# How it reads.


def test_a_table_as_text_and_as_html():
    table = Table("T <1>", ("a", "b"), [("x\x1b[1m", 1_234), (None, None), ("y" * 99, 2)], "note")
    assert str(table).splitlines() == [
        "T <1>",
        f"{'a':70}      b",
        f"{'x�[1m':70}  1,234",
        f"{'–':70}      –",
        f"{'y' * 69}…      2",
        "note",
    ]
    html = table._repr_html_()
    assert "T &lt;1&gt;" in html
    assert "\x1b" not in html
    assert html.count("<tr>") == 4
    assert html.count("text-align:right") == 4
    with pytest.raises(ValueError, match="not in tuple"):
        table.column("c")


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (0, "0 bytes"), (1_023, "1,023 bytes"), (1_024, "1.0 kB"), (64 * 2**20, "64.0 MB"),
        (3 * 2**30, "3.0 GB"), (5_000 * 2**30, "5,000.0 GB"),
    ],
)  # fmt: skip
def test_bytes_as_people_say_them(number, said):
    assert in_bytes(number) == said
