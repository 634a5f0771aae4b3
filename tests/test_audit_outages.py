"""What the rows about contexts and outages tell apart, beyond the caches that fail each."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import pytest

from labkit.audit import PROBES, audit, guard
from labkit.audit.adapter import Adapter
from labkit.audit.adapters.query_cache import QueryCacheAdapter
from labkit.audit.probes import outages
from labkit.audit.site import Place
from labkit.cache import reads
from labkit.servers.redis import free_port


def evidence(adapter: Callable[..., Any], probe: str) -> tuple[str, str]:
    row = audit(adapter, probes=[PROBES[probe]]).rows[0]
    return row.outcome, row.evidence


class Remembers(Adapter):
    """A cache in memory."""

    def wrap(self, function: Callable[..., Any], ttl: int) -> Callable[..., Any]:
        known: dict[Any, Any] = {}

        def ask(*args: Any) -> Any:
            if args not in known:
                known[args] = function(*args)
            return known[args]

        return ask


class HidesWhatIsPending(QueryCacheAdapter):
    """It keeps no row that is not committed, and its writer gets the old one."""

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        reads.has_pending_writes = lambda session: False


class SaysSo(QueryCacheAdapter):
    """An invalidation that Redis does not take raises."""

    def __init__(self, place: Place) -> None:
        place.app.config["QUERY_CACHE_FAILED_INVALIDATION"] = "raise"
        super().__init__(place)


class NeverConnectsAgain(Remembers):
    """Once Redis has been away, each call raises."""

    def wrap(self, function: Callable[..., Any], ttl: int) -> Callable[..., Any]:
        connection = self.place.client()
        broken: list[Exception] = []

        def ask(*args: Any) -> Any:
            if broken:
                raise broken[0]
            try:
                connection.ping()
            except Exception as error:
                broken.append(error)
                raise
            return function(*args)

        return ask


def test_a_writer_that_gets_the_old_row_is_told_from_one_whose_row_gets_out() -> None:
    assert evidence(HidesWhatIsPending, "uncommitted_rows") == (
        "fail",
        "1 of 2 rows seen by their writer, 0 by others after the rollback",
    )
    assert evidence(Remembers, "uncommitted_rows") == (
        "fail",
        "1 of 2 rows seen by their writer, 1 by others after the rollback",
    )


def test_an_invalidation_that_raises_is_not_silent() -> None:
    assert evidence(SaysSo, "missed_invalidation") == ("pass", "frozen: it raises, down: it raises")


def test_a_cache_that_cannot_invalidate_cannot_lose_an_invalidation() -> None:
    assert evidence(Remembers, "missed_invalidation") == (
        "does not apply",
        "it cannot invalidate all entries of a function",
    )


def test_a_cache_that_raises_once_redis_is_back(monkeypatch) -> None:
    monkeypatch.setattr(outages, "BACK_SECONDS", 0.2)

    assert evidence(NeverConnectsAgain, "redis_back") == (
        "fail",
        "Redis is back: ConnectionError after 0.2 s",
    )


def test_a_cache_without_a_client_for_a_cluster() -> None:
    assert evidence(Remembers, "cluster") == (
        "does not apply",
        "it has no client for a Cluster",
    )


def test_the_guard_trusts_one_thread_for_a_while(monkeypatch) -> None:
    monkeypatch.setattr(guard, "foreign", [])
    there = ("127.0.0.1", free_port())

    with socket.socket() as one:
        with guard.trusted():
            guard._hook("socket.connect", (one, there))
        with pytest.raises(guard.Elsewhere, match="is not the audit's Redis"):
            guard._hook("socket.connect", (one, there))

    assert guard.foreign == [f"127.0.0.1:{there[1]}"]
