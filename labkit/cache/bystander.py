"""Another client of the same server, which reads while somebody else keeps the server busy.

It is a process of its own: in a thread it would wait for Python as well as for Redis. Run as a
program, it is that process.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable

import redis

from labkit.cache.processes import read_task, worker
from labkit.lab import Lab

MODULE = "labkit.cache.bystander"
KEY = "bystander"


def waits_during(lab: Lab, work: Callable[[], object]) -> list[float]:
    """Return how long each GET of another client took while `work` ran, in milliseconds, sorted.

    Args:
        lab: its Redis must be a real one, as another process connects to it.
        work: what to run in this process.

    Raises:
        LabError: the lab's Redis is simulated and cannot be shared.
    """
    with worker(MODULE, {"redis": lab.redis_url}) as client:
        client.said()  # it has connected, and begun
        client.tell("measure")
        work()
        waits: list[float] = json.loads(client.ask("stop"))
        return sorted(waits)


def main() -> None:
    """GET one key again and again; from "measure" to "stop", note how long each took."""
    client = redis.Redis.from_url(read_task()["redis"])
    client.get(KEY)
    measure, stop = threading.Event(), threading.Event()
    threading.Thread(target=_listen, args=(measure, stop), daemon=True).start()
    print("begun", flush=True)
    waits = []
    while not stop.is_set():
        started = time.perf_counter()
        client.get(KEY)
        if measure.is_set():  # also one that was under way when the work began
            waits.append(1000 * (time.perf_counter() - started))
    print(json.dumps(waits), flush=True)


def _listen(measure: threading.Event, stop: threading.Event) -> None:
    if sys.stdin.readline():
        measure.set()
        sys.stdin.readline()
    stop.set()  # told, or left alone by a parent that has ended


if __name__ == "__main__":
    main()
