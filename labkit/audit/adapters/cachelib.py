"""cachelib, as the audit sees it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import redis
from cachelib import RedisCache

from labkit.audit.adapter import Adapter
from labkit.audit.adapters import with_version
from labkit.audit.site import Place


class CacheLib(Adapter):
    """What Werkzeug's cache has become: get and set, without a decorator.

    It is used as Werkzeug's documentation has it: get, compute if there is nothing, set.
    (https://cachelib.readthedocs.io/en/stable/redis/,
    https://werkzeug.palletsprojects.com/en/0.16.x/contrib/cache/)

    A key is the user's affair. Here it is made of the call's repr, after a prefix which is the
    function's: `clear` removes what has its cache's prefix, and is what cachelib has for many.
    """

    name = with_version("cachelib")

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self._client = redis.Redis.from_url(place.url)

    def wrap(self, function: Callable[..., Any], ttl: int) -> Callable[..., Any]:
        """Have a function's answers stored under a prefix of its own."""
        prefix = f"shop:{function.__module__}.{function.__qualname__}:"
        cache = RedisCache(self._client, key_prefix=prefix)

        @functools.wraps(function)
        def answer(*args: Any, **kwargs: Any) -> Any:
            key = key_of(args, kwargs)
            value = cache.get(key)
            if value is None:
                value = function(*args, **kwargs)
                cache.set(key, value, timeout=ttl)
            return value

        answer.cache = cache  # type: ignore[attr-defined]
        return answer

    def invalidate_one(self, cached: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """Delete one key."""
        cached.cache.delete(key_of(args, kwargs))  # type: ignore[attr-defined]

    def invalidate_all(self, cached: Callable[..., Any]) -> None:
        """Clear the function's prefix."""
        cached.cache.clear()  # type: ignore[attr-defined]

    def close(self) -> None:
        """Close its client."""
        self._client.close()


def key_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """Return a call's key, without its prefix."""
    return repr((args, sorted(kwargs.items())))
