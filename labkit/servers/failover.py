"""Servers that are made to fail: one Redis, a group that Sentinels watch, a Cluster with a replica.

All of them listen on loopback ports and ask for a random password. Each group gives what a client
needs to find it (`told`), as JSON takes it; `labkit.concurrency.clients.client_of` makes the client
of that.

    keeper = Keeper()
    group = start_sentinels(program, keeper)
    group.master.kill()
    group.wait_for_successor()
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.retry import Retry

from labkit.errors import LabError
from labkit.servers.cluster import (
    MASTERS,
    free_ports,
    maps_of_slots,
    on_free_ports,
    run_on_port,
)
from labkit.servers.keeper import Keeper
from labkit.servers.processes import comes_true
from labkit.servers.redis import RedisServer, program_like

REPLICAS, SENTINELS = 2, 3  # of a group that Sentinels watch
SERVICE = "shop"  # what the Sentinels call the master, whichever server it is
DOWN_AFTER_MS = 400  # without an answer for so long, a Sentinel holds the master to be down
# Most Sentinels have to hold it. The others wait longer: if all stood for election at once, each
# could vote for itself, and there would be another election after twice the failover's time-out.
PATIENT_MS = 10_000
FAILOVER_MS = 2_000  # a failover that takes longer is given up, and begun anew
NODE_TIMEOUT_MS = 800  # as DOWN_AFTER_MS, of a Cluster's nodes
NEVER_MS = 3_600_000  # nothing here stands still for so long
READY = 20.0  # seconds that a group gets to come up, or to have a new master
ASK = 10.0  # seconds that one answer gets: a snapshot waits for the disk
# How often a Sentinel looks, in milliseconds. A replica is good enough while its INFO is no older
# than five pings; once the master is down, INFO comes once a second: so no pings of 100 ms.
HASTENED = {"INFO-PERIOD": 100, "PING-PERIOD": 300, "ASK-PERIOD": 100, "PUBLISH-PERIOD": 100}
HOST = "127.0.0.1"
NOT_MEASURED = "not measured: there is no Redis program here that can be made to fail."
REPLICATES = ["repl-diskless-sync-delay 0", "repl-ping-replica-period 1"]
SERVERS = "the servers"  # for whom ports were looked for


def can_fail(server: RedisServer) -> bool:
    """Whether there is a program here that can be made to fail.

    Args:
        server: as of `failing_program`.
    """
    try:
        failing_program(server)
    except LabError:
        return False
    return True


def failing_program(server: RedisServer) -> Path:
    """Return the program that servers of this kind are made of.

    Args:
        server: the lab's server. Where that is fakeredis, Docker or a URL: what "auto" finds.

    Raises:
        LabError: there is no Redis or Valkey program here.
    """
    return program_like(server, "faults need")


@dataclass
class Node:
    """A server on a loopback port that can be killed, frozen, and started again.

    Attributes:
        port: where it listens.
        pid: its process id, another one after each start.
    """

    port: int
    _program: Path
    _directory: Path
    _password: str = field(repr=False)
    _settings: list[str] = field(repr=False)
    _keeper: Keeper = field(repr=False)
    _options: tuple[str, ...] = ()
    pid: int = 0
    _starts: int = 0

    @property
    def url(self) -> str:
        """Where it is, its password with it."""
        return f"redis://:{self._password}@{HOST}:{self.port}/0"

    def start(self, snapshot: bytes = b"") -> None:
        """Start it, empty or with a snapshot; return once it answers.

        Args:
            snapshot: what `saved` has returned.

        Raises:
            LabError: it does not start; `PortTaken` if somebody has its port.
        """
        self._starts += 1
        directory = self._directory / f"start-{self._starts}"
        settings = [*self._settings]
        if snapshot:
            file = self._directory / f"snapshot-{self._starts}.rdb"
            file.touch(mode=0o600)
            file.write_bytes(snapshot)
            settings += [f'dir "{self._directory}"', f"dbfilename {file.name}"]
        self.pid = run_on_port(
            self._program, directory, self.port, settings, self._password, self._keeper,
            self._options,
        )  # fmt: skip

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        return HOST, self.port

    def client(self, **options: Any) -> redis.Redis:
        """Return a client of this node alone, which tries nothing twice."""
        waits = {"socket_timeout": ASK, "socket_connect_timeout": ASK}
        given: dict[str, Any] = {"retry": Retry(NoBackoff(), 0), **waits, **options}
        return redis.Redis(HOST, self.port, password=self._password, **given)

    def ask(self, *command: Any) -> Any:
        """Return the answer to a command, None where there is none."""
        with contextlib.suppress(redis.RedisError), self.client(decode_responses=True) as client:
            return client.execute_command(*command)
        return None

    def about(self, section: str) -> dict[str, Any]:
        """Return a section of its INFO; empty where it does not answer."""
        with contextlib.suppress(redis.RedisError), self.client() as client:
            found: dict[str, Any] = client.info(section)
            return found
        return {}

    @property
    def is_master(self) -> bool:
        """Whether it says so."""
        return self.about("replication").get("role") == "master"

    @property
    def is_linked(self) -> bool:
        """Whether it is a replica that has caught up with its master."""
        about = self.about("replication")
        return about.get("role") == "slave" and about.get("master_link_status") == "up"

    def saved(self) -> bytes:
        """Have it take a snapshot, and return that.

        Raises:
            LabError: it does not.
        """
        if not self.ask("SAVE"):
            raise LabError("the server has not saved its snapshot.")
        settings = self.ask("CONFIG", "GET", "dir", "dbfilename")
        return Path(settings["dir"], settings["dbfilename"]).read_bytes()

    def kill(self) -> None:
        """Kill it (SIGKILL), and return once nobody listens on its port."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        wait_until(lambda: not self._listens(), "a server that was killed has not ended")

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex((HOST, self.port)) == 0

    def freeze(self) -> None:
        """Stop it (SIGSTOP): connections are taken, and nothing is answered."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on (SIGCONT)."""
        os.kill(self.pid, signal.SIGCONT)


@dataclass(frozen=True)
class Alone:
    """One Redis without a replica.

    Attributes:
        node: the server.
    """

    node: Node

    @property
    def told(self) -> Any:
        """What a client of it needs to know: its URL."""
        return self.node.url


@dataclass(frozen=True)
class Watched:
    """A master and its replicas, which Sentinels watch.

    Attributes:
        master: who is the master at first.
        replicas: the others.
        sentinels: of whom most have to agree.
    """

    master: Node
    replicas: tuple[Node, ...]
    sentinels: tuple[Node, ...]

    @property
    def told(self) -> Any:
        """What a client needs to know: where the Sentinels are, the service, the password."""
        addresses = [[HOST, each.port] for each in self.sentinels]
        return {"sentinels": addresses, "service": SERVICE, "password": self.master._password}

    def replace_the_dead(self) -> None:
        """Have the Sentinels promote a replica soon if the master does not answer.

        Raises:
            LabError: they do not say that they will.
        """
        told = ("SENTINEL", "SET", SERVICE, "down-after-milliseconds", DOWN_AFTER_MS)
        _tell(self.sentinels[: _quorum(len(self.sentinels))], *told)

    def wait_for_successor(self) -> Node:
        """Return the replica that the Sentinels have promoted, once they send clients there.

        Raises:
            LabError: there is none in time.
        """
        found: list[Node] = []

        def has_one() -> bool:
            told = [
                each.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE) for each in self.sentinels
            ]
            ports = {int(address[1]) for address in told if address}
            found[:] = [each for each in self.replicas if ports == {each.port} and each.is_master]
            return bool(found)

        wait_until(has_one, "the Sentinels have promoted nobody")
        return found[0]


@dataclass(frozen=True)
class Clustered:
    """A Cluster of three masters, of which the first has a replica, and all keys of one hash tag.

    Attributes:
        master: who has the keys of the hash tag.
        replica: the one that will take over.
        others: the other two masters, who vote.
    """

    master: Node
    replica: Node
    others: tuple[Node, ...]

    @property
    def told(self) -> Any:
        """What a client needs to know: where nodes are, and the password."""
        nodes = (self.master, *self.others)
        return {"cluster": [[HOST, each.port] for each in nodes], "password": self.master._password}

    def replace_the_dead(self) -> None:
        """Have the replica take over soon if its master does not answer.

        Raises:
            LabError: the nodes do not say that they will.
        """
        nodes = (self.master, self.replica, *self.others)
        _tell(nodes, "CONFIG", "SET", "cluster-node-timeout", NODE_TIMEOUT_MS)

    def wait_for_successor(self) -> Node:
        """Return the replica, once it is a master that serves, and the others say so.

        Raises:
            LabError: it is none in time.
        """
        nodes = (self.replica, *self.others)
        wait_until(
            lambda: self.replica.is_master and all(map(_serves, nodes)),
            "the Cluster's replica has not taken over",
        )
        return self.replica


def _tell(nodes: Sequence[Node], *command: Any) -> None:
    for each in nodes:
        wait_until(lambda: each.ask(*command) in (True, "OK"), "a server takes no setting")  # noqa: B023


def _quorum(sentinels: int) -> int:
    return sentinels // 2 + 1


def start_alone(program: Path, keeper: Keeper) -> Alone:
    """Start one Redis.

    Raises:
        LabError: it does not come up.
    """
    return on_free_ports(lambda: Alone(_started(_Maker(program, keeper), "alone")), SERVERS)


def start_replicated(program: Path, keeper: Keeper, replicas: int) -> tuple[Node, ...]:
    """Start a master and its replicas, and return them once they are linked.

    Raises:
        LabError: they do not come up.
    """

    def start() -> tuple[Node, ...]:
        maker = _Maker(program, keeper)
        settings = [f"masterauth {maker.password}", *REPLICATES]
        master = _started(maker, "master", *settings)
        follows = f"replicaof {HOST} {master.port}"
        names = [f"replica-{number}" for number in range(replicas)]
        return master, *(_started(maker, name, *settings, follows) for name in names)

    nodes = on_free_ports(start, SERVERS)
    wait_until(lambda: all(each.is_linked for each in nodes[1:]), "a replica was not linked")
    return nodes


def start_sentinels(
    program: Path,
    keeper: Keeper,
    replicas: int = REPLICAS,
    sentinels: int = SENTINELS,
    down_after_ms: int = DOWN_AFTER_MS,
) -> Watched:
    """Start a master, its replicas and their Sentinels; return once all know each other.

    Args:
        program: redis-server or valkey-server.
        keeper: owns the processes.
        replicas: how many.
        sentinels: how many.
        down_after_ms: of most of the Sentinels, as `DOWN_AFTER_MS`.

    Raises:
        LabError: they do not come up.
    """
    master, *others = start_replicated(program, keeper, replicas)
    quorum = _quorum(sentinels)

    def start() -> tuple[Node, ...]:
        maker = _Maker(program, keeper, master._password)
        return tuple(watch(maker, number) for number in range(sentinels))

    def watch(maker: _Maker, number: int) -> Node:
        patience = down_after_ms if number < quorum else PATIENT_MS
        settings = [
            f"sentinel monitor {SERVICE} {HOST} {master.port} {quorum}",
            f"sentinel auth-pass {SERVICE} {master._password}",
            f"sentinel sentinel-pass {master._password}",
            f"sentinel down-after-milliseconds {SERVICE} {patience}",
            f"sentinel failover-timeout {SERVICE} {FAILOVER_MS}",
        ]
        return _started(maker, f"sentinel-{number}", *settings, options=("--sentinel",))

    group = Watched(master, tuple(others), on_free_ports(start, SERVERS))
    for each in group.sentinels:  # from Redis 7 on they can be told to look more often
        each.ask("SENTINEL", "DEBUG", *(word for pair in HASTENED.items() for word in pair))
    wait_until(lambda: all(_knows(each, group) for each in group.sentinels), "a Sentinel is alone")
    return group


def _knows(sentinel: Node, group: Watched) -> bool:
    told: Any = sentinel.ask("SENTINEL", "MASTER", SERVICE) or {}
    names = ("num-slaves", "num-other-sentinels")
    return [int(told.get(name, 0)) for name in names] == [
        len(group.replicas),
        len(group.sentinels) - 1,
    ] and _links(sentinel) == ["ok"] * len(group.replicas)


def _links(sentinel: Node) -> list[str]:
    with contextlib.suppress(redis.RedisError), sentinel.client() as client:
        asked: Any = client
        return [each.get("master-link-status", "") for each in asked.sentinel_slaves(SERVICE)]
    return []


def start_clustered(
    program: Path, keeper: Keeper, hash_tag: str, node_timeout_ms: int = NODE_TIMEOUT_MS
) -> Clustered:
    """Start a Cluster of three masters, with a replica of the one that has a hash tag.

    Args:
        program: redis-server or valkey-server.
        keeper: owns the processes.
        hash_tag: such as "{shop}".
        node_timeout_ms: as `NODE_TIMEOUT_MS`.

    Raises:
        LabError: it does not come up.
    """

    def start() -> list[Node]:
        maker, ports = _Maker(program, keeper), free_ports(MASTERS + 1)
        maker.directory.mkdir(mode=0o700)
        files = maps_of_slots(ports, key_slot(hash_tag.encode()))
        nodes = []
        for number, (port, lines) in enumerate(zip(ports, files, strict=True)):
            file = maker.directory / f"nodes-{number}.conf"
            file.write_text(lines)
            settings = [f"masterauth {maker.password}", *REPLICATES, "cluster-enabled yes"]
            settings += [f'cluster-config-file "{file}"', "cluster-replica-validity-factor 0"]
            settings += [f"cluster-node-timeout {node_timeout_ms}"]
            nodes.append(_started(maker, f"node-{number}", *settings, port=port))
        return nodes

    master, *others, replica = nodes = on_free_ports(start, SERVERS)
    wait_until(lambda: replica.is_linked, "the Cluster's replica was not linked")
    wait_until(lambda: all(map(_serves, nodes)), "the Cluster's nodes have not met")
    return Clustered(master, replica, tuple(others))


def _serves(node: Node) -> bool:
    return "cluster_state:ok" in str(node.ask("CLUSTER", "INFO"))


class Following(redis.Connection):
    """A connection to whoever is the master: the address is asked for at each connect."""

    def __init__(self, *, where: Callable[[], int], **settings: Any) -> None:
        self._where = where
        untyped: Any = super()
        untyped.__init__(**settings)

    def _connect(self) -> Any:
        self.host, self.port = HOST, self._where()
        untyped: Any = super()
        return untyped._connect()


class Replicated:
    """A master, its replicas, and one address that leads to the master: nobody watches them.

    What a Sentinel does by itself is done by hand here (`fail_over`), so that it happens at one
    moment, and to the replica that was chosen.

    Attributes:
        master: who is the master now.
        replicas: the others.
    """

    def __init__(self, master: Node, replicas: tuple[Node, ...], nowhere: int) -> None:
        self.master, self.replicas = master, replicas
        self._nowhere = nowhere
        self._pools: list[redis.ConnectionPool] = []

    def client(self, **options: Any) -> redis.Redis:
        """Return a client that asks for the master's address each time that it connects."""
        pool = redis.ConnectionPool(
            connection_class=Following, where=lambda: self.master.port,
            password=self.master._password, **options,
        )  # fmt: skip
        self._pools.append(pool)
        return redis.Redis(connection_pool=pool)

    def cut(self, replica: Node) -> None:
        """End a replica's link: it keeps what it has, and gets nothing of what is written next."""
        replica.ask("REPLICAOF", HOST, self._nowhere)

    def link(self, replica: Node) -> None:
        """Have a replica follow the master that is the master now.

        Raises:
            LabError: it is not linked.
        """
        replica.ask("REPLICAOF", *self.master.address)
        wait_until(lambda: replica.is_linked, "the replica was not linked")

    def demote(self, old: Node) -> None:
        """Do what a Sentinel does with a master that comes back: it is a replica from now on."""
        old.ask("REPLICAOF", *self.master.address)
        old.ask("CLIENT", "KILL", "TYPE", "normal")

    def fail_over(self, to: Node, kill: bool = True) -> None:
        """Kill the master, promote a replica, and have the address lead there.

        The connections of the clients that were given end with the master.

        Args:
            to: the replica.
            kill: False where the master lives on, and does not know that it is none any more.

        Raises:
            LabError: the replica is not promoted.
        """
        if kill:
            self.master.kill()
            for pool in self._pools:  # else they would notice at their next command, and wait
                pool.disconnect()
        to.ask("REPLICAOF", "NO", "ONE")
        wait_until(lambda: to.is_master, "the replica was not promoted")
        self.replicas = tuple(each for each in self.replicas if each is not to)
        self.master = to


@contextmanager
def replicated(server: RedisServer, replicas: int = 2) -> Iterator[Replicated]:
    """Give a master and its replicas, empty and linked. They end with the `with` block.

    Args:
        server: as of `failing_program`.
        replicas: how many.

    Raises:
        LabError: there is no Redis program here, or they do not come up.
    """
    program, keeper = failing_program(server), Keeper()
    try:
        with socket.socket() as nowhere:  # its port is held, and nobody listens there
            nowhere.bind((HOST, 0))
            master, *others = start_replicated(program, keeper, replicas)
            yield Replicated(master, tuple(others), nowhere.getsockname()[1])
    finally:
        keeper.close()


@contextmanager
def alone(server: RedisServer) -> Iterator[Node]:
    """Give one Redis, empty. It ends with the `with` block.

    Args:
        server: as of `failing_program`.

    Raises:
        LabError: there is no Redis program here, or it does not come up.
    """
    program, keeper = failing_program(server), Keeper()
    try:
        yield start_alone(program, keeper).node
    finally:
        keeper.close()


class _Maker:
    """What the nodes of one group have in common."""

    def __init__(self, program: Path, keeper: Keeper, password: str = "") -> None:
        self.program, self.keeper = program, keeper
        self.password = password or secrets.token_urlsafe(24)
        self.directory = keeper.directory / f"group-{secrets.token_hex(4)}"


def _started(
    maker: _Maker, name: str, *settings: str, port: int = 0, options: tuple[str, ...] = ()
) -> Node:
    maker.directory.mkdir(mode=0o700, exist_ok=True)
    directory = maker.directory / name
    directory.mkdir(mode=0o700)
    node = Node(
        port or free_ports(1)[0], maker.program, directory, maker.password, [*settings],
        maker.keeper, options,
    )  # fmt: skip
    node.start()
    return node


def wait_until(holds: Callable[[], bool], otherwise: str, seconds: float = READY) -> None:
    """Look until something holds.

    Args:
        holds: whether it does.
        otherwise: what to say if it does not, such as "nobody was promoted".
        seconds: how long to look.

    Raises:
        LabError: it has not held in time.
    """
    if not comes_true(holds, seconds):
        raise LabError(f"{otherwise} within {seconds:g} s.\nStart again: the machine is busy.")
