"""dogpile.cache, as the audit sees it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dogpile.cache import CacheRegion, make_region
from dogpile.cache.util import kwarg_function_key_generator

from labkit.audit.adapter import Adapter
from labkit.audit.adapters import with_version
from labkit.audit.site import Place

OWN_TTL = 0.9  # of the time to live in Redis


class Dogpile(Adapter):
    """A region on Redis, with `cache_on_arguments`.

    The region is the example of the documentation: a lock in Redis, for several processes, which is
    not the thread's, and a time to live in Redis, which is to be larger than the region's own. The
    lock has no timeout there. Keys have a prefix, as its recipe advises for a Redis that others use
    too, and they take keywords, for which it has a generator of its own.
    (https://dogpilecache.sqlalchemy.org/en/latest/api.html#redis-backends, and /recipes.html)

    A region's times to live are its own, and its `invalidate` reaches all that is in it: each
    function has a region here.
    """

    name = with_version("dogpile.cache")
    cluster = True

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self._backend = "dogpile.cache.redis_cluster" if place.cluster else "dogpile.cache.redis"
        self._regions: dict[Callable[..., Any], CacheRegion] = {}

    def wrap(self, function: Callable[..., Any], ttl: int) -> Callable[..., Any]:
        """Cache a function in a region of its own."""
        region = make_region(
            key_mangler=lambda key: f"shop:dogpile:{key}",
            function_key_generator=kwarg_function_key_generator,
        ).configure(
            self._backend,
            expiration_time=OWN_TTL * ttl,
            arguments={
                "url": self.place.url,
                "redis_expiration_time": ttl,
                "distributed_lock": True,
                "thread_local_lock": False,
            },
        )
        cached: Callable[..., Any] = region.cache_on_arguments()(function)
        self._regions[cached] = region
        return cached

    def invalidate_one(self, cached: Any, *args: Any, **kwargs: Any) -> None:
        """Delete one call's key."""
        cached.invalidate(*args, **kwargs)

    def invalidate_all(self, cached: Callable[..., Any]) -> None:
        """Invalidate the function's region: what is older than now is not used, in this process."""
        self._regions[cached].invalidate()  # type: ignore[no-untyped-call]
