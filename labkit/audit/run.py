"""Running probes: each in a process of its own, which is ended if it does not end by itself.

A process is forked for each probe, opens a Redis and a shop of its own, and the cache upon them. So
no probe sees what another has left, a cache may hang or crash, and what it starts ends with it, as
long as it stays in the probe's process group. If the audit itself is killed, a watchdog does that.
"""

from __future__ import annotations

import dataclasses
import json
import os
import selectors
import signal
import sys
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext, suppress
from functools import partial
from inspect import isawaitable
from typing import Any

from labkit.audit import guard
from labkit.audit.probe import FAIL, PROBES, Probe, Row, Trial, busy, judge, one_line
from labkit.audit.report import Scoreboard
from labkit.audit.site import opened, redis_program
from labkit.audit.target import NotAuditable, Target
from labkit.cache.query_cache import close_all
from labkit.errors import LabError
from labkit.servers.processes import fork

PROBE_SECONDS = 20.0  # that a probe may take: one, or four at the most, unless the machine is busy
AUDIT_SECONDS = 120.0  # that all of them may take: some 15, unless the machine is busy
AT_ONCE = max(2, min(4, 2 * (os.cpu_count() or 1)))  # most probes that wait use no processor
CAN_FORK = hasattr(os, "fork")


def audit(
    given: Any,
    invalidate: Any = None,
    probes: Sequence[Probe] | None = None,
    on_row: Callable[[Row], object] = lambda row: None,
) -> Scoreboard:
    """Put a cache through probes, and return its scoreboard.

    Args:
        given: an adapter or a decorator, or the text `package.module:name` of one.
        invalidate: what invalidates, if it is a decorator: see `labkit.audit.adapter.Decorator`.
        probes: which; all of them by default.
        on_row: called with each row once it is there, in the order in which they end.

    Raises:
        NotAuditable: it could not be run, with the reason in a line.
        LabError: this system cannot fork, or has no Redis that could be killed and frozen.
    """
    target = Target(given, invalidate)
    name = first_call(target)
    wanted = every_probe() if probes is None else list(probes)
    rows: dict[str, Row] = {}
    with closing(rows_of(target, wanted)) as ending:
        for row in ending:
            rows[row.probe] = row
            on_row(row)
    return Scoreboard(name, [rows[each.name] for each in wanted])


def every_probe() -> list[Probe]:
    """Return all probes, in the order of the lessons that explain them."""
    return sorted(PROBES.values(), key=lambda each: each.lesson)


def first_call(target: Target) -> str:
    """Return what the cache is called, after one call that must succeed.

    Raises:
        NotAuditable: there is no such thing, it raises, or it does not answer.
        LabError: this system cannot fork, or has no Redis that could be killed and frozen.
    """
    if not CAN_FORK:
        raise LabError(
            "the audit runs each probe in a forked process, which this system cannot.\n"
            "Run it on Linux, on macOS or in WSL."
        )
    redis_program()
    with watchdog() as dog:
        child = Child(lambda: _try_once(target), dog)
        try:
            while not (ended := _ended([child], PROBE_SECONDS)):
                pass
        finally:
            child.kill()
    told = ended[0][1]
    if told is None:
        raise NotAuditable(
            f"{target.name} does not answer its first call: it was ended after {PROBE_SECONDS:g} s."
            if child.timed_out
            else f"{target.name} ends its process at its first call."
        )
    if told["foreign"]:
        raise NotAuditable(_elsewhere(target, told["foreign"]))
    if "error" in told:
        raise NotAuditable(told["error"])
    name: str = told["name"]
    return name


def _elsewhere(target: Target, where: str) -> str:
    return (
        f"{target.name} connects to {where}, which is not the audit's Redis: take the URL from the "
        "environment's REDIS_URL, or a client as an argument."
    )


def _try_once(target: Target) -> dict[str, Any]:
    from labkit.audit.questions import region_of

    try:
        with opened() as site:
            guard.allow(site.server.port)
            guard.watch()
            with site.app.app_context():
                cache = target.open(site.place)
                cached = cache.wrap(region_of, 60)
                answer = cached(1)
                cache.close()
            if callable(answer) or isawaitable(answer):
                raise NotAuditable(_no_answer(target, answer))
            return {"name": one_line(str(cache.name or target.name))}
    except NotAuditable as error:
        return {"error": str(error)}
    except LabError as error:
        return {"error": str(error).replace("\n", " ")}
    except Exception as error:
        raised = one_line(f"{type(error).__name__}: {error}")
        return {"error": f"{target.name} raises at its first call: {raised}"}


def _no_answer(target: Target, answer: Any) -> str:
    if isawaitable(answer):
        answer.close()  # type: ignore[attr-defined]
        return (
            f"{target.name} answers by a coroutine, and the audit asks functions that are not "
            "async: write an adapter that waits for it, as labkit.audit.adapters.cashews does."
        )
    return f"{target.name} answers by a function: name the decorator, not what makes one."


def rows_of(target: Target, probes: Sequence[Probe]) -> Generator[Row, None, None]:
    """Give each probe's row as it ends.

    Raises:
        NotAuditable: the cache goes elsewhere, or all of it takes too long.
    """
    with watchdog() as dog:
        yield from _rows(target, probes, dog)


def _rows(target: Target, probes: Sequence[Probe], dog: Watchdog) -> Generator[Row, None, None]:
    """Give each probe's row as it ends.

    Raises:
        NotAuditable: the cache goes elsewhere, or all of it takes too long.
    """
    deadline = time.monotonic() + AUDIT_SECONDS * busy()
    waiting = list(probes)
    running: dict[Child, Probe] = {}
    try:
        while waiting or running:
            while waiting and len(running) < AT_ONCE:
                each = waiting.pop(0)
                running[Child(partial(_try, each, target), dog)] = each
            for child, told in _ended(running, deadline - time.monotonic()):
                each = running.pop(child)
                if told is None:
                    yield each.row(FAIL, child.how_it_ended())
                elif told["foreign"]:
                    raise NotAuditable(_elsewhere(target, told["foreign"]))
                else:
                    yield Row(**told["row"])
            if time.monotonic() > deadline and (waiting or running):
                at = ", ".join(each.name for each in (*running.values(), *waiting[:1]))
                raise NotAuditable(
                    f"the audit of {target.name} was ended after {AUDIT_SECONDS:g} s, at: {at}."
                )
    finally:
        for child in running:
            child.kill()


def _try(probe: Probe, target: Target) -> dict[str, Any]:
    with opened() as site:
        guard.allow(site.server.port)
        guard.watch()
        with site.app.app_context() if probe.in_context else nullcontext():
            row = judge(probe, lambda: Trial(site, target.open, probe.in_context))
    return {"row": dataclasses.asdict(row)}


class Child:
    """A forked process that does one thing, and tells what came of it.

    Attributes:
        timed_out: whether it was ended because its time was up.
    """

    def __init__(self, work: Callable[[], dict[str, Any]], dog: Watchdog) -> None:
        self.timed_out = False
        self.deadline = time.monotonic() + PROBE_SECONDS * busy()
        self._dog = dog
        reader, writer = os.pipe()
        self.pid = fork()
        if self.pid == 0:
            os.close(reader)
            _work_and_exit(work, writer, dog)
        with suppress(OSError):  # whichever of us is first
            os.setpgid(self.pid, self.pid)
        os.close(writer)
        self.pipe = os.fdopen(reader, "rb")

    def read(self) -> dict[str, Any] | None:
        """Return what it tells; None if it has ended without a word."""
        told = self.pipe.readline()  # and no further: what it has started may hold the other end
        self.kill()
        try:
            return json.loads(told)  # type: ignore[no-any-return]
        except ValueError:
            return None

    def kill(self) -> None:
        """End it, and every process that it has started."""
        if self.pipe.closed:
            return
        with suppress(OSError):  # there is none left; macOS refuses where all are zombies
            os.killpg(self.pid, signal.SIGKILL)
        self._dog.forget(self.pid)  # before its number can be another's
        with suppress(ChildProcessError):
            os.waitpid(self.pid, 0)
        self.pipe.close()

    def how_it_ended(self) -> str:
        """Return why there is no answer."""
        if self.timed_out:
            return f"did not end within {PROBE_SECONDS:g} s"
        return "its process ended before it had an answer"


def _work_and_exit(work: Callable[[], dict[str, Any]], writer: int, dog: Watchdog) -> None:
    """Do it and end this process. What a cache prints goes nowhere; nothing is tidied up twice."""
    try:
        os.setpgid(0, 0)
        dog.watch_me()
        os.register_at_fork(after_in_child=partial(_close, writer))  # it tells that we have ended
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        _be_silent()
        close_all()  # the caches of the process that audits see no writes of a probe
        told = work()
        told["foreign"] = ", ".join(sorted(set(guard.foreign)))
        with os.fdopen(writer, "wb") as pipe:
            pipe.write(json.dumps(told).encode() + b"\n")
    finally:
        os._exit(0)


def _close(descriptor: int) -> None:
    with suppress(OSError):
        os.close(descriptor)


def _be_silent() -> None:
    """Send what is printed nowhere, also where a notebook has streams of its own."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)
    sys.stdout = sys.stderr = os.fdopen(nowhere, "w")


class Watchdog:
    """A process that outlives this one by a moment, to end the probes that it has left.

    A process that is killed by SIGKILL ends nobody. But its end of a pipe is closed.
    """

    def __init__(self) -> None:
        reader, self._pipe = os.pipe()
        self._pid = fork()
        if self._pid == 0:
            os.close(self._pipe)
            _watch_and_exit(reader)
        os.close(reader)

    def watch_me(self) -> None:
        """Have the process group of this process, which is a probe's, ended with the audit."""
        self._say("+", os.getpid())
        os.close(self._pipe)  # held by the audit alone

    def forget(self, group: int) -> None:
        """Say that a group has ended."""
        self._say("-", group)

    def close(self) -> None:
        """End the watchdog."""
        self._say("-", 0)  # aloud: a process of somebody else may hold the pipe open
        os.close(self._pipe)
        with suppress(ChildProcessError):
            os.waitpid(self._pid, 0)

    def _say(self, sign: str, group: int) -> None:
        with suppress(OSError):  # somebody has killed it
            os.write(self._pipe, f"{sign} {group}\n".encode())


@contextmanager
def watchdog() -> Iterator[Watchdog]:
    """Give a watchdog that ends with the `with` block."""
    dog = Watchdog()
    try:
        yield dog
    finally:
        dog.close()


def _watch_and_exit(reader: int) -> None:
    """Note which groups there are, until the audit says that it has done, or has ended."""
    try:
        os.setpgid(0, 0)
        _be_silent()
        groups: set[int] = set()
        with os.fdopen(reader, "rb") as pipe:
            for line in pipe:
                sign, group = line.split()
                if group == b"0":
                    break
                (groups.add if sign == b"+" else groups.discard)(int(group))
        for each in groups:
            with suppress(OSError):
                os.killpg(each, signal.SIGKILL)
    finally:
        os._exit(0)


def _ended(
    children: Sequence[Child] | dict[Child, Probe], seconds: float
) -> list[tuple[Child, dict[str, Any] | None]]:
    """Wait until one of them ends, or its time or all time is up; return who has ended."""
    now = time.monotonic()
    first = min(child.deadline for child in children)
    with selectors.DefaultSelector() as selector:
        for child in children:
            selector.register(child.pipe, selectors.EVENT_READ, child)
        ready = [key.data for key, _ in selector.select(max(0.0, min(first - now, seconds)))]
    ended = [(child, child.read()) for child in ready]
    for child in children:
        if child not in ready and time.monotonic() > child.deadline:
            child.timed_out = True
            child.kill()
            ended.append((child, None))
    return ended
