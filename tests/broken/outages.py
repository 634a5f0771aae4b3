"""See the title of this package: here it is outages."""

from __future__ import annotations

import functools
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import redis
from redis.backoff import NoBackoff
from redis.exceptions import OutOfMemoryError
from redis.retry import Retry

from labkit.audit.adapters import query_cache
from labkit.audit.adapters.query_cache import QueryCacheAdapter
from labkit.audit.site import Place
from labkit.cache import client, server
from labkit.cache.breaker import Breaker
from tests.broken import fails


@fails("redis_down")
class NeedsRedis(QueryCacheAdapter):
    """A read raises where nobody listens."""

    def wrap(self, function: Callable[..., Any], ttl: int) -> Callable[..., Any]:
        cached, address = super().wrap(function, ttl), urlsplit(self.place.url)

        @functools.wraps(cached)
        def ask(*args: Any, **kwargs: Any) -> Any:
            socket.create_connection(("127.0.0.1", address.port or 0)).close()
            return cached(*args, **kwargs)

        return ask


@fails("redis_frozen")
class WaitsForRedis(QueryCacheAdapter):
    """A read that Redis does not answer waits until it is back or gone."""

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        cache: Any = self.cache
        bypass = cache._bypass
        waiting = redis.Redis.from_url(
            place.url, socket_timeout=None, retry=Retry(NoBackoff(), 0), protocol=2
        )

        def wait_and_bypass(*args: Any) -> Any:
            with suppress(redis.ConnectionError):
                waiting.ping()
            return bypass(*args)

        cache._bypass = wait_and_bypass


@fails("redis_back")
class GivesUp(QueryCacheAdapter):
    """What has not answered once is not asked again."""

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        breaker: Any = Breaker
        breaker.allows = lambda self: not self.is_open


@fails("missed_invalidation")
class ForgetsWhatIsOwed(QueryCacheAdapter):
    """An invalidation that Redis does not take is lost, and any server's entries count."""

    def __init__(self, place: Place) -> None:
        vars(client)["_recognise"] = lambda *args: None
        server.Server.owe = lambda *args: None  # type: ignore[method-assign]
        super().__init__(place)


@fails("full_redis")
class NeedsRoom(QueryCacheAdapter):
    """A read raises where its answer cannot be stored."""

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        cache: Any = self.cache
        fail = cache._server._fail

        def fail_or_raise(error: Exception) -> None:
            if isinstance(error, OutOfMemoryError):
                raise error
            fail(error)

        cache._server._fail = fail_or_raise


@fails("cluster")
class ScattersItsKeys(QueryCacheAdapter):
    """Its keys have no hash tag, so that an entry and its tags are on different masters."""

    def __init__(self, place: Place) -> None:
        query_cache.NAMESPACE = "shop"
        super().__init__(place)
