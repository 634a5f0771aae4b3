"""Adapters for the caches that the audit compares.

Each is set up as its library's own documentation shows it, with what that documentation advises for
a site like the audit's: several threads and processes, and answers of any type. The libraries are
in the extra `labkit[lab]`.
"""

from __future__ import annotations

import importlib
from importlib import metadata

from labkit.audit.adapter import Adapter

NAMES = (
    "article:Article",
    "lru_cache:LruCache",
    "cachelib:CacheLib",
    "flask_caching:FlaskCaching",
    "dogpile:Dogpile",
    "cashews:Cashews",
    "query_cache:QueryCacheAdapter",
    "query_cache:QueryCacheL1Adapter",
)


def every_adapter() -> list[type[Adapter]]:
    """Return the adapters of all caches that are compared, from the simplest to QueryCache.

    Raises:
        ModuleNotFoundError: a library is not installed.
    """
    return [_adapter(*name.split(":")) for name in NAMES]


def _adapter(module: str, name: str) -> type[Adapter]:
    found: type[Adapter] = getattr(importlib.import_module(f"{__name__}.{module}"), name)
    return found


def with_version(distribution: str) -> str:
    """Return a library's name and the version that is installed."""
    return f"{distribution} {metadata.version(distribution)}"
