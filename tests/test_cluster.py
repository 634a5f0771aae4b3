"""A real cluster of three masters: complete, ours alone, and gone with its block or its kernel."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

import labkit.servers.cluster as clusters
import labkit.servers.redis as ladder
from labkit import LabError
from labkit.servers import Keeper, RedisServer, spare_cluster
from tests.helpers import end, is_running, mode, start_python, wait_until
from tests.kills import GONE

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no Redis program")

KEYS = 300
START_AND_WAIT = """
import json
from labkit.servers import RedisServer, spare_cluster
with spare_cluster(RedisServer("{kind}", "", "")) as cluster:
    nodes = [cluster.get_redis_connection(node).info("server") for node in cluster.get_nodes()]
    print(json.dumps([[node["process_id"], node["config_file"]] for node in nodes]), flush=True)
    input()
"""


def server(kind: str) -> RedisServer:
    """Return what says of which kind a cluster shall be. Nothing connects to it."""
    return RedisServer(kind, "", "")


@pytest.fixture(scope="module")
def shared(kind: str) -> Iterator[redis.RedisCluster]:
    with spare_cluster(server(kind)) as cluster:
        yield cluster


@pytest.fixture
def cluster(shared: redis.RedisCluster) -> redis.RedisCluster:
    shared.flushall()
    return shared


def each_node(cluster: redis.RedisCluster) -> list[Any]:
    return [cluster.get_redis_connection(node) for node in cluster.get_nodes()]


def processes(cluster: redis.RedisCluster) -> list[int]:
    return [node.info("server")["process_id"] for node in each_node(cluster)]


def test_three_masters_own_all_slots_and_share_the_keys(cluster):
    for number in range(KEYS):
        cluster.set(f"key:{number}", number)
    nodes = each_node(cluster)
    sizes = [node.dbsize() for node in nodes]

    assert len(nodes) == 3
    assert {node.info("replication")["role"] for node in nodes} == {"master"}
    assert {node.cluster("INFO")["cluster_slots_ok"] for node in nodes} == {"16384"}
    assert sum(sizes) == KEYS
    assert min(sizes) > KEYS / 6
    assert [int(cluster.get(f"key:{number}")) for number in range(KEYS)] == [*range(KEYS)]


def test_keys_with_one_hash_tag_are_on_one_node(cluster):
    for number in range(30):
        cluster.set(f"{{shop}}:{number}", number)

    assert sorted(node.dbsize() for node in each_node(cluster)) == [0, 0, 30]


def test_every_port_is_on_loopback_and_asks_for_the_password(cluster):
    for node in cluster.get_nodes():
        own = psutil.Process(cluster.get_redis_connection(node).info("server")["process_id"])
        listening = {
            connection.laddr
            for connection in own.net_connections()
            if connection.status == psutil.CONN_LISTEN
        }
        assert listening == {("127.0.0.1", node.port), ("127.0.0.1", node.port + clusters.BUS)}
        with (
            redis.Redis("127.0.0.1", node.port, retry=Retry(NoBackoff(), 0)) as stranger,
            pytest.raises(redis.AuthenticationError),
        ):
            stranger.ping()


def test_no_other_user_can_read_the_password(cluster):
    for node in each_node(cluster):
        password = node.connection_pool.connection_kwargs["password"]
        directory = Path(node.info("server")["config_file"]).parent
        pid = node.info("server")["process_id"]

        assert mode(directory.parent) == 0o700
        assert mode(directory) == 0o700
        assert password not in " ".join(psutil.Process(pid).cmdline())


def test_two_clusters_at_once_know_nothing_of_each_other(cluster, kind):
    with spare_cluster(server(kind)) as other:
        cluster.set("key", "one")

        assert other.get("key") is None
        assert not {*processes(cluster)} & {*processes(other)}
        assert len(cluster.get_nodes()) == len(other.get_nodes()) == 3


@pytest.mark.parametrize("ending", ["normal", "raises"])
def test_a_cluster_ends_with_its_block(kind, ending):
    try:
        with spare_cluster(server(kind)) as cluster:
            pids = processes(cluster)
            directory = Path(each_node(cluster)[0].info("server")["config_file"]).parents[1]
            if ending == "raises":
                raise ZeroDivisionError
    except ZeroDivisionError:
        pass
    assert not any(map(is_running, pids))
    assert not directory.exists()


def test_a_cluster_ends_with_a_killed_kernel(kind):
    owner = start_python(START_AND_WAIT.format(kind=kind))
    try:
        assert owner.stdout is not None
        nodes = json.loads(owner.stdout.readline())
        assert all(is_running(pid) for pid, _ in nodes)
        os.kill(owner.pid, signal.SIGKILL)

        assert wait_until(lambda: not any(is_running(pid) for pid, _ in nodes), GONE)
        assert wait_until(lambda: not any(Path(config).exists() for _, config in nodes), GONE)
    finally:
        end(owner)


@pytest.mark.parametrize("taken", [0, clusters.BUS], ids=["its port", "its bus port"])
def test_a_port_that_somebody_took_meanwhile_is_given_up_for_another(kind, taken, monkeypatch):
    free_ports, given = clusters.free_ports, list[list[int]]()
    [port] = free_ports(1)  # of the node that has what is taken
    with socket.socket() as somebody:
        somebody.bind(("127.0.0.1", port + taken))
        somebody.listen()

        def free_at_first(number: int) -> list[int]:
            ports = free_ports(number)
            given.append(ports if given else [ports[0], port, ports[2]])
            return given[-1]

        monkeypatch.setattr(clusters, "free_ports", free_at_first)
        with spare_cluster(server(kind)) as cluster:
            assert {node.port for node in cluster.get_nodes()} == {*given[-1]}
    assert len(given) > 1
    assert port not in given[-1]


def test_where_every_port_is_taken_the_message_says_so(kind, monkeypatch):
    keepers = kept(monkeypatch)
    monkeypatch.setattr(clusters, "PORT_ATTEMPTS", 2)
    with socket.socket() as somebody:
        ports = clusters.free_ports(clusters.MASTERS)
        somebody.bind(("127.0.0.1", ports[2]))
        somebody.listen()
        monkeypatch.setattr(clusters, "free_ports", lambda number: ports)
        with pytest.raises(LabError, match="no free ports"), spare_cluster(server(kind)):
            pass
    assert len(keepers) == clusters.PORT_ATTEMPTS
    assert not any(keeper.directory.exists() for keeper in keepers)


def test_free_ports_are_three_pairs_that_are_free():
    for _ in range(50):
        ports = clusters.free_ports(clusters.MASTERS)
        assert len({*ports, *(port + clusters.BUS for port in ports)}) == 6
        for port in ports:
            for number in (port, port + clusters.BUS):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", number))


@pytest.mark.parametrize("unlimited", ["fake", "url", "docker"])
def test_where_the_labs_server_can_have_no_cluster_auto_chooses(unlimited, monkeypatch):
    chosen = []

    def choose(choice: str) -> tuple[str, str]:
        chosen.append(choice)
        return "fake", "nothing else is here"

    monkeypatch.setattr(ladder, "choose_redis", choose)

    with pytest.raises(LabError, match="Install redis-server"), spare_cluster(server(unlimited)):
        pass
    assert chosen == ["auto"]


def kept(monkeypatch: pytest.MonkeyPatch) -> list[Keeper]:
    """Return the keepers that clusters will make from now on."""
    keepers: list[Keeper] = []

    def keep() -> Keeper:
        keepers.append(Keeper())
        return keepers[-1]

    monkeypatch.setattr(clusters, "Keeper", keep)
    return keepers


def test_nodes_that_never_meet_are_reported_and_ended(kind, monkeypatch):
    keepers = kept(monkeypatch)
    monkeypatch.setattr(clusters, "READY_TIMEOUT", 0.1)
    monkeypatch.setattr(clusters, "_has_joined", lambda node: False)

    with pytest.raises(LabError, match="did not find each other"), spare_cluster(server(kind)):
        pass
    assert not keepers[0].directory.exists()


def test_a_cluster_is_given_only_when_each_node_is_connected_to_all(cluster):
    for node in each_node(cluster):
        known = node.execute_command("CLUSTER NODES")
        assert [each["connected"] for each in known.values()] == [True] * 3
        assert clusters._has_joined(node)
