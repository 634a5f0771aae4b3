"""The article's decorator, as the audit sees it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from labkit.audit.adapter import Adapter
from labkit.audit.site import Place
from labkit.baselines import deletion
from labkit.baselines.article import cached


class Article(Adapter):
    """A digest of the pickled call, GET, SET with EX, pickle; and a script to invalidate.

    The article invalidates by a Lua script that lists the keys of a pattern, `user:*`, and removes
    them. It has no other way: what a call's key is, only the decorator knows. For production it
    names Redis Cluster.
    """

    name = "the article's"
    cluster = True

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self.client = place.client()

    def wrap(self, function: Callable[..., Any], ttl: int) -> Callable[..., Any]:
        """Decorate a function."""
        return cached(self.client, ttl)(function)

    def invalidate_one(self, cached: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """Run the script, with a pattern of the function's name."""
        self.invalidate_all(cached)

    def invalidate_all(self, cached: Callable[..., Any]) -> None:
        """Run the script, with a pattern of the function's name."""
        deletion.lua(self.client, cached.__name__)

    def close(self) -> None:
        """Close its client."""
        self.client.close()
