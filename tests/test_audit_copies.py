"""What the rows about copies tell apart, beyond the caches that fail each; and what they use."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
import redis

from labkit.audit import PROBES, DoesNotApply, audit
from labkit.audit.adapters.lru_cache import LruCache
from labkit.audit.adapters.query_cache import QueryCacheAdapter
from labkit.audit.crowd import Neighbour
from labkit.audit.probe import Failed
from labkit.audit.site import Site, opened
from labkit.servers.proxy import Proxy
from tests.broken import BROKEN
from tests.helpers import wait_until

COPIES = ("broken_connections", "silent_redis", "emptied_redis", "fork_listens")
BRIEF = 0.1  # seconds


class KeepsBriefly(QueryCacheAdapter):
    """Copies that hear of nothing, and end by themselves."""

    def wrap(self, function: Callable[..., Any], ttl: int) -> Callable[..., Any]:
        cached = super().wrap(function, ttl)
        copies: dict[Any, tuple[float, Any]] = {}

        @functools.wraps(cached)
        def ask(*args: Any) -> Any:
            end, answer = copies.get(args, (0.0, None))
            if time.monotonic() >= end:
                answer = cached(*args)
                copies[args] = time.monotonic() + BRIEF, answer
            return answer

        return ask


def rows_of(adapter: Any, *names: str) -> list[tuple[str, str]]:
    board = audit(adapter, probes=[PROBES[name] for name in names])
    return [(row.outcome, row.evidence) for row in board.rows]


def test_a_cache_that_hears_of_no_other_process_is_not_judged_once_more() -> None:
    deaf = ("does not apply", "no invalidation of another process reaches it")

    assert rows_of(LruCache, *COPIES) == [
        deaf, deaf, ("does not apply", "it writes nothing to Redis"), deaf,
    ]  # fmt: skip


def test_a_cache_that_no_forked_process_can_use_is_not_judged_once_more() -> None:
    [(outcome, evidence)] = rows_of(BROKEN["after_fork"], "fork_listens")

    assert outcome == "does not apply"
    assert evidence.startswith("a forked process cannot use it: RuntimeError: this connection")


def test_it_does_not_matter_how_a_copy_ends() -> None:
    assert rows_of(KeepsBriefly, *COPIES) == [
        ("pass", "0 of 9 calls get an old answer"),
        ("pass", "0 of 3 calls get an old answer"),
        ("pass", "3 of 3 answers are new"),
        ("pass", "3 of 3 answers in the child are new"),
    ]


# The proxy.


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with opened() as site:
        yield site


def over(proxy: Proxy) -> redis.Redis:
    return proxy.client(single_connection_client=True)


def test_what_is_held_up_arrives_never_once_the_connection_is_dropped(site: Site) -> None:
    with closing(Proxy(site.place.url)) as proxy, over(proxy) as client:
        connection = client.connection
        assert connection is not None
        client.set("key", "before")
        proxy.hold()
        connection.send_command("SET", "key", "after")
        assert wait_until(lambda: site.client.get("key") == b"after", 20)  # its answer is held
        assert not connection.can_read(timeout=0.05)
        proxy.drop()

        with pytest.raises(redis.ConnectionError):
            connection.read_response()
        with over(proxy) as later:
            assert later.get("key") == b"after"


# A process that acts when it is told to.


def test_a_neighbour_gets_ready_once_and_acts_each_time() -> None:
    def get_ready() -> Callable[[], int]:
        acts: list[str] = []

        def act() -> int:
            acts.append("one more")
            return len(acts)

        return act

    neighbour = Neighbour(get_ready)

    try:
        assert [neighbour.act(), neighbour.act()] == [1, 2]
    finally:
        neighbour.kill()


def test_a_neighbour_says_what_it_has_raised() -> None:
    def lacks() -> None:
        raise DoesNotApply("it lacks that")

    def crashes() -> Callable[[], None]:
        os._exit(3)

    with pytest.raises(DoesNotApply, match="it lacks that"):
        Neighbour(lambda: lacks).act()
    with pytest.raises(Failed, match="ZeroDivisionError: division by zero"):
        Neighbour(lambda: lambda: 1 / 0).act()
    with pytest.raises(Failed, match="a process crashed"):
        Neighbour(crashes)
