"""Processes of one's own that are spoken to in lines, and end with the process that started them.

In the process that is started, standard input is the line to its parent: when it ends, the parent
has, and so must the process. Either it works through `sys.stdin` line by line, or it calls
`end_with_input` once it has read what to do, and gets further lines from there.

A process that `fork` makes is a copy of this one, and has no such line.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from labkit.errors import LabError

ENDED = "a worker process ended before its work. Its error is in the log."


def fork() -> int:
    """Fork, and return what `os.fork` does. Who waits for the child ends it after a while.

    Python warns of locks that other threads hold: a child that waits for one would wait for ever.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def comes_true(holds: Callable[[], bool], seconds: float, pause: float = 0.01) -> bool:
    """Look until something holds; return whether it does in time.

    It is looked at once more when the time is up: this process may have been stopped meanwhile.

    Args:
        holds: whether it does.
        seconds: how long to look.
        pause: seconds between two looks.
    """
    deadline = time.monotonic() + seconds
    while True:
        is_last = time.monotonic() > deadline
        if holds():
            return True
        if is_last:
            return False
        time.sleep(pause)


class Worker:
    """Another process, seen from the one that has started it."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.pid = process.pid

    def tell(self, line: str) -> None:
        """Write a line to its standard input.

        Raises:
            LabError: it has ended.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise LabError(ENDED) from None

    def said(self, limit: float | None = None) -> str:
        """Return the next line of its standard output, and wait for it.

        Args:
            limit: seconds, after which the process is killed; None for no limit.

        Raises:
            LabError: it has ended without one.
        """
        assert self._process.stdout is not None
        timer = threading.Timer(limit if limit is not None else 0, self._process.kill)
        timer.daemon = True
        if limit is not None:
            timer.start()
        try:
            line = self._process.stdout.readline()
        finally:
            timer.cancel()
        if not line:
            raise LabError(ENDED)
        return line.strip()

    def ask(self, line: str) -> str:
        """Write a line and return the answer.

        Raises:
            LabError: it has ended.
        """
        self.tell(line)
        return self.said()


@contextmanager
def worker(
    module: str,
    task: Mapping[str, Any],
    env: Mapping[str, str] | None = None,
    within: Sequence[str] = (),
) -> Iterator[Worker]:
    """Run a module as a process. It is killed at the end of the `with` block.

    Args:
        module: its name, such as "labkit.concurrency.stampede".
        task: what it does, as JSON, is the first line of its input. It may hold secrets.
        env: variables of its environment, beside those of this process.
        within: a command that becomes it, such as `unshare`.
    """
    command = [*within, sys.executable, "-m", module]
    environment = {**os.environ, **(env or {})}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            started = Worker(process)
            started.tell(json.dumps(task))
            yield started
        finally:
            process.kill()
            process.communicate()  # closes the pipes, also one with a line that nobody read


# Below: for the process that is started.


def read_task() -> dict[str, Any]:
    """Return what to do: the first line of the standard input."""
    task: dict[str, Any] = json.loads(sys.stdin.readline())
    return task


def end_with_input() -> queue.SimpleQueue[str]:
    """From now on, end this process when its standard input does, whatever is going on in it.

    Returns:
        Where each line is put that comes meanwhile.
    """
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_pass_on, args=(lines,), daemon=True).start()
    return lines


def _pass_on(lines: queue.SimpleQueue[str]) -> None:
    for line in sys.stdin:
        if line.endswith("\n"):  # else whoever wrote it was killed in its middle
            lines.put(line.strip())
    os._exit(1)  # nobody is there any more
