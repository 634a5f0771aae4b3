"""functools.lru_cache, as the audit sees it."""

from __future__ import annotations

import functools
import platform
from collections.abc import Callable
from typing import Any

from labkit.audit.adapter import Adapter


class LruCache(Adapter):
    """A dictionary in each process, without a time to live.

    It is used as `@lru_cache`, which keeps the 128 latest calls; `cache_clear` is all that it has
    for invalidation. (https://docs.python.org/3/library/functools.html#functools.lru_cache)
    """

    name = f"lru_cache {'.'.join(platform.python_version_tuple()[:2])}"

    def wrap(self, function: Callable[..., Any], ttl: int) -> Callable[..., Any]:
        """Decorate a function. It does not know what a time to live is."""
        return functools.lru_cache(function)

    def invalidate_all(self, cached: Callable[..., Any]) -> None:
        """Clear the function's dictionary, in this process."""
        cached.cache_clear()  # type: ignore[attr-defined]
