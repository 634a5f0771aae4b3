"""A proxy before a Redis, which holds up what that says, or breaks connections: a bad network."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Any
from urllib.parse import urlsplit

import redis

HOST = "127.0.0.1"
CHUNK = 65_536  # bytes


class Proxy:
    """A port of this process, on loopback, that leads to a Redis on another one.

    Args:
        url: of the Redis, such as "redis://:password@127.0.0.1:6379/0".

    Attributes:
        target: the port that connections lead to which are made from now on.
        port: where clients connect.
        url: as that of the Redis, with this port.
    """

    def __init__(self, url: str) -> None:
        self.target = urlsplit(url).port
        self._flows = threading.Event()
        self._flows.set()
        self._ends: list[socket.socket] = []
        self._door = socket.create_server((HOST, 0))
        self.port: int = self._door.getsockname()[1]
        self.url = url.replace(f":{self.target}/", f":{self.port}/")
        threading.Thread(target=self._take, daemon=True).start()

    def client(self, **options: Any) -> redis.Redis:
        """Return a client whose connections lead over it."""
        client: redis.Redis = redis.Redis.from_url(self.url, **options)
        return client

    def hold(self) -> None:
        """Let nothing that Redis says through. Connections stay open, and take what is sent."""
        self._flows.clear()

    def release(self) -> None:
        """Let it all through, in order."""
        self._flows.set()

    def drop(self) -> None:
        """Break all connections. What was held up never arrives; new connections are as ever."""
        ends, self._ends = self._ends, []
        for end in ends:
            _shut(end)
        self.release()

    def close(self) -> None:
        """Break all connections, and take no more."""
        _shut(self._door)
        self._door.close()
        self.drop()

    def _take(self) -> None:
        with contextlib.suppress(OSError):  # it is closed
            while True:
                near, _ = self._door.accept()
                far = socket.create_connection((HOST, self.target))
                self._ends += [near, far]
                threading.Thread(target=self._carry, args=(near, far), daemon=True).start()

    def _carry(self, near: socket.socket, far: socket.socket) -> None:
        with near, far:
            back = threading.Thread(target=self._pass, args=(far, near, True), daemon=True)
            back.start()
            self._pass(near, far, False)
            back.join()

    def _pass(self, source: socket.socket, target: socket.socket, is_held: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(CHUNK):
                if is_held:
                    self._flows.wait()
                target.sendall(data)
        _shut(source)
        _shut(target)


def _shut(end: socket.socket) -> None:
    """End a connection, also where a forked process has a copy of it."""
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
