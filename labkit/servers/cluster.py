"""A Redis Cluster of three masters, each with a third of the slots, in processes of their own.

The nodes of a cluster send clients to each other by host and port, so they listen on loopback ports
and ask for a random password. Their cluster bus, on ports of its own, knows no password: Redis only
guards it by TLS. (https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/)
"""

from __future__ import annotations

import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis

from labkit.errors import LabError
from labkit.servers.keeper import Keeper
from labkit.servers.redis import (
    RedisServer,
    choose_redis,
    find_program,
    free_port,
    run_program,
)

MASTERS = 3
SLOTS = 16_384
BUS = 10_000  # a node's bus port is its port and this
READY_TIMEOUT = 10.0  # seconds; three nodes take one or two to know each other
PORT_ATTEMPTS = 5


@contextmanager
def spare_cluster(server: RedisServer) -> Iterator[redis.RedisCluster]:
    """Give a client of an empty cluster of three masters. It ends with the `with` block.

    Args:
        server: the lab's server. The nodes are of the same kind; where that is fakeredis, Docker or
            a URL, of the kind that "auto" finds.

    Raises:
        LabError: there is no Redis or Valkey program here, or the cluster does not come up.
    """
    kind = server.kind if server.kind in ("server", "wheel") else choose_redis("auto")[0]
    if kind not in ("server", "wheel"):
        raise LabError(
            "a cluster needs a Redis or Valkey program, and there is none here: fakeredis has no "
            "cluster.\nInstall redis-server, or use Linux or macOS, where the wheel has one."
        )
    keeper = Keeper()
    try:
        password = secrets.token_urlsafe(24)
        program = find_program(kind)
        ports = [_start_node(program, number, password, keeper) for number in range(MASTERS)]
        nodes: list[Any] = [redis.Redis("127.0.0.1", port, password=password) for port in ports]
        _join(nodes, ports)
        _wait_until_joined(nodes)
        for node in nodes:
            node.close()
        with redis.RedisCluster("127.0.0.1", ports[0], password=password) as cluster:
            yield cluster
    finally:
        keeper.close()


def _start_node(program: Path, number: int, password: str, keeper: Keeper) -> int:
    """Start a node that knows no other yet, and return its port."""
    for attempt in range(1, PORT_ATTEMPTS + 1):
        port = _free_pair()
        settings = ["bind 127.0.0.1", f"port {port}", "cluster-enabled yes"]
        settings += [f"requirepass {password}", f"masterauth {password}"]
        directory = keeper.directory / f"node-{number}-{attempt}"
        url = f"redis://:{password}@127.0.0.1:{port}/0"
        try:
            run_program(program, directory, settings, url, keeper)
        except LabError:
            # Somebody may have taken one of the two ports since we looked: a room starts at once.
            if attempt == PORT_ATTEMPTS or "Address already in use" not in _log(directory):
                raise
        else:
            return port
    raise AssertionError("unreachable")


def _log(directory: Path) -> str:
    log = directory / "log"
    return log.read_text(errors="replace") if log.exists() else ""


def _free_pair() -> int:
    """Return a port that is free, as is the one for the bus beside it."""
    while True:
        port = free_port()
        if port + BUS > 65_535:
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port + BUS))
            except OSError:
                continue
        return port


def _join(nodes: list[Any], ports: list[int]) -> None:
    """Give each node its third of the slots, and introduce the others to the first."""
    shares = [SLOTS * number // MASTERS for number in range(MASTERS + 1)]
    for number, node in enumerate(nodes):
        node.execute_command("CLUSTER SET-CONFIG-EPOCH", number + 1)
        node.execute_command("CLUSTER ADDSLOTS", *range(shares[number], shares[number + 1]))
    for port in ports[1:]:
        nodes[0].execute_command("CLUSTER MEET", "127.0.0.1", port)


def _wait_until_joined(nodes: list[Any]) -> None:
    deadline = time.monotonic() + READY_TIMEOUT
    while time.monotonic() < deadline:
        if all(_knows_all(node) for node in nodes):
            return
        time.sleep(0.01)
    raise LabError(
        f"the cluster's nodes did not find each other within {READY_TIMEOUT:g} s.\n"
        "Start again; if it stays so, the machine is too busy."
    )


def _knows_all(node: Any) -> bool:
    info = node.execute_command("CLUSTER INFO")
    return (
        info["cluster_state"] == "ok"
        and int(info["cluster_known_nodes"]) == MASTERS
        and int(info["cluster_slots_ok"]) == SLOTS
    )
