"""What is wrong with the time to live."""

from __future__ import annotations

from typing import Any

import redis

from labkit.audit.adapters.query_cache import QueryCacheAdapter
from labkit.audit.site import Place
from labkit.cache import tokens
from tests.broken import fails


@fails("ttl_on_what_grows")
class KeepsALog(QueryCacheAdapter):
    """The key of each entry is kept in a set, which nobody ever empties."""

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        fill, name = tokens.fill, f"{self.cache.namespace}:filled"

        def fill_and_log(client: redis.Redis, key: str, *args: Any) -> bool:
            client.sadd(name, key)
            return fill(client, key, *args)

        tokens.fill = fill_and_log  # type: ignore[assignment]


@fails("jitter")
class ExactTtl(QueryCacheAdapter):
    """Each entry lives exactly as long as was said."""

    def __init__(self, place: Place) -> None:
        place.app.config["QUERY_CACHE_JITTER"] = 0.0
        super().__init__(place)
