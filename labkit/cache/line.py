"""A connection on which commands are sent at once, and their answers are read when they come.

Redis runs the commands of one connection in their order. So a command that is in the socket of a
server that is frozen will be run, whatever its sender does meanwhile.
"""

from __future__ import annotations

import selectors
import threading
from typing import Any

import redis

# Not epoll's: that takes a file descriptor, and there may be none left.
SELECTOR = getattr(selectors, "PollSelector", selectors.DefaultSelector)


class Line:
    """One open connection of a client that nobody else uses. Threads may share it.

    Args:
        connection: of `labkit.cache.client.open_connection`.
        time_out: how long `send` may wait for a thread that reads, in seconds.
    """

    def __init__(self, connection: Any, time_out: float) -> None:
        self._connection, self._time_out = connection, time_out
        self._lock = threading.Lock()  # OpenSSL must not read and write at the same time
        self._unanswered = 0
        self._is_broken = False  # half a command may be in it: what came after would be part of it

    @property
    def is_full(self) -> bool:
        """Whether the server has left so much unread that nothing more fits into the socket."""
        return bool(self._unanswered) and not self._polled(selectors.EVENT_WRITE, 0)

    @property
    def is_open(self) -> bool:
        """Whether a command could be sent. One that is being used now is taken for open."""
        if not self._lock.acquire(blocking=False):
            return True
        try:
            return self._can_send()
        except (redis.RedisError, OSError, ValueError):
            return False
        finally:
            self._lock.release()

    def _can_send(self) -> bool:
        if self._is_broken or self._connection._sock is None:  # can_read would connect anew
            return False
        # Else the server has closed it, or said what nobody has asked.
        return bool(self._unanswered) or not self._connection.can_read()

    def send(self, *command: Any) -> bool:
        """Put a command into the socket; return whether it is there. Do not wait for the answer.

        No health check is sent before it: that would wait for an answer.
        """
        packed = b"".join(self._connection.pack_command(*command))
        if not self._lock.acquire(timeout=self._time_out):
            return False
        try:
            if not self._can_send():
                return False
            self._is_broken = True
            self._connection._sock.sendall(packed)
            self._is_broken = False
            self._unanswered += 1
            return True
        except (redis.RedisError, OSError):  # closed, or full
            return False
        finally:
            self._lock.release()

    def read(self, time_out: float) -> Any:
        """Wait for the next answer, and return it.

        Args:
            time_out: the longest wait, in seconds.

        Raises:
            RedisError: none has come, or it is an error.
        """
        with self._lock:
            has_come = self._connection.can_read()
        if not has_come and not self._polled(selectors.EVENT_READ, time_out):
            raise redis.TimeoutError("Timeout reading from socket")
        with self._lock:
            self._unanswered -= 1
            return self._connection.read_response()

    def _polled(self, what: int, time_out: float) -> bool:
        sock = self._connection._sock
        if not hasattr(sock, "fileno"):  # closed; or fakeredis', which never keeps anybody waiting
            return True
        with SELECTOR() as selector:
            try:
                selector.register(sock, what)
            except (ValueError, OSError):  # another thread has closed it since
                return True
            return bool(selector.select(time_out))
