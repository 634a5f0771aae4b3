"""Copies of a cache's entries in several processes (L1), and how long another one's may be old.

Each process has a `QueryCache` with L1, over one Redis and one database. A `Reader` is such a
process: it says what it answers, and where it has it from.

    with alone(lab.server) as node, reader(lab, node) as other:
        other.warm()
        print(other.ask())
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import statistics
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import redis
from sqlalchemy import case, create_engine, func, select, update

from labkit.cache import QueryCache
from labkit.errors import LabError
from labkit.lab import Lab
from labkit.servers.failover import Node, wait_until
from labkit.servers.processes import Worker, end_with_input, read_task, worker
from labkit.servers.proxy import Proxy
from labkit.shop.models import User

NAMESPACE = "shop"
TTL = 3_600  # seconds: nothing here ends because of it
REGION, USER = "EU", 42
# A proof counts, and an answer of Redis is waited for, as long as a busy machine may take.
PATIENT: dict[str, Any] = {"l1_entries": 1_000, "l1_stale_ms": 600_000, "timeout_ms": 10_000}
L1, REDIS, DATABASE = "L1", "Redis", "the database"  # where an answer is from
STALE_MS = 100  # milliseconds: l1_stale_ms, if nobody sets it
PATIENCE = 20.0  # seconds that a message may take to arrive
REMEMBERED = 10_000  # answers whose time is remembered


class Answer(NamedTuple):
    """What was answered, and where it was from."""

    value: int
    source: str


def ask_from(cache: QueryCache, ask: Callable[..., Any], *arguments: Any) -> Answer:
    """Ask; return the answer, and where it was from."""
    near, hits = cache.stats.l1_hits, cache.stats.hits
    value = ask(*arguments)
    source = DATABASE if cache.stats.hits == hits else REDIS
    return Answer(value, L1 if cache.stats.l1_hits > near else source)


def warm(cache: QueryCache, ask: Callable[..., Any], *arguments: Any) -> None:
    """Ask until L1 has it, and nothing that Redis has said so far is under way any more.

    Raises:
        LabError: L1 keeps nothing.
    """

    def is_near() -> bool:
        return ask_from(cache, ask, *arguments).source == L1

    wait_until(is_near, "L1 keeps nothing")
    _hear(cache)  # of its own fill, which may have come after the first look
    wait_until(is_near, "L1 keeps nothing")


def _hear(cache: QueryCache) -> None:
    """Wait until all that Redis has said so far has arrived at a cache's L1, or it begins anew."""
    # A key of those that are watched, and of no other cache: it is the last to be named, and on
    # one connection all is in order.
    l1, name = cache._l1, f"{cache.namespace}:v:heard:{os.getpid()}:{id(cache)}"
    assert l1 is not None
    before, lost = l1._named.get(name), cache.stats.l1_lost.total()
    cache._opened().given.set(name, "", px=60_000)  # the cache's own client may not wait for long
    wait_until(
        lambda: l1._named.get(name, before) != before or cache.stats.l1_lost.total() > lost,
        "Redis' messages do not arrive",
    )


@dataclass(frozen=True)
class Windows:
    """How long another process went on with an old answer, after the write was acknowledged.

    Attributes:
        ms: of each write, in milliseconds; 0 where no old answer came after it.
        answers: how many old answers came after their write, of all.
    """

    ms: list[float]
    answers: int

    @property
    def median(self) -> float:
        """In milliseconds."""
        return statistics.median(self.ms)

    def __str__(self) -> str:
        late = sum(each > 0 for each in self.ms)
        if not late:
            return f"after none of {len(self.ms)} writes an old answer came"
        return (
            f"after {late} of {len(self.ms)} writes an old answer came, {self.answers} in all\n"
            f"the last one {self.median:.2f} ms after its write in the median, "
            f"{max(self.ms):.2f} ms at most"
        )


class Reader:
    """Another process with an L1, seen from this one."""

    def __init__(self, process: Worker) -> None:
        self._process = process

    def warm(self) -> None:
        """As `warm`, in that process."""
        self._process.ask("warm")

    def ask(self) -> Answer:
        """Ask it once."""
        return Answer(*json.loads(self._process.ask("ask")))

    def hear(self) -> None:
        """Wait until all that Redis has said so far has arrived there."""
        self._process.ask("hear")

    def write(self) -> None:
        """Have it change the answer, commit and invalidate; return once that is acknowledged."""
        self._process.ask("write")

    def windows(self, write: Callable[[], object], rounds: int = 50) -> Windows:
        """Have it ask without a pause while something is written, and return how long it was old.

        Args:
            write: changes its answer; when it returns, the write is acknowledged.
            rounds: how many writes.
        """
        windows, answers = [], 0
        for _ in range(rounds):
            self.warm()
            self._process.ask("watch")
            write()
            acknowledged = time.monotonic()  # one clock for all processes of a machine
            late = [each - acknowledged for each in json.loads(self._process.said())]
            answers += sum(each > 0 for each in late)
            windows.append(max(0.0, *late) * 1000)
        return Windows(windows, answers)


@contextmanager
def reader(lab: Lab, node: Node) -> Iterator[Reader]:
    """Start another process with an L1. It ends with the `with` block.

    Args:
        lab: its database is read.
        node: its Redis.
    """
    with worker(__name__, {"redis": node.url, "database": lab.database_url}) as process:
        yield Reader(process)


def drop_messages(node: Node, cache: QueryCache) -> None:
    """End the connections over which Redis tells processes what changes, until a cache knows.

    Raises:
        LabError: it does not notice.
    """
    lost = cache.stats.l1_lost.total()
    with node.client() as client:
        for each in client.client_list():
            if "B" in each["flags"]:  # who is told of prefixes
                client.client_kill_filter(_id=each["id"])
    wait_until(lambda: cache.stats.l1_lost.total() > lost, "a lost connection was not noticed")


class FromL1(NamedTuple):
    """What L1 answered until it answered no more.

    Attributes:
        answers: how many there were.
        last_ms: when the last of them was asked for, in milliseconds after the first; 0 for none.
        values: what they were.
        then: the first answer that was not L1's.
    """

    answers: int
    last_ms: float
    values: set[int]
    then: Answer


def ask_until_far(cache: QueryCache, ask: Callable[..., Any], *arguments: Any) -> FromL1:
    """Ask without a pause until an answer is not from L1."""
    begun = time.monotonic()
    count, last, values = 0, begun, set[int]()
    while True:
        asked = time.monotonic()
        answer = ask_from(cache, ask, *arguments)
        if answer.source != L1:
            return FromL1(count, (last - begun) * 1000, values, answer)
        count, last = count + 1, asked
        values.add(answer.value)


@contextmanager
def wire(node: Node) -> Iterator[Proxy]:
    """Give a way to a Redis on which its answers and messages can be held up.

    It ends with the `with` block.
    """
    with contextlib.closing(Proxy(node.url)) as proxy:
        yield proxy


# Below: what runs in a reader.


def main() -> None:
    """Answer line by line."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupted cell does not end it
    task = read_task()
    engine = create_engine(task["database"])
    client = redis.Redis.from_url(task["redis"])
    cache = QueryCache(client, namespace=NAMESPACE, **PATIENT)

    @cache.query(ttl=TTL, tags=("users",), name="customers")
    def customers(region: str) -> int:
        with engine.connect() as connection:
            counted = select(func.count(User.id)).where(User.region == region)
            return int(connection.execute(counted).scalar_one())

    def watch() -> list[float]:
        old, times = customers(REGION), deque[float](maxlen=REMEMBERED)
        print("watching", flush=True)
        deadline = time.monotonic() + PATIENCE
        while customers(REGION) == old:
            if time.monotonic() > deadline:
                raise LabError(f"the answer has not changed within {PATIENCE:g} s")
            times.append(time.monotonic())
            time.sleep(0)  # as a worker does that waits for its sockets
        return list(times) or [0.0]

    commands = end_with_input()
    while True:
        command = commands.get()
        said: Any = command
        try:
            if command == "warm":
                warm(cache, customers, REGION)
            elif command == "hear":
                _hear(cache)
            elif command == "ask":
                said = ask_from(cache, customers, REGION)
            elif command == "write":
                with engine.begin() as connection:
                    there = case((User.region == REGION, "US"), else_=REGION)
                    connection.execute(update(User).where(User.id == USER).values(region=there))
                cache.invalidate("users")
            elif command == "watch":
                said = watch()
        except LabError as error:
            sys.exit(str(error))
        print(json.dumps(said), flush=True)


if __name__ == "__main__":
    main()
