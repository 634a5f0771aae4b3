"""Another client of the same server, which reads while somebody else keeps the server busy.

It is a process of its own: in a thread it would wait for Python as well as for Redis. Run as a
program, it is that process.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import redis

from labkit.servers.processes import Worker, read_task, worker

if TYPE_CHECKING:  # a worker starts sooner without
    from labkit.lab import Lab

MODULE = "labkit.concurrency.other_client"
KEY = "other_client"


class OtherClient:
    """The other client, seen from the process that has started it."""

    def __init__(self, process: Worker) -> None:
        self._process = process

    def waits_during(self, work: Callable[[], object]) -> list[float]:
        """Return how long each of its GETs took, in milliseconds, sorted.

        Those are counted that were under way at some moment while `work` ran.

        Raises:
            LabError: the other client has lost its server.
        """
        self._process.ask("measure")
        began = time.monotonic()  # one clock for all processes of a machine
        try:
            work()
        finally:
            ended = time.monotonic()
            gets: list[tuple[float, float]] = json.loads(self._process.ask("stop"))
        return sorted(
            1000 * (answered - asked)
            for asked, answered in gets
            if asked < ended and answered > began
        )


@contextmanager
def other_client(lab: Lab) -> Iterator[OtherClient]:
    """Start another client. It ends with the `with` block.

    Args:
        lab: its Redis must be a real one, as another process connects to it.

    Raises:
        LabError: the lab's Redis is simulated and cannot be shared.
    """
    with worker(MODULE, {"redis": lab.redis_url}) as process:
        yield OtherClient(process)


def main() -> None:
    """From each "measure" to the next "stop", GET a key again and again, and note when."""
    client = redis.Redis.from_url(read_task()["redis"])
    lines = iter(sys.stdin.readline, "")
    for _ in lines:
        client.get(KEY)  # here and below: without its server this process ends
        gets: list[tuple[float, float]] = []
        stop = threading.Event()
        reader = threading.Thread(target=_read, args=(client, gets, stop))
        reader.start()
        next(lines, None)  # told, or left alone by a parent that has ended
        stop.set()
        reader.join()
        client.get(KEY)  # it may have been lost after the reader's last GET
        print(json.dumps(gets), flush=True)


def _read(client: redis.Redis, gets: list[tuple[float, float]], stop: threading.Event) -> None:
    print("measuring", flush=True)
    while not stop.is_set():
        asked = time.monotonic()
        try:
            client.get(KEY)
        except redis.RedisError:
            os._exit(1)  # the whole process, so that nobody takes what there is for all
        gets.append((asked, time.monotonic()))


if __name__ == "__main__":
    main()
