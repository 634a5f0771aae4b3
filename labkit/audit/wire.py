"""A way to a probe's Redis on which what Redis says can be held up, or be lost for ever."""

from __future__ import annotations

import contextlib
import socket
import threading
from urllib.parse import urlsplit

from labkit.audit import guard
from labkit.audit.site import Place, Site

HOST = "127.0.0.1"
CHUNK = 65_536  # bytes


class Wire:
    """A port of this process that leads to the site's Redis.

    Args:
        site: whose Redis.

    Attributes:
        place: where a cache is opened whose connections all lead over it.
    """

    def __init__(self, site: Site) -> None:
        self._redis = (HOST, site.server.port)
        self._flows = threading.Event()
        self._flows.set()
        self._ends: list[socket.socket] = []
        self._door = socket.create_server((HOST, 0))
        port = self._door.getsockname()[1]
        guard.allow(port)
        there, here = f":{urlsplit(site.place.url).port}/", f":{port}/"
        self.place = Place(site.place.url.replace(there, here), site.app)
        threading.Thread(target=self._take, daemon=True).start()

    def hold(self) -> None:
        """Let nothing that Redis says through. Connections stay open, and take what is sent."""
        self._flows.clear()

    def drop(self) -> None:
        """Break all connections. What was held up never arrives; new connections are as ever."""
        ends, self._ends = self._ends, []
        for end in ends:
            _shut(end)
        self._flows.set()

    def close(self) -> None:
        """Break all connections, and take no more."""
        _shut(self._door)
        self._door.close()
        self.drop()

    def _take(self) -> None:
        with contextlib.suppress(OSError):  # it is closed
            while True:
                near, _ = self._door.accept()
                far = socket.create_connection(self._redis)
                self._ends += [near, far]
                threading.Thread(target=self._carry, args=(near, far), daemon=True).start()

    def _carry(self, near: socket.socket, far: socket.socket) -> None:
        with near, far:
            back = threading.Thread(target=self._pass, args=(far, near, True), daemon=True)
            back.start()
            self._pass(near, far, False)
            back.join()

    def _pass(self, source: socket.socket, target: socket.socket, may_be_held: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(CHUNK):
                if may_be_held:
                    self._flows.wait()
                target.sendall(data)
        _shut(source)
        _shut(target)


def _shut(end: socket.socket) -> None:
    """End a connection, also where a forked process has a copy of it."""
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
