"""The real code as actors: each stops before every Redis command, SQL statement and COMMIT.

`explore` runs actors that are generators. Code that is none of its own runs in a greenlet here, and
gives the baton back wherever another process could come between. What it does then is real: its own
Redis client, its own session, the server's own Lua.

`explore_states` runs the same schedules as `explore`, and where two of them have led to the same
state it goes on from one of them only. It counts every schedule all the same.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from greenlet import GreenletExit, getcurrent, greenlet
from sqlalchemy import Engine, event

from labkit import Lab
from labkit.cache import loading
from labkit.concurrency.schedule import Actor, Check, _on_one_cpu, _Stage

TOKEN = re.compile(r"[0-9a-f]{16}")
DEADLINE = re.compile(r"(!t\d+):\d+")
DUMP = """
local found = {}
for _, key in ipairs(redis.call('KEYS', '*')) do
    if not key:find(':statistics:', 1, true) then
        found[#found + 1] = {key, redis.call('GET', key), redis.call('PTTL', key)}
    end
end
return found
"""


class Runner(greenlet):  # type: ignore[misc]
    """Code that runs until its next stop.

    Attributes:
        name: the actor's.
        seen: what it has seen so far, in order. It decides what it does next.
    """

    def __init__(self, name: str, run: Callable[[], object], seen: list[str]) -> None:
        super().__init__(run)
        self.name, self.seen = name, seen
        self.ends = False
        self.slept = 0
        self.asks_again = False  # and to hear the same again changes nothing


def stop() -> Runner | None:
    """Give the baton back until this actor's next step. Whoever is no actor does not stop."""
    runner = getcurrent()
    if not isinstance(runner, Runner):
        return None
    if not runner.ends:
        runner.parent.switch()
    return runner


def see(what: str) -> None:
    """Note what an actor has learnt in this step."""
    runner = getcurrent()
    if isinstance(runner, Runner):
        if not runner.asks_again or runner.seen[-1:] != [what]:
            runner.seen.append(what)
        runner.asks_again = False


def stopping(call: Callable[..., Any], name: str = "") -> Callable[..., Any]:
    """Return a function that stops before it calls another, and notes what that returns.

    Args:
        call: what sends something.
        name: of what is sent; without it, the first argument.
    """

    def stop_and_call(*args: Any, **options: Any) -> Any:
        if stop() is None:
            return call(*args, **options)
        answer = call(*args, **options)
        see(f"{name or args[0]} {answer}")
        return answer

    return stop_and_call


def stop_at_commands(client: Any) -> None:
    """Have a Redis client stop before each command."""
    client.mget = stopping(client.mget, "MGET")
    client.execute_command = stopping(client.execute_command)


def stop_at_statements(engine: Engine, which: Callable[[str], bool]) -> None:
    """Have an engine stop before each COMMIT, and before each statement that is asked for."""
    dialect: Any = engine.dialect
    assert not hasattr(dialect, "labkit_listens"), "a writer's mark must come before this stop"
    dialect.do_commit = stopping(dialect.do_commit, "COMMIT")

    @event.listens_for(engine, "before_cursor_execute")
    def _stop(_: Any, __: Any, sql: str, *___: Any) -> None:
        if which(sql):
            stop()
        see(sql.split()[0])


def clock(polls: float) -> Any:
    """Return what stands for the module `time`: after so many sleeps nobody waits any longer."""

    def sleep(_: float) -> None:
        runner = getcurrent()
        assert isinstance(runner, Runner)
        if runner.ends:
            raise GreenletExit
        runner.slept += 1
        if polls < math.inf:
            see(f"has slept {runner.slept}")
        runner.asks_again = True

    def monotonic() -> float:
        return 1e9 * (getattr(getcurrent(), "slept", 0) >= polls)

    return SimpleNamespace(sleep=sleep, monotonic=monotonic)


def stop_in_flights(patch: pytest.MonkeyPatch, polls: float) -> None:
    """Have threads of one process stop where they meet: when one joins a flight, waits, or lands.

    Args:
        patch: undoes it.
        polls: how often who waits looks again, before time is up.
    """

    class Flight(Future[Any]):
        leader = ""

        def result(self, timeout: float | None = None) -> Any:
            runner = getcurrent()
            if not self.done():
                see(f"waits for {self.leader}")
            while not self.done() and isinstance(runner, Runner):
                if runner.ends:
                    raise GreenletExit
                if runner.slept >= polls:
                    raise TimeoutError
                runner.slept += 1
                stop()
                if self.done() or polls < math.inf:
                    see("has waited")
            return super().result(timeout)

    def settle(flight: Any, load: Callable[[], Any]) -> None:
        flight.leader = getattr(getcurrent(), "name", "")
        see("leads")
        own_settle(flight, load)
        stop()
        see("has settled")

    def do(flights: Any, key: str, *args: Any, **kwargs: Any) -> Any:
        stop()
        see("joins")
        return own_do(flights, key, *args, **kwargs)

    own_settle, own_do = loading.settle, loading.SingleFlight.do
    patch.setattr(loading, "Future", Flight)
    patch.setattr(loading, "settle", settle)
    patch.setattr(loading.SingleFlight, "do", do)


@dataclass
class World:
    """The actors of one schedule, and what they have seen.

    Attributes:
        seen: for each actor, what it has seen.
    """

    seen: dict[str, list[str]] = field(default_factory=dict)
    _processes: dict[str, str] = field(default_factory=dict)
    _writers: set[str] = field(default_factory=set)

    def reset(self) -> None:
        self.seen.clear()

    def to_come(self, alive: Collection[str]) -> list[tuple[str, list[str]]]:
        """Return what decides all that is to come: what each process has seen that still runs.

        What a writer has done stays in the database, though it has ended or crashed.
        """
        running = {self._processes[name] for name in self._writers.union(alive)}
        return sorted(
            (name, seen) for name, seen in self.seen.items() if self._processes[name] in running
        )

    def actor(
        self, name: str, run: Callable[[], object], process: str = "", writes: bool = False
    ) -> Actor:
        """Return an actor for `explore`.

        Args:
            name: its name.
            run: what it runs.
            process: which process it is in; by default it has one of its own.
            writes: whether it writes to the database.
        """
        self._processes[name] = process or name
        if writes:
            self._writers.add(name)

        def steps() -> Iterator[None]:
            seen = self.seen.setdefault(name, [])
            runner = Runner(name, run, seen)
            try:
                runner.switch()  # to its first stop
                while not runner.dead:
                    runner.switch()
                    if runner.dead:
                        return
                    yield
            finally:
                runner.ends = True  # after the check: it ends, and what it leaves is swept away
                while not runner.dead:
                    runner.switch()

        return steps  # type: ignore[return-value]


@dataclass
class States:
    """What came of running every schedule, each from where it differs.

    Attributes:
        next: for each state, the state after each possible step.
        problems: why it is stale, or "", for each state in which all actors have ended.
        kinds: of which keys some were seen with a TTL, and of which without.
        runs: how many schedules were run, in whole or in part.
    """

    next: list[dict[str, int]] = field(default_factory=list)
    problems: dict[int, str] = field(default_factory=dict)
    kinds: Counter[tuple[str, bool]] = field(default_factory=Counter)
    runs: int = 0

    @property
    def schedules(self) -> int:
        """How many schedules there are."""
        return self._paths(lambda problem: True)

    @property
    def stale(self) -> int:
        """How many of them end stale."""
        return self._paths(bool)

    def _paths(self, counts: Callable[[str], bool]) -> int:
        paths: dict[int, int] = {}
        under_way: set[int] = set()
        todo = [0]
        while todo:
            state = todo[-1]
            if state in paths:
                todo.pop()
            elif state in self.problems:
                paths[state] = int(counts(self.problems[state]))
            elif state in under_way:
                paths[state] = sum(paths[each] for each in self.next[state].values())
            else:
                under_way.add(state)
                after = [each for each in self.next[state].values() if each not in paths]
                assert under_way.isdisjoint(after), "a schedule without an end"
                todo += after
        return paths[0]

    def __str__(self) -> str:
        return (
            f"{self.schedules:,} schedules, {self.stale:,} end stale "
            f"({len(self.next):,} states, {self.runs:,} runs)"
        )


def explore_states(
    actors: Mapping[str, Actor],
    check: Check,
    *,
    lab: Lab,
    world: World,
    reset: Callable[[], object],
    crash: Collection[str] = (),
    evict: Collection[str] = (),
    stop_at_first: bool = False,
) -> States:
    """Run every interleaving, as `explore` does, and each state's future once.

    A state is what Redis holds, what each process has seen that has not ended, who is alive, and
    what may still be evicted. What is committed follows from what writers have seen. Random tokens
    are named in the order in which they come: nothing depends on their letters.
    """
    stage = _Stage(actors, check, lab, reset, {}, frozenset(crash), tuple(evict))
    dump = lab.redis.register_script(DUMP)
    found = States()
    numbers: dict[str, int] = {}

    def number_of(play: Any) -> tuple[int, bool]:
        keys = sorted(dump())
        found.kinds.update({(_kind(key), ttl >= 0) for key, _, ttl in keys})
        held = [(key, value) for key, value, _ in keys]
        text = f"{play._alive} {play._evictable} {held} {world.to_come(play._alive)}"
        names: dict[str, str] = {}
        text = TOKEN.sub(lambda token: names.setdefault(token[0], f"t{len(names)}"), text)
        text = DEADLINE.sub(r"\1", text)
        is_new = text not in numbers
        number = numbers.setdefault(text, len(numbers))
        if is_new:
            found.next.append({})
        return number, is_new

    todo: list[tuple[int, list[str]]] = [(-1, [])]
    with _on_one_cpu(lab.server.pid):
        while todo and not (stop_at_first and any(found.problems.values())):
            before, way = todo.pop()
            play = stage._begin()
            found.runs += 1
            for token in way:
                play.take(token)
            while True:
                state, is_new = number_of(play)
                if before >= 0:
                    found.next[before][way[-1]] = state
                if not is_new:
                    break
                choices = play.choices()
                if not choices:
                    found.problems[state] = check() or ""
                    break
                todo += [(state, [*way, other]) for other in choices[1:]]
                before, way = state, [*way, choices[0]]
                play.take(choices[0])
            play.close()
    return found


def _kind(key: bytes) -> str:
    return key.decode().partition(":")[0]
