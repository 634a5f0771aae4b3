"""A probe: one pitfall, tried on a cache by what it does, never by its names or its source."""

from __future__ import annotations

import os
import re
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, wait
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from labkit.audit.adapter import Adapter, DoesNotApply
from labkit.audit.site import Site

TTL = 3_600  # seconds
PATIENCE = 4.0  # seconds that a call gets: less than the 5 that redis-py waits by default
BUSY = 2.0  # processes a core that run or want to: `make test` has no more
MOST_PATIENCE = 30.0  # times as much: what hangs for good is found out all the same
PASS, FAIL, NOT_APPLICABLE = "pass", "fail", "does not apply"


def busy() -> float:
    """Return how many times as long all may take on this machine: 1, or more if it is very busy.

    So that thirty learners at once on a few cores do not see a sound cache fail for want of time.
    """
    try:
        waiting = os.getloadavg()[0] / (os.cpu_count() or 1)
    except OSError:  # not to be known here
        return 1.0
    return min(MOST_PATIENCE, max(1.0, waiting / BUSY))


def patience() -> float:
    """Return how many seconds a call gets that cannot be waiting for Redis."""
    return PATIENCE * busy()


class Failed(Exception):
    """A cache has fallen into a pitfall. The message is the evidence."""


@dataclass(frozen=True)
class Row:
    """What a probe has come to.

    Attributes:
        probe: its name, for `--json`.
        title: what holds if it passes.
        lesson: which lesson explains it, such as "04".
        outcome: `PASS`, `FAIL` or `NOT_APPLICABLE`.
        evidence: what the run has shown, in a line; the same in each run.
    """

    probe: str
    title: str
    lesson: str
    outcome: str
    evidence: str


@dataclass(frozen=True)
class Probe:
    """One pitfall.

    Attributes:
        name: of the function that tries it.
        title: what holds if it passes.
        lesson: which lesson explains it.
        run: tries it; returns the evidence, or raises `Failed` or `DoesNotApply` with it.
        in_context: whether it runs inside the application's context.
    """

    name: str
    title: str
    lesson: str
    run: Callable[[Trial], str]
    in_context: bool = True

    def row(self, outcome: str, evidence: str) -> Row:
        """Return its row on the scoreboard."""
        return Row(self.name, self.title, self.lesson, outcome, evidence)


PROBES: dict[str, Probe] = {}


def probe(
    lesson: str, title: str, in_context: bool = True
) -> Callable[[Callable[[Trial], str]], Callable[[Trial], str]]:
    """Return a decorator that adds a function to the probes.

    Args:
        lesson: which lesson explains the pitfall.
        title: what holds if the probe passes.
        in_context: as of `Probe`.
    """

    def add(run: Callable[[Trial], str]) -> Callable[[Trial], str]:
        name = run.__name__
        assert name not in PROBES
        PROBES[name] = Probe(name, title, lesson, run, in_context)
        return run

    return add


class Trial:
    """A cache that was opened on a site of its own, for one probe.

    Attributes:
        site: the shop and its Redis.
        cache: the adapter.
        open: opens the cache once more, such as in another process.
        in_context: whether the probe runs inside the application's context.
    """

    def __init__(
        self, site: Site, open_cache: Callable[[Any], Adapter], in_context: bool = True
    ) -> None:
        self.site = site
        self.in_context = in_context
        self.open = open_cache
        self.cache = open_cache(site.place)

    def anew(self) -> Trial:
        """Return the same with the cache opened once more, as another process does."""
        return Trial(self.site, self.open, self.in_context)

    def cached(self, function: Callable[..., Any], ttl: int = TTL) -> Callable[..., Any]:
        """Return a function with the cache before it."""
        return self.cache.wrap(function, ttl)

    def from_redis(self, function: Callable[..., Any], *args: Any) -> Callable[..., Any]:
        """Return a function with the cache before it, which asks Redis for what is stored there.

        A cache that keeps answers in the process as well, and would answer from there, is opened
        anew for each call.

        Args:
            function: without the cache.
            args: of a call that may be made to find that out.

        Raises:
            DoesNotApply: nothing is stored in Redis, or nothing makes the cache ask for it.
        """
        ask = self.cached(function)
        if self._asks_redis(ask, *args):
            return ask

        def ask_anew(*args: Any) -> Any:
            return self.open(self.site.place).wrap(function, TTL)(*args)

        if not self._asks_redis(ask_anew, *args):
            raise DoesNotApply("it answers from the process's memory, whatever Redis holds")
        return ask_anew

    def _asks_redis(self, ask: Callable[..., Any], *args: Any) -> bool:
        ask(*args)
        self.stored()
        return bool(self.commands(lambda: ask(*args)))

    def invalidate(self, cached: Callable[..., Any], *args: Any) -> None:
        """Invalidate one entry; or all of the function's, where the cache can do no less."""
        try:
            self.cache.invalidate_one(cached, *args)
        except DoesNotApply:
            self.cache.invalidate_all(cached)

    def within(self, seconds: float, call: Callable[[], Any]) -> Any:
        """Return what a call returns, if it does so in time. It goes on in its thread otherwise.

        Raises:
            Failed: it does not.
        """
        return self.begin(call).result_within(seconds)

    def begin(self, call: Callable[[], Any]) -> Call:
        """Begin a call in a thread, with an application's context of its own where there is one."""
        return Call(call, self.site.app.app_context if self.in_context else nullcontext)

    def gate(self) -> Gate:
        """Have the next load stop once its SELECT has run, until the gate is opened."""
        return Gate(self.site)

    def selects(self, call: Callable[[], Any]) -> int:
        """Return how many SELECTs a call runs."""
        before = self.site.sql
        call()
        return self.site.sql - before

    def commands(self, call: Callable[[], Any]) -> Counter[str]:
        """Return how often Redis runs each command during a call, those within scripts as well."""
        before = self._commands_so_far()
        call()
        counts = self._commands_so_far() - before
        counts["INFO"] -= 1  # the look before it
        return +counts

    def _commands_so_far(self) -> Counter[str]:
        counts: Counter[str] = Counter()
        about: Any = self.site.client.info("commandstats")
        for name, each in about.items():
            counts[re.split(r"\W", name.removeprefix("cmdstat_"))[0].upper()] += each["calls"]
        return counts

    def stored(self) -> list[bytes]:
        """Return the keys that are in Redis.

        Raises:
            DoesNotApply: there is none, so that a row about Redis has nothing to look at.
        """
        found: Any = self.site.client.keys("*")
        if not found and (databases := self._databases()):
            self.site.client = self.site.server.client(databases[0])
            found = self.site.client.keys("*")
        if not found:
            raise DoesNotApply("it writes nothing to Redis")
        return sorted(found)

    def _databases(self) -> list[int]:
        """Return the numbers of the databases that hold keys: a cache may have one of its own."""
        about: Any = self.site.client.info("keyspace")
        return sorted(int(name.removeprefix("db")) for name in about)


def expect(holds: bool, evidence: str) -> str:
    """Return the evidence if it is in the cache's favour.

    Raises:
        Failed: it is not.
    """
    if not holds:
        raise Failed(evidence)
    return evidence


class Gate:
    """Stops one load between its SELECT and its return, while others pass."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._reached, self._opened = threading.Event(), threading.Event()
        site.after_load = self._stop

    def _stop(self) -> None:
        self._site.after_load = lambda: None
        self._reached.set()
        self._opened.wait(patience())

    def wait(self) -> None:
        """Wait until a load has come.

        Raises:
            Failed: none has.
        """
        if not self._reached.wait(patience()):
            raise Failed("the function was not called")

    def open(self) -> None:
        """Let it go on."""
        self._opened.set()


class Call:
    """A call that is under way in a thread."""

    def __init__(self, call: Callable[[], Any], context: Callable[[], Any]) -> None:
        self._future: Future[Any] = Future()
        self._call, self._context = call, context
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        with self._context():
            try:
                self._future.set_result(self._call())
            except BaseException as error:
                self._future.set_exception(error)

    def ended_within(self, seconds: float) -> bool:
        """Whether it has ended, also by an error, before so many seconds have passed."""
        return bool(wait([self._future], seconds).done)

    @property
    def error(self) -> BaseException | None:
        """What it has raised; None if nothing. It has ended."""
        return self._future.exception(0)

    def result_within(self, seconds: float) -> Any:
        """Return what it returns, or raise what it raises.

        Raises:
            Failed: it has not ended in time.
        """
        try:
            return self._future.result(seconds)
        except TimeoutError:
            if self._future.done():  # it has raised that itself
                raise
            raise Failed("no answer in time") from None


def judge(probe: Probe, trial: Callable[[], Trial]) -> Row:
    """Run a probe and return its row. Whatever a cache raises, it has failed with."""
    try:
        return probe.row(PASS, one_line(probe.run(trial())))
    except Failed as error:
        return probe.row(FAIL, one_line(str(error)))
    except DoesNotApply as error:
        return probe.row(NOT_APPLICABLE, one_line(str(error)))
    except Exception as error:
        return probe.row(FAIL, one_line(f"{type(error).__name__}: {error}"))


def one_line(text: str, longest: int = 90) -> str:
    """Return a text without what differs from run to run: addresses, ports and folders.

    What a terminal would obey, and XML cannot hold, is taken out as well.
    """
    text = "".join(each if each.isprintable() else "�" for each in " ".join(text.split()))
    text = re.sub(r"0x[0-9a-f]+", "0x…", text)
    text = re.sub(r"(127\.0\.0\.1|localhost):\d+", r"\1:…", text)
    text = re.sub(r"Error -?\d+ ", "Error … ", text)  # a system's own number for it
    text = re.sub(r"/\S*labkit-\S*", "…", text)
    return text if len(text) <= longest else text[: longest - 1] + "…"
