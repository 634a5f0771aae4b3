"""Caches that are broken on purpose: one for each probe, which fails that probe and no other.

Each is QueryCache with one thing put wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from labkit.audit import PROBES, Adapter

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


from tests.broken import (  # noqa: E402
    contexts,  # noqa: F401
    copies,  # noqa: F401
    invalidation,  # noqa: F401
    keys,  # noqa: F401
    outages,  # noqa: F401
    races,  # noqa: F401
    ttl,  # noqa: F401
    values,  # noqa: F401
)
