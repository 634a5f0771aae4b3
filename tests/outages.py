"""What can go wrong with a Redis: real servers that are killed, frozen, full; and fake ones."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from labkit.servers import Keeper
from labkit.servers.redis import find_program
from tests.helpers import LONG, is_running, wait_until

_numbers = itertools.count()


class OwnServer:
    """A Redis program on a unix socket, with an RDB file, that a test may kill and start again."""

    def __init__(self, kind: str, keeper: Keeper) -> None:
        self._program, self._keeper = find_program(kind), keeper
        self.directory = keeper.directory / f"own{next(_numbers)}"
        self.directory.mkdir()
        self.path = self.directory / "s"
        self.pid = 0

    def start(self, *settings: str, ready: bool = True) -> OwnServer:
        lines = ["port 0", f"unixsocket {self.path}", 'save ""', f"dir {self.directory}", *settings]
        config = self.directory / "conf"
        config.write_text("\n".join(lines) + "\n")
        log = self.directory / "log"
        self.pid = self._keeper.spawn([str(self._program), str(config)], log=log)
        assert wait_until(lambda: self._answers(ready), LONG), log.read_text()
        return self

    def _answers(self, ready: bool) -> bool:
        try:
            with self.client(retry=Retry(NoBackoff(), 0)) as client:
                return bool(client.ping()) and ready
        except redis.exceptions.BusyLoadingError:
            return not ready
        except redis.AuthenticationError:
            return True
        except redis.RedisError:
            return False

    def client(self, **options: Any) -> redis.Redis:
        """Return a client that has no time-outs at all, and would go on trying."""
        return redis.Redis(
            unix_socket_path=str(self.path), socket_timeout=None, socket_connect_timeout=None,
            **options,
        )  # fmt: skip

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        assert wait_until(lambda: not is_running(self.pid), LONG)
        self.path.unlink(missing_ok=True)

    def freeze(self) -> None:
        """Stop it where it waits for commands, if it does.

        It is known by its answer, which it may have sent just now. Stopped before it waits again,
        it would look first at the connection that it served last, when it goes on.
        """
        process = psutil.Process(self.pid)
        wait_until(lambda: process.status() == psutil.STATUS_SLEEPING, LONG)
        os.kill(self.pid, signal.SIGSTOP)
        assert wait_until(lambda: process.status() == psutil.STATUS_STOPPED, LONG)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def end(self) -> None:
        if is_running(self.pid):
            self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)


Answer = Callable[[list[bytes]], bytes | None]


class FakeServer:
    """A TCP server that answers each command as a test says; None closes the connection.

    Attributes:
        connections: how many it has accepted.
        commands: the names of those that it was sent, in order.
    """

    def __init__(self, answer: Answer, on_accept: Callable[[socket.socket], object] = id) -> None:
        self._answer, self._on_accept = answer, on_accept
        self.connections = 0
        self.commands: list[str] = []
        self._open: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def client(self, **options: Any) -> redis.Redis:
        return redis.Redis(
            "127.0.0.1", self.port, socket_timeout=None, socket_connect_timeout=None,
            protocol=2, **options,
        )  # fmt: skip

    def _serve(self) -> None:
        while True:
            try:
                peer, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(peer)
            threading.Thread(target=self._talk, args=(peer,), daemon=True).start()

    def _talk(self, peer: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError), peer:
            self._on_accept(peer)
            for command in commands_of(peer):
                self.commands.append(command[0].decode().upper())
                answer = self._answer(command)
                if answer is None:
                    return
                peer.sendall(answer)

    def end(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for peer in self._open:
            with contextlib.suppress(OSError):
                peer.shutdown(socket.SHUT_RDWR)


def commands_of(peer: socket.socket) -> Iterator[list[bytes]]:
    """Parse what a client sends."""
    with peer.makefile("rb") as lines:
        while head := lines.readline():
            command = []
            for _ in range(int(head[1:])):
                length = int(lines.readline()[1:])
                command.append(lines.read(length + 2)[:-2])
            yield command


class Switch:
    """One address, behind which stands now this server and now that: as Sentinel's clients see it.

    Connections that are open stay where they are, unless `cut` ends them.
    """

    def __init__(self, target: Path) -> None:
        self.target: Path | None = target
        self.connections = 0
        self._open: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def client(self) -> redis.Redis:
        return redis.Redis("127.0.0.1", self.port, socket_timeout=None, socket_connect_timeout=None)

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                self.connections += 1
                self._open.append(near)
                if self.target is None:  # accepted, and never answered
                    continue
                far = socket.socket(socket.AF_UNIX)
                try:
                    far.connect(str(self.target))
                except OSError:
                    near.close()
                    continue
                self._open.append(far)
                for one, other in ((near, far), (far, near)):
                    threading.Thread(target=_pump, args=(one, other), daemon=True).start()

    def cut(self) -> None:
        for each in self._open:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        self._open.clear()

    def end(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()


def _pump(one: socket.socket, other: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := one.recv(65_536):
            other.sendall(data)
    for each in (one, other):
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)


@contextmanager
def ended(*servers: Any) -> Iterator[None]:
    """End the servers with the `with` block."""
    try:
        yield
    finally:
        for each in servers:
            each.end()
