"""Keeping child processes and temporary files no longer than the process that asked for them.

`Keeper` starts a small helper process (this same file, run as a script). The helper owns a private
directory and starts servers when it is told to. When the pipe from its parent closes, or its parent
is no longer there, it kills the servers, removes the directory and ends. The kernel cannot forget
to clean up, not even when it is killed with SIGKILL, because it is not the one that cleans up.

The helper imports the standard library only: it must be up within a few milliseconds.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

PARENT_CHECK = 0.2  # seconds between two looks at whether the parent is still there
STOP_GRACE = 1.0  # seconds that a server gets to end by itself before SIGKILL


class Keeper:
    """A private directory, and servers that live in it, none of which outlive this process.

    Attributes:
        directory: made for this keeper with mode 0700; removed with everything in it at the end.
    """

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__, str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            # A session of its own: interrupting the kernel must not interrupt its servers.
            start_new_session=True,
        )
        self._lock = threading.Lock()
        try:
            self.directory = Path(self._answer()["directory"])
        except OSError:
            from labkit.errors import (
                LabError,
            )  # not above: the helper has the standard library only

            raise LabError(
                f"labkit cannot make a folder in {tempfile.gettempdir()}.\n"
                "Set TMPDIR to a folder that you can write to, and start again."
            ) from None
        self.close = weakref.finalize(self, _close, self._process, os.getpid())

    def spawn(
        self,
        command: list[str],
        *,
        log: Path,
        stop_signal: int = signal.SIGTERM,
        stdin: Path | None = None,
        user: tuple[int, int] | None = None,
    ) -> int:
        """Start a server and return its process id.

        Args:
            command: the program and its arguments. Other users can read them: no secrets here.
            log: the file that its output goes to.
            stop_signal: what asks it to end; SIGKILL follows after a second.
            stdin: a file that it reads as its standard input, or None for nothing.
            user: the user id and group id to run as (root only), or None for this user's.

        Raises:
            OSError: the program could not be started.
        """
        request = {
            "command": command,
            "log": str(log),
            "stop_signal": int(stop_signal),
            "stdin": str(stdin or os.devnull),
            "user": user,
        }
        with self._lock:
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
            answer = self._answer()
        if "error" in answer:
            raise OSError(answer["error"])
        return int(answer["pid"])

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise OSError("the process that keeps labkit's servers ended at its start")
        answer: dict[str, Any] = json.loads(line)
        return answer


def has_ended(pid: int) -> bool:
    """Whether a server that `Keeper.spawn` started has ended by itself, seen within 0.2 s."""
    if os.name == "nt":  # signal 0 is Ctrl-C there; its servers are noticed by their silence
        return False
    try:
        os.kill(pid, 0)  # sends nothing: only asks whether it could be sent
    except ProcessLookupError:
        return True
    return False


def last_words(log: Path) -> str:
    """Return the last line of a server's log; empty where it has none."""
    text = log.read_text(errors="replace") if log.exists() else ""
    return "".join(text.strip().splitlines()[-1:])


def _close(process: subprocess.Popen[bytes], owner: int) -> None:
    """Have the helper stop its servers and remove its directory; return when it has."""
    if os.getpid() != owner:  # a forked child must not stop its parent's servers
        return
    assert process.stdin is not None
    assert process.stdout is not None
    with contextlib.suppress(OSError):
        process.stdin.write(b"\n")  # said aloud: a forked child may hold the pipe open
        process.stdin.close()
    process.wait()
    process.stdout.close()


# Below: what runs in the helper process.


def main(parent: int) -> None:
    """Serve one parent process until it ends; then leave nothing behind."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # runs the finally below
    directory = tempfile.mkdtemp(prefix="labkit-")
    servers: list[tuple[subprocess.Popen[bytes], int]] = []
    try:
        _say({"directory": directory})
        requests: queue.Queue[bytes] = queue.Queue()
        threading.Thread(target=_read_requests, args=(requests,), daemon=True).start()
        while _is_parent(parent):
            try:
                line = requests.get(timeout=PARENT_CHECK)
            except queue.Empty:
                for process, _ in servers:
                    process.poll()  # reap those that ended by themselves
                continue
            if not line.strip():
                break
            _start(json.loads(line), servers)
    finally:
        _stop_all(servers)
        shutil.rmtree(directory, ignore_errors=True)


def _read_requests(requests: queue.Queue[bytes]) -> None:
    # Unbuffered: Python aborts if a thread sits in a buffered read when it ends, and this thread
    # does where a forked child of the parent holds the pipe open.
    with open(sys.stdin.fileno(), "rb", buffering=0, closefd=False) as pipe:
        for line in pipe:
            requests.put(line)
    requests.put(b"")


def _is_parent(parent: int) -> bool:
    # Windows keeps a dead parent's id; there the closed pipe is the only sign, and it is enough.
    return os.name == "nt" or os.getppid() == parent


def _start(request: dict[str, Any], servers: list[tuple[subprocess.Popen[bytes], int]]) -> None:
    identity: dict[str, Any] = {}
    if request["user"] is not None:
        user, group = request["user"]
        identity = {"user": user, "group": group, "extra_groups": []}
    try:
        with open(request["log"], "ab") as log, open(request["stdin"], "rb") as stdin:
            process = subprocess.Popen(
                request["command"],
                stdin=stdin,
                stdout=log,
                stderr=log,
                preexec_fn=_die_with_me(),
                **identity,
            )
    except OSError as error:
        _say({"error": str(error)})
        return
    servers.append((process, request["stop_signal"]))
    _say({"pid": process.pid})


def _die_with_me() -> Callable[[], None] | None:
    """Return what makes a child die when even this helper is killed (Linux only)."""
    if not sys.platform.startswith("linux"):
        return None
    prctl = ctypes.CDLL(None).prctl
    set_parent_death_signal = 1
    return lambda: prctl(set_parent_death_signal, signal.SIGKILL)


def _stop_all(servers: list[tuple[subprocess.Popen[bytes], int]]) -> None:
    for process, stop_signal in servers:
        if process.poll() is None:
            process.send_signal(stop_signal)
    for process, _ in servers:
        try:
            process.wait(STOP_GRACE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _say(answer: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):  # the parent may be gone already
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(parent=int(sys.argv[1]))
