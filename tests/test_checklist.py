"""`labkit checklist`: good servers and applications, and each thing that may be amiss with them."""

from __future__ import annotations

import contextlib
import io
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis

from labkit.cache import QueryCache, tokens
from labkit.cli import main
from labkit.operate import checklist, checks, inspected
from labkit.operate.checklist import CHECKS, GOOD, NOT_LOOKED_AT
from labkit.operate.checks import SERVER_CHECKS
from labkit.operate.clients import CLIENT_CHECKS
from labkit.operate.reading import Names
from labkit.servers import Keeper, RedisServer, spare_cluster, start_redis
from labkit.servers.cluster import PORT_ATTEMPTS, PortTaken, run_on_port
from labkit.servers.failover import SERVICE
from labkit.servers.redis import find_program, free_port
from tests.caches import PATIENT
from tests.helpers import wait_until
from tests.test_query_cache_clients import on_tls

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no Redis program")

COURSE = ("fakeredis", "matplotlib", "IPython", "faker", "filelock", "tqdm", "cloudpickle")
PASSWORD = secrets.token_urlsafe(24)
MASTER, REPLICA, SENTINEL = 0, 1, 2  # places among the nodes
READS = {
    "hello", "auth", "select", "client|setinfo", "ping", "info", "config|get", "dbsize", "scan",
    "pttl", "memory|usage", "exists", "pubsub|numsub", "cluster|info", "cluster|nodes",
}  # fmt: skip


@dataclass
class Servers:
    """A master with a replica and three Sentinels, as a server should be.

    Attributes:
        ports: of the master, the replica, and the Sentinels.
        admin: a client of the master.
    """

    ports: list[int]
    admin: Any

    def url(self, node: int = MASTER, password: str = PASSWORD) -> str:
        return f"redis://:{password}@127.0.0.1:{self.ports[node]}/0"


@pytest.fixture(scope="module")
def servers(kind: str) -> Iterator[Servers]:
    for _ in range(PORT_ATTEMPTS):
        keeper, ports = Keeper(), [free_port() for _ in range(5)]
        try:
            _start(find_program(kind), ports, keeper)
            break
        except PortTaken:
            keeper.close()
    try:
        with redis.Redis("127.0.0.1", ports[0], password=PASSWORD) as admin:
            assert wait_until(lambda: _is_watched(admin), 20)
            yield Servers(ports, admin)
    finally:
        keeper.close()


def _start(program: Path, ports: list[int], keeper: Keeper) -> None:
    pair = [f"masterauth {PASSWORD}", "repl-diskless-sync-delay 0"]
    pair += ["maxmemory 64mb", "maxmemory-policy volatile-lfu"]
    watch = [
        f"sentinel monitor {SERVICE} 127.0.0.1 {ports[0]} 2",
        f"sentinel auth-pass {SERVICE} {PASSWORD}",
        f"sentinel down-after-milliseconds {SERVICE} 60000",
    ]
    roles = [pair, [*pair, f"replicaof 127.0.0.1 {ports[0]}"], watch, watch, watch]
    for number, (port, settings) in enumerate(zip(ports, roles, strict=True)):
        options = ["--sentinel"] if number >= SENTINEL else []
        directory = keeper.directory / f"node-{number}"
        run_on_port(program, directory, port, settings, PASSWORD, keeper, options)


def _is_watched(admin: Any) -> bool:
    about = admin.info("replication")
    listening = admin.execute_command("PUBSUB NUMSUB", "__sentinel__:hello")[0][1]
    return bool(about.get("slave0", {}).get("state") == "online" and listening == 3)


@pytest.fixture
def good(servers: Servers) -> Servers:
    """Give the servers with the keys of a QueryCache, and others with a TTL."""
    servers.admin.flushall()
    cache = QueryCache(redis.Redis.from_url(servers.url()), namespace="shop", **PATIENT)
    found = cache.ask(lambda client: tokens.take(client, "shop:select:1", 60_000, "shop:users"))
    cache.ask(lambda client: tokens.fill(client, "shop:select:1", b"1", 60, found, "shop:users"))
    cache.close()
    for number in range(30):
        servers.admin.set(f"blog:{number}", "page", ex=60)
    return servers


def outcomes(found: Any) -> dict[str, str]:
    return {line.check: line.outcome for line in found.lines}


def said_of(found: Any, check: str) -> str:
    [line] = [line for line in found.lines if line.check == check]
    return str(line.words)


# A good server.


def test_a_good_server(good, capsys):
    assert main(["checklist", "--redis", good.url()]) == 0

    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert f"{len(SERVER_CHECKS)} good, 0 to mend, 0 not looked at" in lines[0]
    assert [line.split()[0] for line in lines[1:]] == ["✓"] * len(SERVER_CHECKS)
    assert PASSWORD not in said.out + said.err
    assert said.err == ""


def test_it_only_reads(good):
    admin = good.admin
    before = {name: (admin.dump(name), admin.type(name)) for name in admin.keys("*")}
    changes = admin.info("persistence")["rdb_changes_since_last_save"]
    admin.config_resetstat()

    assert checklist(good.url()).passes

    counted = {name.removeprefix("cmdstat_") for name in admin.info("commandstats")}
    by_the_others = {"config|resetstat", "replconf", "publish"}  # the Sentinels and the replica
    assert counted - by_the_others <= READS
    told = admin.command()
    assert all("write" not in told[name.partition("|")[0]]["flags"] for name in counted)
    assert admin.info("persistence")["rdb_changes_since_last_save"] == changes
    assert {name: (admin.dump(name), admin.type(name)) for name in admin.keys("*")} == before


def test_json(good, capsys):
    assert main(["checklist", "--redis", good.url(), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["passes"] is True
    assert [line["check"] for line in told["checks"]] == list(SERVER_CHECKS)
    assert told["checks"][0].keys() == {"check", "outcome", "found", "why", "how"}
    assert told["server"].startswith(f"redis://***@127.0.0.1:{good.ports[0]}/0 (")


def test_the_password_may_be_in_the_environment(good, monkeypatch):
    monkeypatch.setenv("REDISCLI_AUTH", PASSWORD)
    monkeypatch.setenv("REDIS_URL", f"redis://127.0.0.1:{good.ports[0]}")
    assert main(["checklist"]) == 0


# One thing amiss, on a server that is good otherwise.


@contextmanager
def setting(servers: Servers, name: str, value: str) -> Iterator[None]:
    before = servers.admin.config_get(name)[name]
    servers.admin.config_set(name, value)
    try:
        yield
    finally:
        servers.admin.config_set(name, before)


@contextmanager
def without_password(servers: Servers) -> Iterator[None]:
    servers.admin.config_set("requirepass", "")
    try:
        yield
    finally:
        servers.admin.config_set("requirepass", PASSWORD)


@contextmanager
def key(servers: Servers, *command: Any) -> Iterator[None]:
    servers.admin.execute_command(*command)
    yield


@contextmanager
def without_replica(servers: Servers) -> Iterator[None]:
    replica = redis.Redis("127.0.0.1", servers.ports[REPLICA], password=PASSWORD)
    with replica:
        replica.replicaof("NO", "ONE")
        try:
            assert wait_until(lambda: not servers.admin.info("replication")["connected_slaves"], 10)
            yield
        finally:
            replica.replicaof("127.0.0.1", str(servers.ports[0]))
            assert wait_until(lambda: _is_watched(servers.admin), 20)


@contextmanager
def without_a_sentinel(servers: Servers) -> Iterator[None]:
    """Stop one, which is frozen, and end its connections: it does not come back meanwhile."""
    watcher = redis.Redis("127.0.0.1", servers.ports[SENTINEL], password=PASSWORD)
    pid = watcher.info("server")["process_id"]
    ident = watcher.execute_command("SENTINEL MYID").decode()[:8]
    watcher.close()
    os.kill(pid, signal.SIGSTOP)
    try:
        for each in servers.admin.client_list():
            if each["name"].startswith(f"sentinel-{ident}"):
                servers.admin.client_kill_filter(_id=each["id"])
        yield
    finally:
        os.kill(pid, signal.SIGCONT)
        assert wait_until(lambda: _is_watched(servers.admin), 20)


LARGE = b"x" * (2 * 2**20)
AMISS: dict[str, tuple[str, Callable[[Servers], Any], str]] = {
    "no limit": ("maxmemory", lambda it: setting(it, "maxmemory", "0"), "no limit. Why: the cache"),
    "noeviction": (
        "maxmemory-policy",
        lambda it: setting(it, "maxmemory-policy", "noeviction"),
        "noeviction. Why: once memory is full each write fails",
    ),
    "allkeys": (
        "maxmemory-policy",
        lambda it: setting(it, "maxmemory-policy", "allkeys-lru"),
        "allkeys-lru. Why: it evicts a QueryCache's tokens",
    ),
    "snapshots": (
        "persistence",
        lambda it: setting(it, "save", "3600 1"),
        "snapshots (save 3600 1). Why: a cache that is loaded again is old",
    ),
    "append-only": (
        "persistence",
        lambda it: setting(it, "appendonly", "yes"),
        "an append-only file. Why:",
    ),
    "password": ("password", without_password, "everybody is let in. Why: whoever reaches"),
    "bind": (
        "bind",
        lambda it: setting(it, "bind", "0.0.0.0"),
        "listens on every interface (0.0.0.0). Why:",
    ),
    "no TTL": (
        "TTL",
        lambda it: key(it, "SET", "blog:forever", "1"),
        "1 of 32 keys have none: blog (1). Why: nothing ends them",
    ),
    "big": (
        "big keys",
        lambda it: key(it, "SET", "blog:big", LARGE, "EX", 60),
        "1 of 35: blog:big (2",
    ),
    "a big list": (
        "big keys",
        lambda it: key(
            it, "EVAL", "for i=1,40 do redis.call('RPUSH', KEYS[1], ARGV[1]..i) end "
            "redis.call('EXPIRE', KEYS[1], 60)", 1, "blog:list", b"x" * 60_000,
        ),
        "1 of 35: blog:list (2",
    ),
    "no namespace": (
        "namespace",
        lambda it: key(it, "SET", "9f86d081", "1", "EX", 60),
        "1 of 35 keys have none: 9f86d081. Why: two applications",
    ),
    "no replica": ("failover", without_replica, "no replica. Why: while this server is away"),
    "two Sentinels": ("failover", without_a_sentinel, "1 replica, 2 Sentinels. Why: no majority"),
}  # fmt: skip


def test_each_check_of_a_server_is_tried():
    told_apart = {"version", "role"}  # they have tests of their own
    assert {check for check, _, _ in AMISS.values()} == set(SERVER_CHECKS) - told_apart


@pytest.mark.parametrize("name", AMISS)
def test_one_thing_amiss(name, good, capsys):
    check, amiss, words = AMISS[name]
    with amiss(good):
        found = checklist(good.url(password="" if name == "password" else PASSWORD))
        status = main(["checklist", "--redis", good.url(), "--json"])
    told = json.loads(capsys.readouterr().out)

    assert found.to_mend == [check]
    assert NOT_LOOKED_AT not in outcomes(found).values()
    assert said_of(found, check).startswith(words), said_of(found, check)
    assert " How: " in said_of(found, check)
    if name != "password":  # redis-py gives a password, and the server says that it wants none
        assert (status, told["passes"]) == (1, False)


def test_a_password_that_nobody_needs_is_amiss_too(good):
    """The server takes any password then, and so anybody."""
    with without_password(good):
        assert checklist(good.url(password="any")).to_mend == ["password"]


def test_what_is_ignored_is_neither_good_nor_bad(good, capsys):
    with setting(good, "maxmemory", "0"):
        assert main(["checklist", "--redis", good.url(), "--ignore", "maxmemory"]) == 0
    assert "– maxmemory         not looked at: ignored" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("about", "outcome"),
    [
        ({"redis_version": "6.2.14"}, "to mend"),
        ({"redis_version": "7.0.0"}, "good"),
        ({"redis_version": "8.2.1"}, "good"),
        ({"redis_version": "255.255.255"}, "good"),
        ({"redis_version": "unstable"}, "good"),
        ({"redis_version": "6.2.0", "valkey_version": "9.1.0"}, "good"),
    ],
)
def test_the_version(about, outcome):
    class Told:
        name = "the server"

        def info(self) -> Any:
            return about

    told: Any = Told()
    assert bool(checks._version(told).why) is (outcome == "to mend")


def test_a_save_that_has_failed(good, monkeypatch):
    info = inspected.Inspected.info
    monkeypatch.setattr(
        inspected.Inspected, "info", lambda self: info(self) | {"rdb_last_bgsave_status": "err"}
    )
    found = checklist(good.url())
    assert found.to_mend == ["persistence"]
    assert "Redis refuses writes then" in said_of(found, "persistence")


def test_allkeys_is_well_where_there_is_no_query_cache(good):
    good.admin.flushall()
    good.admin.set("blog:1", "page", ex=60)
    with setting(good, "maxmemory-policy", "allkeys-lru"):
        assert checklist(good.url()).passes


def test_a_token_without_the_cache_it_is_of_needs_a_ttl(good):
    good.admin.set("token:mine:1", "secret")
    found = checklist(good.url())
    assert found.to_mend == ["TTL"]
    assert "token (1)" in said_of(found, "TTL")


def test_an_empty_server_has_no_keys_to_judge(good):
    good.admin.flushall()
    found = checklist(good.url())
    assert found.passes
    unseen = {name for name, outcome in outcomes(found).items() if outcome == NOT_LOOKED_AT}
    assert unseen == {"TTL", "big keys", "namespace"}
    assert said_of(found, "TTL") == "not looked at: database 0 has no keys yet"


def test_the_keys_that_are_looked_at_are_bounded(good):
    with good.admin.pipeline(transaction=False) as pipe:
        for number in range(3_000):
            pipe.set(f"blog:{number}", "page", ex=60)
        pipe.execute()
    good.admin.config_resetstat()
    found = checklist(good.url(), bound=1_000, measured=100)
    counted = good.admin.info("commandstats")

    assert "1,000 of 3,0" in said_of(found, "TTL")
    assert "stopped there" in said_of(found, "TTL")
    assert counted["cmdstat_scan"]["calls"] <= 3
    assert counted["cmdstat_pttl"]["calls"] == 1_000
    assert counted["cmdstat_memory|usage"]["calls"] == 100


def test_what_a_cache_keeps_is_known_though_its_token_is_not_looked_at(good, monkeypatch):
    """Of a large keyspace, "shop:server" may be among the keys that are looked at, and no token."""
    monkeypatch.setattr(
        "labkit.operate.inspected.names_of",
        lambda client, bound: Names([b"shop:server", b"blog:1"], 34, False),
    )
    assert checklist(good.url()).passes
    monkeypatch.setattr(
        "labkit.operate.inspected.names_of",
        lambda client, bound: Names([b"blog:server", b"blog:1"], 34, False),
    )
    good.admin.set("blog:server", "of another kind")
    assert checklist(good.url()).to_mend == ["TTL"]


def test_a_server_may_be_called_by_a_name(good):
    assert checklist(good.url(), name="the shop's").server.startswith("the shop's (")


# Other servers.


def test_a_replica(good):
    found = checklist(good.url(REPLICA))
    assert found.to_mend == ["role"]
    assert f"a replica of 127.0.0.1:{good.ports[0]}. Why:" in said_of(found, "role")
    assert said_of(found, "failover").startswith("not looked at: a replica knows nothing")


def test_a_sentinels_address(good, capsys):
    assert main(["checklist", "--redis", good.url(SENTINEL)]) == 2
    said = capsys.readouterr()
    [line] = said.err.splitlines()
    assert said.out == ""
    assert "is a Sentinel, which has no keys: give the URL of the master" in line
    assert f"({SERVICE} is at 127.0.0.1:{good.ports[0]})" in line
    assert PASSWORD not in line


def test_a_node_of_a_cluster(kind):
    with spare_cluster(RedisServer(kind, "", "")) as cluster:
        node: Any = cluster.get_nodes()[0]
        password = cluster.get_connection_kwargs()["password"]
        found = checklist(f"redis://:{password}@127.0.0.1:{node.port}")
        assert "failover" in found.to_mend
        assert said_of(found, "failover").startswith(
            "a cluster: 3 of 3 masters have no replica. Why: when such a master dies"
        )
        with redis.Redis("127.0.0.1", node.port, password=password) as one:
            one.execute_command("CLUSTER DELSLOTS", *owned(one)[:1])
            assert wait_until(lambda: one.execute_command("CLUSTER INFO")["cluster_state"] != "ok")
        found = checklist(f"redis://:{password}@127.0.0.1:{node.port}")
        assert said_of(found, "failover").startswith("a cluster in state fail, 16383 slots ok.")


def owned(node: Any) -> list[int]:
    [mine] = [
        each for each in node.execute_command("CLUSTER NODES").values() if "myself" in each["flags"]
    ]
    first, last = map(int, mine["slots"][0])
    return list(range(first, last + 1))


def told_of_cluster(*nodes: tuple[str, str, list[Any], str, bool]) -> Any:
    class Told:
        def ask(self, command: str) -> Any:
            if command == "CLUSTER INFO":
                return {"cluster_state": "ok", "cluster_slots_ok": "16384"}
            names = ("node_id", "flags", "slots", "master_id", "connected")
            return {each[0]: dict(zip(names, each, strict=True)) for each in nodes}

    return Told()


def test_a_cluster_with_replicas():
    masters: list[Any] = [
        ("a", "myself,master", [["0", "9000"]], "-", True),
        ("b", "master", [1], "-", True),
    ]
    replicas: list[Any] = [("c", "slave", [], "a", True), ("d", "slave", [], "b", True)]
    assert checks._cluster(told_of_cluster(*masters, *replicas)).why == ""
    gone: list[Any] = [("d", "slave", [], "b", False), ("d", "slave,fail", [], "b", True)]
    for dead in gone:
        verdict = checks._cluster(told_of_cluster(*masters, replicas[0], dead))
        assert verdict.found == "a cluster: 1 of 2 masters have no replica"


@pytest.mark.parametrize(("mode", "well"), [(0o700, True), (0o770, True), (0o777, False)])
def test_a_unix_socket_is_guarded_by_its_file(mode, well, kind):
    keeper = Keeper()
    try:
        server = start_redis(kind, keeper)
        with server.connect() as client:
            path = Path(client.connection_pool.connection_kwargs["path"])
        path.chmod(mode)
        found = checklist(server.url)
        assert ("password" not in found.to_mend) is well
        assert outcomes(found)["bind"] == GOOD
        assert said_of(found, "password").startswith("a unix socket that ")
    finally:
        keeper.close()


# A user who may not do everything.


@contextmanager
def user(servers: Servers, *rules: str) -> Iterator[str]:
    servers.admin.execute_command("ACL", "SETUSER", "looker", "reset", "on", ">pw", *rules)
    try:
        yield f"redis://looker:pw@127.0.0.1:{servers.ports[0]}"
    finally:
        servers.admin.execute_command("ACL", "DELUSER", "looker")


@pytest.mark.parametrize(
    ("rules", "unseen", "why"),
    [
        (["~*", "+@all", "-config"], {"persistence", "bind"}, "the user may not CONFIG"),
        (["~*", "+@all", "-scan"], {"TTL", "big keys", "namespace"}, "the user may not SCAN"),
        (["~*", "+@all", "-pttl"], {"TTL"}, "the user may not PTTL"),
        (["~*", "+@all", "-memory"], {"big keys"}, "the user may not MEMORY"),
        (["~*", "+@all", "-dbsize"], {"TTL", "big keys", "namespace"}, "the user may not DBSIZE"),
        (["~none:*", "+@all"], {"TTL", "big keys"}, "the user may not read the keys"),
        (["~*", "+@all", "-pubsub"], {"failover"}, "the user may not PUBSUB"),
        (
            ["~*", "+@all", "-info"],
            {"version", "role", "maxmemory", "maxmemory-policy", "persistence", "bind", "failover"},
            "the user may not INFO",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_what_the_user_may_not_is_neither_good_nor_bad(rules, unseen, why, good):
    with user(good, *rules) as url:
        found = checklist(url)
    assert found.passes
    told = {name for name, outcome in outcomes(found).items() if outcome == NOT_LOOKED_AT}
    assert told == unseen
    assert all(said_of(found, name).startswith(f"not looked at: {why}") for name in unseen)


def test_a_user_who_may_nothing(good, capsys):
    with user(good) as url, without_password(good):
        good.admin.execute_command("ACL", "SETUSER", "default", "resetpass", ">x")
        try:
            status = main(["checklist", "--redis", url, "--ignore", "password"])
        finally:
            good.admin.execute_command("ACL", "SETUSER", "default", "resetpass", f">{PASSWORD}")
    assert status == 2
    assert capsys.readouterr().err == "labkit checklist: nothing could be looked at.\n"


# Where it cannot be looked at.


def refused(capsys: Any, *words: str) -> str:
    """Return the one line that is said, in place of a traceback."""
    assert main(["checklist", *words]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    [line] = said.err.splitlines()
    assert line.startswith("labkit checklist: ")
    return str(line.removeprefix("labkit checklist: "))


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("localhost:6379", "'localhost:6379' is not the URL of a Redis server. Use redis://"),
        ("http://localhost", "'http://localhost' is not the URL of a Redis server."),
        ("redis://:s3cret@localhost:port", "'redis://***@localhost:port' is not the URL"),
        ("redis://s3cret@localhost:99999", "'redis://***@localhost:99999' is not the URL"),
        ("redis://localhost/0?db=x", "'redis://localhost/0?db=x' is not the URL"),
        ("redis://localhost?password=s3cret&x=1", "redis://localhost?password=***&x=1: "),
        ("unix:///nowhere/redis.sock?password=s3cret", "unix:///nowhere/redis.sock?password=*** "),
        ("redis://u:s3cret@nowhere.invalid", "redis://***@nowhere.invalid cannot be reached: "),
        ("redis://u:p@ss:s3cret@[::1", "'redis://***@[::1' is not the URL"),
        ("redis://:s3cret/s3cret@host", "'redis://***@host' is not the URL"),
        ("redis://:s3cret#s3cret@host", "'redis://***@host' is not the URL"),
        ("redis://:s3cret s3cret@host.invalid", "redis://***@host.invalid cannot be reached: "),
        ("redis://:1/s3cret@host", "redis://***@host cannot be reached: "),
    ],
)
def test_a_url_that_leads_nowhere(url, why, capsys):
    line = refused(capsys, "--redis", url)
    assert line.startswith(why)
    assert "s3cret" not in line


def test_words_that_say_nothing(capsys, monkeypatch):
    monkeypatch.delenv("REDIS_URL", raising=False)
    assert refused(capsys) == "which server? Give --redis URL, or set REDIS_URL."
    assert refused(capsys, "--redis", "").startswith("which server?")
    assert refused(capsys, "--redis", "redis://h", "--keys", "0").startswith("--keys is a number")
    line = refused(capsys, "--redis", "redis://h", "--ignore", "memory")
    assert line.startswith("there is no check 'memory': there are version, role, maxmemory, ")
    with pytest.raises(SystemExit, match=r"^2$"):
        main(["checklist", "--wrong"])


def test_nobody_answers(capsys):
    url = f"redis://127.0.0.1:{free_port()}"
    assert refused(capsys, "--redis", url).startswith(f"{url} cannot be reached: ")


def test_a_password_that_is_missing_or_wrong(good, capsys):
    url = f"redis://127.0.0.1:{good.ports[0]}"
    line = refused(capsys, "--redis", url)
    assert (
        line
        == f"{url} asks for a password: write it into REDISCLI_AUTH, which redis-cli takes as well."
    )
    line = refused(capsys, "--redis", good.url(password="wr0ng"))
    assert "refuses this user or password" in line
    assert "wr0ng" not in line
    line = refused(capsys, "--redis", f"redis://nobody:wr0ng@127.0.0.1:{good.ports[0]}")
    assert "refuses this user or password" in line


@contextmanager
def answering(answer: bytes | None) -> Iterator[int]:
    """Give the port of somebody who answers so to everything; None: not at all."""
    with socket.create_server(("127.0.0.1", 0)) as listener, ExitStack() as peers:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    peer = peers.enter_context(listener.accept()[0])
                    peer.recv(1_000)
                    if answer is not None:
                        peer.sendall(answer)
                    if answer == b"":
                        peer.close()

        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "is no Redis: "),
        (b"", "closes the connection: does it want TLS (rediss://), or is it no Redis?"),
        (b"-LOADING Redis is loading the dataset in memory\r\n", "is still loading its data"),
        (b"-ERR max number of clients reached\r\n", "takes no more connections"),
        (b"-DENIED Redis is running in protected mode\r\n", "answers with an error: "),
        (None, "did not answer within 0.2 s."),
    ],
)
def test_what_answers_otherwise(answer, why, capsys, monkeypatch):
    if answer is None:
        monkeypatch.setattr(inspected, "TIMEOUT", 0.2)
    with answering(answer) as port:
        url = f"redis://127.0.0.1:{port}"
        line = refused(capsys, "--redis", url)
    assert line.startswith(f"{url} {why}")


def test_tls_where_there_is_none(capsys, monkeypatch):
    """A Redis that speaks no TLS waits for the end of the line."""
    monkeypatch.setattr(inspected, "TIMEOUT", 0.5)
    with answering(None) as port:
        line = refused(capsys, "--redis", f"rediss://:s3cret@127.0.0.1:{port}")
    assert line.endswith(" did not answer within 0.5 s. Does it speak TLS?")
    assert "s3cret" not in line


def test_tls(kind, capsys):
    with on_tls(kind) as way:
        reached = way.client().connection_pool.connection_kwargs
        address = f"//:{reached['password']}@127.0.0.1:{reached['port']}/0"
        authority = f"?ssl_ca_certs={reached['ssl_ca_certs']}"
        assert outcomes(checklist(f"rediss:{address}{authority}"))["password"] == GOOD
        assert "does it want TLS (rediss://)" in refused(capsys, "--redis", f"redis:{address}")
        for wrong, why in (
            ("", "does not agree on TLS: "),
            ("?ssl_ca_certs=/nowhere", "cannot be reached: No such file or directory. "),
        ):
            line = refused(capsys, "--redis", f"rediss:{address}{wrong}")
            assert why in line
            assert reached["password"] not in line


def test_a_server_that_goes_away_meanwhile(good, capsys, monkeypatch):
    def gone(_: object) -> None:
        raise redis.ConnectionError("Connection closed by server.")

    monkeypatch.setitem(SERVER_CHECKS, "bind", gone)
    assert "closes the connection" in refused(capsys, "--redis", good.url())


def test_a_managed_server_without_config(good, monkeypatch):
    good.admin.config_resetstat()
    ask = inspected.Inspected.ask

    def without(self: Any, *command: Any, **options: Any) -> Any:
        if command[0] == "CONFIG GET":
            command = ("CONFIGURE GET",)
        return ask(self, *command, **options)

    monkeypatch.setattr(inspected.Inspected, "ask", without)
    found = checklist(good.url())
    assert said_of(found, "bind") == "not looked at: the server has no CONFIGURE"
    assert found.passes


def test_an_error_is_of_one_line(good, monkeypatch):
    def fails(_: object) -> None:
        raise redis.ResponseError("ERR something")

    monkeypatch.setitem(SERVER_CHECKS, "bind", fails)
    found = checklist(good.url())
    assert (
        said_of(found, "bind") == "not looked at: the server answers with an error: ERR something"
    )
    assert found.passes


def test_an_interruption_leaves_no_traceback(good, capsys, monkeypatch):
    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setitem(SERVER_CHECKS, "bind", interrupted)
    assert main(["checklist", "--redis", good.url()]) == 130
    assert capsys.readouterr().err == "labkit checklist: interrupted\n"


# An application.

APP = """
    import os, redis
    from flask import Flask
    from redis.backoff import NoBackoff
    from redis.retry import Retry
    from redis.sentinel import Sentinel
    from labkit.cache import QueryCache
    from labkit.shop.models import db

    print("noise of an application that starts")
    user = dict(password={password!r})
    waits = dict({waits})
    sentinel = Sentinel([("127.0.0.1", {sentinel})], sentinel_kwargs=user | waits, **user | waits)
    client = {client}
    app = Flask("shop")
    app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite://"
    app.config["QUERY_CACHE_TIMEOUT_MS"] = {timeout}
    db.init_app(app)
    cache = QueryCache()
    cache.init_app(app, db, client=client)
    {more}

    def create_app():
        return app
"""
WAITS = (
    "socket_timeout=0.5, socket_connect_timeout=0.5, retry=Retry(NoBackoff(), 1), "
    "max_connections=20"
)
FOR_MASTER = f"sentinel.master_for({SERVICE!r}, **waits)"


@pytest.fixture
def written(
    good: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., str]]:
    """Give what writes a package, and returns its application's name."""
    names: list[str] = []

    def write(
        waits: str = WAITS, client: str = FOR_MASTER, timeout: int = 250, more: str = ""
    ) -> str:
        names.append(f"shop_{secrets.token_hex(4)}")
        folder = tmp_path / names[-1]
        folder.mkdir()
        (folder / "__init__.py").write_text("")
        code = textwrap.dedent(APP).format(
            password=PASSWORD, waits=waits, client=client, timeout=timeout, more=more,
            sentinel=good.ports[SENTINEL],
        )  # fmt: skip
        (folder / "app.py").write_text(code)
        return f"{names[-1]}.app:app"

    monkeypatch.syspath_prepend(tmp_path)
    yield write
    for name in names:
        module = sys.modules.get(f"{name}.app")
        if module is not None and hasattr(module, "cache"):
            module.cache.close()


def test_a_good_application(good, written, capsys):
    app = written()
    assert main(["checklist", "--redis", good.url(), "--app", app, "--json"]) == 0
    said = capsys.readouterr()
    told = json.loads(said.out)
    assert [line["check"] for line in told["checks"]] == list(CHECKS)
    assert {line["outcome"] for line in told["checks"]} == {GOOD}
    assert said.err == "noise of an application that starts\n"
    assert checklist(good.url(), app.replace(":app", ":create_app")).passes


PLAIN = "redis.Redis('127.0.0.1', {port}, **user, **waits)"
IN_APP: dict[str, tuple[str, dict[str, Any], str]] = {
    "no time-out": (
        "socket_timeout", {"waits": WAITS.replace("socket_timeout=0.5", "socket_timeout=None", 1)},
        ": no limit. Why: a request waits for ever",
    ),
    "no time-out at all": (  # one for answers is one for connecting as well
        "socket_connect_timeout",
        {"waits": WAITS.replace("timeout=0.5", "timeout=None")},
        ": no limit. Why: a request waits for minutes",
    ),
    "many retries": (
        "retry", {"waits": WAITS.replace("NoBackoff(), 1", "NoBackoff(), 20")},
        ": tries 21 times, in all 10.5 s. Why: a request may wait longer than 5 s",
    ),
    "retries for ever": (
        "retry", {"waits": WAITS.replace("NoBackoff(), 1", "NoBackoff(), -1")},
        ": tries for ever, in all no limit. Why:",
    ),
    "no end of connections": (
        "max_connections", {"waits": WAITS.replace("=20", "=2**31")},
        ": 2,147,483,648. Why: one process may take all of the server's 10,000 connections",
    ),
    "not by the Sentinel": ("client", {"client": PLAIN}, "Why: after a failover it goes on asking"),
    "a QueryCache that waits": (
        "QUERY_CACHE_TIMEOUT_MS", {"timeout": 5_000}, ": 5,000 ms. Why: the first request",
    ),
}  # fmt: skip


def test_each_check_of_an_application_is_tried():
    assert {check for check, _, _ in IN_APP.values()} == set(CLIENT_CHECKS)


@pytest.mark.parametrize("name", IN_APP)
def test_one_thing_amiss_in_an_application(name, good, written):
    check, changes, words = IN_APP[name]
    if "client" in changes:
        changes = {"client": changes["client"].format(port=good.ports[0])}
    app = written(**changes)
    found = checklist(good.url(), app)
    both = ["socket_timeout", "socket_connect_timeout"]
    assert found.to_mend == (both if check == both[1] else [check])
    assert NOT_LOOKED_AT not in outcomes(found).values()
    assert words in said_of(found, check)
    assert app.partition(":")[0] in said_of(found, check)


def test_what_redis_py_sets_by_itself_is_seen(good, written):
    app = written(more=f"plain = redis.Redis('127.0.0.1', {good.ports[0]}, password={PASSWORD!r})")
    found = checklist(good.url(), app, ignore=["client"])
    assert found.to_mend == ["retry"]
    assert "app:plain: tries 11 times, in all 55 s" in said_of(found, "retry")


@pytest.mark.parametrize(
    "more",
    [
        "held = redis.ConnectionPool(socket_timeout=None)",
        "held = redis.Redis.from_url('redis://localhost', socket_timeout=None)",
        "app.extensions['mine'] = {'a': [redis.Redis(socket_timeout=None)]}",
        "app.config['CLIENT'] = redis.Redis(socket_timeout=None)",
        "class Holder: pass\nholder = Holder(); holder.inner = Holder()\n"
        "holder.inner.client = redis.Redis(socket_timeout=None)",
        "from flask import current_app, g, request, session\n"
        "held = [current_app, g, redis.Redis(socket_timeout=None)]",
        "import redis.asyncio\nheld = redis.asyncio.Redis(socket_timeout=None)",
        "from flask_caching import Cache\n"
        "Cache(app, config={'CACHE_TYPE': 'RedisCache', 'CACHE_OPTIONS': "
        "{'socket_timeout': None}})",
    ],
)
def test_clients_are_found_where_applications_keep_them(more, good, written):
    app = written(more=more)
    found = checklist(good.url(), app, ignore=["client", "retry", "max_connections"])
    assert found.to_mend == ["socket_timeout"], str(found)


def test_an_application_without_a_client(good, tmp_path, monkeypatch):
    (tmp_path / "bare.py").write_text("from flask import Flask\napp = Flask('bare')\n")
    monkeypatch.syspath_prepend(tmp_path)
    found = checklist(good.url(), "bare:app")
    assert found.passes
    assert {outcomes(found)[name] for name in CLIENT_CHECKS} == {NOT_LOOKED_AT}
    assert said_of(found, "retry").endswith("no client of redis-py was found in the application")


def test_a_cluster_wants_a_client_of_clusters(kind, tmp_path, monkeypatch):
    with spare_cluster(RedisServer(kind, "", "")) as cluster:
        port = cluster.get_nodes()[0].port
        password = cluster.get_connection_kwargs()["password"]
        reached = f"'127.0.0.1', {port}, password={password!r}, socket_timeout=3"
        for name, kind_of_client in (("plain_one", "Redis"), ("cluster_one", "RedisCluster")):
            (tmp_path / f"{name}.py").write_text(
                "import redis\nfrom flask import Flask\napp = Flask('one')\n"
                f"client = redis.{kind_of_client}({reached}, socket_connect_timeout=3)\n"
            )
        monkeypatch.syspath_prepend(tmp_path)
        url = f"redis://:{password}@127.0.0.1:{port}"
        plain, clustered = checklist(url, "plain_one:app"), checklist(url, "cluster_one:app")
        sys.modules["cluster_one"].client.close()
    assert "plain_one:client is a Redis. Why: in a Cluster it reaches" in said_of(plain, "client")
    assert said_of(clustered, "client") == "RedisCluster"
    for check in ("socket_timeout", "socket_connect_timeout"):
        assert said_of(clustered, check) == "3 s"


@pytest.mark.parametrize(
    ("code", "name", "why"),
    [
        ("app = 1", "app", "{module}:app is no application, but a thing of type int."),
        ("1 /", "app", "{module} cannot be imported: SyntaxError: "),
        ("import mined", "app", "{module} cannot be imported: No module named 'mined'."),
        ("raise SystemExit(3)", "app", "{module} cannot be imported: SystemExit: 3."),
        ("raise OSError('redis://u:s3cret@h\\n a')", "app",
         "{module} cannot be imported: OSError: redis://***@h a."),
        ("", "app", "{module} has no app: {module}:app."),
        ("def app(): raise KeyError('redis://u:s3cret@h')", "app",
         "{module}:app cannot be called: KeyError: 'redis://***@h'"),
        ("def app(config): pass", "app", "{module}:app cannot be called: TypeError: app() missing"),
    ],
)  # fmt: skip
def test_an_application_that_cannot_be_imported(
    code, name, why, good, capsys, tmp_path, monkeypatch
):
    module = f"bad_{secrets.token_hex(4)}"
    (tmp_path / f"{module}.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    line = refused(capsys, "--redis", good.url(), "--app", f"{module}:{name}")
    assert line.startswith(why.format(module=module))
    assert "s3cret" not in line


@pytest.mark.parametrize(
    ("app", "why"),
    [
        ("nowhere:app", "there is no module nowhere here: nowhere:app."),
        ("nowhere", "'nowhere' names nothing: write PACKAGE.MODULE:NAME."),
    ],
)
def test_an_application_that_is_not_there(app, why, good, capsys):
    assert refused(capsys, "--redis", good.url(), "--app", app) == why


# How it reads.


def test_a_terminal_gets_wrapped_lines(good):
    found = checklist(good.url())
    assert all(len(line) <= 80 for line in found.as_text(80).splitlines()[1:])
    assert found.as_text(80).replace("\n", " ").split() == found.as_text().split()


def test_a_reader_that_has_read_enough(good, monkeypatch, capfd):
    read, write = os.pipe()
    os.close(read)
    with setting(good, "maxmemory", "0"), os.fdopen(write, "w") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        assert main(["checklist", "--redis", good.url()]) == 1
    assert capfd.readouterr().err == ""


def test_a_terminal_that_has_no_mark(good, monkeypatch):
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    assert main(["checklist", "--redis", good.url()]) == 0
    assert b"\n? maxmemory  " in written.getvalue()


def test_nobody_reads(good, monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    assert main(["checklist", "--redis", good.url()]) == 0


def test_it_needs_nothing_of_the_course():
    code = f"""
import sys
for name in {COURSE!r}: sys.modules[name] = None
from labkit.cli import main
sys.exit(main(["checklist", "--redis", "redis://localhost:1"]) - main(["acl"]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr.count("\n")) == (2, 2), done.stderr
    assert "cannot be reached" in done.stderr


def test_html_takes_what_it_finds_for_text(good):
    good.admin.set("<b>", "1", ex=60)
    html = checklist(good.url())._repr_html_()
    assert "&lt;b&gt;" in html
    assert "<b>" not in html


def test_what_a_terminal_would_obey_is_taken_out(good, capsys):
    good.admin.set("\x1b[31mred\nnext", "1", ex=60)
    assert main(["checklist", "--redis", good.url()]) == 1
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "�[31mred next" in out
