"""What is wrong with the values that come back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from labkit.audit.adapters.query_cache import QueryCacheAdapter
from tests.broken import fails


@fails("caches")
class ForgetsAfterThree(QueryCacheAdapter):
    """An entry is dropped once it has been asked for three times."""

    def wrap(self, function: Callable[..., Any], ttl: int) -> Callable[..., Any]:
        cached = super().wrap(function, ttl)
        asked: dict[Any, int] = {}

        def ask(*args: Any, **kwargs: Any) -> Any:
            call = repr((args, sorted(kwargs.items())))
            asked[call] = asked.get(call, 0) + 1
            if asked[call] == 4:
                self.cache.forget(cached, *args, **kwargs)
            return cached(*args, **kwargs)

        ask.question = cached.question  # type: ignore[attr-defined]
        ask.__wrapped__ = cached  # type: ignore[attr-defined]
        return ask
