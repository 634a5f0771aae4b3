"""QueryCache on every kind of client: the same promises over each, and after a failover.

The application's client is copied; what it has, and what it is for, stays its own.
"""

from __future__ import annotations

import os
import re
import secrets
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest
import redis
import trustme
from redis.sentinel import Sentinel
from sqlalchemy import func, select, update

import labkit
from labkit import LabError
from labkit.cache import QueryCache, Settings, SettingsError, commands, server, signals, tokens
from labkit.cache.client import own_client
from labkit.concurrency.stampede import QUERY_CACHE, crashed_holder, stampede
from labkit.lab import Lab
from labkit.operate import acl_line
from labkit.servers import Keeper, RedisServer, spare_cluster, spare_sentinel, start_redis
from labkit.servers.cluster import PORT_ATTEMPTS, PortTaken, _start_node, free_ports, run_on_port
from labkit.servers.failover import SERVICE
from labkit.servers.proxy import Proxy
from labkit.servers.redis import find_program, free_port, run_program
from labkit.shop import User, db
from tests.caches import PATIENT, Counted, cached, opened_cache
from tests.helpers import wait_until

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no Redis program")

NAMESPACE = "{shop}"
NAMES = (f"{NAMESPACE}:server", f"token:{NAMESPACE}:*")
USERS = 20
EU = select(func.count(User.id)).where(User.region == "EU")
# A wait of 250 ms is of a machine that does nothing else, such as start 100 connections over TLS.
LONG = 20.0  # seconds: many times what anything here takes, and less than any wait for ever


@dataclass
class Way:
    """A way to Redis.

    Attributes:
        client: makes a client, as an application does.
        nodes: clients of each server, for the test alone.
    """

    client: Callable[..., Any]
    nodes: list[Any]


@contextmanager
def on_tcp(kind: str, **options: Any) -> Iterator[Way]:
    keeper, password = Keeper(), secrets.token_urlsafe(24)
    try:
        port = _run_somewhere(kind, password, keeper)
        reached: dict[str, Any] = {"host": "127.0.0.1", "port": port, "password": password}
        with redis.Redis(**reached) as node:
            yield Way(lambda **more: redis.Redis(**reached | options | more), [node])
    finally:
        keeper.close()


def _run_somewhere(kind: str, password: str, keeper: Keeper) -> int:
    for number in range(PORT_ATTEMPTS):
        port = free_port()
        try:
            directory = keeper.directory / f"try-{number}"
            run_on_port(find_program(kind), directory, port, [], password, keeper)
        except PortTaken:
            continue
        return port
    raise LabError("no free port was found.")


@contextmanager
def on_one_blocking_connection(kind: str) -> Iterator[Way]:
    with on_tcp(kind) as way:
        settings = way.client().connection_pool.connection_kwargs

        def make(**more: Any) -> redis.Redis:
            pool = redis.BlockingConnectionPool(max_connections=1, timeout=1, **settings | more)
            return redis.Redis(connection_pool=pool)

        yield Way(make, way.nodes)


@contextmanager
def as_a_user_of_labkit_acl(kind: str) -> Iterator[Way]:
    """Who may do what a cache of this namespace needs, and nothing else: nothing is refused."""
    with on_tcp(kind) as way:
        [admin] = way.nodes
        version = tuple(map(int, admin.info("server")["redis_version"].split(".")[:2]))
        user = {"username": "shop", "password": secrets.token_urlsafe(24)}
        line = acl_line(NAMESPACE, *user.values(), setuser=True, before_7_2=version < (7, 2))
        own = "+incrby"  # of the application, which counts by the same client
        admin.execute_command(*line.split(" "), own)
        yield Way(lambda **more: way.client(**user | more), way.nodes)
        refused = [each for each in admin.acl_log() if each["username"] == "shop"]
        assert refused == []


def _tls_settings(directory: Path) -> list[str]:
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    authority.cert_pem.write_to_path(str(directory / "ca.pem"))
    certificate.private_key_pem.write_to_path(str(directory / "key.pem"))
    certificate.cert_chain_pems[0].write_to_path(str(directory / "cert.pem"))
    return [
        "port 0",
        f'tls-cert-file "{directory}/cert.pem"',
        f'tls-key-file "{directory}/key.pem"',
        f'tls-ca-cert-file "{directory}/ca.pem"',
        "tls-auth-clients no",
    ]


@contextmanager
def on_tls(kind: str, cluster: bool = False) -> Iterator[Way]:
    password = secrets.token_urlsafe(24)
    for _ in range(PORT_ATTEMPTS):
        keeper, port = Keeper(), free_ports(1)[0]
        settings = [*_tls_settings(keeper.directory), f"tls-port {port}", "bind 127.0.0.1"]
        settings += [f"requirepass {password}"]
        settings += ["cluster-enabled yes", "tls-cluster yes"] if cluster else []
        reached: Any = {
            "host": "127.0.0.1", "port": port, "password": password,
            "ssl": True, "ssl_ca_certs": str(keeper.directory / "ca.pem"),
        }  # fmt: skip
        url = f"rediss://:{password}@127.0.0.1:{port}/0?ssl_ca_certs={keeper.directory}/ca.pem"
        try:
            run_program(find_program(kind), keeper.directory / "redis", settings, url, keeper)
            break
        except LabError as error:
            keeper.close()
            if "TLS support" in str(error):
                pytest.skip("this Redis program is built without TLS")
            if "in use" not in str(error):
                raise
    try:
        with redis.Redis(**reached) as node:
            yield Way(lambda **more: redis.Redis(**reached | more), [node])
    finally:
        keeper.close()


@contextmanager
def on_unix_socket(kind: str) -> Iterator[Way]:
    keeper = Keeper()
    try:
        server = start_redis(kind, keeper)
        assert server.url.startswith("unix:")
        with server.connect() as node:
            yield Way(server.connect, [node])
    finally:
        keeper.close()


@contextmanager
def on_cluster(kind: str) -> Iterator[Way]:
    with spare_cluster(RedisServer(kind, "", "")) as cluster, ExitStack() as clients:
        password = cluster.get_connection_kwargs()["password"]
        addresses = [(node.host, node.port) for node in cluster.get_nodes()]
        nodes = [
            clients.enter_context(redis.Redis(host, port, password=password))
            for host, port in addresses
        ]

        def make(**more: Any) -> Any:
            host, port = addresses[0]
            given: dict[str, Any] = {"password": password} | more
            return clients.enter_context(redis.RedisCluster(host, port, **given))

        yield Way(make, nodes)


@contextmanager
def on_sentinel(kind: str) -> Iterator[Way]:
    with spare_sentinel(RedisServer(kind, "", "")) as watched:
        make: Any = watched.sentinel.master_for
        yield Way(lambda **more: make(SERVICE, **more), [watched.master])


WAYS: dict[str, Callable[[str], Any]] = {
    "tcp": on_tcp,
    "tls": on_tls,
    "unix socket": on_unix_socket,
    "decode_responses": lambda kind: on_tcp(kind, decode_responses=True),
    "protocol 2": lambda kind: on_tcp(kind, protocol=2),
    "protocol 3": lambda kind: on_tcp(kind, protocol=3),
    "one blocking connection": on_one_blocking_connection,
    "no time-outs": lambda kind: on_tcp(kind, socket_timeout=None, socket_connect_timeout=None),
    "a user of labkit acl": as_a_user_of_labkit_acl,
    "cluster": on_cluster,
    "sentinel": on_sentinel,
}


@pytest.fixture(scope="module", params=WAYS)
def way(request: pytest.FixtureRequest, kind: str) -> Iterator[Way]:
    with WAYS[request.param](kind) as way:
        yield way


@pytest.fixture(scope="module")
def shop(own_data: None) -> Iterator[Lab]:
    """Only its application and its database are used."""
    with labkit.start("fake", users=USERS, orders=20) as lab:
        yield lab


def a_cache(shop: Lab, application: Any, **settings: Any) -> AbstractContextManager[QueryCache]:
    """Give a cache on the application's client, within an application's context."""
    return opened_cache(shop, application, **{"namespace": NAMESPACE} | settings)


@pytest.fixture
def application(way: Way) -> Any:
    """The application's client of an empty Redis."""
    for node in way.nodes:
        node.flushall()
    return way.client()


@pytest.fixture
def cache(shop: Lab, application: Any) -> Iterator[QueryCache]:
    with a_cache(shop, application) as cache:
        yield cache


def in_eu() -> int:
    count = int(db.session.scalars(EU).one())
    db.session.commit()  # the next SELECT is of a new transaction
    return count


def move(user_id: int = 1) -> None:
    db.session.execute(update(User).where(User.id == user_id).values(region="EU"))
    db.session.commit()


def sent(way: Way, function: Callable[[], Any]) -> dict[str, int]:
    """Return which commands all servers were sent meanwhile, by their own count."""
    for node in way.nodes:
        node.config_resetstat()
    function()
    total: dict[str, int] = {}
    for node in way.nodes:
        for name, each in node.info("commandstats").items():
            command = name.removeprefix("cmdstat_")
            total[command] = total.get(command, 0) + each["calls"]
    return {name: total[name] for name in ("mget", "eval", "evalsha", "hello") if name in total}


# The same on each of them.


def test_a_hit_is_one_command(way, cache):
    counted = Counted()
    function = cached(cache, counted, tags=["users", "orders", "products"])
    function()

    assert sent(way, lambda: [function() for _ in range(10)]) == {"mget": 10}
    assert (counted.calls, cache.stats.hits, cache.stats.misses) == (1, 10, 1)


def test_a_miss_is_three(way, cache):
    function = cached(cache, Counted(), tags=["users", "orders", "products"])

    assert sent(way, function) == {"mget": 1, "eval": 2}
    cache.invalidate("orders")
    assert sent(way, function) == {"mget": 1, "eval": 2}


def test_an_invalidation_is_one(way, cache):
    functions = [cached(cache, Counted(), tags=[name], name=name) for name in ("a", "b", "c")]
    for function in functions:
        function()
    cache.stats.reset()

    assert sent(way, lambda: cache.invalidate("a", "b", "c")) == {"eval": 1}
    for function in functions:
        function()
    assert (cache.stats.hits, cache.stats.misses) == (0, 3)


def test_a_commit_is_marked_and_invalidates(way, cache):
    function = cached(cache, in_eu)
    function()

    assert sent(way, move) == {"eval": 2}
    assert [function(), function(), cache.stats.hits] == [1, 1, 1]


def test_rows(cache):
    for region in ("US", "EU"):
        for _ in range(2):
            rows = cache.rows(select(User.id, User.region).where(User.id == 1), ttl=60)
            assert rows == [{"id": 1, "region": region}]
        move()
    assert (cache.stats.hits, cache.stats.misses) == (2, 2)


def test_text_comes_back_as_it_was(cache):
    everything = ["ä\n\x00 ", "\udcff".encode("utf-8", "surrogatepass"), b"\xff\n", None, 1.5]
    counted = Counted(lambda: everything)
    function = cached(cache, counted)

    assert [function(), function()] == [everything] * 2
    assert counted.calls == 1


def test_forgetting(cache):
    counted = Counted()
    function = cached(cache, counted)
    other = cached(cache, Counted(), name="other")
    function(), other()
    cache.forget(function)

    assert [function(), other()] == ["answer"] * 2
    assert (counted.calls, cache.stats.hits) == (2, 1)


def test_a_write_during_a_load_keeps_the_answer_out(shop, cache):
    def answer() -> int:
        count = in_eu()
        threads = ThreadPoolExecutor(1)
        threads.submit(move_elsewhere).result()
        threads.shutdown()
        return count

    def move_elsewhere() -> None:
        with shop.app.app_context():
            move()

    counted = Counted(answer)
    function = cached(cache, counted)

    assert [function(), function(), counted.calls] == [0, 1, 2]
    assert dict(cache.stats.refused_fills) == {"written to meanwhile": 2}


def test_after_a_writer_that_crashed_nothing_is_stored_until_its_deadline(cache):
    def mark(deadline_ms: int) -> None:
        tag = f"{NAMESPACE}:users"
        cache.ask(lambda client: tokens.mark(client, "crashed", tag, deadline_ms=deadline_ms))

    function = cached(cache, in_eu)
    function()
    mark(60_000)
    assert [function(), function(), cache.stats.hits] == [0, 0, 0]
    assert dict(cache.stats.refused_fills) == {"a writer is under way": 2}
    mark(1)

    assert wait_until(lambda: (function(), cache.stats.hits > 0)[1])


def test_the_commands_of_flask(shop, cache):
    def run(*arguments: str) -> Any:
        done = shop.app.test_cli_runner().invoke(commands.querycache, [*arguments, "--json"])
        assert done.exit_code == 0, done.output
        return orjson.loads(done.output)

    function = cached(cache, in_eu)
    function()
    key = function.question.key(NAMESPACE, (), {}, None)  # type: ignore[attr-defined]

    assert run("inspect", key)["tags"] == ["*", "users"]
    assert run("inspect", key)["counts"] is True
    assert run("stats")["processes"] == 1
    assert run("stats")["tags"] == 2
    assert run("invalidate", "users") == {"invalidated": ["users"]}
    assert run("inspect", key)["counts"] is False
    assert function() == 0
    assert cache.stats.misses == 2


def test_twenty_threads_load_once(cache):
    everybody = threading.Barrier(20)
    counted = Counted()
    function = cached(cache, counted)

    def ask(_: int) -> Any:
        everybody.wait(LONG)
        return function()

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(ask, range(20)))

    assert (answers, counted.calls) == (["answer"] * 20, 1)


# The application's own client.


def pools_of(application: Any) -> list[Any]:
    if isinstance(application, redis.RedisCluster):
        return [
            application.get_redis_connection(n).connection_pool for n in application.get_nodes()
        ]
    return [application.connection_pool]


def state_of(application: Any) -> list[Any]:
    """Return all that a client has: its pools' settings, connections and sockets."""
    return [
        (dict(pool.connection_kwargs), id(connection), id(connection._sock))
        for pool in pools_of(application)
        for connection in [*pool._get_free_connections(), *pool._get_in_use_connections()]
    ] + [dict(pool.connection_kwargs) for pool in pools_of(application)]


def test_the_applications_client_is_not_used_and_not_changed(shop, application):
    before = state_of(application)
    with a_cache(shop, application) as cache:
        function = cached(cache, in_eu)
        assert [function(), function()] == [0, 0]
        move()
        assert [function(), cache.stats.hits, cache.stats.misses] == [1, 1, 2]

    assert state_of(application) == before


def test_a_client_in_use_stays_in_use_and_is_free_within_a_load(shop, application):
    application.set(f"{NAMESPACE}:own", 1)
    before = state_of(application)
    with a_cache(shop, application) as cache:
        counted = Counted(lambda: int(application.incr(f"{NAMESPACE}:own")))
        function = cached(cache, counted)
        assert [function(), function()] == [2, 2]

    assert state_of(application) == before


def test_the_copy_has_time_outs_of_its_own_and_tries_nothing_twice(way, application):
    with closing(own_client(application, 12.5, NAMES)) as own:
        for pool in pools_of(own):
            connection = pool.get_connection()
            assert connection._sock.gettimeout() == 12.5
            assert (connection.socket_timeout, connection.socket_connect_timeout) == (12.5, 12.5)
            assert connection.retry.get_retries() == 0
            assert not connection.maint_notifications_config or (
                connection.maint_notifications_config.enabled is False
            )
            pool.release(connection)
        if isinstance(own, redis.RedisCluster):
            assert own.retry.get_retries() == 0


def add_user(way: Way) -> tuple[str, str]:
    user, password = "shop-web", secrets.token_urlsafe(24)
    for node in way.nodes:
        own = {"passwords": [f"+{password}"], "keys": "*", "commands": ["+@all"]}
        node.acl_setuser(user, enabled=True, **own)
    return user, password


def test_the_copy_logs_in_as_the_application_does(way):
    user, password = "shop-web", secrets.token_urlsafe(24)
    for node in way.nodes:
        node.acl_setuser(
            user, enabled=True, passwords=[f"+{password}"], keys="*", commands=["+@all"]
        )
    given = {"username": user, "password": password, "client_name": "web-1"}
    application = way.client(**given)
    is_cluster = isinstance(application, redis.RedisCluster)
    if not is_cluster:
        application = way.client(**given, db=3)

    with closing(own_client(application, 5.0, NAMES)) as own:
        for pool in pools_of(own):
            connection = pool.get_connection()
            connection.send_command("CLIENT", "INFO")
            about = dict(each.split("=", 1) for each in connection.read_response().decode().split())
            pool.release(connection)
            assert (about["user"], about["name"]) == (user, "web-1")
            assert about["db"] == ("0" if is_cluster else "3")


def test_the_copy_asks_the_applications_credential_provider(way):
    user, password = "shop-web", secrets.token_urlsafe(24)
    for node in way.nodes:
        node.acl_setuser(
            user, enabled=True, passwords=[f"+{password}"], keys="*", commands=["+@all"]
        )
    asked = []

    class Provider(redis.CredentialProvider):
        def get_credentials(self) -> tuple[str, str]:
            asked.append(1)
            return user, password

    options: dict[str, Any] = {
        "username": None,
        "password": None,
        "credential_provider": Provider(),
    }
    application = way.client(**options)
    asked.clear()
    with closing(own_client(application, 5.0, NAMES)) as own:
        assert own.get(f"{NAMESPACE}:nothing") is None
    assert asked


def test_what_the_application_does_on_each_connection_is_done(way):
    greeted = []

    def greet(connection: Any) -> None:
        if not isinstance(way.client(), redis.RedisCluster):
            connection.on_connect()
        greeted.append(connection)

    application = way.client(redis_connect_func=greet)
    greeted.clear()
    with closing(own_client(application, 5.0, NAMES)) as own:
        own.get(f"{NAMESPACE}:nothing")
        own_connections = {id(c) for pool in pools_of(own) for c in pool._get_free_connections()}
        assert own_connections & {id(connection) for connection in greeted}


def test_an_answer_that_nobody_has_read_is_not_the_next_ones(kind):
    """As where a signal's handler raises between the command and its answer, which comes late."""
    with on_tcp(kind) as way, closing(own_client(way.client(), LONG, NAMES)) as own:
        own.set("one", 1), own.set("two", 2)
        server_process = pid_of(way.nodes[0])
        pool = own.connection_pool
        connection = pool.get_connection()
        read, send = connection.read_response, connection.send_command

        def interrupted(*_: Any, **__: Any) -> Any:
            connection.read_response = read
            connection.send_command = send_and_go_on
            raise KeyboardInterrupt

        def send_and_go_on(*command: Any, **options: Any) -> None:
            send(*command, **options)
            os.kill(server_process, signal.SIGCONT)

        connection.read_response = interrupted
        pool.release(connection)
        os.kill(server_process, signal.SIGSTOP)
        with pytest.raises(KeyboardInterrupt):
            own.mget("one")

        assert own.mget("two") == [b"2"]


# Where it is.


class Nowhere(redis.RedisCluster):
    """A cluster's client, which nobody has connected."""

    def __init__(self) -> None: ...

    def __del__(self) -> None: ...


@pytest.mark.parametrize(
    "namespace", ["shop", "a{}b", "{a", "a}", "}{a}", "{a}{b}", "{{a}}", "a{}{b}", "{}", "}{", "{"]
)
def test_in_a_cluster_a_namespace_without_a_hash_tag_is_one_clear_line(namespace):
    with pytest.raises(SettingsError, match="hash tag, such as") as caught:
        QueryCache(Nowhere(), namespace=namespace)
    message = str(caught.value)
    assert "\n" not in message
    suggested = re.search(r"such as (\S+)\.$", message)
    assert suggested is not None
    assert server.checked_client(Nowhere(), Settings(namespace=suggested[1]))


@pytest.mark.parametrize("namespace", ["{shop}", "a{shop}", "{shop}.b", "a-{s}_b"])
def test_in_a_cluster_all_keys_of_a_namespace_are_in_one_slot(shop, kind, cluster, namespace):
    cluster.flushall()
    with a_cache(shop, cluster, namespace=namespace, mark_ms=60_000) as cache:
        function = cached(cache, Counted(), tags=["users", "{other}", "}a{", "*"])
        function(), function()
        cache.rows(select(User.id), ttl=60)
        cache.forget(function)
        cache.ask(tokens.take, f"{namespace}:entry", 60_000, f"{namespace}:{{b}}")
    keys = [key.decode() for key in cluster.keys("*")]
    slots = {int(cluster.execute_command("CLUSTER KEYSLOT", key)) for key in keys}

    assert len(keys) >= 10
    assert any(key.startswith("lease:") for key in keys)
    assert any(":statistics:" in key for key in keys)
    assert slots == {int(cluster.execute_command("CLUSTER KEYSLOT", namespace))}


@pytest.fixture(scope="module")
def cluster(kind: str) -> Iterator[Any]:
    with spare_cluster(RedisServer(kind, "", "")) as cluster:
        yield cluster


def test_a_cluster_over_tls_that_a_url_names(shop, kind):
    with on_tls(kind, cluster=True) as way:
        node = way.nodes[0]
        node.execute_command("CLUSTER ADDSLOTSRANGE 0 16383")
        assert wait_until(lambda: node.cluster("INFO")["cluster_state"] == "ok", LONG)
        settings = dict(node.connection_pool.connection_kwargs)
        url = f"rediss://:{settings['password']}@127.0.0.1:{settings['port']}/0"
        application: Any = redis.RedisCluster.from_url(url, ssl_ca_certs=settings["ssl_ca_certs"])
        with a_cache(shop, application) as cache:
            function = cached(cache, in_eu)
            assert [function(), function(), cache.stats.hits] == [0, 0, 1]
        application.close()


def test_a_cluster_behind_other_addresses(shop, kind, cluster):
    """As where its nodes tell addresses of a network that the application is not in."""
    asked = []

    def remap(address: tuple[str, int]) -> tuple[str, int]:
        asked.append(address)
        return address

    node = cluster.get_nodes()[0]
    password = cluster.get_connection_kwargs()["password"]
    with redis.RedisCluster(node.host, node.port, password=password, address_remap=remap) as own:
        asked.clear()
        with a_cache(shop, own) as cache:
            cached(cache, in_eu)()
            assert cache.stats.misses == 1
    assert {address[1] for address in asked} == {each.port for each in cluster.get_nodes()}


def test_a_sentinel_that_says_another_address(shop, kind):
    """`force_master_ip` is the address of the master for those outside of its network."""
    with spare_sentinel(RedisServer(kind, "", "")) as watched:
        watched.sentinel._force_master_ip = "localhost"
        application: Any = watched.sentinel.master_for(SERVICE)
        with closing(own_client(application, 5.0, NAMES)) as own:
            own.get("nothing")
            assert own.connection_pool.master_address[0] == "localhost"


def test_what_is_owed_has_a_connection_that_is_open(cache):
    standby = cache._server._standby
    connections = [each for pool in pools_of(standby) for each in pool._get_free_connections()]
    waits = [each._sock.gettimeout() for each in connections if each._sock is not None]

    assert waits
    assert {*waits} == {PATIENT["timeout_ms"] / 1000}  # no send takes longer


def test_a_master_that_became_a_replica_while_connections_to_it_stay_open(shop, kind):
    with on_tcp(kind) as first, on_tcp(kind) as second:
        old, new = first.nodes[0], second.nodes[0]
        at = [node.connection_pool.connection_kwargs for node in (old, new)]
        # Behind it is the master, whichever that is: as behind a name, or a virtual address.
        proxy = Proxy(f"redis://127.0.0.1:{at[0]['port']}/0")
        for node in (old, new):  # one password, as the members of one group have
            node.acl_setuser("app", enabled=True, passwords=["+pw"], keys="*", commands=["+@all"])
        application = redis.Redis("127.0.0.1", proxy.port, username="app", password="pw")
        with closing(proxy), a_cache(shop, application, pause_ms=3_600_000) as cache:
            function = cached(cache, in_eu)
            assert [function(), function(), cache.stats.hits] == [0, 0, 1]
            proxy.target = at[1]["port"]
            old.config_set("masterauth", at[1]["password"])
            old.replicaof("127.0.0.1", at[1]["port"])
            assert wait_until(lambda: is_linked(old), LONG)
            move()  # within the pause that its mark has begun

            assert cache.stats.owed == 1
            assert hits_again(cache, function, 1)
            assert new.get(NAMES[0]) == new.info("server")["run_id"].encode()


# What does not answer beside what does.


@contextmanager
def silent_port() -> Iterator[int]:
    """Give a port on which connections are taken and nothing is ever answered."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(100)
        yield int(silent.getsockname()[1])


def test_a_sentinel_that_is_frozen_beside_one_that_answers(shop, kind):
    with spare_sentinel(RedisServer(kind, "", "")) as watched, silent_port() as port:
        settings = watched.watcher.connection_pool.connection_kwargs
        password = settings["password"]
        make: Any = Sentinel
        sentinel = make(
            [("127.0.0.1", port), ("127.0.0.1", settings["port"])],
            sentinel_kwargs={"password": password},
            password=password,
        )
        began = time.monotonic()
        with a_cache(shop, sentinel.master_for(SERVICE), timeout_ms=500) as cache:
            function = cached(cache, in_eu)
            assert [function(), function()] == [0, 0]
            assert cache.stats.hits == 1
        assert time.monotonic() - began < LONG


def test_a_node_that_is_frozen_beside_the_one_that_has_the_keys(shop, kind, monkeypatch):
    with on_cluster(kind) as way:
        application = way.client()
        ours = application.get_node_from_key(NAMESPACE).port
        # The frozen one is asked first of all, where any may be.
        frozen = next(
            node
            for node in sorted(application.get_primaries(), key=lambda each: str(each.port))
            if node.port != ours
        )
        first = {"port": frozen.port}
        monkeypatch.setattr(
            "redis.cluster.random.shuffle",
            lambda nodes: nodes.sort(key=lambda node: node.port != first["port"]),
        )
        [process] = [
            node.info("server")["process_id"]
            for node in way.nodes
            if node.connection_pool.connection_kwargs["port"] == frozen.port
        ]
        os.kill(process, signal.SIGSTOP)
        began = time.monotonic()
        try:
            with a_cache(shop, application, timeout_ms=500) as cache:
                function = cached(cache, in_eu)
                assert [function(), function(), cache.stats.hits] == [0, 0, 1]
            assert time.monotonic() - began < LONG
        finally:
            os.kill(process, signal.SIGCONT)


# Failovers. The replica lags behind: it has the entry, and not the invalidation.


@dataclass
class Pair:
    """Two servers, of which the second has lagged behind, and takes over."""

    application: Any
    first: Any
    second: Any
    promote: Callable[[], object]


def pid_of(node: Any) -> int:
    return int(node.info("server")["process_id"])


def cut(master: Any, replica: Any) -> None:
    """Have the replica get what was written up to now, and nothing of what is written next."""
    master.set(f"{NAMESPACE}:barrier", 1)
    assert master.wait(1, 1000 * int(LONG)) == 1
    replica.config_set("masterauth", "wrong")
    master.client_kill_filter(_type="replica")


def would_serve(node: Any, key: str) -> Any:
    """Return what a node has under a key that would count, by all tokens that it has."""
    return tokens.look(node, key, f"{NAMESPACE}:*", f"{NAMESPACE}:users").value


@contextmanager
def sentinel_pair(kind: str) -> Iterator[Pair]:
    with spare_sentinel(RedisServer(kind, "", "")) as watched:
        application: Any = watched.sentinel.master_for(SERVICE)
        yield Pair(application, watched.master, watched.replica, watched.replace_the_dead)


def two_nodes(ports: Sequence[int]) -> Iterator[str]:
    """Give the files of a cluster of one master, with all slots, and its replica."""
    names = [secrets.token_hex(20) for _ in ports]
    for myself in range(2):
        lines = ["vars currentEpoch 1 lastVoteEpoch 0"]
        for number, (name, port) in enumerate(zip(names, ports, strict=True)):
            flags = "myself," * (number == myself) + ("slave" if number else "master")
            what = f"{names[0]} 0 0 1 connected" if number else "- 0 0 1 connected 0-16383"
            lines.append(f"{name} 127.0.0.1:{port}@{port + 10_000} {flags} {what}")
        yield "\n".join(lines) + "\n"


@contextmanager
def cluster_pair(kind: str) -> Iterator[Pair]:
    password, program = secrets.token_urlsafe(24), find_program(kind)
    for _ in range(PORT_ATTEMPTS):
        keeper, ports = Keeper(), free_ports(2)
        try:
            for number, nodes in enumerate(two_nodes(ports)):
                _start_node(program, number, ports[number], nodes, password, keeper)
            break
        except PortTaken:
            keeper.close()
    try:
        given: dict[str, Any] = {"password": password, "redis_connect_func": also_of_a_replica}
        with ExitStack() as clients:
            first, second = (
                clients.enter_context(redis.Redis("127.0.0.1", port, **given)) for port in ports
            )
            for node in (first, second):
                node.config_set("repl-diskless-sync-delay", 0)
                assert wait_until(lambda: node.cluster("INFO")["cluster_state"] == "ok", LONG)  # noqa: B023
            assert wait_until(lambda: is_linked(second), LONG)
            first.set("key", 1)  # a replica without a write is not told to clients
            assert wait_until(lambda: len(first.execute_command("CLUSTER SLOTS")[0]) == 4, LONG)
            application: Any = redis.RedisCluster("127.0.0.1", ports[0], password=password)
            yield Pair(
                clients.enter_context(application), first, second,
                lambda: second.cluster("FAILOVER", "TAKEOVER"),
            )  # fmt: skip
    finally:
        keeper.close()


def also_of_a_replica(connection: Any) -> None:
    """Have a node of a cluster answer for what it has, and not send the client to its master."""
    connection.on_connect()
    connection.send_command("READONLY")
    connection.read_response()


def is_linked(node: Any) -> bool:
    about = node.info("replication")
    return bool(about["role"] == "slave" and about["master_link_status"] == "up")


PAIRS = {"sentinel": sentinel_pair, "cluster": cluster_pair}


@pytest.fixture(params=PAIRS)
def pair(request: pytest.FixtureRequest, kind: str) -> Iterator[Pair]:
    with PAIRS[request.param](kind) as pair:
        yield pair


def hits_again(cache: QueryCache, function: Callable[[], Any], answer: Any) -> bool:
    """Ask until an entry is used again; return whether each answer until then was this one."""
    answers = []

    def is_hit() -> bool:
        before = cache.stats.hits
        answers.append(function())
        return cache.stats.hits > before

    assert wait_until(is_hit, LONG)
    return set(answers) == {answer}


def test_after_a_killed_master_no_stale_answer_is_served(shop, pair):
    with (
        a_cache(shop, pair.application, pause_ms=1) as cache,
        a_cache(shop, pair.application, pause_ms=1) as idle,
    ):
        function, others = cached(cache, in_eu), cached(idle, in_eu)
        key = function.question.key(NAMESPACE, (), {}, None)  # type: ignore[attr-defined]
        assert [function(), function(), others()] == [0, 0, 0]
        assert (cache.stats.hits, idle.stats.hits) == (1, 1)
        cut(pair.first, pair.second)
        move()
        assert [function(), function(), cache.stats.hits] == [1, 1, 2]
        assert would_serve(pair.second, key) is not None  # the old one, all its tokens in place
        os.kill(pid_of(pair.first), signal.SIGKILL)
        pair.promote()

        assert hits_again(cache, function, 1)
        assert hits_again(idle, others, 1)
        assert pair.second.info("replication")["role"] == "master"
        assert pair.second.get(NAMES[0]) == pair.second.info("server")["run_id"].encode()


def test_a_process_that_comes_after_the_failover_finds_nothing_stale(shop, pair):
    with a_cache(shop, pair.application, pause_ms=1) as cache:
        function = cached(cache, in_eu)
        assert [function(), function()] == [0, 0]
        cut(pair.first, pair.second)
        move()
    os.kill(pid_of(pair.first), signal.SIGKILL)
    pair.promote()
    assert wait_until(lambda: pair.second.info("replication")["role"] == "master", LONG)
    with a_cache(shop, pair.application, pause_ms=1) as cache:
        move()
        function = cached(cache, in_eu)
        assert hits_again(cache, function, 1)


def take_over(new: Any, old: Any) -> None:
    """Make a replica the master of a cluster's slots; return once the other knows."""
    new.cluster("FAILOVER", "TAKEOVER")
    assert wait_until(lambda: old.info("replication")["role"] == "slave", LONG)


def test_after_a_takeover_of_a_living_master_no_stale_answer_is_served(shop, kind):
    with cluster_pair(kind) as pair, a_cache(shop, pair.application, pause_ms=1) as cache:
        function = cached(cache, in_eu)
        assert [function(), function()] == [0, 0]
        cut(pair.first, pair.second)
        move()
        take_over(pair.second, pair.first)

        assert hits_again(cache, function, 1)


def test_after_a_takeover_and_back_no_stale_answer_is_served(shop, kind):
    """The first master has connections from its first time, which have greeted it then."""
    with cluster_pair(kind) as pair, a_cache(shop, pair.application, pause_ms=1) as cache:
        function = cached(cache, in_eu)
        assert [function(), function()] == [0, 0]
        take_over(pair.second, pair.first)
        assert hits_again(cache, function, 0)
        assert wait_until(lambda: is_linked(pair.first), LONG)
        cut(pair.second, pair.first)
        key = function.question.key(NAMESPACE, (), {}, None)  # type: ignore[attr-defined]
        move()
        assert function() == 1
        assert would_serve(pair.first, key) is not None
        take_over(pair.first, pair.second)

        assert hits_again(cache, function, 1)


# Several processes.


def test_a_hundred_callers_in_four_processes_run_one_statement(several):
    assert stampede(several, QUERY_CACHE) == [0, 0, 0, 1]


def test_a_killed_holder_of_the_lease_costs_its_lease_at_most(several):
    client, lease_ms = several.redis, 60_000
    client.flushdb()
    crashed_holder(several, "users", lease_ms, QUERY_CACHE)
    [lease] = client.keys("lease:*")
    assert 0 < client.pttl(lease) <= lease_ms

    def end_it(*_: Any, **__: Any) -> None:
        client.pexpire(lease, 1)

    with (
        closing(QueryCache(client, **PATIENT, lease_ms=2 * lease_ms)) as cache,
        signals.wait.connected_to(end_it, cache),
    ):
        counted = Counted()
        function = cached(cache, counted, name="users")
        began = time.monotonic()
        assert function() == "answer"
        took = time.monotonic() - began
        assert (counted.calls, cache.stats.waits, cache.stats.misses) == (1, 1, 1)
        assert took < lease_ms / 1000  # with its own lease, which is longer, it could go on
        assert [function(), counted.calls] == ["answer", 1]


@pytest.fixture(scope="module")
def several(kind: str, own_data: None) -> Iterator[Lab]:
    with labkit.start(kind, users=USERS, orders=20) as lab:
        yield lab
