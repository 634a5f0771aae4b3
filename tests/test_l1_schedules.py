"""No stale answer of L1 once its message has come, and in the process that writes never.

As in `test_query_cache_schedules`, whose scene this is, the real code runs step by step. Here a
step is also a look into L1, what is put into it, either end of a writer's telling, and the delivery
of what Redis has said: by the real connection that is tracked, which has no thread here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Engine

from labkit.cache import QueryCache, watch_writes
from labkit.cache.client import own_client
from labkit.cache.codec import loads
from labkit.cache.invalidation import Writes
from labkit.cache.l1 import L1
from labkit.cache.tracking import Stream, Tracking
from labkit.concurrency.schedule import explore
from tests.nearby import l1_of
from tests.stepped import States, World, see, stop, stop_at_commands, stopping
from tests.test_query_cache_schedules import (
    NONE,
    Faults,
    Scenario,
    Shop,
    assert_none_ends_stale,
    cases,
    scenario,
    sqlite,
    whole,
)

__all__ = ["sqlite"]  # the fixture


class NearWorld(World):
    """What decides what comes, with L1 and what is under way to it.

    Attributes:
        scenario: whose L1 it is.
    """

    scenario: NearScenario

    def to_come(self, alive: Any) -> list[tuple[str, list[str]]]:
        return [*super().to_come(alive), ("L1", [self.scenario.describe()])]


class NearScenario(Scenario):
    """Readers with one L1, a writer, and the delivery of messages, `P`.

    Args:
        shop: what they read and write.
        readers: a letter for each.
        writers: a letter for each.
        full: whether L1 has the entry at the beginning, where Redis has it.
        own: whether the writer is a thread of the readers' process, to which no message comes.
        asks: how often each reader asks.
        deliveries: how often messages arrive before the end.
        settings: of each cache.
    """

    def __init__(
        self,
        shop: Shop,
        readers: str,
        writers: str,
        full: bool = True,
        own: bool = False,
        asks: int = 2,
        deliveries: int = 1,
        **settings: Any,
    ) -> None:
        self.full = full
        self.own, self.under_way, self.wrong = own, set[str](), list[str]()
        self.acknowledged = self.heard = False
        super().__init__(shop, "", writers, **settings)
        shop.world = world = NearWorld()
        world.scenario = self
        self.near, report = self.reader(l1_entries=10)
        stop_at_commands(self.near._opened()._client)
        self.client = self.near._opened()._client
        self.stop_at_looks(self.client)
        self.follow(self.client)
        self.stop_in(l1_of(self.near))
        self.actors = {
            name: world.actor(name, self.ending(self.asking(report, asks)), "near")
            for name in readers
        }
        if own:  # its writes are the readers' cache's own
            self.writing.close()
            self.near._stop_watching = watch_writes(Engine, Writes(self.near))
            self.writing = self.near
        else:
            self.follow(self.writing._opened()._client)
        for number, name in enumerate(writers, 1):
            self.actors[name] = world.actor(
                name, self.ending(self.acknowledging(self.writer(number))), writes=True
            )
        if not own:
            self.actors["P"] = world.actor("P", lambda: self.deliver_often(deliveries))

    def reader(self, **more: Any) -> Any:
        settings, self.settings = self.settings, self.settings | more
        try:
            return super().reader()
        finally:
            self.settings = settings

    def cache(self) -> QueryCache:
        cache = super().cache()
        if cache._l1 is not None:
            cache.close = lambda: cache._stop_watching()  # type: ignore[method-assign]
            tracking: Any = cache._tracking
            client = own_client(self.shop.client, 60, cache._opened().names, protocol=3)
            self.stream = tracking._stream = Stream(
                client, cache._opened().names, tracking._prefixes, cache._l1
            )
        return cache

    def close(self) -> None:
        self.writing.close()
        self.near._stop_watching()
        self.stream.close()

    def stop_at_looks(self, client: Any) -> None:
        """Have a client stop before it looks closely. How much of a TTL is left is no state."""
        own_look = client.mget_and_pttl

        def mget_and_pttl(*keys: str) -> Any:
            stop()
            values, left, run_id = own_look(*keys)
            see(f"MGET {values}")
            stop()  # the answer is on its way
            see("has it")
            return values, left, run_id

        client.mget_and_pttl = mget_and_pttl

    def stop_in(self, l1: Any) -> None:
        """Have who uses L1 stop wherever another thread could come between."""
        own_writing = l1.writing

        @contextmanager
        def writing(names: Any) -> Iterator[None]:
            stop()
            with own_writing(names):
                try:
                    yield
                finally:
                    stop()
            see("has told")

        own_begin = l1.begin

        def begin() -> Any:
            begun = own_begin()
            see(f"begins at {begun.moment - self.began}")
            return begun

        l1.begin = begin
        l1.get, l1.put, l1.writing = stopping(l1.get, "L1"), stopping(l1.put, "put"), writing

    def follow(self, client: Any) -> None:
        """Note of which keys messages are under way."""
        execute = client.execute_command

        def execute_and_note(*command: Any, **options: Any) -> Any:
            answer = execute(*command, **options)
            if command[0] == "EVAL":
                self.under_way.update(map(str, command[3 : 3 + command[2]]))
            return answer

        client.execute_command = execute_and_note

    def describe(self) -> str:
        l1 = l1_of(self.near)
        named = {name: moment - self.began for name, moment in l1._named.items()}
        since = (l1._moment - self.began, l1._unknown_before - self.began, l1._writers)
        entries = {key: (each.value, each.tags) for key, each in l1._entries.items()}
        flags = (self.acknowledged, self.heard)
        return f"{entries} {sorted(named.items())} {since} {sorted(self.under_way)} {flags}"

    # What the actors do.

    def deliver(self) -> None:
        """Have everything arrive that Redis has said."""
        acknowledged = self.acknowledged
        self.stream.beat()
        self.under_way.clear()
        self.heard = self.heard or acknowledged

    def deliver_often(self, times: int) -> None:
        for _ in range(times):
            stop()
            self.deliver()
            see(f"delivers, acknowledged: {self.acknowledged}")

    def asking(self, report: Callable[[], Any], asks: int) -> Callable[[], None]:
        def ask_and_judge() -> None:
            for _ in range(asks):
                knows = self.acknowledged if self.own else self.heard
                see(f"asks, knows: {knows}")
                answer = report()
                see(f"answer {answer}")
                if knows and answer != self.truth():
                    self.wrong.append(f"it knows of the write, and is given {answer}")

        return ask_and_judge

    def truth(self) -> list[list[Any]]:
        return self.shop.select(self.statement)

    def acknowledging(self, write: Callable[[], None]) -> Callable[[], None]:
        def write_and_say_so() -> None:
            write()
            self.acknowledged = True
            see("acknowledged")

        return write_and_say_so

    # The beginning and the end.

    def reset(self) -> None:
        super().reset()
        self.begin()

    def reset_warm(self) -> None:
        super().reset_warm()
        self.begin()
        question: Any = self.probe
        for _ in range(2 * self.full):
            self.near._answer(question.question, lambda _: self.key, _must_be_there)
        assert len(l1_of(self.near)) == self.full

    def begin(self) -> None:
        l1 = l1_of(self.near)
        self.stream.beat()
        l1.clear()
        l1._writers = 0
        l1.trust_until(float("inf"))
        self.began = l1._moment
        self.acknowledged = self.heard = False
        self.under_way.clear()
        self.wrong.clear()

    def check(self) -> str | None:
        if self.wrong:
            return self.wrong[0]
        if not self.own:
            self.deliver()
        question: Any = self.probe
        served = L1.get(l1_of(self.near), self.key, question.question.tags)
        self.kept += any("put True" in seen for seen in self.shop.world.seen.values())
        if served is not None and loads(served) != self.truth():
            return f"L1 serves {served!r}, the database has {self.truth()}"
        return super().check()

    kept = 0  # how many schedules, or states, end after something was put into L1


def _must_be_there() -> Any:
    raise AssertionError("it is not there")


@pytest.fixture(autouse=True)
def _no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tracking, "start", lambda self, wait=0: None)
    monkeypatch.setattr("tests.test_query_cache_schedules.Scenario", NearScenario)


def states(shop: Shop, faults: Faults, warm: bool, **options: Any) -> States:
    with scenario(shop, "R", "W", stops_at_writes=False, **options) as played:
        found = played.states(faults, warm)
        assert isinstance(played, NearScenario)
        assert played.kept > 0  # or nothing was put to the test
    return found


WARM = pytest.mark.parametrize("warm", [False, True], ids=["cold", "warm"])


def test_once_its_message_has_come_nothing_stale_is_answered(sqlite: Shop) -> None:
    assert_none_ends_stale(states(sqlite, NONE, True))


@pytest.mark.parametrize("marks", [True, False])
def test_in_the_process_that_writes_nothing_stale_is_answered(sqlite: Shop, marks: bool) -> None:
    """It has acknowledged the write, and no message ever comes."""
    assert_none_ends_stale(
        states(sqlite, NONE, True, own=True, full=False, asks=1, mark_writes=marks)
    )


def test_messages_may_come_one_by_one(sqlite: Shop) -> None:
    assert_none_ends_stale(states(sqlite, NONE, True, deliveries=3, mark_writes=False))


@whole
@WARM
@cases(NONE, Faults("W"))
def test_two_deliveries(sqlite: Shop, faults: Faults, warm: bool) -> None:
    assert_none_ends_stale(states(sqlite, faults, warm, deliveries=2))


@whole
@WARM
@pytest.mark.parametrize("marks", [True, False])
def test_in_the_process_that_writes_who_asks_twice(sqlite: Shop, warm: bool, marks: bool) -> None:
    assert_none_ends_stale(states(sqlite, NONE, warm, own=True, mark_writes=marks))


@whole
@WARM
@pytest.mark.parametrize("own", [True, False])
def test_two_readers(sqlite: Shop, own: bool, warm: bool) -> None:
    with scenario(sqlite, "RS", "W", stops_at_writes=False, own=own) as played:
        assert_none_ends_stale(played.states(NONE, warm))


def test_the_states_stand_for_each_schedule_that_explore_runs(sqlite: Shop) -> None:
    with scenario(sqlite, "R", "W", stops_at_writes=False, mark_writes=False) as played:
        found, one_by_one = played.states(NONE, True), played.explore(NONE, True)

    assert (one_by_one.schedules, len(one_by_one.stale)) == (found.schedules, 0)


def test_before_its_message_has_come_an_old_answer_is_given(sqlite: Shop) -> None:
    """What L1 costs (docs/query_cache.md): that it can be found here shows that it would be."""
    with scenario(sqlite, "R", "W", stops_at_writes=False, asks=1) as played:
        old: list[str] = []

        def check() -> None:
            answers = [each for each in sqlite.world.seen["R"] if each.startswith("answer")]
            at_once = "asks, knows: False" in sqlite.world.seen["R"]
            if at_once and answers == ["answer [[1, 'old']]"]:
                old.append(sqlite.world.seen["W"][-1])

        explore(played.actors, check, **played.how(NONE, True))

    assert "acknowledged" in old
