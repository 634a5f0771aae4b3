"""What several broken caches are made of."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import redis

from labkit.audit.adapters.query_cache import QueryCacheAdapter
from labkit.audit.site import Place
from labkit.cache import tokens


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


class Noting(QueryCacheAdapter):
    """QueryCache, with a note of each key that is stored, in whichever process."""

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        database = place.app.config["SQLALCHEMY_DATABASE_URI"].removeprefix("sqlite:///")
        self._stored = Path(database).with_name("stored")
        self._stored.touch()
        fill = tokens.fill

        def fill_and_note(client: redis.Redis, key: str, *args: Any) -> bool:
            with self._stored.open("a") as file:
                file.write(f"{key}\n")
            return fill(client, key, *args)

        tokens.fill = fill_and_note  # type: ignore[assignment]

    def stored_of(self, cached: Callable[..., Any]) -> set[str]:
        """Return the keys that were noted of a function."""
        name = f".{cached.__qualname__}:"
        return {key for key in self._stored.read_text().splitlines() if name in key}
