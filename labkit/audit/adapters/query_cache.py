"""labkit's QueryCache, as the audit sees it."""

from __future__ import annotations

from collections.abc import Callable
from importlib import metadata
from typing import Any

from labkit.audit.adapter import Adapter
from labkit.audit.site import Place
from labkit.cache import QueryCache

NAMESPACE = "{shop}"  # with a hash tag, for a Cluster
L1_ENTRIES = 1_000
LEASE_MS = 3_000  # longer than a load takes here: the default is for queries of up to 10 s
TIMEOUT_MS = 2_000  # so that a busy machine's Redis is not taken for one that is frozen


class QueryCacheAdapter(Adapter):
    """The cache at the end of the road."""

    name = f"QueryCache {metadata.version('labkit')}"
    cluster = True

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self.cache = QueryCache()
        place.app.config["QUERY_CACHE_NAMESPACE"] = NAMESPACE
        place.app.config["QUERY_CACHE_LEASE_MS"] = LEASE_MS
        place.app.config["QUERY_CACHE_TIMEOUT_MS"] = TIMEOUT_MS
        self.cache.init_app(place.app, place.db, client=place.client())

    def wrap(self, function: Callable[..., Any], ttl: int) -> Callable[..., Any]:
        """Cache a function under a tag of its own, beside the tables that it reads."""
        tags = [function.__qualname__, *self.place.tables]
        return self.cache.query(ttl=ttl, tags=tags)(function)

    def invalidate_one(self, cached: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """Forget one call's entry."""
        self.cache.forget(cached, *args, **kwargs)

    def invalidate_all(self, cached: Callable[..., Any]) -> None:
        """Invalidate the function's own tag."""
        self.cache.invalidate(cached.__qualname__)

    def close(self) -> None:
        """Stop watching writes."""
        self.cache.close()


class QueryCacheL1Adapter(QueryCacheAdapter):
    """The same with copies in each process, which it makes if it is told to (lesson 13)."""

    name = f"QueryCache with L1 {metadata.version('labkit')}"

    def __init__(self, place: Place) -> None:
        place.app.config["QUERY_CACHE_L1_ENTRIES"] = L1_ENTRIES
        super().__init__(place)
