"""A QueryCache as tests of several files open it, and a function that it caches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import update

from labkit.cache import QueryCache
from labkit.lab import Lab
from labkit.shop import User, db

# Where a time-out is not the subject, no busy machine makes one: a hit that it costs is missed.
PATIENT: dict[str, Any] = {"timeout_ms": 10_000}
PATIENT_APP = {"QUERY_CACHE_TIMEOUT_MS": PATIENT["timeout_ms"]}


@contextmanager
def opened_cache(shop: Lab, client: Any, **settings: Any) -> Iterator[QueryCache]:
    """Give a cache of the shop's application within its context; all users are in the US.

    Args:
        shop: its application and its database are used.
        client: of the Redis that is used.
        settings: as of `Settings`; the cache is `PATIENT` where they do not say otherwise.
    """
    with pytest.MonkeyPatch.context() as patch, shop.app.app_context():
        for name, value in (PATIENT | settings).items():
            patch.setitem(shop.app.config, f"QUERY_CACHE_{name.upper()}", value)
        db.session.execute(update(User).values(region="US"))
        db.session.commit()
        cache = QueryCache()
        cache.init_app(shop.app, db, client=client)
        try:
            yield cache
        finally:
            cache.close()
            db.session.rollback()


class Counted:
    """A function that counts its calls, and what it answers."""

    def __init__(self, answer: Callable[[], Any] = lambda: "answer") -> None:
        self.calls = 0
        self._answer = answer

    def __call__(self) -> Any:
        self.calls += 1
        return self._answer()


def cached(cache: QueryCache, counted: Callable[[], Any], **options: Any) -> Callable[[], Any]:
    given: dict[str, Any] = {"ttl": 60, "tags": ["users"], "name": "counted"} | options

    @cache.query(**given)
    def function() -> Any:
        return counted()

    return function
