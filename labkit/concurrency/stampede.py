"""A crowd of callers that all find the cache empty at once, in threads of several processes.

It is how a stampede is made to happen, rather than hoped for: whoever loads the missing value first
waits at a gate until the whole crowd has looked into the cache and found nothing.

Run as a program, this is one of the processes. It prints how many SQL statements it ran.
"""

from __future__ import annotations

import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import redis
from sqlalchemy import create_engine, event, text

from labkit.cache import QueryCache, signals
from labkit.cache.loading import SingleFlight
from labkit.concurrency.lease import fetch_with_lease
from labkit.servers.processes import end_with_input, read_task, worker

if TYPE_CHECKING:  # a worker starts sooner without, and is smaller
    from labkit.lab import Lab

MODULE = "labkit.concurrency.stampede"
QUERY = "SELECT count(*) FROM users WHERE region = 'US'"
TAG = "users"
KEY = "users"  # of the entry that a crowd wants
TTL = 60  # seconds
LONG = 60_000  # milliseconds: many times what anything here takes on a busy machine
GATE_TIMEOUT = 600  # seconds: among thirty labs on one machine, processes start minutes apart
QUERY_CACHE = "query cache"
LOADING = "loading"  # what a process says that holds a lease and has begun to load


def stampede(lab: Lab, strategy: str, processes: int = 4, threads: int = 25) -> list[int]:
    """Send a crowd against an empty cache and return the SQL statements of each process.

    Args:
        lab: its Redis must be a real one, as other processes connect to it. It is emptied first.
        strategy: "none", "single-flight" (one loader a process), "lease" or `QUERY_CACHE` (one
            loader in all).
        processes: how many processes.
        threads: callers in each process.

    Raises:
        LabError: the lab's Redis is simulated and cannot be shared, or a process has failed.
    """
    lab.redis.flushdb()
    task = _task(lab, KEY) | {
        "strategy": strategy,
        "threads": threads,
        "crowd": processes * threads,
    }
    with ExitStack() as stack:
        workers = [stack.enter_context(worker(MODULE, task)) for _ in range(processes)]
        return sorted(int(each.said()) for each in workers)


def crashed_holder(lab: Lab, key: str, lease_ms: int, strategy: str = "lease") -> None:
    """Have a process take the lease of an entry, and kill it (SIGKILL) while it loads.

    Args:
        lab: its Redis must be a real one, as another process connects to it.
        key: the entry, which must be missing.
        lease_ms: how long the lease lasts, in milliseconds.
        strategy: "lease" or `QUERY_CACHE`.

    Raises:
        LabError: the lab's Redis is simulated and cannot be shared, or the process has failed.
    """
    task = _task(lab, key) | {"strategy": strategy, "lease_ms": lease_ms}
    with worker(MODULE, task) as holder:
        holder.said()


def _task(lab: Lab, key: str) -> dict[str, Any]:
    return {"redis": lab.redis_url, "database": lab.database_url, "key": key}


class Gate:
    """Opens when the whole crowd has arrived, in whichever process.

    Args:
        client: the Redis that the crowd shares.
        crowd: how many arrive.
    """

    def __init__(self, client: redis.Redis, crowd: int) -> None:
        self._client = client
        self._crowd = crowd

    def arrive(self) -> None:
        """Say that one more has found nothing in the cache."""
        if self._client.incr("gate:arrived") == self._crowd:
            self._client.rpush("gate:open", *range(self._crowd))

    def wait(self) -> None:
        """Return when all have arrived.

        Raises:
            TimeoutError: after ten minutes.
        """
        if self._client.blpop(["gate:open"], timeout=GATE_TIMEOUT) is None:
            raise TimeoutError("the crowd is not complete")


def _work(task: dict[str, Any]) -> int:
    """Run this process's share of the crowd; return its number of SQL statements."""
    # Else redis-py gives up after 5 seconds, while the rest of the crowd is still starting.
    client = redis.Redis.from_url(task["redis"], socket_timeout=None)
    engine = create_engine(task["database"])
    statements: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda *args: statements.append(args[2]))

    key = task["key"]
    gate = Gate(client, task["crowd"])
    flights = SingleFlight()

    def load() -> bytes:
        gate.wait()
        with engine.connect() as connection:
            return b"%d" % connection.execute(text(QUERY)).scalar_one()

    def load_and_store() -> None:
        client.set(key, load(), ex=TTL)

    if task["strategy"] == QUERY_CACHE:
        signals.miss.connect(lambda *_, **__: gate.arrive(), weak=False)
        cache = QueryCache(client, timeout_ms=LONG, lease_ms=LONG)
        ask = cache.query(ttl=TTL, tags=[TAG], name=key)(load)

    def fetch() -> None:
        if task["strategy"] == QUERY_CACHE:
            ask()
        elif task["strategy"] == "lease":
            fetch_with_lease(client, key, load, TTL, LONG, TAG, on_miss=gate.arrive)
        elif client.get(key) is None:
            if task["strategy"] == "single-flight":
                flights.do(key, load_and_store, on_join=gate.arrive)
            else:
                gate.arrive()
                load_and_store()

    crowd = [threading.Thread(target=fetch) for _ in range(task["threads"])]
    for thread in crowd:
        thread.start()
    for thread in crowd:
        thread.join()
    return len(statements)


def _hold(task: dict[str, Any]) -> None:
    """Take the lease, say so, and load for ever."""
    client = redis.Redis.from_url(task["redis"])

    def load() -> bytes:
        print(LOADING, flush=True)
        threading.Event().wait()
        return b""  # never

    if task["strategy"] == QUERY_CACHE:
        cache = QueryCache(client, timeout_ms=LONG, lease_ms=task["lease_ms"])
        cache.query(ttl=TTL, tags=[TAG], name=task["key"])(load)()
    else:
        fetch_with_lease(client, task["key"], load, TTL, task["lease_ms"], TAG)


def main() -> None:
    """Do one task, or end early, with the process that gave it."""
    task = read_task()
    end_with_input()
    if "lease_ms" in task:
        _hold(task)
    else:
        print(_work(task), flush=True)


if __name__ == "__main__":
    main()
