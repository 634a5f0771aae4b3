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


from tests.broken import contexts, invalidation, outages, races, ttl, values  # noqa: E402, F401
