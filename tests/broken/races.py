"""What is wrong when several come at once."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

import redis

from labkit.audit.adapters import query_cache
from labkit.audit.adapters.query_cache import QueryCacheAdapter
from labkit.audit.site import Place
from labkit.cache import tokens
from tests.broken import fails

FEW = 10  # threads that may wait for a load


@fails("write_during_load")
class ForgetsWhatIsThere(QueryCacheAdapter):
    """One entry is removed, and whoever loads it stores it all the same."""

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        tokens.forget = lambda client, key, lease_ms: tokens.drop(client, key)


@fails("invalidation_during_load")
class RemovesWhatIsThere(QueryCacheAdapter):
    """All entries that are there are removed, and whoever loads one stores it all the same."""

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self.stored: set[str] = set()
        fill = tokens.fill

        def fill_and_note(client: redis.Redis, key: str, *args: Any) -> bool:
            self.stored.add(key)
            return fill(client, key, *args)

        tokens.fill = fill_and_note  # type: ignore[assignment]

    def invalidate_all(self, cached: Callable[..., Any]) -> None:
        name = f".{cached.__qualname__}:"
        keys = [key for key in self.stored if name in key]
        if keys:
            self.cache.ask(lambda client: client.unlink(*keys))


@fails("stampede_threads")
class FewMayWait(QueryCacheAdapter):
    """Ten threads wait for a load, as far as there are more each loads by itself."""

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self.waiting = 0

    def wrap(self, function: Callable[..., Any], ttl: int) -> Callable[..., Any]:
        cached = super().wrap(function, ttl)

        def ask(*args: Any, **kwargs: Any) -> Any:
            self.waiting += 1
            try:
                few = self.waiting <= FEW
                return cached(*args, **kwargs) if few else function(*args, **kwargs)
            finally:
                self.waiting -= 1

        ask.question = cached.question  # type: ignore[attr-defined]
        ask.__wrapped__, ask.__qualname__ = cached, cached.__qualname__  # type: ignore[attr-defined]
        return ask


@fails("stampede_processes")
class LeaseOfAProcess(QueryCacheAdapter):
    """Each process has leases of its own, of which the others do not know."""

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        tokens.lease_key = lambda key: f"lease:{key}:{os.getpid()}"
        tokens._keys.cache_clear()


@fails("crashed_loader")
class LeaseOfAnHour(QueryCacheAdapter):
    """A lease lasts as long as the entry would."""

    def __init__(self, place: Place) -> None:
        query_cache.LEASE_MS = 3_600_000
        super().__init__(place)


@fails("failed_loader")
class KeepsTheLease(QueryCacheAdapter):
    """Whoever fails to load does not give the lease back, but begins it anew."""

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        release = self.cache._release

        def release_unless_failed(key: str, found: tokens.Lookup) -> None:
            if sys.exc_info()[0] is None:
                release(key, found)
            else:
                lease = tokens.lease_key(key), query_cache.LEASE_MS
                self.cache._quietly(lambda client: client.pexpire(*lease))

        self.cache._release = release_unless_failed  # type: ignore[method-assign]
