"""One loader for many waiters: single-flight within a process, a lease between processes.

The holder of the lease fills as everybody does: only if no writer was there since its look.

Leases against stampedes are due to Nishtala et al., "Scaling Memcache at Facebook" (NSDI 2013).
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

import redis

from labkit.cache.tokens import fill, lookup

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
        if leads:
            settle(flight, load)
            with self._lock:
                del self._flights[key]
        return flight.result()


def settle(flight: Future[Any], load: Callable[[], Any]) -> None:
    """Put into a future what `load` returns, or what it raises."""
    try:
        flight.set_result(load())
    except BaseException as error:
        flight.set_exception(error)


@contextmanager
def lease(client: redis.Redis, key: str, lease_ms: int) -> Iterator[bool]:
    """Try to take an entry's lease for the length of a `with` block, and give whether it is ours.

    Args:
        client: the Redis client.
        key: the entry's key. The lease is kept beside it.
        lease_ms: after how many milliseconds it ends by itself, if we do not give it back.
    """
    name, ours = f"lease:{key}", secrets.token_hex(8)
    taken = client.set(name, ours, nx=True, px=lease_ms)
    try:
        yield bool(taken)
    finally:
        if taken:
            client.eval(RELEASE, 1, name, ours)  # only while it is still ours


def fetch_with_lease(
    client: redis.Redis,
    key: str,
    load: Callable[[], bytes],
    ttl: int,
    lease_ms: int,
    *tags: str,
    on_miss: Callable[[], object] = lambda: None,
) -> bytes:
    """Return the entry under `key`; where none counts, one caller loads it for all.

    While a writer is under way nobody can fill, so each caller loads for itself.

    Args:
        client: the Redis client.
        key: the entry's key.
        load: makes the value. What it raises, its caller gets, and another caller loads.
        ttl: the entry's time to live, in seconds.
        lease_ms: how long a holder may take, in milliseconds. If it crashes, the others wait that
            long, and then one of them loads. If it is slower than that, another loads as well.
        tags: the entry's tags.
        on_miss: called once by each caller that finds nothing at first.
    """
    found = lookup(client, key, *tags)
    if found.value is None:
        on_miss()
    while found.value is None:
        with lease(client, key, lease_ms) as is_ours:
            found = lookup(client, key, *tags)  # stored since our last look?
            if found.value is None and (is_ours or found.busy):
                value = load()
                fill(client, key, value, ttl, found, *tags)
                return value
        if not is_ours:
            time.sleep(WAIT)
    return found.value
