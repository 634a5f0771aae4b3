"""One loader for many waiters: single-flight within a process, a lease between processes.

Leases against stampedes are due to Nishtala et al., "Scaling Memcache at Facebook" (NSDI 2013).
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import redis

WAIT = 0.005  # seconds between two looks of those who wait for the holder
RELEASE = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end"


class SingleFlight:
    """Of several threads that want the same thing at once, one gets it and all have it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._flights: dict[str, Future[Any]] = {}

    def do(
        self, key: str, load: Callable[[], Any], on_join: Callable[[], object] = lambda: None
    ) -> Any:
        """Return what `load` returns: in the first thread by calling it, in others by waiting.

        Args:
            key: what is wanted.
            load: gets it. What it raises is raised in every thread that waits. It must not ask for
                the same key itself: it would wait for its own end.
            on_join: called by each thread once it leads or has joined.
        """
        with self._lock:
            leads = key not in self._flights
            flight = self._flights.setdefault(key, Future())
        on_join()
        if not leads:
            return flight.result()
        try:
            flight.set_result(load())
        except BaseException as error:
            flight.set_exception(error)
        finally:
            with self._lock:
                del self._flights[key]
        return flight.result()


def fetch_with_lease(
    client: redis.Redis,
    key: str,
    load: Callable[[], bytes],
    ttl: int,
    lease_ms: int,
    on_miss: Callable[[], object] = lambda: None,
) -> bytes:
    """Return what is stored under `key`; where nothing is, one caller loads it for all.

    Args:
        client: the Redis client.
        key: the entry's key. The lease is kept beside it.
        load: makes the value. What it raises, its caller gets, and another caller loads.
        ttl: the entry's time to live, in seconds.
        lease_ms: how long a holder may take, in milliseconds. If it crashes, the others wait that
            long, and then one of them loads. If it is slower than that, another loads as well.
        on_miss: called once by each caller that finds nothing at first.
    """
    value: Any = client.get(key)
    if value is None:
        on_miss()
    lease, token = f"lease:{key}", secrets.token_hex(8)
    while value is None:
        if client.set(lease, token, nx=True, px=lease_ms):
            try:
                value = client.get(key)  # stored between our look and our lease?
                if value is None:
                    value = load()
                    client.set(key, value, ex=ttl)
            finally:
                client.eval(RELEASE, 1, lease, token)  # only while it is still ours
        else:
            time.sleep(WAIT)
            value = client.get(key)
    return value  # type: ignore[no-any-return]  # redis-py: Any
