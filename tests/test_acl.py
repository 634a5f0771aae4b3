"""`labkit acl`: a user who may do all that a QueryCache needs, and nothing else.

The whole behaviour of QueryCache runs as this user. Each command is then taken away in turn, and
something breaks that has a name. What the servers count is what the list has, no more, no less.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import secrets
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import redis
from redis.exceptions import RedisClusterException as ClusterFails
from redis.sentinel import Sentinel
from sqlalchemy import func, select, update

import labkit
from labkit.audit.site import steady_port
from labkit.cache import QueryCache, tokens
from labkit.cache.commands import querycache
from labkit.cache.permissions import CLUSTER, COMMANDS, INSPECTION, L1, SENTINEL, rules
from labkit.cache.server import Unavailable
from labkit.cli import main
from labkit.lab import Lab
from labkit.operate import acl_line, acl_table
from labkit.servers import Keeper, RedisServer, spare_cluster, spare_sentinel, start_redis
from labkit.servers.failover import SERVICE
from labkit.servers.redis import find_program, run_program
from labkit.shop import User, db
from tests.caches import PATIENT, opened_cache
from tests.helpers import wait_until
from tests.nearby import is_on

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no Redis program")

NAMESPACE = "{shop}"
USER, PASSWORD = "shop", secrets.token_urlsafe(24)
USERS = 20
EU = select(func.count(User.id).label("users")).where(User.region == "EU")
WITHOUT_PERMISSION = {"hello", "auth"}  # that anybody may send: else nobody could log in


@pytest.fixture(scope="module")
def lab(own_data: None) -> Iterator[Lab]:
    with labkit.start("fake", users=USERS, orders=10) as lab:
        yield lab


@dataclass
class Place:
    """A server, and its user.

    Attributes:
        admin: a client of each node that may do everything.
        client: makes a client that is the user.
        known: whether the server knows CLIENT SETINFO.
    """

    admin: list[Any]
    client: Callable[..., Any]
    known: bool

    def allow(self, **options: Any) -> None:
        """Make the user what `labkit acl` says."""
        line = acl_line(
            NAMESPACE, USER, PASSWORD, setuser=True, before_7_2=not self.known, **options
        )
        for node in self.admin:
            assert node.execute_command(*line.split(" ")) == b"OK"

    def begin(self) -> None:
        """Forget what was counted, refused and stored."""
        self.empty()
        for node in self.admin:
            node.config_resetstat()
            node.acl_log_reset()

    def empty(self) -> None:
        """End the user's connections, and forget what is stored."""
        self.end_connections()
        for node in self.admin:
            node.flushall()

    def end_connections(self) -> None:
        for node in self.admin:
            for each in node.client_list():
                if each["user"] == USER:
                    node.client_kill_filter(_id=each["id"])

    def counted(self) -> set[str]:
        """Return which commands were called since, or refused."""
        names = set()
        for node in self.admin:
            names |= {
                name.removeprefix("cmdstat_")
                for name, about in node.info("commandstats").items()
                if about["calls"] or about["rejected_calls"]
            }
        return names - {"config|resetstat", "acl|log", "flushall"}

    def refused(self) -> list[str]:
        """Return what the user was refused."""
        return [each["object"] for node in self.admin for each in node.acl_log()]


def knows_setinfo(node: Any) -> bool:
    """Redis from 7.2 on, and Valkey, which says that it is one."""
    major, minor, *_ = node.info("server")["redis_version"].split(".")
    return (int(major), int(minor)) >= (7, 2)


@pytest.fixture(scope="module")
def place(kind: str) -> Iterator[Place]:
    keeper = Keeper()
    try:
        server = start_redis(kind, keeper)
        with server.connect() as admin:
            user = {"username": USER, "password": PASSWORD}
            yield Place([admin], lambda **more: server.connect(**user | more), knows_setinfo(admin))
    finally:
        keeper.close()


# What a QueryCache does. Each raises, or says what is wrong, where a permission is missing.


def expect(cache: QueryCache, hits: int, misses: int) -> None:
    told = cache.stats
    assert not told.errors, told.errors
    assert (told.hits, told.misses, told.bypasses.total()) == (hits, misses, 0)
    assert not told.refused_fills


def ask(cache: QueryCache, statement: Any = EU) -> int:
    return int(cache.rows(statement, ttl=60)[0]["users"])


def a_miss_and_a_hit(lab: Lab, place: Place) -> None:
    with opened_cache(lab, place.client(), namespace=NAMESPACE) as cache:
        assert (ask(cache), ask(cache)) == (0, 0)
        expect(cache, 1, 1)


def a_write_and_an_invalidation(lab: Lab, place: Place) -> None:
    with opened_cache(lab, place.client(), namespace=NAMESPACE) as cache:
        ask(cache)
        db.session.execute(update(User).where(User.id == 1).values(region="EU"))
        db.session.commit()
        assert ask(cache) == 1
        cache.invalidate("users")
        assert ask(cache) == 1
        expect(cache, 0, 3)


def a_writer_that_crashes(lab: Lab, place: Place) -> None:
    """Its marker is judged by the server's clock."""
    with opened_cache(lab, place.client(), namespace=NAMESPACE) as cache:
        cache.ask(tokens.mark, "crashed", f"{NAMESPACE}:users")
        assert ask(cache) == 0
        assert not cache.stats.errors, cache.stats.errors
        assert cache.stats.refused_fills == {"a writer is under way": 1}
        cache.ask(lambda client: tokens.invalidate(client, f"{NAMESPACE}:users", writer="crashed"))
        assert (ask(cache), ask(cache)) == (0, 0)
        assert not cache.stats.errors, cache.stats.errors
        assert (cache.stats.hits, cache.stats.misses) == (1, 2)


def a_lease_that_is_held(lab: Lab, place: Place) -> None:
    """How long it lasts is asked, since nobody waits for one that would never end."""
    with opened_cache(lab, place.client(), namespace=NAMESPACE) as cache:
        asked = f"{NAMESPACE}:select:1", 10_000, f"{NAMESPACE}:users"
        held, again = (cache.ask(tokens.take, *asked) for _ in range(2))
        assert (held.ours, again.ours, again.holder) == (True, False, held.holder)
        cache.ask(tokens.release, asked[0], held)
        assert cache.ask(tokens.take, *asked).ours


def forgetting_one_call(lab: Lab, place: Place) -> None:
    with opened_cache(lab, place.client(), namespace=NAMESPACE) as cache:

        @cache.query(ttl=60, tags=["users"])
        def users(region: str) -> int:
            found = db.session.scalars(select(func.count(User.id)).filter_by(region=region))
            return found.one()

        assert (users("US"), users("US")) == (USERS, USERS)
        cache.forget(users, "US")
        assert users("US") == USERS
        expect(cache, 1, 2)


def an_entry_that_cannot_be_read(lab: Lab, place: Place) -> None:
    with opened_cache(lab, place.client(), namespace=NAMESPACE) as cache:
        ask(cache)
        [key] = place.admin[0].keys("*:select:*")
        stamp = place.admin[0].get(key).partition(b"\n")[0]
        place.admin[0].set(key, stamp + b"\nnonsense", ex=60)
        assert (ask(cache), ask(cache)) == (0, 0)
        assert set(cache.stats.errors) == {"CorruptData"}
        assert (cache.stats.hits, cache.stats.misses) == (1, 2)


def a_connection_that_is_lost(lab: Lab, place: Place) -> None:
    """The next one recognises the server, and finds the entries as they were."""
    with opened_cache(lab, place.client(), namespace=NAMESPACE) as cache:
        ask(cache)
        place.end_connections()
        assert ask(cache) == 0
        expect(cache, 1, 1)


def flask_querycache(lab: Lab, place: Place) -> None:
    with opened_cache(lab, place.client(), namespace=NAMESPACE) as cache:
        ask(cache)
        [key] = place.admin[0].keys("*:select:*")
        run = lab.app.test_cli_runner().invoke
        told = run(querycache, ["stats", "--json"])
        assert told.exit_code == 0, told.output
        assert json.loads(told.output)["processes"] == 1
        shown = run(querycache, ["inspect", key.decode(), "--json"])
        assert shown.exit_code == 0, shown.output
        assert json.loads(shown.output)["counts"] is True
        assert run(querycache, ["invalidate", "users"]).exit_code == 0
        assert ask(cache) == 0
        expect(cache, 0, 2)


def a_client_with_settings_of_its_own(lab: Lab, place: Place) -> None:
    """A name, another database, connections that are looked after: QueryCache keeps them."""
    client = place.client(client_name="shop", db=3, health_check_interval=1e-9)
    with opened_cache(lab, client, namespace=NAMESPACE) as cache:
        assert (ask(cache), ask(cache)) == (0, 0)
        expect(cache, 1, 1)
        [admin] = place.admin
        mine = [each for each in admin.client_list() if each["user"] == USER]
        assert {(each["name"], each["db"]) for each in mine} == {("shop", "3")}


def a_full_memory_and_its_policy(lab: Lab, place: Place, caplog: Any) -> None:
    """What QueryCache says of a policy, it has asked the server."""
    [admin] = place.admin
    admin.config_set("maxmemory-policy", "allkeys-lru")
    try:
        with opened_cache(lab, place.client(), namespace=NAMESPACE):
            assert "Redis evicts by allkeys-lru" in caplog.text
    finally:
        admin.config_set("maxmemory-policy", "noeviction")


def nothing_is_refused(lab: Lab, place: Place) -> None:
    """Else who reads ACL LOG finds a line of each connection, and none of an intruder's."""
    a_miss_and_a_hit(lab, place)
    assert place.refused() == []


BEHAVIOUR: list[Callable[..., None]] = [
    a_miss_and_a_hit,
    a_write_and_an_invalidation,
    a_writer_that_crashes,
    a_lease_that_is_held,
    forgetting_one_call,
    an_entry_that_cannot_be_read,
    a_connection_that_is_lost,
    flask_querycache,
    a_client_with_settings_of_its_own,
    nothing_is_refused,
]
BREAKS = {  # what breaks without each command
    "mget": a_miss_and_a_hit,
    "get": a_miss_and_a_hit,
    "set": a_miss_and_a_hit,
    "del": an_entry_that_cannot_be_read,
    "pttl": a_lease_that_is_held,
    "time": a_writer_that_crashes,
    "eval": a_miss_and_a_hit,
    "info": a_miss_and_a_hit,
    "client|setinfo": nothing_is_refused,
    "client|setname": a_client_with_settings_of_its_own,
    "ping": a_client_with_settings_of_its_own,
    "select": a_client_with_settings_of_its_own,
    "scan": flask_querycache,
    "type": flask_querycache,
}


@pytest.fixture
def user(place: Place) -> Iterator[Place]:
    place.allow()
    place.begin()
    yield place
    place.begin()


@pytest.mark.parametrize("behave", BEHAVIOUR, ids=lambda behave: behave.__name__)
def test_the_user_may_do_what_a_cache_needs(behave, lab, user):
    behave(lab, user)

    assert user.refused() == []


def test_it_reads_the_policy(lab, user, caplog):
    a_full_memory_and_its_policy(lab, user, caplog)


def test_without_any_one_command_something_breaks():
    assert set(BREAKS) == set(COMMANDS) | set(INSPECTION)


@pytest.mark.parametrize("command", BREAKS)
def test_without_one_command_this_breaks(command, lab, user):
    [admin] = user.admin
    if command == "client|setinfo" and not user.known:  # and so redis-py is not refused it
        with pytest.raises(redis.ResponseError, match="Unknown command or category name"):
            admin.execute_command("ACL", "SETUSER", USER, f"+{command}")
        return
    BREAKS[command](lab, user)
    user.begin()
    admin.execute_command("ACL", "SETUSER", USER, f"-{command}")

    with pytest.raises((AssertionError, Unavailable, ValueError)):
        BREAKS[command](lab, user)
    assert command.partition("|")[0] in {each.partition("|")[0] for each in user.refused()}


def test_the_list_has_what_the_server_counts(lab, user):
    for behave in BEHAVIOUR:
        behave(lab, user)
        user.empty()

    needed = set(COMMANDS) | set(INSPECTION)
    if not user.known:
        needed -= {"client|setinfo"}
    by_the_test = {"keys", "client|list", "client|kill"}
    assert user.counted() - WITHOUT_PERMISSION - by_the_test == needed


@pytest.mark.parametrize(
    "command",
    [
        ("KEYS", "*"), ("FLUSHALL",), ("FLUSHDB",), ("CONFIG", "GET", "*"), ("MONITOR",),
        ("ACL", "LIST"), ("SHUTDOWN",), ("EXISTS", "{shop}:1"), ("CLIENT", "KILL", "ID", "1"),
        ("SCRIPT", "FLUSH"), ("PUBLISH", "a", "b"), ("SUBSCRIBE", "a"), ("DBSIZE",),
    ],
    ids=" ".join,
)  # fmt: skip
def test_other_commands_are_refused(command, user):
    with closing(user.client()) as client, pytest.raises(redis.exceptions.NoPermissionError):
        client.execute_command(*command)


@pytest.mark.parametrize(
    "key", ["blog:select:1", "token:blog:users", "lease:blog:select:1", "session:1", "{shop}"]
)
def test_keys_of_others_are_refused_in_scripts_too(key, user):
    user.admin[0].set(key, "theirs")
    script = f"return redis.call('GET', '{key}')"
    with closing(user.client()) as client:
        for command in (("GET", key), ("SET", key, "1"), ("DEL", key), ("MGET", key)):
            with pytest.raises(redis.exceptions.NoPermissionError):
                client.execute_command(*command)
        for eval_it in (lambda: client.eval(script, 1, key), lambda: client.eval(script, 0)):
            with pytest.raises(
                redis.exceptions.ResponseError, match=r"(?i)permission|can't access"
            ):
                eval_it()
    assert user.admin[0].get(key) == b"theirs"


def test_a_script_is_refused_what_its_user_is(user):
    with closing(user.client()) as client, pytest.raises(redis.exceptions.ResponseError):
        client.eval("return redis.call('KEYS', '*')", 0)


def test_without_inspection_only_the_flask_commands_break(lab, user):
    user.allow(inspection=False)
    for behave in BEHAVIOUR:
        if behave is not flask_querycache:
            behave(lab, user)
            user.begin()
    with pytest.raises(AssertionError, match="no permissions"):
        flask_querycache(lab, user)


# L1, which Redis tells what changes.


def a_copy_in_the_process(lab: Lab, place: Place) -> None:
    """It is used, and an invalidation by another process takes it out."""
    settings: dict[str, Any] = {"l1_entries": 10, "l1_stale_ms": 600_000}
    with opened_cache(lab, place.client(), namespace=NAMESPACE, **settings) as cache:
        ask(cache)
        assert is_on(cache), cache.stats.l1_lost
        assert wait_until(lambda: ask(cache) == 0 and cache.stats.l1_hits > 0, 10)
        other = QueryCache(place.admin[0], namespace=NAMESPACE, **PATIENT)
        with closing(other):
            other.invalidate("users")
        assert wait_until(lambda: ask(cache) == 0 and cache.stats.misses == 2, 10)


def test_with_l1(lab, user):
    user.allow(l1=True)
    user.begin()
    a_copy_in_the_process(lab, user)

    assert user.refused() == []
    if user.known:
        assert "client|tracking" in user.counted()


def test_without_l1s_command_it_stays_off_and_says_so(lab, user, caplog):
    assert set(L1) == {"client|tracking"}
    settings: dict[str, Any] = {"l1_entries": 10, "l1_stale_ms": 600_000}
    with opened_cache(lab, user.client(), namespace=NAMESPACE, **settings) as cache:
        assert (ask(cache), ask(cache)) == (0, 0)
        assert wait_until(lambda: bool(cache.stats.l1_lost), 10)
        assert (ask(cache), cache.stats.l1_hits, cache.stats.hits) == (0, 0, 2)
        assert cache.stats.l1_lost == {"Refused": 1}
    assert "L1 is off, every answer comes from Redis" in caplog.text
    assert [each.partition("|")[0] for each in user.refused()] == ["client"]


def test_the_line_has_l1s_command_only_if_asked_for(capsys):
    for words in (["acl"], ["acl", "--l1"]):
        assert main(words) == 0
    without, line = (each.split(" ") for each in capsys.readouterr().out.splitlines())
    assert set(line) - set(without) == {"+client|tracking"}


# A Cluster, and a Sentinel.


@contextmanager
def cluster_place(kind: str) -> Iterator[Place]:
    with spare_cluster(RedisServer(kind, "", "")) as cluster, ExitStack() as clients:
        nodes = [
            clients.enter_context(
                redis.Redis(
                    node.host, node.port, password=cluster.get_connection_kwargs()["password"]
                )
            )
            for node in cluster.get_nodes()
        ]
        port = cluster.get_nodes()[0].port

        def make(**more: Any) -> Any:
            made: Any = redis.RedisCluster(
                "127.0.0.1", port, username=USER, password=PASSWORD, **more
            )
            return clients.enter_context(made)

        yield Place(nodes, make, knows_setinfo(nodes[0]))


def a_miss_and_a_hit_in_a_cluster(lab: Lab, place: Place) -> None:
    with opened_cache(lab, place.client(), namespace=NAMESPACE) as cache:
        assert (ask(cache), ask(cache)) == (0, 0)
        db.session.execute(update(User).where(User.id == 1).values(region="EU"))
        db.session.commit()
        assert ask(cache) == 1
        expect(cache, 1, 2)


def a_slot_that_moves(lab: Lab, place: Place) -> None:
    """Its keys are asked for where they will be."""
    with opened_cache(lab, place.client(), namespace=NAMESPACE) as cache:
        ask(cache)
        names = {node.execute_command("CLUSTER MYID").decode(): node for node in place.admin}
        slot = place.admin[0].execute_command("CLUSTER KEYSLOT", NAMESPACE)
        [source] = [name for name, node in names.items() if node.dbsize()]
        target = next(name for name in names if name != source)
        move = "CLUSTER", "SETSLOT", slot
        try:
            names[target].execute_command(*move, "IMPORTING", source)
            names[source].execute_command(*move, "MIGRATING", target)
            names[source].flushall()
            assert cache.ask(lambda client: client.get(f"{NAMESPACE}:any")) is None
            assert not cache.stats.errors, cache.stats.errors
        finally:
            for node in names.values():
                node.execute_command(*move, "STABLE")


CLUSTER_BREAKS = {
    "cluster|slots": a_miss_and_a_hit_in_a_cluster,
    "command": a_miss_and_a_hit_in_a_cluster,
    "asking": a_slot_that_moves,
}


def test_in_a_cluster(kind, lab):
    with cluster_place(kind) as place:
        place.allow(cluster=True)
        place.begin()
        a_miss_and_a_hit_in_a_cluster(lab, place)
        a_slot_that_moves(lab, place)
        assert place.refused() == []
        told = place.counted() - WITHOUT_PERMISSION
        told -= {"cluster|myid", "cluster|keyslot", "cluster|setslot", "dbsize", "client|list"}
        assert told - {"client|kill"} <= set(COMMANDS) | set(CLUSTER)

        assert set(CLUSTER_BREAKS) == set(CLUSTER)
        for command, behave in CLUSTER_BREAKS.items():
            place.begin()
            place.allow(cluster=True)
            for node in place.admin:
                node.execute_command("ACL", "SETUSER", USER, f"-{command}")
            with pytest.raises((AssertionError, Unavailable, redis.RedisError, ClusterFails)):
                behave(lab, place)
            assert command in place.refused()


def test_with_a_sentinel(kind, lab):
    with spare_sentinel(RedisServer(kind, "", "")) as watched:
        known = knows_setinfo(watched.master)
        watcher: Any = watched.watcher
        address = watcher.connection_pool.connection_kwargs
        line = acl_line(
            user=USER, password=PASSWORD, sentinel=True, setuser=True, before_7_2=not known
        )
        assert watcher.execute_command(*line.split(" ")) == b"OK"
        user = {"username": USER, "password": PASSWORD}

        def make(**more: Any) -> Any:
            sentinel: Any = Sentinel
            asked = sentinel(
                [(address["host"], address["port"])],
                sentinel_kwargs=user | {"health_check_interval": 1e-9},
                **user,
            )
            return asked.master_for(SERVICE, **more)

        place = Place([watched.master], make, known)
        place.allow()
        place.begin()
        watcher.acl_log_reset()
        a_miss_and_a_hit(lab, place)
        assert (place.refused(), watcher.acl_log()) == ([], [])

        for command in SENTINEL:
            if command == "client|setinfo" and not known:
                continue
            watcher.execute_command("ACL", "SETUSER", USER, f"-{command}")
            watcher.acl_log_reset()
            with contextlib.suppress(AssertionError):
                a_miss_and_a_hit(lab, place)
            assert watcher.acl_log(), command
            watcher.execute_command("ACL", "SETUSER", USER, f"+{command}")


# The line.


def test_a_server_starts_with_the_line_in_its_acl_file(kind, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO(PASSWORD + "\n"))
    before = [] if kind == "wheel" else ["--before-7.2"]
    assert main(["acl", "--namespace", "shop", "--password-stdin", *before]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert PASSWORD not in said.out
    keeper, port = Keeper(), steady_port()
    try:
        file = keeper.directory / "users.acl"
        file.write_text(f"user default on #{hashlib.sha256(b'x').hexdigest()} ~* &* +@all\n")
        with file.open("a") as lines:
            lines.write(said.out)
        settings = ["bind 127.0.0.1", f"port {port}", f'aclfile "{file}"']
        url = f"redis://shop:{PASSWORD}@127.0.0.1:{port}"
        run_program(find_program(kind), keeper.directory / "redis", settings, url, keeper)
        with redis.Redis.from_url(url) as client:
            assert client.get("shop:server") is None
            with pytest.raises(redis.exceptions.NoPermissionError):
                client.get("blog:server")
    finally:
        keeper.close()


def test_the_line(capsys):
    assert main(["acl", "--namespace", "shop"]) == 0
    said = capsys.readouterr()
    [line] = said.out.splitlines()
    assert line == " ".join(["user shop on", *rules("shop")])
    assert line.startswith(
        "user shop on resetkeys ~shop:* ~lease:shop:* ~token:shop:* resetchannels"
    )
    [note] = said.err.splitlines()
    assert note.startswith("labkit acl: no password is in it, so nobody can log in as shop")


def test_the_table_has_what_the_line_has():
    table = acl_table()
    told = {f"+{name.lower().replace(' ', '|')}" for name in table.column("command")}
    line = rules(NAMESPACE, cluster=True, l1=True)
    assert told == {each for each in line if each[0] == "+"} | {"+select"}
    assert "MGET" in str(table)
    assert all(len(words) <= 70 for words in table.column("needed for"))


def test_a_password_is_hashed_as_redis_has_it(user):
    [admin] = user.admin
    told = admin.acl_getuser(USER)
    assert told["passwords"] == [hashlib.sha256(PASSWORD.encode()).hexdigest()]
    assert f"#{told['passwords'][0]}" in acl_line(NAMESPACE, USER, PASSWORD)
    assert PASSWORD not in acl_line(NAMESPACE, USER, PASSWORD)


def test_a_user_without_a_password_cannot_log_in(user):
    [admin] = user.admin
    line = acl_line(NAMESPACE, "nobody", setuser=True, before_7_2=not user.known)
    assert admin.execute_command(*line.split(" ")) == b"OK"
    for password in ("", "nobody", "x"):
        with (
            closing(user.client(username="nobody", password=password)) as client,
            pytest.raises(redis.AuthenticationError),
        ):
            client.get(f"{NAMESPACE}:server")


def test_who_had_more_has_less_after_setuser(user):
    [admin] = user.admin
    admin.acl_setuser(USER, enabled=True, keys=["*"], categories=["+@all"], passwords=["+other"])
    user.allow()
    told = admin.acl_getuser(USER)
    assert len(told["passwords"]) == 1
    with closing(user.client()) as client, pytest.raises(redis.exceptions.NoPermissionError):
        client.get("blog:1")


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--namespace", "a b"], "QUERY_CACHE_NAMESPACE (or namespace=) is"),
        (["--namespace", "*"], "QUERY_CACHE_NAMESPACE (or namespace=) is"),
        (["--namespace", ""], "QUERY_CACHE_NAMESPACE (or namespace=) is"),
        (["--namespace", "shop", "--cluster"], "In a Redis Cluster an entry and its tags must be"),
        (["--user", "a b"], "a user's name has letters without spaces"),
        (["--user", ""], "a user's name has letters without spaces"),
        (["--user", "default"], "the user 'default' is who administers Redis"),
        (["--password-stdin"], "an empty password is none."),
    ],
)  # fmt: skip
def test_what_cannot_be_is_said_in_one_line(words, why, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    assert main(["acl", *words]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    [line] = said.err.splitlines()
    assert line.startswith(f"labkit acl: {why}")


def test_a_short_password_is_warned_of(capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("hunter2\r\n"))
    assert main(["acl", "--password-stdin"]) == 0
    said = capsys.readouterr()
    assert hashlib.sha256(b"hunter2").hexdigest() in said.out
    [line] = said.err.splitlines()
    assert "can be guessed from its hash" in line
    assert "hunter2" not in said.out + said.err
