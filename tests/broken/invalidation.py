"""What is wrong with invalidation: it reaches too little, too much, or by too much work."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import redis

from labkit.audit.adapters.query_cache import QueryCacheAdapter
from labkit.audit.site import Place
from labkit.cache import loading, tokens
from tests.broken import fails


@fails("invalidates_one")
class ForgetsSome(QueryCacheAdapter):
    """One entry is invalidated if its user is one of the first five."""

    def invalidate_one(self, cached: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        if not isinstance(args[-1], int) or args[-1] <= 5:
            super().invalidate_one(cached, *args, **kwargs)


@fails("invalidates_all")
class TagsSome(QueryCacheAdapter):
    """The entries of the users after the fiftieth have no tag of the function's."""

    def wrap(self, function: Callable[..., Any], ttl: int) -> Callable[..., Any]:
        tagged = super().wrap(function, ttl)
        untagged = self.cache.query(ttl=ttl, tags=self.place.tables)(function)

        def ask(*args: Any, **kwargs: Any) -> Any:
            late = bool(args) and type(args[-1]) is int and args[-1] > 50
            return (untagged if late else tagged)(*args, **kwargs)

        ask.question = tagged.question  # type: ignore[attr-defined]
        ask.__wrapped__, ask.__qualname__ = tagged, tagged.__qualname__  # type: ignore[attr-defined]
        return ask


@fails("nothing_else")
class InvalidatesEverything(QueryCacheAdapter):
    """All entries of a function are invalidated together with those of all others."""

    def invalidate_all(self, cached: Callable[..., Any]) -> None:
        self.cache.invalidate("*")


@fails("no_scan")
class Looks(QueryCacheAdapter):
    """An invalidation looks at a page of keys."""

    def invalidate_all(self, cached: Callable[..., Any]) -> None:
        super().invalidate_all(cached)
        self.cache.ask(lambda client: client.scan())


@fails("commands_a_hit")
class Counts(QueryCacheAdapter):
    """Each call is counted in Redis."""

    def wrap(self, function: Callable[..., Any], ttl: int) -> Callable[..., Any]:
        cached = super().wrap(function, ttl)

        def ask(*args: Any, **kwargs: Any) -> Any:
            self.cache._quietly(lambda client: client.incr(f"{self.cache.namespace}:calls"))
            return cached(*args, **kwargs)

        ask.question = cached.question  # type: ignore[attr-defined]
        ask.__wrapped__, ask.__qualname__ = cached, cached.__qualname__  # type: ignore[attr-defined]
        return ask


@fails("flat_invalidation")
class RemovesEach(QueryCacheAdapter):
    """An invalidation removes the entries as well, one after the other."""

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self.stored: set[str] = set()
        fill = tokens.fill

        def fill_and_note(client: redis.Redis, key: str, *args: Any) -> bool:
            self.stored.add(key)
            return fill(client, key, *args)

        tokens.fill = fill_and_note  # type: ignore[assignment]

    def invalidate_all(self, cached: Callable[..., Any]) -> None:
        super().invalidate_all(cached)
        for key in self.stored:
            if f".{cached.__qualname__}:" in key:
                self.cache.ask(tokens.drop, key)
        self.stored.clear()


@fails("eviction_of_any_key")
class Counters(QueryCacheAdapter):
    """A tag's token is the number of its invalidations: one that is evicted begins anew."""

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        take, invalidate = tokens.take, tokens.invalidate

        def take_a_number(client: redis.Redis, key: str, *args: Any, **options: Any) -> Any:
            for tag in args[1:]:
                client.set(tokens.token_key(tag), "0", nx=True)
            return take(client, key, *args, **options)

        def count(client: redis.Redis, *tags: str, writer: str = "") -> None:
            if writer:
                return invalidate(client, *tags, writer=writer)
            for tag in tags:
                try:
                    client.incr(tokens.token_key(tag))
                except redis.ResponseError:  # a marker stood there since
                    invalidate(client, tag)
            return None

        loading.take = tokens.take = take_a_number  # type: ignore[attr-defined]
        tokens.invalidate = count
