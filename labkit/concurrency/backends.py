"""All caches that can be had here, in this process and in others.

`open_backends` opens them, and starts the servers that they need. A worker is another process that
opens the same ones. Run as a program, this is a worker.
"""

from __future__ import annotations

import itertools
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import orjson
import redis
from sqlalchemy import Engine, create_engine, text

from labkit.concurrency.kinds import (
    ALL,
    CACHETOOLS,
    DISKCACHE,
    FAKEREDIS,
    LRU_CACHE,
    MEMCACHED,
    REDIS_SOCKET,
    REDIS_TCP,
    Backend,
    Refused,
    open_backend,
)
from labkit.servers import Keeper, used_memory
from labkit.servers.memcached import MEGABYTES, MemcachedServer, find_memcached, start_memcached
from labkit.servers.processes import Worker, read_task, worker
from labkit.servers.two_doors import TwoDoors, has_doors, kill

if TYPE_CHECKING:  # a worker starts sooner without
    from labkit.lab import Lab

MODULE = "labkit.concurrency.backends"
ENTRIES = 10_000  # that a cache in a process holds; of a small one 100
SMALL_ENTRIES = 100
ROOM = 2**30  # bytes that a file may take; of a small one 1 MB
SMALL_ROOM = 2**20
NUMBERS = itertools.count(1)  # of what workers are asked: an interrupted cell leaves answers behind
SMALL_MEGABYTES = 2  # for Memcached, which takes no fewer


# The process that starts servers and workers.


class Backends(dict[str, Backend]):
    """All backends that there are here, by name.

    Attributes:
        absent: the names of the others.
    """

    def __init__(self, places: dict[str, dict[str, Any]], lab: Lab, servers: _Servers) -> None:
        super().__init__({kind: open_backend(kind, where) for kind, where in places.items()})
        self.absent = [kind for kind in ALL if kind not in places]
        self._places = places
        self._lab = lab
        self._servers = servers

    @contextmanager
    def worker(self) -> Iterator[Others]:
        """Start another process that opens the same backends. It ends with the `with` block."""
        task = {"places": self._places, "database": self._lab.database_url}
        with worker(MODULE, task) as process:
            yield Others(process, list(self))

    def restart(self, kind: str, save: bool = False) -> None:
        """Kill a backend's server, and start it again.

        Args:
            kind: the backend; its server may be another one's too.
            save: whether it is told to save before, which a Redis can.

        Raises:
            Refused: it has no server, or one that saves nothing.
        """
        self[kind].close()
        if kind == MEMCACHED and not save:
            self._servers.start_memcached()
        elif kind in (REDIS_SOCKET, REDIS_TCP):
            assert self._servers.redis is not None
            self._servers.redis.restart(save)
        else:
            raise Refused("it saves nothing" if kind == MEMCACHED else "it has no server")


class _Servers:
    """What the backends need beside this process: servers.

    Args:
        lab: its Redis says of which kind ours is; where that is fakeredis, we have none.
        keeper: owns them.
        is_small: whether they hold little.

    Attributes:
        redis: a Redis, or None.
        memcached: a Memcached, or None where it cannot be had.
    """

    def __init__(self, lab: Lab, keeper: Keeper, is_small: bool) -> None:
        self._keeper, self._megabytes = keeper, SMALL_MEGABYTES if is_small else MEGABYTES
        self.redis = TwoDoors(lab.server, keeper) if has_doors(lab.server) else None
        if self.redis and is_small:
            with redis.Redis.from_url(self.redis.tcp) as client:
                client.config_set("maxmemory", used_memory(client) + SMALL_ROOM)
        self.memcached: MemcachedServer | None = None
        if find_memcached(keeper):
            self.start_memcached()

    def start_memcached(self) -> None:
        """Start a Memcached, in place of the one before if there was one."""
        if self.memcached:
            kill(self.memcached.pid)
        self.memcached = start_memcached(self._keeper, self._megabytes)

    def places(self) -> dict[str, dict[str, Any]]:
        """Return what opens the backends that live in these servers."""
        found: dict[str, dict[str, Any]] = {}
        if self.redis and self.redis.socket:
            found[REDIS_SOCKET] = {"url": self.redis.socket}
        if self.redis:
            found[REDIS_TCP] = {"url": self.redis.tcp}
        if self.memcached:
            found[MEMCACHED] = {"path": str(self.memcached.socket)}
        return found


@contextmanager
def open_backends(lab: Lab, small: bool = False) -> Iterator[Backends]:
    """Open all backends that can be had here, empty. They end with the `with` block.

    Args:
        lab: whose users the workers know. Its own Redis is left alone: these are other servers.
        small: whether they hold little: some hundred entries of 10 kB.

    Raises:
        LabError: a server that is there does not come up.
    """
    keeper = Keeper()
    try:
        servers = _Servers(lab, keeper, small)
        entries, room = (SMALL_ENTRIES, SMALL_ROOM) if small else (ENTRIES, ROOM)
        places: dict[str, dict[str, Any]] = {
            LRU_CACHE: {"entries": entries},
            CACHETOOLS: {"entries": entries},
            FAKEREDIS: {"url": None},
            DISKCACHE: {"folder": str(keeper.directory / "diskcache"), "room": room},
        }
        places |= servers.places()
        opened = Backends(places, lab, servers)
        if small:
            fake: Any = opened[FAKEREDIS]
            fake.client.config_set("maxmemory", SMALL_ROOM)
        try:
            yield opened
        finally:
            for each in opened.values():
                each.close()
    finally:
        keeper.close()


class Other(Backend):
    """A backend that another process has opened. Each call is a line to it, and one back."""

    def __init__(self, process: Worker, kind: str, answers: dict[int, dict[str, Any]]) -> None:
        self._process, self._kind = process, kind
        self._answers = answers  # that came before those who had asked wanted them
        self._number = 0

    def begin(self, operation: str, *arguments: Any, times: int = 1) -> None:
        """Have it do something so many times, without waiting for the end.

        Args:
            operation: a method's name, such as "increment".
            arguments: what the method gets.
            times: how often.
        """
        self._number = next(NUMBERS)
        line = {"kind": self._kind, "do": operation, "with": arguments, "times": times}
        self._process.tell(orjson.dumps(line | {"number": self._number}).decode())

    def result(self) -> Any:
        """Wait for what was begun, and return what its last call gave.

        Raises:
            Refused: the cache does not do this, or does not take it.
        """
        while self._number not in self._answers:
            answer = orjson.loads(self._process.said())
            self._answers[answer["number"]] = answer
        answer = self._answers.pop(self._number)
        if "refused" in answer:
            raise Refused(answer["refused"])
        return answer["gave"]

    def _ask(self, operation: str, *arguments: Any) -> Any:
        self.begin(operation, *arguments)
        return self.result()

    def get(self, key: str) -> Any:
        """Return the value, or None."""
        return self._ask("get", key)

    def set(self, key: str, value: Any, ttl: float | None = None) -> None:
        """Store a value, as `Backend.set` says."""
        self._ask("set", key, value, ttl)

    def add(self, key: str, value: Any) -> bool:
        """Store a value if there is none; return whether it did."""
        return bool(self._ask("add", key, value))

    def increment(self, key: str) -> int:
        """Add one, and return the sum."""
        return int(self._ask("increment", key))

    def delete(self, key: str) -> None:
        """Remove the entry."""
        self._ask("delete", key)

    def user_name(self, user: int) -> str:
        """Return the name of a user, as its cache has it; where it has none, as the database has.

        Under the key `user:<id>` it keeps what it had to ask the database for.
        """
        return str(self._ask("user_name", user))


class Others(dict[str, Other]):
    """The backends of another process, by name.

    Attributes:
        pid: its process id.
    """

    def __init__(self, process: Worker, kinds: list[str]) -> None:
        self.pid = process.pid
        answers: dict[int, dict[str, Any]] = {}
        super().__init__({kind: Other(process, kind, answers) for kind in kinds})


# Below: for the worker.


def _user_name(cache: Backend, engine: Engine, user: int) -> str:
    if (name := cache.get(f"user:{user}")) is None:
        with engine.connect() as connection:
            query = text("SELECT name FROM users WHERE id = :id")
            name = connection.execute(query, {"id": user}).scalar_one()
        cache.set(f"user:{user}", name)
    return str(name)


def main() -> None:
    """Be a worker: open backends, and do with them what each line says."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who interrupts a cell goes on with the next
    task = read_task()
    caches = {kind: open_backend(kind, where) for kind, where in task["places"].items()}
    engine = create_engine(task["database"])
    for line in sys.stdin:
        asked = orjson.loads(line)
        cache = caches[asked["kind"]]
        does: dict[str, Callable[..., Any]] = {"user_name": partial(_user_name, cache, engine)}
        method = does.get(asked["do"]) or getattr(cache, asked["do"])
        try:
            for _ in range(asked["times"]):
                gave = method(*asked["with"])
            answer: dict[str, Any] = {"gave": gave}
        except Refused as refused:
            answer = {"refused": str(refused)}
        print(orjson.dumps(answer | {"number": asked["number"]}).decode(), flush=True)


if __name__ == "__main__":
    main()
