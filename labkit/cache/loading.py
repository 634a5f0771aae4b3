"""One loader for many waiters: single-flight within a process, a lease between processes.

The holder of the lease fills as everybody does: only if no writer was there since its look.

Leases against stampedes are due to Nishtala et al., "Scaling Memcache at Facebook" (NSDI 2013).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import redis

from labkit.cache.tokens import Lookup, take

WAIT = 0.005  # seconds between two looks of those who wait for the holder


class SingleFlight:
    """Of several threads that want the same thing at once, one gets it and all have it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._flights: dict[str, Future[Any]] = {}

    def do(
        self,
        key: str,
        load: Callable[[], Any],
        on_join: Callable[[], object] = lambda: None,
        timeout: float | None = None,
    ) -> Any:
        """Return what `load` returns: in the first thread by calling it, in others by waiting.

        Args:
            key: what is wanted.
            load: gets it. What it raises is raised in every thread that waits. It must not ask for
                the same key itself: it would wait for its own end.
            on_join: called by each thread once it leads or has joined.
            timeout: the longest wait of the others, in seconds; None for any.

        Raises:
            TimeoutError: the wait was too long.
        """
        with self._lock:
            leads = key not in self._flights
            flight = self._flights.setdefault(key, Future())
        on_join()
        if leads:
            settle(flight, load)
            with self._lock:
                del self._flights[key]
        return flight.result(timeout)


def settle(flight: Future[Any], load: Callable[[], Any]) -> None:
    """Put into a future what `load` returns, or what it raises."""
    try:
        flight.set_result(load())
    except BaseException as error:
        flight.set_exception(error)


def wait_for_lease(
    client: redis.Redis,
    key: str,
    lease_ms: int,
    *tags: str,
    note: tuple[str, bytes] | None = None,
    on_wait: Callable[[], object] = lambda: None,
) -> Lookup:
    """Take an entry's lease, or wait for what its holder stores.

    Args:
        client: the Redis client.
        key: the entry's key.
        lease_ms: how long the lease lasts, in milliseconds, if it is not given back. Nobody waits
            longer.
        tags: the entry's tags.
        note: as of `take`.
        on_wait: called once, before the first wait.

    Returns:
        A look that has a value; or one that has the lease; or neither, where a writer is under way
        or the wait was too long. Without the lease no fill will be accepted.
    """
    end = time.monotonic() + lease_ms / 1000
    found = take(client, key, lease_ms, *tags, note=note)
    if not _is_settled(found):
        on_wait()
    while not _is_settled(found) and time.monotonic() < end:
        time.sleep(WAIT)
        found = take(client, key, lease_ms, *tags)
    return found


def _is_settled(found: Lookup) -> bool:
    return found.entry is not None or found.ours or found.busy
