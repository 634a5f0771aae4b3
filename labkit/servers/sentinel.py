"""A Redis, its replica, and a Sentinel that promotes the replica, in processes of their own.

A Sentinel tells clients where the master is by host and port, so all three listen on loopback ports
and ask for a random password. (https://redis.io/docs/latest/operate/oss_and_stack/management/sentinel/)
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis
from redis.sentinel import Sentinel

from labkit.errors import LabError
from labkit.servers.cluster import on_free_ports, run_on_port
from labkit.servers.keeper import Keeper
from labkit.servers.redis import RedisServer, free_port, program_like

SERVICE = "shop"  # what the Sentinel calls the master, whichever server it is
DOWN_AFTER_MS = 300  # without an answer for so long, the master is held to be down
READY_TIMEOUT = 10.0  # seconds


@dataclass(frozen=True)
class Watched:
    """What a Sentinel watches.

    Attributes:
        sentinel: asks it; `sentinel.master_for(SERVICE)` is a client of whoever is the master.
        master: a client of the server that is the master at first.
        replica: a client of the other one.
        watcher: a client of the Sentinel itself.
    """

    sentinel: Sentinel
    master: redis.Redis
    replica: redis.Redis
    watcher: redis.Redis


@contextmanager
def spare_sentinel(server: RedisServer) -> Iterator[Watched]:
    """Give an empty master, its replica, and their Sentinel. They end with the `with` block.

    Args:
        server: the lab's server. These are of the same kind; where that is fakeredis, Docker or a
            URL, of the kind that "auto" finds.

    Raises:
        LabError: there is no Redis or Valkey program here, or they do not come up.
    """
    program, password = program_like(server, "a Sentinel needs"), secrets.token_urlsafe(24)
    keeper, ports = on_free_ports(lambda: _start(program, password), "a Sentinel")
    try:
        with ExitStack() as clients:
            each = [
                clients.enter_context(redis.Redis("127.0.0.1", port, password=password))
                for port in ports
            ]
            make: Any = Sentinel
            sentinel = make(
                [("127.0.0.1", ports[2])], sentinel_kwargs={"password": password}, password=password
            )
            clients.enter_context(sentinel)
            watched = Watched(sentinel, *each)
            _hasten(watched.watcher)
            _wait_until_watched(watched)
            yield watched
    finally:
        keeper.close()


def _start(program: Path, password: str) -> tuple[Keeper, list[int]]:
    """Start all three; return what owns them, and their ports."""
    keeper, ports = Keeper(), [free_port() for _ in range(3)]
    pair = [f"masterauth {password}", "repl-diskless-sync-delay 0"]
    roles = (
        pair,
        [*pair, f"replicaof 127.0.0.1 {ports[0]}"],
        [
            f"sentinel monitor {SERVICE} 127.0.0.1 {ports[0]} 1",
            f"sentinel auth-pass {SERVICE} {password}",
            f"sentinel down-after-milliseconds {SERVICE} {DOWN_AFTER_MS}",
        ],
    )
    try:
        for number, (port, settings) in enumerate(zip(ports, roles, strict=True)):
            options = ["--sentinel"] if number == 2 else []
            directory = keeper.directory / f"node-{number}"
            run_on_port(program, directory, port, settings, password, keeper, options)
    except BaseException:
        keeper.close()
        raise
    return keeper, ports


def _hasten(watcher: Any) -> None:
    """Have a Sentinel look more often than once a second or ten, if it can (from Redis 7 on).

    A replica may be promoted while its INFO is no older than five pings. Once the master is down,
    INFO comes once a second: pings of 100 ms would let a failover be given up now and then.
    """
    watcher.execute_command(
        "SENTINEL", "DEBUG", "INFO-PERIOD", "100", "PING-PERIOD", "300", "PUBLISH-PERIOD", "100"
    )


def _wait_until_watched(watched: Watched) -> None:
    deadline = time.monotonic() + READY_TIMEOUT
    while not _is_watched(watched):
        if time.monotonic() > deadline:
            raise LabError(
                f"the Sentinel has not found the replica within {READY_TIMEOUT:g} s.\n"
                "Start again; if it stays so, the machine is too busy."
            )
        time.sleep(0.01)


def _is_watched(watched: Watched) -> bool:
    """Whether the Sentinel knows the replica, and that it is linked to its master."""
    watcher: Any = watched.watcher
    known = watcher.sentinel_slaves(SERVICE)
    return [each.get("master-link-status") for each in known] == ["ok"]
