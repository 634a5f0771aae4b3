"""Servers that are made to fail: what each fault leaves, and who can reach them."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from labkit.concurrency.clients import client_of
from labkit.errors import LabError
from labkit.servers import Keeper, RedisServer
from labkit.servers import failover as servers
from labkit.servers import redis as ladder
from labkit.servers.cluster import free_ports
from labkit.servers.failover import (
    NEVER_MS,
    Node,
    can_fail,
    failing_program,
    replicated,
    start_alone,
    start_clustered,
    start_sentinels,
)
from tests.helpers import is_running, mode, wait_until

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no Redis program")

LONG = 20.0  # seconds: many times what anything here takes


@pytest.fixture(params=["server", "wheel"])
def program(request: pytest.FixtureRequest) -> Path:
    try:
        return failing_program(RedisServer(request.param, "", ""))
    except LabError as error:
        pytest.skip(str(error).splitlines()[0])


def test_a_killed_redis_comes_back_with_its_snapshot_or_empty(
    program: Path, keeper: Keeper
) -> None:
    group = start_alone(program, keeper)
    node, client = group.node, client_of(group.told)
    client.set("key", "old")
    snapshot = node.saved()
    client.set("key", "new")
    first = node.pid
    node.kill()
    with pytest.raises(redis.ConnectionError):
        node.client().get("key")
    node.start(snapshot)
    assert client.get("key") == b"old"
    assert node.saved()
    node.kill()
    node.start()
    assert client.dbsize() == 0
    assert not is_running(first)


def test_a_frozen_redis_takes_connections_and_answers_nobody(program: Path, keeper: Keeper) -> None:
    node = start_alone(program, keeper).node
    node.client().set("key", 1)
    node.freeze()
    with pytest.raises(redis.TimeoutError):
        node.client(socket_timeout=0.1).get("key")
    node.thaw()
    assert node.client(socket_timeout=LONG).get("key") == b"1"


def test_sentinels_promote_a_replica_and_send_clients_there(program: Path, keeper: Keeper) -> None:
    group = start_sentinels(program, keeper, down_after_ms=NEVER_MS)
    client = client_of(group.told)
    client.set("key", 1)
    assert client.wait(2, 1000 * int(LONG)) == 2
    assert [len(group.replicas), len(group.sentinels)] == [2, 3]
    group.replace_the_dead()
    group.master.kill()
    successor = group.wait_for_successor()

    assert successor in group.replicas
    assert client_of(group.told).get("key") == b"1"
    assert client_of(group.told).info("server")["process_id"] == successor.pid


@pytest.mark.parametrize("tag", ["{shop}", "{c}", "{a}"])  # one node has each
def test_a_clusters_replica_takes_over_the_hash_tags_slots(
    program: Path, keeper: Keeper, tag: str
) -> None:
    group = start_clustered(program, keeper, tag, node_timeout_ms=NEVER_MS)
    with client_of(group.told) as client:
        client.set(f"{tag}:key", 1)
        assert client.get_node_from_key(tag).port == group.master.port
        assert group.master.client().dbsize() == 1
        assert wait_until(lambda: group.replica.client().dbsize() == 1, LONG)
        group.replace_the_dead()
        group.master.kill()
        assert group.wait_for_successor() is group.replica
    with client_of(group.told) as client:  # the dead node is one of those that it is told of
        assert client.get(f"{tag}:key") == b"1"
        assert client.get_node_from_key(tag).port == group.replica.port


def test_a_replica_that_is_cut_keeps_what_it_has_and_gets_nothing_more(program: Path) -> None:
    kind = "wheel" if "valkey" in program.name else "server"
    with replicated(RedisServer(kind, "", "")) as group:
        client, (one, other) = group.client(), group.replicas
        client.set("key", "old")
        assert client.wait(2, 1000 * int(LONG)) == 2
        group.cut(one)
        client.set("key", "new")
        assert client.wait(1, 1000 * int(LONG)) == 1  # the other one has it
        assert client.wait(2, 50) == 1
        old = group.master
        group.fail_over(one)

        assert client.get("key") == b"old"
        assert other.client().get("key") == b"new"
        assert not is_running(old.pid) or psutil.Process(old.pid).status() == psutil.STATUS_ZOMBIE


def test_an_old_master_that_lives_on_serves_until_it_is_demoted(program: Path) -> None:
    kind = "wheel" if "valkey" in program.name else "server"
    with replicated(RedisServer(kind, "", ""), replicas=1) as group:
        before, old, [new] = group.client(), group.master, group.replicas
        before.set("key", "old")
        assert before.wait(1, 1000 * int(LONG)) == 1
        group.fail_over(new, kill=False)
        group.client().set("key", "new")
        assert before.get("key") == b"old"  # its connection is still open
        group.demote(old)
        assert before.get("key") == b"new"
        assert wait_until(lambda: old.is_linked, LONG)


def stranger_at(port: int) -> redis.Redis:
    """Return a client without a password, which takes the first no for an answer."""
    return redis.Redis(port=port, retry=Retry(NoBackoff(), 0))


def test_every_port_is_on_loopback_and_asks_for_a_password(program: Path, keeper: Keeper) -> None:
    watched = start_sentinels(program, keeper)
    clustered = start_clustered(program, keeper, "{shop}")
    nodes: list[Node] = [watched.master, *watched.replicas, *watched.sentinels]
    nodes += [clustered.master, clustered.replica, *clustered.others]
    for node in nodes:
        process = psutil.Process(node.pid)
        listening = {
            each.laddr.ip for each in process.net_connections() if each.status == psutil.CONN_LISTEN
        }
        assert listening == {"127.0.0.1"}
        with pytest.raises(redis.AuthenticationError), stranger_at(node.port) as stranger:
            stranger.ping()
        assert node._password not in " ".join(process.cmdline())
        assert node._password not in repr(node)
    for folder in keeper.directory.rglob("*"):
        if folder.is_dir():
            assert mode(folder) == 0o700


def test_a_port_that_somebody_took_meanwhile_is_given_up_for_another(
    program: Path, keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = free_ports
    with socket.socket() as somebody:
        somebody.bind(("127.0.0.1", 0))
        somebody.listen()
        rounds = [[somebody.getsockname()[1]]]
        monkeypatch.setattr(
            servers, "free_ports", lambda number: rounds.pop() if rounds else find(number)
        )
        assert start_alone(program, keeper).node.port != somebody.getsockname()[1]
        assert rounds == []


@pytest.mark.parametrize("kind", ["fake", "url", "docker"])
def test_where_there_is_no_program_the_message_says_what_to_do(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ladder, "choose_redis", lambda choice: ("fake", "nothing else is here"))

    assert not can_fail(RedisServer(kind, "", ""))
    with pytest.raises(LabError, match="Install redis-server"):
        failing_program(RedisServer(kind, "", ""))


def test_what_does_not_come_in_time_is_said(keeper: Keeper) -> None:
    with pytest.raises(LabError, match=r"nobody came within 0\.05 s"):
        servers.wait_until(lambda: False, "nobody came", 0.05)
