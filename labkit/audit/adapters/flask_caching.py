"""Flask-Caching, as the audit sees it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask_caching import Cache

from labkit.audit.adapter import Adapter
from labkit.audit.adapters import with_version
from labkit.audit.site import Place


class FlaskCaching(Adapter):
    """`memoize`, on Redis by URL.

    `cache_none` is on: the documentation has it for functions that may return None, as any may
    here. (https://flask-caching.readthedocs.io/en/latest/usage.html#memoization)
    """

    name = with_version("Flask-Caching")
    cluster = True

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        kind = "RedisClusterCache" if place.cluster else "RedisCache"
        config = {"CACHE_TYPE": kind, "CACHE_REDIS_URL": place.url}
        self.cache = Cache(place.app, config=config)

    def wrap(self, function: Callable[..., Any], ttl: int) -> Callable[..., Any]:
        """Memoize a function."""
        memoized: Callable[..., Any] = self.cache.memoize(timeout=ttl, cache_none=True)(function)
        return memoized

    def invalidate_one(self, cached: Any, *args: Any, **kwargs: Any) -> None:
        """Delete what is memoized of one call."""
        self.cache.delete_memoized(cached, *args, **kwargs)

    def invalidate_all(self, cached: Any) -> None:
        """Delete all that is memoized of a function."""
        self.cache.delete_memoized(cached)
