"""cashews, as the audit sees it: asyncio's, behind functions that are not."""

from __future__ import annotations

import asyncio
import functools
import os
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from cashews import Cache, get_cache_key_template
from cashews.key import get_cache_key

from labkit.audit.adapter import Adapter
from labkit.audit.adapters import with_version
from labkit.audit.site import Place

LOADS = 64  # that may wait at once
SECRET = "the audit's"
PREFIX = "shop"


class Cashews(Adapter):
    """A cache on Redis by URL, the simple strategy, and a tag for each function.

    The values are signed with a secret, as the documentation advises for pickle. Keys have a
    prefix; a tag is what it has for many keys. `lock=True` is not used: it would take a lock for
    each hit too, and within a process equal misses are one already.
    (https://github.com/Krukov/cashews#redis, and #cache-invalidation)

    Its loop runs in a thread, and a load in a thread of its own, so that the loop goes on. A forked
    process opens all of it anew, as a worker that asyncio runs in does.
    """

    name = with_version("cashews")
    cluster = True

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self._functions: list[tuple[Callable[..., Any], int]] = []
        self._open()
        os.register_at_fork(after_in_child=self._open)

    def _open(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._loop.set_default_executor(ThreadPoolExecutor(LOADS))
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self.cache = Cache()
        self.cache.setup(self.place.url, secret=SECRET, cluster=self.place.cluster)
        self._cached = [self._decorated(*each) for each in self._functions]

    def _decorated(self, function: Callable[..., Any], ttl: int) -> Callable[..., Awaitable[Any]]:
        @functools.wraps(function)
        async def load(*args: Any, **kwargs: Any) -> Any:
            return await asyncio.to_thread(function, *args, **kwargs)

        decorate = self.cache(ttl=ttl, prefix=PREFIX, tags=[tag(function)])
        cached: Callable[..., Awaitable[Any]] = decorate(load)
        return cached

    def _wait_for(self, awaited: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(awaited, self._loop).result()

    def wrap(self, function: Callable[..., Any], ttl: int) -> Callable[..., Any]:
        """Cache a function, and wait for its answer."""
        number = len(self._functions)
        self._functions.append((function, ttl))
        self._cached.append(self._decorated(function, ttl))

        @functools.wraps(function)
        def ask(*args: Any, **kwargs: Any) -> Any:
            async def answer() -> Any:
                return await self._cached[number](*args, **kwargs)

            return self._wait_for(answer())

        return ask

    def invalidate_one(self, cached: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """Delete one call's key."""
        template = get_cache_key_template(cached, prefix=PREFIX)
        self._wait_for(self.cache.delete(get_cache_key(cached, template, args, kwargs)))

    def invalidate_all(self, cached: Callable[..., Any]) -> None:
        """Delete the keys of the function's tag."""
        self._wait_for(self.cache.delete_tags(tag(cached)))

    def close(self) -> None:
        """Close its client, and end its loop."""
        self._wait_for(self.cache.close())
        self._loop.call_soon_threadsafe(self._loop.stop)


def tag(function: Callable[..., Any]) -> str:
    """Return a function's tag."""
    return f"{PREFIX}:{function.__module__}.{function.__qualname__}"
