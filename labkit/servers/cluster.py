"""A Redis Cluster of three masters, each with a third of the slots, in processes of their own.

The nodes of a cluster send clients to each other by host and port, so they listen on loopback ports
and ask for a random password. Their cluster bus, on ports of its own, knows no password: Redis only
guards it by TLS. (https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/)

Each node starts with the file that it would write once all three have met. With CLUSTER MEET the
last two would hear of each other by gossip, which names nodes at random: mostly within two seconds,
and now and then not within ten.
"""

from __future__ import annotations

import secrets
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import redis

from labkit.errors import LabError
from labkit.servers.keeper import Keeper
from labkit.servers.processes import comes_true
from labkit.servers.redis import RedisServer, program_like, run_program

MASTERS = 3
SLOTS = 16_384
BUS = 10_000  # a node's bus port is its port and this
READY_TIMEOUT = 10.0  # seconds; a master waits for two before it takes part
PORT_ATTEMPTS = 5
Started = TypeVar("Started")


class PortTaken(LabError):
    """Somebody listens on a port that was free a moment ago."""


@contextmanager
def spare_cluster(server: RedisServer) -> Iterator[redis.RedisCluster]:
    """Give a client of an empty cluster of three masters. It ends with the `with` block.

    Args:
        server: the lab's server. The nodes are of the same kind; where that is fakeredis, Docker or
            a URL, of the kind that "auto" finds.

    Raises:
        LabError: there is no Redis or Valkey program here, or the cluster does not come up.
    """
    program, password = program_like(server, "a cluster needs"), secrets.token_urlsafe(24)
    keeper, ports = on_free_ports(lambda: _start_nodes(program, password), "a cluster")
    try:
        _wait_until_joined(ports, password)
        with redis.RedisCluster("127.0.0.1", ports[0], password=password) as cluster:
            yield cluster
    finally:
        keeper.close()


def _start_nodes(program: Path, password: str) -> tuple[Keeper, list[int]]:
    """Start three nodes that know each other; return what owns them, and their ports."""
    keeper, ports = Keeper(), free_ports(MASTERS)
    try:
        for number, map_of_slots in enumerate(maps_of_slots(ports)):
            _start_node(program, number, ports[number], map_of_slots, password, keeper)
    except BaseException:
        keeper.close()
        raise
    return keeper, ports


def _start_node(
    program: Path, number: int, port: int, map_of_slots: str, password: str, keeper: Keeper
) -> None:
    nodes_file = keeper.directory / f"nodes-{number}.conf"
    nodes_file.write_text(map_of_slots)
    settings = ["cluster-enabled yes", f'cluster-config-file "{nodes_file}"']
    settings += [f"masterauth {password}"]
    directory = keeper.directory / f"node-{number}"
    run_on_port(program, directory, port, settings, password, keeper)


def run_on_port(
    program: Path,
    directory: Path,
    port: int,
    settings: list[str],
    password: str,
    keeper: Keeper,
    options: Sequence[str] = (),
) -> int:
    """Run a server on a loopback port, which asks for a password, and return its process id.

    Args:
        program: redis-server or valkey-server.
        directory: made for it, with mode 0700.
        port: where it listens.
        settings: further lines of its configuration.
        password: what clients have to give.
        keeper: owns the process.
        options: further arguments of the program.

    Raises:
        PortTaken: somebody listens there.
        LabError: it cannot be run, or does not answer.
    """
    settings = ["bind 127.0.0.1", f"port {port}", f"requirepass {password}", *settings]
    url = f"redis://:{password}@127.0.0.1:{port}/0"
    try:
        return run_program(program, directory, settings, url, keeper, options)[0]
    except LabError:
        log = directory / "log"
        if log.exists() and "Address already in use" in log.read_text(errors="replace"):
            raise PortTaken from None
        raise


def maps_of_slots(ports: list[int], slot: int = 0) -> Iterator[str]:
    """Give each node's file: who the nodes are, where, and which slots each has.

    Args:
        ports: of the masters, and of replicas of the first master.
        slot: one that the first master has.
    """
    shares = [SLOTS * number // MASTERS for number in range(MASTERS + 1)]
    first = next(number for number in range(MASTERS) if slot < shares[number + 1])
    names = [secrets.token_hex(20) for _ in ports]
    for myself in range(len(ports)):
        lines = [f"vars currentEpoch {MASTERS} lastVoteEpoch 0"]
        for number, (name, port) in enumerate(zip(names, ports, strict=True)):
            where = f"{name} 127.0.0.1:{port}@{port + BUS} {'myself,' * (number == myself)}"
            if number < MASTERS:
                share = (first + number) % MASTERS
                slots = f"{shares[share]}-{shares[share + 1] - 1}"
                lines.append(f"{where}master - 0 0 {number + 1} connected {slots}")
            else:
                lines.append(f"{where}slave {names[0]} 0 0 1 connected")
        yield "\n".join(lines) + "\n"


def on_free_ports(start: Callable[[], Started], whose: str) -> Started:
    """Start servers, and again where somebody took a port meanwhile: a room starts at once.

    Args:
        start: chooses ports, and raises `PortTaken`.
        whose: for whom, such as "a cluster".

    Raises:
        LabError: each time a port was taken, or they do not come up.
    """
    for _ in range(PORT_ATTEMPTS):
        with suppress(PortTaken):
            return start()
    raise LabError(f"no free ports were found for {whose}.\nStart again in a moment.")


def free_ports(number: int) -> list[int]:
    """Return ports that are free, as is the one beside each that a cluster's bus would have."""
    found: list[int] = []
    with ExitStack() as held:  # all are held until the last is found, so no two are the same
        while len(found) < number:
            probe, bus = (held.enter_context(socket.socket()) for _ in range(2))
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
            try:
                bus.bind(("127.0.0.1", port + BUS))
            except (OSError, OverflowError):  # taken, or above the highest port
                continue
            found.append(port)
    return found


def _wait_until_joined(ports: list[int], password: str) -> None:
    with ExitStack() as clients:
        nodes: list[Any] = [
            clients.enter_context(redis.Redis("127.0.0.1", port, password=password))
            for port in ports
        ]
        if not comes_true(lambda: all(map(_has_joined, nodes)), READY_TIMEOUT):
            raise LabError(
                f"the cluster's nodes did not find each other within {READY_TIMEOUT:g} s.\n"
                "Start again; if it stays so, the machine is too busy."
            )


def _has_joined(node: Any) -> bool:
    """Whether a node serves clients, and is connected to all others."""
    if node.execute_command("CLUSTER INFO")["cluster_state"] != "ok":
        return False
    known = node.execute_command("CLUSTER NODES").values()
    return [each["connected"] for each in known] == [True] * MASTERS
