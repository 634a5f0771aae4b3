"""Several callers at once: a crowd that asks for what is missing, and other processes."""

from __future__ import annotations

import json
import os
import selectors
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from labkit.audit.adapter import DoesNotApply
from labkit.audit.probe import Failed, one_line, patience
from labkit.audit.site import Site
from labkit.servers.processes import comes_true, fork

# Looks without a new arrival, after which nobody else is expected: 0.75 s of them. While a process
# stands still there is no look, and nobody can arrive.
QUIET = 150
HELD = 3.0  # seconds that a load is held, whoever is missing
PAUSE = 0.005  # seconds between two looks
CALLER, LOADER, OVER = b"c", b"l", b"o"


class Crowd:
    """Holds each load until every caller has come to one, or nobody has come for a while.

    So a cache that lets every caller load does so in each run, and one that does not shows that it
    has had them wait. It counts in a file: callers may be in other processes.

    Args:
        site: whose loads are held.
        callers: how many there will be.
    """

    def __init__(self, site: Site, callers: int) -> None:
        self._site, self._callers = site, callers
        self._log = site.directory / "crowd"
        self._log.touch()
        site.after_load = self.hold

    def call(self, ask: Callable[[], Any]) -> Any:
        """Return what a caller gets, who asks once all callers are ready to."""
        self._note(CALLER)
        end = time.monotonic() + HELD
        while self._log.read_bytes().count(CALLER) < self._callers and time.monotonic() < end:
            time.sleep(PAUSE)
        return ask()

    def hold(self) -> None:
        """Hold a load. Once the first has gone on, none is held any more."""
        self._note(LOADER)
        arrivals = quiet = 0
        end = time.monotonic() + HELD
        while not self.is_over:
            seen = self._log.read_bytes()
            quiet = quiet + 1 if len(seen) == arrivals else 0
            arrivals = len(seen)
            everybody = seen.count(LOADER) == self._callers
            if everybody or quiet > QUIET or time.monotonic() > end:
                self._note(OVER)
            time.sleep(PAUSE)

    @property
    def has_come(self) -> bool:
        """Whether a load is held, or was."""
        return LOADER in self._log.read_bytes()

    @property
    def is_over(self) -> bool:
        """Whether loads are not held any more."""
        return OVER in self._log.read_bytes()

    def _note(self, what: bytes) -> None:
        with self._log.open("ab", buffering=0) as log:  # atomic, across processes
            log.write(what)


def wait_until(holds: Callable[[], bool]) -> None:
    """Wait until something holds that a load brings about.

    Raises:
        Failed: it does not.
    """
    if not comes_true(holds, patience(), PAUSE):
        raise Failed("the function was not called")


class Process:
    """A forked process that does one thing, and tells what came of it.

    Args:
        work: called in the process; what it returns is told, if JSON takes it.
    """

    def __init__(self, work: Callable[[], Any]) -> None:
        reader, writer = os.pipe()
        self._pid = fork()
        if self._pid == 0:
            os.close(reader)
            _work_and_exit(work, writer)
        os.close(writer)
        self._pipe = os.fdopen(reader, "rb")

    def result_within(self, seconds: float) -> Any:
        """Return what the process tells; it is ended then.

        Raises:
            Failed: it raises, or tells nothing in time.
        """
        with selectors.DefaultSelector() as selector:
            selector.register(self._pipe, selectors.EVENT_READ)
            in_time = selector.select(seconds)
        told = self._pipe.read() if in_time else b""
        self.kill()
        if not told:
            raise Failed("a process crashed" if in_time else "no answer in time")
        result = json.loads(told)
        if "error" in result:
            raise Failed(result["error"])
        return result["result"]

    def kill(self) -> None:
        """End it where it stands."""
        with suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitpid(self._pid, 0)
        self._pipe.close()


class Neighbour:
    """A forked process that gets ready, and does something each time that it is told to.

    Args:
        get_ready: called in the process; it returns what is done each time. Whatever that returns
            is told, if JSON takes it.

    Raises:
        DoesNotApply: it has raised that.
        Failed: it has raised something else, or is not ready in time.
    """

    def __init__(self, get_ready: Callable[[], Callable[[], Any]]) -> None:
        told, self._tell = os.pipe()
        heard, says = os.pipe()

        def work() -> None:
            os.close(self._tell)  # so that it ends with the process that tells it
            os.close(heard)
            _act_as_told(get_ready, told, says)

        self._process = Process(work)
        os.close(told)
        os.close(says)
        self._heard = os.fdopen(heard, "rb", buffering=0)
        self._next()

    def act(self) -> Any:
        """Have it do so once; return what that returns.

        Raises:
            DoesNotApply: it has raised that.
            Failed: it has raised something else, or has not ended in time.
        """
        os.write(self._tell, b".")
        return self._next()

    def kill(self) -> None:
        """End it where it stands."""
        self._process.kill()
        self._heard.close()
        os.close(self._tell)

    def _next(self) -> Any:
        with selectors.DefaultSelector() as selector:
            selector.register(self._heard, selectors.EVENT_READ)
            if not selector.select(patience()):
                self._process.kill()
                raise Failed("no answer in time")
        if not (line := self._heard.readline()):  # it has ended
            self._process.result_within(patience())
            raise Failed("a process crashed")
        result, why_not = json.loads(line)
        if why_not:
            raise DoesNotApply(why_not)
        return result


def _act_as_told(get_ready: Callable[[], Callable[[], Any]], told: int, says: int) -> None:
    with os.fdopen(says, "wb", buffering=0) as line:

        def say(result: Any, why_not: str = "") -> None:
            line.write(json.dumps([result, why_not]).encode() + b"\n")

        try:
            act = get_ready()
            say(None)
            while os.read(told, 1):
                say(act())
        except DoesNotApply as error:
            say(None, str(error))


def _work_and_exit(work: Callable[[], Any], writer: int) -> None:
    try:
        try:
            told = {"result": work()}
        except Failed as error:
            told = {"error": str(error)}
        except BaseException as error:
            told = {"error": one_line(f"{type(error).__name__}: {error}")}
        with os.fdopen(writer, "wb") as pipe:
            pipe.write(json.dumps(told).encode())
    finally:
        os._exit(0)
