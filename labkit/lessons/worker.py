"""A check in a worker process of its own, at a time, a seed and a process number of our choosing.

What is to be unique must be so when the clock stands still, in two workers that began alike, and
in two containers, where each process is number 1. Waiting for that would take years.
"""

from __future__ import annotations

import contextlib
import datetime
import io
import os
import pickle
import random
import select
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

from labkit.lessons.exercises import NotAttempted, Raised, Wrong
from labkit.lessons.replies import notes
from labkit.servers.processes import fork

BEGAN = 4_102_444_800 * 10**9  # nanoseconds: when every worker begins, in 2100. A deadline that is
# counted from there is still to come for a server whose clock is the real one.
PID = 2**22 + 1  # above all that Linux gives
DEADLINE = 10.0  # seconds; a check takes some 50 milliseconds
CLOCKS = ("time", "monotonic", "perf_counter", "process_time", "thread_time")
CAN_FORK = hasattr(os, "fork")


def in_a_worker(work: Callable[[], Any], answer: Any, tick: float) -> Any:
    """Return what `work` returns, in a copy of this process that nobody else looks at.

    Each copy begins as this process is now, with the same clock, process number and `random`.
    Where there is no fork (Windows), it runs here, and cannot tell a counter from a unique number.

    Args:
        work: what to do; it returns or raises what can be pickled.
        answer: the function that it calls: its module's names for clocks are replaced too.
        tick: seconds by which the clock moves each time that somebody looks; 0 if it stands still.

    Raises:
        Wrong, NotAttempted, Raised: `work` did, or it did not end.
    """

    def told() -> tuple[Any, Exception | None]:
        with _world(getattr(answer, "__globals__", {}), round(tick * 10**9)):
            try:
                return work(), None
            except (Wrong, NotAttempted, Raised) as error:
                return None, type(error)(*error.args)

    result, error, noted = _forked(told) if CAN_FORK else (*told(), [])
    notes().extend(noted)
    if error:
        raise error
    return result


def _forked(told: Callable[[], tuple[Any, Exception | None]]) -> Any:
    reader, writer = os.pipe()
    child = fork()  # ended below, if it does not end
    if child == 0:
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                os.write(writer, pickle.dumps((*told(), notes())))
        finally:
            os._exit(0)  # nothing of the parent's is tidied up
    os.close(writer)
    try:
        with os.fdopen(reader, "rb") as pipe:
            ready, _, _ = select.select([pipe], [], [], DEADLINE)
            written = pipe.read() if ready else b""
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    if not written:
        raise Wrong("in a worker process, your function did not come back from a call.")
    return pickle.loads(written)


@contextlib.contextmanager
def _world(names: dict[str, Any], tick: int) -> Iterator[None]:
    """Replace clocks, process numbers and the state of `random`; put all back at the end."""
    fakes = [(holder, name, fake) for holder, name, fake in _fakes(tick) if hasattr(holder, name)]
    real = {id(getattr(holder, name)): fake for holder, name, fake in fakes if callable(fake)}
    imported = {name: real[id(value)] for name, value in names.items() if id(value) in real}
    before = [(holder, name, getattr(holder, name)) for holder, name, _ in fakes]
    own = {name: names[name] for name in imported}
    state = random.getstate()
    try:
        for holder, name, fake in fakes:
            setattr(holder, name, fake)
        names.update(imported)
        random.seed(9)
        yield
    finally:
        for holder, name, value in before:
            setattr(holder, name, value)
        names.update(own)
        random.setstate(state)


def _fakes(tick: int) -> Iterator[tuple[Any, str, Any]]:
    """Give what is replaced: where, its name, and what stands there meanwhile."""
    moment = BEGAN

    def nanoseconds(*_: object) -> int:
        nonlocal moment
        moment += tick
        return moment

    def seconds(*_: object) -> float:
        return nanoseconds() / 10**9

    class Moment(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> Any:
            return cls.fromtimestamp(seconds(), tz)

        @classmethod
        def today(cls) -> Any:
            return cls.now()

        @classmethod
        def utcnow(cls) -> Any:
            return cls.now(datetime.UTC).replace(tzinfo=None)

    for clock in (*CLOCKS, "clock_gettime"):
        yield time, clock, seconds
        yield time, f"{clock}_ns", nanoseconds
    for name in ("gmtime", "localtime", "ctime"):
        yield time, name, _at(getattr(time, name), seconds)
    shown, here = time.strftime, time.localtime
    yield time, "strftime", lambda form, at=None: shown(form, at or here(seconds()))
    yield datetime, "datetime", Moment
    yield os, "getpid", lambda: PID
    yield os, "getppid", lambda: PID
    yield threading, "get_native_id", lambda: PID
    for name in ("_generate_time_safe", "_UuidCreate"):  # of C: they look at the clock themselves
        yield uuid, name, None
    yield uuid, "_node", 1


def _at(convert: Callable[[float], Any], seconds: Callable[[], float]) -> Callable[..., Any]:
    return lambda at=None: convert(seconds() if at is None else at)
