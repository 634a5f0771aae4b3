"""An address of Redis that is wrong, and what a person sees: the error, the site, the log.

Inside a container `localhost` is the container. `from_a_container` tries addresses from a process
that has a network namespace of its own, as a container has: nobody listens on its loopback, and no
name is known. Where a user may make none, a port where nobody listens stands in.
(https://man7.org/linux/man-pages/man7/network_namespaces.7.html)
"""

from __future__ import annotations

import json
import logging
import shutil
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from labkit.cache import QueryCache
from labkit.servers.processes import end_with_input, read_task, worker

NAMESPACE, STAND_IN = "a network namespace", "a port where nobody listens"
UNSHARE = ("unshare", "--user", "--map-root-user", "--net")
LIMIT = 60.0  # seconds that a name server which does not answer may take
WAIT = 2.0  # seconds for one connection
ANSWER = 42  # what the database has
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1  # of Linux


@dataclass(frozen=True)
class Tried:
    """What came of an address.

    Attributes:
        error: what a client of redis-py raises; empty if Redis answers.
        answers: what a function gave, three times, that `QueryCache` caches at this address.
        hits: how many of these were hits.
        log: what `QueryCache` has logged.
    """

    error: str
    answers: list[int]
    hits: int
    log: list[str]

    @property
    def site_works(self) -> bool:
        """Whether each answer was the database's."""
        return self.answers == [ANSWER] * 3


@contextmanager
def logged() -> Iterator[list[str]]:
    """Collect what `QueryCache` logs, in place of showing it."""
    lines: list[str] = []

    class Collecting(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    log, handler = logging.getLogger("labkit.cache"), Collecting()
    propagate = log.propagate
    log.addHandler(handler)
    log.propagate = False
    try:
        yield lines
    finally:
        log.removeHandler(handler)
        log.propagate = propagate


def try_address(url: str) -> Tried:
    """Ask the Redis at an address, by redis-py and through `QueryCache`."""
    error = ""
    waits: dict[str, Any] = {"socket_timeout": WAIT, "socket_connect_timeout": WAIT}
    with closing(redis.Redis.from_url(url, retry=Retry(NoBackoff(), 0), **waits)) as client:
        try:
            client.get("any")
        except redis.RedisError as raised:
            error = f"{type(raised).__name__}: {raised}"
        with logged() as log, closing(QueryCache(client, timeout_ms=2_000)) as cache:

            @cache.query(ttl=60, tags=("any",), by_table=False, name="answer")
            def answer() -> int:
                return ANSWER

            answers = [answer() for _ in range(3)]
            return Tried(error, answers, cache.stats.hits, log)


@dataclass(frozen=True)
class FromAContainer:
    """What came of addresses that were tried from where nothing else is.

    Attributes:
        place: what stood in for the container.
        localhost: of `redis://localhost:6379`.
        name: of a host name that nobody knows there.
    """

    place: str
    localhost: Tried
    name: Tried


def from_a_container() -> FromAContainer:
    """Try `localhost` and the name `redis` from where a container without a Redis would.

    Raises:
        LabError: the process that tries them ended.
    """
    if _may_unshare():
        urls = ["redis://localhost:6379/0", "redis://redis:6379/0"]
        return FromAContainer(NAMESPACE, *_tried_elsewhere(urls, UNSHARE))
    with socket.socket() as held:  # its port is held, and nobody listens there
        held.bind(("127.0.0.1", 0))
        urls = [f"redis://localhost:{held.getsockname()[1]}/0", "redis://redis.invalid:6379/0"]
        return FromAContainer(STAND_IN, *_tried_elsewhere(urls))


def _may_unshare() -> bool:
    if sys.platform != "linux" or shutil.which(UNSHARE[0]) is None:
        return False
    return subprocess.run([*UNSHARE, "true"], capture_output=True).returncode == 0


def _tried_elsewhere(urls: list[str], within: tuple[str, ...] = ()) -> list[Tried]:
    task = {"urls": urls, "own": bool(within)}
    with worker(__name__, task, within=within) as process:
        return [Tried(**each) for each in json.loads(process.said(LIMIT))]


# Below: what runs in the process.


def _raise_loopback() -> None:
    """Have the loopback of a new network namespace, which is down, go up."""
    from fcntl import ioctl  # not on Windows, where this is not called

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        name, empty = b"lo", b"\0" * 14
        told = ioctl(any_socket, SIOCGIFFLAGS, struct.pack("16sh14s", name, 0, empty))
        [flags] = struct.unpack_from("16xh", told)
        ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh14s", name, flags | IFF_UP, empty))


def main() -> None:
    """Try what is asked for, and print what came of it."""
    task = read_task()
    end_with_input()
    if task["own"]:
        _raise_loopback()
    print(json.dumps([vars(try_address(url)) for url in task["urls"]]), flush=True)


if __name__ == "__main__":
    main()
