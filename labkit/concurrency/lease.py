"""Cache-aside with a lease between processes, as lesson 05 writes it, step by step.

`labkit.cache` does the same in fewer round trips: see `labkit.cache.loading.wait_for_lease`.

Leases against stampedes are due to Nishtala et al., "Scaling Memcache at Facebook" (NSDI 2013).
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import redis

from labkit.cache.loading import WAIT
from labkit.cache.tokens import RELEASE, fill, lookup


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
    ttl: float,
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
