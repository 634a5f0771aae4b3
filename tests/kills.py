"""Killing a process at some moment, and looking at what it leaves behind."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
import uuid

import psutil  # type: ignore[import-untyped]

from tests.helpers import end, start_python, wait_until

MARK = "KILLED_IN_A_TEST"  # in the environment of whatever the killed process has started
GONE = 10.0  # seconds that a busy machine may take to end some thirty processes


def running(mark: str, folder: str) -> dict[int, str]:
    """Return the processes with the mark in their environment, or at work in the folder.

    A Redis writes its title over its environment, and works in its own folder.

    Returns:
        Their command lines, by process id.
    """
    found = {}
    for process in psutil.process_iter():
        try:
            is_marked = process.environ().get(MARK) == mark
            is_ours = is_marked or process.cwd().startswith(folder)
            if is_ours and process.status() != psutil.STATUS_ZOMBIE:
                found[process.pid] = " ".join(process.cmdline())[:90]
        except (psutil.Error, OSError):  # it has ended since, or is another user's
            continue
    return found


def killed_after(seconds: float, code: str) -> int:
    """Kill a kernel some time after it has printed "begun", and see that nothing is left of it.

    Args:
        seconds: from then until the kill.
        code: what the kernel runs.

    Returns:
        How many processes it had when it was killed.
    """
    mark = uuid.uuid4().hex
    data = {name: value for name, value in os.environ.items() if name == "LABKIT_DATA"}
    with tempfile.TemporaryDirectory(prefix="lk") as folder:
        kernel = start_python(code, TMPDIR=folder, **{MARK: mark}, **data)
        try:
            assert kernel.stdout is not None
            assert any(said == "begun\n" for said in kernel.stdout)
            threading.Event().wait(seconds)
            had = len(running(mark, folder))
            os.kill(kernel.pid, signal.SIGKILL)
            kernel.wait()
            assert wait_until(lambda: not running(mark, folder), GONE), running(mark, folder)
            assert wait_until(lambda: os.listdir(folder) == [], GONE), os.listdir(folder)
            return had
        finally:
            end(kernel)
