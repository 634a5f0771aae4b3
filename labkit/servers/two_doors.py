"""A Redis with two doors, a unix socket and a loopback port, that can be restarted."""

from __future__ import annotations

import os
import secrets
import signal
from urllib.parse import quote

import redis

from labkit.errors import LabError
from labkit.servers.cluster import on_free_ports, run_on_port
from labkit.servers.keeper import Keeper, has_ended
from labkit.servers.processes import comes_true
from labkit.servers.redis import (
    HAS_UNIX_SOCKETS,
    LONGEST_SOCKET_PATH,
    RedisServer,
    choose_redis,
    find_program,
    free_port,
)

END_TIMEOUT = 10.0  # seconds that a killed server has to end; it takes up to 0.2


def has_doors(server: RedisServer) -> bool:
    """Whether there is a program here for a Redis with two doors.

    Args:
        server: the lab's server: where that is fakeredis, it stands for a machine without one.
    """
    return _kind(server) != "fake"


def _kind(server: RedisServer) -> str:
    return choose_redis("auto")[0] if server.kind in ("url", "docker") else server.kind


class TwoDoors:
    """A Redis or Valkey that answers on a port, and on a unix socket where there are such.

    Args:
        server: the lab's server. This one is of the same kind, or where that is Docker or a URL,
            of the kind that "auto" finds.
        keeper: owns the process and its directory.

    Attributes:
        tcp: the URL of its port; it holds a password.
        socket: the URL of its socket, or None.
        pid: its process id.

    Raises:
        LabError: there is no Redis or Valkey program here, or it does not come up.
    """

    def __init__(self, server: RedisServer, keeper: Keeper) -> None:
        kind = _kind(server)
        if not has_doors(server):
            raise LabError(
                "fakeredis lives inside this process, and has no doors.\n"
                "Set LABKIT_REDIS=wheel, which needs nothing installed."
            )
        self._program, self._keeper, self._starts = find_program(kind), keeper, 0
        self._kept = keeper.directory / "doors"
        self._kept.mkdir(mode=0o700)
        self._password, path = secrets.token_urlsafe(24), self._kept / "redis.sock"
        is_short = len(os.fsencode(path)) <= LONGEST_SOCKET_PATH
        self._path = path if HAS_UNIX_SOCKETS and is_short else None
        address = f"unix://:{self._password}@{quote(str(path))}"
        self.socket = address if self._path else None
        self.tcp, self.pid = "", 0
        on_free_ports(lambda: self._start(free_port()), "a Redis with two doors")

    def restart(self, save: bool = False) -> None:
        """Kill the server and start it again, on the same port and socket.

        Args:
            save: whether it writes all that it has to a file before (SAVE); it reads that again.
        """
        if save:
            with redis.Redis.from_url(self.tcp) as client:
                client.save()
        kill(self.pid)
        self._start(int(self.tcp.rpartition(":")[2].partition("/")[0]))

    def _start(self, port: int) -> None:
        self._starts += 1
        directory = self._keeper.directory / f"doors-{self._starts}"
        settings = [f'dir "{self._kept}"']  # where a restarted server finds what was saved
        if self._path:
            settings += [f'unixsocket "{self._path}"', "unixsocketperm 700"]
        self.tcp = f"redis://:{self._password}@127.0.0.1:{port}/0"
        self.pid = run_on_port(
            self._program, directory, port, settings, self._password, self._keeper
        )


def kill(pid: int) -> None:
    """Kill a server that a keeper has started, and return when it has ended.

    Raises:
        LabError: it has not ended in time.
    """
    os.kill(pid, signal.SIGKILL)
    if not comes_true(lambda: has_ended(pid), END_TIMEOUT, 0.002):
        raise LabError("a server that was killed has not ended.")
