"""Caches that are broken on purpose: one for each probe, which fails that probe and no other.

Each is QueryCache with one thing put wrong.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

from labkit.audit import PROBES, Adapter
from labkit.audit.adapters.query_cache import QueryCacheAdapter

A = TypeVar("A", bound=type[Adapter])
BROKEN: dict[str, type[Adapter]] = {}


def fails(probe: str) -> Callable[[A], A]:
    """Return a decorator that registers the cache which fails exactly one probe."""

    def register(adapter: A) -> A:
        assert probe in PROBES
        assert probe not in BROKEN
        BROKEN[probe] = adapter
        return adapter

    return register


class Around(QueryCacheAdapter):
    """QueryCache, with something around each call."""

    def wrap(self, function: Callable[..., Any], ttl: int) -> Callable[..., Any]:
        cached = super().wrap(function, ttl)

        @functools.wraps(cached)  # it copies what an invalidation goes by, too
        def ask(*args: Any, **kwargs: Any) -> Any:
            return self.answer(cached, args, kwargs)

        return ask

    def answer(
        self, cached: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        raise NotImplementedError


from tests.broken import invalidation, keys, outages, races, values  # noqa: E402, F401
