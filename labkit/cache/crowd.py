"""A crowd of callers that all find the cache empty at once, in threads of several processes.

It is how a stampede is made to happen, rather than hoped for: whoever loads the missing value first
waits at a gate until the whole crowd has looked into the cache and found nothing.

Run as a program, this is one of the processes: it reads what to do from standard input, and prints
how many SQL statements it ran.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from typing import Any

import redis
from sqlalchemy import create_engine, event, text

from labkit.cache.loading import SingleFlight, fetch_with_lease
from labkit.lab import Lab

QUERY = "SELECT count(*) FROM users WHERE region = 'US'"
KEY = "users:US"
TTL = 60  # seconds
GATE_TIMEOUT = 30  # seconds


def stampede(lab: Lab, strategy: str, processes: int = 4, threads: int = 25) -> list[int]:
    """Send a crowd against an empty cache and return the SQL statements of each process.

    Args:
        lab: its Redis must be a real one, as other processes connect to it. It is emptied first.
        strategy: "none", "single-flight" (one loader a process) or "lease" (one loader in all).
        processes: how many processes.
        threads: callers in each process.

    Raises:
        LabError: the lab's Redis is simulated and cannot be shared with other processes.
    """
    lab.redis.flushdb()
    with lab.app.app_context():
        database = lab.db.engine.url.render_as_string(hide_password=False)
    task = {
        "redis": lab.redis_url,
        "database": database,
        "strategy": strategy,
        "threads": threads,
        "crowd": processes * threads,
    }
    workers = [
        subprocess.Popen(
            [sys.executable, "-m", "labkit.cache.crowd"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(processes)
    ]
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write(json.dumps(task))
        worker.stdin.close()
        worker.stdin = None
    return sorted(int(worker.communicate()[0]) for worker in workers)


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
            TimeoutError: after half a minute.
        """
        if self._client.blpop(["gate:open"], timeout=GATE_TIMEOUT) is None:
            raise TimeoutError("the crowd is not complete")


def _work(task: dict[str, Any]) -> int:
    """Run this process's share of the crowd; return its number of SQL statements."""
    client = redis.Redis.from_url(task["redis"])
    engine = create_engine(task["database"])
    statements: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda *args: statements.append(args[2]))

    gate = Gate(client, task["crowd"])
    flights = SingleFlight()

    def load() -> Any:
        gate.wait()
        with engine.connect() as connection:
            return connection.execute(text(QUERY)).scalar()

    def load_and_store() -> None:
        client.set(KEY, load(), ex=TTL)

    def fetch() -> None:
        if task["strategy"] == "lease":
            fetch_with_lease(client, KEY, load, TTL, lease_ms=60_000, on_miss=gate.arrive)
        elif client.get(KEY) is None:
            if task["strategy"] == "single-flight":
                flights.do(KEY, load_and_store, on_join=gate.arrive)
            else:
                gate.arrive()
                load_and_store()

    crowd = [threading.Thread(target=fetch) for _ in range(task["threads"])]
    for thread in crowd:
        thread.start()
    for thread in crowd:
        thread.join()
    return len(statements)


if __name__ == "__main__":
    print(_work(json.load(sys.stdin)))
