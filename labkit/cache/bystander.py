"""Another client of the same server, which reads while somebody else keeps the server busy.

It is a process of its own: in a thread it would wait for Python as well as for Redis. Run as a
program, it is that process.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import redis

from labkit.cache.processes import Worker, read_task, worker
from labkit.lab import Lab

MODULE = "labkit.cache.bystander"
KEY = "bystander"


class Bystander:
    """The other client, seen from the process that has started it."""

    def __init__(self, process: Worker) -> None:
        self._process = process

    def waits_during(self, work: Callable[[], object]) -> list[float]:
        """Return how long each of its GETs took while `work` ran, in milliseconds, sorted."""
        self._process.ask("measure")
        work()
        waits: list[float] = json.loads(self._process.ask("stop"))
        return sorted(waits)


@contextmanager
def bystander(lab: Lab) -> Iterator[Bystander]:
    """Start another client. It ends with the `with` block.

    Args:
        lab: its Redis must be a real one, as another process connects to it.

    Raises:
        LabError: the lab's Redis is simulated and cannot be shared.
    """
    with worker(MODULE, {"redis": lab.redis_url}) as process:
        yield Bystander(process)


def main() -> None:
    """From each "measure" to the next "stop", GET a key again and again, and note the waits."""
    client = redis.Redis.from_url(read_task()["redis"])
    lines = iter(sys.stdin.readline, "")
    for _ in lines:
        client.get(KEY)  # a server that cannot be reached ends this process here
        waits: list[float] = []
        stop = threading.Event()
        reader = threading.Thread(target=_read, args=(client, waits, stop))
        reader.start()
        next(lines, None)  # told, or left alone by a parent that has ended
        stop.set()
        reader.join()
        print(json.dumps(waits), flush=True)


def _read(client: redis.Redis, waits: list[float], stop: threading.Event) -> None:
    print("measuring", flush=True)
    while not stop.is_set():
        started = time.perf_counter()
        client.get(KEY)
        waits.append(1000 * (time.perf_counter() - started))


if __name__ == "__main__":
    main()
