"""A QueryCache with an L1, and how a test waits until Redis' messages have arrived there."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from typing import Any

from labkit.cache import QueryCache
from labkit.cache.client import own_client
from labkit.cache.l1 import L1
from tests.caches import PATIENT
from tests.helpers import LONG, wait_until

# A proof counts for as long as a busy machine may take, where its end is not the subject.
NEAR: dict[str, Any] = PATIENT | {
    "l1_entries": 1_000, "l1_stale_ms": 600_000, "jitter": 0.0,
}  # fmt: skip


def l1_of(cache: QueryCache) -> L1:
    """Return a cache's L1."""
    l1 = cache._l1
    assert l1 is not None
    return l1


def is_on(cache: QueryCache) -> bool:
    """Wait until L1 answers; return whether it does."""
    return wait_until(lambda: l1_of(cache).is_trusted, LONG)


def hear(cache: QueryCache, client: Any) -> None:
    """Wait until everything that Redis has said so far has arrived at a cache's L1.

    Args:
        cache: whose.
        client: of its Redis. It changes a key that is watched, which is the last to be named.
    """
    assert _is_heard(cache, client), "Redis' messages do not arrive"


def _is_heard(cache: QueryCache, client: Any) -> bool:
    """Wait as `hear` does; return whether they have arrived, and L1 has not begun anew."""
    name = f"{cache.namespace}:v:heard:{uuid.uuid4()}"  # that no other process gives
    lost = cache.stats.l1_lost.total()
    client.set(name, "", px=60_000)
    wait_until(lambda: name in l1_of(cache)._named or cache.stats.l1_lost.total() > lost, LONG)
    return name in l1_of(cache)._named


class Report:
    """A cached function that counts its calls; what it answers can be changed.

    Attributes:
        answer: what the next call gives.
        calls: how often it was called.
    """

    def __init__(self, cache: QueryCache, answer: Any = "old", **options: Any) -> None:
        self.cache, self.answer, self.calls = cache, answer, 0
        given: dict[str, Any] = {"ttl": 60, "tags": ["users"], "name": "report"} | options

        @cache.query(**given)
        def report() -> Any:
            self.calls += 1
            return self.answer

        self.ask: Callable[[], Any] = report

    def warm(self, hears: bool = True) -> Any:
        """Ask until L1 has the answer, and no message is under way that takes it out; return it.

        Args:
            hears: whether Redis' messages arrive at all.
        """
        assert is_on(self.cache)
        answer = self._ask_until_l1_has_it()
        if hears:  # of its own fill, which may come after the next look
            deadline = time.monotonic() + LONG
            server = self.cache._opened()
            # As the cache's own client, which may wait for a short time only.
            client = own_client(server.given, LONG, server.names)
            while not _is_heard(self.cache, client):
                assert time.monotonic() < deadline, "Redis' messages do not arrive"
                self._ask_until_l1_has_it()
            client.close()
            answer = self._ask_until_l1_has_it()
        return answer

    def _ask_until_l1_has_it(self) -> Any:
        deadline, before = time.monotonic() + LONG, self.cache.stats.l1_hits
        answer = self.ask()
        while self.cache.stats.l1_hits == before:
            assert time.monotonic() < deadline, "L1 keeps nothing"
            answer = self.ask()
        return answer
