"""Every interleaving of a few actors, run for real, replayed and drawn.

A race is a matter of order. Rather than hope that threads meet in the bad order, `explore` runs the
actors in *every* order, one step at a time, in one thread, against the real Redis and the real
database. What it finds happens again whenever it is replayed. Systematic testing of this kind goes
back to Godefroid's VeriSoft (1997, https://doi.org/10.1145/263699.263717).

A schedule is written as the steps in their order: `R1 W1 W2 R2` is the reader's first step, both
of the writer's, then the reader's second. `W!` is the crash of the writer, `~key` the eviction of
a key. Where a name ends in a digit, a point comes before the number: `R1.1 R2.1 R1.2`.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Collection, Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from labkit.errors import LabError
from labkit.lab import Lab
from labkit.measure.plots.schedules import draw_run

Actor = Callable[[], Generator[None, None, None]]
Check = Callable[[], str | None]

CRASH = "!"
EVICTION = "~"
NAME = re.compile(r"(?!~)[^\s!]*[^\s!.]")  # of an actor


@dataclass(frozen=True)
class Step:
    """One step of a replayed schedule.

    Attributes:
        token: how a schedule names it, such as "R1", "W!" or "~key".
        label: what it did: Redis commands and the first words of SQL statements.
        lanes: what each lane showed after it.
    """

    token: str
    label: str
    lanes: Mapping[str, Any]

    @property
    def actor(self) -> str:
        """Who took it, by name; "eviction" for a key's."""
        return _actor(self.token)


@dataclass(frozen=True)
class Run:
    """One schedule, run to its end.

    Attributes:
        schedule: the tokens of its steps, with spaces between.
        problem: why it ends stale, in words; empty if it does not.
        steps: each step with what it did; filled in by a replay only.
    """

    schedule: str
    problem: str
    steps: tuple[Step, ...] = field(default=(), repr=False)

    def plot(self) -> None:
        """Draw a replayed run as lanes in time: what the lanes showed, and each actor's steps."""
        lanes = self.steps[0].lanes if self.steps else {}
        draw_run(
            tokens=[step.token for step in self.steps],
            actors=[step.actor for step in self.steps],
            labels=[step.label for step in self.steps],
            lanes={name: [step.lanes[name] for step in self.steps] for name in lanes},
            problem=self.problem,
        )


@dataclass(frozen=True)
class Exploration:
    """What came of running every schedule.

    Attributes:
        schedules: how many there are.
        stale: those that end stale, in the order in which they were found.
    """

    schedules: int
    stale: list[Run]
    _stage: _Stage = field(repr=False)

    def replay(self, schedule: str) -> Run:
        """Run one schedule again, on a fresh state, and look at the lanes after each step.

        Raises:
            LabError: the schedule has a step that is not possible where it stands.
        """
        return self._stage.replay(schedule.split())

    def plot(self, schedule: str | None = None) -> None:
        """Draw a schedule; by default the shortest that ends stale.

        Raises:
            LabError: the schedule is not possible, or none was given and none ends stale.
        """
        if schedule is None:
            if not self.stale:
                raise LabError("no schedule ends stale. Name the one to draw: plot('R1 W1 ...').")
            schedule = min((run.schedule for run in self.stale), key=lambda text: text.count(" "))
        self.replay(schedule).plot()

    def __str__(self) -> str:
        return f"{self.schedules:,} schedules, {len(self.stale):,} end stale"


def explore(
    actors: Mapping[str, Actor],
    check: Check,
    *,
    lab: Lab,
    reset: Callable[[], object] = lambda: None,
    lanes: Mapping[str, Callable[[], object]] | None = None,
    crash: Collection[str] = (),
    evict: Collection[str] = (),
    stop_at_first: bool = False,
) -> Exploration:
    """Run every interleaving of the actors, each on a fresh state, and keep those that end stale.

    Args:
        actors: generator functions by a short name. Each yields between its operations on Redis
            and the database; what it does between two yields is one step.
        check: called when all actors have ended. It says in words what is stale, or None.
        lab: its Redis is emptied before each schedule.
        reset: makes the database's state fresh.
        lanes: what a drawing shows beside the actors, by name: first the truth (the database row),
            then what is held against it (the cache entry).
        crash: names of actors that may crash: take no further step, after any of their steps.
        evict: Redis keys that may be evicted, once, before any step.
        stop_at_first: whether the first stale schedule is enough.

    Raises:
        LabError: no actors, a name that a schedule cannot show, or a crash of an actor that is not
            among them.
    """
    if isinstance(crash, str) and crash in actors:  # not each of its letters
        crash = [crash]
    if not actors or not set(crash) <= set(actors):
        raise LabError(f"explore needs actors, and can only crash those: {', '.join(actors)}.")
    for name in actors:
        if not NAME.fullmatch(name):
            raise LabError(
                f"{name!r} cannot be an actor's name: a schedule could not show it.\n"
                'Choose a short one, such as "R" or "R1".'
            )
    stage = _Stage(actors, check, lab, reset, lanes or {}, frozenset(crash), tuple(evict))
    stale: list[Run] = []
    schedules = 0
    unexplored: list[list[str]] = [[]]  # how schedules begin that have not been run yet
    with _on_one_cpu(lab.server.pid):
        while unexplored:
            beginning = unexplored.pop()
            run, alternatives = stage.run(beginning)
            unexplored += alternatives
            schedules += 1
            if run.problem:
                stale.append(run)
                if stop_at_first:
                    break
    return Exploration(schedules, stale, stage)


@contextmanager
def _on_one_cpu(server: int | None) -> Iterator[None]:
    """Keep this thread and the server, by its pid, on one CPU for the length of the `with` block.

    They take turns, so neither waits for the other; and to wake a second CPU at each turn is what
    takes most of the time on a virtual machine. Where it cannot be done, all stays as it is.
    """
    before: dict[int, set[int]] = {}
    if sys.platform == "linux" and server is not None:
        allowed = sorted(os.sched_getaffinity(0))
        one = {allowed[server % len(allowed)]}  # another for each of those who share a machine
        with suppress(OSError):  # a system may forbid it
            for process in (0, server):
                before[process] = os.sched_getaffinity(process)
                os.sched_setaffinity(process, one)
    try:
        yield
    finally:
        for process, cpus in before.items():
            with suppress(OSError):  # the server may have ended
                os.sched_setaffinity(process, cpus)


@dataclass(frozen=True)
class _Stage:
    """Where schedules are run."""

    actors: Mapping[str, Actor]
    check: Check
    lab: Lab
    reset: Callable[[], object]
    lanes: Mapping[str, Callable[[], object]]
    crash: frozenset[str]
    evict: tuple[str, ...]

    def run(self, beginning: list[str]) -> tuple[Run, list[list[str]]]:
        """Run the schedule that begins so and then always takes the first step there is.

        Returns:
            The run, and how each schedule begins that leaves it after `beginning`.
        """
        play = self._begin()
        taken: list[str] = []
        alternatives: list[list[str]] = []
        while choices := play.choices():
            if len(taken) < len(beginning):
                token = beginning[len(taken)]
            else:
                token = choices[0]
                alternatives += [[*taken, other] for other in choices[1:]]
            play.take(token)
            taken.append(token)
        problem = self.check() or ""
        play.close()
        return Run(" ".join(taken), problem), alternatives

    def replay(self, tokens: list[str]) -> Run:
        play = self._begin()
        steps: list[Step] = []
        for token in tokens:
            if token not in play.choices():
                play.close()
                raise LabError(
                    f"{token!r} is not possible in {' '.join(tokens)!r} after {len(steps)} steps.\n"
                    f"Possible there: {', '.join(play.choices()) or 'nothing, all have ended'}."
                )
            with self.lab.observe(show=False) as seen:
                play.take(token)
            words = seen.redis + [text.split()[0].upper() for text in seen.statements]
            shown = {name: look() for name, look in self.lanes.items()}
            steps.append(Step(token, ", ".join(words), shown))
        problem = self.check() or ""
        play.close()
        return Run(" ".join(tokens), problem, tuple(steps))

    def _begin(self) -> _Play:
        self.lab.redis.flushdb()
        self.reset()
        return _Play(self)


def _step(name: str, number: int) -> str:
    """Return the token of an actor's step: no other actor's is the same."""
    return f"{name}.{number}" if name[-1].isdigit() else f"{name}{number}"


def _actor(token: str) -> str:
    """Return whose step a token is."""
    if token.startswith(EVICTION):
        return "eviction"
    if token.endswith(CRASH):
        return token.removesuffix(CRASH)
    return re.sub(r"\.?[0-9]+$", "", token)


class _Play:
    """One schedule under way: which actor stands where."""

    def __init__(self, stage: _Stage) -> None:
        self._stage = stage
        self._started = {name: actor() for name, actor in stage.actors.items()}
        self._steps = dict.fromkeys(stage.actors, 0)
        self._alive = list(stage.actors)
        self._evictable = list(stage.evict)

    def choices(self) -> list[str]:
        """Return the tokens of all that can come next; none once every actor has ended."""
        if not self._alive:
            return []
        steps = [_step(name, self._steps[name] + 1) for name in self._alive]
        crashes = [
            name + CRASH
            for name in self._alive
            if name in self._stage.crash and self._steps[name] > 0
        ]
        return steps + crashes + [EVICTION + key for key in self._evictable]

    def take(self, token: str) -> None:
        """Do what a token says."""
        if token.startswith(EVICTION):
            key = token.removeprefix(EVICTION)
            self._evictable.remove(key)
            self._stage.lab.redis.delete(key)
        elif token.endswith(CRASH):
            self._alive.remove(_actor(token))
        else:
            name = _actor(token)
            self._steps[name] += 1
            try:
                next(self._started[name])
            except StopIteration:
                self._alive.remove(name)

    def close(self) -> None:
        """Let go of every actor; what a crashed one had open is rolled back only now."""
        for actor in self._started.values():
            actor.close()
